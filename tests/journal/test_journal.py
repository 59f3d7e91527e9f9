from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, paste
from napari_sam.core.prompts import Prompts
from napari_sam.core.rendering import Rendering
from napari_sam.errors import LabelsError, OutputError
from napari_sam.journal.codec import from_json, to_json
from napari_sam.journal.entries import Provenance
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.journal.storage.files import NAME, log_of
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (2, 10, 12)
FOREIGN = 9
KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "10"))


def block(top: int, left: int, bottom: int, right: int) -> Mask:
    return Mask(Box(top, left, bottom, right), np.ones((bottom - top, right - left), bool), 0.9, 0.8)


def base_labels() -> np.ndarray:
    """Labels that somebody made before there was a journal."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 2:5, 3:6] = FOREIGN
    return labels


def make(kind: str, folder: Path):
    if kind == "numpy":
        return base_labels()
    if kind == "zarr":
        array = zarr.create_array(folder / "labels.zarr", shape=SHAPE, dtype="u1", chunks=(1, 4, 5))
    else:
        array = LabelPyramid.create(folder / "labels.ome.zarr", SHAPE, chunks=(1, 4, 5), dtype="u1")
    array[...] = base_labels()
    return array


def opened_again(kind: str, array, folder: Path):
    if kind == "zarr":
        return zarr.open_array(folder / "labels.zarr", mode="r+")
    return LabelPyramid.open(folder / "labels.ome.zarr") if kind == "pyramid" else array


def contents(array) -> np.ndarray:
    return np.asarray(array[...])


@st.composite
def masks(draw):
    top, left = draw(st.integers(0, SHAPE[1] - 1)), draw(st.integers(0, SHAPE[2] - 1))
    box = Box(top, left, draw(st.integers(top + 1, SHAPE[1])), draw(st.integers(left + 1, SHAPE[2])))
    pixels = np.random.default_rng(draw(st.integers(0, 999))).random(box.pixel_shape) < 0.7
    return Mask(box, pixels, 0.5, 0.25)


class Model:
    """The labels, the objects and the classes, as plainly as can be."""

    def __init__(self) -> None:
        self.labels = base_labels()
        self.objects: dict[int, tuple[set[int], int | None]] = {}
        self.classes: dict[int, str] = {}

    def copy(self) -> Model:
        other = Model()
        other.labels, other.objects = self.labels.copy(), {k: (set(p), c) for k, (p, c) in self.objects.items()}
        other.classes = dict(self.classes)
        return other

    def class_of(self, name: str | None) -> int | None:
        """The number of a class, made by its first use."""
        if name is None:
            return None
        number = next((n for n, known in self.classes.items() if known == name), max(self.classes, default=0) + 1)
        self.classes[number] = name
        return number

    def accept(self, z: int, mask: Mask, label: int, overlap: str, name: str | None) -> bool:
        """Write pixel by pixel; False where nothing may be written."""
        planes, kind = self.objects.get(label, (set(), None))
        labels = self.labels.copy()
        if z in planes:
            labels[z][labels[z] == label] = 0
        written = others = 0
        for row, col in np.argwhere(mask.pixels):
            at = z, int(mask.box.top) + row, int(mask.box.left) + col
            free = labels[at] in (0, label)
            others += not free
            if free or overlap == "overwrite":
                labels[at] = label
                written += 1
        if not written or (overlap == "empty" and others):
            return False
        self.labels, self.objects[label] = labels, (planes | {z}, self.class_of(name) or kind)
        return True

    def accept_all(self, z: int, masks: list[Mask], free: int, overlap: str, name: str | None) -> list[int | None]:
        """Write masks pixel by pixel, each pixel to the first that may have it."""
        before, labels = self.labels[z].copy(), []
        own = np.zeros_like(before, bool)
        for mask in masks:
            at = np.zeros_like(own)
            at[mask.box.slices] = mask.pixels
            blocked = own | ((before != 0) & (overlap != "overwrite"))
            pixels = at & ~blocked
            if not pixels.any() or (overlap == "empty" and (at & blocked).any()):
                labels.append(None)
                continue
            self.labels[z][pixels] = free
            own |= pixels
            labels.append(free)
            free += 1
        written = [label for label in labels if label is not None]
        number = self.class_of(name) if written else None
        self.objects.update({label: ({z}, number) for label in written})
        return labels

    def delete(self, label: int) -> None:
        for z in self.objects.pop(label)[0]:
            self.labels[z][self.labels[z] == label] = 0


class JournalMachine(RuleBasedStateMachine):
    @initialize(kind=st.sampled_from(["numpy", "zarr", "pyramid"]))
    def start(self, kind):
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp())
        self.array = make(kind, self.folder)
        self.journal = Journal(self.folder / "labels.journal", LabelArray(self.array), durable=False)
        self.done: list[Model] = []
        self.model = Model()
        self.undone: list[Model] = []

    def remember(self, before: Model) -> None:
        self.done.append(before)
        self.undone.clear()

    @rule(
        z=st.integers(0, 1),
        mask=masks(),
        label=st.sampled_from([None, None, 1, 2, 5]),
        overlap=st.sampled_from(["keep", "overwrite", "empty"]),
        name=st.sampled_from([None, "cell", "fold"]),
    )
    def accept(self, z, mask, label, overlap, name):
        before = self.model.copy()
        value = self.journal.next_label if label is None else label
        assert label is not None or not (before.labels == value).any()
        if self.model.accept(z, mask, value, overlap, name):
            planes = before.objects.get(value, (set(), None))[0]
            entry = self.journal.accept(Plane.of(SHAPE, z), mask, label, overlap, class_name=name)
            assert (entry.label, entry.what) == (value, "correct" if z in planes else "accept")
            self.remember(before)
        else:
            with pytest.raises(LabelsError):
                self.journal.accept(Plane.of(SHAPE, z), mask, label, overlap, class_name=name)

    @rule(
        z=st.integers(0, 1),
        some=st.lists(masks(), min_size=1, max_size=5),
        overlap=st.sampled_from(["keep", "overwrite", "empty"]),
        name=st.sampled_from([None, "cell"]),
    )
    def accept_all(self, z, some, overlap, name):
        before, free = self.model.copy(), self.journal.next_label
        labels = self.model.accept_all(z, some, free, overlap, name)
        assert not np.isin(before.labels, [label for label in labels if label is not None]).any()
        objects = [NewObject(mask, Prompts.of([(1, 2)], [1], shape=SHAPE[1:])) for mask in some]
        entry, given = self.journal.accept_all(Plane.of(SHAPE, z), objects, overlap, class_name=name)
        assert given == labels
        if entry is None:
            assert set(labels) == {None}
            return
        assert entry.labels == [label for label in labels if label is not None]
        self.remember(before)
        for label, mask in zip(labels, some, strict=True):
            if label is not None:
                found = self.journal.object(label)
                assert np.array_equal(found.mask.pixels, mask.pixels)
                assert found.prompts.points.tolist() == [[1, 2]]

    @precondition(lambda self: self.model.objects)
    @rule(data=st.data(), name=st.sampled_from([None, "cell", "fold"]))
    def classify(self, data, name):
        label = data.draw(st.sampled_from(sorted(self.model.objects)))
        self.remember(self.model.copy())
        self.model.objects[label] = (self.model.objects[label][0], self.model.class_of(name))
        self.journal.classify(label, name)

    @rule(name=st.sampled_from(["cell", "fold"]), renamed=st.sampled_from([None, "cell", "fold", "nucleus"]))
    def define_class(self, name, renamed):
        if renamed not in (None, name) and renamed in self.model.classes.values():
            with pytest.raises(LabelsError, match="already"):
                self.journal.define_class(name, renamed=renamed)
            return
        self.remember(self.model.copy())
        number = self.model.class_of(name)
        self.model.classes[number] = renamed or name
        assert self.journal.define_class(name, (1, 0, 0), renamed=renamed).number == number

    @precondition(lambda self: self.model.objects)
    @rule(data=st.data())
    def delete(self, data):
        label = data.draw(st.sampled_from(sorted(self.model.objects)))
        self.remember(self.model.copy())
        self.model.delete(label)
        self.journal.delete(label)

    @rule(times=st.integers(1, 4))
    def undo(self, times):
        for _ in range(times):
            entry = self.journal.undo()
            assert (entry is None) == (not self.done)
            if self.done:
                self.undone.append(self.model)
                self.model = self.done.pop()

    @rule(times=st.integers(1, 4))
    def redo(self, times):
        for _ in range(times):
            entry = self.journal.redo()
            assert (entry is None) == (not self.undone)
            if self.undone:
                self.done.append(self.model)
                self.model = self.undone.pop()

    @rule()
    def kill(self):
        """Go on with the journal as it is on the disk while it is open."""
        folder, killed = self.folder / "labels.journal", self.folder / "killed"
        shutil.copytree(folder, killed)
        self.journal.close()
        shutil.rmtree(folder)
        killed.rename(folder)
        self.reopen()

    @rule()
    def reopen(self):
        self.journal.close()
        array = opened_again(self.kind, self.journal.target.array, self.folder)
        self.journal = Journal(self.folder / "labels.journal", LabelArray(array), durable=False)

    @invariant()
    def labels_are_those_of_the_model(self):
        if not hasattr(self, "model"):
            return
        np.testing.assert_array_equal(contents(self.journal.target.array), self.model.labels)
        rows = {row.label: row for row in self.journal.objects}
        assert rows.keys() == self.model.objects.keys()
        assert {kind.number: kind.name for kind in self.journal.classes} == self.model.classes
        for label, (planes, number) in self.model.objects.items():
            row = rows[label]
            assert {part.plane.index[0] for part in row.parts} == planes
            assert (row.label_class and row.label_class.name) == (number and self.model.classes[number])
            assert row.area == sum(int((self.model.labels[z] == label).sum()) for z in planes)

    def teardown(self):
        if not hasattr(self, "model"):
            return
        fresh = base_labels()
        self.journal.restore(LabelArray(fresh))
        np.testing.assert_array_equal(fresh, self.model.labels)
        while self.journal.undo():
            pass
        assert contents(self.journal.target.array).tobytes() == base_labels().tobytes()
        self.journal.close()
        shutil.rmtree(self.folder)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "labels.journal"


def full_entry(journal: Journal):
    prompts = Prompts.of([(3.25, 4), (0, 0)], [1, 0], (1, 2, 6, 7), block(2, 3, 5, 6), shape=SHAPE[1:])
    look = Rendering(((0.0, 9.5), (1.0, 2.0)), (1.0, 0.5), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0)))
    made = Provenance("compact", "abc", -1, Box(0, 0, 10, 12), 2.5, "medium", look, (0, 2))
    return journal.accept(Plane.of(SHAPE, 1), block(2, 3, 5, 6), prompts=prompts, made=made, class_name="cell")


def test_an_entry_survives_the_disk_with_everything_that_it_says(folder):
    with Journal(folder, LabelArray(base_labels()), about={"image": "a.tif"}) as journal:
        entry = full_entry(journal)
    again = open_journal(folder)
    assert again.about["image"] == "a.tif"
    (found,) = again.entries
    assert to_json(found) == to_json(entry)
    assert found.made == entry.made
    assert found.prompts is not None
    assert found.prompts.key == entry.prompts.key
    assert found.mask is not None
    assert (found.mask.iou_prediction, found.mask.stability_score) == (0.9, 0.8)
    (row,) = again.objects
    assert (row.label, row.area, row.plane, row.label_class.name) == (FOREIGN + 1, 9, Plane.of(SHAPE, 1), "cell")
    assert row.created == row.changed == entry.time
    assert np.array_equal(row.mask.pixels, np.ones((3, 3), bool))


def test_an_entry_is_stored_as_json_under_the_keys_of_earlier_versions(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        entry = full_entry(journal)
    with closing(sqlite3.connect(folder / NAME)) as connection:
        (content,) = connection.execute("SELECT content FROM entries").fetchone()
    keys = "areas class label made mask n overlap patches plane prompts time what"
    assert " ".join(sorted(json.loads(content))) == keys
    assert to_json(from_json(json.loads(content))) == to_json(entry)


def change_entry(folder, number, **changes):
    """Change an entry as somebody does who knows how, with a checksum that fits."""
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        (content,) = connection.execute("SELECT content FROM entries WHERE n = ?", (number,)).fetchone()
        changed = json.dumps({**json.loads(content), **changes})
        row = (changed, zlib.crc32(changed.encode()), number)
        connection.execute("UPDATE entries SET content = ?, crc = ? WHERE n = ?", row)


def test_entries_that_are_missing_or_not_understood_are_told(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        for top in (6, 0):
            journal.accept(Plane.of(SHAPE, 0), block(top, top, top + 2, top + 2))
    change_entry(folder, 2, what="explode")
    with pytest.raises(LabelsError, match=r"Entry 2 .* is not understood"):
        list(open_journal(folder).entries)
    change_entry(folder, 2, what="accept", n=7)
    with pytest.raises(LabelsError, match="calls itself 7"):
        list(open_journal(folder).entries)
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        connection.execute("DELETE FROM entries WHERE n = 2")
    with pytest.raises(LabelsError, match=r"Entry 2 .* is missing"):
        _ = open_journal(folder).objects[1].mask


def test_pixels_of_another_size_than_their_box_are_told(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        data = to_json(journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)))
    (patch,) = data["patches"]
    for box, message in (((6, 6, 1_000_000, 1_000_000), "reaches outside the labels"), ((0, 0, 9, 9), "damaged")):
        change_entry(folder, 1, patches=[{**patch, "box": box}])
        with pytest.raises(LabelsError, match=message):
            open_journal(folder).restore(LabelArray(base_labels()))


def test_one_program_writes_at_a_time_and_others_may_read(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9))
        with pytest.raises(OutputError, match="in use by another program"):
            Journal(folder, LabelArray(base_labels()))
        assert len(open_journal(folder).entries) == 1
        with pytest.raises(LabelsError, match="opened without labels"):
            open_journal(folder).undo()
    Journal(folder, LabelArray(base_labels())).close()


def test_a_journal_opened_to_be_read_changes_nothing(folder):
    with pytest.raises(LabelsError, match="There is no journal"):
        open_journal(folder)
    assert not folder.exists()
    with Journal(folder, LabelArray(base_labels())) as journal:
        journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9))
    raw = (folder / NAME).read_bytes()
    reader = Journal(folder, LabelArray(base_labels()), read_only=True)
    assert len(reader.entries) == 1
    with pytest.raises(OutputError, match="read only"):
        reader.undo()
    assert len(reader.entries) == 1
    assert (folder / NAME).read_bytes() == raw
    assert [path.name for path in folder.iterdir()] == [NAME]


class Failing(LabelArray):
    """Labels on a disk that is full at some writes."""

    fails = False

    def apply(self, edit):
        if self.fails:
            raise LabelsError("The labels cannot be written.")
        super().apply(edit)


def state_of(journal):
    """All that a journal tells."""
    entries = [to_json(entry) for entry in journal.entries]
    return entries, list(journal.objects), journal.classes, journal.next_redo and to_json(journal.next_redo)


def test_what_the_labels_refuse_is_not_in_the_journal(folder):
    target = Failing(base_labels())
    with Journal(folder, target) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label
        known, before = state_of(journal), target.array.copy()
        target.fails = True
        for act in (
            journal.undo,
            lambda: journal.delete(label),
            lambda: journal.accept(Plane.of(SHAPE, 0), block(0, 0, 2, 2)),
            lambda: journal.accept_all(Plane.of(SHAPE, 1), some_objects()),
        ):
            with pytest.raises(LabelsError):
                act()
            assert state_of(journal) == known
            assert state_of(open_journal(folder)) == known
            assert np.array_equal(target.array, before)
        target.fails = False
        assert journal.undo().label == label
    assert np.array_equal(target.array, base_labels())


@contextmanager
def full_disk(*paths):
    """Let no file become larger than the smallest of some files is."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(path.stat().st_size for path in paths), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX")
