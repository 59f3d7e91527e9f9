"""The command `napari-sam train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.console import progress_bar, say
from napari_sam.files.paths import check_apart

if TYPE_CHECKING:
    from napari_sam.training.train import TrainOptions


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
