from __future__ import annotations

import os

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.labels import regions as boxes
from napari_sam.labels.array import LabelArray, highest_label
from napari_sam.labels.edit import plan_edit
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (3, 12, 14)
AXES = [(1, 2), (2, 1), (0, 2), (2, 0), (1, 0)]


def solid(top: int, left: int, bottom: int, right: int) -> Mask:
    return Mask(Box(top, left, bottom, right), np.ones((bottom - top, right - left), bool))


def flat(array: np.ndarray | zarr.Array) -> Plane:
    return Plane.of(array.shape)


@st.composite
def writes(draw):
    axes = draw(st.sampled_from(AXES))
    (other,) = {0, 1, 2} - set(axes)
    plane = Plane.of(SHAPE, draw(st.integers(0, SHAPE[other] - 1)), axes)
    rows, cols = plane.shape_in(SHAPE)
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    box = Box(top, left, draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, cols)))
    pixels = np.random.default_rng(draw(st.integers(0, 999))).random(box.pixel_shape) < 0.7
    return (
        plane,
        Mask(box, pixels),
        draw(st.sampled_from([None, 1, 2, 5])),
        draw(st.sampled_from(["keep", "overwrite", "empty"])),
    )


def expected_after(labels: np.ndarray, plane: Plane, mask: Mask, label: int, overlap: str) -> np.ndarray | None:
    """Write pixel by pixel, into a copy; None where nothing may be written."""
    after, written, others = labels.copy(), 0, 0
    for row, col in np.argwhere(mask.pixels):
        where = list(plane.index)
        where[plane.axes[0]] = int(mask.box.top) + int(row)
        where[plane.axes[1]] = int(mask.box.left) + int(col)
        free = after[tuple(where)] in (0, label)
        others += not free
        if overlap == "overwrite" or free:
            after[tuple(where)] = label
            written += 1
    return after if written and not (overlap == "empty" and others) else None


def play(array, actions) -> None:
    store = LabelArray(array)
    history = [np.asarray(array[...]).copy()]
    for action in actions:
        if action == "undo":
            edit = store.undo()
            assert (edit is None) == (len(history) == 1)
            history = history[:-1] or history
        else:
            plane, mask, asked, overlap = action
            label = store.next_label if asked is None else asked
            after = expected_after(history[-1], plane, mask, label, overlap)
            if after is None:
                with pytest.raises(LabelsError):
                    store.write(*action)
            else:
                edit = store.write(plane, mask, asked, overlap)
                assert edit.label == label
                history.append(after)
        now = np.asarray(array[...])
        assert now.dtype == history[-1].dtype
        np.testing.assert_array_equal(now, history[-1])
        assert store.next_label > history[-1].max()
    while store.undo() is not None:
        history.pop()
        np.testing.assert_array_equal(np.asarray(array[...]), history[-1])
    assert len(history) == 1


ACTIONS = st.lists(st.one_of(writes(), writes(), st.just("undo")), min_size=1, max_size=12)


@settings(max_examples=100)
@given(ACTIONS, st.sampled_from([np.uint8, np.uint16, np.int32, np.int64]), st.integers(0, 3))
def test_any_sequence_of_writes_and_undos_is_that_of_a_pixel_by_pixel_reference(actions, dtype, before):
    labels = (np.random.default_rng(before).random(SHAPE) < 0.1).astype(dtype) * before
    play(labels, actions)


@settings(max_examples=12)
@given(ACTIONS)
def test_a_zarr_array_goes_the_same_way(actions):
    play(zarr.array(np.zeros(SHAPE, np.uint16), chunks=(1, 5, 5)), actions)


def test_undo_of_nothing_changes_nothing():
    labels = np.eye(4, dtype=np.uint8)
    assert LabelArray(labels).undo() is None
    np.testing.assert_array_equal(labels, np.eye(4))


def test_undo_returns_the_edit_that_it_took_back():
    store = LabelArray(np.zeros((9, 9), np.uint8))
    first, second = store.write(flat(store.array), solid(0, 0, 3, 3)), store.write(flat(store.array), solid(2, 2, 6, 6))
    assert (first.area, second.area) == (9, 15)
    for edit in (second, first):
        undone = store.undo()
        assert (undone.plane, undone.box, undone.label, undone.area) == (edit.plane, edit.box, edit.label, edit.area)
        np.testing.assert_array_equal(undone.before, edit.before)


