"""An operation on an object reads the box of its edit once and writes it once, whatever holds the labels."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.journal.journal import Journal
from napari_sam.labels.additions import adding_to
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.storage import chunks, multiscales
from napari_sam.labels.storage.chunk_files import Staged

SHAPE = (3, 40, 48)
PLANE, OTHER = Plane.of(SHAPE, 1), Plane.of(SHAPE, 2)
CHUNK = 16


def block(top: int, left: int, bottom: int, right: int) -> Mask:
    return Mask(Box(top, left, bottom, right), np.ones((bottom - top, right - left), bool))


class CountingArray:
    """Labels of a library of its own, which counts what is read and written by an index."""

    def __init__(self) -> None:
        self.pixels = np.zeros(SHAPE, np.uint16)
        self.shape, self.dtype = self.pixels.shape, self.pixels.dtype
        self.counts = Counter()

    def __getitem__(self, key):
        self.counts["read"] += 1
        return self.pixels[key].copy()

    def __setitem__(self, key, values):
        self.counts["write"] += 1
        self.pixels[key] = values


@pytest.fixture(params=["journal on disk", "journal in memory"])
def make_journal(request, tmp_path):
    journals = []

    def make(array):
        labels = LabelArray(array)
        labels.next_label  # noqa: B018  The one search of the whole array.
        folder = None if request.param == "journal in memory" else tmp_path / "a.journal"
        journals.append(Journal(folder, labels, durable=False))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()


def operations(journal):
    """Yield what is done with a journal, one operation after the other, by name."""
    yield "accept", lambda: journal.accept(PLANE, block(3, 4, 20, 30))
    yield "accept beside", lambda: journal.accept(PLANE, block(18, 28, 36, 40))
    yield "correct", lambda: journal.accept(PLANE, block(10, 10, 22, 33), 1)
    yield "undo", journal.undo
    yield "redo", journal.redo
    yield "delete", lambda: journal.delete(1)
    yield "undo of delete", journal.undo


def test_each_operation_reads_its_box_once_and_writes_it_once(make_journal):
    array = CountingArray()
    journal = make_journal(array)
    for name, act in operations(journal):
        array.counts.clear()
        act()
        assert array.counts == {"read": 1, "write": 1}, name


def test_an_object_in_two_planes_is_deleted_by_one_read_and_one_write_for_each(make_journal):
    array = CountingArray()
    journal = make_journal(array)
    for plane in (PLANE, OTHER):
        journal.accept(plane, block(3, 4, 20, 30), 1)
    array.counts.clear()
    journal.delete(1)
    assert array.counts == {"read": 2, "write": 2}
    assert not array.pixels.any()


def test_a_mask_that_is_refused_is_read_once_and_nothing_is_written(make_journal):
    array = CountingArray()
    journal = make_journal(array)
    journal.accept(PLANE, block(3, 4, 20, 30))
    array.counts.clear()
    with pytest.raises(LabelsError, match="belongs to other objects"):
        journal.accept(PLANE, block(5, 5, 9, 9))
    assert array.counts == {"read": 1}


@pytest.fixture
def chunk_counts(monkeypatch):
    """Count how often each chunk is read and put in its place, by our own functions and by zarr."""
    reads, writes = Counter(), Counter()
    read_file, get, commit = chunks.read_file, LocalStore.get, Staged.commit

    def counted_read(array, whole):
        reads[array.path, tuple(at.start // n for at, n in zip(whole, array.chunks, strict=True))] += 1
        return read_file(array, whole)

    async def counted_get(store, key, *args, **options):
        level, _, index = key.partition("/c/")
        if index:
            reads[level, tuple(map(int, index.split("/")))] += 1
        return await get(store, key, *args, **options)

    def counted_commit(staged):
        level, _, index = str(staged.path).partition("/c/")
        writes[level.rpartition("/")[2], tuple(map(int, index.split("/")))] += 1
        commit(staged)

    monkeypatch.setattr(chunks, "read_file", counted_read)
    monkeypatch.setattr(LocalStore, "get", counted_get)
    monkeypatch.setattr(Staged, "commit", counted_commit)
    return reads, writes


def under(*boxes):
    """The indices of the chunks of level 0 under boxes of PLANE."""
    return {
        (1, row, col)
        for box in boxes
        for row in range(int(box.top) // CHUNK, -(-int(box.bottom) // CHUNK))
        for col in range(int(box.left) // CHUNK, -(-int(box.right) // CHUNK))
    }


def test_each_chunk_of_a_pyramid_is_read_once_and_written_once(tmp_path, monkeypatch, make_journal, chunk_counts):
    reads, writes = chunk_counts
    monkeypatch.setattr(multiscales, "COARSEST_SIDE", CHUNK)
    pyramid = LabelPyramid.create(tmp_path / "a.ome.zarr", SHAPE, chunks=(1, CHUNK, CHUNK))
    assert len(pyramid.levels) == 3
    journal = make_journal(pyramid)
    for name, act in operations(journal):
        before = np.asarray(pyramid[1])
        reads.clear()
        writes.clear()
        act()
        counted = {key: (reads[key], writes[key]) for key in {*reads, *writes}}
        rows, cols = np.nonzero(np.asarray(pyramid[1]) != before)
        changed = {("0", (1, int(row) // CHUNK, int(col) // CHUNK)) for row, col in zip(rows, cols, strict=True)}
        assert {key for key, (_, written) in counted.items() if written and key[0] == "0"} == changed, name
        assert {key: counts for key, counts in counted.items() if key in changed} == dict.fromkeys(changed, (1, 1)), (
            name
        )
        assert all(read <= 1 and written <= 1 for read, written in counted.values()), name
        assert {level for (level, _), (_, written) in counted.items() if written} == {"0", "1", "2"}, name


def test_what_another_store_writes_between_two_edits_is_read_again(tmp_path):
    path = tmp_path / "a.ome.zarr"
    first = LabelArray(LabelPyramid.create(path, SHAPE, chunks=(1, CHUNK, CHUNK)))
    second = LabelArray(LabelPyramid.open(path))
    with first.exclusive():
        first.read(PLANE, Box(0, 0, 16, 16))
        first.write(PLANE, block(0, 0, 8, 8))
    second.write(PLANE, block(8, 8, 16, 16))
    first.write(PLANE, block(0, 8, 8, 16))
    np.testing.assert_array_equal(np.unique(np.asarray(zarr.open_array(path / "0", mode="r")[1])), [0, 1, 2, 3])


def test_an_object_that_is_added_is_logged_without_another_read(tmp_path, chunk_counts):
    reads, _ = chunk_counts
    labels = LabelArray(LabelPyramid.create(tmp_path / "a.ome.zarr", SHAPE, chunks=(1, CHUNK, CHUNK)))
    labels.write(PLANE, block(0, 0, 40, 48))
    reads.clear()
    with adding_to(labels):
        labels.write(PLANE, block(3, 4, 20, 30), overlap="overwrite")
    assert {index: count for (level, index), count in reads.items() if level == "0"} == dict.fromkeys(
        under(Box(3, 4, 20, 30)), 1
    )
