"""Panel for the task Through planes: axis and range, following, the confidence of each plane, 3-D and tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QHBoxLayout, QLabel, QSpinBox, QVBoxLayout, QWidget

from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.propagation.measures import measures_text
from napari_sam.plugin.widgets.buttons import Bar, Line, push_button, rows_into
from napari_sam.plugin.widgets.tasks.confidence_plot import ConfidencePlot
from napari_sam.plugin.workers.activity import Activity

if TYPE_CHECKING:
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.propagation.through_planes import ThroughPlanes
    from napari_sam.plugin.session import Session

# Room for the numbers of planes, in pixels; napari's theme takes 90 and more, half of them for the buttons. Without
# buttons Qt would leave no room for the number in this theme, so they have no width.
NARROW = 40
SPIN_STYLE = (
    f"QSpinBox {{ min-width: {NARROW}px; padding: 1px 4px }}"
    "QSpinBox::up-button, QSpinBox::down-button, QSpinBox::up-arrow, QSpinBox::down-arrow { width: 0px; height: 0px }"
)
FOLLOW_FIRST = "Follow the object first."
NO_MASK = "The object has no mask in this plane: click it to add one."


class PlanePanel(QWidget):
    """Follows objects through planes, and shows how sure each plane is.

    Parameters
    ----------
    session
        The image and the drafts.
    planes
        The task.
    keys
        The keys of the buttons.
    """

    def __init__(self, session: Session, planes: ThroughPlanes, keys: LayerKeys) -> None:
        super().__init__()
        self._session, self._planes, self._layer_keys = session, planes, keys
        self._activity = Activity("Following objects", planes.cancel)
        self._axes: list[int] = []
        self._is_filling = False
        self._build_range()
        self._build_buttons()
        self.plot = ConfidencePlot(planes.go_to)
        self.measures = Line()
        # Before it is shown in napari's theme, which is narrower, Qt takes it for too wide for the dock.
        self.setMinimumWidth(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        rows_into(column, [[self.step]])
        column.addLayout(self._range_row())
        rows_into(column, [[self.follow, self.cancel], [self.bar]])
        column.addWidget(self.plot, 1)
        rows_into(column, [[self.next, self.lock], [self.measures]])
        rows_into(column, [[self.remove, self.volume, self.tracks, self.divide]])
        planes.changed.connect(self.refresh)

    def _build_range(self) -> None:
        self.step, self.bar = Line(), Bar()
        self.axis = QComboBox()
        self.axis.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.axis.setMinimumContentsLength(2)
        self.axis.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.axis.activated.connect(lambda at: self._planes.choice.choose_axis(self._axes[at]))
        self.first, self.last = QSpinBox(), QSpinBox()
        self.axis.setStyleSheet(f"min-width: {NARROW}px; padding: 1px 4px")
        for box in (self.first, self.last):
            box.setKeyboardTracking(False)
            box.setStyleSheet(SPIN_STYLE)
            box.valueChanged.connect(self._on_range)

    def _range_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        for widget in (QLabel("Axis"), self.axis, QLabel("from"), self.first, QLabel("to"), self.last):
            row.addWidget(widget, int(widget in (self.axis, self.first, self.last)))
        return row

    def _build_buttons(self) -> None:
        planes, keys = self._planes, self._layer_keys
        self.follow, self.cancel = push_button("", ""), push_button("Cancel", "")
        self.next, self.lock = push_button("", ""), push_button("", "")
        self.remove, self.volume = push_button("Not here", ""), push_button("3-D", "")
        self.volume.setCheckable(True)
        self.tracks, self.divide = push_button("Tracks", ""), push_button("Divide", "")
        self.follow.clicked.connect(lambda: keys.run("follow"))
        self.cancel.clicked.connect(lambda: planes.cancel())
        self.next.clicked.connect(lambda: keys.run("next_candidate"))
        self.lock.clicked.connect(self._on_lock)
        self.remove.clicked.connect(lambda: planes.remove())
        self.volume.clicked.connect(self._on_volume)
        self.tracks.clicked.connect(lambda: planes.tracks.show())
        self.divide.clicked.connect(lambda: planes.tracks.divide(planes.choice.labels))

    def close_activity(self) -> None:
        """Remove the progress bar from napari's activity dock, and stop following the task."""
        self._planes.changed.disconnect(self.refresh)
        self._activity.close()

    # -- choices -------------------------------------------------------------------------------------------------------

    def _on_range(self, _: int) -> None:
        if not self._is_filling:
            self._planes.choice.choose_planes(self.first.value(), self.last.value())

    def _on_lock(self) -> None:
        state = self._planes.state
        if state is not None and state.is_accepted:
            self._planes.unlock()
        else:
            self._layer_keys.run("accept")

    def _on_volume(self) -> None:
        axis = self._planes.choice.axis
        if axis is not None:
            self._planes.volume_view.toggle(axis.number, self._planes.choice.object)

    # -- showing -------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the present state."""
        planes = self._planes
        progress = planes.following.progress
        self.bar.show_share(None if progress is None else progress.done / max(progress.total, 1))
        self._activity.follow(progress)
        if not self.isVisible():  # The object need not be read for it.
            return
        self.step.setText(self._next_step())
        self._refresh_range()
        self._refresh_following()
        self._refresh_planes()
        self._refresh_results()

    def showEvent(self, event: object) -> None:  # noqa: N802  Qt's name.
        """Show the present state, which was left out while the panel was hidden."""
        self.refresh()

    def _refresh_range(self) -> None:
        choice, axis = self._planes.choice, self._planes.choice.axis
        self._is_filling = True
        try:
            axes = choice.axes
            self._axes = [each.number for each in axes]
            names = [each.name for each in axes]
            if names != [self.axis.itemText(at) for at in range(self.axis.count())]:
                self.axis.clear()
                self.axis.addItems(names)
            if axis is not None and choice.planes is not None:
                self.axis.setCurrentIndex(self._axes.index(axis.number))
                for box, value in zip((self.first, self.last), choice.planes, strict=True):
                    box.setRange(0, axis.length - 1)
                    box.setValue(value)
        finally:
            self._is_filling = False
        why_not = self._planes.why_not if axis is None else ""
        is_free = axis is not None and not self._planes.following.is_running
        for widget, tip in (
            (self.axis, "The axis along which the planes of the object follow each other."),
            (self.first, "The first plane that objects are followed to."),
            (self.last, "The last plane that objects are followed to."),
        ):
            widget.setEnabled(is_free)
            widget.setToolTip(tip if is_free else why_not or "Objects are being followed.")

    def _refresh_following(self) -> None:
        planes, keys = self._planes, self._layer_keys.keys
        why_not, is_running, count = planes.why_not, planes.following.is_running, len(planes.choice.labels)
        what = "Follow" if count < 2 else f"Follow {count} objects"
        self.follow.setText(f"{what} ({shown(keys['follow'])})")
        self.follow.setEnabled(not why_not)
        self.follow.setToolTip(
            why_not
            or "Follow both ways from the accepted planes, which stay as they are. All that is written is one step of "
            f"undo. Key: {spelled(keys['follow'])}."
        )
        self.cancel.setEnabled(is_running)
        self.cancel.setToolTip("Stop; the planes that are done stay." if is_running else "Nothing is followed now.")

    def _refresh_planes(self) -> None:
        planes, keys, shown_object = self._planes, self._layer_keys.keys, self._planes.choice.object
        state, has_object = planes.state, shown_object is not None
        self.plot.show_planes(shown_object, planes.choice.at)
        is_propagated = shown_object is not None and bool(shown_object.propagated)
        self.next.setText(f"Next doubtful ({shown(keys['next_candidate'])})")
        self.next.setEnabled(is_propagated)
        self.next.setToolTip(
            f"Go to the plane where a correction gains the most. Key: {spelled(keys['next_candidate'])}."
            if is_propagated
            else FOLLOW_FIRST
        )
        is_locked = state is not None and state.is_accepted
        self.lock.setText("Unlock plane" if is_locked else f"Accept plane ({shown(keys['accept'])})")
        self.lock.setEnabled(state is not None)
        self.lock.setToolTip(
            (planes.why_not or FOLLOW_FIRST if not has_object else NO_MASK)
            if state is None
            else "Let the next propagation change this plane."
            if is_locked
            else f"Accept this plane as it is: no propagation changes it. Key: {spelled(keys['accept'])}."
        )

        why_not = planes.why_not_remove
        self.remove.setEnabled(not why_not)
        self.remove.setToolTip(
            why_not
            or "Take the object out of this plane; where it ends here, out of the propagated planes behind it, too."
        )

    def _refresh_results(self) -> None:
        planes, axis, image = self._planes, self._planes.choice.axis, self._session.image
        shown_object, is_on = planes.choice.object, planes.volume_view.is_on
        is_there = shown_object is not None and axis is not None and image is not None
        self.measures.setText(
            measures_text(shown_object, image, axis) if shown_object is not None and axis and image else ""
        )
        self.volume.setChecked(is_on)
        self.volume.setEnabled(is_on or is_there)
        self.volume.setToolTip(
            "Show the planes again." if is_on else "Show the objects in 3-D." if is_there else planes.why_not
        )
        why_not, count = planes.tracks.why_not, len(planes.choice.labels)
        self.tracks.setEnabled(not why_not)
        self.tracks.setToolTip(why_not or "Add a Tracks layer with the middle of each object in each frame.")
        three = "Select an object and the two that it divides into, in the table."
        self.divide.setEnabled(not why_not and count == 3)
        self.divide.setToolTip(
            why_not or ("Make the first of the three objects the parent of the others." if count == 3 else three)
        )

    def _next_step(self) -> str:
        """Return what the user can do next, or how far the run is, in one line."""
        session, planes, keys = self._session, self._planes, self._layer_keys.keys
        if session.image is None:
            return "Drop an image on napari, or unfold Image to open one."
        if planes.following.progress is not None:
            return planes.following.progress.text
        if planes.volume_view.is_on:
            return "Drag to turn the objects."
        if session.candidates is not None and not session.current.is_as_accepted:
            return f"{spelled(keys['accept'])} accepts. Right click: not this part."
        shown_object = planes.choice.object
        if planes.why_not:
            return planes.why_not
        if shown_object is None or not shown_object.propagated:
            return f"{spelled(keys['follow'])} follows the object through the planes."
        if not shown_object.doubtful:
            return f"No plane is doubtful of {len(shown_object.states)}."
        doubtful, total = len(shown_object.doubtful), len(shown_object.states)
        jump, again = shown(keys["next_candidate"]), shown(keys["follow"])
        return f"{doubtful} of {total} doubtful. {jump}: next. {again}: follow again."
