"""CommitQueue: write accepted drafts into the labels, one at a time and in order."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from psygnal import Signal

from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.journal.journal import Journal
from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.objects.label_layers import Commit, Written

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.plugin.annotation.preview import DraftPreview
    from napari_sam.plugin.inference.requests import PredictionRequests
    from napari_sam.plugin.objects.label_layers import LabelLayers
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session


class CommitQueue:
    """Writes what the user accepts. An accepted mask is never dropped: what cannot be written is open again.

    Parameters
    ----------
    session
        The drafts and the output.
    requests
        Answers drafts that were accepted before their answer came.
    label_layers
        Writes into the output.
    objects
        The journals, and the times of actions.
    preview
        Draws drafts that are open again.

    Attributes
    ----------
    written
        Emitted with a draft that is in the labels.
    drained
        Emitted when no draft is queued or being written.
    """

    written = Signal(object)
    drained = Signal()

    def __init__(
        self,
        session: Session,
        requests: PredictionRequests,
        label_layers: LabelLayers,
        objects: Objects,
        preview: DraftPreview,
    ) -> None:
        self._session, self._requests, self._label_layers = session, requests, label_layers
        self._objects, self._preview = objects, preview
        # When the action was done that is being written, and its first entry in each journal.
        self._written_at, self._firsts = 0, WeakKeyDictionary[Journal, int]()

    def accept(self, at: int | None = None) -> None:
        """Queue the current draft for the labels, and begin another one.

        Parameters
        ----------
        at
            Time on the clock of the session of the action that this is part of; by default an action of its own.
        """
        session, draft = self._session, self._session.current
        waits = session.must_wait or session.is_asked_about(draft)
        if draft.candidates is None and not (waits and session.has_prompts(draft)):
            session.notify("There is no mask to accept: click an object first.")
            return
        if draft.is_answered and self._is_cleaned_away(draft):
            return
        draft.continues = session.continued.wanted
        session.drafts.accept(session.tick() if at is None else at)
        session.prompts.begin(session.current.number)
        self.advance()

    def accept_all(self) -> None:
        """Accept every open draft, oldest first; one undo takes all of them back."""
        drafts, at = self._session.drafts, self._session.tick()
        for draft in drafts.pending:
            draft.accepted_at, draft.continues = at, self._session.continued.wanted
        drafts.queued += drafts.pending
        drafts.pending = []
        self._preview.show_pending()
        if self._session.is_begun or not drafts.queued:
            self.accept(at)
        self.advance()

    def advance(self) -> None:
        """Commit the next queued draft; when the queue is empty, ask about the current one."""
        session, queued = self._session, self._session.drafts.queued
        if session.is_writing:
            return
        if not queued:
            if session.is_begun:
                self._requests.request()
            self.drained.emit()
            return
        if session.is_asked_about(queued[0]):
            return
        if not queued[0].is_answered:
            self._requests.request()
        elif self._is_cleaned_away(queued[0]):
            self.reopen(queued[0])
            self.advance()
        else:
            self._commit(queued.pop(0))

    def on_answered(self) -> None:
        """Go on with the queue, whose first draft may have its answer now."""
        if self._session.drafts.queued:
            self.advance()

    def on_unanswered(self, draft: Draft, status: str) -> None:
        """Open an accepted draft again that gets no answer."""
        self.reopen(draft)
        self._session.set_status(status)
        self.advance()

    def reopen(self, *drafts: Draft) -> None:
        """Let the user change accepted drafts again."""
        for draft in drafts:
            is_free = not self._session.is_begun
            self._session.drafts.give_back(draft, is_free)
            if is_free:
                self._preview.show_all()
        self._preview.show_pending()

    def _is_cleaned_away(self, draft: Draft) -> bool:
        """Say, to the user too, whether the clean-up leaves nothing of a mask."""
        if draft.mask is None or draft.mask.area == 0 or self._session.mask_of(draft).area:
            return False
        self._session.notify(
            "The clean-up leaves nothing of this mask: ask for smaller parts, or choose another candidate."
        )
        return True

    def _commit(self, draft: Draft) -> None:
        session, candidates = self._session, draft.candidates
        assert candidates is not None
        assert session.image is not None
        plane, mask = candidates.plane, session.mask_of(draft)
        session.drafts.writing = draft
        session.set_status("Writing ...")
        replaced = draft.replaces if draft.replaces is not None and draft.replaces.plane == plane else None
        commit = Commit(
            plane,
            mask,
            session.overlap,
            lambda layer, result: self._on_written(layer, result, mask),
            self._on_failed,
            replaced,
            _prompts_of(draft),
            self._requests.provenance_of(draft),
            session.class_name,
            self._firsts if self._written_at == draft.accepted_at else {},
            None if replaced is not None else session.continued.label_for(draft, session.target),
        )
        self._label_layers.commit(session.image, session.target if replaced is None else replaced.layer, commit)

    def _on_written(self, layer: Labels, result: Written, mask: Mask) -> None:
        session = self._session
        if session.target is None and layer in session.viewer.layers:
            session.set_target(layer)
        draft, session.drafts.writing = session.drafts.writing, None
        assert draft is not None
        if self._written_at != draft.accepted_at:
            self._written_at, self._firsts = draft.accepted_at, WeakKeyDictionary()
        journal = self._objects.note_commit(layer, draft.accepted_at)
        if journal is not None and result.number is not None:
            self._firsts.setdefault(journal.journal, result.number)
        session.prompts.remove(draft.number)
        self.written.emit(draft)
        self._preview.show()
        session.continued.written = layer, result.label
        planes = "" if result.planes == 1 else f", in {result.planes} planes now"
        rest = "" if result.area == mask.area else f" of {mask.area}, the rest belongs to other labels"
        session.set_status(f"Accepted as label {result.label}{planes} ({result.area} px{rest}).")
        self.advance()

    def _on_failed(self, error: Exception) -> None:
        drafts = self._session.drafts
        assert drafts.writing is not None
        self.reopen(drafts.writing, *drafts.queued)
        self._session.notify_error(error)
        if self._session.is_begun:
            self._requests.request()  # Prompts that were added since have no answer yet.
        self.drained.emit()


def _prompts_of(draft: Draft) -> Prompts | None:
    """Return the prompts that the candidates of a draft answer."""
    if draft.candidates is None or draft.candidates.prompts is not None or draft.answered is None:
        return None if draft.candidates is None else draft.candidates.prompts
    return draft.answered.prompts.as_prompts()
