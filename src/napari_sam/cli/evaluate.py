"""The command `napari-sam evaluate`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from napari_sam.cli import models as cli_models
from napari_sam.cli import options as opts
from napari_sam.cli.console import console, one_line, progress_bar, say
from napari_sam.errors import ImageError, NapariSamError
from napari_sam.exchange.label_formats import write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart
from napari_sam.options import ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor
    from napari_sam.evaluation.datasets import LabelledImage

# The measurements that each of these options belongs to.
OPTIONS = {
    "max_clicks": ("clicks",),
    "objects_per_subset": ("clicks", "volumes"),
    "off_center_clicks": ("clicks",),
    "baselines": ("clicks",),
    "images_per_subset": ("everything", "find"),
    "examples_per_image": ("find",),
    "first": ("volumes",),
}


class FirstPrompt(StrEnum):
    """What prompts the first plane of an object."""

    box = "box"
    click = "click"


def evaluate(
    context: typer.Context,
    manifest: Annotated[Path, typer.Argument(help="JSON list of labelled images.")],
    json: Annotated[Path, typer.Option(help="JSON file for the table.")],
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    max_clicks: Annotated[int, typer.Option(min=1, max=1000, help="Clicks for each object.")] = 8,
    objects_per_subset: Annotated[
        int, typer.Option(min=1, max=10**6, help="Number of objects drawn from each subset.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="Seed for drawing the objects or images, and the off-center clicks.")] = 0,
    off_center_clicks: Annotated[
        int, typer.Option(min=0, max=1000, help="Clicks at random positions in each object, answered one by one.")
    ] = 1,
    split: Annotated[
        Path | None, typer.Option(help="JSON file with a list kept_out: measure only on these images of the manifest.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add flood filling and random walker from the same first click.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything", help="Measure all objects that the model finds without prompts, beside a watershed."
        ),
    ] = False,
    images_per_subset: Annotated[
        int,
        typer.Option(
            min=0, max=10**6, help="Number of images drawn from each subset for --everything and --find; 0 for all."
        ),
    ] = 0,
    find: Annotated[
        bool, typer.Option("--find", help="Measure objects that are found by one example, and after answers.")
    ] = False,
    examples_per_image: Annotated[
        int, typer.Option(min=1, max=10**6, help="Objects of each image that are the example in turn, for --find.")
    ] = 10,
    volumes: Annotated[
        bool,
        typer.Option("--volumes", help="Measure objects that are followed through volumes, beside two baselines."),
    ] = False,
    first: Annotated[
        FirstPrompt, typer.Option(help="What prompts an object in its largest plane for --volumes.")
    ] = FirstPrompt.box,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Measure a model on labelled images by simulated clicks and boxes, or by all objects that it finds.

    Clicks: IoU, boundary F, numbers of clicks, off-center clicks, calibration, seconds per click, and dense guesses.
    With --everything: mSA, F1, average precision, panoptic quality, and seconds per megapixel.
    With --find: F1 from one example after 0, 5, 10 and 20 answers, from one of another image, and without example.
    With --volumes: IoU of volumes after 1, 2, 3 and 5 corrected planes, and of planes, missed ends, and confidence.
    """
    kind = _checked_kind(context, {"everything": everything, "find": find, "volumes": volumes})
    check_output(json, (".json",), overwrite)
    cli_models.check_sources(None, model)
    from napari_sam.evaluation.datasets import MIN_AREA

    images = _checked_images(manifest, json, split, model)
    predictor = cli_models.load(ModelOptions(model, device, precision))
    if kind == "everything":
        table = _measure_everything(images, predictor, model, images_per_subset, seed)
    elif kind == "find":
        table = _measure_finding(images, predictor, model, images_per_subset, examples_per_image, seed)
    elif kind == "volumes":
        table = _measure_volumes(images, predictor, model, objects_per_subset, seed, first)
    else:
        clicks = {
            "max_clicks": max_clicks,
            "objects_per_subset": objects_per_subset,
            "seed": seed,
            "off_center_clicks": off_center_clicks,
        }
        table = _measure_clicks(images, predictor, model, clicks, baselines)
    if table is None:
        least = {
            "everything": "",
            "find": f" that has two others of {MIN_AREA} pixels or more beside it",
            "volumes": " in a volume, of 4 planes or more",
        }.get(kind, f" of {MIN_AREA} pixels or more")
        raise ImageError(f"The manifest {manifest} names no object{least}: add images to it.")
    write_json(json, table)
    if kind == "clicks":
        _show(table)
    else:
        view = {"everything": _everything_table, "find": _finding_table, "volumes": _volume_table}[kind]
        _print_whole(view(table))


