"""TaskTabs: choose the task, of which one panel at a time is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QStackedLayout, QVBoxLayout, QWidget

from napari_sam.plugin.prompts.keys import spelled
from napari_sam.plugin.widgets.buttons import push_button

if TYPE_CHECKING:
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session, Task

TASKS: dict[Task, tuple[str, str]] = {
    "one": ("One", "Segment one object after the other, by clicks, boxes and outlines."),
    "all": ("All", "Find all objects of the view, of a region or of the plane."),
    "planes": ("Through planes", "Follow objects through the planes of a volume, or through time."),
    "teach": ("Teach", "Teach a model the objects that you accepted."),
}


class TaskTabs(QWidget):
    """A row of buttons for the tasks, and the panel of the chosen one.

    Parameters
    ----------
    session
        Has the task.
    keys
        The keys that choose a task.
    panels
        The panel of each task.
    """

    def __init__(self, session: Session, keys: LayerKeys, panels: Mapping[Task, QWidget]) -> None:
        super().__init__()
        self._session, self._layer_keys, self._panels = session, keys, panels
        self.buttons = {task: push_button(TASKS[task][0], "") for task in panels}
        group, row, self._stack = QButtonGroup(self), QHBoxLayout(), QStackedLayout()
        for task, button in self.buttons.items():
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, task=task: self._choose(task))
            group.addButton(button)
            row.addWidget(button, 1)
            self._stack.addWidget(panels[task])
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addLayout(self._stack)

    def _choose(self, task: Task) -> None:
        """Choose a task; choosing it again takes up its layer, instead of another one that the user looked at."""
        if task == self._session.task:
            self._session.task_changed.emit()
        self._session.set_task(task)

    def refresh(self) -> None:
        """Show the present task."""
        task = self._session.task
        self.buttons[task].setChecked(True)
        for name, button in self.buttons.items():
            button.setToolTip(f"{TASKS[name][1]} Key: {spelled(self._layer_keys.keys[f'task_{name}'])}.")
        if self._stack.currentWidget() is not self._panels[task]:
            self._stack.setCurrentWidget(self._panels[task])
