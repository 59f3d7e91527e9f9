"""Teacher: a lesson from the window: begun, stopped and continued in a process of its own, and its model used."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.errors import NapariSamError
from napari_sam.plugin.teaching.complete_regions import CompleteRegions
from napari_sam.plugin.teaching.material import TeachingMaterial
from napari_sam.plugin.workers.runner import Work
from napari_sam.training.teaching.lesson import ENDED, MODEL_FILE, Lesson, TeachOptions
from napari_sam.training.teaching.process import LessonProcess
from napari_sam.training.teaching.teach import begun, checked_options, lesson_of, lessons
from napari_sam.weights.taught import gain, keep_model, loss

if TYPE_CHECKING:
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

FEWEST_OBJECTS = 8
# A lesson that wrote its progress so long ago is not running any more; writing the state takes seconds.
FRESH_SECONDS = 120.0
MINUTES = 4.0


class Teacher:
    """Teaches one model at a time.

    Parameters
    ----------
    session
        The image, and the model in use.
    runner
        Takes the snapshot of the objects, in a thread that waits for no model.
    objects
        The objects of the image.

    Attributes
    ----------
    changed
        Emitted when a lesson began, went on or ended, or other objects are there.
    kept
        Emitted with the name of a model that is to be used.
    material, complete
        The images to learn from, and the regions of this one in which every object was accepted.
    lesson
        The lesson that is under way, was stopped, or has ended without a decision; or None.
    is_complete
        Whether every object was accepted where any was.
    minutes
        How long it may take.
    """

    changed = Signal()
    kept = Signal(str)

    def __init__(self, session: Session, runner: Runner, objects: Objects) -> None:
        self._session, self._runner = session, runner
        self.material = TeachingMaterial(session, runner, objects)
        self.complete = CompleteRegions(session, runner, objects)
        self.lesson: Lesson | None = next(iter(lessons()), None)
        self.is_complete, self.minutes = False, MINUTES
        self._process: LessonProcess | None = None
        self._is_beginning, self._seemed_running = False, True
        self._shown: dict[str, Any] = {} if self.lesson is None else self.lesson.progress
        self.material.changed.connect(self.changed.emit)
        self.complete.changed.connect(self.changed.emit)

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> dict[str, Any]:
        """How far the lesson is, as it was last looked at."""
        return self._shown

    @property
    def phase(self) -> str:
        """What the lesson does: "beginning", "measuring", "training", "stopped", "killed", its end, or "" without."""
        if self._is_beginning:
            return "beginning"
        if self.lesson is None:
            return ""
        phase = str(self._shown.get("phase", "stopped"))
        return phase if self.is_running or phase in (*ENDED, "stopped") else "killed"

    @property
    def is_running(self) -> bool:
        """Whether the lesson runs, in a process of this window or of one that was killed."""
        if self._is_beginning:
            return True
        if self._process is not None:
            return self._process.is_running
        age = time.time() - float(self._shown.get("time", 0.0))
        return self._shown.get("phase") in ("measuring", "training") and age < FRESH_SECONDS

    @property
    def why_not(self) -> str:
        """Why nothing can be taught now; empty where it can."""
        if self.is_running:
            return "A model is being taught: stop it first."
        if self.lesson is not None and self.phase in ("stopped", "killed"):
            return ""
        if self.lesson is not None and self.phase == "better":
            return "Use or discard the model that was taught first."
        if not (self.material.has_image or self.material.added):
            return "Accept objects first, or add an image in which you did."
        if self.material.count.objects < FEWEST_OBJECTS:
            return f"Teaching needs {FEWEST_OBJECTS} objects or more: accept more, or add another image."
        return ""

    @property
    def is_displaced(self) -> bool:
        """Whether many objects seem to be shifted, so that the lesson was refused; the next one learns from them."""
        return self.phase == "failed" and bool(self._shown.get("is_displaced"))

    @property
    def result(self) -> str:
        """What came of the lesson, in a sentence; empty before its end."""
        now, phase = self._shown, self.phase
        if phase in ("failed", "killed"):
            return str(now.get("message", "Teaching ended before it was done: teach again to go on."))
        if phase not in ENDED:
            return ""
        figures = f"{gain(now)} on {now.get('held_back', 0)} objects it has not seen"
        if phase != "better":
            return f"Not better: {figures}. The model is not offered."
        return f"Better: {figures}{f'; {elsewhere}' if (elsewhere := loss(now)) else ''}."

    # -- actions -------------------------------------------------------------------------------------------------------

    def teach(self, name: str) -> None:
        """Begin a lesson, or go on with the one that was stopped."""
        if self.why_not:
            self._session.notify(self.why_not)
            return
        if self.lesson is not None and self.phase in ("stopped", "killed"):
            self._start(self.lesson)
            return
        session, seed = self._session, time.time_ns() % 1000
        try:
            options = checked_options(name, session.model, self.minutes, self.is_complete, session.device, None, seed)
            options = replace(options, trust_labels=self.is_displaced)
            images, lesson = self.material.images(), lesson_of(options.name)
        except NapariSamError as error:
            session.notify_error(error)
            return
        self._is_beginning = True
        if self.lesson is not None:
            self.lesson.discard()
        self.lesson, self._process, self._shown = lesson, None, {}
        self._begin(images, options)
        self.changed.emit()

    def _begin(self, images: Any, options: TeachOptions) -> None:
        def failed(error: Exception) -> None:
            self._is_beginning, self.lesson = False, None
            self._session.notify_error(error)
            self.changed.emit()

        def done(lesson: Lesson) -> None:
            self._is_beginning = False
            self._start(lesson)

        self._runner.submit_apart(Work(lambda _: begun(images(), options), done, failed))

    def _start(self, lesson: Lesson) -> None:
        if self._session.is_closed:
            return
        self.lesson, self._shown = lesson, lesson.progress
        try:
            self._process = LessonProcess(lesson)
        except NapariSamError as error:
            self._session.notify_error(error)
        self.changed.emit()

    def poll(self) -> None:
        """Look how far the lesson is."""
        if self.lesson is None or self._is_beginning:
            return
        was_running, before = self._seemed_running, self._shown
        self._shown = self.lesson.progress if self._process is None else self._process.progress
        self._seemed_running = self.is_running
        if self._shown != before or was_running or self._seemed_running:
            if self.phase in ENDED and before.get("phase") not in ENDED:
                self._session.set_status(self.result)
            self.changed.emit()

    def stop(self) -> None:
        """Let the lesson save its state and end; `teach` goes on there, also in another session."""
        if self.lesson is not None and self.is_running and not self._is_beginning:
            try:
                self.lesson.stop()
            except NapariSamError as error:
                self._session.notify_error(error)

    def use(self) -> None:
        """Keep the model that was taught, and use it from now on."""
        lesson = self.lesson
        if lesson is None or self.phase != "better":
            self._session.notify("There is no better model to use: teach one first.")
            return
        try:
            model = keep_model(lesson.folder / MODEL_FILE, lesson.options.name)
        except NapariSamError as error:
            self._session.notify_error(error)
            return
        self.discard()
        self.kept.emit(model.name)

    def discard(self) -> None:
        """Forget the lesson and its model; one that runs is ended."""
        if self._process is not None and self._process.is_running:
            self._process.kill()
        if self.lesson is not None:
            self.lesson.discard()
        self.lesson, self._process, self._shown = None, None, {}
        self.changed.emit()

    def close(self) -> None:
        """Stop the lesson when the window closes; the next one offers to go on."""
        if self._process is not None and self._process.is_running and self.lesson is not None:
            self.stop()