@pytest.mark.parametrize("durable", [True, False])
def test_what_the_journals_disk_refuses_is_not_in_the_labels(folder, durable):
    target = LabelArray(base_labels())
    with Journal(folder, target, durable=durable) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(0, 0, 2, 2)).label
        known, before = state_of(journal), target.array.copy()
        with full_disk(log_of(folder / NAME)):
            for act in (
                journal.undo,
                lambda: journal.delete(label),
                lambda: journal.classify(label, "cell"),
                lambda: journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)),
                lambda: journal.accept_all(Plane.of(SHAPE, 1), some_objects()),
            ):
                with pytest.raises(OutputError, match=r"cannot be written .* make space on the disk"):
                    act()
                assert state_of(journal) == known
                assert np.array_equal(target.array, before)
        assert journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).number == 2
    with Journal(folder, LabelArray(target.array.copy())) as journal:
        assert len(journal.objects) == 2
        assert np.array_equal(journal.target.array, target.array)


class Filling(LabelArray):
    """Labels after whose next write the disk of the journal is full."""

    def __init__(self, array):
        super().__init__(array)
        self.full = ExitStack()
        self.path = None

    def apply(self, edit):
        super().apply(edit)
        if self.path is not None:
            self.full.enter_context(full_disk(self.path))
            self.path = None


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX")
@pytest.mark.parametrize("what", ["accept", "accept_all", "delete", "undo"])
def test_an_operation_whose_disk_is_full_after_the_labels_changed_is_taken_back(folder, what):
    target = Filling(base_labels())
    with Journal(folder, target) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(0, 0, 2, 2)).label
        known, before = state_of(journal), target.array.copy()
        target.path = log_of(folder / NAME)
        acts = {
            "accept": lambda: journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)),
            "accept_all": lambda: journal.accept_all(Plane.of(SHAPE, 1), some_objects()),
            "delete": lambda: journal.delete(label),
            "undo": journal.undo,
        }
        with target.full, pytest.raises(OutputError, match="cannot be written"):
            acts[what]()
        assert state_of(journal) == known
        assert np.array_equal(target.array, before)
        assert journal.accept(Plane.of(SHAPE, 1), block(6, 6, 8, 8)).number == 2
        known, before = state_of(journal), target.array.copy()
    with Journal(folder, LabelArray(before.copy())) as journal:
        assert state_of(journal) == known
        assert np.array_equal(journal.target.array, before)


