"""History: the entries of a journal in order, which of them count, and what each does to objects and labels.

An entry is first put on the disk as an intention. It takes effect, on objects and in the order of undo, in a second
transaction after the labels have changed. A program that is killed in between leaves an intention, which takes effect
when the journal is opened next.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, overload

from napari_sam.errors import LabelsError
from napari_sam.journal.changes import Change
from napari_sam.journal.codec import from_json, to_json
from napari_sam.journal.entries import Entry
from napari_sam.journal.patches import Patch
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.files import damaged
from napari_sam.journal.storage.object_rows import new_contents
from napari_sam.journal.storage.object_table import PAGE, ObjectTable
from napari_sam.journal.storage.row_changes import RowChanges
from napari_sam.journal.storage.schema import Content, parse_about

DONE, UNDONE = 1, 2
# Entries that may not be in the labels: one that was interrupted, or all that were made without labels.
MAX_PENDING = 100_000
MAX_REMEMBERED = 64


class State(NamedTuple):
    """The state of a journal.

    Parameters
    ----------
    number
        The last entry that took effect.
    done, objects
        Number of entries that count, and of objects.
    pending
        Entries that may not be in the labels.
    """

    number: int
    done: int
    objects: int
    pending: tuple[int, ...]


class History:
    """The entries and objects of a journal.

    Parameters
    ----------
    database
        The database, which is closed with the journal.

    Attributes
    ----------
    table
        The objects and classes.
    about
        Description of the image in the journal.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        # Entries never change, and the last ones are asked for again and again.
        self._parsed_entries: dict[int, Entry] = {}
        self._intended: tuple[Entry, Change] | None = None
        # Of a journal that is written here, and by nobody else.
        self._state: State | None = None
        self.table = ObjectTable(database, self.entry)
        self._row_changes = RowChanges(database, self.table, self.entry)
        self.about: Content = parse_about(database.row("SELECT content FROM about"), database.path)
        self._take_intention()

    @property
    def number(self) -> int:
        """The last entry that took effect."""
        return self.state.number

    @property
    def state(self) -> State:
        """The state of the journal now."""
        known = self._state
        if known is None:
            with self.database.lock:
                known = self._read_state()
                if not self.database.read_only and self.database.is_open:
                    self._state = known
        return known

    @property
    def entries(self) -> EntryView:
        """The entries that were done and not undone, oldest first."""
        return EntryView(self)

    @property
    def next_undo(self) -> Entry | None:
        """The entry that the next undo takes back, or None."""
        return self._first("DESC", DONE)

    @property
    def next_redo(self) -> Entry | None:
        """The entry that the next redo does again, or None."""
        return self._first("ASC", UNDONE)

    @property
    def redoes_several(self) -> bool:
        """Whether the next redo is one of several of the same action."""
        two = self.of_state(UNDONE, "ORDER BY n ASC LIMIT 2")
        return len(two) == 2 and len({entry.group or entry.number for entry in two}) == 1

    @property
    def redoes_many_objects(self) -> bool:
        """Whether the next redo is one of an action that wrote many objects at once, in one plane or in many."""
        upcoming, after = self.next_redo, 0
        while upcoming is not None:
            some = self.of_state(UNDONE, "AND n > ? ORDER BY n ASC LIMIT ?", after, PAGE)
            own = [entry for entry in some if (entry.group or entry.number) == (upcoming.group or upcoming.number)]
            if any(entry.objects is not None for entry in own):
                return True
            if len(own) < PAGE:
                return False
            after = own[-1].number
        return False

    def entry(self, number: int) -> Entry:
        """Return an entry.

        Raises
        ------
        LabelsError
            It is missing or damaged.
        """
        known = self._parsed_entries.get(number)
        if known is not None:
            return known
        rows = self.database.rows("SELECT n, content, crc FROM entries WHERE n = ?", number)
        if not rows:
            raise LabelsError(f"Entry {number} of {self.database.name} is missing: put the file back from a copy.")
        return self._remember(self._parsed(*rows[0]))

    def of_state(self, state: int, rest: str, *values: Any) -> list[Entry]:
        """Return the entries of a state by the rest of a query."""
        # An entry that has not taken effect yet has a number above that of the state.
        some = "state = ? AND state IS NOT NULL AND n <= (SELECT number FROM state)"
        rows = self.database.rows(f"SELECT n, content, crc FROM entries WHERE {some} {rest}", state, *values)  # noqa: S608
        return [self._parsed(*row) for row in rows]

    def changes(self, entry: Entry) -> Sequence[Patch]:
        """Return what an entry does to the labels."""
        if entry.what == "undo":
            return [patch.reversed() for patch in reversed(self._turned(entry).patches)]
        return self._turned(entry).patches if entry.what == "redo" else entry.patches

    def intend(self, entry: Entry) -> None:
        """Put the next entry on the disk, which has no effect until `take`; one before it that had none is replaced.

        Raises
        ------
        OutputError
            The disk refuses; nothing has changed.
        LabelsError
            The entry is not the next one.
        """
        state = self.state
        self._check_next(entry, state)
        content, crc = _text_of(entry)
        is_turn = entry.what in ("undo", "redo")
        change = Change() if is_turn else self._row_changes.of(entry)
        self._intended = None if is_turn else (entry, change)
        back = "{}" if is_turn else change.back_text()
        row = (entry.number, None if is_turn else DONE, content, crc, back)
        pending = (*(n for n in state.pending if n < entry.number), entry.number)
        with self.database.lock:
            with self.database.transaction(synced=True) as connection:
                connection.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)", row)
                connection.execute("UPDATE state SET pending = ?", (json.dumps(pending),))
            self._state = state._replace(pending=pending)
            self._parsed_entries.pop(entry.number, None)  # An intention that was dropped may have had the number.
            self._remember(entry)

    def take(self, entry: Entry, *, is_written: bool = True) -> None:
        """Let the next entry take effect.

        Parameters
        ----------
        entry
            One that was given to `intend`.
        is_written
            Whether it is in the labels.
        """
        state = self.state
        self._check_next(entry, state)
        with self.database.lock:
            with self.database.transaction() as connection:
                after = self._apply(connection, entry, state, is_written)
            self._state = after

    def drop_intention(self) -> None:
        """Remove an entry that has not taken effect; where the disk refuses, the next entry replaces it."""
        state = self.state
        with self.database.transaction() as connection:
            connection.execute("DELETE FROM entries WHERE n > ?", (state.number,))
            self._set_pending(connection, [n for n in state.pending if n <= state.number])

    def mark(self, number: int) -> None:
        """Note that an entry is in the labels."""
        with self.database.transaction() as connection:
            self._set_pending(connection, [n for n in self.state.pending if n != number])

    def unfinished(self) -> list[Entry]:
        """Return the entries that may not be in the labels: mostly none, or the last one."""
        return [self.entry(number) for number in sorted(self.state.pending)]

    def _read_state(self) -> State:
        found = self.database.row("SELECT number, done, objects, pending FROM state")
        try:
            assert found is not None
            number, done, objects, pending = found
            numbers = tuple(int(n) for n in json.loads(pending))
            state = State(int(number), int(done), int(objects), numbers)
        except (AssertionError, ValueError, TypeError, RecursionError) as error:
            raise damaged(self.database.name, "its state is not understood") from error
        if min(state[:3]) < 0 or len(numbers) > MAX_PENDING:
            raise damaged(self.database.name, "its state is not understood")
        return state

    def _set_pending(self, connection: Any, pending: Sequence[int]) -> None:
        self._state = None  # Read again, whether the transaction succeeds or not.
        connection.execute("UPDATE state SET pending = ?", (json.dumps(pending),))

    def _apply(self, connection: Any, entry: Entry, state: State, is_written: bool) -> State:
        if self._intended is not None and self._intended[0] is entry:
            change = self._intended[1]
        elif entry.what == "undo":
            change = self._row_changes.recorded(entry.of).reversed()
        else:
            change = self._row_changes.of(self._turned(entry))
        self._intended = None
        objects = state.objects
        for label, before, after in change.rows:
            self.table.put(connection, label, after)
            objects += (after is not None) - (before is not None)
        if change.added:
            self.table.put_all(connection, new_contents(self._turned(entry)))
        self.table.remove_all(connection, change.removed)
        objects += sum(count for _, count in change.added) - sum(count for _, count in change.removed)
        for number, _, kind in change.classes:
            self.table.put_class(connection, number, kind)
        if entry.what in ("undo", "redo"):
            turned_to = UNDONE if entry.what == "undo" else DONE
            connection.execute("UPDATE entries SET state = ? WHERE n = ?", (turned_to, entry.of))
        else:
            connection.execute("UPDATE entries SET state = NULL WHERE state = ?", (UNDONE,))
        pending = tuple(n for n in state.pending if n != entry.number or not is_written)
        done = state.done + (-1 if entry.what == "undo" else 1)
        now = State(entry.number, done, objects, pending)
        row = (*now[:3], json.dumps(pending))
        connection.execute("UPDATE state SET number = ?, done = ?, objects = ?, pending = ?", row)
        return now

    def _check_next(self, entry: Entry, state: State) -> None:
        if entry.number != state.number + 1:
            raise LabelsError(
                f"Entry {state.number + 1} of {self.database.name} is missing: put the file back from a copy."
            )
        turned = self.next_undo if entry.what == "undo" else self.next_redo if entry.what == "redo" else None
        if entry.what in ("undo", "redo") and (turned is None or turned.number != entry.of):
            raise LabelsError(
                f"Entry {entry.number} of {self.database.name} is out of order: put the file back from a copy."
            )

    def _take_intention(self) -> None:
        """Let an entry take effect that a killed program had only put on the disk; the labels may not have it."""
        state = self.state
        if state.number + 1 in state.pending and (self.database.is_copy or not self.database.read_only):
            self.take(self.entry(state.number + 1), is_written=False)

    def _turned(self, entry: Entry) -> Entry:
        return entry if entry.of is None else self.entry(entry.of)

    def _first(self, way: str, state: int) -> Entry | None:
        some = "state = ? AND state IS NOT NULL AND n <= ?"
        found = self.database.row(f"SELECT n FROM entries WHERE {some} ORDER BY n {way}", state, self.number)  # noqa: S608
        return self.entry(found[0]) if found else None

    def _remember(self, entry: Entry) -> Entry:
        with self.database.lock:
            if len(self._parsed_entries) >= MAX_REMEMBERED:
                self._parsed_entries.pop(next(iter(self._parsed_entries)))
            self._parsed_entries[entry.number] = entry
        return entry

    def _parsed(self, number: int, content: Any, crc: int) -> Entry:
        try:
            if zlib.crc32(content.encode()) != crc:
                raise damaged(self.database.name, f"entry {number} has another checksum")
            entry = from_json(json.loads(content))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LabelsError(
                f"Entry {number} of {self.database.name} is not understood: put the file back from a copy, or use a "
                "newer program."
            ) from error
        if entry.number != number:
            raise damaged(self.database.name, f"entry {number} calls itself {entry.number}")
        return entry