def test_the_next_label_goes_on_from_the_highest_and_an_undone_one_is_free_again():
    labels = np.zeros((9, 9), np.uint16)
    labels[0, 0] = 41
    store = LabelArray(labels)
    assert store.write(flat(labels), solid(3, 3, 5, 5)).label == 42
    assert store.write(flat(labels), solid(5, 5, 7, 7), label=100).label == 100
    assert store.next_label == 101
    store.undo()
    assert store.write(flat(labels), solid(5, 5, 7, 7)).label == 43


def test_a_given_label_before_any_other_counts_for_the_next():
    labels = np.zeros((9, 9), np.uint16)
    labels[8, 8] = 3
    store = LabelArray(labels)
    store.write(flat(labels), solid(0, 0, 2, 2), label=2)
    assert store.next_label == 4


def test_the_highest_label_of_a_zarr_array_is_found_in_whichever_slab_it_is():
    labels = zarr.zeros((5, 2**12, 2**12), dtype=np.uint16, chunks=(1, 1024, 1024))
    assert highest_label(labels) == 0
    labels[4, 4000, 17] = 7
    labels[1, 0, 0] = 6
    assert highest_label(labels) == 7


def test_negative_labels_of_others_do_not_make_the_next_one_zero():
    assert LabelArray(np.full((4, 4), -5, np.int32)).next_label == 1


def test_keep_leaves_the_pixels_of_others_alone_and_overwrite_takes_them():
    labels = np.zeros((6, 6), np.uint8)
    store = LabelArray(labels)
    store.write(flat(labels), solid(0, 0, 4, 4))
    store.write(flat(labels), solid(2, 2, 6, 6))
    assert (labels[:4, :4] == 1).all()
    assert np.count_nonzero(labels == 2) == 12
    store.write(flat(labels), solid(2, 2, 6, 6), label=3, overlap="overwrite")
    assert np.count_nonzero(labels == 3) == 16
    assert np.count_nonzero(labels == 1) == 12


def test_a_mask_with_no_free_pixel_is_refused_and_nothing_changes():
    labels = np.ones((6, 6), np.uint8)
    store = LabelArray(labels)
    with pytest.raises(LabelsError, match=r"belongs to other objects.*choose another candidate, or undo"):
        store.write(flat(labels), solid(0, 0, 3, 3))
    assert (labels == 1).all()
    assert store.undo() is None


def test_an_empty_mask_is_refused():
    labels = np.zeros((6, 6), np.uint8)
    for mask in (Mask(Box(1, 1, 3, 3), np.zeros((2, 2), bool)), Mask(Box(1, 1, 1, 1), np.zeros((0, 0), bool))):
        with pytest.raises(LabelsError, match=r"mask is empty.*move or add a prompt"):
            LabelArray(labels).write(flat(labels), mask)


@pytest.mark.parametrize("overlap", ["keep", "empty", "overwrite"])
def test_an_object_may_grow_over_its_own_pixels_under_every_policy(overlap):
    store = LabelArray(np.zeros((6, 6), np.uint8))
    store.write(flat(store.array), solid(0, 0, 3, 3))
    edit = store.write(flat(store.array), solid(0, 0, 3, 5), label=1, overlap=overlap)
    assert edit.area == 15
    assert np.count_nonzero(store.array == 1) == 15
    store.undo()
    assert np.count_nonzero(store.array == 1) == 9


def test_empty_refuses_a_mask_of_which_one_pixel_belongs_to_another_object():
    labels = np.zeros((6, 6), np.uint8)
    labels[3, 3] = 5
    store = LabelArray(labels)
    with pytest.raises(LabelsError, match=r"part of the mask belongs to another object.*'keep' or 'overwrite'"):
        store.write(flat(labels), solid(1, 1, 4, 4), overlap="empty")
    assert np.count_nonzero(labels) == 1
    ring = solid(1, 1, 4, 4)
    ring.pixels[2, 2] = False
    assert store.write(flat(labels), ring, overlap="empty").area == 8
    with pytest.raises(LabelsError, match=r"'all'.*use keep or overwrite or empty"):
        store.write(flat(labels), ring, overlap="all")


