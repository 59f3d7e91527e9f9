"""The command `napari-sam replay`."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import models as cli_models
from napari_sam.cli.console import Failures, bar_over, say, warn
from napari_sam.cli.encode import (
    DEFAULT_AXES,
    AxesOption,
    ChannelsOption,
    ContrastOption,
    NodataOption,
    PrecisionOption,
    SpacingOption,
    image_options,
    tidy_store,
)
from napari_sam.errors import ImageError, LabelsError, NapariSamError, OutputError
from napari_sam.exchange.label_images import LABEL_SUFFIXES, as_label_dtype, write_labels
from napari_sam.files.outputs import check_output, replacing
from napari_sam.files.paths import check_apart, check_input, exists

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.core.geometry import Plane
    from napari_sam.core.predictor import Predictor
    from napari_sam.images.axes.calibration import Calibration
    from napari_sam.images.volume import Volume
    from napari_sam.journal.journal import Journal
    from napari_sam.labels.pyramid import LabelPyramid
    from napari_sam.labels.targets import LabelTarget

# A label image that is made in memory has at most so many pixels (a gigabyte).
MAX_PIXELS = 2**28
PYRAMID_SUFFIX = ".ome.zarr"


def replay(
    journal: Annotated[Path, typer.Argument(help="The folder NAME.journal, or the labels NAME that it lies beside.")],
    out: Annotated[Path | None, typer.Option(help="Label image, .tif or .zarr; or .ome.zarr, of any size.")] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="The image: a file, an OME-Zarr folder, or a URL.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Segment by the prompts again, with this model or checkpoint.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: PrecisionOption = "auto",
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Write the objects' prompts as .csv or .geojson.")
    ] = None,
    semantic: Annotated[
        Path | None, typer.Option("--semantic", help="Write the objects' classes as a label image, .tif or .zarr.")
    ] = None,
    channels: ChannelsOption = None,
    nodata: NodataOption = None,
    spacing: SpacingOption = None,
    contrast: ContrastOption = None,
    axes: AxesOption = DEFAULT_AXES,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace output files that exist.")] = False,
) -> None:
    """Do the work of a journal again: the same pixels, or by its prompts with another model."""
    options = image_options(channels, nodata, spacing, contrast, axes)
    _check(out, image, model, prompts, semantic, overwrite)
    from napari_sam.exchange.prompts import prompts_of, write_prompts
    from napari_sam.images.volume import Volume
    from napari_sam.journal.journal import open_journal

    cli_models.check_sources(image, model)
    file = None if model is None else cli_models.model_file(model)
    folder, labels = _journal_and_labels(journal)
    inputs = {**cli_models.image_files(image), "model": file, "journal": folder, "label image of the journal": labels}
    outputs = {"--out": out, "--prompts": prompts, "--semantic": semantic}
    check_apart(inputs, outputs)
    opened = open_journal(folder)
    recorded = opened.about.get("image")
    of_image = cli_models.image_files(recorded if isinstance(recorded, str) else None)
    check_apart({f"{kind} of the journal": path for kind, path in of_image.items()}, outputs)
    if opened.trouble:
        warn(opened.trouble)
    named = {key: options[key] for key in ("channels", "nodata", "spacing")}
    volume = None if image is None else Volume.of(image, **named)
    shape = _shape(opened, volume, image)
    _warn_of_another_image(opened, volume, image)
    if prompts is not None:
        place = None if volume is None else volume.georeference
        if volume is None and prompts.suffix.lower() != ".csv":
            warn("The coordinates are pixels: where the image lies on a map, name it by --image.")
        write_prompts(prompts, prompts_of(opened.objects), place)
        say(f"The prompts of {len(opened.objects)} object(s) written to {prompts}")
    if semantic is not None:
        _write_semantic(opened, shape, semantic, volume)
    if out is None:
        return
    with _labels(out, shape, volume) as target:
        if model is None:
            opened.restore(target)
            said = f"{len(opened.objects)} object(s) written to {out}"
        else:
            assert volume is not None
            predictor = cli_models.load(model, device, precision)
            said = _by_prompts(opened, volume, predictor, options, target) + f" written to {out}"
    say(said)


def write_image(path: Path, labels: NDArray[Any], volume: Volume | None, plane: Plane | None = None) -> None:
    """Write labels of an image, or of one of its planes, with the image's axes, pixel sizes and position.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    if volume is None:
        write_labels(path, labels)
        return
    calibration, place = volume.calibration(plane), volume.georeference_of(plane)
    if path.suffix.lower() != ".zarr" and place is None and _runs_backwards(calibration):
        warn(
            "A TIFF cannot say that rows or columns of the image run backwards, so programs show its labels mirrored: "
            "let the name of the labels end in .zarr to keep their place."
        )
    write_labels(path, labels, calibration, place)


