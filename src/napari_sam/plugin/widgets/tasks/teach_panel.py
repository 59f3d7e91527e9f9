"""Panel for the task Teach: which images, how long, the curve, the result, and the models that were taught."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from magicgui.widgets import ComboBox
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_sam.errors import NapariSamError
from napari_sam.plugin.widgets.buttons import Bar, Line, beside, push_button, rows_into
from napari_sam.plugin.widgets.tasks.lesson_curve import LessonCurve
from napari_sam.segmenter import model_names
from napari_sam.weights.taught import base_of, export_model, import_model, remove_model, taught_models

if TYPE_CHECKING:
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.teaching.teacher import Teacher

POLL_MS = 700
MOST_MINUTES = 600
PHASES = {
    "beginning": "Reading the objects ...",
    "measuring": "Measuring on objects that it does not learn from ...",
    "stopped": "Stopped. Teach goes on there.",
    "killed": "Ended before it was done. Teach goes on there.",
}


class TeachPanel(QWidget):
    """Teaches a model in the background, and manages the models that were taught.

    Parameters
    ----------
    session
        The image, and the model in use.
    teacher
        The task.
    model
        The choice of the model in use, which also offers the models that were taught.
    """

    def __init__(self, session: Session, teacher: Teacher, model: ComboBox) -> None:
        super().__init__()
        self._session, self._teacher, self._model = session, teacher, model
        self._others = [choice for choice in model.choices if choice not in model_names()]
        self._build_material()
        self._build_lesson()
        self._build_models()
        self._timer = QTimer(self)
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(teacher.poll)
        self.setMinimumWidth(1)
        self._lay_out()
        teacher.changed.connect(self.refresh)
        teacher.kept.connect(self._offer)

    def _build_material(self) -> None:
        material = self._teacher.material
        self.step, self.images = Line(), Line()
        self.add = push_button("Add image ...", "Learn also from another image in which you accepted objects.")
        self.clear = push_button("Only this one", "Learn from the image in the window only.")
        self.complete = QCheckBox("I accepted every object there is")
        self.complete.setToolTip(
            "Check this if no object was left out in the planes where you accepted any: the rest is then background, "
            "and All finds less there. Otherwise nothing is learned where you accepted nothing."
        )
        self.complete.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.complete.toggled.connect(self._on_complete)
        self._build_regions()
        self.add.clicked.connect(self._ask_image)
        self.clear.clicked.connect(lambda: material.clear())

    def _build_regions(self) -> None:
        regions = self._teacher.complete
        self.regions = push_button("Regions", "Mark parts of the plane in view in which you accepted every object.")
        menu = QMenu(self.regions)
        menu.addAction("Draw a rectangle", regions.draw)
        menu.addAction("The drawn rectangles are complete", regions.mark_drawn)
        menu.addAction("This whole plane is complete", regions.mark_plane)
        menu.addAction("Forget the marks of this plane", regions.unmark_plane)
        self.regions.setMenu(menu)

    def _build_lesson(self) -> None:
        teacher = self._teacher
        self.name, self.minutes = QLineEdit("mine"), QSpinBox()
        self.name.setToolTip("Name of the new model.")
        self.minutes.setRange(1, MOST_MINUTES)
        self.minutes.setValue(round(teacher.minutes))
        self.minutes.setSuffix(" min")
        self.minutes.setToolTip("How long it may take. It learns in the background, while you go on.")
        self.minutes.valueChanged.connect(self._on_minutes)
        self.teach, self.stop = push_button("", ""), push_button("Stop", "")
        self.use, self.discard = push_button("Use", ""), push_button("Discard", "")
        self.bar, self.curve, self.result = Bar(), LessonCurve(), Line(3)
        self.teach.clicked.connect(lambda: teacher.teach(self.name.text().strip()))
        self.stop.clicked.connect(lambda: teacher.stop())
        self.use.clicked.connect(lambda: teacher.use())
        self.discard.clicked.connect(lambda: teacher.discard())

    def _build_models(self) -> None:
        self.models = push_button("Mine", "The models that were taught here: use, export or remove them.")
        self.menu = QMenu(self.models)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self.fill)
        self.models.setMenu(self.menu)

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        column.setSpacing(3)  # Or three lines of the result do not fit a small screen.
        rows_into(column, [[self.step], [self.images], [self.add, self.clear], [beside(self.complete, self.regions)]])
        row = QHBoxLayout()
        for widget, share in ((QLabel("Name"), 0), (self.name, 1), (self.minutes, 0)):
            row.addWidget(widget, share)
        column.addLayout(row)
        rows_into(column, [[self.teach, self.stop], [self.bar], [self.curve], [self.result]])
        rows_into(column, [[self.use, self.discard, self.models]])
        column.addStretch()

    def fill(self) -> None:
        """List the models that were taught, each with what can be done with it."""
        self.menu.clear()
        for model in taught_models():
            own = self.menu.addMenu(model.name)
            assert own is not None
            own.setToolTipsVisible(True)
            own.addAction(model.summary).setEnabled(False)
            own.addAction("Use", partial(self._offer, model.name))
            own.addAction("Export ...", partial(self._ask_export, model.name))
            own.addAction("Remove", partial(self._change_models, partial(remove_model, model.name)))
        self.menu.addAction("Import ...", self._ask_import)

    def close_activity(self) -> None:
        """Stop following the task."""
        self._timer.stop()
        self._teacher.changed.disconnect(self.refresh)
        self._teacher.kept.disconnect(self._offer)

    # -- choices -------------------------------------------------------------------------------------------------------

    def _on_complete(self, is_on: bool) -> None:
        self._teacher.is_complete = is_on

    def _on_minutes(self, minutes: int) -> None:
        self._teacher.minutes = float(minutes)
        self.refresh()

    def _ask_image(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self, "Images in which you accepted objects, or their journals")
        for name in names:
            self._teacher.material.add(Path(name))

    def _ask_export(self, model: str) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Export the model", f"{model}.safetensors", "(*.safetensors)")
        if name:
            path = Path(name if name.endswith(".safetensors") else f"{name}.safetensors")
            self._change_models(lambda: export_model(model, path, overwrite=True))

    def _ask_import(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "A model that somebody exported", "", "(*.safetensors)")
        if name:
            self._change_models(lambda: import_model(Path(name)))

    def _change_models(self, change: Callable[[], object]) -> None:
        try:
            change()
        except NapariSamError as error:
            self._session.notify_error(error)
        self._offer(str(self._model.value))

    # -- showing -------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the present state."""
        teacher, phase = self._teacher, self._teacher.phase
        if teacher.is_running != self._timer.isActive():
            self._timer.start() if teacher.is_running else self._timer.stop()
        if not self.isVisible():
            return
        teacher.material.count_again()
        self.step.setText(self._next_step())
        self._refresh_material()
        why_not, is_running = teacher.why_not, teacher.is_running
        goes_on = teacher.lesson is not None and phase in ("stopped", "killed")
        begin = "Teach anyway" if teacher.is_displaced else f"Teach, about {self.minutes.value()} min"
        self.teach.setText("Go on" if goes_on else begin)
        self.teach.setEnabled(not why_not)
        self.teach.setToolTip(why_not or f"Teach {base_of(self._session.model)} your objects, in the background.")
        self.stop.setEnabled(is_running and phase != "beginning")
        self.stop.setToolTip("Stop; Teach goes on there later." if is_running else "Nothing is taught now.")
        for widget in (self.name, self.minutes, self.complete):
            widget.setEnabled(not is_running and not goes_on)
        self._refresh_lesson()

    def showEvent(self, event: object) -> None:  # noqa: N802  Qt's name.
        """Show the present state, which was left out while the panel was hidden."""
        self.refresh()

    def _refresh_material(self) -> None:
        material = self._teacher.material
        image, others = self._session.image, len(material.added)
        names = [image.name] if material.has_image and image is not None else []
        more = f"{others} other image{'' if others == 1 else 's'}" if others else ""
        where = " and ".join([*names, *([more] if more else [])]) or "no image yet"
        self.images.setText(f"{material.count.text}: {where}")
        self.regions.setText(self._teacher.complete.text)
        self.clear.setEnabled(bool(others))
        self.clear.setToolTip("Learn from the image in the window only." if others else "No other image was added.")

    def _refresh_lesson(self) -> None:
        teacher, now = self._teacher, self._teacher.progress
        steps, phase = int(now.get("steps", 0) or 0), teacher.phase
        self.bar.show_share(now.get("step", 0) / steps if steps and teacher.is_running else None)
        self.curve.show_curve(now.get("curve", []), steps)
        self.result.setText(teacher.result)
        is_better, has_lesson = phase == "better", teacher.lesson is not None
        self.use.setEnabled(is_better)
        self.use.setToolTip("Keep the model under its name, and use it now." if is_better else "No better model yet.")
        self.discard.setEnabled(has_lesson)
        self.discard.setToolTip("Forget what was taught." if has_lesson else "Nothing was taught that is not decided.")

    def _next_step(self) -> str:
        """Return what the user can do next, or how far the lesson is, in one line."""
        teacher, now = self._teacher, self._teacher.progress
        phase, steps = teacher.phase, int(now.get("steps", 0) or 0)
        if phase == "training" and steps:
            step, seconds = int(now.get("step", 0)), float(now.get("seconds", 0.0))
            left = (steps - step) * seconds / max(step, 1) / 60
            return f"Learning: step {step} of {steps}, about {max(round(left), 1)} min left"
        if phase == "training":
            return "Learning: taking the time of the first steps ..."
        if phase in PHASES:
            return PHASES[phase]
        if phase == "better":
            return "Use takes the new model; Discard forgets it."
        return teacher.why_not or "Teach learns from what you accepted, while you go on."

    def _offer(self, name: str) -> None:
        """Offer the models that there are now, and use one of them."""
        self._model.choices = [*model_names(), *self._others]
        if name in self._model.choices:
            self._model.value = name
