"""Export labels and their objects to a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.arguments import path_argument
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exports.formats import format_of
from napari_sam.exports.label_images.ome_zarr import image_around, list_label
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource, Place
from napari_sam.files.libraries import library
from napari_sam.files.outputs import check_output, replacing
from napari_sam.files.paths import check_apart, local_path
from napari_sam.images.companion_files import parts_of
from napari_sam.journal.discovery import labels_path
from napari_sam.options import LabelOptions

if TYPE_CHECKING:
    from napari_sam.images.volume import Volume
    from napari_sam.journal.objects import LabelledObject
    from napari_sam.labels.regions import WritableArray

LABEL_IMAGES = (".tif", ".tiff", ".zarr")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Parameters
    ----------
    path
        The file.
    form
        Name of its format.
    count
        Number of objects in it.
    """

    path: Path
    form: str
    count: int


def check_export(path: Path, options: ExportOptions) -> None:
    """Refuse an output that cannot be written, before any work is done.

    Raises
    ------
    OutputError
        The ending is unknown, its library is missing, or the file exists and may not be replaced.
    """
    form = format_of(path)
    if form.library is not None:
        library(*form.library, f"A file {path.name}")
    if image_around(path) is None and path.suffix.lower() in LABEL_IMAGES:
        from napari_sam.exchange.label_output import LabelOutput

        LabelOutput(path, LabelOptions(overwrite=options.overwrite))
    else:
        check_output(path, (), options.overwrite)


def check_inputs(
    out: Path,
    labels: str | Path | None,
    image: str | Path | None,
    json: Path | None = None,
    name: str = "the export",
) -> None:
    """Refuse to write over the labels or the image; labels may be put among those of an image.

    Parameters
    ----------
    out, json
        What is written.
    labels, image
        Paths or URLs of what is read; None for arrays.
    name
        What `out` is called in messages.

    Raises
    ------
    OutputError
        An output is an input, or lies inside one.
    """
    local = local_path(image)
    parts = {} if local is None else {f"file of the image {part.name}": part for part in parts_of(local)}
    is_inside = image_around(out) is not None
    check_apart(
        {"label image": labels, "image": image, **parts},
        {name: out, "--json": json},
        [name] if is_inside else [],
    )


def export(source: ExportSource, path: Path, options: ExportOptions) -> Exported:
    """Write labels and their objects to a file, in the format that its ending selects.

    Raises
    ------
    LabelsError, ImageError, OutputError
        They cannot be read or written; whatever stood there before still does.
    """
    check_export(path, options)
    for file in source.place.dicom:  # A layer knows them, too, and its segmentation may be given their name.
        check_apart({"DICOM image": file}, {"the export": path})
    form = format_of(path)
    if (refusal := form.refusal(source)) is not None:
        raise OutputError(refusal)
    with replacing(path) as temporary:
        form.write(source, temporary, options)
    if image_around(path) is not None:
        list_label(path)
    return Exported(path, form.name, len(source.extents))


def chosen_labels(options: ExportOptions, objects: Iterable[LabelledObject] | None) -> list[int] | None:
    """Return the labels of the objects that options choose; None for all.

    Parameters
    ----------
    options
        The choice.
    objects
        The objects of a journal; None where there is none.

    Raises
    ------
    LabelsError
        There is no journal, or no such class or object in it.
    """
    if options.class_name is None:
        return None if options.labels is None else list(options.labels)
    if objects is None:
        raise LabelsError("There is no journal beside the labels, so the classes of their objects are not known.")
    known = list(objects)
    found = [each.label for each in known if each.label_class and each.label_class.name == options.class_name]
    if not found:
        names = sorted({each.label_class.name for each in known if each.label_class is not None})
        there = f"there are {', '.join(names)}" if names else "no object has a class"
        raise LabelsError(f"No object has the class {options.class_name!r}: {there}.")
    return found if options.labels is None else sorted(set(found) & set(options.labels))


def source_of(
    labels: WritableArray,
    volume: Volume | None,
    options: ExportOptions,
    objects: Iterable[LabelledObject] | None = None,
    image_path: Path | None = None,
    place: Place | None = None,
) -> ExportSource:
    """Return what is exported.

    Parameters
    ----------
    labels
        Whole numbers.
    volume
        Their image, whose place they have; or None.
    options
        Which objects.
    objects
        The objects of a journal; None where there is none.
    image_path
        The image's file.
    place
        Where the labels lie, where there is no image.

    Raises
    ------
    LabelsError
        The labels have another shape than the image, or there is no such object.
    """
    known = None if objects is None else list(objects)
    chosen = chosen_labels(options, known)
    if volume is not None and tuple(labels.shape) != volume.shape:
        raise LabelsError(
            f"The labels have shape {tuple(labels.shape)} and the image {volume.shape}: name their image."
        )
    source = ExportSource(
        labels,
        place if volume is None else Place.of(volume, image_path),
        image=volume,
        objects=known or (),
        chosen=chosen,
        name="image" if image_path is None else image_path.name,
    )
    if chosen is not None and (missing := sorted(set(chosen) - set(source.extents.labels.tolist()))):
        shown = ", ".join(map(str, missing[:5])) + (" ..." if len(missing) > 5 else "")
        if options.labels is not None:
            raise LabelsError(f"There is no object {shown} in the labels: choose labels that are there.")
    return source


def export_objects(
    labels: WritableArray,
    path: str | Path,
    volume: Volume | None,
    image_path: Path | None,
    objects: Iterable[LabelledObject] | None,
    options: ExportOptions,
) -> Exported:
    """Write labels of an open image to a file.

    Parameters
    ----------
    labels, volume, image_path, objects, options
        As in `source_of`.
    path
        The file.

    Raises
    ------
    LabelsError, ImageError, OutputError
        As in `export`.
    """
    out = path_argument(path, "The path of the export", OutputError)
    check_export(out, options)
    check_inputs(out, labels_path(labels), image_path)
    return export(source_of(labels, volume, options, objects, image_path), out, options)
