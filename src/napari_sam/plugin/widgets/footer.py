"""Footer: undo and redo, and what the plugin is doing; below every task, and never scrolled away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.widgets.buttons import Line, push_button, rows_into

if TYPE_CHECKING:
    from napari_sam.plugin.annotation.undo import UndoStack
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session


class Footer(QWidget):
    """Shows the status of the session, and buttons for undo and redo.

    Parameters
    ----------
    session
        Has the status.
    keys
        The actions of the buttons, and their keys.
    undo
        Describes the steps of the buttons.
    """

    def __init__(self, session: Session, keys: LayerKeys, undo: UndoStack) -> None:
        super().__init__()
        self._session, self._layer_keys, self._undo = session, keys, undo
        self.status = Line(2)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setFixedHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)
        self.undo, self.redo = push_button("", ""), push_button("", "")
        for button, name in ((self.undo, "undo"), (self.redo, "redo")):
            button.clicked.connect(lambda _=False, name=name: self._layer_keys.run(name))
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 4)
        column.setSpacing(3)
        rows_into(column, [[self.status], [self.progress], [self.undo, self.redo]])

    def refresh(self) -> None:
        """Show the present state."""
        session, keys = self._session, self._layer_keys.keys
        self.status.setText(session.status)
        self.progress.setVisible(session.is_busy or session.is_warming)
        for button, name, text, step in (
            (self.undo, "undo", "Undo", self._undo.next_undo),
            (self.redo, "redo", "Redo", self._undo.next_redo),
        ):
            button.setText(f"{text} ({shown(keys[name])})")
            button.setEnabled(bool(step.text))
            button.setToolTip(f"{step.text} Key: {spelled(keys[name])}." if step.text else step.why_not)
