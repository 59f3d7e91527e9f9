"""ObjectView: a table of all objects, of which only the rows in view are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractTableModel, QItemSelection, QItemSelectionModel, QModelIndex, QSize, Qt
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from napari_sam.core.geometry import Plane
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.storage.object_table import ObjectView as Objects
from napari_sam.journal.storage.object_table import Order
from napari_sam.plugin.layers.voxel_size import VoxelSize

COLUMNS = ("Label", "Class", "Area", "IoU", "Plane", "Time", "Volume")
ORDERS: tuple[Order, ...] = ("label", "class", "area", "iou", "plane", "changed", "area")
VOLUME = len(COLUMNS) - 1
TIPS = (
    "Value of its pixels in the output",
    "Class of the object",
    "Number of pixels, of all planes",
    "IoU with the object that the model predicts for the mask",
    "Position of its plane in a stack; of several planes the first and the last one, and their number",
    "Time of the last change",
    "Volume of an object in several planes: in the unit of the image, or in voxels where it has none",
)
ROW_HEIGHT = 20
# Rows in view on a small screen; the table takes all height that is left.
MIN_ROWS = 4
# Rows that are read at once, and at most remembered.
PAGE, MAX_READ = 64, 4096
NO_PARENT = QModelIndex()


def plane_text(plane: Plane) -> str:
    """Return the position of a plane on the hidden axes."""
    return " ".join(map(str, plane.position))


def planes_text(row: LabelledObject) -> str:
    """Return where an object is: the position of its plane, or the first and the last one and how many there are."""
    if len(row.parts) == 1:
        return plane_text(row.plane)
    if len({plane.axes for plane in row.planes}) > 1:
        return f"{len(row.parts)} planes"
    first, last = (plane_text(find(row.planes, key=lambda plane: plane.index)) for find in (min, max))
    return f"{first}–{last} ({len(row.parts)})"  # noqa: RUF001  From one to the other.


class ObjectModel(QAbstractTableModel):
    """Rows of objects in some order, of which only those are read that are shown, and changed one by one.

    The labels in order are loaded at the first change or the first order by anything but the label, since only then
    the place of every row has to be known.
    """

    def __init__(self) -> None:
        super().__init__()
        self._objects: Objects | None = None
        self._order: Order = "label"
        self._is_descending = False
        self._count = 0
        self._labels: NDArray[np.int64] | None = None
        # Rows as they were read, and the label of each: what happens to objects may not have come here yet.
        self._read: dict[int, LabelledObject | None] = {}
        self._voxel: VoxelSize | None = None

    def set_voxel(self, voxel: VoxelSize | None) -> None:
        """Show volumes in the unit of another image; None: in voxels."""
        if voxel != self._voxel:
            self._voxel = voxel
            if self._count:
                self.dataChanged.emit(self.index(0, VOLUME), self.index(self._count - 1, VOLUME))

    def reset(self, objects: Objects | None) -> None:
        """Show other objects."""
        self.beginResetModel()
        self._objects = objects
        self._load()
        self.endResetModel()

    def update(self, label: int, row: LabelledObject | None) -> None:
        """Update the row of one object; None removes it."""
        if self._labels is None and not self._load_labels(label, row):
            self.reset(self._objects)
            return
        assert self._labels is not None
        at = self.row_of(label)
        place = None if row is None else self._place(label, at)
        if at is not None and place == at:
            self._read = {}
            self.dataChanged.emit(self.index(at, 0), self.index(at, len(COLUMNS) - 1))
            return
        if at is not None:
            self.beginRemoveRows(NO_PARENT, at, at)
            self._show(np.delete(self._labels, at))
            self.endRemoveRows()
        if place is not None:
            self.beginInsertRows(NO_PARENT, place, place)
            self._show(np.insert(self._labels, place, label))
            self.endInsertRows()

    def row_of(self, label: int) -> int | None:
        """Return the row of an object, or None."""
        if self._labels is not None:
            found = np.flatnonzero(self._labels == label)
            return int(found[0]) if len(found) else None
        known = next((at for at, row in self._read.items() if row is not None and row.label == label), None)
        return known if known is not None or self._objects is None else self._shown.position(label)

    def label_at(self, row: int) -> int:
        """Return the label that a row shows; 0, which no object has, for one that is gone."""
        if self._labels is not None:
            return int(self._labels[row])
        found = self.object_at(row)
        return 0 if found is None else found.label

    def object_at(self, row: int) -> LabelledObject | None:
        """Return the object that a row shows; None for one that was deleted and is still listed here."""
        if row not in self._read:
            start = row // PAGE * PAGE
            stop = min(start + PAGE, self._count)
            if self._labels is None:
                found: list[LabelledObject | None] = [*self._shown[start:stop]]
            else:
                found = [self._shown.get(label) for label in self._labels[start:stop].tolist()]
            if len(self._read) > MAX_READ:
                self._read = {}
            found += [None] * (stop - start - len(found))
            self._read.update(zip(range(start, stop), found, strict=True))
        return self._read[row]

    def rowCount(self, parent: Any = NO_PARENT) -> int:  # noqa: N802  Qt's name.
        """Return how many objects there are."""
        return 0 if parent.isValid() else self._count

    def columnCount(self, parent: Any = NO_PARENT) -> int:  # noqa: N802  Qt's name.
        """Return how many columns there are."""
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return the content of a cell."""
        row, column = self.object_at(index.row()), index.column()
        if row is None:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._volume_text(row) if column == VOLUME else _text(row, column)
        if role == Qt.ItemDataRole.DecorationRole and column == 1 and row.label_class is not None:
            return QColor.fromRgbF(*row.label_class.color)
        if role == Qt.ItemDataRole.TextAlignmentRole and column != 1:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        if role == Qt.ItemDataRole.ToolTipRole:
            return self._tip(row)
        return None

    def _volume_text(self, row: LabelledObject) -> str:
        if len(row.parts) == 1:
            return "–"  # noqa: RUF001
        return str(row.area) if self._voxel is None else self._voxel.text(row.area)

    def _tip(self, row: LabelledObject) -> str:
        volume = ""
        if len(row.parts) > 1:
            in_units = "" if self._voxel is None else f" ({self._voxel.text(row.area)})"
            volume = f" in {len(row.parts)} planes, {row.area} voxels{in_units}"
        return (
            f"Label {row.label}{volume}, changed {row.changed.astimezone():%Y-%m-%d %H:%M}. Double-click to correct it."
        )

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
        labels = [self.label_at(index.row()) for index in old]
        self._order, self._is_descending = ORDERS[max(column, 0)], order == Qt.SortOrder.DescendingOrder
        self._load()
        rows = {label: self.row_of(label) for label in set(labels)}
        places = [(rows[label], index.column()) for label, index in zip(labels, old, strict=True)]
        new = [NO_PARENT if at is None else self.index(at, column) for at, column in places]
        self.changePersistentIndexList(old, new)
        self.layoutChanged.emit()

    @property
    def _shown(self) -> Objects:
        assert self._objects is not None
        return self._objects.ordered(self._order, self._is_descending)

    def _load(self) -> None:
        self._read, self._labels, self._count = {}, None, 0
        if self._objects is None:
            return
        if self._order != "label":
            self._labels = self._shown.labels()
        self._count = len(self._shown) if self._labels is None else len(self._labels)

    def _load_labels(self, label: int, row: LabelledObject | None) -> bool:
        """Load the labels in order, given one object that has changed since; return whether that succeeded."""
        if self._objects is None:
            return False
        labels = self._shown.labels()
        if len(labels) == self._count + 1 and row is not None:
            labels = labels[labels != label]
        elif len(labels) == self._count - 1 and row is None:
            labels = np.insert(labels, self._among(labels, label), label)
        if len(labels) != self._count:
            return False
        self._labels = labels
        return True

    def _show(self, labels: NDArray[np.int64]) -> None:
        self._labels, self._count, self._read = labels, len(labels), {}

    def _place(self, label: int, at: int | None) -> int | None:
        """Return where an object belongs among the other rows, or None where it is gone meanwhile."""
        assert self._labels is not None
        if self._order == "label":
            return self._among(self._labels if at is None else np.delete(self._labels, at), label)
        place = self._shown.position(label)
        return None if place is None else min(place, self._count - (at is not None))

    def _among(self, labels: NDArray[np.int64], label: int) -> int:
        """Return where a label belongs in labels that are in order."""
        if self._is_descending:
            return len(labels) - int(np.searchsorted(labels[::-1], label))
        return int(np.searchsorted(labels, label))


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
        return planes_text(row)
    changed = row.changed.astimezone()
    is_today = changed.date() == datetime.now().astimezone().date()
    return f"{changed:%H:%M}" if is_today else f"{changed:%d %b}"


