"""Drafts: the objects that are being segmented, each with its own prompts and candidates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from napari_sam.plugin.request_types import CleanedCandidates

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.cleaning import Cleaning
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask
    from napari_sam.journal.entries import Provenance
    from napari_sam.plugin.layers.adapters import LayerPrompts
    from napari_sam.plugin.request_types import PredictionRequest
    from napari_sam.segmenter import Candidates


@dataclass(frozen=True, slots=True, eq=False)
class PickedObject:
    """An object in a Labels layer that the next commit replaces.

    Parameters
    ----------
    layer, label
        The layer, and the object's label in it.
    plane, mask
        Its pixels: the connected part of the label that was clicked.
    hint
        The mask that serves as a prompt while the user draws no box and no outline, or None.
    made
        How its mask was made, or None where that is unknown.
    """

    layer: Labels
    label: int
    plane: Plane
    mask: Mask
    hint: Mask | None = None
    made: Provenance | None = None


@dataclass(slots=True, eq=False)
class Draft:
    """An object that is not written yet.

    Parameters
    ----------
    number
        Value of the feature "object" of its prompts.
    replaces
        The object in the output that it replaces, or None for a new object.
    size
        Index of the candidate that the user chose, or None.
    downsample
        Image pixels per screen pixel at its first request, or None.
    candidates, answered
        The latest answer and its request, or None.
    selected
        Index of the candidate that is shown.
    chosen
        The candidate that the next request refines, or None.
    cleaned
        The candidates after the clean-up, or None.
    is_asked
        Whether a newer answer is under way.
    reopened
        The prompts of a reopened object as they were accepted. Until they change, its mask is the accepted one.
    step
        Offset of the next answer's candidate from the best one, in sizes.
    accepted_at
        When it was accepted, on the clock of `Session`.
    continues
        The object that it goes into, as in `ContinuedObject.wanted` when it was accepted.
    """

    number: int
    replaces: PickedObject | None = None
    size: int | None = None
    downsample: float | None = None
    candidates: Candidates | None = None
    answered: PredictionRequest | None = None
    selected: int = 0
    chosen: Mask | None = None
    cleaned: CleanedCandidates | None = None
    is_asked: bool = False
    reopened: LayerPrompts | None = None
    step: int = 0
    accepted_at: int = 0
    continues: int | None = None

    @property
    def is_as_accepted(self) -> bool:
        """Whether the shown mask is the one that the output already has."""
        return self.replaces is not None and self.candidates is not None and self.mask is self.replaces.mask

    @property
    def is_answered(self) -> bool:
        """Whether the candidates answer the prompts as they are."""
        return self.candidates is not None and not self.is_asked

    @property
    def mask(self) -> Mask | None:
        """The candidate that is shown, or None."""
        return None if self.candidates is None else self.candidates[self.selected]

    def cleaned_mask(self, index: int, cleaning: Cleaning, shape: tuple[int, ...]) -> Mask:
        """Return a candidate after the clean-up, which is computed once and kept.

        Parameters
        ----------
        index
            Index of the candidate.
        cleaning
            The clean-up.
        shape
            Shape of the image in level-0 pixels.
        """
        candidates = self.candidates
        assert candidates is not None
        if cleaning.changes_nothing:
            return candidates[index]
        cleaned = self.cleaned
        if cleaned is None or cleaned.candidates is not candidates or cleaned.cleaning != cleaning:
            cleaned = CleanedCandidates.of(candidates, cleaning, candidates.plane.shape_in(shape))
            self.cleaned = cleaned
        return cleaned.masks[index]

    def forget_prompts(self) -> None:
        """Drop the answer, because its prompts changed; the size that the user chose stays."""
        self.candidates = self.answered = self.chosen = self.cleaned = None

    def forget_answer(self) -> None:
        """Drop the answer and what was chosen of it; the object that the draft replaces stays."""
        self.forget_prompts()
        self.size = self.downsample = None
        self.is_asked = False


@dataclass(slots=True, eq=False)
class ContinuedObject:
    """The object that gets the masks of other planes, instead of a new one for each plane.

    Parameters
    ----------
    is_on
        Whether masks go into an object that is there.
    selected
        Labels of the selected rows of the table; one alone is the object.
    written
        The layer and the label of what was written last, which is the object otherwise.
    """

    is_on: bool = False
    selected: tuple[int, ...] = ()
    written: tuple[Labels, int] | None = None

    @property
    def wanted(self) -> int | None:
        """The label of the object; 0 for the one that was written last when this is written; None for a new object."""
        if not self.is_on:
            return None
        return self.selected[0] if len(self.selected) == 1 else 0

    def label_for(self, draft: Draft, target: Labels | None) -> int | None:
        """Return the label that a draft goes into where it has no pixels in the plane yet, or None."""
        if draft.continues != 0:
            return draft.continues
        layer, label = self.written or (None, None)
        return label if layer is target else None


@dataclass(slots=True, eq=False)
class Drafts:
    """All drafts of one viewer.

    Parameters
    ----------
    current
        The draft that the next prompt belongs to.
    pending
        Drafts that the user left open to begin another one, oldest first.
    queued
        Accepted drafts that wait for their answer or to be written, in order.
    writing
        The draft that is being written, or None.
    """

    current: Draft = field(default_factory=lambda: Draft(1))
    pending: list[Draft] = field(default_factory=list)
    queued: list[Draft] = field(default_factory=list)
    writing: Draft | None = None
    _last: int = 1

    @property
    def open(self) -> tuple[Draft, ...]:
        """Drafts that the user can still change."""
        return (*self.pending, self.current)

    @property
    def accepted(self) -> tuple[Draft, ...]:
        """Drafts that the user can no longer change."""
        return (*self.queued, *(() if self.writing is None else (self.writing,)))

    def begin(self, replaces: PickedObject | None = None, size: int | None = None) -> Draft:
        """Begin another draft and drop the current one."""
        self._last += 1
        self.current = Draft(self._last, replaces, size)
        return self.current

    def park(self) -> None:
        """Leave the current draft open and begin another one."""
        self.pending.append(self.current)
        self.begin()

    def take(self, wanted: Draft, keep: bool) -> None:
        """Make a pending draft the current one, which becomes pending with `keep` and is dropped without."""
        self.pending.remove(wanted)
        if keep:
            self.pending.append(self.current)
        self.current = wanted

    def accept(self, at: int = 0) -> None:
        """Queue the current draft for writing and begin another one; `at` is its time on the clock of `Session`."""
        self.current.accepted_at = at
        self.queued.append(self.current)
        self.begin()

    def give_back(self, draft: Draft, is_free: bool) -> None:
        """Open an accepted draft again: it becomes the current one with `is_free`, else it is pending."""
        if draft in self.queued:
            self.queued.remove(draft)
        if self.writing is draft:
            self.writing = None
        if is_free:
            self.current = draft
        else:
            self.pending.append(draft)

    def forget_all(self) -> None:
        """Drop all drafts except the one that is being written."""
        self.pending, self.queued = [], []
        self.begin()

    def numbered(self, number: int) -> Draft | None:
        """Return the open draft of a number, or None."""
        return next((draft for draft in self.open if draft.number == number), None)

    def pending_at(self, plane: Plane, row: float, col: float) -> Draft | None:
        """Return the pending draft whose mask covers a point (row, col), in level-0 pixels, or None."""
        for draft in reversed(self.pending):
            mask = draft.mask
            if mask is None or draft.candidates is None or draft.candidates.plane != plane:
                continue
            at = round(row) - int(mask.box.top), round(col) - int(mask.box.left)
            is_inside = all(0 <= index < length for index, length in zip(at, mask.pixels.shape, strict=True))
            if is_inside and mask.pixels[at]:
                return draft
        return None