class EntryView(Sequence[Entry]):
    """The entries that count, oldest first, which are read when they are asked for."""

    def __init__(self, history: History) -> None:
        self._history = history

    def __len__(self) -> int:
        return self._history.state.done

    @overload
    def __getitem__(self, at: int) -> Entry: ...
    @overload
    def __getitem__(self, at: slice) -> list[Entry]: ...
    def __getitem__(self, at: int | slice) -> Entry | list[Entry]:
        count = len(self)
        if isinstance(at, slice):
            places = range(count)[at]
            if places.step != 1:
                return [self[place] for place in places]
            return self._at(places.start, len(places), count)
        found = self._at(range(count)[at], 1, count)
        if not found:
            raise damaged(self._history.database.name, "there are fewer entries than it says")
        return found[0]

    def __iter__(self) -> Iterator[Entry]:
        last, is_more = 0, True
        while is_more:
            page = self._history.of_state(DONE, f"AND n > ? ORDER BY n LIMIT {PAGE}", last)
            yield from page
            is_more = len(page) == PAGE
            last = page[-1].number if page else last

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def _at(self, start: int, length: int, count: int) -> list[Entry]:
        from_end = count - start - length
        if from_end < start:
            return self._history.of_state(DONE, "ORDER BY n DESC LIMIT ? OFFSET ?", length, from_end)[::-1]
        return self._history.of_state(DONE, "ORDER BY n ASC LIMIT ? OFFSET ?", length, start)


def _text_of(entry: Entry) -> tuple[str, int]:
    text = json.dumps(to_json(entry), separators=(",", ":"), allow_nan=False)
    return text, zlib.crc32(text.encode())