def _checked_kind(context: typer.Context, asked: dict[str, bool]) -> str:
    """Return what to measure: "clicks", or the one that is asked for; refuse options that have no effect on it."""
    named = [name for name, is_asked in asked.items() if is_asked]
    if len(named) > 1:
        raise NapariSamError(f"--{named[0]} and --{named[1]} are two measurements: leave out one of them.")
    kind = named[0] if named else "clicks"
    for name, kinds in OPTIONS.items():
        source = context.get_parameter_source(name)
        # By its name: newer versions of typer bring a click of their own.
        if source is None or source.name != "COMMANDLINE" or kind in kinds:
            continue
        option = f"--{name.replace('_', '-')}"
        if kind == "clicks":
            raise NapariSamError(f"{option} needs --{kinds[0]}: add that, or leave it out.")
        raise NapariSamError(f"{option} has no effect with --{kind}: leave out one of them.")
    return kind


def _measure_clicks(
    images: list[LabelledImage], predictor: Predictor, model: str, clicks: dict[str, int], baselines: bool
) -> dict[str, Any] | None:
    """Return the table of simulated clicks; None where the images have no object to click on."""
    from napari_sam.evaluation.baselines import baselines as run_baselines
    from napari_sam.evaluation.metrics import Evaluation
    from napari_sam.evaluation.protocol import evaluate as run
    from napari_sam.segmenter import Segmenter

    objects_per_subset, seed = clicks["objects_per_subset"], clicks["seed"]
    total = objects_per_subset * len({image.subset for image in images})
    evaluation = Evaluation(model)
    classical: dict[str, Any] = {}
    with progress_bar("{task.description:28s}") as progress:
        task = progress.add_task("", total=total)
        steps = run(images, lambda path: Segmenter(path, model=predictor), model=model, **clicks)
        for subset, evaluation in steps:  # noqa: B007
            progress.update(task, description=subset, advance=1)
        progress.update(task, completed=total, description="done")
        if baselines:
            task = progress.add_task("flood and random walker", total=total)
            for classical in run_baselines(images, objects_per_subset=objects_per_subset, seed=seed):  # noqa: B007
                progress.update(task, advance=1)
            progress.update(task, completed=total)
    table = evaluation.table()
    if baselines:
        table["baselines"] = classical
    return table if table["subsets"] else None


def _measure_everything(
    images: list[LabelledImage], predictor: Predictor, model: str, images_per_subset: int, seed: int
) -> dict[str, Any] | None:
    """Return the table of all objects that are found; None where none is labelled."""
    from napari_sam.evaluation.datasets import drawn_images
    from napari_sam.evaluation.everything import EverythingEvaluation, evaluate_everything
    from napari_sam.segmenter import Segmenter

    drawn = drawn_images(images, images_per_subset, seed)
    evaluation = EverythingEvaluation(model)
    with progress_bar("{task.description:28s}") as progress:
        task = progress.add_task("", total=len(drawn))
        steps = evaluate_everything(drawn, lambda path: Segmenter(path, model=predictor), model=model)
        for subset, evaluation in steps:  # noqa: B007
            progress.update(task, description=subset, advance=1)
        progress.update(task, description="done")
    return evaluation.table() if evaluation.objects else None


def _measure_finding(
    images: list[LabelledImage], predictor: Predictor, model: str, images_per_subset: int, examples: int, seed: int
) -> dict[str, Any] | None:
    """Return the table of objects that are found by an example; None where no plane has enough of them."""
    from napari_sam.evaluation.datasets import drawn_images
    from napari_sam.evaluation.finding.metrics import FindingEvaluation
    from napari_sam.evaluation.finding.trial import evaluate_finding
    from napari_sam.segmenter import Segmenter

    drawn = drawn_images(images, images_per_subset, seed)
    evaluation = FindingEvaluation(model)
    with progress_bar("{task.description:28s}") as progress:
        task = progress.add_task("", total=len(drawn))
        steps = evaluate_finding(
            drawn, lambda path: Segmenter(path, model=predictor), model=model, examples_per_image=examples, seed=seed
        )
        for subset, evaluation in steps:  # noqa: B007
            progress.update(task, description=subset, advance=1)
        progress.update(task, completed=len(drawn), description="done")
    return evaluation.table() if evaluation.examples else None


def _measure_volumes(
    images: list[LabelledImage], predictor: Predictor, model: str, objects_per_subset: int, seed: int, first: str
) -> dict[str, Any] | None:
    """Return the table of objects that are followed through volumes; None where there is none."""
    from napari_sam.evaluation.volumes.metrics import VolumeEvaluation
    from napari_sam.evaluation.volumes.trial import evaluate_volumes
    from napari_sam.segmenter import Segmenter

    total = objects_per_subset * len({image.subset for image in images if image.kind == "volume"})
    evaluation = VolumeEvaluation(model)
    with progress_bar("{task.description:28s}") as progress:
        task = progress.add_task("", total=total)
        steps = evaluate_volumes(
            images,
            lambda path: Segmenter(path, model=predictor),
            model=model,
            objects_per_subset=objects_per_subset,
            seed=seed,
            first=first,
        )
        for subset, evaluation in steps:  # noqa: B007
            progress.update(task, description=subset, advance=1)
        progress.update(task, completed=total, description="done")
    return evaluation.table() if evaluation.objects else None


