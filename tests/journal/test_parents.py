"""Which objects come from which by division: kept, undone, and never in a circle."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.errors import LabelsError
from napari_sam.journal.journal import Journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.array import LabelArray

SHAPE = (4, 20, 20)


def frame(at: int) -> Plane:
    return Plane((1, 2), (at, 0, 0))


def square(top: int, left: int = 2, side: int = 4) -> Mask:
    return Mask(Box(top, left, top + side, left + side), np.ones((side, side), bool))


@pytest.fixture
def labels():
    return LabelArray(np.zeros(SHAPE, np.uint16))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "j"


@pytest.fixture
def journal(folder, labels):
    """Object 1 in the first two frames, 2 and 3 in the third."""
    with Journal(folder, labels) as journal:
        journal.accept(frame(0), square(2))
        journal.accept(frame(1), square(3), label=1)
        journal.accept(frame(2), square(1))
        journal.accept(frame(2), square(12))
        yield journal


def parents(journal):
    return {found.label: found.parent for found in journal.objects}


def test_parents_are_there_after_a_restart_and_undo_and_redo_turn_them(journal, folder, labels):
    journal.set_parents({2: 1, 3: 1})
    journal.close()
    with Journal(folder, labels) as again:
        assert parents(again) == {1: None, 2: 1, 3: 1}
        again.undo()
        assert parents(again) == {1: None, 2: None, 3: None}
        again.redo()
        assert parents(again) == {1: None, 2: 1, 3: 1}
        again.set_parents({3: None})
        assert parents(again) == {1: None, 2: 1, 3: None}
        again.undo()
        assert parents(again) == {1: None, 2: 1, 3: 1}


def test_a_daughter_keeps_its_parent_through_corrections_and_more_frames(journal, labels):
    journal.set_parents({2: 1})
    journal.accept(frame(2), square(1, side=3), label=2)
    journal.accept_parts(frame(3), {2: NewObject(square(2))}, made=Provenance(is_propagated=True))
    journal.classify(2, "cell")
    found = journal.object(2)
    assert (found.parent, len(found.parts), found.label_class.name) == (1, 2, "cell")
    assert [part.is_propagated for part in found.parts] == [False, True]
    journal.undo()
    journal.undo()
    assert journal.object(2).parent == 1
    assert len(journal.object(2).parts) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "No object is named"),
        ({9: 1}, "no object 9"),
        ({2: 9}, "no object 9"),
        ({2: 2}, "which comes from it"),
        ({1: 3}, "which comes from it"),
        ({3: 2, 2: 1, 1: 3}, "which comes from it"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(journal, given, words):
    journal.set_parents({3: 2, 2: 1})
    with pytest.raises(LabelsError, match=words):
        journal.set_parents(given)
    assert parents(journal) == {1: None, 2: 1, 3: 2}


def test_a_part_is_known_to_be_propagated_without_reading_its_entry(journal, monkeypatch):
    journal.accept_parts(
        frame(3), {1: NewObject(square(5)), 2: NewObject(square(12))}, made=Provenance(is_propagated=True)
    )
    read = []
    entry = type(journal._history).entry
    monkeypatch.setattr(type(journal._history), "entry", lambda self, n: read.append(n) or entry(self, n))
    assert journal.part(1, frame(3)).is_propagated
    assert journal.object(2).part(frame(3)).is_propagated
    assert read == []
    assert not journal.part(1, frame(0)).is_propagated


def test_rows_of_earlier_versions_say_by_their_entry_what_was_propagated(journal):
    journal.accept_parts(frame(3), {1: NewObject(square(5))}, made=Provenance(is_propagated=True))
    with journal._history.database.transaction() as connection:
        content = journal._table.content(1).replace(',"propagated":1', "")
        journal._table.put(connection, 1, content)
    part = journal.part(1, frame(3))
    assert not part.says_propagated
    assert part.is_propagated