def _runs_backwards(calibration: Calibration | None) -> bool:
    return calibration is not None and any(step < 0 for step in calibration.scale or ())


def _check(
    out: Path | None,
    image: str | None,
    model: str | None,
    prompts: Path | None,
    semantic: Path | None,
    overwrite: bool,
) -> None:
    if out is None and prompts is None and semantic is None:
        raise OutputError("There is nothing to write: name the label image by --out, or the prompts by --prompts.")
    if model is not None and (image is None or out is None):
        raise ImageError("Another model needs the image and a place for its masks: name them by --image and --out.")
    if out is not None:
        check_labels(out, overwrite)
    if semantic is not None:
        check_output(semantic, LABEL_SUFFIXES, overwrite)
        if semantic.name.endswith(PYRAMID_SUFFIX):
            raise OutputError(f"{semantic.name} is no place for classes: let the name end in .tif or plain .zarr.")
    if prompts is not None:
        from napari_sam.exchange.prompts import check_prompt_file

        check_prompt_file(prompts)
        check_output(prompts, (), overwrite)


def check_labels(out: Path, overwrite: bool) -> None:
    """Refuse a label image that cannot be written, or that would not fit the journal beside it.

    Raises
    ------
    OutputError
        See `check_output`; or it has a journal, or is a folder that holds no labels.
    """
    from napari_sam.journal.places import journal_beside
    from napari_sam.labels.pyramid import is_label_image

    check_output(out, LABEL_SUFFIXES, overwrite)
    if exists(journal_beside(out)):
        raise OutputError(f"{out} has a journal of its own, which would not fit the new labels: choose another name.")
    if out.name.endswith(PYRAMID_SUFFIX) and exists(out) and not is_label_image(out):
        raise OutputError(f"{out} holds no labels, and it is not replaced: choose another name.")


def _journal_and_labels(journal: Path) -> tuple[Path, Path | None]:
    """Return the folder of a journal that is named by itself, its file or its labels, and those labels.

    Raises
    ------
    LabelsError
        Its lines are no regular file.
    """
    from napari_sam.journal.log import LINES
    from napari_sam.journal.places import SUFFIX, journal_beside

    check_input(journal, "journal", LabelsError)
    folder = journal.parent if journal.name == LINES else journal
    if not folder.name:  # As of "/" and "."; a journal's own name is needed to find its labels.
        folder = Path(os.path.abspath(folder))  # noqa: PTH100  Links stay what they are.
    if not folder.name:
        raise LabelsError(f"There is no journal in {folder}: check the path.")
    if folder.suffix != SUFFIX and exists(journal_beside(folder)):
        folder = journal_beside(folder)
    check_input(folder / LINES, "journal", LabelsError)
    name = folder.name.removesuffix(SUFFIX)
    return folder, folder.with_name(name) if name not in ("", folder.name) else None


def _shape(journal: Journal, volume: Volume | None, image: str | None) -> tuple[int, ...]:
    """Return the shape of the image, which has to be the one that the journal is of."""
    said = journal.about.get("shape")
    known = tuple(int(length) for length in said) if isinstance(said, list) else None
    if volume is None and known is None:
        raise ImageError(f"The journal {journal.folder} does not say how large its image is: name it by --image.")
    if volume is not None and known not in (None, volume.shape):
        raise ImageError(
            f"The journal is of an image of shape {known} and {image} has {volume.shape}: name the image that it is of."
        )
    return volume.shape if volume is not None else known or ()


