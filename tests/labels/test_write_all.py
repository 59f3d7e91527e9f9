"""Many masks are written at once, and taken back at once."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.labels import object_edits as edits
from napari_sam.labels.additions import adding_to
from napari_sam.labels.array import LabelArray
from napari_sam.labels.object_edits import groups_of
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (3, 50, 60)
PLANES = [Plane.of(SHAPE, index) for index in range(3)]


def random_masks(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        top, left = int(rng.integers(0, 40)), int(rng.integers(0, 50))
        box = Box(top, left, top + int(rng.integers(1, 10)), left + int(rng.integers(1, 10)))
        yield Mask(box, rng.random(box.pixel_shape) < 0.8)


def labels_like(kind, folder, dtype="u2"):
    if kind == "numpy":
        return np.zeros(SHAPE, dtype)
    return LabelPyramid.create(folder / "labels.ome.zarr", SHAPE, chunks=(1, 16, 16), dtype=dtype)


@pytest.mark.parametrize("kind", ["numpy", "pyramid"])
@pytest.mark.parametrize("overlap", ["keep", "empty"])
def test_masks_that_are_written_together_are_those_that_are_written_one_by_one(tmp_path, kind, overlap):
    together, alone = LabelArray(labels_like(kind, tmp_path)), LabelArray(np.zeros(SHAPE, np.uint16))
    for labels in (together, alone):
        labels.write(PLANES[1], Mask(Box(0, 0, 25, 25), np.ones((25, 25), bool)))
    masks, expected = list(random_masks(80)), []
    for mask in masks:
        expected.append(None)
        with contextlib.suppress(LabelsError):
            expected[-1] = alone.write(PLANES[1], mask, overlap=overlap).label
    assert together.write_all(PLANES[1], masks, overlap) == expected
    assert None in expected
    assert np.array_equal(np.asarray(together.array[...]), alone.array)


@pytest.mark.parametrize("kind", ["numpy", "pyramid"])
def test_one_undo_takes_all_of_them_back_and_frees_their_labels(tmp_path, kind):
    labels = LabelArray(labels_like(kind, tmp_path, "u1"))
    first = labels.write(PLANES[0], Mask(Box(0, 0, 9, 9), np.ones((9, 9), bool)))
    before = np.asarray(labels.array[...])
    given = labels.write_all(PLANES[0], list(random_masks(400)), "overwrite")
    assert max(label for label in given if label) > 255
    assert labels.array.dtype == np.uint32
    assert labels.undo().label == max(label for label in given if label)
    assert np.array_equal(np.asarray(labels.array[...]), before)
    assert labels.next_label == 2
    assert labels.undo().box == first.box
    assert labels.undo() is None


def test_one_undo_takes_a_block_of_writes_back(tmp_path):
    labels = LabelArray(labels_like("numpy", tmp_path))
    states = [labels.array.copy()]
    for seed in range(3):
        with labels.together():
            for plane in PLANES:
                labels.write_all(plane, list(random_masks(20, seed)))
            labels.write(PLANES[0], Mask(Box(40, 50, 45, 55), np.ones((5, 5), bool)), overlap="overwrite")
        states.append(labels.array.copy())
    with labels.together():
        labels.write(PLANES[0], Mask(Box(0, 0, 5, 5), np.ones((5, 5), bool)), overlap="overwrite")
        labels.undo()
    with labels.together():
        pass
    while states:
        assert np.array_equal(labels.array, states.pop())
        assert (labels.undo() is None) == (not states)


def test_masks_of_a_run_that_fails_are_taken_back(tmp_path):
    labels = LabelArray(labels_like("pyramid", tmp_path))
    labels.write(PLANES[2], Mask(Box(0, 0, 25, 25), np.ones((25, 25), bool)))
    before = np.asarray(labels.array)

    def run():
        with adding_to(labels):
            labels.write_all(PLANES[2], list(random_masks(30)), "overwrite")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert np.array_equal(np.asarray(labels.array), before)
    assert labels.next_label == 2


def test_masks_that_cannot_be_written_change_nothing(tmp_path):
    labels = LabelArray(labels_like("numpy", tmp_path))
    outside = Mask(Box(45, 0, 55, 9), np.ones((10, 9), bool))
    with pytest.raises(LabelsError, match="reaches outside"):
        labels.write_all(PLANES[0], [*random_masks(3), outside])
    with pytest.raises(LabelsError, match="no mask"):
        labels.write_all(PLANES[0], [])
    labels.array[...] = 1
    assert labels.write_all(PLANES[0], list(random_masks(3))) == [None] * 3
    assert (labels.array == 1).all()
    assert labels.undo() is None


def test_masks_are_grouped_by_blocks_where_they_lie_far_apart(monkeypatch):
    at = lambda top, left: Mask(Box(top, left, top + 5, left + 5), np.ones((5, 5), bool))  # noqa: E731
    masks = [at(5000, 5000), at(0, 0), at(5010, 5020), at(10, 4096), at(3, 3)]
    assert groups_of(masks) == [[1, 4], [3], [0, 2]]
    assert groups_of(masks[1:2] + masks[4:]) == [[0, 1]]
    assert groups_of([]) == []
    monkeypatch.setattr(edits, "MAX_TOGETHER", 10**9)
    assert groups_of(masks) == [[0, 1, 2, 3, 4]]
