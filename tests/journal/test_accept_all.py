"""Many objects in one entry: each of them is like one that was accepted alone."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import zlib
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.codec import from_json, to_json
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.packing.arrays import pack_bytes, unpack_bytes
from napari_sam.journal.packing.objects import NewObject
from napari_sam.journal.storage.files import NAME
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "10"))
SHAPE = (60, 70)
PLANE = Plane.of(SHAPE)
MADE = Provenance("compact", "abc", 0, Box(0, 0, 60, 70), 1.0, "best")


def target(dtype=np.uint16):
    return LabelArray(np.zeros(SHAPE, dtype))


def random_objects(count: int, seed: int = 0, side: int = 12) -> list[NewObject]:
    """Objects that overlap, with all kinds of prompts."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        top, left = (int(rng.integers(0, length - side)) for length in SHAPE)
        box = Box(top, left, top + int(rng.integers(2, side)), left + int(rng.integers(2, side)))
        pixels = rng.random(box.pixel_shape) < 0.7
        pixels[0, 0] = True
        mask = Mask(box, pixels, float(rng.random()), float("nan") if number % 5 == 0 else 0.5)
        prompts = (
            None,
            Prompts.of([(top + 0.25, left), (0, 0)], [1, 0], shape=SHAPE),
            Prompts.of(box=box.as_tuple(), shape=SHAPE),
            Prompts.of([(top, left)], [1], box, mask, shape=SHAPE),
        )[number % 4]
        found.append(NewObject(mask, prompts))
    return found


