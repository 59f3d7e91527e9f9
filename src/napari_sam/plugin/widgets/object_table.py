"""ObjectView: a table of all objects, of which only the rows in view are drawn."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_sam.core.geometry import Plane
from napari_sam.journal.objects import LabelledObject

COLUMNS = ("Label", "Class", "Area", "IoU", "Plane", "Time")
TIPS = (
    "Value of its pixels in the output",
    "Class of the object",
    "Number of pixels, of all planes",
    "IoU with the object that the model predicts for the mask",
    "Position of its plane in a stack",
    "Time of the last change",
)
ROW_HEIGHT = 20
NO_PARENT = QModelIndex()


def plane_text(plane: Plane) -> str:
    """Return the position of a plane on the hidden axes."""
    return " ".join(str(at) for axis, at in enumerate(plane.index) if axis not in plane.axes)


def _key(row: LabelledObject, column: int) -> tuple[Any, ...]:
    """Return the sort key of a row; the label breaks ties."""
    iou = row.iou_prediction
    keys: tuple[Any, ...] = (
        row.label,
        row.label_class.name if row.label_class else "",
        row.area,
        -1.0 if math.isnan(iou) else iou,
        tuple(at for axis, at in enumerate(row.plane.index) if axis not in row.plane.axes),
        row.changed,
    )
    return keys[column], row.label


class ObjectModel(QAbstractTableModel):
    """Rows of objects in some order, changed one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[LabelledObject] = []
        self._column, self._is_descending = 0, False

    def reset(self, rows: Iterable[LabelledObject]) -> None:
        """Show other objects."""
        self.beginResetModel()
        self._rows = self._in_order(rows)
        self.endResetModel()

    def update(self, label: int, row: LabelledObject | None) -> None:
        """Update the row of one object; None removes it."""
        at = self.row_of(label)
        if at is not None and row is not None and self._place(row) in (at, at + 1):
            self._rows[at] = row
            self.dataChanged.emit(self.index(at, 0), self.index(at, len(COLUMNS) - 1))
            return
        if at is not None:
            self.beginRemoveRows(NO_PARENT, at, at)
            del self._rows[at]
            self.endRemoveRows()
        if row is not None:
            at = self._place(row)
            self.beginInsertRows(NO_PARENT, at, at)
            self._rows.insert(at, row)
            self.endInsertRows()

    def row_of(self, label: int) -> int | None:
        """Return the row of an object, or None."""
        return next((at for at, row in enumerate(self._rows) if row.label == label), None)

    def label_at(self, row: int) -> int:
        """Return the label that a row shows."""
        return self._rows[row].label

    def object_at(self, row: int) -> LabelledObject:
        """Return the object that a row shows."""
        return self._rows[row]

    def rowCount(self, parent: Any = NO_PARENT) -> int:  # noqa: N802  Qt's name.
        """Return how many objects there are."""
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Any = NO_PARENT) -> int:  # noqa: N802  Qt's name.
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the content of a cell."""
        row, column = self._rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _text(row, column)
        if role == Qt.ItemDataRole.DecorationRole and column == 1 and row.label_class is not None:
            return QColor.fromRgbF(*row.label_class.color)
        if role == Qt.ItemDataRole.TextAlignmentRole and column != 1:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"Label {row.label}, changed {row.changed.astimezone():%Y-%m-%d %H:%M}. Double-click to correct it."
        return None

    def headerData(  # noqa: N802  Qt's name.
        self, section: int, orientation: Any, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the title of a column."""
        if orientation != Qt.Orientation.Horizontal:
            return None
        shown = {Qt.ItemDataRole.DisplayRole: COLUMNS, Qt.ItemDataRole.ToolTipRole: TIPS}.get(role)  # type: ignore[call-overload]
        return None if shown is None else shown[section]

    def sort(self, column: int, order: Any = Qt.SortOrder.AscendingOrder) -> None:
        """Order the rows by a column; what is selected stays so."""
        self.layoutAboutToBeChanged.emit()
        old = self.persistentIndexList()
        labels = [self._rows[index.row()].label for index in old]
        self._column, self._is_descending = max(column, 0), order == Qt.SortOrder.DescendingOrder
        self._rows = self._in_order(self._rows)
        place = {row.label: at for at, row in enumerate(self._rows)} if old else {}
        new = [self.index(place[label], index.column()) for label, index in zip(labels, old, strict=True)]
        self.changePersistentIndexList(old, new)
        self.layoutChanged.emit()

    def _in_order(self, rows: Iterable[LabelledObject]) -> list[LabelledObject]:
        return sorted(rows, key=lambda row: _key(row, self._column), reverse=self._is_descending)

    def _place(self, row: LabelledObject) -> int:
        """Return where a row belongs; an object that is there already counts as another one."""
        key = _key(row, self._column)
        if not self._is_descending:
            return bisect.bisect_left(self._rows, key, key=lambda each: _key(each, self._column))
        # From the end the order is rising.
        low, high = 0, len(self._rows)
        while low < high:
            middle = (low + high) // 2
            if _key(self._rows[middle], self._column) > key:
                low = middle + 1
            else:
                high = middle
        return low


