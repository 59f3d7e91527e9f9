"""RowChanges: what an entry does to the rows of the tables, and what one has done to them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from napari_sam.journal.changes import Change, changed_objects, parts_of
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.objects import LabelledObject
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.files import damaged
from napari_sam.journal.storage.object_rows import changed_of, from_content, to_content, with_part, without_last_part
from napari_sam.journal.storage.object_table import ObjectTable


class RowChanges:
    """The changes that entries make to the rows of a database.

    Parameters
    ----------
    database, table
        The database, and its objects and classes.
    entry
        Reads the entry of a number.
    """

    def __init__(self, database: Database, table: ObjectTable, entry: Callable[[int], Entry]) -> None:
        self._database, self._table, self._entry = database, table, entry

    def of(self, entry: Entry) -> Change:
        """Return what an entry, which is no undo and no redo, does to the rows."""
        before: dict[int, str | None] = {}

        def get(label: int) -> LabelledObject | None:
            before[label] = content = self._table.content(label)
            return None if content is None else self._table.parsed(label, content)

        grown = tuple(self._grown(entry)) if entry.what == "accept_parts" else ()
        has_grown = {label for label, *_ in grown}
        objects = tuple(
            (label, before[label], None if after is None else to_content(after))
            for label, after in changed_objects(entry, get, self._entry, has_grown)
        )
        added = entry.objects.labels if entry.objects is not None and entry.what == "accept_all" else ()
        return Change(objects, grown, self._classes(entry.label_class), added)

    def recorded(self, number: int | None) -> Change:
        """Return what an entry has done to the rows, as it was recorded when it took effect.

        Raises
        ------
        LabelsError
            The record is damaged.
        """
        rows = self._database.rows("SELECT back FROM entries WHERE n = ?", number)
        try:
            data = json.loads(rows[0][0])
            objects = tuple((int(label), content) for label, content in data.get("objects", ()))
            grown = tuple(map(self._before, data.get("grown", ())))
            classes = tuple((int(n), _class_row_of(kind)) for n, kind in data.get("classes", ()))
            added = tuple((int(first), int(count)) for first, count in data.get("added", ()))
            for label, content in objects:
                if content is not None:
                    from_content(label, content, lambda _: None, self._entry)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise damaged(self._database.name, f"the way back from entry {number} is not understood") from error
        return Change(
            tuple((label, content, self._table.content(label)) for label, content in (*objects, *grown)),
            classes=tuple((n, kind, None) for n, kind in classes),
            added=added,
        )

    def _grown(self, entry: Entry) -> Iterator[tuple[int, str, str, str]]:
        """Yield the objects that get a part in a plane where they have none, without parsing their other parts."""
        for part in parts_of(entry, self._entry):
            before = self._table.content(part.label)
            after = None if before is None else with_part(part.label, before, part, entry.time)
            if before is not None and after is not None:
                yield part.label, before, after, changed_of(before)

    def _before(self, grown: Sequence[Any]) -> tuple[int, str]:
        label, changed, crc = grown
        content = without_last_part(self._table.content(int(label)) or "", str(changed))
        if zlib.crc32(content.encode()) != crc:
            raise ValueError("the object is another one")
        return int(label), content

    def _classes(self, kind: LabelClass | None) -> tuple[tuple[int, Sequence[Any] | None, Sequence[Any] | None], ...]:
        if kind is None:
            return ()
        known = next((other for other in self._table.classes if other.number == kind.number), None)
        return ((kind.number, _class_row(known), _class_row(kind)),)


def _class_row(kind: LabelClass | None) -> Sequence[Any] | None:
    return None if kind is None else (kind.name, *kind.color)


def _class_row_of(data: Any) -> Sequence[Any] | None:
    if data is None:
        return None
    name, *color = data
    red, green, blue = (float(value) for value in color)
    return str(name), red, green, blue
