"""Replay a journal: segment its objects again by their prompts, with another model."""

from __future__ import annotations

from collections.abc import Iterator

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, iou
from napari_sam.errors import NapariSamError
from napari_sam.journal.entries import Entry, Provenance
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.segmenter import CANDIDATE_NAMES, CandidateName, Segmenter
from napari_sam.tasks.batch import Outcome, segment_prompts


def replay_prompts(journal: Journal, segmenter: Segmenter, target: LabelArray) -> Iterator[Outcome]:
    """Segment the objects of a journal again by their prompts, with another model.

    Each object is written once, under its label, as it was corrected last. An object without prompts is written as it
    was recorded.

    Parameters
    ----------
    journal
        Journal of the segmenter's image.
    segmenter
        The image, and the other model.
    target
        New labels of the image's shape.

    Yields
    ------
    Outcome
        One for each plane of each object, with the IoU of the new mask and the recorded one.
    """
    for label, plane, entry in _standing(journal):
        recorded = entry.mask
        assert recorded is not None
        made = entry.made or Provenance()
        try:
            mask, score = recorded, None
            if entry.prompts is not None:
                found = segment_prompts(segmenter, entry.prompts, plane, made.downsample)
                mask = found.named(_candidate(made.candidate))
                score = overlap_of(mask, recorded)
            edit = target.write(plane, mask, label, entry.overlap)
            yield Outcome(str(label), label, edit.area, edit.written_box, mask, entry.prompts, score)
        except NapariSamError as error:
            yield Outcome(str(label), error=str(error))


def overlap_of(one: Mask, two: Mask) -> float:
    """Return the IoU of two masks of one plane."""
    whole = one.box.union(two.box)
    a, b = (
        Mask(mask.box.moved(-whole.top, -whole.left), mask.pixels).to_array(whole.pixel_shape) for mask in (one, two)
    )
    return iou(a, b)


def _standing(journal: Journal) -> Iterator[tuple[int, Plane, Entry]]:
    """Yield label, plane and entry of each part of each object, in the order in which they were accepted."""
    standing: dict[int, list[tuple[int, int, Plane]]] = {}
    planes: dict[Plane, Plane] = {}  # Each is held once, of many objects in it.
    read = None
    for found in journal.objects:
        for part in found.parts:
            read, plane = part.entry, planes.setdefault(part.plane, part.plane)
            standing.setdefault(part.number, []).append((found.label, part.label, plane))
    if read is None:
        return
    for number, parts in sorted(standing.items()):
        entry = read(number)
        order = {label: at for at, label in enumerate(entry.labels)}
        for label, origin, plane in sorted(parts, key=lambda one: order.get(one[1], 0)):
            yield label, plane, entry.of_object(origin, plane)


def _candidate(name: str | None) -> CandidateName:
    return next((known for known in CANDIDATE_NAMES if known == name), "best")
