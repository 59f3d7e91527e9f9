"""No operation of a journal does more work with more objects: counted in steps of SQLite, and not in seconds."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.journal.storage import database
from napari_sam.labels.array import LabelArray

FEW, MANY = 100, 5000
SHAPE = (4 * 72, 4 * 72)
ROWS = 30


class Steps:
    """Counts the instructions that SQLite executes on all connections of journals."""

    def __init__(self, monkeypatch):
        self.count = 0
        connect = database.connect

        def counted(*given):
            connection = connect(*given)
            connection.set_progress_handler(self._step, 1)
            return connection

        monkeypatch.setattr(database, "connect", counted)

    def _step(self):
        self.count += 1

    def of(self, work):
        """Return how many instructions some work takes."""
        before = self.count
        work()
        return self.count - before


@pytest.fixture
def steps(monkeypatch):
    return Steps(monkeypatch)


def accept(journal, number):
    top, left = (4 * at for at in divmod(number, SHAPE[1] // 4))
    mask = Mask(Box(top, left, top + 3, left + 3), np.ones((3, 3), bool), 0.9, 0.8)
    return journal.accept(Plane.of(SHAPE), mask, class_name="cell" if number % 2 else None)


@contextmanager
def filled(folder, count):
    with Journal(folder, LabelArray(np.zeros(SHAPE, np.uint16)), durable=False) as journal:
        for number in range(count):
            accept(journal, number)
        yield journal


def listed(journal):
    return [
        len(journal.objects),
        journal.objects[:ROWS],
        journal.objects[-ROWS:],
        journal.objects.of_class(1)[:ROWS],
        journal.objects.ordered("label", True)[:ROWS],
        journal.object(FEW // 3),
        journal.objects.get(FEW // 3),
    ]


def accept_all(journal):
    """Accept objects in the place of the first ones."""
    masks = [Mask(Box(0, left, 3, left + 3), np.ones((3, 3), bool), 0.9, 0.8) for left in range(0, 40, 4)]
    return journal.accept_all(Plane.of(SHAPE), [NewObject(mask) for mask in masks], "overwrite")


WORK = {
    "accept": lambda journal: accept(journal, journal.objects[-1].label),
    "correct": lambda journal: journal.accept(Plane.of(SHAPE), Mask(Box(0, 0, 2, 2), np.ones((2, 2), bool)), label=1),
    "delete": lambda journal: journal.delete(FEW // 2),
    "undo": Journal.undo,
    "redo": Journal.redo,
    "accept_all": accept_all,
    "undo them": Journal.undo,
    "redo them": Journal.redo,
    "classify": lambda journal: journal.classify(3, "fold"),
    "undo an action": Journal.undo_together,
    "rename a class": lambda journal: journal.define_class("cell", renamed="nucleus"),
    "next label": lambda journal: journal.next_label,
    "next steps": lambda journal: (journal.next_undo, journal.next_redo, journal.redoes_several),
    "last entries": lambda journal: (journal.entries[-1], journal.entries[-5:], len(journal.entries)),
    "list": listed,
}


def steps_with(count, folder, steps):
    """Return how many steps each operation takes on a journal with so many objects."""
    with filled(folder, count) as journal:
        found = {name: steps.of(lambda work=work: work(journal)) for name, work in WORK.items()}
    target = LabelArray(np.zeros(SHAPE, np.uint16))
    found["open"] = steps.of(lambda: Journal(folder, target).close())
    found["open to read"] = steps.of(lambda: open_journal(folder).objects[:ROWS])
    return found


def test_no_operation_takes_more_steps_with_more_objects(tmp_path, steps):
    few, many = (steps_with(count, tmp_path / f"{count}.journal", steps) for count in (FEW, MANY))
    assert min(few.values()) > 0
    for name, count in few.items():
        assert many[name] <= 1.2 * count + 20, f"{name}: {count} steps with {FEW} objects, {many[name]} with {MANY}"


def test_the_steps_of_work_that_grows_are_seen_to_grow(tmp_path, steps):
    taken = []
    for count in (FEW, 3 * FEW):
        with filled(tmp_path / f"{count}.journal", count) as journal:
            taken.append(steps.of(lambda: list(journal.objects)))
    assert taken[1] > 2.5 * taken[0]
