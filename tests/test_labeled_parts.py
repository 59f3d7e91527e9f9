"""LabeledImage over several planes: parts of many objects, planes that are left, objects that are merged and split."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, Provenance
from napari_sam.core.prompts import Prompts
from napari_sam.errors import ImageError, LabelsError, PromptError
from napari_sam.images.volume import Volume
from napari_sam.journal.packing.objects import NewObject
from napari_sam.labeled_image import LabeledImage

SHAPE = (5, 30, 40)


def square(top, left, side=6):
    return Mask(Box(top, left, top + side, left + side), np.ones((side, side), bool))


@pytest.fixture
def image(tmp_path):
    with LabeledImage(Volume.of(np.zeros(SHAPE, np.uint8))) as opened:
        opened._open(None, tmp_path / "some.journal", None)
        for z in range(3):
            opened.accept(square(2, 2), label=1, plane=z)
            opened.accept(square(2, 20), label=2, plane=z)
        yield opened


def planes_of(image, label):
    return [part.plane.index[0] for part in image.journal.object(label).parts]


def test_masks_of_many_objects_are_written_into_one_plane(image):
    prompts = Prompts.of([(3, 3)], [1], shape=SHAPE[1:])
    given = {2: square(3, 20), 1: NewObject(square(3, 3), prompts), 7: square(3, 22)}
    assert image.accept_parts(given, plane=3, made=Provenance(is_propagated=True)) == [2, 1, 7]
    assert planes_of(image, 1) == [0, 1, 2, 3]
    part = image.journal.object(1).parts[-1]
    assert part.made.is_propagated
    assert part.prompts.key == prompts.key
    assert image.journal.object(7).area == 12
    assert image.accept_parts({7: square(4, 3, 2)}, plane=3) == [None]
    assert image.accept_parts({}, plane=3) == []
    image.undo()
    assert not image.labels[3].any()
    image.redo()
    assert set(np.unique(image.labels[3])) == {0, 1, 2, 7}


def test_masks_that_lie_far_apart_are_one_step(image, monkeypatch):
    monkeypatch.setattr("napari_sam.labels.object_edits.MAX_TOGETHER", 1)
    monkeypatch.setattr("napari_sam.labels.object_edits.BLOCK", 10)
    number = image.journal.entries[-1].number
    assert image.accept_parts({2: square(20, 20), 1: square(3, 3)}, plane=4) == [2, 1]
    assert image.journal.entries[-1].number == number + 2
    image.undo()
    assert image.journal.entries[-1].number == number


def test_an_action_on_many_planes_is_undone_and_redone_as_one(image):
    before = image.labels.copy()
    with image.journal.together():
        image.remove_planes(1, [0, 1])
        for z in (3, 4):
            image.accept_parts({1: square(3, 3), 2: square(3, 20)}, plane=z)
        image.remove_planes(2, [0])
    after = image.labels.copy()
    image.undo()
    np.testing.assert_array_equal(image.labels, before)
    image.redo()
    np.testing.assert_array_equal(image.labels, after)
    image.undo()
    image.merge([1, 2])
    assert image.redo() is None


def test_an_object_leaves_planes(image):
    image.remove_planes(1, [-5, 1])
    assert planes_of(image, 1) == [2]
    assert not (image.labels[:2] == 1).any()
    image.remove_planes(1, [2])
    assert [found.label for found in image.objects] == [2]
    image.undo()
    assert planes_of(image, 1) == [2]


def test_objects_are_merged_and_one_undo_takes_it_back(image):
    before = image.labels.copy()
    assert image.merge([2, 1]) == 2
    np.testing.assert_array_equal(image.labels, np.where(before > 0, 2, 0))
    image.undo()
    np.testing.assert_array_equal(image.labels, before)
    assert image.merge((np.uint16(1), np.int64(2))) == 1


def test_an_object_is_split_by_planes_by_a_mask_and_into_regions(image):
    assert image.split(1, planes=[2]) == [3]
    assert (planes_of(image, 1), planes_of(image, 3)) == ([0, 1], [2])
    assert image.split(3, mask=square(2, 2, 3)) == [4]
    assert image.journal.object(4).area == 9
    drawn = np.zeros(SHAPE[1:], bool)
    drawn[:, :4] = True
    assert image.split(1, mask=drawn, plane=1) == [5]
    assert image.journal.object(1).area == 36 + 24
    image.remove_planes(2, [1])
    assert image.split(2) == [6]
    assert (planes_of(image, 2), planes_of(image, 6)) == ([0], [2])
    for _ in range(5):
        image.undo()
    assert planes_of(image, 1) == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda image: image.merge([1]), LabelsError, "two objects or more"),
        (lambda image: image.merge([1, 1]), LabelsError, "two objects or more"),
        (lambda image: image.merge([1, 3]), LabelsError, "no object 3"),
        (lambda image: image.merge([1, 1.5]), LabelsError, "whole number"),
        (lambda image: image.merge(1), PromptError, "list of labels"),
        (lambda image: image.split(1), LabelsError, "in one piece"),
        (lambda image: image.split(1, planes=[0, 1, 2]), LabelsError, "all of object 1"),
        (lambda image: image.split(1, planes=[3]), LabelsError, "no pixels in the plane"),
        (lambda image: image.split(1, planes=[]), LabelsError, "No plane"),
        (lambda image: image.split(1, planes=[9]), ImageError, "plane"),
        (lambda image: image.split(1, mask=square(2, 2)), LabelsError, "is in 3 planes"),
        (lambda image: image.split(1, mask=square(20, 20), plane=0), LabelsError, "no pixel of object 1"),
        (lambda image: image.split(1, mask=np.ones((3, 3), bool), plane=0), PromptError, "shape"),
        (lambda image: image.split(1, mask=square(2, 2), planes=[0]), LabelsError, "leave one out"),
        (lambda image: image.split(1, plane=0), LabelsError, "without a mask"),
        (lambda image: image.remove_planes(1, [4]), LabelsError, "no pixels in the plane"),
        (lambda image: image.remove_planes(9, [0]), LabelsError, "no object 9"),
        (lambda image: image.accept_parts({1: "mask"}, plane=0), LabelsError, "Mask or a NewObject"),
        (lambda image: image.accept_parts({0: square(1, 1)}, plane=0), LabelsError, "from 1 on"),
        (lambda image: image.accept_parts({1: square(1, 1)}, plane=0, overlap="some"), LabelsError, "overlap policy"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(image, change, error, message):
    before, rows = image.labels.copy(), list(image.objects)
    with pytest.raises(error, match=message):
        change(image)
    np.testing.assert_array_equal(image.labels, before)
    assert list(image.objects) == rows


def test_without_a_journal_a_sentence_says_that_it_is_needed():
    image = LabeledImage(Volume.of(np.zeros(SHAPE, np.uint8)))
    image.accept(square(2, 2), label=1, plane=0)
    image.accept(square(2, 20), label=1, plane=1)
    assert (image.labels == 1).sum() == 72
    for change in (
        lambda: image.merge([1, 2]),
        lambda: image.split(1),
        lambda: image.remove_planes(1, [0]),
        lambda: image.accept_parts({1: square(2, 2)}, plane=2),
    ):
        with pytest.raises(LabelsError, match="There is no journal"):
            change()