class Killed(LabelArray):
    """Labels that copy the journal at each write, as it is on the disk if the program is killed right then."""

    folder, copies = Path(), 0

    def apply(self, edit):
        self.copies += 1
        shutil.copytree(self.folder, self.folder.with_name(f"killed{self.copies}.journal"))
        super().apply(edit)


def some_objects():
    """Three objects, of which the first two overlap."""
    return [NewObject(block(*box), None) for box in ((0, 0, 4, 4), (2, 2, 6, 6), (7, 7, 9, 9))]


def test_an_operation_that_a_crash_interrupted_is_finished(folder):
    target = Killed(base_labels())
    target.folder = folder
    states, labels = [], [base_labels()]
    with Journal(folder, target) as journal:
        for act in (
            lambda: journal.accept(Plane.of(SHAPE, 0), block(0, 0, 6, 6), overlap="overwrite"),
            lambda: journal.delete(FOREIGN + 1),
            journal.undo,
            journal.undo,
            journal.redo,
            lambda: journal.accept_all(Plane.of(SHAPE, 1), some_objects(), class_name="cell"),
            journal.undo,
            journal.redo,
        ):
            act()
            states.append(state_of(journal))
            labels.append(target.array.copy())
    assert target.copies == 8
    for number in range(8):
        copy = folder.with_name(f"killed{number + 1}.journal")
        assert state_of(open_journal(copy)) == states[number]
        assert not open_journal(copy).trouble
        killed = LabelArray(labels[number].copy())
        with Journal(copy, killed) as journal:
            assert state_of(journal) == states[number]
            assert np.array_equal(killed.array, labels[number + 1])
            while journal.undo():
                pass
        assert np.array_equal(killed.array, base_labels())


