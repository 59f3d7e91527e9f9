"""The command `napari-sam segment`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import models as cli_models
from napari_sam.cli import prompts as cli_prompts
from napari_sam.cli.console import say, warn
from napari_sam.cli.encode import (
    DEFAULT_AXES,
    PLANE_HELP,
    AxesOption,
    ChannelsOption,
    ContrastOption,
    ImageArgument,
    NodataOption,
    PrecisionOption,
    SpacingOption,
    image_options,
    parse_numbers,
    parse_plane,
    plane_position,
    tidy_store,
)
from napari_sam.cli.replay import PYRAMID_SUFFIX, check_memory, replaced, write_image
from napari_sam.errors import LabelsError, OutputError, PromptError
from napari_sam.exchange.label_images import LABEL_SUFFIXES, as_label_dtype, write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, exists

if TYPE_CHECKING:
    from napari_sam.core.geometry import Box, Plane
    from napari_sam.core.masks import Mask, Overlap
    from napari_sam.journal.journal import Journal
    from napari_sam.labels.pyramid import LabelPyramid
    from napari_sam.labels.targets import LabelTarget
    from napari_sam.segmenter import Segmenter

ModelOption = Annotated[str, typer.Option("--model", help="A name from `napari-sam models`, or a checkpoint file.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")]


class OverlapChoice(StrEnum):
    """What happens where a mask meets other labels."""

    keep = "keep"
    overwrite = "overwrite"
    empty = "empty"


class CandidateChoice(StrEnum):
    """Which of the three candidates to write."""

    best = "best"
    small = "small"
    medium = "medium"
    large = "large"


def segment(
    image: ImageArgument,
    out: Annotated[
        Path,
        typer.Option(help="Label image of the plane, .tif or .zarr; or of the whole image, .ome.zarr, of any size."),
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
            "--prompts", readable=False, help="Prompts of many objects, .csv or .geojson; each object is one label."
        ),
    ] = None,
    plane: Annotated[str | None, typer.Option(metavar="Z[,..]", help=PLANE_HELP)] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    candidate: Annotated[CandidateChoice, typer.Option(help="Which of the three masks.")] = CandidateChoice.best,
    overlap: Annotated[
        OverlapChoice, typer.Option(help="Other labels keep their pixels, are overwritten, or forbid the mask.")
    ] = OverlapChoice.keep,
    json: Annotated[Path | None, typer.Option(help="Also write the objects with their boxes and scores.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Folder or URL of embeddings to use and fill.")] = None,
    channels: ChannelsOption = None,
    nodata: NodataOption = None,
    spacing: SpacingOption = None,
    contrast: ContrastOption = None,
    axes: AxesOption = DEFAULT_AXES,
    append: Annotated[bool, typer.Option("--append", help="Add to an .ome.zarr label image that exists.")] = False,
    journal: Annotated[
        bool, typer.Option("--journal", help="Keep the prompts of --prompts beside the labels, to go on from.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Segment objects of an image by points and boxes and write a label image."""
    prompts = _parse_prompts(point, box, prompts_file, journal)
    given = None if plane is None else parse_plane(plane)
    options = image_options(channels, nodata, spacing, contrast, axes)
    goes_on = append and exists(out)
    kept = _check_outputs(out, json, plane, append=append, journal=journal, overwrite=overwrite)
    if kept and not prompts_file:
        raise PromptError(f"{kept.name} keeps all work on {out.name}: give the prompts as a file, by --prompts.")
    cli_models.check_sources(image, model)
    check_apart(
        {
            **cli_models.image_files(image),
            "prompt file": prompts_file,
            "model": cli_models.model_file(model),
        },
        {"--out": out, "--json": json, "--journal": kept, "--store": store},
        extended=["--out", "--journal"] if goes_on else [],
    )

    from napari_sam.embeddings.encoder import default_store
    from napari_sam.segmenter import Segmenter, open_labels

    segmenter = Segmenter(image, model=cli_models.load(model, device, precision, image=image), store=store, **options)
    if store is None:
        segmenter.encoder.store = default_store(segmenter.predictor)
    where = plane_position(segmenter, given)
    run = partial(segment_objects, segmenter, prompts, where, candidate.value, overlap.value)
    if prompts_file:
        run = partial(cli_prompts.segment_file, segmenter, prompts_file, where, candidate.value, overlap.value)
        run = partial(run, keep_numbers=not goes_on, source=image)
    if goes_on:
        extra = {"journal": kept} if prompts_file else {}
        objects = run(lambda: open_labels(out, segmenter.volume), adds=True, **extra)
    else:
        objects = _write_new(run, segmenter, out, has_journal=kept is not None)
    objects.pop("label_image")
    tidy_store(segmenter)
    if json:
        write_json(json, {"image": str(image), "model": model, **objects})
    say(f"{len(objects['objects'])} object(s) written to {out}")
    if objects.get("failed"):
        raise typer.Exit(1)


def _write_new(
    run: Callable[..., dict[str, Any]], segmenter: Segmenter, out: Path, *, has_journal: bool
) -> dict[str, Any]:
    """Segment into a new label image; it and its journal come to their places together, when all went well."""
    from napari_sam.journal.places import journal_beside
    from napari_sam.segmenter import open_labels

    with replaced(out) as temporary:
        options = {"journal": journal_beside(temporary)} if has_journal else {}
        if out.name.endswith(PYRAMID_SUFFIX):
            name = out.name.removesuffix(PYRAMID_SUFFIX)
            return run(lambda: open_labels(temporary, segmenter.volume, name), **options)
        objects = run(**options)
        plane = None if objects["plane"] is None else segmenter.plane(objects["plane"])
        write_image(temporary, objects["label_image"], segmenter.volume, plane)
    return objects