def test_the_256th_object_makes_8_bit_labels_wider():
    labels = np.zeros((6, 6), np.uint8)
    labels[5, 5] = 254
    store = LabelArray(labels)
    assert store.write(flat(labels), solid(0, 0, 1, 1)).label == 255
    with pytest.raises(LabelsError, match="belongs to other objects"):
        store.write(flat(labels), solid(0, 0, 1, 1))
    assert store.array is labels
    before = labels.copy()
    assert store.write(flat(labels), solid(2, 2, 4, 4)).label == 256
    assert store.array.dtype == np.uint32
    assert np.count_nonzero(store.array == 256) == 4
    np.testing.assert_array_equal(labels, before)
    store.undo()
    np.testing.assert_array_equal(store.array, before)
    store.undo()
    assert store.next_label == 255


def test_signed_labels_keep_their_sign_when_they_are_made_wider():
    labels = np.full((4, 4), -1, np.int8)
    labels[0, 0], labels[2:, 2:] = 127, 0
    store = LabelArray(labels)
    store.write(flat(labels), solid(2, 2, 4, 4))
    assert store.array.dtype == np.int32
    assert sorted(np.unique(store.array)) == [-1, 127, 128]


def test_labels_in_files_are_not_made_wider(tmp_path):
    in_file = np.memmap(tmp_path / "labels.raw", np.uint8, "w+", shape=(17, 16))
    in_zarr = zarr.array(np.zeros((17, 16), np.uint8))
    for array in (in_file, in_zarr):
        array[:16] = np.arange(256).reshape(16, 16)
        with pytest.raises(LabelsError, match=r"uint8 can hold are in use: copy them into labels of uint32"):
            LabelArray(array).write(flat(array), solid(16, 1, 17, 3))
        assert np.count_nonzero(array[...]) == 255


@pytest.mark.parametrize("kind", ["memmap", "zarr", "single", "numpy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int64])
def test_labels_to_be_ignored_at_the_end_of_the_type_leave_all_other_numbers_free(tmp_path, kind, dtype):
    end = np.iinfo(dtype).max
    array = np.zeros((6, 6), dtype)
    if kind == "memmap":
        array = np.memmap(tmp_path / "labels.raw", dtype, "w+", shape=(6, 6))
    elif kind in ("zarr", "single"):
        array = zarr.create_array(tmp_path / "labels.zarr", shape=(6, 6), dtype=dtype, chunks=(3, 3))
    array[0], array[1, 1] = end, 7
    if kind == "single":
        array = LabelPyramid.open(tmp_path / "labels.zarr")
    store = LabelArray(array)
    widens = kind == "numpy" and end < 2**32 - 1
    first = end + 1 if widens else 8
    assert [store.write(flat(array), solid(row, 0, row + 1, 6)).label for row in (2, 3)] == [first, first + 1]
    again = LabelArray(LabelPyramid.open(tmp_path / "labels.zarr") if kind == "single" else store.array)
    assert again.next_label == first + 2
    assert (np.asarray(again.array[0]) == end).all()


def test_where_the_numbers_run_to_the_end_the_lowest_free_one_is_taken(tmp_path):
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(17, 16), dtype="u1", chunks=(8, 8))
    array[:16] = np.arange(256).reshape(16, 16)
    array[2, 3] = array[0, 9] = 0
    store = LabelArray(array)
    assert store.write(flat(array), solid(16, 0, 17, 1)).label == 9
    assert store.write(flat(array), solid(16, 1, 17, 2)).label == 35
    with pytest.raises(LabelsError, match="are in use"):
        store.write(flat(array), solid(16, 2, 17, 3))
    store.undo()
    assert store.next_label == 35


def test_a_label_that_is_asked_for_and_does_not_fit_is_refused():
    labels = np.zeros((6, 6), np.uint8)
    with pytest.raises(LabelsError, match=r"Label 256 does not fit into uint8.*1 to 255.*larger type"):
        LabelArray(labels).write(flat(labels), solid(2, 2, 4, 4), label=256)
    assert not labels.any()


@pytest.mark.parametrize("label", [0, -1, 70000])
def test_background_and_numbers_out_of_range_are_no_labels(label):
    labels = np.zeros((6, 6), np.uint16)
    with pytest.raises(LabelsError, match="does not fit" if label > 0 else "0 is background"):
        LabelArray(labels).write(flat(labels), solid(0, 0, 2, 2), label=label)
    assert not labels.any()


@pytest.mark.parametrize("box", [Box(4, 4, 8, 8), Box(6, 0, 9, 3), Box(-3, 0, -1, 2), Box(-1, 0, 2, 2)])
def test_a_mask_that_reaches_outside_the_labels_is_refused_and_nothing_changes(box):
    labels = np.zeros((6, 6), np.uint16)
    with pytest.raises(LabelsError):
        LabelArray(labels).write(flat(labels), Mask(box, np.ones(box.pixel_shape, bool)))
    assert not labels.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, complex])
