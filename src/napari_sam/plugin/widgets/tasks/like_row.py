"""LikeRow: what a search looks for: anything, what is like selected objects, what was learned, or what words name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QInputDialog, QLabel, QWidget

from napari_sam.plugin.proposals.wanted import Like
from napari_sam.plugin.widgets.buttons import MIN_LETTERS, push_button
from napari_sam.similarity.query import SUFFIX

if TYPE_CHECKING:
    from napari_sam.plugin.proposals.finder import ProposalFinder

FROM_FILE = "saved ..."
FILES = f"Searches (*{SUFFIX})"
NAMES: dict[Like, str] = {"anything": "anything", "selected": "the selected objects"}
NOT_LEARNED = "Find what is like the selected objects first."
TIPS: dict[Like, str] = {
    "anything": "Find all objects, whatever they are.",
    "selected": "Find what is like the objects that are selected in the table; every class that they have is found.",
    "learned": "Find what the last examples and your answers describe, also in another image.",
    "words": "Find what a word or two name, such as nucleus.",
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
        for text, like in (
            ("anything", "anything"),
            ("the selected objects", "selected"),
            ("", "learned"),
            ("", "words"),
        ):
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
        wanted, names = self._finder.wanted, list(TIPS)
        has_learned, why_no_words = wanted.query is not None, wanted.why_no_words
        learned = f"learned: {wanted.name}" if has_learned else "what was learned"
        self._offer(names.index("learned"), learned, TIPS["learned"] if has_learned else NOT_LEARNED, has_learned)
        named = f"words: {wanted.words}" if wanted.like == "words" else "words ..."
        self._offer(names.index("words"), named, why_no_words or TIPS["words"], not why_no_words)
        self.like.setCurrentIndex(names.index(wanted.like))
        self.like.setToolTip(TIPS[wanted.like])
        self.save.setEnabled(wanted.can_save)
        self.save.setToolTip(
            "Save the examples and your answers, to find the same in other images and folders."
            if wanted.can_save
            else NOT_LEARNED
        )

    def _offer(self, at: int, text: str, tip: str, is_possible: bool) -> None:
        """Set the text of an entry, and whether it can be chosen or why not."""
        model = self.like.model()
        assert isinstance(model, QStandardItemModel)
        item = model.item(at)
        assert item is not None
        item.setText(text)
        item.setToolTip(tip)
        item.setEnabled(is_possible)

    def _choose(self, at: int) -> None:
        like: Like | None = self.like.itemData(at)
        if like == "words":
            self._ask_words()
        elif like is not None:
            self._finder.wanted.set_like(like)
        else:
            self._ask_saved()
        self.refresh()

    def _ask_words(self) -> None:
        words, is_given = QInputDialog.getText(
            self, "Words", "What to find, in a word or two:", text=self._finder.wanted.words
        )
        if is_given and words.strip():
            self._finder.wanted.set_words(words.strip())

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
