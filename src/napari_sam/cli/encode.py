"""The commands around embeddings: `napari-sam encode` and `napari-sam cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.console import progress_bar, say, show_table, warn
from napari_sam.cli.models import check_sources, model_file
from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import AXIS_OF
from napari_sam.files.paths import check_apart

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.segmenter import Segmenter

ImageArgument = Annotated[str, typer.Argument(help="An image file, an OME-Zarr folder, or a URL.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="auto, float32, bfloat16, or tf32 (NVIDIA GPUs): how exactly to compute.")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of the embeddings. Default: the cache folder.")
]
ChannelsOption = Annotated[str | None, typer.Option("--channels", metavar="C[,..]", help="Which channels count.")]
NodataOption = Annotated[float | None, typer.Option("--nodata", help="The value of pixels that hold nothing.")]
SpacingOption = Annotated[
    str | None, typer.Option("--spacing", metavar="Z,Y,X", help="Size of a pixel along each axis.")
]
ContrastOption = Annotated[
    str | None,
    typer.Option("--contrast", metavar="LOW,HIGH", help="Data values that are black and white; else percentiles."),
]
AxesOption = Annotated[
    str,
    typer.Option(
        "--axes",
        metavar="ROW,COL",
        help="Axes of the planes by number, -3,-1 for zx; by default y and x, or the last two.",
    ),
]
DEFAULT_AXES = "y,x"
PLANE_HELP = "Plane of an nD image: its position along the other axes in their order, or by name as in z=3,t=1."
DEFAULT_LEVEL = "0"
MAX_NUMBER = 2**31


def parse_numbers(text: str, count: int | None, option: str, form: str, whole: bool = False) -> list[float]:
    """Read numbers that commas divide.

    Raises
    ------
    PromptError
        They are none, or not `count`.
    """
    try:
        numbers = [int(part) if whole else float(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        numbers = []
    if not numbers or (count is not None and len(numbers) != count):
        example = {2: "120,45", 4: "100,30,160,90"}.get(count or 0, "12")
        raise PromptError(f"{option} {text!r} is not understood: write {form}, for example {option} {example}.")
    return numbers


def parse_plane(text: str) -> list[int] | dict[str, int]:
    """Read the plane of an option: positions in the order of the image's axes, or by their names, z=3,t=1.

    Raises
    ------
    PromptError
        It is neither.
    """
    if "=" not in text:
        return [int(value) for value in parse_numbers(text, None, "--plane", "Z[,..]", whole=True)]
    pairs = [part.partition("=") for part in text.split(",")]
    found = {name.strip().lower(): at.strip() for name, _, at in pairs}
    is_whole = all(at.isascii() and at.isdigit() and len(at) < 19 for at in found.values())
    if not is_whole or len(found) < len(pairs) or any(name not in AXIS_OF for name in found):
        raise PromptError(f"--plane {text!r} is not understood: write it like z=3,t=1, counted from 0.")
    return {name: int(at) for name, at in found.items()}


def plane_position(segmenter: Segmenter, given: list[int] | dict[str, int] | None) -> list[int] | None:
    """Return the position of a plane in the order of the image's axes.

    Raises
    ------
    PromptError
        The image lacks a named axis, or an axis of several planes is not named.
    """
    if not isinstance(given, dict):
        return given
    from napari_sam.tasks.replay import named_plane

    try:
        plane = named_plane(segmenter, given)
    except PromptError as error:
        raise PromptError(f"--plane is not understood: {error}.") from error
    return [position for axis, position in enumerate(plane.index) if axis not in plane.axes]


def image_options(
    channels: str | None, nodata: float | None, spacing: str | None, contrast: str | None, axes: str
) -> dict[str, Any]:
    """Return the arguments of a Segmenter that say how an image is to be read.

    Raises
    ------
    PromptError
        One of them is not understood.
    """
    whole = None if channels is None else parse_numbers(channels, None, "--channels", "C[,..]", whole=True)
    return {
        "channels": None if whole is None else [int(channel) for channel in whole],
        "nodata": nodata,
        "spacing": None if spacing is None else parse_numbers(spacing, None, "--spacing", "Z,Y,X"),
        "contrast_limits": None if contrast is None else parse_numbers(contrast, 2, "--contrast", "LOW,HIGH"),
        "axes": None
        if axes == DEFAULT_AXES
        else [int(n) for n in parse_numbers(axes, 2, "--axes", "ROW,COL", whole=True)],
    }


def encode(
    image: ImageArgument,
    store: StoreOption = None,
    plane: Annotated[
        str | None,
        typer.Option(
            metavar="A[:B]", help="A plane, planes A to B - 1, or one by name as in z=3,t=1; all when left out."
        ),
    ] = None,
    level: Annotated[
        str, typer.Option(metavar="L[:M]", help="Zoom steps, pixels averaged over 2**L: one, or L to M - 1.")
    ] = DEFAULT_LEVEL,
    box: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Only what lies there, in pixels of the image.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="A name, or a checkpoint file.")] = "compact",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: PrecisionOption = "auto",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the model first: minutes, which many tiles on a GPU pay back.")
    ] = False,
    channels: ChannelsOption = None,
    nodata: NodataOption = None,
    spacing: SpacingOption = None,
    contrast: ContrastOption = None,
    axes: AxesOption = DEFAULT_AXES,
) -> None:
    """Encode the tiles of an image ahead of time; run it again to go on where it was stopped."""
    options = image_options(channels, nodata, spacing, contrast, axes)
    wanted = _parse_range(level, "--level")
    where = None if box is None else parse_numbers(box, 4, "--box", "R0,C0,R1,C1")
    chosen = None if plane is None else parse_plane(plane) if "=" in plane else _parse_range(plane, "--plane")
    from napari_sam.cli.models import load
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.segmenter import Segmenter

    check_sources(image, model)
    check_apart({"image": image, "model": model_file(model)}, {"--store": store})
    kept = EmbeddingStore(store) if store else EmbeddingStore.default()
    segmenter = Segmenter(image, model=load(model, device, precision, compiled, image), store=kept, **options)
    _run(segmenter, _chosen(segmenter, chosen), _levels_there(segmenter, wanted, level), where)
    kept.tidy()


def tidy_store(segmenter: Segmenter) -> None:
    """Delete what runs that were killed left in the store of a command's embeddings."""
    if segmenter.encoder.store is not None:
        segmenter.encoder.store.tidy()


