"""The command `napari-sam`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_sam import __version__, cli_encode, cli_find, cli_models, cli_prompts, cli_replay
from napari_sam.cli_encode import (
    DEFAULT_AXES,
    AxesOption,
    ChannelsOption,
    ContrastOption,
    ImageArgument,
    NodataOption,
    PrecisionOption,
    SpacingOption,
    image_options,
    parse_numbers,
)
from napari_sam.cli_replay import PYRAMID_SUFFIX, check_memory, write_image
from napari_sam.errors import ImageError, LabelsError, NapariSamError, OutputError, PromptError
from napari_sam.export import LABEL_SUFFIXES, as_label_dtype, write_json, write_labels
from napari_sam.files import check_output, replacing

if TYPE_CHECKING:
    from napari_sam.core.masks import Overlap
    from napari_sam.segmenter import Segmenter
    from napari_sam.stores.pyramid import LabelPyramid


app = typer.Typer(
    name="napari-sam",
    help="Segment Anything for images too large for memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
messages = Console(stderr=True)

ModelOption = Annotated[str, typer.Option("--model", help="A name from `napari-sam models`, or a checkpoint file.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]

# The middles of most coins of skimage.data.coins; one of the others is left for the live preview.
DEMO_POINTS = (
    *((43, 335), (51, 155), (53, 277), (54, 45), (56, 99), (119, 271), (124, 44), (124, 205), (125, 336), (125, 102)),
    *((127, 153), (186, 348), (193, 212), (192, 272), (196, 102), (198, 44), (260, 46), (261, 169), (264, 300)),
    *((265, 114), (268, 358)),
)


class OverlapChoice(StrEnum):
    """What happens where a mask meets other labels."""

    keep = "keep"
    overwrite = "overwrite"
    empty = "empty"


class CandidateChoice(StrEnum):
    """Which of the three candidates to write."""

    best = "best"
    small = "small"
    medium = "medium"
    large = "large"


app.command()(cli_encode.encode)
app.command()(cli_encode.cache)
app.command()(cli_replay.replay)
app.command()(cli_find.find)
app.command()(cli_models.models)
app.command()(cli_models.convert)


@app.command()
def segment(
    image: ImageArgument,
    out: Annotated[
        Path,
        typer.Option(help="Label image of the plane, .tif or .zarr; or of the whole image, .ome.zarr, of any size."),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="ROW,COL[,+|-]", help="A point on (+) or off (-) the object; all points are one object."),
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="R0,C0,R1,C1", help="A box, half-open; each box is one object.")
    ] = None,
    prompts_file: Annotated[
        Path | None,
        typer.Option(
            "--prompts", readable=False, help="Prompts of many objects, .csv or .geojson; each object is one label."
        ),
    ] = None,
    plane: Annotated[
        str | None, typer.Option(metavar="Z[,..]", help="Position along the leading axes of an nD image.")
    ] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    candidate: Annotated[CandidateChoice, typer.Option(help="Which of the three masks.")] = CandidateChoice.best,
    overlap: Annotated[
        OverlapChoice, typer.Option(help="Other labels keep their pixels, are overwritten, or forbid the mask.")
    ] = OverlapChoice.keep,
    json: Annotated[Path | None, typer.Option(help="Also write the objects with their boxes and scores.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Folder or URL of embeddings to use and fill.")] = None,
    channels: ChannelsOption = None,
    nodata: NodataOption = None,
    spacing: SpacingOption = None,
    contrast: ContrastOption = None,
    axes: AxesOption = DEFAULT_AXES,
    append: Annotated[bool, typer.Option("--append", help="Add to an .ome.zarr label image that exists.")] = False,
    journal: Annotated[
        bool, typer.Option("--journal", help="Keep the prompts of --prompts beside the labels, to go on from.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment objects of an image by points and boxes and write a label image."""
    prompts: list[dict[str, Any]] = []
    if point:
        parsed = [_parse_point(text) for text in point]
        prompts.append({"points": [at for at, _ in parsed], "labels": [sign for _, sign in parsed]})
    prompts += [{"box": parse_numbers(text, 4, "--box", "R0,C0,R1,C1")} for text in box or []]
    if prompts and prompts_file:
        raise PromptError(
            "Prompts come from a file or from the command line: leave out --prompts, or --point and --box."
        )
    if not prompts and not prompts_file:
        raise PromptError(
            "There is no prompt: give at least one --point ROW,COL or --box R0,C0,R1,C1, or a file by --prompts."
        )
    if prompts_file:
        cli_prompts.check_prompts(prompts_file)
    elif journal:
        raise PromptError("A journal keeps the prompts of a file: name it by --prompts.")
    where = (
        None if plane is None else [int(value) for value in parse_numbers(plane, None, "--plane", "Z[,..]", whole=True)]
    )
    options = image_options(channels, nodata, spacing, contrast, axes)
    from napari_sam.stores.pyramid import is_label_image

    in_pyramid = out.name.endswith(PYRAMID_SUFFIX)
    if append and not in_pyramid:
        raise PromptError(f"{out.name} cannot be added to: --append goes with labels that end in {PYRAMID_SUFFIX}.")
    if "://" not in image and out.resolve() == Path(image).resolve():
        raise OutputError(f"{out} is the image itself: choose another name for its labels.")
    if not (append and out.exists()):
        check_output(out, LABEL_SUFFIXES, overwrite)
    if in_pyramid and out.exists() and not is_label_image(out):
        raise OutputError(f"{out} holds no labels, and it is not replaced: choose another name.")
    if json:
        check_output(json, (".json",), overwrite)
    kept = cli_prompts.journal_for(out, plane, journal, append, overwrite)
    if kept and not prompts_file:
        raise PromptError(f"{kept.name} keeps all work on {out.name}: give the prompts as a file, by --prompts.")

    from napari_sam.encoding import default_store
    from napari_sam.segmenter import Segmenter, open_labels

    segmenter = Segmenter(image, model=cli_models.load(model, device, precision, image=image), store=store, **options)
    if store is None:
        segmenter.encoder.store = default_store(segmenter.predictor)
    run = partial(segment_objects, segmenter, prompts, where, candidate.value, overlap.value)
    if prompts_file:
        numbers = not (append and out.exists())
        options = {"keep_numbers": numbers, "journal": kept, "source": image}
        run = partial(
            cli_prompts.segment_file, segmenter, prompts_file, where, candidate.value, overlap.value, **options
        )
    if append and out.exists():
        objects = run(lambda: open_labels(out, segmenter.volume))
    elif in_pyramid:
        with replacing(out) as temporary:
            objects = run(lambda: open_labels(temporary, segmenter.volume, out.name.removesuffix(PYRAMID_SUFFIX)))
    else:
        objects = run()
        is_plane = not prompts_file or where is not None
        write_image(out, objects["label_image"], segmenter.volume, segmenter.plane(where) if is_plane else None)
    del objects["label_image"]
    if json:
        write_json(json, {"image": str(image), "model": model, **objects})
    console.print(f"{len(objects['objects'])} object(s) written to {out}", highlight=False, soft_wrap=True)
    if objects.get("failed"):
        raise typer.Exit(1)


