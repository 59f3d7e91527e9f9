"""The command `napari-sam evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_sam.cli import models as cli_models
from napari_sam.cli import options as opts
from napari_sam.cli.console import console, one_line, progress_bar, say
from napari_sam.errors import ImageError
from napari_sam.exchange.label_formats import write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart
from napari_sam.options import ModelOptions

if TYPE_CHECKING:
    from napari_sam.evaluation.datasets import LabelledImage


def evaluate(
    manifest: Annotated[Path, typer.Argument(help="JSON list of labelled images.")],
    json: Annotated[Path, typer.Option(help="JSON file for the table.")],
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    max_clicks: Annotated[int, typer.Option(min=1, max=1000, help="Clicks for each object.")] = 8,
    objects_per_subset: Annotated[
        int, typer.Option(min=1, max=10**6, help="Number of objects drawn from each subset.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="Seed for drawing the objects.")] = 0,
    split: Annotated[
        Path | None, typer.Option(help="JSON file with a list kept_out: measure only on these images of the manifest.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add flood filling and random walker from the same first click.")
    ] = False,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Measure a model on labelled images by simulated clicks and boxes."""
    check_output(json, (".json",), overwrite)
    cli_models.check_sources(None, model)
    from napari_sam.evaluation.baselines import baselines as run_baselines
    from napari_sam.evaluation.datasets import MIN_AREA
    from napari_sam.evaluation.metrics import Evaluation
    from napari_sam.evaluation.protocol import evaluate as run
    from napari_sam.segmenter import Segmenter

    images = _checked_images(manifest, json, split, model)
    predictor = cli_models.load(ModelOptions(model, device, precision))
    total = objects_per_subset * len({image.subset for image in images})
    evaluation = Evaluation(model)
    classical: dict[str, Any] = {}
    with progress_bar("{task.description:28s}") as progress:
        task = progress.add_task("", total=total)
        for subset, evaluation in run(  # noqa: B007
            images,
            lambda path: Segmenter(path, model=predictor),
            model=model,
            max_clicks=max_clicks,
            objects_per_subset=objects_per_subset,
            seed=seed,
        ):
            progress.update(task, description=subset, advance=1)
        progress.update(task, completed=total, description="done")
        if baselines:
            task = progress.add_task("flood and random walker", total=total)
            for classical in run_baselines(images, objects_per_subset=objects_per_subset, seed=seed):  # noqa: B007
                progress.update(task, advance=1)
            progress.update(task, completed=total)
    table = evaluation.table()
    if not table["subsets"]:
        raise ImageError(f"The manifest {manifest} names no object of {MIN_AREA} pixels or more: add images to it.")
    if baselines:
        table["baselines"] = classical
    write_json(json, table)
    _show(table)


def _show(table: dict[str, Any]) -> None:
    view = _evaluation_table(table)
    # A narrow terminal may break the lines, but no figure is cut.
    console.print(view, width=max(console.width, Console(width=1000).measure(view).maximum), crop=False)
    correlation = table["mean"]["iou_spearman"]
    if correlation is not None:
        say(f"Spearman correlation of predicted and true IoU over all clicks: {correlation:.2f}")


def _checked_images(manifest: Path, json: Path, split: Path | None, model: str) -> list[LabelledImage]:
    """Return the images to measure on, none of which the table would replace.

    Raises
    ------
    ImageError
        The manifest or the split cannot be read, or the split holds out none of its images.
    OutputError
        The table would replace an input.
    """
    from napari_sam.evaluation.datasets import read_manifest, read_split, split_images

    images = read_manifest(manifest)
    inputs = {"manifest": manifest, "split": split, "model": cli_models.model_file(model)}
    for number, entry in enumerate(images, 1):
        inputs |= {f"image {number} of the manifest": entry.image, f"mask {number} of the manifest": entry.mask}
    check_apart(inputs, {"--json": json})
    if split:
        _, images = split_images(images, read_split(split), manifest.parent)
        if not images:
            raise ImageError(f"The split {split} holds out no image of {manifest}: its paths must be the manifest's.")
    return images


def _evaluation_table(table: dict[str, Any]) -> Table:
    clicks = len(table["mean"].get("miou", []))
    shown = sorted({1, 3, clicks} & set(range(1, clicks + 1)))
    classical = table.get("baselines")
    more = ["flood", "walker"] if classical else []
    columns = [f"{k} click{'s' * (k > 1)}" for k in shown]
    view = Table("subset", "n", *columns, "best of 3", "box", "NoC80", "NoC90", *more)
    for name, row in [*table["subsets"].items(), ("mean", table["mean"])]:
        scores = [f"{row['miou'][k - 1]:.3f}" for k in shown]
        other = classical["subsets"].get(name, classical["mean"]) if classical else {}
        beside = [f"{other[key]:.3f}" for key in ("flood_miou", "walker_miou") if other]
        noc = [f"{row['noc80']:.2f}", f"{row['noc90']:.2f}"]
        others = [f"{row['best_of_3']:.3f}", f"{row['box_miou']:.3f}", *noc, *beside]
        view.add_row(Text(one_line(name)), str(row["n"]), *scores, *others)
    return view