def segment_objects(
    segmenter: Segmenter,
    prompts: list[dict[str, Any]],
    plane: list[int] | None,
    candidate: str,
    overlap: Overlap = "keep",
    opened: Callable[[], LabelPyramid] | None = None,
    *,
    adds: bool = False,
) -> dict[str, Any]:
    """Segment one object for each set of prompts into a label image of the plane, or into labels on disk.

    All objects are segmented before the first is written; `opened` opens the labels on disk then. Where `adds` is set,
    they are labels that hold other objects, and all new objects are added or none.

    Returns
    -------
    dict
        `label_image` (rows, cols) or None, `plane` (list of int) and `objects`, each with label, prompts, box, area,
        iou_prediction and stability_score.

    Raises
    ------
    LabelsError
        The plane is too large for an image in memory.
    PromptError
        None of the prompts gave a mask.
    """
    import numpy as np

    from napari_sam.core.geometry import Plane
    from napari_sam.labels.additions import adding_to
    from napari_sam.labels.targets import LabelTarget

    where = segmenter.plane(plane)
    shape = where.shape_in(segmenter.shape)
    if opened is None:
        check_memory(shape)
    masks = [segmenter.segment(**prompt, plane=where).named(candidate) for prompt in prompts]  # type: ignore[arg-type]
    store = LabelTarget(np.zeros(shape, np.uint32) if opened is None else opened())
    objects = []
    with adding_to(store) if adds else nullcontext() as added:
        for prompt, mask in zip(prompts, masks, strict=True):
            try:
                label, area, box = _write(store, added, Plane.of(shape) if opened is None else where, mask, overlap)
            except LabelsError as error:
                warn(f"Left out {prompt}: {error}")
                continue
            objects.append(
                {
                    "label": label,
                    "prompts": prompt,
                    "box": [int(edge) for edge in box.as_tuple()],
                    "area": area,
                    "iou_prediction": round(mask.iou_prediction, 4),
                    "stability_score": round(mask.stability_score, 4),
                }
            )
    if not objects:
        raise PromptError("No prompt gave a mask that could be written: move them, or choose another --overlap.")
    index = [position for axis, position in enumerate(where.index) if axis not in where.axes]
    labels = as_label_dtype(np.asarray(store.array)) if opened is None else None
    return {"label_image": labels, "plane": index, "objects": objects}


def _write(
    store: LabelTarget, journal: Journal | None, plane: Plane, mask: Mask, overlap: Overlap
) -> tuple[int, int, Box]:
    """Write a mask, with a journal where there is one; return its label, and the area and box of its pixels."""
    if journal is None:
        edit = store.write(plane, mask, None, overlap)
        return edit.label, edit.area, edit.written_box
    entry = journal.accept(plane, mask, None, overlap)
    assert entry.label is not None
    return entry.label, journal.object(entry.label).area, entry.patches[0].box


def _parse_prompts(
    point: list[str] | None, box: list[str] | None, prompts_file: Path | None, journal: bool
) -> list[dict[str, Any]]:
    """Return the prompts of each object on the command line; none where a file holds them."""
    prompts: list[dict[str, Any]] = []
    if point:
        parsed = [_parse_point(text) for text in point]
        prompts.append({"points": [at for at, _ in parsed], "labels": [sign for _, sign in parsed]})
    prompts += [{"box": parse_numbers(text, 4, "--box", "R0,C0,R1,C1")} for text in box or []]
    if prompts and prompts_file:
        raise PromptError(
            "Prompts come from a file or from the command line: leave out --prompts, or --point and --box."
        )
    if not prompts and not prompts_file:
        raise PromptError(
            "There is no prompt: give at least one --point ROW,COL or --box R0,C0,R1,C1, or a file by --prompts."
        )
    if prompts_file:
        cli_prompts.check_prompts(prompts_file)
    elif journal:
        raise PromptError("A journal keeps the prompts of a file: name it by --prompts.")
    return prompts


def _check_outputs(
    out: Path, json: Path | None, plane: str | None, *, append: bool, journal: bool, overwrite: bool
) -> Path | None:
    """Refuse outputs that cannot be written, and return the journal to keep, or None."""
    from napari_sam.labels.pyramid import is_label_image

    in_pyramid = out.name.endswith(PYRAMID_SUFFIX)
    if append and not in_pyramid:
        raise PromptError(f"{out.name} cannot be added to: --append goes with labels that end in {PYRAMID_SUFFIX}.")
    if not (append and exists(out)):
        check_output(out, LABEL_SUFFIXES, overwrite, can_append=in_pyramid)
    if in_pyramid and exists(out) and not is_label_image(out):
        raise OutputError(f"{out} holds no labels, and it is not replaced: choose another name.")
    if json:
        check_output(json, (".json",), overwrite)
    return cli_prompts.journal_for(out, plane, journal, append, overwrite)


def _parse_point(text: str) -> tuple[list[float], int]:
    """Read ROW,COL, ROW,COL,+ or ROW,COL,-; return the point and its label."""
    numbers, sign = text, "+"
    head, _, tail = text.rpartition(",")
    if tail.strip() in ("+", "-"):
        numbers, sign = head, tail.strip()
    return parse_numbers(numbers, 2, "--point", "ROW,COL, ROW,COL,+ or ROW,COL,-"), int(sign == "+")