def _text(row: LabelledObject, column: int) -> str:
    if column == 0:
        return str(row.label)
    if column == 1:
        return row.label_class.name if row.label_class else "–"  # noqa: RUF001  A dash stands for none.
    if column == 2:
        return str(row.area)
    if column == 3:
        return "–" if math.isnan(row.iou_prediction) else f"{row.iou_prediction:.2f}"  # noqa: RUF001
    if column == 4:
        return plane_text(row.plane)
    changed = row.changed.astimezone()
    is_today = changed.date() == datetime.now().astimezone().date()
    return f"{changed:%H:%M}" if is_today else f"{changed:%d %b}"


class ObjectView(QTableView):
    """The table.

    Parameters
    ----------
    model
        What it shows.
    picked
        Called with the label of a row that the user goes to, by mouse or arrow keys.
    reopen, delete
        Called when the user asks for it by a double click or a key; `reopen` with the label.
    """

    def __init__(
        self,
        model: ObjectModel,
        picked: Callable[[int], None],
        reopen: Callable[[int], None],
        delete: Callable[[], None],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model, self._picked, self._reopen, self._delete = model, picked, reopen, delete
        self.setModel(model)
        self.setSortingEnabled(True)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setWordWrap(False)
        self.setMinimumHeight(8 * ROW_HEIGHT)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        rows.hide()
        # Of its own accord Qt asks every row how high it wants to be.
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(ROW_HEIGHT)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column, width in enumerate((44, 70, 50, 38, 38, 40)):
            self.setColumnWidth(column, width)
        columns.setStretchLastSection(True)
        columns.setHighlightSections(False)
        self.doubleClicked.connect(lambda index: self._reopen(self._model.label_at(index.row())))
        self.clicked.connect(lambda index: self._picked(self._model.label_at(index.row())))

    @property
    def chosen(self) -> list[int]:
        """The labels of the selected rows."""
        parts: Any = self.selectionModel().selection()
        # Not `selectedRows`, which makes an index of each: ten thousand of them take half a second.
        rows = {row for part in parts for row in range(part.top(), part.bottom() + 1)}
        return [self._model.label_at(row) for row in sorted(rows)]

    def choose(self, labels: Sequence[int]) -> None:
        """Select rows, whatever keys are held down, and bring the first one into view."""
        wanted = set(labels)
        places = [at for at in range(self._model.rowCount()) if self._model.label_at(at) in wanted]
        chosen, last = QItemSelection(), len(COLUMNS) - 1
        for at in places:
            chosen.select(self._model.index(at, 0), self._model.index(at, last))
        selection = self.selectionModel()
        selection.select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if places:
            first = self._model.index(places[0], 0)
            selection.setCurrentIndex(first, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollTo(first)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802  Qt's name.
        """Correct the current object by Return, delete the selected ones by Delete, go to one by the arrow keys."""
        key, at = event.key(), self.currentIndex()
        if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and at.isValid():
            self._reopen(self._model.label_at(at.row()))
        elif key in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace) and self.chosen:
            self._delete()
        else:
            super().keyPressEvent(event)
            if key in (Qt.Key.Key_Up, Qt.Key.Key_Down) and len(self.chosen) == 1:
                self._picked(self.chosen[0])
