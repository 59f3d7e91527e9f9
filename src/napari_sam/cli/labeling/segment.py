"""The command `napari-sam segment`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import Failures, bar_over, say, warn
from napari_sam.cli.many_images import is_one, label_images, names_of, outputs_of
from napari_sam.cli.models import OneModel, check_sources, image_files, model_file, tidy_store
from napari_sam.errors import OutputError, PromptError
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, check_input, exists, shortened
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.segmenter import Segmenter
    from napari_sam.tasks.batch import Outcome


class OverlapChoice(StrEnum):
    """Treatment of other labels under a mask."""

    keep = "keep"
    overwrite = "overwrite"
    empty = "empty"


class CandidateChoice(StrEnum):
    """Name of a candidate mask, small to large, or the best one."""

    best = "best"
    small = "small"
    medium = "medium"
    large = "large"


def segment(
    images: opts.ImagesArgument,
    out: Annotated[
        Path,
        typer.Option(
            help="Label image of the plane, .tif or .zarr, or of the whole image, .ome.zarr, of any size, also "
            "at a URL; of several images a folder, or a name with *."
        ),
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
            "--prompts",
            readable=False,
            help="Prompts of many objects, .csv or .geojson, each object being one label; or a folder of such files "
            "with the names of the images.",
        ),
    ] = None,
    plane: opts.PlaneOption = None,
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    candidate: Annotated[
        CandidateChoice, typer.Option(help="Mask to write of the three candidates.")
    ] = CandidateChoice.best,
    overlap: Annotated[
        OverlapChoice, typer.Option(help="Keep other labels, overwrite them, or refuse a mask that meets any (empty).")
    ] = OverlapChoice.keep,
    json: opts.JsonOption = None,
    store: opts.StoreOption = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    append: Annotated[bool, typer.Option("--append", help="Add to an .ome.zarr label image that exists.")] = False,
    journal: Annotated[
        bool,
        typer.Option(
            "--journal", help="Record the objects of --prompts in a journal beside the labels, to resume from."
        ),
    ] = False,
    resume: opts.ResumeOption = False,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Segment objects of an image, or of each of many images, by points and boxes and write label images."""
    objects = _parse_prompts(point, box)
    outputs = outputs_of(images, out)
    _check_prompts(objects, prompts_file, journal, is_one(outputs, out))
    run = _Run(
        opts.image_options(channels, nodata, spacing, contrast, axes),
        OneModel(ModelOptions(model, device, precision, store=store, cache="auto")),
        LabelOptions(candidate.value, overlap.value, append, journal, overwrite),
        plane,
        objects,
        json,
        store,
    )
    label_images(
        outputs,
        out,
        lambda source: run.segment(source, outputs[source], _prompts_of(source, prompts_file)),
        model=model,
        json=json,
        resume=resume,
        overwrite=overwrite,
        append=append,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What all images of a run have in common."""

    image: ImageOptions
    model: OneModel
    labels: LabelOptions
    plane: str | None
    objects: list[ObjectPrompts]
    json: Path | None
    store: str | None

    def segment(self, image: str, out: Path, prompts_file: Path | None) -> dict[str, Any]:
        """Segment the objects of one image; return them as plain data."""
        given = None if self.plane is None else opts.parse_plane(self.plane)
        output = _checked_output(out, self.labels, self.plane, self.json, prompts_file)
        check_sources(image, self.model.name)
        check_apart(
            {**image_files(image), "prompt file": prompts_file, "model": model_file(self.model.name)},
            {"--out": out, "--json": self.json, "--journal": output.journal, "--store": self.store},
            extended=["--out", "--journal"] if output.extends else [],
        )
        from napari_sam.tasks.batch import segment_all

        segmenter, objects = self.model.open(image, self.image), self.objects
        position = opts.plane_position(segmenter, given)
        where = segmenter.plane(position) if objects or position is not None else None
        if prompts_file:
            objects = read_objects_of(prompts_file, segmenter, keep_numbers=not output.extends)
        with output.open(segmenter.volume, where, source=image) as writer:
            is_new, is_file = not output.extends, prompts_file is not None
            outcomes = segment_all(
                segmenter, objects, where, writer, self.labels, keep_numbers=is_new, stop_at_bad_prompts=not is_file
            )
            results = report_file(outcomes, objects, prompts_file) if prompts_file else _report(outcomes)
        tidy_store(segmenter)
        described = describe(objects, results, where, of_file=is_file)
        say(f"{len(described['objects'])} object(s) written to {out}")
        return {"image": str(image), "model": self.model.name, **described}


def _prompts_of(source: str, given: Path | None) -> Path | None:
    """Return the prompt file of an image: the one that is given, or that of its name in a folder.

    Raises
    ------
    PromptError
        The folder has no such file.
    """
    if given is None or not given.is_dir():
        return given
    from napari_sam.exchange.prompts import SUFFIXES

    names = [f"{name}{suffix}" for name in names_of(source) for suffix in SUFFIXES]
    found = next((given / name for name in names if exists(given / name)), None)
    if found is None:
        raise PromptError(f"There are no prompts of it in {given}: name their file {names[0]}, or .geojson.")
    return found


def describe(
    objects: Sequence[ObjectPrompts], outcomes: Sequence[Outcome], plane: Plane | None, *, of_file: bool
) -> dict[str, Any]:
    """Return the objects of a run as plain data.

    Parameters
    ----------
    objects
        The prompts.
    outcomes
        Result for each of them, in the same order.
    plane
        Plane of all objects, or None.
    of_file
        Whether the prompts come from a file: then objects have its names, and those that failed are listed.

    Returns
    -------
    dict
        `plane` (list of int, or None); `objects` with label, prompts, box, area, iou_prediction and stability_score of
        each, those of a file with their name as `object`, and `planes` with the position of each plane and the same
        figures there, of which the first ones stand above, but for the area, which is that of all; and for a file
        `failed` with object and error of each.
    """
    rows: dict[str, dict[str, Any]] = {}
    for at, (one, outcome) in enumerate(zip(objects, outcomes, strict=True)):
        if outcome.box is None or outcome.mask is None:
            continue
        part = _described_part(one, outcome, of_file=of_file)
        row = rows.setdefault(
            one.name if of_file else str(at),
            {**({"object": one.name} if of_file else {}), "label": outcome.label, **part, "area": 0, "planes": []},
        )
        row["area"] += outcome.area
        position = None if outcome.plane is None else list(outcome.plane.position)
        row["planes"].append({"plane": position, **part})
    described: dict[str, Any] = {
        "plane": None if plane is None else list(plane.position),
        "objects": [*rows.values()],
    }
    if of_file:
        described["failed"] = [{"object": one.name, "error": one.error} for one in outcomes if one.error is not None]
    return described


def _described_part(one: ObjectPrompts, outcome: Outcome, *, of_file: bool) -> dict[str, Any]:
    from napari_sam.journal.codec import prompts_json

    assert outcome.box is not None
    assert outcome.mask is not None
    return {
        "prompts": prompts_json(outcome.prompts) if of_file else _as_given(one),
        "box": [int(edge) for edge in outcome.box.as_tuple()],
        "area": outcome.area,
        "iou_prediction": round(outcome.mask.iou_prediction, 4),
        "stability_score": round(outcome.mask.stability_score, 4),
    }


def _as_given(one: ObjectPrompts) -> dict[str, Any]:
    if one.box is not None:
        return {"box": list(one.box)}
    return {"points": [list(point) for point in one.points], "labels": [int(sign) for sign in one.labels]}


def _report(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Warn of prompts on the command line that gave no label, and return all outcomes.

    Raises
    ------
    PromptError
        None of them did.
    """
    results = []
    for outcome in outcomes:
        results.append(outcome)
        if outcome.error is not None:
            warn(f"Left out {outcome.name}: {outcome.error}")
    if all(outcome.error is not None for outcome in results):
        raise PromptError("No prompt gave a mask that could be written: move them, or choose another --overlap.")
    return results


def report_file(outcomes: Iterable[Outcome], objects: Sequence[ObjectPrompts], file: Path) -> list[Outcome]:
    """Show a progress bar, warn of objects in the file that failed, and return all outcomes.

    Raises
    ------
    PromptError
        All of them did.
    """
    results, failures = list(bar_over(outcomes, len(objects))), Failures()
    for outcome in results:
        if outcome.error is not None:
            failures.add(outcome.name, outcome.error)
    failures.show()
    if all(outcome.error is not None for outcome in results):
        raise PromptError(f"None of the {len(results)} object(s) of {file} gave a mask: correct its prompts.")
    return results


def _parse_prompts(point: list[str] | None, box: list[str] | None) -> list[ObjectPrompts]:
    """Parse the prompts on the command line: one object for all points, and one for each box."""
    objects = []
    if point:
        points, signs = zip(*(_parse_point(text) for text in point), strict=True)
        objects.append(ObjectPrompts(name=" ".join(f"--point {text}" for text in point), points=points, labels=signs))
    objects += [ObjectPrompts(name=f"--box {text}", box=opts.parse_box(text)) for text in box or []]
    return objects


def _check_prompts(objects: Sequence[ObjectPrompts], file: Path | None, journal: bool, is_one_image: bool) -> None:
    """Refuse prompts of both kinds or none, and a missing file, before any work is done."""
    if objects and file:
        raise PromptError(
            "Prompts come from a file or from the command line: leave out --prompts, or --point and --box."
        )
    if not objects and not file:
        raise PromptError(
            "There is no prompt: give at least one --point ROW,COL or --box R0,C0,R1,C1, or a file by --prompts."
        )
    if not file and journal:
        raise PromptError("A journal records the prompts of a file: name it by --prompts.")
    if file:
        if file.is_dir() and not is_one_image:
            return
        check_prompts_in(file)


def check_prompts_in(file: Path) -> None:
    """Refuse a prompt file that is missing, or of another kind, before any work is done."""
    from napari_sam.exchange.prompts import check_prompt_file

    check_prompt_file(file)
    check_input(file, "prompt file", PromptError)
    if not file.is_file():
        raise PromptError(f"There is no prompt file {shortened(file)}: check the path.")


def _checked_output(
    out: Path, options: LabelOptions, plane: str | None, json: Path | None, prompts_file: Path | None
) -> LabelOutput:
    output = LabelOutput(out, options, can_extend=True, warn=warn)
    if json:
        check_output(json, (".json",), options.overwrite)
    if options.journal and plane is not None and not output.is_pyramid:
        raise OutputError(
            "A journal goes with labels of the whole image: leave --plane out and name planes in the file."
        )
    if output.journal and not prompts_file:
        raise PromptError(
            f"{output.journal.name} records all work on {out.name}: give the prompts as a file, by --prompts."
        )
    return output


def read_objects_of(file: Path, segmenter: Segmenter, *, keep_numbers: bool) -> list[ObjectPrompts]:
    """Read the prompts of the objects of an image; warn where their names cannot be their labels."""
    from napari_sam.tasks.batch import read_objects

    objects = read_objects(file, segmenter)
    if keep_numbers and any(one.number is None for one in objects):
        warn("Not all names of objects are whole numbers, so labels count from 1.")
    return objects


def _parse_point(text: str) -> tuple[tuple[float, float], bool]:
    """Read ROW,COL, ROW,COL,+ or ROW,COL,-; return the point and whether it is on the object."""
    numbers, sign = text, "+"
    head, _, tail = text.rpartition(",")
    if tail.strip() in ("+", "-"):
        numbers, sign = head, tail.strip()
    row, col = opts.parse_numbers(numbers, 2, "--point", "ROW,COL, ROW,COL,+ or ROW,COL,-")
    return (row, col), sign == "+"
