"""What `napari-sam segment --prompts FILE` does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.cli.console import Failures, bar_over, warn
from napari_sam.cli.replay import PYRAMID_SUFFIX, check_memory
from napari_sam.errors import OutputError, PromptError
from napari_sam.exchange.label_images import as_label_dtype
from napari_sam.files.paths import check_input, check_name, exists, shortened

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Overlap
    from napari_sam.exchange.object_prompts import ObjectPrompts
    from napari_sam.journal.journal import Journal
    from napari_sam.labels.pyramid import LabelPyramid
    from napari_sam.labels.targets import LabelTarget
    from napari_sam.segmenter import CandidateName, Segmenter


def segment_file(
    segmenter: Segmenter,
    file: Path,
    plane: list[int] | None,
    candidate: CandidateName,
    overlap: Overlap = "keep",
    opened: Callable[[], LabelPyramid] | None = None,
    *,
    keep_numbers: bool = True,
    journal: Path | None = None,
    source: str | None = None,
    adds: bool = False,
) -> dict[str, Any]:
    """Segment the objects of a prompt file into a label image, or into labels on disk, and tell of those that fail.

    Parameters
    ----------
    segmenter
        Image and model.
    file
        CSV or GeoJSON.
    plane
        Where all objects lie, of which the label image is then; or None: where the file says, and it is of the image.
    candidate, overlap
        As in `segment`.
    opened
        Opens the labels on disk.
    keep_numbers
        See `segment_all`.
    journal
        Folder of the journal to keep; one that is made here is removed where no object is written.
    source
        Path or URL of the image, for the journal.
    adds
        Whether the labels hold other objects. Without a journal all objects are added or none; with one, those that it
        has by the same prompts are not added again.

    Returns
    -------
    dict
        `label_image` or None, `plane`, `objects` (each with object, label, prompts, box, area, iou_prediction and
        stability_score), and `failed` (each with object and error).

    Raises
    ------
    LabelsError, PromptError
        The labels do not fit in memory, the file is not understood, or every object failed.
    """
    import numpy as np

    from napari_sam.exchange.prompts import read_prompts
    from napari_sam.labels.additions import adding_to
    from napari_sam.labels.targets import LabelTarget
    from napari_sam.tasks.replay import Writer, segment_all

    objects = read_prompts(file, segmenter.volume.georeference, _axes_of_planes(segmenter))
    if keep_numbers and any(one.number is None for one in objects):
        warn("Not every object has a whole number as its name: labels count from 1.")
    _check_map(objects, segmenter, file)
    where = None if plane is None else segmenter.plane(plane)
    shape = segmenter.shape if where is None else where.shape_in(segmenter.shape)
    if opened is None:
        check_memory(shape)
    target = LabelTarget(np.zeros(shape, np.uint32) if opened is None else opened())
    rows, failed, failures = [], [], Failures()
    adding = adding_to(target) if adds and journal is None else _kept(journal, target, segmenter, source)
    with adding as kept:
        writer = Writer(target, kept, is_plane=where is not None and opened is None)
        outcomes = segment_all(
            segmenter, objects, where, writer, candidate=candidate, overlap=overlap, keep_numbers=keep_numbers
        )
        for one in bar_over(outcomes, len(objects)):
            if one.error is not None:
                failures.add(one.name, one.error)
                failed.append({"object": one.name, "error": one.error})
            else:
                rows.append(_row(one))
        failures.show()
        if not rows:
            raise PromptError(f"None of the {len(failed)} object(s) of {file} gave a mask: correct its prompts.")
    index = None if where is None else _index(where)
    labels = as_label_dtype(np.asarray(target.array)) if opened is None else None
    return {"label_image": labels, "plane": index, "objects": rows, "failed": failed}


def _axes_of_planes(segmenter: Segmenter) -> tuple[str, str]:
    """Return the names of the axes that are the rows and columns of the planes, as a file may name its positions."""
    names = segmenter.volume.axis_names
    if names is None:
        return "y", "x"
    row, col = segmenter.plane([0] * (len(segmenter.shape) - 2)).axes
    return names[row], names[col]


def _check_map(objects: Sequence[ObjectPrompts], segmenter: Segmenter, file: Path) -> None:
    """Refuse prompts on a map that all miss the image: the file is in another reference system and does not say so.

    Raises
    ------
    PromptError
        All of them do.
    """
    place = segmenter.volume.georeference
    if place is None or place.transform is None or file.suffix.lower() == ".csv":
        return
    rows, cols = segmenter.plane([0] * (len(segmenter.shape) - 2)).shape_in(segmenter.shape)
    corners = [corner for one in objects for corner in one.corners]
    if all(not (-0.5 <= row < rows and -0.5 <= col < cols) for row, col in corners):
        raise PromptError(
            f"All {len(objects)} object(s) of {shortened(file)} lie outside the image: export the file in the image's "
            "coordinate reference system."
        )


def check_prompts(file: Path) -> None:
    """Refuse a prompt file that cannot be there, before any work is done.

    Raises
    ------
    PromptError
        Its ending is unknown, or there is none.
    """
    from napari_sam.exchange.prompts import check_prompt_file

    check_prompt_file(file)
    check_input(file, "prompt file", PromptError)
    if not file.is_file():
        raise PromptError(f"There is no prompt file {shortened(file)}: check the path.")


def journal_for(out: Path, plane: str | None, wanted: bool, append: bool, overwrite: bool) -> Path | None:
    """Return the journal to keep beside labels that are about to be written, or None.

    Raises
    ------
    OutputError
        One is there that would not fit the new labels, or the labels are of one plane only.
    """
    from napari_sam.journal.places import journal_beside

    folder = journal_beside(out)
    goes_on = append and exists(out)
    if wanted:
        check_name(folder)
    if goes_on:
        return folder if wanted or exists(folder) else None
    if exists(folder) and not (wanted and overwrite):
        raise OutputError(
            f"{folder.name} lies beside {out.name} and would not fit its new labels: move it away, or begin it anew by "
            "--journal --overwrite."
        )
    if exists(folder) and not _is_journal(folder):
        raise OutputError(f"{folder} is not a journal, and it is not replaced: move it away, or choose another name.")
    if wanted and plane is not None and not out.name.endswith(PYRAMID_SUFFIX):
        raise OutputError(
            "A journal goes with labels of the whole image: leave --plane out and name planes in the file."
        )
    return folder if wanted else None


@contextmanager
def _kept(
    folder: Path | None, target: LabelTarget, segmenter: Segmenter, source: str | None
) -> Iterator[Journal | None]:
    """Open the journal of labels, and remove one that this run made where it holds nothing in the end."""
    if folder is None:
        yield None
        return
    from napari_sam.journal.discovery import about
    from napari_sam.journal.journal import Journal

    is_unused, is_new = False, not exists(folder)
    try:
        with Journal(folder, target, about=about(segmenter.volume, source)) as journal:
            try:
                yield journal
            finally:
                is_unused = is_new and not journal.entries
    finally:
        if is_unused:
            shutil.rmtree(folder, ignore_errors=True)


def _is_journal(folder: Path) -> bool:
    """Say whether a folder holds the lines of a journal, and nothing that is not part of one."""
    from napari_sam.journal.log import CUT, LINES, LOCK

    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return names <= {LINES, LOCK, CUT} and (folder / LINES).is_file()


def _row(one: Any) -> dict[str, Any]:
    from napari_sam.journal.codec import prompts_json

    return {
        "object": one.name,
        "label": one.label,
        "prompts": prompts_json(one.prompts),
        "box": [int(edge) for edge in one.box.as_tuple()],
        "area": one.area,
        "iou_prediction": round(one.mask.iou_prediction, 4),
        "stability_score": round(one.mask.stability_score, 4),
    }


def _index(plane: Plane) -> list[int]:
    return [position for axis, position in enumerate(plane.index) if axis not in plane.axes]