def _show(table: dict[str, Any]) -> None:
    for view in (_overlap_table(table), _further_table(table)):
        _print_whole(view)
    mean = table["mean"]
    if mean["iou_spearman"] is not None:
        say(f"Spearman correlation of predicted and true IoU over all clicks: {mean['iou_spearman']:.2f}")
    if mean["iou_bias"] is not None:
        say(
            f"Predicted minus true IoU: {mean['iou_bias']:+.3f} over all clicks, {mean['iou_bias_first']:+.3f} over "
            f"first clicks; calibration error {mean['iou_calibration_error']:.3f} and "
            f"{mean['iou_calibration_error_first']:.3f}"
        )


def _print_whole(view: Table) -> None:
    """Print a table: a narrow terminal may break the lines, but no name and no figure is cut."""
    view.width = Console(width=1000).measure(view).maximum
    console.print(view, crop=False)


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


def _overlap_table(table: dict[str, Any]) -> Table:
    """Return the table of IoUs and numbers of clicks."""
    clicks = len(table["mean"].get("miou", []))
    shown = sorted({1, 3, clicks} & set(range(1, clicks + 1)))
    classical = table.get("baselines")
    more = ["flood", "walker"] if classical else []
    columns = [f"{k} click{'s' * (k > 1)}" for k in shown]
    view = Table("subset", "n", *columns, "off-center", "best of 3", "box", "NoC80", "NoC85", "NoC90", *more)
    for name, row in _rows(table):
        scores = [row["miou"][k - 1] for k in shown]
        other = classical["subsets"].get(name, classical["mean"]) if classical else {}
        beside = [other[key] for key in ("flood_miou", "walker_miou") if other]
        noc = [f"{row[key]:.2f}" for key in ("noc80", "noc85", "noc90")]
        ious = [_decimals(value) for value in [*scores, row["off_center_miou"], row["best_of_3"], row["box_miou"]]]
        view.add_row(Text(one_line(name)), str(row["n"]), *ious, *noc, *map(_decimals, beside))
    return view


def _further_table(table: dict[str, Any]) -> Table:
    """Return the table of boundaries, durations and, if the model has them, dense guesses."""
    clicks = len(table["mean"]["boundary_f"])
    shown = sorted({1, clicks})
    boundaries = [f"boundary F, {k} click{'s' * (k > 1)}" for k in shown]
    figures = {
        "boundary F, box": "box_boundary_f",
        "s per first click": "seconds_first_click",
        "s per click": "seconds_click",
        "foreground IoU": "dense_foreground_iou",
        "border F": "dense_border_f",
        "center error, radii": "dense_center_error",
    }
    figures = {title: key for title, key in figures.items() if table["mean"][key] is not None}
    view = Table("subset", *boundaries, *figures)
    for name, row in _rows(table):
        values = [*(row["boundary_f"][k - 1] for k in shown), *(row[key] for key in figures.values())]
        view.add_row(Text(one_line(name)), *map(_decimals, values))
    return view


def _everything_table(table: dict[str, Any]) -> Table:
    """Return the table of all objects that were found."""
    titles = ("images", "objects", "mSA", "F1", "AP50", "PQ", "s per megapixel", "watershed mSA", "watershed F1")
    view = Table("subset", *titles)
    for name, row in _rows(table):
        figures = [row[key] for key in ("msa", "f1_50", "ap50", "pq", "seconds_per_megapixel")]
        figures += [row["watershed"][key] for key in ("msa", "f1_50")]
        view.add_row(Text(one_line(name)), str(row["images"]), str(row["objects"]), *map(_decimals, figures))
    return view


def _finding_table(table: dict[str, Any]) -> Table:
    """Return the table of objects that were found by an example."""
    answers = list(table["mean"]["f1_50"])
    beside = {
        "other image": "other_image_f1_50",
        "nearest color": "nearest_colour_f1_50",
        "everything": "everything_f1_50",
    }
    view = Table("subset", "images", "examples", *(f"F1, {count} answers" for count in answers), *beside)
    for name, row in _rows(table):
        figures = [*(row["f1_50"][count] for count in answers), *(row[key] for key in beside.values())]
        view.add_row(Text(one_line(name)), str(row["images"]), str(row["examples"]), *map(_decimals, figures))
    return view


def _volume_table(table: dict[str, Any]) -> Table:
    """Return the table of objects that were followed through volumes."""
    counts = list(table["mean"]["volume_iou"])
    titles = [f"{count} plane{'s' * (count != '1')}" for count in counts]
    more = ("boxes, 3", "interpolation, 3", "Dice gain", "plane IoU", "ends missed", "Spearman", "ms per plane")
    view = Table("subset", "n", *titles, *more)
    for name, row in _rows(table):
        figures = [row["volume_iou"][count] for count in counts]
        figures += [row[key]["volume_iou"]["3"] for key in ("box_baseline", "interpolation")]
        figures += [row[key] for key in ("dice_gain", "plane_iou_16", "end_planes_missed", "spearman")]
        timing = "" if row["ms_per_plane"] is None else f"{row['ms_per_plane']:.0f}"
        view.add_row(Text(one_line(name)), str(row["objects"]), *map(_decimals, figures), timing)
    return view


def _rows(table: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [*table["subsets"].items(), ("mean", table["mean"])]


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
