"""LikeRow: what a search looks for: anything, what is like selected objects, or what was learned and saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QWidget

from napari_sam.plugin.proposals.wanted import Like
from napari_sam.plugin.widgets.buttons import MIN_LETTERS, push_button
from napari_sam.similarity.query import SUFFIX

if TYPE_CHECKING:
    from napari_sam.plugin.proposals.finder import ProposalFinder

FROM_FILE = "saved ..."
FILES = f"Searches (*{SUFFIX})"
NOT_LEARNED = "Find what is like the selected objects first."
TIPS: dict[Like, str] = {
    "anything": "Find all objects, whatever they are.",
    "selected": "Find what is like the objects that are selected in the table; every class that they have is found.",
    "learned": "Find what the last examples and your answers describe, also in another image.",
}


class LikeRow(QWidget):
    """Lets the user choose what to look for, and save what was learned.

    Parameters
    ----------
    finder
        The search.
    """

    def __init__(self, finder: ProposalFinder) -> None:
        super().__init__()
        self._finder, self._folder = finder, Path()
        self.like, self.save = QComboBox(), push_button("Save ...", "")
        self.like.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.like.setMinimumContentsLength(MIN_LETTERS)
        self.like.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for text, like in (("anything", "anything"), ("the selected objects", "selected"), ("", "learned")):
            self.like.addItem(text, like)
        self.like.addItem(FROM_FILE)
        for at, tip in enumerate([*TIPS.values(), "Find what was learned and saved before."]):
            self.like.setItemData(at, tip, Qt.ItemDataRole.ToolTipRole)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(QLabel("Like"))
        row.addWidget(self.like, 1)
        row.addWidget(self.save)
        self.like.activated.connect(self._choose)
        self.save.clicked.connect(self._ask_save)

    def refresh(self) -> None:
        """Show what is looked for."""
        wanted = self._finder.wanted
        names = list(TIPS)
        at, has_learned = names.index("learned"), wanted.query is not None
        self.like.setItemText(at, f"learned: {wanted.name}" if has_learned else "what was learned")
        model = self.like.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(at)
        assert item is not None
        item.setEnabled(has_learned)
        item.setToolTip(TIPS["learned"] if has_learned else NOT_LEARNED)
        self.like.setCurrentIndex(names.index(wanted.like))
        self.like.setToolTip(TIPS[wanted.like])
        self.save.setEnabled(wanted.can_save)
        self.save.setToolTip(
            "Save the examples and your answers, to find the same in other images and folders."
            if wanted.can_save
            else NOT_LEARNED
        )

    def _choose(self, at: int) -> None:
        like: Like | None = self.like.itemData(at)
        if like is not None:
            self._finder.wanted.set_like(like)
        else:
            self._ask_saved()
        self.refresh()

    def _ask_saved(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "What to find", str(self._folder), FILES)
        if name:
            self._folder = Path(name).parent
            self._finder.wanted.load(Path(name))

    def _ask_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Save what was learned", str(self._folder / f"objects{SUFFIX}"), FILES
        )
        if name:
            self._folder = Path(name).parent
            is_whole = name.lower().endswith(SUFFIX)  # Of this name the dialog has asked whether to replace it.
            self._finder.wanted.save(Path(name if is_whole else name + SUFFIX), overwrite=is_whole)
