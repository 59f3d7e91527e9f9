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
    for entry, plane in _standing(journal):
        label, recorded = entry.label, entry.mask
        assert label is not None
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


def _standing(journal: Journal) -> Iterator[tuple[Entry, Plane]]:
    """Yield the latest entry of each object in each plane, in the order of the entries."""
    last: dict[tuple[int, Plane], Entry] = {}
    for entry in journal.entries:
        if entry.plane is not None:
            for label in entry.labels:
                last.pop((label, entry.plane), None)
                last[label, entry.plane] = entry
        elif entry.what == "delete":
            last = {key: kept for key, kept in last.items() if key[0] != entry.label}
    for (label, plane), entry in last.items():
        yield entry.of_object(label), plane


def _candidate(name: str | None) -> CandidateName:
    return next((known for known in CANDIDATE_NAMES if known == name), "best")
