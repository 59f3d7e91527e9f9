"""The command `napari-sam export`."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import say
from napari_sam.exchange.label_formats import write_json
from napari_sam.files.outputs import check_output


class CoordinatesChoice(StrEnum):
    """Coordinates of polygons."""

    auto = "auto"
    image = "image"
    wgs84 = "wgs84"
    pixels = "pixels"


def export(
    labels: Annotated[str, typer.Argument(help="A label image: a file or an OME-Zarr folder.")],
    out: Annotated[Path, typer.Option(help="The file, in the format of its ending; or IMAGE.ome.zarr/labels/NAME.")],
    image: Annotated[
        str | None, typer.Option("--image", help="The image: a file, an OME-Zarr folder, or a URL.")
    ] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Only objects of this class.")] = None,
    chosen: Annotated[
        str | None, typer.Option("--labels", metavar="N[,..]", help="Only the objects of these labels.")
    ] = None,
    crs: Annotated[
        CoordinatesChoice, typer.Option(help="Coordinates of polygons: of the image's map, wgs84, or pixels.")
    ] = CoordinatesChoice.auto,
    simplify: Annotated[
        float, typer.Option(metavar="PIXELS", help="Tolerance of simplified outlines; 0 follows the pixels.")
    ] = 0.0,
    squared: Annotated[
        bool, typer.Option("--squared", help="Replace outlines that are nearly rectangular by rectangles.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Also write what was exported as JSON.")] = None,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Export a label image and its objects: a table, polygons, a volume, annotations and others."""
    from napari_sam.exports import exporting
    from napari_sam.exports.opening import opened_source
    from napari_sam.exports.options import ExportOptions

    numbers = None if chosen is None else opts.parse_numbers(chosen, None, "--labels", "N[,..]", whole=True)
    options = ExportOptions.of(
        labels=None if numbers is None else [int(number) for number in numbers],
        class_name=class_name,
        crs=crs.value,
        simplify=simplify,
        squared=squared,
        overwrite=overwrite,
    )
    exporting.check_export(out, options)
    if json is not None:
        check_output(json, (".json",), overwrite)
    exporting.check_inputs(out, labels, image, json, "--out")
    with ExitStack() as stack:
        exported = exporting.export(opened_source(labels, image, options, stack), out, options)
    if json is not None:
        write_json(json, {"path": str(exported.path), "format": exported.form, "objects": exported.count})
    say(f"{exported.count} object(s) written to {out} as {exported.form}")
