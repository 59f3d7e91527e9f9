"""The commands that train: `napari-sam teach` from accepted objects, and `napari-sam train` from label images."""

from __future__ import annotations

import json as jsonlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.console import console, finish_listing, messages, progress_bar, say, warn
from napari_sam.cli.options import DeviceOption, parse_numbers
from napari_sam.files.paths import check_apart

if TYPE_CHECKING:
    from napari_sam.training.train import TrainOptions


def teach(
    journals: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="JOURNAL...",
            help="Journals, the labels beside them, or images that have one. Without any, the lesson of this name that "
            "was stopped goes on.",
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the new model; use it as --model NAME.")] = "mine",
    model: Annotated[
        str, typer.Option("--model", help="The model to begin from: compact, mobile_sam, vit_b, or a checkpoint.")
    ] = "compact",
    minutes: Annotated[float, typer.Option("--minutes", help="How long it may take.")] = 4.0,
    complete: Annotated[
        bool, typer.Option("--complete", help="Every object was accepted where any was: the rest is background.")
    ] = False,
    complete_area: Annotated[
        list[str] | None,
        typer.Option(
            "--complete-area",
            metavar="R0,C0,R1,C1",
            help="The same of a part of each plane, in pixels; may be repeated. Regions that were marked in the window "
            "count anyway.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: Annotated[int | None, typer.Option("--threads", help="Number of processor threads.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Fixes which objects are held back.")] = 0,
    trust_labels: Annotated[
        bool, typer.Option("--trust-labels", help="Learn also from objects that seem to be shifted.")
    ] = False,
    learns: Annotated[
        str,
        typer.Option("--train", help="What learns of a SAM: decoder, or adapters of the image encoder besides."),
    ] = "decoder",
    rank: Annotated[int, typer.Option("--rank", help="Width of the adapters.")] = 4,
    json: Annotated[bool, typer.Option("--json", help="Write the figures as JSON.")] = False,
) -> None:
    """Teach a model the objects that were accepted in images; it is kept only if it became better."""
    from napari_sam.training.teaching.teach import teach as run

    with progress_bar("{task.description:44s}") as progress:
        task = progress.add_task("reading the objects", total=None)

        def show(now: dict[str, Any]) -> None:
            progress.update(task, completed=now.get("step", 0), total=now.get("steps") or None, description=_said(now))

        result = run(
            journals or None,
            name,
            model=model,
            minutes=minutes,
            is_complete=complete,
            complete=[parse_numbers(text, 4, "--complete-area", "R0,C0,R1,C1") for text in complete_area or ()],
            device=device,
            threads=threads,
            seed=seed,
            trust_labels=trust_labels,
            train=learns,
            rank=rank,
            report=show if messages.is_terminal else None,
        )
    if json:
        console.print(jsonlib.dumps(asdict(result), indent=2), soft_wrap=True)
        finish_listing()
        return
    count = f"{result.objects} objects, {result.corrected} corrected"
    say(f"{result.text} Learned from {count}, in {result.steps} steps and {result.seconds / 60:.1f} minutes.")
    if result.is_better:
        say(f"Use it as --model {name}, or choose it in the widget.")
    else:
        warn("The models that there were are unchanged.")


def _said(now: dict[str, Any]) -> str:
    """Return how far a lesson is, in a few words."""
    curve = now.get("curve") or []
    clicks = " -> ".join(f"{figures['click_1']:.2f}" for _, figures in curve)
    return f"{now.get('phase', 'reading')}{f', first click {clicks}' if clicks else ''}"


def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/compact.toml.")],
) -> None:
    """Train the compact model, or fine-tune any model, by simulated prompts; resumes a run that was stopped."""
    from napari_sam.training.train import read_config
    from napari_sam.training.train import train as run

    options = read_config(config)
    _check_files(config, options)
    with progress_bar("{task.description:40s}") as progress:
        task = progress.add_task("reading the images", total=options.steps)

        def report(step: int, figures: dict[str, Any]) -> None:
            shown = [f"{name} {figures[name]:.3f}" for name in ("loss", "iou_first", "iou_last") if name in figures]
            progress.update(task, completed=step, description=", ".join(shown))

        weights = run(options, report)
    say(f"weights written to {weights}")


def _check_files(config: Path, options: TrainOptions) -> None:
    """Refuse a folder of results where the results would replace an input of the training."""
    from napari_sam.training.checkpoint import CURVE_FILE, PICTURE_FILE, STATE_FILE, WEIGHTS_FILE

    inputs = {"configuration": config, "manifest": options.manifest, "split": options.split, "init": options.init}
    for number, (image, labels) in enumerate(options.pairs, 1):
        inputs |= {f"image of pair {number}": image, f"labels of pair {number}": labels}
    names = (CURVE_FILE, PICTURE_FILE, STATE_FILE, WEIGHTS_FILE)
    check_apart(inputs, {f"the {name} of out": options.out / name for name in names})
