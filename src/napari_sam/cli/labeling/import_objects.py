"""The command `napari-sam import`: objects that other programs have labeled, as labels or as prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import say, warn
from napari_sam.cli.models import check_sources, image_files
from napari_sam.exchange.label_formats import PYRAMID_SUFFIX
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, shortened
from napari_sam.options import LabelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.exchange.label_writer import LabelWriter
    from napari_sam.journal.packing.objects import NewObject


class Target(StrEnum):
    """What imported objects become."""

    labels = "labels"
    prompts = "prompts"


def import_objects(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="COCO or SA-1B .json, .geojson, .gpkg, ImageJ's .roi or .zip, or a label image."
        ),
    ],
    image: Annotated[str, typer.Option("--image", help="The image that the objects are of.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Labels, .ome.zarr with a journal, or .tif or .zarr; or prompts, .geojson (outlines) or .csv (boxes)."
        ),
    ],
    into: Annotated[Target, typer.Option("--as", help="What the objects become.")] = Target.labels,
    plane: opts.PlaneOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Import objects that other programs have labeled; polygons on a map are converted into the image's system."""
    is_pyramid = out.name.endswith(PYRAMID_SUFFIX)
    options = LabelOptions(journal=is_pyramid, overwrite=overwrite)
    # First, since labels of other commands can be added to, and imported ones only replaced.
    check_output(out, () if into is Target.labels else (".geojson", ".csv", ".json"), overwrite)
    output = LabelOutput(out, options, can_extend=True, warn=warn) if into is Target.labels else None
    check_sources(image, None)
    check_apart(
        {**image_files(image), "file of objects": file},
        {"--out": out, "--journal": None if output is None else output.journal},
    )
    from napari_sam.exchange.importing.reading import read_objects_of
    from napari_sam.exchange.prompts import write_prompts
    from napari_sam.images.volume import Volume
    from napari_sam.labeled_image import LabeledImage
    from napari_sam.tasks.import_objects import as_prompts, write_imported

    reading = opts.image_options(None, None, None, None, axes)
    labeled = LabeledImage(Volume.of(image), reading.axes)
    position = None if plane is None else opts.plane_position(labeled, opts.parse_plane(plane))
    row_col = labeled.plane([0] * (len(labeled.shape) - 2)).axes
    objects, left_out = read_objects_of(file, labeled.volume, image, row_col)
    if output is None:
        boxes = out.suffix.lower() == ".csv"
        write_prompts(out, as_prompts(labeled, objects, position, boxes=boxes), labeled.volume.georeference)
        count = len(objects)
    else:
        where = labeled.plane(position) if position is not None and not is_pyramid else None
        with output.open(labeled.volume, where, source=image) as writer, writer.together():
            has_classes = writer.journal is not None
            labels = write_imported(_Writers(writer), labeled, objects, position, has_classes=has_classes)
        count = len(set(labels) - {None})
    if left_out:
        warn(f"{left_out} of the entries of {shortened(file)} are no areas or lie outside the image, and are left out.")
    say(f"{count} object(s) imported into {out}")


@dataclass(frozen=True, slots=True)
class _Writers:
    """Write by the writer of a command."""

    writer: LabelWriter

    def write_all(self, plane: Plane, objects: Sequence[NewObject], class_name: str | None) -> list[int | None]:
        return self.writer.write_all(plane, objects, class_name=class_name)

    def add(self, plane: Plane, one: NewObject, label: int) -> int:
        written = self.writer.write(plane, one.mask, label)
        return label if written.label is None else written.label