def said_of(found):
    """All that is said of an object but its number and time."""
    (part,) = found.parts
    prompts = part.prompts
    scores = [None if np.isnan(score) else score for score in (found.iou_prediction, found.stability_score)]
    mask = found.mask
    return (
        (found.label, found.area, part.plane, part.box, found.label_class, scores, part.made, part.overlap),
        (mask.box, mask.pixels.tolist(), mask.iou_prediction),
        prompts and prompts.key,
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "labels.journal"


@pytest.mark.parametrize("overlap", ["keep", "empty"])
def test_each_object_is_like_one_that_was_accepted_alone(folder, tmp_path, overlap):
    objects = random_objects(150)
    together, alone = target(), target()
    for labels in (together, alone):
        labels.array[20:30, 20:30] = 7
    labels = []
    with Journal(folder, together) as journal, Journal(tmp_path / "alone.journal", alone) as other:
        entry, given_labels = journal.accept_all(PLANE, objects, overlap, made=MADE, class_name="cell")
        for each in objects:
            try:
                one = other.accept(PLANE, each.mask, None, overlap, prompts=each.prompts, made=MADE, class_name="cell")
                labels.append(one.label)
            except LabelsError:
                labels.append(None)
        assert None in labels
        assert given_labels == labels
        assert np.array_equal(together.array, alone.array)
        assert len(entry.labels) == len(journal.objects) == len(other.objects)
        assert [entry.what for entry in journal.entries] == ["accept_all"]
    with open_journal(folder) as journal, open_journal(tmp_path / "alone.journal") as other:
        for label in entry.labels:
            assert said_of(journal.object(label)) == said_of(other.object(label))
        columns = "SELECT label, class, area, iou, place FROM objects"
        assert journal._history.database.rows(columns) == other._history.database.rows(columns)


def test_of_masks_that_overlap_the_first_gets_the_pixels_also_of_other_objects(folder):
    labels = target()
    square = lambda top, left, side: Mask(Box(top, left, top + side, left + side), np.ones((side, side), bool))  # noqa: E731
    with Journal(folder, labels) as journal:
        journal.accept(PLANE, square(0, 0, 10))
        entry, given_labels = journal.accept_all(
            PLANE, [NewObject(square(5, 5, 10)), NewObject(square(8, 8, 10)), NewObject(square(6, 6, 3))], "overwrite"
        )
        assert given_labels == [2, 3, None]
        assert {found.label: found.area for found in journal.objects} == {1: 75, 2: 100, 3: 51}
        assert entry.areas == ((1, 0, -25),)
        journal.undo()
        assert {found.label: found.area for found in journal.objects} == {1: 100}
        assert np.count_nonzero(labels.array) == 100
        assert journal.next_label == 2
        journal.redo()
        assert {found.label: found.area for found in journal.objects} == {1: 75, 2: 100, 3: 51}


def test_an_object_of_many_is_corrected_covered_classified_and_deleted(folder):
    labels = target()
    with Journal(folder, labels) as journal:
        journal.accept_all(PLANE, random_objects(30), made=MADE)
        for act in (
            lambda: journal.accept(PLANE, Mask(Box(0, 0, 5, 5), np.ones((5, 5), bool)), label=3, overlap="overwrite"),
            lambda: journal.accept(
                PLANE, Mask(Box(10, 10, 40, 40), np.ones((30, 30), bool)), overlap="overwrite", class_name="fold"
            ),
            lambda: journal.classify(5, "cell"),
            lambda: journal.delete(6),
        ):
            act()
            for found in journal.objects:
                assert found.area == (labels.array == found.label).sum()
        assert journal.object(3).mask.area == 25
        assert journal.object(5).label_class.name == "cell"
        after = labels.array.copy()
        journal.restore(fresh := target())
        assert np.array_equal(fresh.array, after)
        while journal.undo():
            pass
        assert not labels.array.any()
        assert len(journal.objects) == 0
        while journal.redo():
            pass
        assert np.array_equal(labels.array, after)


def test_many_entries_of_one_action_are_one_step(folder):
    labels = target()
    with Journal(folder, labels) as journal:
        journal.accept(PLANE, Mask(Box(0, 0, 1, 1), np.ones((1, 1), bool)))
        with journal.together():
            made = [journal.accept_all(PLANE, random_objects(20, seed)).entry for seed in range(4)]
        after = labels.array.copy()
    with Journal(folder, labels) as journal:
        assert [entry.labels for entry in journal.undo_together()] == [entry.labels for entry in reversed(made)]
        assert labels.array.sum() == 1
        assert [entry.number for entry in journal.redo_together()] == [entry.number for entry in made]
        assert np.array_equal(labels.array, after)


def test_nothing_is_written_where_every_pixel_is_of_others(folder):
    labels = target()
    labels.array[...] = 1
    with Journal(folder, labels) as journal:
        assert journal.accept_all(PLANE, random_objects(3)) == (None, [None] * 3)
        assert journal.entries == []
        for refused, message in (
            ([], "no mask"),
            ([NewObject(Mask(Box(50, 0, 70, 5), np.ones((20, 5), bool)))], "reaches outside"),
        ):
            with pytest.raises(LabelsError, match=message):
                journal.accept_all(PLANE, refused)
        with pytest.raises(LabelsError, match="does not exist"):
            journal.accept_all(PLANE, random_objects(3), "mine")
        assert journal.entries == []


def test_labels_get_more_bits_where_new_ones_need_them_and_free_ones_are_taken_where_they_cannot(folder, tmp_path):
    squares = [NewObject(Mask(Box(9, at, 12, at + 3), np.ones((3, 3), bool))) for at in range(0, 60, 3)]
    labels = target(np.uint8)
    labels.array[0, 0] = 250
    with Journal(folder, labels) as journal:
        assert journal.accept_all(PLANE, squares).labels == list(range(251, 271))
        assert labels.array.dtype == np.uint32
    fixed = np.memmap(tmp_path / "labels.raw", np.uint8, "w+", shape=SHAPE)
    fixed[0, :3] = 2, 4, 250
    with Journal(tmp_path / "fixed.journal", LabelArray(fixed)) as journal:
        journal.accept(PLANE, Mask(Box(20, 20, 22, 22), np.ones((2, 2), bool)), label=3)
        first = journal.accept_all(PLANE, squares[:10]).labels
        assert first == [251, 252, 253, 254, 255, 1, 5, 6, 7, 8]
        assert journal.object(8).area == (fixed == 8).sum() == 9
        before = fixed.copy()
        tiny = [
            NewObject(Mask(Box(row, at, row + 1, at + 1), np.ones((1, 1), bool)))
            for row in range(30, 36)
            for at in range(60)
        ]
        with pytest.raises(LabelsError, match="All labels that uint8 can hold are in use"):
            journal.accept_all(PLANE, tiny)
        assert np.array_equal(fixed, before)
        assert [entry.what for entry in journal.entries] == ["accept", "accept_all"]


def test_a_label_that_others_cover_is_not_given_again(folder):
    labels = target()
    whole = Mask(Box(0, 0, 20, 20), np.ones((20, 20), bool))
    with Journal(folder, labels) as journal:
        for label in (3, 2):
            journal.accept(PLANE, whole, label=label, overlap="overwrite")
        assert labels.array.max() == 2
    with Journal(folder, LabelArray(labels.array)) as journal:
        entry, _ = journal.accept_all(PLANE, random_objects(4, side=6), "overwrite")
        assert entry.labels == [4, 5, 6, 7]


# What is on the disk


def test_an_entry_of_many_objects_survives_the_disk(folder):
    with Journal(folder, target()) as journal:
        entry, _ = journal.accept_all(PLANE, random_objects(9), made=MADE, class_name="cell")
    (found,) = open_journal(folder).entries
    assert to_json(found) == to_json(entry) == to_json(from_json(json.loads(json.dumps(to_json(entry)))))
    keys = "areas class made n objects overlap patches plane time what"
    assert " ".join(sorted({**to_json(entry), "areas": []})) == keys


def test_a_nucleus_of_a_thousand_takes_less_than_half_a_kilobyte(folder):
    rows, cols = np.mgrid[:12, :12] - 5.5
    disc = rows**2 + cols**2 <= 36
    shape = (16 * 32, 16 * 32)
    objects = [
        NewObject(
            Mask(Box(top, left, top + 12, left + 12), disc, 0.9, 0.8), Prompts.of([(top, left)], [1], shape=shape)
        )
        for top in range(0, shape[0], 16)
        for left in range(0, shape[1], 16)
    ]
    with Journal(folder, LabelArray(np.zeros(shape, np.uint16)), durable=False) as journal:
        journal.accept_all(Plane.of(shape), objects)
    assert (folder / NAME).stat().st_size / len(objects) < 450


@pytest.mark.parametrize("length", [0, 1, 5, 511, 512, 513, 514, 515, 5000])
def test_bytes_are_packed_as_by_the_standard_library(length):
    raw = np.random.default_rng(length).bytes(length)
    text = pack_bytes(raw)
    assert text == base64.b85encode(zlib.compress(raw, 1)).decode()
    assert unpack_bytes(text, length) == raw
    for bad in (text[:-1], "~" * len(text), text[:20] + " " + text[21:], text[:20] + "é" + text[21:]):
        with pytest.raises(ValueError, match=r"."):
            unpack_bytes(bad, length + 1)


def change_entry(folder, change):
    """Change the first entry, with a checksum that fits."""
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        (content,) = connection.execute("SELECT content FROM entries WHERE n = 1").fetchone()
        data = json.loads(content)
        change(data)
        text = json.dumps(data)
        connection.execute("UPDATE entries SET content = ?, crc = ? WHERE n = 1", (text, zlib.crc32(text.encode())))


def read_everything(folder):
    with open_journal(folder) as journal:
        for found in journal.objects:
            assert (found.mask, found.area) is not None
            _ = found.prompts
    with Journal(folder, target(), durable=False) as journal:
        journal.restore()
        while journal.undo():
            pass
        while journal.redo():
            pass


def packed(values, dtype="<i8"):
    return pack_bytes(np.asarray(values, dtype).tobytes())


BOMB = pack_bytes(bytes(2**24))
FORGED = {
    "fewer boxes": lambda data: data.update(boxes=packed([1, 2, 3, 4])),
    "boxes upside down": lambda data: data.update(boxes=packed([[9] * 12, [9] * 12, [3] * 12, [3] * 12])),
    "boxes below zero": lambda data: data.update(boxes=packed([[-9] * 12, [-9] * 12, [3] * 12, [3] * 12])),
    "boxes without end": lambda data: data.update(boxes=packed([[0] * 12, [0] * 12, [2**62] * 12, [2**62] * 12])),
    "boxes of a plane": lambda data: data.update(boxes=packed([[0] * 12, [0] * 12, [2**30] * 12, [2**30] * 12])),
    "fewer pixels": lambda data: data.update(bits=packed([1])),
    "pixels without end": lambda data: data.update(bits=BOMB),
    "fewer scores": lambda data: data.update(scores=packed([1.0], "<f8")),
    "fewer areas": lambda data: data.update(areas=packed([1])),
    "fewer labels": lambda data: data.update(labels=[[1, 3]]),
    "labels of text": lambda data: data.update(labels="many"),
    "a label of none": lambda data: data.update(labels=[[0, 12]]),
    "labels of others": lambda data: data.update(labels=[[101, 12]]),
    "labels without end": lambda data: data.update(labels=[[1, 10**12]], count=10**12),
    "no objects": lambda data: data.update(labels=[], count=0),
    "points below zero": lambda data: data["prompts"].update(counts=packed([-5] * 12)),
    "points without end": lambda data: data["prompts"].update(counts=packed([2**62] * 12)),
    "fewer points": lambda data: data["prompts"].update(points=packed([1, 2])),
    "fewer signs": lambda data: data["prompts"].update(signs=""),
    "fewer box prompts": lambda data: data["prompts"].update(boxes=packed([1, 2, 3, 4])),
    "no mask prompts": lambda data: data["prompts"].pop("masks"),
    "another number of mask prompts": lambda data: data["prompts"]["masks"].update(count=1),
    "prompts without arrays": lambda data: data.update(prompts={}),
    "objects that are a list": lambda data: data.update(prompts=[]),
    "text that is none": lambda data: data.update(bits="é"),
}


@pytest.fixture
def written(folder):
    with Journal(folder, target(), durable=False) as journal:
        assert journal.accept_all(PLANE, random_objects(12), made=MADE).labels == list(range(1, 13))
    return folder


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_objects_that_were_forged_end_in_a_sentence(written, change):
    change_entry(written, lambda data: change(data["objects"]))
    with pytest.raises(LabelsError, match=r"put the file back from a copy") as raised:
        read_everything(written)
    assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("plane"),
        lambda data: data.pop("objects"),
        lambda data: data.update(what="accept"),
        lambda data: data.update(objects=7),
    ],
)
def test_an_entry_that_says_too_little_of_its_objects_ends_in_a_sentence(written, change):
    change_entry(written, change)
    with pytest.raises(LabelsError, match=r"Entry 1 .* is not understood"):
        read_everything(written)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_are_changed_no_error_is_without_a_sentence(written, tmp_path_factory, data):
    raw = (written / NAME).read_bytes()
    changed = bytearray(raw)
    used = raw.rindex(b'"objects"')
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.one_of(st.integers(0, 100), st.integers(used, len(raw) - 1)))
        changed[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    copy = tmp_path_factory.mktemp("changed")
    (copy / NAME).write_bytes(changed)
    with contextlib.suppress(NapariSamError):
        read_everything(copy)


RUN = """
import sys
import numpy as np
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.journal.journal import Journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

shape, folder, rng = (256, 256), sys.argv[1], np.random.default_rng(int(sys.argv[2]))
labels = LabelArray(LabelPyramid.open(folder + "/labels.ome.zarr"))
journal = Journal(folder + "/labels.ome.zarr.journal", labels, durable=False)
print("ready", flush=True)
while True:
    with journal.together():
        for top, left in rng.permutation([(top, left) for top in (0, 128) for left in (0, 128)]).tolist():
            objects = []
            for row, col in rng.integers(0, 118, (200, 2)).tolist():
                box = Box(top + row, left + col, top + row + 10, left + col + 10)
                prompts = Prompts.of([(box.top, box.left)], [1], shape=shape)
                objects.append(NewObject(Mask(box, rng.random((10, 10)) < 0.7, 0.5, 0.5), prompts))
            journal.accept_all(Plane.of(shape), objects)
    journal.undo_together()
    journal.redo_together()
    if rng.integers(2):
        journal.undo_together()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_a_run_that_is_killed_at_any_moment_is_whole_entries_and_can_be_undone(tmp_path):
    shape = (256, 256)
    LabelPyramid.create(tmp_path / "labels.ome.zarr", shape, chunks=(64, 64))
    folder, moments, counts = tmp_path / "labels.ome.zarr.journal", random.Random(1), []
    for run in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", RUN, str(tmp_path), str(run)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0.02, 0.3))
            process.send_signal(signal.SIGKILL)
        with Journal(folder, LabelArray(LabelPyramid.open(tmp_path / "labels.ome.zarr"))) as journal:
            fresh = np.zeros(shape, np.uint16)
            journal.restore(LabelArray(fresh))
            assert np.array_equal(fresh, np.asarray(journal.target.array[...]))
            assert sorted(label for entry in journal.entries for label in entry.labels) == [
                found.label for found in journal.objects
            ]
            counts.append(len(journal.entries))
            areas = np.bincount(fresh.ravel(), minlength=1)
            for found in journal.objects:
                assert found.area == areas[found.label] > 0
                assert found.prompts is not None
    with Journal(folder, LabelArray(LabelPyramid.open(tmp_path / "labels.ome.zarr"))) as journal:
        while journal.undo_together():
            pass
        assert not np.asarray(journal.target.array[...]).any()
        assert len(journal.objects) == 0
    assert max(counts) > 4