def test_what_was_not_in_the_labels_waits_until_they_are_there(folder):
    target = Killed(base_labels())
    target.folder = folder
    with Journal(folder, target) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label
    copy = folder.with_name("killed1.journal")
    with Journal(copy) as journal:
        journal.classify(label, "cell")
    late = base_labels()
    with Journal(copy, LabelArray(late)) as journal:
        assert journal.objects[0].label_class.name == "cell"
    assert np.array_equal(late, target.array)


def test_pixels_painted_by_hand_since_stay(folder):
    labels = base_labels()
    with Journal(folder, LabelArray(labels)) as journal:
        journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9))
        labels[0, 7, 7] = 3
        journal.undo()
    expected = base_labels()
    expected[0, 7, 7] = 3
    assert np.array_equal(labels, expected)


def test_a_label_that_was_undone_is_free_again_and_one_that_was_deleted_is_not(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label
        journal.undo()
        assert journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label == label
        journal.delete(label)
        assert journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label == label + 1


def test_labels_get_more_bits_where_the_next_one_needs_them(folder):
    labels = base_labels()
    labels[1, 0, 0] = 255
    with Journal(folder, LabelArray(labels)) as journal:
        assert journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label == 256
        assert journal.target.array.dtype == np.uint32
        fresh = LabelArray(np.zeros(SHAPE, np.uint8))
        journal.restore(fresh)
        assert (fresh.array == 256).sum() == 9
        while journal.undo():
            pass
        assert np.array_equal(journal.target.array, labels)


def test_classes_are_named_coloured_and_renamed(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9), class_name="cell").label
        red = journal.define_class("fold", (1, 0, 0))
        journal.define_class("cell", renamed="nucleus")
        assert [(kind.number, kind.name) for kind in journal.classes] == [(1, "nucleus"), (2, "fold")]
        assert journal.object(label).label_class == journal.classes[0]
        assert red.color == (1, 0, 0)
        for bad in (
            lambda: journal.define_class("fold", renamed="nucleus"),
            lambda: journal.define_class(" "),
            lambda: journal.define_class("x", (2, 0, 0)),
            lambda: journal.classify(77, "cell"),
        ):
            with pytest.raises(LabelsError):
                bad()
        journal.undo()
        assert journal.object(label).label_class.name == "cell"


