"""The command `napari-sam replay`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import Failures, bar_over, say, warn
from napari_sam.cli.models import check_sources, image_files, load, model_file, tidy_store
from napari_sam.errors import ImageError, LabelsError, OutputError
from napari_sam.exchange.label_formats import LABEL_SUFFIXES, PYRAMID_SUFFIX
from napari_sam.exchange.label_output import LabelOutput, labels_in_memory, write_label_image
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, check_input, exists
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor
    from napari_sam.images.volume import Volume
    from napari_sam.journal.journal import Journal
    from napari_sam.labels.array import LabelArray


def replay(
    journal: Annotated[Path, typer.Argument(help="Folder NAME.journal, or the label image NAME beside it.")],
    out: Annotated[Path | None, typer.Option(help="Label image, .tif or .zarr; or .ome.zarr, of any size.")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="The image: a file, an OME-Zarr folder, or a URL.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Segment the objects again by their prompts, with this model or checkpoint."),
    ] = None,
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Write the objects' prompts as .csv or .geojson.")
    ] = None,
    semantic: Annotated[
        Path | None, typer.Option("--semantic", help="Write the objects' classes as a label image, .tif or .zarr.")
    ] = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Write the labels of a journal again, or segment its objects again with another model."""
    options = opts.image_options(channels, nodata, spacing, contrast, axes)
    output = _checked_output(out, image, model, prompts, semantic, overwrite)
    from napari_sam.images.volume import Volume
    from napari_sam.journal.journal import open_journal

    check_sources(image, model)
    file = None if model is None else model_file(model)
    folder, labels = _journal_and_labels(journal)
    inputs = {**image_files(image), "model": file, "journal": folder, "label image of the journal": labels}
    outputs = {"--out": out, "--prompts": prompts, "--semantic": semantic}
    check_apart(inputs, outputs)
    opened = open_journal(folder)
    recorded = opened.about.get("image")
    of_image = image_files(recorded if isinstance(recorded, str) else None)
    check_apart({f"{kind} of the journal": path for kind, path in of_image.items()}, outputs)
    if opened.trouble:
        warn(opened.trouble)
    volume = None if image is None else Volume.of(image, **options.volume_arguments)
    shape = _shape(opened, volume, image)
    _warn_of_another_image(opened, volume, image)
    if prompts is not None:
        _write_prompts(opened, prompts, volume)
    if semantic is not None:
        _write_semantic(opened, shape, semantic, volume)
    if output is None:
        return
    with output.open(volume, shape=shape) as writer:
        if model is None:
            opened.restore(writer.target)
            said = f"{len(opened.objects)} object(s) written to {out}"
        else:
            assert volume is not None
            predictor = load(ModelOptions(model, device, precision))
            said = _by_prompts(opened, volume, predictor, options, writer.target) + f" written to {out}"
    say(said)


def _checked_output(
    out: Path | None,
    image: str | None,
    model: str | None,
    prompts: Path | None,
    semantic: Path | None,
    overwrite: bool,
) -> LabelOutput | None:
    """Refuse outputs that cannot be written, and return the label image, or None without --out."""
    if out is None and prompts is None and semantic is None:
        raise OutputError("There is nothing to write: name the label image by --out, or the prompts by --prompts.")
    if model is not None and (image is None or out is None):
        raise ImageError("Segmenting with --model needs the image and an output: name them by --image and --out.")
    output = None if out is None else LabelOutput(out, LabelOptions(overwrite=overwrite), warn=warn)
    if semantic is not None:
        check_output(semantic, LABEL_SUFFIXES, overwrite)
        if semantic.name.endswith(PYRAMID_SUFFIX):
            raise OutputError(f"Classes cannot be written to {semantic.name}: let the name end in .tif or plain .zarr.")
    if prompts is not None:
        from napari_sam.exchange.prompts import check_prompt_file

        check_prompt_file(prompts)
        check_output(prompts, (), overwrite)
    return output


def _journal_and_labels(journal: Path) -> tuple[Path, Path | None]:
    """Return the folder of a journal, given the folder, its file or its labels; and the path of the labels, or None.

    Raises
    ------
    LabelsError
        Its file is no regular file.
    """
    from napari_sam.journal.discovery import FILES, SUFFIX, journal_beside

    check_input(journal, "journal", LabelsError)
    folder = journal.parent if journal.name in FILES else journal
    if not folder.name:  # As of "/" and "."; a journal's own name is needed to find its labels.
        folder = Path(os.path.abspath(folder))  # noqa: PTH100  Links stay what they are.
    if not folder.name:
        raise LabelsError(f"There is no journal in {folder}: check the path.")
    if folder.suffix != SUFFIX and exists(journal_beside(folder)):
        folder = journal_beside(folder)
    check_input(next((folder / name for name in FILES if exists(folder / name)), folder), "journal", LabelsError)
    name = folder.name.removesuffix(SUFFIX)
    return folder, folder.with_name(name) if name not in ("", folder.name) else None