class ObjectView(QTableView):
    """The table.

    Parameters
    ----------
    model
        Table model with the objects.
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
        self.setMinimumHeight((MIN_ROWS + 1) * ROW_HEIGHT + 4)
        rows, columns = self.verticalHeader(), self.horizontalHeader()
        rows.hide()
        # Of its own accord Qt asks every row how high it wants to be.
        rows.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        rows.setDefaultSectionSize(ROW_HEIGHT)
        columns.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        for column, width in enumerate((56, 76, 50, 38, 38, 40, 60)):
            self.setColumnWidth(column, width)
        columns.setStretchLastSection(True)
        columns.setHighlightSections(False)
        self.show_volumes(False)
        self.doubleClicked.connect(lambda index: self._reopen(self._model.label_at(index.row())))
        self.clicked.connect(lambda index: self._picked(self._model.label_at(index.row())))

    def show_volumes(self, is_stack: bool) -> None:
        """Show the column of volumes, which objects of a single plane do not have."""
        self.setColumnHidden(VOLUME, not is_stack)

    @property
    def chosen(self) -> list[int]:
        """The labels of the selected rows."""
        return self.first_chosen(self._model.rowCount())

    def first_chosen(self, most: int) -> list[int]:
        """Return the labels of the first selected rows, at most so many."""
        parts: Any = self.selectionModel().selection()
        # Not `selectedRows`, which makes an index of each: ten thousand of them take half a second.
        rows = {row for part in parts for row in range(part.top(), min(part.bottom(), part.top() + most) + 1)}
        return [self._model.label_at(row) for row in sorted(rows)[:most]]

    def choose(self, labels: Sequence[int]) -> None:
        """Select rows, whatever keys are held down, and bring the first one into view."""
        wanted = set(labels)
        places = sorted(at for at in map(self._model.row_of, wanted) if at is not None)
        chosen, last = QItemSelection(), len(COLUMNS) - 1
        for at in places:
            chosen.select(self._model.index(at, 0), self._model.index(at, last))
        selection = self.selectionModel()
        selection.select(chosen, QItemSelectionModel.SelectionFlag.ClearAndSelect)
        if places:
            first = self._model.index(places[0], 0)
            selection.setCurrentIndex(first, QItemSelectionModel.SelectionFlag.NoUpdate)
            self.scrollTo(first)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name.
        """Return the smallest size: Qt's own would make the dock scroll on a small screen."""
        return QSize(300, self.minimumHeight())

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
