"""Several writers of the same labels: no object is lost, and no label is given twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.files.locks import SharedPlace
from napari_sam.journal.journal import Journal
from napari_sam.labels import access
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (120, 120)
EACH = 30


def opened(kind, folder):
    if kind == "pyramid":
        return LabelPyramid.open(folder / "l.ome.zarr")
    if kind == "memmap":
        return np.memmap(folder / "l.raw", np.uint16, "r+", shape=SHAPE)
    return zarr.open_array(folder / "l.zarr", mode="r+")


def make(kind, folder):
    if kind == "pyramid":
        LabelPyramid.create(folder / "l.ome.zarr", SHAPE, chunks=(50, 50))
    elif kind == "memmap":
        np.memmap(folder / "l.raw", np.uint16, "w+", shape=SHAPE)
    else:
        zarr.create_array(folder / "l.zarr", shape=SHAPE, dtype="u2", chunks=(50, 50))
    return opened(kind, folder)


def write(store, number):
    """Write one object in a place of its own and return its label."""
    row, col = divmod(number, 12)
    box = Box(row * 10 + 1, col * 10 + 1, row * 10 + 9, col * 10 + 9)
    mask = Mask(box, np.ones(box.pixel_shape, bool))
    if isinstance(store, Journal):
        return store.accept(Plane.of(SHAPE), mask).label
    return store.write(Plane.of(SHAPE), mask).label


def place_of(number):
    row, col = divmod(number, 12)
    return slice(row * 10 + 1, row * 10 + 9), slice(col * 10 + 1, col * 10 + 9)


def assert_all_there(array, labels):
    """Every object has the label that it was given, and no other has it."""
    assert sorted(labels.values()) == sorted(set(labels.values()))
    now = np.asarray(array[...])
    for number, label in labels.items():
        assert (now[place_of(number)] == label).all()


@pytest.mark.parametrize(("kind", "keeps_journal"), [("pyramid", False), ("pyramid", True), ("zarr", False)])
def test_two_processes_that_write_into_the_same_labels_lose_nothing(tmp_path, kind, keeps_journal):
    make(kind, tmp_path)
    command = [sys.executable, __file__, str(tmp_path), kind]
    writers = [
        subprocess.Popen(
            [*command, str(first), str(int(keeps_journal and first == 0))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, EACH)
    ]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    labels = {}
    for writer in writers:
        labels |= {int(number): label for number, label in json.loads(writer.communicate()[0]).items()}
        assert writer.returncode == 0
    assert len(labels) == 2 * EACH
    assert_all_there(opened(kind, tmp_path), labels)
    assert {path.name for path in tmp_path.iterdir()} <= {"l.ome.zarr", "l.zarr", "a.journal"}


@pytest.mark.parametrize("kind", ["pyramid", "zarr", "memmap", "numpy"])
def test_stores_and_threads_that_write_in_turns_know_of_each_other(tmp_path, kind):
    first = np.zeros(SHAPE, np.uint16) if kind == "numpy" else make(kind, tmp_path)
    second = first[:] if kind == "numpy" else opened(kind, tmp_path)
    stores = [LabelArray(first), LabelArray(second)]
    labels = {number: write(stores[number % 2], number) for number in range(8)}
    assert list(labels.values()) == list(range(1, 9))

    def work(store, start):
        for number in range(start, start + EACH):
            labels[number] = write(store, number)

    threads = [threading.Thread(target=work, args=(store, 12 + at * EACH)) for at, store in enumerate(stores * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(labels) == 8 + 4 * EACH
    assert_all_there(first, labels)


def test_labels_that_another_writer_gave_more_bits_are_followed(tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "l.ome.zarr", SHAPE, chunks=(50, 50), dtype="uint8")
    mine, other = LabelArray(pyramid), LabelArray(LabelPyramid.open(pyramid.path))
    other.write(Plane.of(SHAPE), Mask(Box(0, 0, 1, 1), np.ones((1, 1), bool)), 255)
    labels = {number: write(store, number) for number, store in enumerate((mine, other, mine, other), start=3)}
    assert list(labels.values()) == [256, 257, 258, 259]
    assert_all_there(pyramid, labels)


def test_what_a_killed_writer_left_is_mended_by_one_that_is_at_work(tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "l.ome.zarr", (1200, 1200), chunks=(50, 50))
    killed = LabelPyramid.open(pyramid.path)
    killed._notes.write(4, (slice(0, 100), slice(0, 100)))
    killed.levels[0][:100, :100] = 4
    half = pyramid.path / "0/c/0/0.01234567.partial"
    half.write_bytes(b"half")
    pyramid[200, 200] = 9
    assert (pyramid.levels[1][:50, :50] == 4).all()
    assert not half.exists()


def test_the_halves_of_chunks_in_a_plain_array_are_removed_and_nothing_else(tmp_path):
    make("zarr", tmp_path)
    LabelArray(opened("zarr", tmp_path)).write(Plane.of(SHAPE), Mask(Box(0, 0, 9, 9), np.ones((9, 9), bool)))
    left = tmp_path / "l.zarr/c/0/0.01234567.partial"
    mine = [tmp_path / "l.zarr/c/0/notes.partial", tmp_path / "l.zarr/notes.01234567.partial"]
    for path in (left, *mine):
        path.write_bytes(b"text")
    assert write(LabelArray(opened("zarr", tmp_path)), 30) == 2
    assert not left.exists()
    assert all(path.exists() for path in mine)


def test_labels_that_another_program_does_not_let_go_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(access, "WAIT_SECONDS", 0.05)
    store = LabelArray(make("pyramid", tmp_path))
    code = "import sys; from pathlib import Path; from napari_sam.files.locks import try_lock\n"
    code += "lock = try_lock(Path(sys.argv[1])); print(lock is not None, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "l.ome.zarr")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with pytest.raises(LabelsError, match="locked by another program"):
            write(store, 0)
        other.kill()
    assert write(store, 0) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("kind", ["pyramid", "zarr"])
def test_a_forked_child_and_its_parent_write_into_the_same_labels(tmp_path, kind):
    store = LabelArray(make(kind, tmp_path))
    labels = {0: write(store, 0)}
    reading, writing = os.pipe()
    with SharedPlace.of(access._outermost(tmp_path / ("l.ome.zarr" if kind == "pyramid" else "l.zarr"))).exclusive(1):
        child = os.fork()
        if child == 0:  # It does not share the lock that its parent holds at this moment.
            try:
                os.write(writing, json.dumps({n: write(store, n) for n in range(20, 28)}).encode())
            finally:
                os._exit(0)
        labels[1] = write(store, 1)
    labels |= {number: write(store, number) for number in range(2, 10)}
    os.waitpid(child, 0)
    labels |= {int(number): label for number, label in json.loads(os.read(reading, 1000)).items()}
    assert len(labels) == 18
    assert_all_there(opened(kind, tmp_path), labels)


def main(folder, kind, first, keeps_journal):
    store = LabelArray(opened(kind, folder))
    journal = Journal(folder / "a.journal", store) if keeps_journal else None
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    with journal or nullcontext():
        print(json.dumps({n: write(journal or store, n) for n in range(first, first + EACH)}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), bool(int(sys.argv[4])))
