from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.labels.array import LabelArray
from napari_sam.labels.edit import LabelEdit, plan_edit, plan_pixels, plan_removal, plan_undo

SHAPE = (3, 12, 14)


def solid(top: int, left: int, bottom: int, right: int) -> Mask:
    return Mask(Box(top, left, bottom, right), np.ones((bottom - top, right - left), bool))


def test_planning_an_edit_changes_nothing_and_taking_it_back_later_keeps_newer_pixels():
    labels = LabelArray(np.zeros((6, 6), np.uint16))
    edit = plan_edit(labels, Plane.of((6, 6)), solid(1, 1, 5, 5), 3)
    assert not labels.array.any()
    labels.apply(edit)
    assert np.count_nonzero(labels.array == 3) == edit.area == 16
    labels.array[2, 2:4] = 9
    back = plan_undo(labels, edit)
    assert back.changed.sum() == 14
    labels.apply(back)
    np.testing.assert_array_equal(np.argwhere(labels.array), [[2, 2], [2, 3]])
    assert plan_undo(labels, edit).changes_nothing


def test_a_mask_replaces_the_pixels_of_its_label_in_given_boxes_and_no_others():
    labels = LabelArray(np.full((6, 9), 2, np.uint8))
    labels.array[1:4, 1:4], labels.array[5, 8] = 7, 7
    edit = plan_edit(labels, Plane.of((6, 9)), solid(3, 3, 5, 5), 7, "overwrite", replaces=[Box(0, 0, 4, 4)])
    labels.apply(edit)
    assert edit.box == Box(0, 0, 5, 5)
    assert [tuple(at) for at in np.argwhere(labels.array == 7)] == [(3, 3), (3, 4), (4, 3), (4, 4), (5, 8)]
    assert np.count_nonzero(labels.array == 0) == 8


def test_removing_a_label_takes_it_out_of_its_box_only():
    labels = LabelArray(np.eye(6, dtype=np.uint16) * 4)
    labels.array[0, 1] = 5
    labels.apply(plan_removal(labels, Plane.of((6, 6)), Box(0, 0, 3, 3), 4))
    assert np.count_nonzero(labels.array == 4) == 3
    assert labels.array[0, 1] == 5


def test_an_edit_that_needs_more_bits_widens_the_labels_when_it_is_written_and_not_when_it_is_planned():
    array = np.zeros((6, 6), np.uint8)
    labels = LabelArray(array)
    with pytest.raises(LabelsError, match="Label 300 does not fit into uint8"):
        plan_edit(labels, Plane.of((6, 6)), solid(0, 0, 2, 2), 300)
    edit = plan_edit(labels, Plane.of((6, 6)), solid(0, 0, 2, 2), 300, widens=True)
    assert labels.array is array
    labels.apply(edit)
    assert labels.array.dtype == np.uint32
    assert np.count_nonzero(labels.array == 300) == 4


@pytest.mark.parametrize("box", [Box(4, 4, 8, 8), Box(-1, 0, 2, 2)])
def test_pixels_outside_the_labels_are_refused(box):
    labels = LabelArray(np.zeros((6, 6), np.uint8))
    where = np.ones(box.pixel_shape, bool)
    with pytest.raises(LabelsError, match="reaches outside the labels of shape"):
        plan_pixels(labels, Plane.of((6, 6)), box, where, np.ones(where.sum(), np.uint8))


@given(
    st.sampled_from(["u1", "<u2", ">u2", "i4", "u8"]),
    st.sampled_from([((1, 2), (1, 0, 0)), ((2, 0), (0, 5, 0))]),
    st.integers(0, 99),
    st.one_of(st.none(), st.integers(0, 2**40)),
)
def test_a_packed_edit_is_the_same_again(dtype, plane, seed, highest):
    plane, box = Plane(*plane), Box(1, 0, 3, 2)
    before, after = np.random.default_rng(seed).integers(0, 100, (2, 2, 2)).astype(dtype)
    edit = LabelEdit(plane, box, before, after, seed + 1, highest)
    again = LabelEdit.unpack(edit.pack(), SHAPE)
    assert (again.plane, again.box, again.label, again.highest_before) == (plane, box, seed + 1, highest)
    assert again.before.dtype == edit.before.dtype
    np.testing.assert_array_equal(again.before, before)
    np.testing.assert_array_equal(again.after, after)


def test_a_packed_edit_of_larger_labels_is_refused():
    edit = LabelEdit(Plane.of((9, 9)), Box(5, 5, 9, 9), np.zeros((4, 4), "u1"), np.ones((4, 4), "u1"), 1)
    for packed in (edit.pack(), edit.pack()[:-3], edit.pack()[20:], b"", b"[]\n", b"{}\nabc"):
        with pytest.raises(ValueError, match="it "):
            LabelEdit.unpack(packed, (6, 6))


@pytest.mark.parametrize("used", [(3, 250, 9), (3, 250, 9, 255), tuple(range(1, 254))])
def test_many_free_labels_are_those_that_single_writes_get_one_after_the_other(tmp_path, used):
    array = np.memmap(tmp_path / "labels.raw", np.uint8, "w+", shape=(300, 4))
    array[: len(used), 0] = used
    labels, given = LabelArray(array), []
    together = labels.free_labels(10)
    for number in range(10):
        row = 299 - number
        with contextlib.suppress(LabelsError):
            given.append(labels.write(Plane.of((300, 4)), solid(row, 0, row + 1, 1)).label)
    assert list(together)[: len(given)] == given
    assert all(label > 255 for label in list(together)[len(given) :])
    assert len(given) == 10 or len(used) == 253


def test_a_hundred_thousand_free_labels_take_one_search_of_the_array():
    class Counting:
        def __init__(self):
            self.pixels, self.reads = np.zeros((64, 64), np.uint32), 0
            self.shape, self.dtype = self.pixels.shape, self.pixels.dtype
            self.pixels[3, 4] = 17

        def __getitem__(self, key):
            self.reads += 1
            return self.pixels[key]

        def __setitem__(self, key, values):
            self.pixels[key] = values

    array = Counting()
    labels = LabelArray(array)
    assert labels.free_labels(10**5) == range(18, 10**5 + 18)
    assert labels.next_label == 18
    assert array.reads == 1