def test_only_whole_numbers_can_be_labels(dtype):
    with pytest.raises(LabelsError, match=r"whole numbers.*\.astype\('uint16'\)"):
        LabelArray(np.zeros((4, 4), dtype))


def test_a_read_only_numpy_array_is_refused():
    labels = np.zeros((4, 4), np.uint16)
    labels.flags.writeable = False
    with pytest.raises(LabelsError, match=r"cannot be written to.*mode='r\+'"):
        LabelArray(labels)


def test_a_zarr_array_opened_for_reading_is_refused(tmp_path):
    zarr.create_array(tmp_path / "labels.zarr", shape=(6, 6), dtype="uint16", chunks=(3, 3))
    with pytest.raises(LabelsError, match=r"cannot be written to.*mode='r\+'"):
        LabelArray(zarr.open_array(tmp_path / "labels.zarr", mode="r"))
    writable = zarr.open_array(tmp_path / "labels.zarr", mode="r+")
    LabelArray(writable).write(flat(writable), solid(1, 1, 5, 5))
    assert np.count_nonzero(zarr.open_array(tmp_path / "labels.zarr", mode="r")[...]) == 16


def test_a_dask_array_is_refused():
    dask = pytest.importorskip("dask.array")
    with pytest.raises(LabelsError, match=r"cannot be written to: compute it.*or store it as zarr"):
        LabelArray(dask.zeros((4, 4), dtype=np.uint16))


class TensorStore:
    """Behaves as tensorstore does: own types, views that are read by numpy alone, synchronous assignment."""

    class Type:
        numpy_dtype = np.dtype(np.uint16)

    def __init__(self, pixels: np.ndarray, writable: bool = True) -> None:
        self._pixels, self.writable = pixels, writable
        self.shape, self.dtype = pixels.shape, self.Type()

    def __getitem__(self, key):
        return TensorStore(self._pixels[key])

    def __setitem__(self, key, values):
        self._pixels[key] = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self._pixels.copy()


@settings(max_examples=12)
@given(ACTIONS)
def test_a_tensorstore_goes_the_same_way(actions):
    pixels = np.zeros(SHAPE, np.uint16)
    play(TensorStore(pixels), actions)
    assert not pixels.any()


def test_a_tensorstore_opened_for_reading_is_refused():
    with pytest.raises(LabelsError, match="cannot be written to"):
        LabelArray(TensorStore(np.zeros((4, 4), np.uint16), writable=False))


@pytest.mark.parametrize("chunks", [None, (2, 3, 4), ((12,), (7,), (9,))])
@pytest.mark.parametrize("length", [7, 2**24])
def test_the_highest_label_is_found_block_by_block(monkeypatch, chunks, length):
    monkeypatch.setattr(boxes, "READ_LENGTH", length)
    for at in np.ndindex(3, 2, 2):
        array = TensorStore(np.ones((12, 7, 9), np.uint16))
        array[tuple(4 * np.array(at) + [3, 2, 4])] = 9
        array.chunks = chunks
        assert highest_label(array) == 9
    assert highest_label(TensorStore(np.zeros((3, 0), np.uint16))) == 0