def segment_objects(
    segmenter: Segmenter,
    prompts: list[dict[str, Any]],
    plane: list[int] | None,
    candidate: str,
    overlap: Overlap = "keep",
    opened: Callable[[], LabelPyramid] | None = None,
) -> dict[str, Any]:
    """Segment one object for each set of prompts into a label image of the plane, or into labels on disk.

    All objects are segmented before the first is written; `opened` opens the labels on disk then.

    Returns
    -------
    dict
        `label_image` (rows, cols) or None, `plane` (list of int) and `objects`, each with label, prompts, box, area,
        iou_prediction and stability_score.

    Raises
    ------
    LabelsError
        The plane is too large for an image in memory.
    PromptError
        None of the prompts gave a mask.
    """
    import numpy as np

    from napari_sam.core.geometry import Plane
    from napari_sam.stores.labels import LabelStore

    where = segmenter.plane(plane)
    shape = where.shape_in(segmenter.shape)
    if opened is None:
        check_memory(shape)
    masks = [segmenter.segment(**prompt, plane=where).named(candidate) for prompt in prompts]  # type: ignore[arg-type]
    store = LabelStore(np.zeros(shape, np.uint32) if opened is None else opened())
    objects = []
    for prompt, mask in zip(prompts, masks, strict=True):
        try:
            edit = store.write(Plane.of(shape) if opened is None else where, mask, None, overlap)
        except LabelsError as error:
            messages.print(f"Left out {prompt}: {error}", highlight=False, soft_wrap=True)
            continue
        objects.append(
            {
                "label": edit.label,
                "prompts": prompt,
                "box": [int(edge) for edge in edit.written_box.as_tuple()],
                "area": edit.area,
                "iou_prediction": round(mask.iou_prediction, 4),
                "stability_score": round(mask.stability_score, 4),
            }
        )
    if not objects:
        raise PromptError("No prompt gave a mask that could be written: move them, or choose another --overlap.")
    index = [position for axis, position in enumerate(where.index) if axis not in where.axes]
    labels = as_label_dtype(np.asarray(store.array)) if opened is None else None
    return {"label_image": labels, "plane": index, "objects": objects}


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Argument(help="JSON list of labelled images.")],
    json: Annotated[Path, typer.Option(help="Where to write the table.")],
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    max_clicks: Annotated[int, typer.Option(min=1, help="Points for each object.")] = 8,
    objects_per_subset: Annotated[int, typer.Option(min=1, help="How many objects to draw from each subset.")] = 12,
    seed: Annotated[int, typer.Option(help="Fixes which objects are drawn.")] = 0,
    split: Annotated[
        Path | None, typer.Option(help="JSON with a list kept_out: measure on those images of the manifest only.")
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--baselines", help="Add flood filling and random walker from the same first click.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure a model on labelled images by simulated clicks and boxes."""
    check_output(json, (".json",), overwrite)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from napari_sam.baselines import baselines as run_baselines
    from napari_sam.evaluation import MIN_AREA, Evaluation, divide, read_manifest, read_split
    from napari_sam.evaluation import evaluate as run
    from napari_sam.segmenter import Segmenter

    images = read_manifest(manifest)
    if split:
        _, images = divide(images, read_split(split), manifest.parent)
        if not images:
            raise ImageError(f"The split {split} keeps out no image of {manifest}: its paths must be the manifest's.")
    predictor = cli_models.load(model, device, precision)
    total = objects_per_subset * len({image.subset for image in images})
    evaluation = Evaluation(model)
    classical: dict[str, Any] = {}
    columns = (TextColumn("{task.description:28s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages) as progress:
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
    view = _evaluation_table(table)
    # A narrow terminal may break the lines, but no figure is cut.
    console.print(view, width=max(console.width, Console(width=1000).measure(view).maximum), crop=False)
    correlation = table["mean"]["iou_spearman"]
    if correlation is not None:
        console.print(f"Spearman correlation of predicted and true IoU over all clicks: {correlation:.2f}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A TOML file; see configs/compact.toml.")],
) -> None:
    """Train the compact model, or fine-tune any model, by simulated prompts; goes on where a run was stopped."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from napari_sam.training.train import read_config
    from napari_sam.training.train import train as run

    options = read_config(config)
    columns = (TextColumn("{task.description:40s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages) as progress:
        task = progress.add_task("reading the images", total=options.steps)

        def report(step: int, figures: dict[str, Any]) -> None:
            shown = [f"{name} {figures[name]:.3f}" for name in ("loss", "iou_first", "iou_last") if name in figures]
            progress.update(task, completed=step, description=", ".join(shown))

        weights = run(options, report)
    console.print(f"weights written to {weights}", highlight=False, soft_wrap=True)


@app.command()
def info() -> None:
    """Show versions, devices and the cache."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from napari_sam.models.device import available_devices
    from napari_sam.stores.embeddings import DEFAULT_CAPACITY
    from napari_sam.stores.locations import cache_folder

    table = Table("", "", show_header=False)
    table.add_row("napari-sam", __version__)
    table.add_row("python", platform.python_version())
    for package in ("torch", "numpy", "zarr", "scikit-image", "tifffile", "napari", "PySide6", "PyQt6"):
        try:
            table.add_row(package, version(package))
        except PackageNotFoundError:
            table.add_row(package, "not installed")
    table.add_row("devices", ", ".join(available_devices()))
    table.add_row("embeddings in memory", f"up to {DEFAULT_CAPACITY // 2**20} MiB")
    table.add_row("cache folder", str(cache_folder()))
    console.print(table)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    device: DeviceOption = "auto",
    show: Annotated[bool, typer.Option(help="Show the result in napari, or take a picture of that.")] = True,
) -> None:
    """Segment a real image with the embedded model and show it in napari; without a screen, write a picture of that."""
    check_output(out / "labels.tif", LABEL_SUFFIXES, overwrite=True)
    from skimage.data import coins

    from napari_sam.segmenter import Segmenter

    prompts = [{"points": [list(point)], "labels": [1]} for point in DEMO_POINTS]
    result = segment_objects(Segmenter(coins(), device=device), prompts, None, "best")
    write_labels(out / "labels.tif", result.pop("label_image"))
    write_json(out / "objects.json", {"image": "skimage.data.coins", "model": "compact", **result})
    console.print(f"{len(result['objects'])} objects written to {out}", highlight=False)
    if show:
        _show_demo(out)


def _show_demo(out: Path) -> None:
    """Open napari where there is a screen; else take a picture of it on a virtual one."""
    from importlib.util import find_spec

    if find_spec("napari") is None:
        messages.print(
            "napari is not installed, so there is no picture: pip install 'napari-sam[gui]'.", highlight=False
        )
        return
    command = [sys.executable, "-m", "napari_sam.plugin.show_demo", str(out)]
    has_screen = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not has_screen:
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            messages.print(
                "There is no screen and no xvfb-run, so there is no picture: apt-get install xvfb xauth.",
                highlight=False,
            )
            return
        command = [xvfb, "-a", "-s", "-screen 0 1920x1080x24", *command, "--screenshot"]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603
        raise typer.Exit(1)


def _parse_point(text: str) -> tuple[list[float], int]:
    """Read ROW,COL, ROW,COL,+ or ROW,COL,-; return the point and its label."""
    numbers, sign = text, "+"
    head, _, tail = text.rpartition(",")
    if tail.strip() in ("+", "-"):
        numbers, sign = head, tail.strip()
    return parse_numbers(numbers, 2, "--point", "ROW,COL, ROW,COL,+ or ROW,COL,-"), int(sign == "+")


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
        view.add_row(name, str(row["n"]), *scores, f"{row['best_of_3']:.3f}", f"{row['box_miou']:.3f}", *noc, *beside)
    return view


def main() -> None:
    """Run the command; what the user can mend is told in one sentence, without a traceback."""
    try:
        app()
    except NapariSamError as error:
        messages.print(f"Error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
