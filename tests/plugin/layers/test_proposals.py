"""The picture of proposals: pixel by pixel as one would draw them one after the other, and quick with very many."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.plugin.layers import proposals as module
from napari_sam.plugin.layers.proposals import COLORS, DOT_SIZE, KEPT_COLORS, Pixels
from napari_sam.plugin.proposals.found_planes import FoundPlanes
from napari_sam.testing.plugin import make_controller

PLANE = Plane((0, 1), (0, 0))


def some_found(count=60, side=120, seed=0):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        top, left, height, width = *rng.integers(0, side - 30, 2), *rng.integers(3, 30, 2)
        pixels = rng.random((height, width)) < 0.85
        pixels[[0, -1]] = pixels[:, [0, -1]] = True
        masks.append(
            Mask(Box(int(top), int(left), int(top + height), int(left + width)), pixels, float(rng.random()), 0.9)
        )
    return FoundObjects(PLANE, Proposals.of(masks, rng.random((count, 2)), 0))


def drawn_one_by_one(found, box, step, kept):
    """The picture, by a loop over proposals and pixels."""
    picture = np.zeros([-(-length // step) for length in box.pixel_shape], np.uint8)
    for number in sorted(kept, key=lambda number: found.scores[number]):
        mask = found.mask(int(number))
        if max(mask.pixels.shape) < DOT_SIZE * step:
            continue
        whole = np.zeros((400, 400), bool)
        whole[mask.box.moved(100, 100).slices] = mask.pixels
        start = 100 + step // 2
        seen = whole[start + int(box.top) :: step, start + int(box.left) :: step]
        before = whole[(start + int(box.top)) % step :: step, (start + int(box.left)) % step :: step]
        inner = before.copy()
        for axis in (0, 1):
            for way in (1, -1):
                inner &= np.roll(before, way, axis)
        inner = inner[-seen.shape[0] :, -seen.shape[1] :]
        rows, cols = picture.shape
        seen, inner = seen[:rows, :cols], inner[:rows, :cols]
        picture[seen] = number % len(KEPT_COLORS) + 1 + len(COLORS) * inner[seen]
    return picture


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("box", [Box(0, 0, 120, 120), Box(7, 20, 95, 101)])
def test_the_picture_is_that_of_one_proposal_after_the_other(monkeypatch, step, box):
    monkeypatch.setattr(module, "MAX_AT_ONCE", 700)
    found = some_found()
    kept = np.arange(0, len(found), 2)
    large = kept[(found.boxes[kept, 2:] - found.boxes[kept, :2]).max(axis=1) >= DOT_SIZE * step]
    picture = Pixels(found, box, step).picture(large, kept[:0])
    np.testing.assert_array_equal(picture, drawn_one_by_one(found, box, step, large))


def test_no_proposals_and_none_in_view_are_an_empty_picture():
    found = some_found(5)
    assert not Pixels(found, Box(200, 200, 260, 270), 1).picture(np.arange(5), np.arange(0)).any()
    none = FoundObjects(PLANE, Proposals.none())
    assert Pixels(none, Box(0, 0, 10, 20), 1).picture(np.zeros(0, np.intp), np.zeros(0, np.intp)).shape == (10, 20)


def test_the_filters_of_50_000_proposals_take_a_moment():
    side, step = 224, 16
    count = side**2
    rows, cols = np.divmod(np.arange(count), side)
    pixels = np.hypot(*np.mgrid[-5:6, -5:6]) <= 5.5
    mask = Mask(Box(0, 0, 11, 11), pixels, 0.5, 0.9)
    scores = np.random.default_rng(0).uniform(0.3, 1, count)
    boxes = [
        Box(r * step, c * step, r * step + 11, c * step + 11) for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
    ]
    masks = [replace(mask, box=box, iou_prediction=float(score)) for box, score in zip(boxes, scores, strict=True)]
    found = FoundPlanes([FoundObjects(PLANE, Proposals.of(masks, np.stack([rows, cols], 1) * step + 5.0, 0))])
    found.select()
    controller = make_controller(np.zeros((side * step, side * step), np.uint8), lambda _: None)
    finder = controller.finder
    controller.session.set_task("all")
    finder._on_found(found)
    taken = []
    for confidence in (0.5, 0.7, 0.4, 0.31, 0.8):
        begun = time.thread_time()
        finder.filter(FilterOptions(confidence=confidence))
        taken.append(time.thread_time() - begun)
        assert len(finder.selection.kept) == np.count_nonzero(scores.astype(np.float32) >= confidence)
    begun = time.thread_time()
    finder._on_click((5.0, 5.0))
    taken.append(time.thread_time() - begun)
    assert finder.drawing.layer.data.any()
    assert np.median(taken) < 0.1
    controller.close()