def _shape(journal: Journal, volume: Volume | None, image: str | None) -> tuple[int, ...]:
    """Return the shape of the image, and check that the journal is for this shape."""
    said = journal.about.get("shape")
    known = tuple(int(length) for length in said) if isinstance(said, list) else None
    if volume is None and known is None:
        raise ImageError(f"The journal {journal.folder} does not say how large its image is: name it by --image.")
    if volume is not None and known not in (None, volume.shape):
        raise ImageError(
            f"The journal is of an image of shape {known} and {image} has {volume.shape}: name the journal's image."
        )
    return volume.shape if volume is not None else known or ()


def _warn_of_another_image(journal: Journal, volume: Volume | None, image: str | None) -> None:
    """Warn if the journal is for another image: by its pixels, or else by its file name."""
    from napari_sam.journal.image_identity import pixel_digest

    said = journal.about.get("image")
    if volume is None or image is None:
        return
    if "pixels" in journal.about:
        if journal.about["pixels"] != pixel_digest(volume.array):
            named = "is for another image" if said is None else f"names another image, {said}"
            warn(f"The journal {named}: the pixels of {image} differ.")
    elif said is not None and Path(str(said)).name != Path(image).name:
        warn(f"The journal names another image, {said}.")


def _by_prompts(
    journal: Journal, volume: Volume, predictor: Predictor, options: ImageOptions, target: LabelArray
) -> str:
    """Segment the objects of a journal with another model, and return a summary."""
    from napari_sam.tasks.opening import open_segmenter
    from napari_sam.tasks.replay import replay_prompts

    renderings = [entry.made.rendering for entry in journal.entries if entry.made and entry.made.rendering]
    if renderings and options.contrast_limits is None:
        options = replace(options, contrast_limits=renderings[-1].limits, gamma=renderings[-1].gamma)
    segmenter = open_segmenter(volume, options, ModelOptions(cache="auto"), predictor)
    _warn_of_other_weights(journal, predictor)
    scores, written, failures = [], 0, Failures()
    for outcome in bar_over(replay_prompts(journal, segmenter, target), len(journal.objects)):
        if outcome.error is not None:
            failures.add(outcome.name, outcome.error)
            continue
        written += 1
        if outcome.iou is not None:
            scores.append(outcome.iou)
    failures.show()
    tidy_store(segmenter)
    mean = f" with mean IoU {sum(scores) / len(scores):.3f} to the recorded masks," if scores else ""
    return f"{written} object(s) segmented by {predictor.name}{mean}"


def _warn_of_other_weights(journal: Journal, predictor: Predictor) -> None:
    """Warn if masks of the journal were made with other weights of the model that is used now."""
    made = [entry.made for entry in journal.entries if entry.made]
    # The precision follows the slash.
    digests = {one.model_digest.partition("/")[0] for one in made if one.model == predictor.name and one.model_digest}
    if digests - {predictor.digest.partition("/")[0]}:
        warn(f"The journal was made with other weights of {predictor.name}: the masks can differ.")


def _write_prompts(journal: Journal, path: Path, volume: Volume | None) -> None:
    from napari_sam.exchange.prompts import prompts_of, write_prompts

    if volume is None and path.suffix.lower() != ".csv":
        warn("The coordinates are pixels: for coordinates on the map, name the image by --image.")
    write_prompts(path, prompts_of(journal.objects), None if volume is None else volume.georeference)
    say(f"The prompts of {len(journal.objects)} object(s) written to {path}")


def _write_semantic(journal: Journal, shape: tuple[int, ...], path: Path, volume: Volume | None) -> None:
    import numpy as np

    from napari_sam.journal.semantic_labels import ClassMap, write_semantic

    target = labels_in_memory(shape)
    journal.restore(target)
    classes = np.zeros(shape, np.uint16)
    write_semantic(target.array, classes, ClassMap.of(journal.objects))
    write_label_image(path, classes, volume, warn=warn)
    names = ", ".join(f"{kind.number} is {kind.name}" for kind in journal.classes) or "there are none"
    say(f"Classes written to {path}: {names}")