class Broken(TensorStore):
    """A store of which the disk fails after a part of a write, for so many writes."""

    failures = 0

    def __setitem__(self, key, values):
        if self.failures:
            self.failures -= 1
            self._pixels[key][:1] = np.asarray(values)[:1]
            raise RuntimeError("INTERNAL: disk\nis broken.")
        super().__setitem__(key, values)

    def __array__(self, dtype=None, copy=None):
        if self.failures < 0:
            raise RuntimeError("DATA_LOSS: chunk is corrupt")
        return super().__array__()


@pytest.mark.parametrize(("failures", "state"), [(1, "are as they were"), (2, "may be half written")])
def test_a_failing_write_is_one_sentence_and_is_taken_back(failures, state):
    store = LabelArray(Broken(np.zeros((6, 6), np.uint16)))
    store.write(flat(store.array), solid(0, 0, 2, 2))
    store.array.failures = failures
    with pytest.raises(LabelsError, match=rf"cannot be written \(INTERNAL: disk is broken\) and {state}"):
        store.write(flat(store.array), solid(1, 1, 5, 5), overlap="overwrite")
    if failures == 1:
        assert np.count_nonzero(store.array) == 4
    assert store.undo().label == 1
    assert store.undo() is None


def test_labels_that_cannot_be_read_are_refused_in_one_sentence():
    broken = Broken(np.zeros((6, 6), np.uint16))
    Broken.__getitem__ = lambda self, key: self
    broken.failures = -1
    try:
        for read in (highest_label, lambda array: plan_edit(LabelArray(array), flat(array), solid(0, 0, 2, 2), 1)):
            with pytest.raises(LabelsError, match=r"cannot be read \(DATA_LOSS: chunk is corrupt\): check that"):
                read(broken)
    finally:
        del Broken.__getitem__


@pytest.mark.parametrize("codecs", [{}, {"compressors": None}])
@pytest.mark.parametrize("times", [1, 100])
def test_a_full_disk_leaves_a_zarr_array_as_it_was_or_mends_it_later(tmp_path, monkeypatch, codecs, times):
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(9, 9), dtype="uint16", chunks=(3, 3), **codecs)
    store = LabelArray(array)
    store.write(flat(array), solid(0, 0, 9, 5))
    before, count, real = array[...], 0, os.replace

    def replace(*args):
        nonlocal count
        count += 1
        if 3 <= count < 3 + times:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, "replace", replace)
    state = "as they were" if times == 1 else "half written, which the next write repairs first"
    with pytest.raises(LabelsError, match=rf"No space left.*{state}: make space"):
        store.write(flat(array), solid(0, 0, 9, 9), overlap="overwrite")
    monkeypatch.setattr(os, "replace", real)
    if times > 1:
        store.write(flat(array), solid(8, 8, 9, 9), 2)
        before[8, 8] = 2
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "labels.zarr", mode="r")[...], before)


def test_a_damaged_chunk_of_a_zarr_array_is_named(tmp_path):
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(9, 9), dtype="uint16", chunks=(3, 3))
    array[...] = 1
    (tmp_path / "labels.zarr/c/1/1").write_bytes(b"garbage")
    with pytest.raises(LabelsError, match=r"cannot be read"):
        LabelArray(array).write(flat(array), solid(0, 0, 9, 9), 2, "overwrite")
    with pytest.raises(LabelsError, match=r"labels\.zarr/c/1/1 cannot be read .*delete it"):
        highest_label(array)
    assert set(np.unique(array[:3])) == {1}


def test_of_a_zarr_array_only_chunks_that_exist_are_searched(tmp_path):
    array = zarr.create_array(tmp_path / "labels.zarr", shape=(10**6, 10**6), dtype="uint32", chunks=(64, 64))
    assert highest_label(array) == 0
    array[123_456, 654_321] = 31
    array[999_999, 999_999] = 30
    assert highest_label(array) == 31
    assert highest_label(zarr.create_array({}, shape=(9, 9), dtype="uint8", fill_value=6)) == 6


def test_a_zarr_store_that_cannot_list_is_searched_block_by_block():
    class Unlisted(zarr.storage.MemoryStore):
        supports_listing = False

    array = zarr.create_array(Unlisted(), shape=(50, 70), dtype="uint16", chunks=(16, 16))
    array[49, 69] = 12
    assert highest_label(array) == 12
