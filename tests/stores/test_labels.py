from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.stores.labels import LabelStore, highest_label, plan_edit, reverted

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
        draw(st.sampled_from(["keep", "overwrite"])),
    )


def expected_after(labels: np.ndarray, plane: Plane, mask: Mask, label: int, overlap: str) -> np.ndarray:
    """Write pixel by pixel, into a copy."""
    after = labels.copy()
    for row, col in np.argwhere(mask.pixels):
        where = list(plane.index)
        where[plane.axes[0]] = int(mask.box.top) + int(row)
        where[plane.axes[1]] = int(mask.box.left) + int(col)
        if overlap == "overwrite" or after[tuple(where)] == 0:
            after[tuple(where)] = label
    return after


def play(array, actions) -> None:
    store = LabelStore(array)
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
            possible = mask.area and (overlap == "overwrite" or (after != history[-1]).any())
            if not possible:
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
    assert LabelStore(labels).undo() is None
    np.testing.assert_array_equal(labels, np.eye(4))


def test_undo_returns_the_edit_that_it_took_back():
    store = LabelStore(np.zeros((9, 9), np.uint8))
    first, second = store.write(flat(store.array), solid(0, 0, 3, 3)), store.write(flat(store.array), solid(2, 2, 6, 6))
    assert (first.area, second.area) == (9, 15)
    assert store.undo() is second
    assert store.undo() is first


def test_the_next_label_goes_on_from_the_highest_and_an_undone_one_is_free_again():
    labels = np.zeros((9, 9), np.uint16)
    labels[0, 0] = 41
    store = LabelStore(labels)
    assert store.write(flat(labels), solid(3, 3, 5, 5)).label == 42
    assert store.write(flat(labels), solid(5, 5, 7, 7), label=100).label == 100
    assert store.next_label == 101
    store.undo()
    assert store.write(flat(labels), solid(5, 5, 7, 7)).label == 43


def test_a_given_label_before_any_other_counts_for_the_next():
    labels = np.zeros((9, 9), np.uint16)
    labels[8, 8] = 3
    store = LabelStore(labels)
    store.write(flat(labels), solid(0, 0, 2, 2), label=2)
    assert store.next_label == 4


def test_the_highest_label_of_a_zarr_array_is_found_in_whichever_slab_it_is():
    labels = zarr.zeros((5, 2**12, 2**12), dtype=np.uint16, chunks=(1, 1024, 1024))
    assert highest_label(labels) == 0
    labels[4, 4000, 17] = 7
    labels[1, 0, 0] = 6
    assert highest_label(labels) == 7


def test_negative_labels_of_others_do_not_make_the_next_one_zero():
    assert LabelStore(np.full((4, 4), -5, np.int32)).next_label == 1


def test_keep_leaves_the_pixels_of_others_alone_and_overwrite_takes_them():
    labels = np.zeros((6, 6), np.uint8)
    store = LabelStore(labels)
    store.write(flat(labels), solid(0, 0, 4, 4))
    store.write(flat(labels), solid(2, 2, 6, 6))
    assert (labels[:4, :4] == 1).all()
    assert np.count_nonzero(labels == 2) == 12
    store.write(flat(labels), solid(2, 2, 6, 6), label=3, overlap="overwrite")
    assert np.count_nonzero(labels == 3) == 16
    assert np.count_nonzero(labels == 1) == 12


def test_a_mask_with_no_free_pixel_is_refused_and_nothing_changes():
    labels = np.ones((6, 6), np.uint8)
    store = LabelStore(labels)
    with pytest.raises(LabelsError, match=r"belongs to other objects.*choose another candidate, or undo"):
        store.write(flat(labels), solid(0, 0, 3, 3))
    assert (labels == 1).all()
    assert store.undo() is None


def test_an_empty_mask_is_refused():
    labels = np.zeros((6, 6), np.uint8)
    for mask in (Mask(Box(1, 1, 3, 3), np.zeros((2, 2), bool)), Mask(Box(1, 1, 1, 1), np.zeros((0, 0), bool))):
        with pytest.raises(LabelsError, match=r"mask is empty.*move or add a prompt"):
            LabelStore(labels).write(flat(labels), mask)


def test_the_256th_object_does_not_fit_8_bit_labels():
    labels = np.zeros((6, 6), np.uint8)
    labels[5, 5] = 254
    store = LabelStore(labels)
    assert store.write(flat(labels), solid(0, 0, 1, 1)).label == 255
    before = labels.copy()
    with pytest.raises(LabelsError, match=r"Label 256 does not fit into uint8.*1 to 255.*larger type"):
        store.write(flat(labels), solid(2, 2, 4, 4))
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("label", [0, -1, 70000])
def test_background_and_numbers_out_of_range_are_no_labels(label):
    labels = np.zeros((6, 6), np.uint16)
    with pytest.raises(LabelsError, match="does not fit" if label > 0 else "0 is background"):
        LabelStore(labels).write(flat(labels), solid(0, 0, 2, 2), label=label)
    assert not labels.any()


@pytest.mark.parametrize("box", [Box(4, 4, 8, 8), Box(6, 0, 9, 3), Box(-3, 0, -1, 2), Box(-1, 0, 2, 2)])
def test_a_mask_that_reaches_outside_the_labels_is_refused_and_nothing_changes(box):
    labels = np.zeros((6, 6), np.uint16)
    with pytest.raises(LabelsError):
        LabelStore(labels).write(flat(labels), Mask(box, np.ones(box.pixel_shape, bool)))
    assert not labels.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool, complex])
def test_only_whole_numbers_can_be_labels(dtype):
    with pytest.raises(LabelsError, match=r"whole numbers.*\.astype\('uint16'\)"):
        LabelStore(np.zeros((4, 4), dtype))


def test_a_read_only_numpy_array_is_refused():
    labels = np.zeros((4, 4), np.uint16)
    labels.flags.writeable = False
    with pytest.raises(LabelsError, match=r"cannot be written to.*mode='r\+'"):
        LabelStore(labels)


def test_a_zarr_array_opened_for_reading_is_refused(tmp_path):
    zarr.create_array(tmp_path / "labels.zarr", shape=(6, 6), dtype="uint16", chunks=(3, 3))
    with pytest.raises(LabelsError, match=r"cannot be written to.*mode='r\+'"):
        LabelStore(zarr.open_array(tmp_path / "labels.zarr", mode="r"))
    writable = zarr.open_array(tmp_path / "labels.zarr", mode="r+")
    LabelStore(writable).write(flat(writable), solid(1, 1, 5, 5))
    assert np.count_nonzero(zarr.open_array(tmp_path / "labels.zarr", mode="r")[...]) == 16


def test_a_dask_array_is_refused():
    dask = pytest.importorskip("dask.array")
    with pytest.raises(LabelsError, match="cannot be written to"):
        LabelStore(dask.zeros((4, 4), dtype=np.uint16))


def test_planning_an_edit_changes_nothing_and_reverting_it_later_keeps_newer_pixels():
    labels = np.zeros((6, 6), np.uint16)
    edit = plan_edit(labels, flat(labels), solid(1, 1, 5, 5), 3, "keep")
    assert not labels.any()
    labels[edit.plane.slicer(edit.box)][edit.written] = 3
    labels[2, 2:4] = 9
    changed, values = reverted(labels, edit)
    assert changed.sum() == 14
    np.testing.assert_array_equal(np.argwhere(values), [[1, 1], [1, 2]])
    assert set(values[1, 1:3]) == {9}