def _warn_of_another_image(journal: Journal, volume: Volume | None, image: str | None) -> None:
    """Say so where the image is not the one that the journal is of, by its pixels or else by its name."""
    from napari_sam.journal.image_identity import pixel_digest

    said = journal.about.get("image")
    if volume is None or image is None:
        return
    if "pixels" in journal.about:
        if journal.about["pixels"] != pixel_digest(volume.array):
            named = "is of another image" if said is None else f"names another image, {said}"
            warn(f"The journal {named}: the pixels of {image} are others.")
    elif said is not None and Path(str(said)).name != Path(image).name:
        warn(f"The journal names another image, {said}.")


@contextmanager
def replaced(out: Path) -> Iterator[Path]:
    """Give a temporary path as `replacing` does; messages name the output and not that path.

    Raises
    ------
    NapariSamError
        See `replacing`, and whatever is raised meanwhile.
    """
    temporary = None
    try:
        with replacing(out) as temporary:
            yield temporary
    except NapariSamError as error:
        if temporary is None or str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(out))) from error


@contextmanager
def _labels(out: Path, shape: tuple[int, ...], volume: Volume | None) -> Iterator[LabelTarget]:
    """Give new labels to write into, which come to `out` when all went well."""
    import numpy as np

    from napari_sam.labels.targets import LabelTarget

    if out.name.endswith(PYRAMID_SUFFIX):
        with replaced(out) as temporary:
            yield LabelTarget(_pyramid(temporary, shape, volume, out.name.removesuffix(PYRAMID_SUFFIX)))
        return
    check_memory(shape)
    target = LabelTarget(np.zeros(shape, np.uint16))
    yield target
    write_image(out, as_label_dtype(np.asarray(target.array)), volume)


def _pyramid(path: Path, shape: tuple[int, ...], volume: Volume | None, name: str) -> LabelPyramid:
    if volume is not None:
        from napari_sam.segmenter import open_labels

        return open_labels(path, volume, name)
    from napari_sam.labels.pyramid import LabelPyramid

    return LabelPyramid.create(path, shape, name=name)


def check_memory(shape: tuple[int, ...]) -> None:
    """Refuse labels that are too large for memory.

    Raises
    ------
    LabelsError
        They are.
    """
    if math.prod(shape) > MAX_PIXELS:
        raise LabelsError(
            f"Labels of {' x '.join(map(str, shape))} pixels do not fit in memory: let --out end in {PYRAMID_SUFFIX}."
        )


def _by_prompts(
    journal: Journal, volume: Volume, predictor: Predictor, options: dict[str, Any], target: LabelTarget
) -> str:
    """Segment the objects of a journal with another model, and return what is to be said of it."""
    from napari_sam.embeddings.encoder import default_store
    from napari_sam.segmenter import Segmenter
    from napari_sam.tasks.replay import replay_prompts

    looks = [entry.made.rendering for entry in journal.entries if entry.made and entry.made.rendering]
    look: dict[str, Any] = {"contrast_limits": options["contrast_limits"]}
    if looks and look["contrast_limits"] is None:
        look = {"contrast_limits": looks[-1].limits, "gamma": looks[-1].gamma}
    segmenter = Segmenter(volume, model=predictor, axes=options["axes"], **look)
    segmenter.encoder.store = default_store(segmenter.predictor)
    scores, written, failures = [], 0, Failures()
    for one in bar_over(replay_prompts(journal, segmenter, target), len(journal.objects)):
        if one.error is not None:
            failures.add(one.name, one.error)
            continue
        written += 1
        if one.iou is not None:
            scores.append(one.iou)
    failures.show()
    tidy_store(segmenter)
    mean = f" with mean IoU {sum(scores) / len(scores):.3f} to the recorded masks," if scores else ""
    return f"{written} object(s) segmented by {predictor.name}{mean}"


def _write_semantic(journal: Journal, shape: tuple[int, ...], path: Path, volume: Volume | None) -> None:
    import numpy as np

    from napari_sam.journal.semantic import ClassMap, write_semantic
    from napari_sam.labels.targets import LabelTarget

    check_memory(shape)
    target = LabelTarget(np.zeros(shape, np.uint16))
    journal.restore(target)
    classes = np.zeros(shape, np.uint16)
    write_semantic(target.array, classes, ClassMap.of(journal.objects))
    write_image(path, classes, volume)
    names = ", ".join(f"{kind.number} is {kind.name}" for kind in journal.classes) or "there are none"
    say(f"Classes written to {path}: {names}")
