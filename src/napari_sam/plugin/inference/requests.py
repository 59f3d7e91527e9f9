"""PredictionRequests: questions about the open objects, one at a time, and what becomes of their answers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_sam.core.masks import Mask
from napari_sam.errors import NapariSamError
from napari_sam.plugin.drafts import Draft
from napari_sam.plugin.inference.hover import CursorPosition
from napari_sam.plugin.inference.jobs import Answer, CleanedCandidates, Request
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers.adapters import LayerPrompts
from napari_sam.plugin.workers.runner import Work, apart, collect_garbage_once
from napari_sam.segmenter import Candidates

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.core.geometry import Plane
    from napari_sam.plugin.controller import Controller

# A mask in a box of more pixels takes too long to be tidied at every move of the mouse.
MAX_SYNC_PIXELS = 512**2


class PredictionRequests:
    """Asks for masks; the newest question wins, but for that of an object which was accepted.

    Parameters
    ----------
    controller
        Whose open objects, prompts and layers these are.

    Attributes
    ----------
    warming
        Whether the model is being loaded ahead of the first prompt.
    """

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self.warming = False
        self._latest: tuple[Draft, Request] | None = None
        self._told: tuple[str, ...] = ()

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way."""
        return self._latest is not None

    def is_about(self, each: Draft) -> bool:
        """Say whether an answer about an object is under way."""
        return self._latest is not None and self._latest[0] is each

    def give_up(self, each: Draft | None = None) -> None:
        """Wait no more for the answer about an object, or for any."""
        if each is None or self.is_about(each):
            self._latest = None

    def request(self) -> None:
        """Ask for the masks of the prompts as they are now; an older answer that is still to come is dropped.

        First those of the object that was accepted first and has no answer yet, else those of the object in hand.
        """
        if self._controller.image is None or self._controller.must_wait:
            return
        asked = self._controller.open.waiting[0] if self._controller.open.waiting else self._controller.open.now
        if not self._controller.has_prompts(asked):
            self._do_without_answer(asked)
            return
        try:
            request = self._request_of(asked, self._controller.image)
            if request is None or self._take_accepted(asked, request) or self._take_hover(asked, request):
                return
            unsearched = self._controller.target is not None and not self._controller.output.is_searched(
                self._controller.target
            )
            job = self._controller.jobs.answer(request, self._controller.target if unsearched else None)
        except NapariSamError as error:
            self._do_without_answer(asked)
            self._controller.notify(str(error))
            return
        self._controller.hover.leave()
        self.warming, asked.is_asked = False, True
        self._latest = asked, request
        if asked is self._controller.open.now:
            self._controller.show_pending()
        self._controller.set_status("Segmenting ...")
        self._controller.runner.submit(
            job,
            lambda answer: self._on_answer(request, answer),
            lambda error: self._on_error(request, error),
            self._controller.set_status,
        )

    def _request_of(self, asked: Draft, image: Image) -> Request | None:
        """Return the question to ask about an object; None where it was asked already, or there is nothing to ask.

        Raises
        ------
        NapariSamError
            The plane in view has no pixels of the image, or the prompts fit nothing.
        """
        plane = adapters.plane_of(self._controller.viewer, image)
        prompts = self.prompts_on(asked, image, plane)
        self._tell_ignored(prompts.ignored)
        if prompts.is_empty:
            status = self._controller.status if prompts.ignored else "Your prompts lie on another plane."
            self._do_without_answer(asked, status)
            return None
        if self._is_known(asked, plane, prompts):
            return None
        if asked.downsample is None:
            asked.downsample = adapters.downsample_of(self._controller.viewer, image, plane)
        previous = _previous(asked, prompts)
        return Request(
            image,
            self._controller.channels,
            plane,
            prompts,
            previous,
            asked.downsample,
            self._controller.accepting.cleaning,
        )

    def prompts_on(self, asked: Draft, image: Image, plane: Plane) -> LayerPrompts:
        """Return the prompts of an object on a plane; of one of the output also its mask, if no other is drawn."""
        prompts = adapters.prompts_of(self._controller.points, self._controller.shapes, image, plane, asked.number)
        old = asked.refining
        if old is not None and prompts.mask is None and prompts.box is None and old.plane == plane:
            prompts = replace(prompts, mask=old.hint)
        return prompts

    def _do_without_answer(self, asked: Draft, status: str = "") -> None:
        """Show no answer to an object; where it was accepted already, the user goes on with it."""
        if asked in self._controller.open.waiting:
            self._controller.accepting.reopen(asked)
            self._controller.set_status(status)
            self._controller.accepting.advance()
        else:
            self.forget_answer(status)

    def _tell_ignored(self, sentences: tuple[str, ...]) -> None:
        """Say once why a prompt does not count; the others go on counting."""
        for sentence in sentences:
            if sentence not in self._told:
                self._controller.notify(sentence)
        self._told = sentences

    def _is_known(self, asked: Draft, plane: Plane, prompts: LayerPrompts) -> bool:
        """Say whether the same was asked last: napari tells of one click by several events."""
        last = self._latest[1] if self._latest is not None and self.is_about(asked) else asked.answered
        return (
            last is not None
            and last.plane == plane
            and len(last.prompts.points) == len(prompts.points)
            and prompts.goes_on_from(last.prompts)
        )

    def warm_up(self) -> None:
        """Load the model before the first click asks for it; should that fail, the click will tell."""
        self.look()
        if self._controller.image is not None:
            try:
                build = self._controller.jobs.builder(self._controller.image, self._controller.channels)
            except NapariSamError:
                return
            self.warming = True
            self._controller.runner.submit(build, self._on_warm, self._on_warm, self._controller.set_status)

    def look(self) -> None:
        """Look for work on the image that was left, where nobody has yet; that waits for no model."""
        image = self._controller.image
        look = None if image is None else self._controller.journals.look_job(image)
        if look is not None:
            notify = lambda _: self._controller.changed.emit()  # noqa: E731
            apart(self._controller.runner)(Work(lambda _: look(), notify, notify))

    def _on_warm(self, _: Any) -> None:
        collect_garbage_once()
        self.warming = False
        self._controller.set_status("")
        self._controller.ahead.rested()

    def _on_answer(self, request: Request, answer: Answer) -> None:
        if self._latest is None or request is not self._latest[1]:
            return
        (asked, _), self._latest = self._latest, None
        candidates = answer.candidates
        if answer.target is not None and answer.target in self._controller.viewer.layers:
            self._controller.output.watch(answer.target, answer.highest)
        asked.candidates, asked.tidied, asked.answered = candidates, answer.clean, request
        asked.is_asked = False
        if asked.step:
            asked.size, asked.step = (candidates.best_index + asked.step) % len(candidates), 0
        asked.selected = candidates.best_index if asked.size is None else asked.size
        goes_on = request.previous is not None or asked.size is not None
        asked.chosen = candidates[asked.selected] if goes_on else None
        if asked is self._controller.open.now:
            self._controller.show()
        elif asked in self._controller.open.pending:
            self._controller.show_parked()
        self._controller.set_status(
            "" if candidates.best.area else "Nothing was found there: add a point or draw a box."
        )
        if self._controller.open.waiting:
            self._controller.accepting.advance()
        self._controller.seen.look_at(candidates)
        self._controller.runner.wake()
        self._controller.answered.emit()

    def _on_error(self, request: Request, error: Exception) -> None:
        if self._latest is None or request is not self._latest[1]:
            return
        (asked, _), self._latest = self._latest, None
        self._do_without_answer(asked)
        self._controller.notify(sentence(error))

    def forget_answer(self, status: str = "") -> None:
        """Show no answer to the object in hand."""
        self.give_up(self._controller.open.now)
        self._controller.open.now.forget_answer()
        self._controller.drawing.hide()
        self._controller.set_status(status)

    def _take_accepted(self, asked: Draft, request: Request) -> bool:
        """Answer the prompts that an object was reopened with by the mask that it has; say whether it is that."""
        old, known = asked.refining, asked.reopened
        if old is None or known is None or request.plane != old.plane or not request.prompts.is_like(known):
            return False
        selected = 0 if asked.size is None else asked.size
        # The other sizes are unknown until they are asked for.
        candidates = Candidates((old.mask,) * 3, selected, old.plane, request.prompts.as_prompts(), request.downsample)
        self._controller.hover.leave()
        self._controller.seen.forget()
        self._latest = asked, request
        asked.selected = selected
        clean = CleanedCandidates(candidates, request.cleaning, candidates.masks)  # It was tidied when it was accepted.
        self._on_answer(request, Answer(candidates, clean=clean))
        asked.chosen = None
        return True

    def ask_for_another(self, asked: Draft, step: int = 0, size: int | None = None) -> None:
        """Ask for the masks of an object that is shown as it was accepted.

        Shown is the one of `size`, or the one `step` sizes from what it was; from the best one where that is unknown.
        """
        if size is None and asked.size is not None:
            size = (asked.size + step) % 3
        asked.size, asked.step = size, step if size is None else 0
        asked.reopened = asked.answered = None
        self.request()

    def _take_hover(self, asked: Draft, request: Request) -> bool:
        """Make the mask under the cursor the answer to a click there; say whether there is one."""
        prompts = request.prompts
        alone = len(prompts.points) == 1 and prompts.labels[0] == 1 and prompts.box is None and prompts.mask is None
        if not alone or (
            self._controller.target is not None and not self._controller.output.is_searched(self._controller.target)
        ):
            return False
        (row, col) = prompts.points[0]
        spot = CursorPosition(request.plane, (float(row), float(col)), request.downsample)
        found = self._controller.hover.take(spot, self._controller.ahead.is_encoding)
        if found is None or not (self._controller.accepting.cleaning.changes_nothing or is_small(found[-1])):
            return False
        self._latest = asked, request
        self._on_answer(request, Answer(found))
        asked.chosen = found[asked.selected]
        return True


def is_small(mask: Mask) -> bool:
    """Say whether a mask is tidied in no time."""
    return math.prod(mask.box.pixel_shape) <= MAX_SYNC_PIXELS


def sentence(error: Exception) -> str:
    """Return what to tell the user of an error."""
    if isinstance(error, NapariSamError):
        return str(error)
    return f"Something went wrong that should not ({type(error).__name__}: {error}): please report it."


def _previous(asked: Draft, prompts: LayerPrompts) -> Mask | None:
    """Return the candidate that the user chose, if the prompts only go on from those that it answered."""
    if asked.answered is None or asked.chosen is None or not prompts.goes_on_from(asked.answered.prompts):
        return None
    return asked.chosen