def test_an_object_is_found_by_its_pixels(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label
        plane = Plane.of(SHAPE, 0)
        assert journal.object_at(plane, 7, 7).label == label
        assert journal.object_at(plane, 3, 4) is None
        assert journal.object_at(plane, 0, 0) is None
        assert journal.object_at(plane, 99, 0) is None


WRITER = """
import sys
import numpy as np
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.array import LabelArray

shape, folder = (2, 200, 200), sys.argv[1]
pyramid = LabelPyramid.open(folder + "/labels.ome.zarr")
journal = Journal(folder + "/labels.ome.zarr.journal", LabelArray(pyramid), durable=False)
rng = np.random.default_rng(int(sys.argv[2]))
print("ready", flush=True)
while True:
    act = rng.integers(10)
    if act == 0 and journal.objects:
        journal.delete(journal.objects[0].label)
    elif act == 1:
        journal.undo()
    elif act < 5:
        masks = [Mask(Box(top, left, top + 9, left + 9), rng.random((9, 9)) < 0.5)
                 for top, left in rng.integers(0, 190, (60, 2)).tolist()]
        overlap = ("keep", "overwrite")[rng.integers(2)]
        journal.accept_all(Plane.of(shape, int(rng.integers(2))), [NewObject(mask) for mask in masks], overlap)
    else:
        top, left = (int(at) for at in rng.integers(0, 150, 2))
        box = Box(top, left, top + 40, left + 40)
        journal.accept(Plane.of(shape, int(rng.integers(2))), Mask(box, rng.random((40, 40)) < 0.5), None, "overwrite")
    print(len(journal.entries), journal.next_undo.number if journal.next_undo else 0, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_killed_at_random_moments_it_loses_nothing_that_was_accepted(tmp_path):
    LabelPyramid.create(tmp_path / "labels.ome.zarr", (2, 200, 200), chunks=(1, 64, 64))
    folder = tmp_path / "labels.ome.zarr.journal"
    moments = random.Random(0)
    for run in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.02, 0.12))
            process.send_signal(signal.SIGKILL)
            told = process.stdout.read().split("\n")[:-1]
        with Journal(folder, LabelArray(LabelPyramid.open(tmp_path / "labels.ome.zarr"))) as journal:
            if told:
                count, number = map(int, told[-1].split())
                known = {entry.number for entry in journal.entries}
                # What was told is there; of what came after, at most the operation that was under way.
                assert abs(len(known) - count) <= 1
                assert len(known) < count or number in known | {0}
            fresh = np.zeros((2, 200, 200), np.uint16)
            journal.restore(LabelArray(fresh))
            assert np.array_equal(fresh, contents(journal.target.array))
            for row in journal.objects:
                assert row.area == (fresh == row.label).sum()
    assert len(open_journal(folder).entries) > 10


def test_a_correction_replaces_the_object_in_its_plane_only(folder):
    labels = base_labels()
    with Journal(folder, LabelArray(labels)) as journal:
        label = journal.accept(Plane.of(SHAPE, 0), block(6, 6, 9, 9)).label
        journal.accept(Plane.of(SHAPE, 1), block(6, 6, 9, 9), label)
        assert journal.accept(Plane.of(SHAPE, 0), block(7, 7, 10, 10), label).what == "correct"
    expected = base_labels()
    paste(expected[1, 6:9, 6:9], block(6, 6, 9, 9), label)
    paste(expected[0, 7:10, 7:10], block(7, 7, 10, 10), label)
    assert np.array_equal(labels, expected)


def test_a_label_from_elsewhere_is_taken_over(folder):
    labels = base_labels()
    with Journal(folder, LabelArray(labels)) as journal:
        plane = Plane.of(SHAPE, 0)
        assert journal.accept(plane, block(3, 4, 6, 9), FOREIGN, replaces=Box(2, 3, 5, 6)).what == "accept"
        expected = np.zeros(SHAPE, np.uint8)
        expected[0, 3:6, 4:9] = FOREIGN
        assert np.array_equal(labels, expected)
        assert journal.objects[0].area == 15
        assert journal.accept(plane, block(0, 0, 1, 1), FOREIGN).what == "correct"
        assert labels.sum() == FOREIGN
        journal.undo()
        journal.undo()
    assert np.array_equal(labels, base_labels())


def test_a_mask_on_a_plane_across_takes_its_pixels_from_the_parts_that_had_them(tmp_path):
    labels = np.zeros((3, 6, 7), np.uint16)
    with Journal(tmp_path / "a.journal", LabelArray(labels)) as journal:
        for index in (0, 2):
            journal.accept(Plane((1, 2), (index, 0, 0)), block(1, 1, 4, 6), label=1)
        journal.accept(Plane((0, 2), (0, 2, 0)), block(0, 0, 2, 5), overlap="overwrite")
        parts = {part.plane.index[0]: part.area for part in journal.object(1).parts}
        assert parts == {index: np.count_nonzero(labels[index] == 1) for index in (0, 2)} == {0: 11, 2: 15}
        journal.undo()
        assert [part.area for part in journal.object(1).parts] == [15, 15]
    reopened = open_journal(tmp_path / "a.journal")
    assert reopened.objects[0].area == 30


def test_what_is_accepted_outside_the_labels_is_told(folder):
    with Journal(folder, LabelArray(base_labels())) as journal:
        for mask in (block(8, 8, 12, 12), Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool))):
            with pytest.raises(LabelsError):
                journal.accept(Plane.of(SHAPE, 0), mask)
        assert journal.entries == []
    with pytest.raises(LabelsError, match=r"is of labels of shape \(2, 10, 12\)"):
        make_other(folder)


def make_other(folder):
    other = folder.with_name("other.journal")
    Journal(other, LabelArray(base_labels()), about={"shape": list(SHAPE)}).close()
    Journal(other, LabelArray(np.zeros((3, 3), np.uint8)))
