"""Open label images of any kind with their journal, to export them; and the function that does both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.arguments import path_argument
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exports.exporting import Exported, check_export, check_inputs, export, source_of
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource, Place
from napari_sam.files.paths import check_input, exists
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.lazy.whole_numbers import as_whole_numbers
from napari_sam.images.opening import open_image
from napari_sam.images.source import ImageSource, step_along
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import journal_beside
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.labels.regions import check_whole, checked_labels

if TYPE_CHECKING:
    from napari_sam.images.opening import ArrayLike


def export_labels(
    label_image: Any,
    path: str | Path,
    *,
    image: Volume | ArrayLike | Sequence[ArrayLike] | str | Path | None = None,
    labels: Sequence[int] | int | None = None,
    class_name: str | None = None,
    crs: str = "auto",
    simplify: float = 0.0,
    squared: bool = False,
    overwrite: bool = False,
    parents: Mapping[int, int] | None = None,
) -> Exported:
    """Write a label image and its objects to a file of another program.

    Parameters
    ----------
    label_image
        An array of whole numbers, or the path of a label image. A journal beside the file gives classes and scores.
    path
        The file; its ending selects the format, see the reference of formats.
    image
        The image that the labels are of, as in `Segmenter`: its pixel sizes and place are written, and its intensities
        are measured. By default the pixel sizes and place of the label image.
    labels
        Labels of the objects to write. By default all.
    class_name
        Class of the objects to write. By default all.
    crs
        Coordinates of polygons on a map: "image" for those of the image's reference system, "wgs84" for longitude and
        latitude, "pixels" for column and row. By default longitude and latitude in GeoJSON, else those of the image.
    simplify
        Tolerance of simplified outlines in pixels. By default 0: outlines follow the edges of the pixels.
    squared
        Whether outlines that are nearly rectangular become rectangles.
    overwrite
        Whether a file that exists is replaced.
    parents
        In tracks, the label that each daughter comes from by division. By default as the journal says.

    Returns
    -------
    Exported
        The path, the name of the format, and the number of objects.

    Raises
    ------
    LabelsError, ImageError
        The labels or the image cannot be read, or there is no such object or class.
    OutputError
        The file cannot be written, or needs a library that is missing; whatever stood there before still does.
    """
    options = ExportOptions.of(
        labels=labels, class_name=class_name, crs=crs, simplify=simplify, squared=squared, overwrite=overwrite
    )
    out = path_argument(path, "The path of the export", OutputError)
    check_export(out, options)
    read = [given if isinstance(given, (str, Path)) else None for given in (label_image, image)]
    check_inputs(out, read[0], read[1])
    with ExitStack() as stack:
        source = opened_source(label_image, image, options, stack)
        if parents is not None:
            source.parents = dict(parents)
        return export(source, out, options)


def opened_source(
    label_image: Any,
    image: Volume | ArrayLike | Sequence[ArrayLike] | str | Path | None,
    options: ExportOptions,
    stack: ExitStack,
) -> ExportSource:
    """Open labels, their image and their journal.

    Parameters
    ----------
    label_image, image, options
        As in `export_labels`.
    stack
        Closes the journal.

    Raises
    ------
    LabelsError, ImageError
        They cannot be opened, or there is no such object or class.
    """
    volume = None if image is None else Volume.of(image)
    image_path = Path(image) if isinstance(image, (str, Path)) else None
    if not isinstance(label_image, (str, Path)):
        array = checked_labels(label_image)
        if array is None or isinstance(array, Path):
            raise LabelsError("There are no labels to export: give an array of whole numbers, or the path of one.")
        return source_of(array, volume, options, image_path=image_path)
    path = Path(label_image)
    array, place = open_label_file(path)
    journal = journal_of(path)
    if journal is not None:
        stack.callback(journal.close)
    objects = None if journal is None else journal.objects
    return source_of(array, volume, options, objects, image_path or path, place)


def open_label_file(path: Path) -> tuple[Any, Place]:
    """Open a label image of any kind to read.

    Returns
    -------
    array
        Whole numbers, read when they are sliced.
    place
        Where they lie, as far as the file says.

    Raises
    ------
    LabelsError, ImageError
        It is missing, or holds no whole numbers.
    """
    check_input(path, "label image", LabelsError)
    opened = open_image(path, as_labels=True)
    array = opened.levels[0]
    if (opened.axes or "").endswith("s"):
        raise LabelsError(f"{path} is a picture in color and no label image: give the file of the labels.")
    if dtype_of(array).kind == "b":
        return np.asarray(array).astype(np.uint8), _place_of(opened, path)
    array = as_whole_numbers(array, path)
    check_whole(dtype_of(array))
    return array, _place_of(opened, path)


def journal_of(path: Path) -> Journal | None:
    """Return the journal beside a label file, opened to read; None where there is none."""
    return open_journal(path) if exists(journal_beside(path)) else None


def _place_of(opened: ImageSource, path: Path) -> Place:
    calibration = None
    if opened.axes is not None and set(opened.axes) <= set("tczyx"):
        calibration = Calibration(
            opened.axes, step_along(None, opened, None), opened.origin, opened.unit, opened.time_unit
        )
    return Place(calibration, opened.georeference, Orientation.of_image(opened, path))
