"""The command `napari-sam everything`: label all objects of one image or of many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import progress_bar, say, warn
from napari_sam.cli.many_images import Postponed, Results, is_one, left_over, outputs_of, run_over
from napari_sam.cli.models import OneModel, check_sources, image_files, model_file
from napari_sam.errors import OutputError
from napari_sam.exchange.label_formats import PYRAMID_SUFFIX, write_json
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, exists
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.everything.found import FoundObjects
    from napari_sam.everything.options import FilterOptions, GridOptions
    from napari_sam.everything.proposal_store import ProposalStore
    from napari_sam.everything.sweep import Sweep
    from napari_sam.exchange.label_writer import LabelWriter
    from napari_sam.segmenter import Segmenter
    from napari_sam.similarity.query import Query

    # The store of the proposals of a plane, and the sweep that fills it.
    OpenedSweep = Callable[[Plane], tuple[ProposalStore, Sweep]]

PROPOSALS_SUFFIX = ".proposals"


@dataclass(frozen=True, slots=True)
class EverythingRun:
    """What all images of a run have in common.

    Parameters
    ----------
    image, model
        How the images are opened, and the model.
    filters
        Which proposals count.
    plane, box, within
        Where is searched; everywhere by default.
    sizes
        Diameters of the objects.
    grid
        Options of the grid of points, or None.
    query
        Examples that the objects must be like; None for all objects.
    proposals
        Folder of the proposals of an earlier run; by default one beside each output.
    """

    image: ImageOptions
    model: OneModel
    filters: FilterOptions
    plane: list[int] | dict[str, int] | None
    box: tuple[float, ...] | None
    within: str | None
    sizes: Sequence[float] | None
    grid: GridOptions | None
    query: Query | None = None
    proposals: Path | None = None


def everything(
    images: opts.ImagesArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Label image: .ome.zarr of any size, also at a URL, or .tif or .zarr; of several images a folder, or "
            "a name with *."
        ),
    ],
    plane: opts.PlaneOption = None,
    region: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Search only this box, in pixels of the image.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(metavar="MASK", help="Search only where this image of the same size is not 0.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="LOW,HIGH", help="Diameter of the objects in pixels; found out on a sample by default."),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest score of an object; 0.6 by default.")
    ] = None,
    stability: Annotated[float, typer.Option(min=0, max=1, help="Lowest stability score of an object.")] = 0.0,
    solidity: Annotated[float, typer.Option(min=0, max=1, help="Lowest share of the ellipse in the box.")] = 0.0,
    max_overlap: Annotated[
        float | None, typer.Option(min=0, max=1, help="Largest share of an object that another one may cover.")
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="Ask at the points of a grid, with any model.")] = False,
    points_per_side: Annotated[int, typer.Option(min=1, max=256, help="Points along a tile, for the grid.")] = 32,
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    scheduler: opts.SchedulerOption = None,
    json: opts.JsonOption = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    resume: opts.ResumeOption = False,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Label all objects of an image, or of each of many images; run it again to resume.

    Proposals are kept beside the output: with other thresholds the model does not run again.
    """
    from napari_sam.everything.options import FilterOptions, GridOptions

    diameters = None if sizes is None else opts.parse_numbers(sizes, 2, "--sizes", "LOW,HIGH")
    run = EverythingRun(
        opts.image_options(channels, nodata, spacing, contrast, axes),
        OneModel(ModelOptions(model, device, precision), scheduler),
        FilterOptions.of(
            confidence=confidence,
            stability_score_thresh=stability,
            sizes=diameters,
            min_solidity=solidity,
            max_overlap=max_overlap,
        ),
        None if plane is None else opts.parse_plane(plane),
        None if region is None else opts.parse_box(region),
        within,
        diameters,
        GridOptions(points_per_side=points_per_side) if grid else None,
    )
    label_all(images, out, run, json, overwrite=overwrite, resume=resume)


def label_all(
    images: Sequence[str], out: Path, run: EverythingRun, json: Path | None, *, overwrite: bool, resume: bool
) -> None:
    """Label the objects of images.

    Parameters
    ----------
    images, out, json, overwrite, resume
        As given to the command.
    run
        The rest.

    Raises
    ------
    typer.Exit
        Some of several images failed.
    """
    outputs = outputs_of(images, out)
    if json:
        check_output(json, (".json",), overwrite)
    check_sources(None, run.model.name)
    if is_one(outputs, out) and not (resume and exists(out)):
        described, failed = _label_one(next(iter(outputs)), out, run, json, overwrite=overwrite), False
    else:
        results = _label_many(outputs, run, json, overwrite=overwrite)
        described, failed = results.as_json(run.model.name), bool(results.failed)
    if json and described is not None:
        write_json(json, described)
    if failed:
        raise typer.Exit(1)


def _label_many(outputs: dict[str, Path], run: EverythingRun, json: Path | None, *, overwrite: bool) -> Results:
    """Label several images; those of which other processes do the last tiles come again at the end."""
    left = left_over(outputs, resume=True, replaces=overwrite)
    postponed: set[str] = set()

    def label(source: str) -> dict[str, Any]:
        found = _label(source, outputs[source], run, json, overwrite=overwrite, waits=source in postponed)
        if found is None:
            postponed.add(source)
            raise Postponed
        return found

    return run_over(
        list(left),
        label,
        left_out=len(outputs) - len(left),
        finished=lambda source: not overwrite and exists(outputs[source]),
    )