def _levels_there(segmenter: Segmenter, wanted: range, given: str) -> range:
    """Return the levels of a range that exist; the nearest one where none was asked for by number."""
    grid = segmenter.encoder.grid(segmenter.planes()[0])
    there = range(max(wanted.start, grid.min_level), min(wanted.stop, grid.max_level + 1))
    if len(there) == len(wanted):
        return wanted
    if given == DEFAULT_LEVEL:
        nearest = grid.clamp(0)
        warn(f"Level 0 does not exist for this image and model: level {nearest} is taken.")
        return range(nearest, nearest + 1)
    if not there:
        return wanted[:1]  # Refused with the levels that there are.
    only = f"level {there.start} exists" if len(there) == 1 else f"levels {there.start} to {there.stop - 1} exist"
    warn(f"Only {only} for this image and model, and no other level is encoded.")
    return there


def _chosen(segmenter: Segmenter, given: range | list[int] | dict[str, int] | None) -> list[Plane]:
    """Return the planes of a range, the plane at a named position, or all planes."""
    planes = segmenter.planes()
    if given is None:
        return planes
    if isinstance(given, range):
        if given.start < 0 or given.stop > len(planes):
            raise PromptError(f"There are {len(planes)} planes, counted from 0: name some of them with --plane.")
        return planes[given.start : given.stop]
    return [segmenter.plane(plane_position(segmenter, given))]


def _run(segmenter: Segmenter, planes: list[Plane], levels: range, where: list[float] | None) -> None:
    from rich.progress import TextColumn

    _ = segmenter.encoder.rendering  # What is wrong with the contrast is told before a bar is drawn.
    now = None
    with progress_bar("{task.description}", TextColumn("{task.fields[rate]}")) as progress:
        task = progress.add_task("tiles", total=None, rate="")
        for now in segmenter.encode(planes=planes, levels=list(levels), box=where):
            speed = progress.tasks[0].speed
            rate = "" if not speed else f"{speed:.1f} tiles/s"
            progress.update(task, completed=now.done, total=now.total, rate=rate)
    if now is not None:
        say(f"{now.encoded} of {now.total} tiles encoded; {now.known} were there, {now.empty} are empty.")


def _parse_range(text: str, option: str) -> range:
    parts = text.split(":")
    try:
        bounds = [int(part) for part in parts]
    except ValueError:
        bounds = []
    is_range = len(bounds) == 1 or (len(bounds) == 2 and bounds[0] < bounds[1])
    if not is_range or any(abs(bound) > MAX_NUMBER for bound in bounds):
        raise PromptError(f"{option} {text!r} is not understood: write one number, or A:B with A < B.")
    return range(bounds[0], bounds[-1] if len(bounds) == 2 else bounds[0] + 1)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete the embeddings that are kept there.")] = False,
    store: Annotated[str | None, typer.Option("--store", help="Another folder than the cache folder.")] = None,
) -> None:
    """Show where embeddings are kept and how many, or clear them."""
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.files.folders import cache_capacity

    kept = EmbeddingStore(store) if store else EmbeddingStore.default()
    if clear:
        nbytes = kept.nbytes
        kept.clear()
        say(f"{_size(nbytes)} of embeddings deleted from {kept.path}")
        return
    models = kept.by_predictor()
    count = sum(number for number, _ in models.values())
    limit = "" if store else f" of {_size(cache_capacity())} (NAPARI_SAM_CACHE_SIZE)"
    size = _size(sum(nbytes for _, nbytes in models.values())) + limit
    rows = [("folder", str(kept.path)), ("embeddings", str(count)), ("size", size)]
    rows += [(f"model {name}", f"{number} embeddings, {_size(nbytes)}") for name, (number, nbytes) in models.items()]
    show_table(rows)


def _size(nbytes: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":
            break
        nbytes /= 1000
    return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
