"""CommitQueue: the masks of open objects on their way into the labels, one at a time and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompts import Prompts
from napari_sam.journal.discovery import provenance
from napari_sam.journal.journal import Journal
from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.inference.jobs import CleanedCandidates
from napari_sam.plugin.inference.requests import sentence
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.objects.label_layers import Commit, Written

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.journal.entries import Provenance
    from napari_sam.plugin.controller import Controller


class CommitQueue:
    """Writes what the user accepts.

    Parameters
    ----------
    controller
        Whose open objects and output these are.

    Attributes
    ----------
    overlap
        What happens where a mask meets other labels.
    cleaning
        How masks are tidied before they are written.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.overlap: Overlap = "keep"
        # When the action was done that is being written, and its first entry in each journal.
        self._written_at, self._firsts = 0, WeakKeyDictionary[Journal, int]()
        self.cleaning = Cleaning()

    def accept(self, at: int | None = None) -> None:
        """Write the shown candidate into the labels under the next free label and clear its prompts.

        With `at`, the time by the clock of an action that it is part of.
        """
        now = self._controller.open.now
        waits = self._controller.must_wait or self._controller.asking.is_about(now)
        if now.candidates is None and not (waits and self._controller.has_prompts(now)):
            self._controller.notify("There is no mask to accept: click an object first.")
            return
        if now.is_answered and self._is_cleaned_away(now):
            return
        self._controller.open.accept(self._controller.undoing.now() if at is None else at)
        self._controller.prompts.begin(self._controller.open.now.number)
        self.advance()

    def accept_all(self) -> None:
        """Accept every open object, in the order in which they were left open; one undo takes all of them back."""
        at = self._controller.undoing.now()
        for each in self._controller.open.pending:
            each.accepted_at = at
        self._controller.open.waiting += self._controller.open.pending
        self._controller.open.pending = []
        self._controller.show_parked()
        if self._controller.has_prompts(self._controller.open.now) or not self._controller.open.waiting:
            self.accept(at)
        self.advance()

    def advance(self) -> None:
        """Go on with what was accepted, one object at a time; after the last one, with the object in hand."""
        if self._controller.is_writing:
            return
        if not self._controller.open.waiting:
            if self._controller.has_prompts(self._controller.open.now):
                self._controller.asking.request()
            self._controller.undoing.catch_up()
            return
        first = self._controller.open.waiting[0]
        if self._controller.asking.is_about(first):
            return
        if not first.is_answered:
            self._controller.asking.request()
        elif self._is_cleaned_away(first):
            self.reopen(first)
            self.advance()
        else:
            self._commit(self._controller.open.waiting.pop(0))

    def _is_cleaned_away(self, accepted: Draft) -> bool:
        """Say, to the user too, whether the clean-up leaves nothing of a mask."""
        if accepted.mask is None or accepted.mask.area == 0 or self.mask_of(accepted.selected, accepted).area:
            return False
        self._controller.notify(
            "The clean-up leaves nothing of this mask: ask for smaller parts, or choose another candidate."
        )
        return True

    def reopen(self, *given: Draft) -> None:
        """Let the user go on with objects that could not be written."""
        for each in given:
            is_free = not self._controller.has_prompts(self._controller.open.now)
            self._controller.open.give_back(each, is_free)
            if is_free:
                self._controller.in_hand.show_all()
        self._controller.show_parked()

    def _commit(self, accepted: Draft) -> None:
        """Write the shown candidate of an object."""
        candidates = accepted.candidates
        assert candidates is not None
        assert self._controller.image is not None
        plane, mask = candidates.plane, self.mask_of(accepted.selected, accepted)
        self._controller.open.writing = accepted
        self._controller.set_status("Writing ...")
        old = accepted.refining if accepted.refining is not None and accepted.refining.plane == plane else None
        acceptance = Commit(
            plane,
            mask,
            self.overlap,
            lambda layer, edit: self._committed(layer, edit, mask),
            self._not_committed,
            old,
            _prompts_of(accepted),
            self._made(accepted),
            self._controller.objects.class_name,
            self._firsts if self._written_at == accepted.accepted_at else {},
        )
        self._controller.output.commit(
            self._controller.image, self._controller.target if old is None else old.layer, acceptance
        )

    def _made(self, accepted: Draft) -> Provenance | None:
        """Return how the shown candidate was made."""
        if accepted.is_as_accepted and accepted.refining is not None:
            return accepted.refining.made
        segmenter, mask, candidates = self._controller.jobs.segmenter, accepted.mask, accepted.candidates
        if segmenter is None or mask is None or candidates is None:
            return None
        return provenance(segmenter.encoder, mask, candidates.name_of(mask), accepted.downsample)

    def _committed(self, layer: Labels, edit: Written, mask: Mask) -> None:
        """Forget what was accepted."""
        if self._controller.target is None and layer in self._controller.viewer.layers:
            self._controller.set_target(layer)
        written, self._controller.open.writing = self._controller.open.writing, None
        assert written is not None
        kept = self._controller.journals.kept(layer)
        if self._written_at != written.accepted_at:
            self._written_at, self._firsts = written.accepted_at, WeakKeyDictionary()
        if kept is not None and edit.number is not None:
            self._firsts.setdefault(kept.journal, edit.number)
        self._controller.undoing.accepted(kept, written.accepted_at)
        self._controller.prompts.remove(written.number)
        self._controller.undoing.history.forget_object(written, self._controller.open.now)
        self._controller.show()
        rest = "" if edit.area == mask.area else f" of {mask.area}, the rest belongs to other labels"
        self._controller.set_status(f"Accepted as label {edit.label} ({edit.area} px{rest}).")
        self.advance()

    def _not_committed(self, error: Exception) -> None:
        written = self._controller.open.writing
        assert written is not None
        self.reopen(written, *self._controller.open.waiting)
        self._controller.notify(sentence(error))
        if self._controller.has_prompts(self._controller.open.now):
            self._controller.asking.request()  # Prompts that were added since have had no answer yet.
        self._controller.undoing.catch_up()

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Tidy masks otherwise from now on, the shown ones too."""
        self.cleaning = cleaning
        now, image = self._controller.open.now, self._controller.image
        candidates = now.candidates
        if candidates is None or image is None or self._controller.busy or self._controller.must_wait:
            return
        shape = candidates.plane.shape_in(adapters.shape_of(image))

        def done(tidied: CleanedCandidates) -> None:
            if tidied.candidates is now.candidates and tidied.cleaning == self.cleaning:
                now.tidied = tidied
                self._controller.show()

        self._controller.runner.submit(
            lambda _: CleanedCandidates.of(candidates, cleaning, shape),
            done,
            self._controller.tell_error,
            self._controller.set_status,
        )

    def mask_of(self, index: int, of: Draft | None = None) -> Mask:
        """Return a candidate as it would be written; of the object in hand, or of another one."""
        each, image = of or self._controller.open.now, self._controller.image
        candidates = each.candidates
        assert candidates is not None
        if self.cleaning.changes_nothing or image is None:
            return candidates[index]
        known = each.tidied
        if known is None or known.candidates is not candidates or known.cleaning != self.cleaning:
            shape = candidates.plane.shape_in(adapters.shape_of(image))
            each.tidied = known = CleanedCandidates.of(candidates, self.cleaning, shape)
        return known.masks[index]


def _prompts_of(accepted: Draft) -> Prompts | None:
    """Return what the candidates of an object answer."""
    if accepted.candidates is None or accepted.candidates.prompts is not None or accepted.answered is None:
        return None if accepted.candidates is None else accepted.candidates.prompts
    return accepted.answered.prompts.as_prompts()
