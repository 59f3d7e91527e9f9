"""Found objects in the labels: entries like those of clicked ones, and one undo for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.everything.scenes import SIZES, discs, picture, segmenter_of

from napari_sam import Segmenter
from napari_sam.everything.options import FilterOptions
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.testing import BlobFinder

SHAPE = (300, 320)
LABELS = discs(SHAPE, [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260)])


def labels_in(kind: str, folder: Path) -> Any:
    if kind == "array":
        return np.zeros(SHAPE, np.uint32)
    return LabelPyramid.create(folder / "labels.ome.zarr", SHAPE)


@pytest.fixture(params=["array", "pyramid"])
def open_segmenter(request, tmp_path):
    """Open a segmenter again and again on the same labels."""
    labels = labels_in(request.param, tmp_path)

    def opened(*, journal: bool = True) -> Segmenter:
        target = labels
        if request.param == "pyramid":
            target = LabelPyramid.open(tmp_path / "labels.ome.zarr")
        more = {"journal": tmp_path / "labels.journal"} if journal else {}
        return segmenter_of(picture(LABELS), labels=target, **more)

    return opened


def pixels_of(segmenter: Segmenter) -> np.ndarray:
    return np.asarray(segmenter.labels)


def test_what_is_found_is_written_as_it_is_drawn(open_segmenter) -> None:
    segmenter = open_segmenter()
    found = segmenter.everything(sizes=SIZES)
    labels = segmenter.accept_found(found)
    assert labels == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(pixels_of(segmenter), found.labels(SHAPE))


@pytest.mark.parametrize("journal", [True, False])
def test_one_undo_takes_all_found_objects_back_and_a_redo_brings_them_again(open_segmenter, journal) -> None:
    segmenter = open_segmenter(journal=journal)
    before = segmenter.segment(points=[(60, 60)])
    first = segmenter.accept(before)
    drawn = pixels_of(segmenter).copy()
    assert first == 1
    segmenter.accept_found(segmenter.everything(sizes=SIZES))
    written = pixels_of(segmenter).copy()
    assert len(np.unique(written)) > 3
    segmenter.undo()
    np.testing.assert_array_equal(pixels_of(segmenter), drawn)
    if journal:
        segmenter.redo()
        np.testing.assert_array_equal(pixels_of(segmenter), written)


def test_each_object_of_the_journal_opens_with_its_prompt_its_scores_and_its_model(open_segmenter) -> None:
    segmenter = open_segmenter()
    found = segmenter.everything(sizes=SIZES)
    chosen = found.select()
    labels = segmenter.accept_found(found, class_name="disc")
    segmenter.close()
    again = open_segmenter()
    for i, label in zip(chosen, labels, strict=True):
        entry = again.journal.object(label)
        (part,) = entry.parts
        np.testing.assert_array_equal(part.prompts.points, found.prompts(int(i)).points)
        assert part.prompts.box == found.mask(int(i)).box
        assert part.made.model_digest == BlobFinder.digest
        assert entry.iou_prediction == pytest.approx(found.scores[i], abs=1e-4)
        assert entry.stability_score == pytest.approx(found.stability[i], abs=1e-4)
        assert entry.area == found.areas[i]
        np.testing.assert_array_equal(entry.mask.pixels, found.mask(int(i)).pixels)
        prompts = again.reopen(label)
        assert prompts.key == part.prompts.key
        corrected = again.segment(points=prompts.points, labels=prompts.labels, box=prompts.box)
        assert again.accept(corrected, label=label) == label
    assert len(again.objects) == len(labels)


def test_a_found_object_is_deleted_alone(open_segmenter) -> None:
    segmenter = open_segmenter()
    labels = segmenter.accept_found(segmenter.everything(sizes=SIZES))
    written = pixels_of(segmenter).copy()
    segmenter.delete(labels[2])
    np.testing.assert_array_equal(pixels_of(segmenter), np.where(written == labels[2], 0, written))
    segmenter.undo()
    np.testing.assert_array_equal(pixels_of(segmenter), written)


def test_only_chosen_proposals_are_written_and_better_ones_come_first(open_segmenter) -> None:
    segmenter = open_segmenter()
    found = segmenter.everything(sizes=SIZES)
    chosen = found.select()[[3, 1]]
    assert segmenter.accept_found(found, chosen) == [1, 2]
    np.testing.assert_array_equal(pixels_of(segmenter), found.labels(SHAPE, chosen))


def test_objects_that_were_there_keep_their_pixels_unless_they_may_be_overwritten(open_segmenter) -> None:
    segmenter = open_segmenter()
    found = segmenter.everything(sizes=SIZES)
    first = segmenter.accept_found(found)
    written = pixels_of(segmenter).copy()
    assert segmenter.accept_found(found) == [None] * len(first)
    np.testing.assert_array_equal(pixels_of(segmenter), written)
    assert segmenter.accept_found(found, overlap="overwrite") == [label + len(first) for label in first]


def test_nothing_found_is_nothing_written(open_segmenter) -> None:
    segmenter = open_segmenter()
    found = segmenter.everything(sizes=SIZES)
    nothing = found.select(FilterOptions(confidence=1.0))
    assert segmenter.accept_found(found, nothing) == []
    assert not pixels_of(segmenter).any()
    assert len(segmenter.journal.objects) == 0


def test_without_labels_of_ones_own_they_are_made(tmp_path) -> None:
    segmenter = segmenter_of(picture(LABELS))
    assert len(segmenter.accept_found(segmenter.everything(sizes=SIZES))) == 5
    assert len(np.unique(pixels_of(segmenter))) == 6
