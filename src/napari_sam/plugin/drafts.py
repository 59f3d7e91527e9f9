"""Drafts: the objects that are being segmented, each with prompts and an answer of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask
    from napari_sam.plugin.annotation.picking import PickedObject
    from napari_sam.plugin.inference.jobs import CleanedCandidates, Request
    from napari_sam.plugin.layers.adapters import LayerPrompts
    from napari_sam.segmenter import Candidates


@dataclass(slots=True, eq=False)
class Draft:
    """An object that is not accepted yet, or is accepted and not written yet.

    Parameters
    ----------
    number
        What the feature "object" of its prompts says.
    refining
        The object of the output that it takes the place of, or None.
    size
        Which of the three candidates the user chose for it, or None.
    downsample
        How many pixels of the image one pixel of the screen showed when it was begun, or None.
    candidates, answered
        The last answer and its question, or None.
    selected
        Which candidate is shown.
    chosen
        The candidate that the next prompts go on from, or None.
    tidied
        The candidates as they would be written, or None.
    is_asked
        Whether a newer answer is under way.
    reopened
        The prompts of a reopened object as they were accepted. Until they change, its mask is the accepted one.
    step
        How many sizes from the best one the mask of the next answer is to be.
    accepted_at
        When it was accepted, on the clock of `UndoStack`.
    """

    number: int
    refining: PickedObject | None = None
    size: int | None = None
    downsample: float | None = None
    candidates: Candidates | None = None
    answered: Request | None = None
    selected: int = 0
    chosen: Mask | None = None
    tidied: CleanedCandidates | None = None
    is_asked: bool = False
    reopened: LayerPrompts | None = None
    step: int = 0
    accepted_at: int = 0

    @property
    def is_as_accepted(self) -> bool:
        """Whether what is shown is the mask that the output has already."""
        return self.refining is not None and self.candidates is not None and self.mask is self.refining.mask

    @property
    def is_answered(self) -> bool:
        """Whether there are candidates for the prompts as they are."""
        return self.candidates is not None and not self.is_asked

    @property
    def mask(self) -> Mask | None:
        """The candidate that is shown, or None."""
        return None if self.candidates is None else self.candidates[self.selected]

    def forget_prompts(self) -> None:
        """Know that the answer is to other prompts; the size that the user chose stays."""
        self.candidates = self.answered = self.chosen = self.tidied = None

    def forget_answer(self) -> None:
        """Be as if nothing had been asked; what it takes the place of stays."""
        self.forget_prompts()
        self.size = self.downsample = None
        self.is_asked = False


@dataclass(slots=True, eq=False)
class Drafts:
    """All open objects of one viewer.

    Parameters
    ----------
    now
        The one that the next prompt belongs to.
    parked
        Those that the user left open to begin another one, the oldest first.
    waiting
        Those that were accepted and wait for their answer, or to be written, in that order.
    writing
        The one that is being written, or None.
    """

    now: Draft = field(default_factory=lambda: Draft(1))
    pending: list[Draft] = field(default_factory=list)
    waiting: list[Draft] = field(default_factory=list)
    writing: Draft | None = None
    _last: int = 1

    @property
    def open(self) -> tuple[Draft, ...]:
        """Those that the user can still change."""
        return (*self.pending, self.now)

    @property
    def accepted(self) -> tuple[Draft, ...]:
        """Those that the user can change no more."""
        return (*self.waiting, *(() if self.writing is None else (self.writing,)))

    def begin(self, refining: PickedObject | None = None, size: int | None = None) -> Draft:
        """Begin another object and forget the one in hand."""
        self._last += 1
        self.now = Draft(self._last, refining, size)
        return self.now

    def park(self) -> None:
        """Leave the object in hand open and begin another one."""
        self.pending.append(self.now)
        self.begin()

    def take(self, wanted: Draft, keep: bool) -> None:
        """Take a parked object in hand; the one in hand is parked with `keep`, else forgotten."""
        self.pending.remove(wanted)
        if keep:
            self.pending.append(self.now)
        self.now = wanted

    def accept(self, at: int = 0) -> None:
        """Queue the current object for writing and begin another one; `at` is its time on the clock of `UndoStack`."""
        self.now.accepted_at = at
        self.waiting.append(self.now)
        self.begin()

    def give_back(self, given: Draft, is_free: bool) -> None:
        """Open an accepted object again: it is the one in hand with `is_free`, else it is parked."""
        if given in self.waiting:
            self.waiting.remove(given)
        if self.writing is given:
            self.writing = None
        if is_free:
            self.now = given
        else:
            self.pending.append(given)

    def forget_all(self) -> None:
        """Begin anew; what is being written goes on."""
        self.pending, self.waiting = [], []
        self.begin()

    def numbered(self, number: int) -> Draft | None:
        """Return the open object of a number, or None."""
        return next((each for each in self.open if each.number == number), None)

    def parked_at(self, plane: Plane, row: float, col: float) -> Draft | None:
        """Return the parked object whose mask covers a place (row, col), in level-0 pixels, or None."""
        for each in reversed(self.pending):
            mask = each.mask
            if mask is None or each.candidates is None or each.candidates.plane != plane:
                continue
            at = round(row) - int(mask.box.top), round(col) - int(mask.box.left)
            is_inside = all(0 <= place < length for place, length in zip(at, mask.pixels.shape, strict=True))
            if is_inside and mask.pixels[at]:
                return each
        return None
