"""The command `napari-sam propagate`: follow prompted objects through the planes of an image."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import messages, progress_bar, say, warn
from napari_sam.cli.labeling.segment import OverlapChoice, check_prompts_in, read_objects_of, report_file
from napari_sam.cli.models import OneModel, check_sources, image_files, model_file, tidy_store
from napari_sam.errors import OutputError, PromptError
from napari_sam.exchange.label_formats import PYRAMID_SUFFIX, write_json
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, exists
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions
from napari_sam.propagation.recording.answer_store import check_answers
from napari_sam.propagation.review import ReviewedPlane, next_plane

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_sam.core.masks import Overlap
    from napari_sam.segmenter import Segmenter
    from napari_sam.tasks.batch import Outcome

# Beside the labels: what was found in planes, from which a run that was stopped goes on.
FOLLOWED_SUFFIX = ".followed"

# Planes in which each object was found, with the area and the confidence of its mask there.
Found = dict[int, dict[int, tuple[int, float]]]


class EngineChoice(StrEnum):
    """Way to follow objects."""

    auto = "auto"
    prompts = "prompts"
    memory = "memory"


@dataclass(frozen=True, slots=True)
class _Run:
    """What is asked for."""

    image: ImageOptions
    model: OneModel
    axis: int | str | None
    planes: tuple[int, int] | None
    patience: int
    overlap: Overlap
    engine: str
    followed: Path | None


def propagate(
    image: opts.ImageArgument,
    prompts: Annotated[
        Path,
        typer.Option(
            readable=False,
            help="Prompts of objects, .csv or .geojson, each with its plane; an object may have prompts in several.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Label image: .ome.zarr of any size and with a journal, also at a URL, or .tif or .zarr."),
    ],
    axis: Annotated[
        str | None,
        typer.Option(metavar="AXIS", help="Axis to follow objects along, by name (z, t) or number; by default z or t."),
    ] = None,
    planes: Annotated[
        str | None, typer.Option(metavar="A:B", help="First and last plane, both included; by default all.")
    ] = None,
    engine: Annotated[
        EngineChoice,
        typer.Option(help="Follow by prompts, with any model, or by the memory of SAM 2.1; auto takes the memory."),
    ] = EngineChoice.auto,
    patience: Annotated[
        int, typer.Option(min=1, help="An object that is missing in as many planes in a row has ended.")
    ] = 2,
    overlap: Annotated[
        OverlapChoice, typer.Option(help="Keep other labels, overwrite them, or refuse a mask that meets any (empty).")
    ] = OverlapChoice.keep,
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    scheduler: opts.SchedulerOption = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Also write in which planes each object was found, and which one to correct next."),
    ] = None,
    store: opts.StoreOption = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an .ome.zarr label image of a run that was stopped.")
    ] = False,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Segment objects by prompts in some planes, and follow them through the others.

    Labels in .ome.zarr are written plane by plane, and what was found stays where a run is stopped.
    With --resume, planes that were followed are not followed again, unless their accepted planes have changed.
    Other labels are written at the end.
    """
    is_pyramid = out.name.endswith(PYRAMID_SUFFIX)
    if resume and exists(out) and not is_pyramid:
        raise OutputError(
            f"{out} is complete or of another program: only labels that end in {PYRAMID_SUFFIX} are gone on with."
        )
    goes_on = resume and exists(out)
    output = LabelOutput(
        out, LabelOptions("best", "keep", goes_on, is_pyramid, overwrite), can_extend=is_pyramid, warn=warn
    )
    followed = out.with_name(out.name + FOLLOWED_SUFFIX) if is_pyramid else None
    if followed is not None:
        check_answers(followed)
    if json:
        check_output(json, (".json",), overwrite or resume)
    check_prompts_in(prompts)
    check_sources(image, model)
    check_apart(
        {**image_files(image), "prompt file": prompts, "model": model_file(model)},
        {"--out": out, "--json": json, "--journal": output.journal, "--store": store, "followed planes": followed},
        extended=["--out", "--journal"] if output.extends else [],
    )
    run = _Run(
        opts.image_options(channels, nodata, spacing, contrast, axes),
        OneModel(ModelOptions(model, device, precision, store=store, cache="auto"), scheduler),
        _parse_axis(axis),
        None if planes is None else _parse_planes(planes),
        patience,
        overlap.value,
        engine.value,
        followed,
    )
    if followed is not None and not goes_on:
        followed.unlink(missing_ok=True)
    described = _propagate(image, prompts, output, run)
    if json:
        write_json(json, described)
    if described["failed"]:
        raise typer.Exit(1)


