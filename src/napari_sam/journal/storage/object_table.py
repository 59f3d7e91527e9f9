"""ObjectTable and ObjectView: the rows of objects, of which only those are read that are asked for."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.packing.objects import Runs
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.files import damaged
from napari_sam.journal.storage.object_rows import from_content, part_in, row_of

Order = Literal["label", "class", "area", "iou", "plane", "changed"]

# Rows that are read at once where all are gone through.
PAGE = 256
# Whole numbers of SQLite.
MAX_LABEL = 2**63 - 1
_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = {
    "label": "label",
    "class": "coalesce((SELECT name FROM classes WHERE number = class), '')",
    "area": "area",
    "iou": "coalesce(iou, -1.0)",
    "plane": "place",
    "changed": "changed",
}


class ObjectTable:
    """The rows of objects and classes in a database.

    Parameters
    ----------
    database
        The database.
    entry
        Reads the entry of a number.
    """

    def __init__(self, database: Database, entry: Callable[[int], Entry]) -> None:
        self._database, self._entry = database, entry

    @property
    def count(self) -> int:
        """Number of objects."""
        found = self._database.row("SELECT objects FROM state")
        return int(found[0]) if found else 0

    @property
    def classes(self) -> list[LabelClass]:
        """The classes, by number."""
        rows = self._database.rows("SELECT number, name, red, green, blue FROM classes ORDER BY number")
        try:
            return [LabelClass(int(n), str(name), (float(r), float(g), float(b))) for n, name, r, g, b in rows]
        except (ValueError, TypeError) as error:
            raise damaged(self._database.name, "a class is not understood") from error

    def content(self, label: int) -> str | None:
        """Return the row of an object as it is stored, or None."""
        if not -MAX_LABEL <= label <= MAX_LABEL:
            return None
        found = self._database.rows("SELECT content, crc FROM objects WHERE label = ?", int(label))
        return self._checked(label, *found[0]) if found else None

    def get(self, label: int) -> LabelledObject | None:
        """Return an object, or None."""
        content = self.content(label)
        return None if content is None else self.parsed(label, content)

    def part(self, label: int, plane: Plane) -> Part | None:
        """Return the part of an object in a plane, or None; its other parts are not parsed."""
        content = self.content(label)
        if content is None:
            return None
        with self._understood(label):
            return part_in(label, content, plane, self._entry)

    def has(self, label: int) -> bool:
        """Return whether there is an object of a label."""
        return self.content(label) is not None

    def has_any(self, first: int, count: int) -> bool:
        """Return whether there is an object of any of some labels from one on."""
        some = "SELECT 1 FROM objects WHERE label BETWEEN ? AND ?"
        return self._database.row(some, min(first, MAX_LABEL), min(first + count - 1, MAX_LABEL)) is not None

    def highest_below(self, end: int) -> int:
        """Return the highest label of an object below a number, or 0."""
        found = self._database.row(
            "SELECT label FROM objects WHERE label < ? ORDER BY label DESC", min(int(end), MAX_LABEL)
        )
        return int(found[0]) if found else 0

    def page(self, where: str, values: Sequence[Any], rest: str = "") -> list[LabelledObject]:
        """Return the objects of a part of a query."""
        rows = self._database.rows(f"SELECT label, content, crc FROM objects {where} {rest}", *values)  # noqa: S608
        class_of = {kind.number: kind for kind in self.classes}.get
        return [self._object(label, self._checked(label, content, crc), class_of) for label, content, crc in rows]

    def parsed(self, label: int, content: str) -> LabelledObject:
        """Return the object of a row as it is stored; raises LabelsError where it is damaged."""
        return self._object(label, content, lambda number: {kind.number: kind for kind in self.classes}.get(number))

    def view(self) -> ObjectView:
        """Return all objects, by label."""
        return ObjectView(self, self._database)

    @staticmethod
    def put(connection: Any, label: int, content: str | None) -> None:
        """Store the row of an object in a transaction, or remove it."""
        if content is None:
            connection.execute("DELETE FROM objects WHERE label = ?", (label,))
            return
        connection.execute(_PUT, row_of(label, content))

    @staticmethod
    def put_all(connection: Any, contents: Iterator[tuple[int, int, float, str]]) -> None:
        """Store the rows of the new objects of one entry in a transaction; see `new_contents`."""
        label, _, _, content = next(contents)
        first = row_of(label, content)
        _, kind, _, _, place, changed, *_ = first  # The same for all of them.
        rest = (
            (label, kind, area, iou, place, changed, content, zlib.crc32(content.encode()))
            for label, area, iou, content in contents
        )
        connection.executemany(_PUT, chain([first], rest))

    @staticmethod
    def remove_all(connection: Any, labels: Runs) -> None:
        """Remove the rows of objects in a transaction."""
        for first, count in labels:
            connection.execute("DELETE FROM objects WHERE label BETWEEN ? AND ?", (first, first + count - 1))

    @staticmethod
    def put_class(connection: Any, number: int, kind: Sequence[Any] | None) -> None:
        """Store a class, as (name, red, green, blue), in a transaction, or remove it."""
        if kind is None:
            connection.execute("DELETE FROM classes WHERE number = ?", (number,))
        else:
            connection.execute("INSERT OR REPLACE INTO classes VALUES (?, ?, ?, ?, ?)", (number, *kind))

    def _checked(self, label: int, content: str, crc: int) -> str:
        if not isinstance(content, str) or zlib.crc32(content.encode()) != crc:
            raise damaged(self._database.name, f"the row of object {label} has another checksum")
        return content

    def _object(self, label: int, content: str, class_of: Callable[[int], LabelClass | None]) -> LabelledObject:
        with self._understood(label):
            return from_content(label, content, class_of, self._entry)

    @contextmanager
    def _understood(self, label: int) -> Iterator[None]:
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
            raise damaged(self._database.name, f"the row of object {label} is not understood") from error


class ObjectView(Sequence[LabelledObject]):
    """Objects in some order, which are read when they are asked for; it follows what happens to them.

    The number of objects and any object by its label are known at once. A position is found by counting from the
    nearer end.

    Parameters
    ----------
    table, database
        The objects.
    class_number
        Only objects of this class; all when left out.
    order, is_descending
        By what they are ordered; equal ones by label.
    """

    def __init__(
        self,
        table: ObjectTable,
        database: Database,
        class_number: int | None = None,
        order: Order = "label",
        is_descending: bool = False,
    ) -> None:
        self._table, self._database, self._class = table, database, class_number
        self._order, self._is_descending = order, is_descending

    def __len__(self) -> int:
        if self._class is None:
            return self._table.count
        return int(self._database.rows(f"SELECT count(*) FROM objects {self._where}", *self._values)[0][0])  # noqa: S608

    @overload
    def __getitem__(self, at: int) -> LabelledObject: ...
    @overload
    def __getitem__(self, at: slice) -> list[LabelledObject]: ...
    def __getitem__(self, at: int | slice) -> LabelledObject | list[LabelledObject]:
        if isinstance(at, slice) and self._class is not None and _is_plain(at):
            return self._from_begin(at.start or 0, max(at.stop - (at.start or 0), 0))  # Counts no class.
        count = len(self)
        if isinstance(at, slice):
            places = range(count)[at]
            if places.step in (1, -1):
                found = self._at(min(places, default=0), len(places), count)
                return found if places.step == 1 else found[::-1]
            return [self[place] for place in places]
        found = self._at(range(count)[at], 1, count)
        if not found:
            raise damaged(self._database.name, "there are fewer objects than it says")
        return found[0]

    def __iter__(self) -> Iterator[LabelledObject]:
        if self._order != "label":
            for start in range(0, len(self), PAGE):
                yield from self[start : start + PAGE]
            return
        label, compare = (MAX_LABEL, "<=") if self._is_descending else (-MAX_LABEL, ">=")
        is_more = True
        while is_more:
            where = f"{self._where or 'WHERE'}{' AND' if self._where else ''} label {compare} ?"
            rows = self._table.page(where, (*self._values, label), f"{self._sorting()} LIMIT {PAGE}")
            yield from rows
            is_more = len(rows) == PAGE
            label = rows[-1].label + (-1 if self._is_descending else 1) if rows else label

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def get(self, label: int) -> LabelledObject | None:
        """Return the object of a label, or None."""
        found = self._table.get(label)
        if found is None or self._class is None:
            return found
        return found if found.label_class is not None and found.label_class.number == self._class else None

    def of_class(self, number: int) -> ObjectView:
        """Return the objects of a class only."""
        return ObjectView(self._table, self._database, number, self._order, self._is_descending)

    def ordered(self, order: Order, is_descending: bool = False) -> ObjectView:
        """Return the objects in another order."""
        return ObjectView(self._table, self._database, self._class, order, is_descending)

    def position(self, label: int) -> int | None:
        """Return where an object is in this order, or None; the objects before it are counted."""
        if self.get(label) is None:
            return None
        column, compare = _COLUMNS[self._order], ">" if self._is_descending else "<"
        key = f"({column}, label)"
        where = f"{self._where or 'WHERE'}{' AND' if self._where else ''} {key} {compare}"
        count = f"SELECT count(*) FROM objects {where} (SELECT {column}, label FROM objects WHERE label = ?)"  # noqa: S608
        return int(self._database.rows(count, *self._values, int(label))[0][0])

    def labels(self) -> NDArray[np.int64]:
        """Return all labels in this order, shape (n,)."""
        rows = self._database.rows(f"SELECT label FROM objects {self._where} {self._sorting()}", *self._values)  # noqa: S608
        return np.fromiter((label for (label,) in rows), np.int64, len(rows))

    def class_numbers(self) -> NDArray[np.int64]:
        """Return the label and the number of the class of all objects that have one, shape (n, 2), by label."""
        where = self._where or "WHERE class IS NOT NULL"
        rows = self._database.rows(f"SELECT label, class FROM objects {where} ORDER BY label", *self._values)  # noqa: S608
        return np.array(rows, np.int64).reshape(-1, 2)

    @property
    def _where(self) -> str:
        return "" if self._class is None else "WHERE class = ?"

    @property
    def _values(self) -> tuple[int, ...]:
        return () if self._class is None else (self._class,)

    def _sorting(self, is_reversed: bool = False) -> str:
        way = "DESC" if self._is_descending != is_reversed else "ASC"
        column = _COLUMNS[self._order]
        return f"ORDER BY {column} {way}" + ("" if column == "label" else f", label {way}")

    def _at(self, start: int, length: int, count: int) -> list[LabelledObject]:
        """Return the objects from a position on, counted from the nearer end."""
        from_end = count - start - length
        if from_end >= start:
            return self._from_begin(start, length)
        return self._from_begin(from_end, length, is_reversed=True)[::-1]

    def _from_begin(self, start: int, length: int, *, is_reversed: bool = False) -> list[LabelledObject]:
        sorting = self._sorting(is_reversed)
        if self._order != "label" or self._class is not None or start < PAGE:
            return self._table.page(self._where, self._values, f"{sorting} LIMIT {int(length)} OFFSET {int(start)}")
        labels = f"SELECT label FROM objects INDEXED BY objects_by_label {sorting}"  # noqa: S608
        first = self._database.row_at(labels, start)
        if first is None:
            return []
        compare = "<=" if self._is_descending != is_reversed else ">="
        return self._table.page(f"WHERE label {compare} ?", first, f"{sorting} LIMIT {int(length)}")


def _is_plain(at: slice) -> bool:
    """Return whether a slice needs no length to be understood."""
    return at.stop is not None and at.step in (None, 1) and min(at.start or 0, at.stop) >= 0
