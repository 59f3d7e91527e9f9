"""PredictionRequests: ask the model about drafts, one request at a time, and keep the answers with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.core.masks import Mask
from napari_sam.errors import NapariSamError
from napari_sam.journal.discovery import provenance
from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.inference.hover_search import CursorPosition
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers.adapters import LayerPrompts
from napari_sam.plugin.request_types import CleanedCandidates, Prediction, PredictionRequest, is_small
from napari_sam.plugin.workers.runner import collect_garbage_once
from napari_sam.segmenter import Candidates

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.core.cleaning import Cleaning
    from napari_sam.core.geometry import Plane
    from napari_sam.journal.entries import Provenance
    from napari_sam.plugin.inference.hover_search import Hover
    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.inference.prefetch import Prefetcher
    from napari_sam.plugin.objects.label_layers import LabelLayers
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner


class PredictionRequests:
    """Sends requests; the newest one wins, except over that of a draft that was accepted.

    Parameters
    ----------
    session
        The drafts and what they are asked about.
    runner
        Runs the jobs.
    jobs
        Makes them.
    hover
        Its mask answers a click at the same position.
    prefetcher
        Tells whether a better hover mask is still to come.
    label_layers
        Tells whether the highest label of the output is known, and learns it with an answer.

    Attributes
    ----------
    asked
        Emitted with the draft when a request was sent.
    answered
        Emitted with the draft when it has an answer.
    unanswered
        Emitted with an accepted draft that gets no answer, and a status line.
    cleared
        Emitted when the current draft lost its answer.
    cleaned
        Emitted when the current draft was cleaned in another way.
    warmed
        Emitted when the model was loaded ahead of the first prompt.
    """

    asked = Signal(object)
    answered = Signal(object)
    unanswered = Signal(object, str)
    cleared = Signal()
    cleaned = Signal()
    warmed = Signal()

    def __init__(
        self,
        session: Session,
        runner: Runner,
        jobs: Jobs,
        hover: Hover,
        prefetcher: Prefetcher,
        label_layers: LabelLayers,
    ) -> None:
        self._session, self._runner, self._jobs = session, runner, jobs
        self._hover, self._prefetcher, self._label_layers = hover, prefetcher, label_layers
        self._notified: tuple[str, ...] = ()

    def cancel(self, draft: Draft | None = None) -> None:
        """Drop the answer that is under way for a draft, or for any."""
        if draft is None or self._session.is_asked_about(draft):
            self._session.request = None

    def request(self) -> None:
        """Ask about the prompts as they are now; an older answer that is still under way is dropped.

        The accepted draft that waits longest for its answer comes first, else the current one.
        """
        session = self._session
        if session.image is None or session.must_wait:
            return
        draft = session.drafts.queued[0] if session.drafts.queued else session.current
        if not session.has_prompts(draft):
            self._leave_unanswered(draft)
            return
        try:
            request = self._new_request(draft)
            if request is None or self._take_accepted(draft, request) or self._take_hover(draft, request):
                return
            job = self._jobs.answer(request, self._unsearched_target)
        except NapariSamError as error:
            self._leave_unanswered(draft)
            session.notify(str(error))
            return
        self._hover.leave()
        session.is_warming, draft.is_asked = False, True
        session.request = draft, request
        self.asked.emit(draft)
        session.set_status("Segmenting ...")
        self._runner.submit(
            job,
            lambda prediction: self._on_answer(request, prediction),
            lambda error: self._on_error(request, error),
            session.set_status,
        )

    def warm_up(self) -> None:
        """Load the model before the first click needs it; that click reports an error."""
        session = self._session
        if session.image is not None:
            try:
                build = self._jobs.builder(session.image, session.channels)
            except NapariSamError:
                return
            session.is_warming = True
            self._runner.submit(build, self._on_warm, self._on_warm, session.set_status)

    def ask_for_another(self, draft: Draft, step: int = 0, size: int | None = None) -> None:
        """Ask for the candidates of a draft that shows the mask of the object that it replaces.

        The answer shows candidate `size`, or the one `step` sizes from the shown one; from the best one where that
        is unknown.
        """
        if size is None and draft.size is not None:
            size = (draft.size + step) % 3
        draft.size, draft.step = size, step if size is None else 0
        draft.reopened = draft.answered = None
        self.request()

    def forget_answer(self, status: str = "") -> None:
        """Show no answer for the current draft."""
        self.cancel(self._session.current)
        self._session.current.forget_answer()
        self.cleared.emit()
        self._session.set_status(status)

    def set_cleaning(self, cleaning: Cleaning) -> None:
        """Clean masks in another way from now on, the shown ones too."""
        session = self._session
        session.cleaning = cleaning
        draft, image, candidates = session.current, session.image, session.candidates
        if candidates is None or image is None or session.is_busy or session.must_wait:
            return
        shape = candidates.plane.shape_in(adapters.shape_of(image))

        def done(cleaned: CleanedCandidates) -> None:
            if cleaned.candidates is draft.candidates and cleaned.cleaning == session.cleaning:
                draft.cleaned = cleaned
                self.cleaned.emit()

        self._runner.submit(
            lambda _: CleanedCandidates.of(candidates, cleaning, shape), done, session.notify_error, session.set_status
        )

    def provenance_of(self, draft: Draft) -> Provenance | None:
        """Return how the shown candidate of a draft was made, or None where that is unknown."""
        if draft.is_as_accepted and draft.replaces is not None:
            made = draft.replaces.made
            return None if made is None else replace(made, is_propagated=False)  # Accepting it as it is counts, too.
        segmenter, mask, candidates = self._jobs.segmenter, draft.mask, draft.candidates
        if segmenter is None or mask is None or candidates is None:
            return None
        return provenance(segmenter.encoder, mask, candidates.name_of(mask), draft.downsample)

    @property
    def _unsearched_target(self) -> Labels | None:
        """The output, if its highest label is not known yet."""
        target = self._session.target
        return None if target is None or self._label_layers.is_searched(target) else target

    def _new_request(self, draft: Draft) -> PredictionRequest | None:
        """Return the request for a draft; None where it was sent already, or where there is nothing to ask.

        Raises
        ------
        NapariSamError
            The plane in view has no pixels of the image, or the prompts fit nothing.
        """
        session = self._session
        request = resolve(session, draft)
        if request is None:
            return None
        self._notify_ignored(request.prompts.ignored)
        if request.prompts.is_empty:
            status = session.status if request.prompts.ignored else "Your prompts lie on another plane."
            self._leave_unanswered(draft, status)
            return None
        # napari reports one click by several events.
        latest = session.request[1] if session.request and session.is_asked_about(draft) else draft.answered
        if latest is not None and request.is_like(latest):
            return None
        draft.downsample = request.downsample
        return request

    def _notify_ignored(self, messages: tuple[str, ...]) -> None:
        """Say once why a prompt does not count; the others still do."""
        for message in messages:
            if message not in self._notified:
                self._session.notify(message)
        self._notified = messages

    def _leave_unanswered(self, draft: Draft, status: str = "") -> None:
        if draft in self._session.drafts.queued:
            self.unanswered.emit(draft, status)
        else:
            self.forget_answer(status)

    def _on_warm(self, _: Any) -> None:
        collect_garbage_once()
        self._session.is_warming = False
        self._session.set_status("")
        self.warmed.emit()

    def _on_answer(self, request: PredictionRequest, prediction: Prediction) -> None:
        session = self._session
        if session.request is None or request is not session.request[1]:
            return  # A newer request was sent since.
        (draft, _), session.request = session.request, None
        candidates = prediction.candidates
        if prediction.target is not None and prediction.target in session.viewer.layers:
            self._label_layers.watch(prediction.target, prediction.highest)
        draft.candidates, draft.cleaned, draft.answered = candidates, prediction.cleaned, request
        draft.is_asked = False
        if draft.step:
            draft.size, draft.step = (candidates.best_index + draft.step) % len(candidates), 0
        draft.selected = candidates.best_index if draft.size is None else draft.size
        is_refined = request.previous is not None or draft.size is not None
        draft.chosen = candidates[draft.selected] if is_refined else None
        session.set_status("" if candidates.best.area else "Nothing was found there: add a point or draw a box.")
        self.answered.emit(draft)
        self._runner.wake()
        session.answered.emit()

    def _on_error(self, request: PredictionRequest, error: Exception) -> None:
        session = self._session
        if session.request is None or request is not session.request[1]:
            return
        (draft, _), session.request = session.request, None
        self._leave_unanswered(draft)
        session.notify_error(error)

    def _take_accepted(self, draft: Draft, request: PredictionRequest) -> bool:
        """Answer the unchanged prompts of a reopened object by its accepted mask; say whether they are unchanged."""
        replaced, prompts = draft.replaces, draft.reopened
        if replaced is None or prompts is None:
            return False
        if request.plane != replaced.plane or not request.prompts.is_like(prompts):
            return False
        selected = 0 if draft.size is None else draft.size
        # The other sizes are unknown until they are asked for.
        candidates = Candidates(
            (replaced.mask,) * 3, selected, replaced.plane, request.prompts.as_prompts(), request.downsample
        )
        self._hover.leave()
        self._session.request = draft, request
        draft.selected = selected
        # It was cleaned when it was accepted.
        cleaned = CleanedCandidates(candidates, request.cleaning, candidates.masks)
        self._on_answer(request, Prediction(candidates, cleaned=cleaned))
        draft.chosen = None
        return True

    def _take_hover(self, draft: Draft, request: PredictionRequest) -> bool:
        """Answer a single click by the hover mask at its position; say whether there is one."""
        prompts = request.prompts
        is_click = len(prompts.points) == 1 and prompts.labels[0] == 1 and prompts.box is None and prompts.mask is None
        if not is_click or self._unsearched_target is not None:
            return False
        (row, col) = prompts.points[0]
        position = CursorPosition(request.plane, (float(row), float(col)), request.downsample)
        candidates = self._hover.take(position, self._prefetcher.is_encoding)
        if candidates is None or not (request.cleaning.changes_nothing or is_small(candidates[-1])):
            return False
        self._session.request = draft, request
        self._on_answer(request, Prediction(candidates))
        draft.chosen = candidates[draft.selected]
        return True


def resolve(session: Session, draft: Draft) -> PredictionRequest | None:
    """Return the request that a draft's prompts make in the present view, or None without an image.

    Changes nothing, so that two requests can be compared to find duplicates.

    Raises
    ------
    NapariSamError
        The plane in view has no pixels of the image, or the prompts fit nothing.
    """
    image = session.image
    if image is None:
        return None
    plane = adapters.plane_of(session.viewer, image)
    prompts = prompts_on(session, draft, plane)
    downsample = draft.downsample
    if downsample is None:
        downsample = adapters.downsample_of(session.viewer, image, plane)
    previous = _previous(draft, prompts)
    return PredictionRequest(image, session.channels, plane, prompts, previous, downsample, session.cleaning)


def prompts_on(session: Session, draft: Draft, plane: Plane) -> LayerPrompts:
    """Return the prompts of a draft on a plane; the mask of the object that it replaces counts if no other is drawn."""
    assert session.image is not None
    layers = session.prompts
    prompts = adapters.prompts_of(layers.points, layers.shapes, session.image, plane, draft.number)
    replaced = draft.replaces
    if replaced is not None and prompts.mask is None and prompts.box is None and replaced.plane == plane:
        prompts = replace(prompts, mask=replaced.hint)
    return prompts


def _previous(draft: Draft, prompts: LayerPrompts) -> Mask | None:
    """Return the candidate that the user chose, if the prompts only add points to those that it answered."""
    if draft.answered is None or draft.chosen is None or not prompts.goes_on_from(draft.answered.prompts):
        return None
    return draft.chosen