def _propagate(image: str, prompts: Path, output: LabelOutput, run: _Run) -> dict[str, Any]:
    """Segment the objects, follow them, and return them as plain data."""
    from napari_sam.tasks.batch import segment_all

    start = perf_counter()
    segmenter = run.model.open(image, run.image)
    segmenter.stack_of(segmenter.plane([0] * (len(segmenter.shape) - 2)), run.axis, run.planes)
    if run.engine == "memory":
        from napari_sam.propagation.memory_follower import with_memory

        with_memory(segmenter.predictor)
    objects = read_objects_of(prompts, segmenter, keep_numbers=not output.extends)
    found: Found = {}
    with output.open(segmenter.volume, source=image) as writer:
        outcomes = segment_all(segmenter, objects, None, writer, keep_numbers=not output.extends)
        results = report_file(outcomes, objects, prompts)
        if writer.journal is None:
            found = _follow(run.model.open(image, run.image, writer.target.array), results, run)
    if output.is_pyramid:
        following = run.model.open(image, run.image, output.path, journal=True)
        assert run.followed is not None
        with following:
            following.keep_answers(run.followed)
            found = _follow(following, results, run)
    tidy_store(segmenter)
    count = sum(map(len, found.values()))
    labels = {one.label for one in results if one.label is not None}
    say(f"{len(labels)} object(s), followed into {count} more plane(s), written to {output.path}")
    rows = _described(results, found)
    for row in rows:
        row["correct_next"] = _next_to_correct(segmenter, row["label"], results, found[row["label"]], run)
    return {
        "image": image,
        "model": run.model.name,
        "objects": rows,
        "failed": [{"object": one.name, "error": one.error} for one in results if one.error is not None],
        "seconds": round(perf_counter() - start, 3),
    }


def _follow(segmenter: Segmenter, outcomes: Sequence[Outcome], run: _Run) -> Found:
    """Follow the objects, with a bar that names the plane; return where each was found."""
    labels = list(dict.fromkeys(one.label for one in outcomes if one.label is not None))
    steps = segmenter.propagate_steps(
        labels, axis=run.axis, planes=run.planes, patience=run.patience, overlap=run.overlap, engine=run.engine
    )
    found: Found = {label: {} for label in labels}
    bar = progress_bar()
    bar.disable = not messages.is_terminal
    with bar as progress:
        task = progress.add_task("planes", total=None)
        for step in steps:
            progress.update(task, description=f"plane {step.at}", completed=step.done, total=step.total)
            for label, one in step.followed.items():
                found[label][step.at] = one.mask.area, one.confidence
    return found


def _described(outcomes: Sequence[Outcome], found: Found) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for one in outcomes:
        if one.label is None:
            continue
        row = rows.setdefault(one.label, {"object": one.name, "label": one.label, "prompted": [], "followed": []})
        row["prompted"].append({"plane": None if one.plane is None else list(one.plane.position), "area": one.area})
    for label, planes in found.items():
        rows[label]["followed"] = [
            {"plane": at, "area": area, "confidence": round(confidence, 4)}
            for at, (area, confidence) in sorted(planes.items())
        ]
    return list(rows.values())


def _next_to_correct(
    segmenter: Segmenter, label: int, outcomes: Sequence[Outcome], found: Mapping[int, tuple[int, float]], run: _Run
) -> int | None:
    """Return the position of the followed plane of an object whose correction is expected to gain the most."""
    prompted = [(one.plane, one.area or 0) for one in outcomes if one.label == label and one.plane is not None]
    planes = {at: ReviewedPlane(area, confidence, False) for at, (area, confidence) in found.items()}
    if not (planes and prompted):
        return None
    stack = segmenter.stack_of(prompted[0][0], run.axis, run.planes)
    planes |= {plane.index[stack.axis]: ReviewedPlane(area, 1.0, True) for plane, area in prompted}
    return next_plane(planes, stack.first, stack.last)


def _parse_axis(text: str | None) -> int | str | None:
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        return text.strip().lower()


def _parse_planes(text: str) -> tuple[int, int]:
    first, colon, last = text.partition(":")
    try:
        if colon:
            return int(first), int(last)
    except ValueError:
        pass
    raise PromptError(f"--planes {text!r} is not understood: write A:B, for example --planes 10:80.")
