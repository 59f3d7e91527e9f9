"""LikeRow: what a search looks for: anything, what is like selected objects, what was learned, or what words name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_sam.plugin.proposals.wanted import NO_WORDS, Like
from napari_sam.plugin.widgets.buttons import MIN_LETTERS, beside, push_button
from napari_sam.plugin.widgets.tasks.class_legend import ClassLegend
from napari_sam.similarity.query import SUFFIX

if TYPE_CHECKING:
    from napari_sam.plugin.proposals.finder import ProposalFinder

FROM_FILE = "saved ..."
FILES = f"Searches (*{SUFFIX})"
NAMES: dict[Like, str] = {
    "anything": "anything",
    "selected": "the selected objects",
    "learned": "what was learned",
    "words": "words",
}
WEIGHTS = "Weights (*.safetensors *.pt *.pth)"
# Stands for a file that is still to be chosen.
OTHER = "..."
NOT_LEARNED = "Find what is like the selected objects first."
TIPS: dict[Like, str] = {
    "anything": "Find all objects, whatever they are.",
    "selected": "Find what is like the objects that are selected in the table; every class that they have is found.",
    "learned": "Find what the last examples and your answers describe, also in another image.",
    "words": "Find what a word or two name, such as nucleus.",
}


class LikeRow(QWidget):
    """Lets the user choose what to look for, type the words that name it, and save what was learned.

    Parameters
    ----------
    finder
        The search.
    """

    def __init__(self, finder: ProposalFinder) -> None:
        super().__init__()
        self._finder, self._folder = finder, Path()
        self.like, self.save = QComboBox(), push_button("Save ...", "")
        self.words, self.by = QLineEdit(), QComboBox()
        for choice in (self.like, self.by):
            choice.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            choice.setMinimumContentsLength(MIN_LETTERS)
            choice.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        for like, text in NAMES.items():
            self.like.addItem(text, like)
        self.like.addItem(FROM_FILE)
        for at, tip in enumerate([*TIPS.values(), "Find what was learned and saved before."]):
            self.like.setItemData(at, tip, Qt.ItemDataRole.ToolTipRole)
        self.named = beside(self.words, self.by)
        self.named.setVisible(False)  # Or its row would count in the height of the dock before this task is shown.
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(_row(QLabel("Like"), self.like, self.save))
        column.addWidget(self.named)
        self.legend = ClassLegend()
        column.addWidget(self.legend)
        self.like.activated.connect(self._choose)
        self.save.clicked.connect(self._ask_save)
        self.by.activated.connect(self._choose_detector)
        self.words.editingFinished.connect(self._take_words)
        self.words.returnPressed.connect(self._find_words)

    def refresh(self) -> None:
        """Show what is looked for."""
        wanted, names = self._finder.wanted, list(TIPS)
        has_learned = wanted.query is not None
        learned = f"learned: {wanted.name}" if has_learned else "what was learned"
        tip = TIPS["learned"] if has_learned else NOT_LEARNED
        _set_item(self.like, names.index("learned"), learned, tip, has_learned)
        self.like.setCurrentIndex(names.index(wanted.like))
        self.like.setToolTip(TIPS[wanted.like])
        self.save.setEnabled(wanted.can_save)
        self.save.setToolTip(
            "Save the examples and your answers, to find the same in other images and folders."
            if wanted.can_save
            else NOT_LEARNED
        )
        self.legend.show_classes(self._finder.drawing.legend)
        self.named.setVisible(wanted.like == "words")
        if wanted.like == "words":
            self._refresh_words()

    def _refresh_words(self) -> None:
        """Offer the models that know words, and say what is needed where there is none."""
        wanted = self._finder.wanted
        finders, used = wanted.word_finders, wanted.word_finder
        if [self.by.itemData(at) for at in range(self.by.count())] != [*(each.detector for each in finders), OTHER]:
            self.by.clear()
            for finder in finders:
                self.by.addItem(finder.name, finder.detector)
            self.by.addItem("file ...", OTHER)
        for at, finder in enumerate(finders):
            _set_item(self.by, at, finder.name, finder.needs or f"Find by words with {finder.name}.", not finder.needs)
        self.by.setCurrentIndex(-1 if used is None else [each.detector for each in finders].index(used.detector))
        needs = "\n".join(finder.needs for finder in finders if finder.needs)
        self.by.setToolTip("The model that knows the words." if used is not None else needs)
        self.words.setEnabled(used is not None)
        self.words.setPlaceholderText("such as nucleus" if used is not None else "needs a model")
        self.words.setToolTip(TIPS["words"] if used is not None else f"{NO_WORDS}\n{needs}")
        if not self.words.hasFocus():
            self.words.setText(wanted.words)

    def _choose(self, at: int) -> None:
        like: Like | None = self.like.itemData(at)
        if like is not None:
            self._finder.wanted.set_like(like)
        else:
            self._ask_saved()
        self.refresh()
        if like == "words" and self.words.isEnabled():
            self.words.setFocus()

    def _choose_detector(self, at: int) -> None:
        detector = self.by.itemData(at)
        if detector != OTHER:
            self._finder.wanted.set_detector(detector)
        else:
            name, _ = QFileDialog.getOpenFileName(self, "Model that knows words", str(self._folder), WEIGHTS)
            if name:
                self._folder = Path(name).parent
                self._finder.wanted.set_detector(name)
        self.refresh()

    def _take_words(self) -> None:
        if self.words.text().strip() != self._finder.wanted.words:
            self._finder.wanted.set_words(self.words.text())

    def _find_words(self) -> None:
        self._take_words()
        if self._finder.search.progress is None:
            self.words.clearFocus()
            if not self._finder.wanted.rank_by_words():
                self._finder.find()

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


def _row(*widgets: QWidget) -> QHBoxLayout:
    """Return a row, of which the second widget takes the room."""
    row = QHBoxLayout()
    for at, widget in enumerate(widgets):
        row.addWidget(widget, int(at == 1))
    return row


def _set_item(choice: QComboBox, at: int, text: str, tip: str, is_possible: bool) -> None:
    """Set the text of an entry, and whether it can be chosen or why not."""
    model = choice.model()
    assert isinstance(model, QStandardItemModel)
    item = model.item(at)
    assert item is not None
    item.setText(text)
    item.setToolTip(tip)
    item.setEnabled(is_possible)