def _label_one(
    source: str, out: Path, run: EverythingRun, json: Path | None, *, overwrite: bool
) -> dict[str, Any] | None:
    """Label one image; return its objects as plain data, or None if another process has labeled it meanwhile."""
    was_there = exists(out)
    try:
        return _label(source, out, run, json, overwrite=overwrite, waits=True)
    except OutputError:
        if was_there or not exists(out):
            raise
        say(f"{out} was written by another process that labeled the same image.")
        return None


def _label(
    source: str, out: Path, run: EverythingRun, json: Path | None, *, overwrite: bool, waits: bool
) -> dict[str, Any] | None:
    """Label the objects of one image; return them as plain data, or None where others must be waited for."""
    from napari_sam.tasks.everything import FoundWriter, found_in, runs_of_planes

    start = perf_counter()
    is_pyramid = out.name.endswith(PYRAMID_SUFFIX)
    output = LabelOutput(out, LabelOptions(journal=is_pyramid, overwrite=overwrite), can_extend=True, warn=warn)
    check_sources(source, None)
    proposals = run.proposals or out.with_name(out.name + PROPOSALS_SUFFIX)
    check_apart(
        {**image_files(source), "model": model_file(run.model.name)},
        {"--out": out, "--json": json, "--journal": output.journal, "proposals": proposals},
    )
    segmenter = run.model.open(source, run.image)
    position = opts.plane_position(segmenter, run.plane)
    planes = segmenter.planes() if position is None else [segmenter.plane(position)]
    where = planes[0] if len(planes) == 1 and not is_pyramid else None
    rows: list[dict[str, Any]] = []
    opened = _opener(segmenter, proposals, run)
    if not _sweep_all(segmenter, opened, planes, waits=waits):
        return None
    out.parent.mkdir(parents=True, exist_ok=True)
    labels: set[int] = set()
    with output.open(segmenter.volume, where, source=source) as writer, writer.together():
        for neighbors in runs_of_planes(segmenter.volume, planes):
            into = FoundWriter(writer, segmenter, run.filters, links=len(neighbors) > 1)
            for plane in neighbors:
                found = _like(found_in(*opened(plane), plane), run.query)
                written = into.write(found)
                labels |= {label for _, label in written}
                if json:
                    rows += [_row(writer, found, i, label, is_single=len(planes) == 1) for i, label in written]
    count = len(labels)
    say(f"{count} object(s) written to {out}")
    return {
        "image": source,
        "model": run.model.name,
        "plane": list(planes[0].position) if len(planes) == 1 else None,
        "objects": rows if json else count,
        "seconds": round(perf_counter() - start, 3),
    }


def _opener(segmenter: Segmenter, proposals: Path, run: EverythingRun) -> OpenedSweep:
    """Return what opens the store and the sweep of a plane; the pixels that identify the image are read once."""
    from napari_sam.everything.proposal_cache import ProposalCache
    from napari_sam.journal.image_identity import pixel_digest
    from napari_sam.tasks.everything import opened_sweep

    if run.query is not None:
        run.query.check_model(segmenter.predictor.digest, segmenter.predictor.name)
    pixels = pixel_digest(segmenter.volume.array)
    segmenter.proposal_cache = ProposalCache.default()
    return lambda plane: opened_sweep(
        proposals,
        segmenter,
        plane,
        box=run.box,
        within=run.within,
        sizes=run.sizes,
        grid=run.grid,
        pixels=pixels,
    )


def _sweep_all(segmenter: Segmenter, opened: OpenedSweep, planes: Sequence[Plane], *, waits: bool) -> bool:
    """Propose the objects of planes; tiles of other processes are waited for when no plane has another one left."""
    left = [plane for plane in planes if not _sweep(segmenter, *opened(plane), waits=False)]
    return all(waits and _sweep(segmenter, *opened(plane), waits=True) for plane in left)


def _sweep(segmenter: Segmenter, store: ProposalStore, sweep: Sweep, *, waits: bool) -> bool:
    """Propose the objects of a plane, except those that are in the store; return whether all tiles are done."""
    from rich.progress import TextColumn

    from napari_sam.tasks.everything import sweep_into

    runner = segmenter.proposing_runner(sweep, store)
    with progress_bar("{task.description}", TextColumn("{task.fields[rate]}")) as progress:
        task = progress.add_task("tiles", total=None, rate="")
        for now in sweep_into(store, sweep, waits=waits, runner=runner):
            speed = progress.tasks[0].speed
            rate = "" if not speed else f"{speed:.1f} tiles/s"
            progress.update(task, completed=now.done, total=now.total, rate=rate)
    return now.done == now.total


def _like(found: FoundObjects, query: Query | None) -> FoundObjects:
    """Return what was found, ranked by how like the examples it is if there are any."""
    from napari_sam.everything.similar import SimilarObjects

    return found if query is None else SimilarObjects.of(found, query)


def _row(writer: LabelWriter, found: FoundObjects, i: int, label: int, *, is_single: bool) -> dict[str, Any]:
    """Return a written object, or its part in one plane, as plain data."""
    from napari_sam.everything.similar import SimilarObjects
    from napari_sam.journal.codec import prompts_json
    from napari_sam.tasks.everything import written_pixels

    mask = found.mask(i)
    box, area = written_pixels(writer, found.plane, mask.box, label)
    position = list(found.plane.position)
    part: dict[str, Any] = {
        "prompts": prompts_json(found.prompts(i)),
        "box": [int(edge) for edge in box.as_tuple()],
        "area": area,
        "iou_prediction": round(mask.iou_prediction, 4),
        "stability_score": round(mask.stability_score, 4),
    }
    if isinstance(found, SimilarObjects):
        part |= {"likeness": round(float(found.scores[i]), 4), "class": found.class_of(i)}
    plane = {} if is_single else {"plane": position}
    return {"label": label, **plane, **part, "planes": [{"plane": position, **part}]}
