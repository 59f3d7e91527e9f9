"""Options that several commands share, and parsers of their values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import AXIS_OF
from napari_sam.options import ImageOptions

if TYPE_CHECKING:
    from napari_sam.labeled_image import LabeledImage

ImageArgument = Annotated[str, typer.Argument(help="An image file, an OME-Zarr folder, or a URL.")]
IMAGES_HELP = "Image files, OME-Zarr folders, URLs, FILE:/NAME, folders or patterns."
ImagesArgument = Annotated[list[str], typer.Argument(metavar="IMAGE...", help=IMAGES_HELP)]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Leave out images whose output exists.")]
ModelOption = Annotated[str, typer.Option("--model", help="A name from `napari-sam models`, or a checkpoint file.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="Numerical precision: auto, float32, bfloat16, or tf32 (NVIDIA GPUs).")
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Folder or URL of a store of embeddings to read and fill.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="A dask.distributed cluster that does the work: tcp://HOST:PORT, or the scheduler's .json file.",
    ),
]
ChannelsOption = Annotated[
    str | None, typer.Option("--channels", metavar="C[,..]", help="Channels that the model sees, at most three.")
]
NodataOption = Annotated[float | None, typer.Option("--nodata", help="Value of pixels without data.")]
SpacingOption = Annotated[
    str | None, typer.Option("--spacing", metavar="Z,Y,X", help="Size of a pixel along each axis.")
]
ContrastOption = Annotated[
    str | None,
    typer.Option(
        "--contrast", metavar="LOW,HIGH", help="Data values shown as black and white; percentiles by default."
    ),
]
AxesOption = Annotated[
    str,
    typer.Option(
        "--axes",
        metavar="ROW,COL",
        help="Axes of the planes by number, -3,-1 for zx; by default y and x, or the last two.",
    ),
]
PlaneOption = Annotated[
    str | None,
    typer.Option(
        metavar="Z[,..]",
        help="Plane of an nD image: its position along the other axes in their order, or by name as in z=3,t=1.",
    ),
]
JsonOption = Annotated[Path | None, typer.Option(help="Also write the objects with their boxes and scores.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]
DEFAULT_AXES = "y,x"


def parse_numbers(text: str, count: int | None, option: str, form: str, whole: bool = False) -> list[float]:
    """Parse numbers that are separated by commas.

    Raises
    ------
    PromptError
        The text holds no numbers, or not `count` of them.
    """
    try:
        numbers = [int(part) if whole else float(part) for part in text.split(",")]
    except (ValueError, OverflowError):
        numbers = []
    if not numbers or (count is not None and len(numbers) != count):
        example = {2: "120,45", 4: "100,30,160,90"}.get(count or 0, "12")
        raise PromptError(f"{option} {text!r} is not understood: write {form}, for example {option} {example}.")
    return numbers


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Parse a box, R0,C0,R1,C1.

    Raises
    ------
    PromptError
        The text is not four numbers.
    """
    top, left, bottom, right = parse_numbers(text, 4, "--box", "R0,C0,R1,C1")
    return top, left, bottom, right


def parse_plane(text: str) -> list[int] | dict[str, int]:
    """Parse a plane: positions in the order of the image's axes, or by the names of the axes, as in z=3,t=1.

    Raises
    ------
    PromptError
        The text has neither form.
    """
    if "=" not in text:
        return [int(value) for value in parse_numbers(text, None, "--plane", "Z[,..]", whole=True)]
    pairs = [part.partition("=") for part in text.split(",")]
    found = {name.strip().lower(): at.strip() for name, _, at in pairs}
    is_whole = all(at.isascii() and at.isdigit() and len(at) < 19 for at in found.values())
    if not is_whole or len(found) < len(pairs) or any(name not in AXIS_OF for name in found):
        raise PromptError(f"--plane {text!r} is not understood: write it like z=3,t=1, counted from 0.")
    return {name: int(at) for name, at in found.items()}


def plane_position(segmenter: LabeledImage, given: list[int] | dict[str, int] | None) -> list[int] | None:
    """Return the position of a plane in the order of the image's axes.

    Raises
    ------
    PromptError
        The image lacks a named axis, or an axis of several planes is not named.
    """
    if not isinstance(given, dict):
        return given
    from napari_sam.tasks.batch import named_plane

    try:
        return list(named_plane(segmenter, given).position)
    except PromptError as error:
        raise PromptError(f"--plane is not understood: {error}.") from error


def image_options(
    channels: str | None, nodata: float | None, spacing: str | None, contrast: str | None, axes: str
) -> ImageOptions:
    """Parse the options for reading an image.

    Raises
    ------
    PromptError
        One of them cannot be parsed.
    """
    whole = None if channels is None else parse_numbers(channels, None, "--channels", "C[,..]", whole=True)
    rows = None if axes == DEFAULT_AXES else parse_numbers(axes, 2, "--axes", "ROW,COL", whole=True)
    return ImageOptions(
        channels=None if whole is None else [int(channel) for channel in whole],
        nodata=nodata,
        spacing=None if spacing is None else parse_numbers(spacing, None, "--spacing", "Z,Y,X"),
        contrast_limits=None if contrast is None else parse_numbers(contrast, 2, "--contrast", "LOW,HIGH"),
        axes=None if rows is None else [int(axis) for axis in rows],
    )
