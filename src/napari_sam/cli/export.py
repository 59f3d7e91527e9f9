"""The command `napari-sam export`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import say, warn
from napari_sam.cli.many_images import ANY_NAME, Results, left_over, names_of, outputs_of, run_over, sources_of
from napari_sam.errors import OutputError
from napari_sam.exchange.label_formats import write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart

if TYPE_CHECKING:
    from napari_sam.exports.exporting import Exported
    from napari_sam.exports.options import ExportOptions


class CoordinatesChoice(StrEnum):
    """Coordinates of polygons."""

    auto = "auto"
    image = "image"
    wgs84 = "wgs84"
    pixels = "pixels"


def export(
    labels: Annotated[
        list[str],
        typer.Argument(metavar="LABELS...", help="Label images: files, OME-Zarr folders, folders or patterns."),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The file, in the format of its ending; IMAGE.ome.zarr/labels/NAME; of several, a pattern 'x/*.csv'."
        ),
    ],
    image: Annotated[
        str | None,
        typer.Option("--image", help="The image: a file, an OME-Zarr folder, or a URL; of several, a pattern."),
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
    parents: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            help="In tracks, which label comes from which by division: .csv with the columns child and parent; by "
            "default as the journal says.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Also write what was exported as JSON.")] = None,
    scheduler: opts.SchedulerOption = None,
    overwrite: opts.OverwriteOption = False,
    resume: opts.ResumeOption = False,
) -> None:
    """Export label images and their objects: a table, polygons, a volume, annotations and others."""
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
    if json is not None:
        check_output(json, (".json",), overwrite)
    if ANY_NAME in out.name or sources_of(labels, with_labels=True) != labels[:1]:
        if parents is not None:
            raise OutputError("--parents goes with one label image: export the others by calls of their own.")
        results = _export_many(labels, image, out, options, resume, scheduler)
        described, failed = {"images": results.described, "failed": results.failed}, bool(results.failed)
    else:
        described, failed = _export_one(labels[0], image, out, options, json, parents), False
        say(f"{described['objects']} object(s) written to {out} as {described['format']}")
    if json is not None:
        write_json(json, described)
    if failed:
        raise typer.Exit(1)


def _described(exported: Exported, out: Path) -> dict[str, Any]:
    return {"path": str(out), "format": exported.form, "objects": exported.count}


def _export_one(
    labels: str,
    image: str | None,
    out: Path,
    options: ExportOptions,
    json: Path | None = None,
    parents: Path | None = None,
) -> dict[str, Any]:
    from napari_sam.tasks.export_images import ExportJob, export_file

    if parents is not None:
        check_apart({"table of parents": parents}, {"--out": out, "--json": json})
    return _described(export_file(ExportJob(labels, image, out), options, json, parents), out)


def _export_many(
    labels: list[str], image: str | None, out: Path, options: ExportOptions, resume: bool, scheduler: str | None
) -> Results:
    """Export each label image under its name, with the image of the same name."""
    if ANY_NAME not in out.name:
        raise OutputError(f"{out} is one file and there are several label images: name them by --out 'folder/*.csv'.")
    outputs = outputs_of(labels, out, with_labels=True)
    left = left_over(outputs, resume=resume, replaces=options.overwrite)

    from napari_sam.tasks.export_images import ExportJob, export_file, exports_on

    jobs = {
        source: ExportJob(source, image and image.replace(ANY_NAME, names_of(source)[0]), outputs[source])
        for source in left
    }
    with ExitStack() as stack:
        wait: Callable[[ExportJob], Exported] = partial(export_file, options=options)
        if scheduler is not None:
            from napari_sam.distributed.cluster import Cluster

            wait = exports_on(stack.enter_context(Cluster(scheduler, warn=warn)), jobs.values(), options)

        def work(source: str) -> dict[str, Any]:
            return {"labels": source, **_described(wait(jobs[source]), outputs[source])}

        return run_over(list(left), work, left_out=len(outputs) - len(left))
