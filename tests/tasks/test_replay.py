"""Journals of the scripting API: objects reopened, corrected, undone, and segmented again by another model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr
from skimage.data import coins

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, OutputError
from napari_sam.journal.discovery import find_journal
from napari_sam.journal.journal import open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.journal.semantic_labels import ClassMap, update_semantic, write_semantic
from napari_sam.labels import object_edits as edits
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.segmenter import Segmenter
from napari_sam.tasks.replay import overlap_of, replay_prompts


def disc(shape, row, col, radius):
    rows, cols = np.indices(shape)
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


@pytest.fixture
def discs():
    """Two discs and a bar."""
    image = np.full((300, 340), 12, np.uint8)
    image[disc(image.shape, 80, 90, 11)] = 220
    image[disc(image.shape, 200, 230, 25)] = 160
    image[125:165, 20:220] = 240
    return image


SMALL, LARGE, BAR = (80, 90), (200, 230), (145, 120)


@pytest.fixture
def open_segmenter(fake_predictor):
    opened = []

    def make(image, **options) -> Segmenter:
        opened.append(Segmenter(image, model=fake_predictor, **options))
        return opened[-1]

    yield make
    for segmenter in opened:
        segmenter.close()


def test_without_a_journal_all_is_as_before_and_the_rest_says_what_it_needs(open_segmenter, discs):
    segmenter = open_segmenter(discs)
    assert segmenter.accept(segmenter.segment(points=[SMALL])) == 1
    assert segmenter.undo().area > 0
    for act in (
        segmenter.redo,
        lambda: segmenter.objects,
        lambda: segmenter.reopen(1),
        lambda: segmenter.delete(1),
        lambda: segmenter.classify(1, "cell"),
        lambda: segmenter.accept(segmenter.segment(points=[SMALL]), class_name="cell"),
    ):
        with pytest.raises(LabelsError, match="There is no journal"):
            act()
    assert not segmenter.labels.any()


def test_an_object_is_kept_with_what_it_was_segmented_by(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal", gamma=0.5)
    first = segmenter.segment(points=[SMALL, (140, 120)], labels=[1, 0])
    segmenter.segment(points=[LARGE], downsample=2)
    large = segmenter.segment(points=[LARGE], downsample=2)[2]
    # Accepted in another order than segmented.
    assert segmenter.accept(first, class_name="seed") == 1
    assert segmenter.accept(large, overlap="overwrite") == 2
    small, big = segmenter.objects
    assert (small.label_class.name, small.area, big.label_class) == ("seed", first.best.area, None)
    assert np.array_equal(small.prompts.points, [SMALL, (140, 120)])
    assert small.prompts.labels.tolist() == [True, False]
    made = big.parts[0].made
    assert (made.candidate, made.downsample, made.model, made.model_digest) == ("large", 2, "fake", "fake/1")
    assert (made.level, made.tile) == (large.tile.level, large.tile.read)
    assert made.rendering == segmenter.encoder.rendering
    assert made.rendering.gamma == 0.5
    assert small.parts[0].made.candidate == "best"
    assert np.array_equal(big.mask.pixels, large.pixels)
    assert big.iou_prediction == large.iou_prediction


def test_an_object_is_reopened_corrected_deleted_and_all_of_it_undone(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    states = [segmenter.labels.copy()]

    def did() -> None:
        states.append(segmenter.labels.copy())

    label = segmenter.accept(segmenter.segment(points=[SMALL]))
    did()
    segmenter.accept(segmenter.segment(points=[BAR]))
    did()
    prompts = segmenter.reopen(label)
    again = segmenter.segment(points=[*prompts.points.tolist(), LARGE], labels=[*prompts.labels.tolist(), 1])
    assert segmenter.accept(again[2], label=label) == label
    did()
    assert np.array_equal(segmenter.labels == label, again[2].to_array(discs.shape) & (states[2] != 2))
    segmenter.classify(label, "pair")
    did()
    segmenter.delete(label)
    did()
    assert set(np.unique(segmenter.labels)) == {0, 2}
    while segmenter.undo():
        states.pop()
        assert np.array_equal(segmenter.labels, states[-1])
    assert len(states) == 1
    while segmenter.redo():
        pass
    assert [row.label for row in segmenter.objects] == [2]


def test_a_mask_from_elsewhere_is_reopened_as_a_mask(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    label = segmenter.accept(Mask(Box(3, 4, 9, 9), np.ones((6, 5), bool)))
    prompts = segmenter.reopen(label)
    assert prompts.mask.box == prompts.box == Box(3, 4, 9, 9)
    assert np.isnan(segmenter.objects[0].iou_prediction)


def test_masks_are_cleaned_before_they_are_written(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    pixels = np.ones((9, 9), bool)
    pixels[4, 4] = pixels[0, 1] = pixels[1, :2] = False
    mask = Mask(Box(0, 0, 9, 9), pixels)
    segmenter.accept(mask, cleaning=Cleaning(fill_holes=None, minimum_size=5))
    assert segmenter.labels[4, 4] == 1
    assert segmenter.labels[0, 0] == 0
    with pytest.raises(LabelsError, match="empty"):
        segmenter.accept(mask, cleaning=Cleaning(minimum_size=1000))


def test_opening_the_image_again_goes_on(open_segmenter, discs):
    segmenter = open_segmenter(discs, journal=True)
    for at in (SMALL, LARGE, BAR):
        segmenter.accept(segmenter.segment(points=[at]))
    segmenter.undo()
    before = segmenter.labels.copy()
    with pytest.raises(OutputError, match="in use"):
        open_segmenter(discs, journal=True)
    segmenter.close()
    # Another array of the same pixels, and labels in memory that are gone.
    again = open_segmenter(discs.copy(), journal=True)
    assert np.array_equal(again.labels, before)
    assert again.redo().label == 3
    again.close()
    other = discs.copy()
    other[0, 0] += 1
    assert open_segmenter(other, journal=True).objects == []


def test_labels_given_in_memory_get_the_objects_back_where_they_hold_nothing(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    segmenter.accept(segmenter.segment(points=[SMALL]))
    segmenter.close()
    empty, other = np.zeros(discs.shape, np.uint8), np.zeros(discs.shape, np.uint8)
    other[0, 0] = 7
    open_segmenter(discs, labels=empty, journal=tmp_path / "a.journal").close()
    assert np.array_equal(empty, segmenter.labels)
    open_segmenter(discs, labels=other, journal=tmp_path / "a.journal").close()
    assert other.sum() == 7
    with pytest.raises(LabelsError, match="shape"):
        open_segmenter(np.zeros((9, 9), np.uint8), journal=tmp_path / "a.journal")


def test_the_journal_lies_beside_labels_on_disk(open_segmenter, discs, tmp_path):
    segmenter = open_segmenter(discs, labels=tmp_path / "a.ome.zarr", journal=True)
    label = segmenter.accept(segmenter.segment(points=[SMALL]))
    segmenter.close()
    assert (tmp_path / "a.ome.zarr.journal" / "journal.sqlite").exists()
    again = open_segmenter(discs, labels=tmp_path / "a.ome.zarr", journal=True)
    assert [row.label for row in again.objects] == [label]
    again.undo()
    assert not np.asarray(again.labels[...]).any()
    plain = zarr.create_array(tmp_path / "b.zarr", shape=discs.shape, dtype="u2")
    assert find_journal(again.volume, None, plain).name == "b.zarr.journal"
    assert find_journal(again.volume, "a.tif", None) != find_journal(again.volume, "b.tif", None)


def test_done_again_by_the_same_model_it_is_the_same(open_segmenter, discs, make_predictor, tmp_path):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    segmenter.accept(segmenter.segment(points=[SMALL])[0])
    segmenter.accept(segmenter.segment(points=[BAR]))
    segmenter.accept(segmenter.segment(points=[LARGE], downsample=4)[2], label=1)
    segmenter.delete(2)
    segmenter.accept(segmenter.segment(box=(60, 70, 100, 110)))
    segmenter.accept(Mask(Box(280, 0, 290, 10), np.ones((10, 10), bool)))
    segmenter.close()
    target = LabelArray(np.zeros(discs.shape, np.uint16))
    outcomes = list(
        replay_prompts(open_journal(tmp_path / "a.journal"), Segmenter(discs, model=make_predictor()), target)
    )
    assert [(one.name, one.iou, one.error) for one in outcomes] == [("1", 1, None), ("3", 1, None), ("4", None, None)]
    assert np.array_equal(target.array, segmenter.labels)


def proposals_of(segmenter):
    """What a search for all objects gives: masks with their prompts."""
    answers = [segmenter.segment(points=[at]) for at in (SMALL, LARGE, BAR, SMALL)]
    return [NewObject(answer.best, answer.prompts) for answer in answers]


@pytest.mark.parametrize("blocks", [1, 4])
def test_many_objects_are_accepted_and_taken_back_with_and_without_a_journal(
    open_segmenter, discs, tmp_path, monkeypatch, blocks
):
    if blocks > 1:  # As if they lay far apart.
        monkeypatch.setattr(edits, "MAX_TOGETHER", 1)
        monkeypatch.setattr(edits, "BLOCK", 100)
    plain, kept = open_segmenter(discs), open_segmenter(discs, journal=tmp_path / "a.journal")
    objects = proposals_of(kept)
    expected = [1, 3, 2, None] if blocks > 1 else [1, 2, 3, None]
    for segmenter in (plain, kept):
        segmenter.accept(Mask(Box(0, 0, 9, 9), np.ones((9, 9), bool)), label=1, overlap="overwrite")
        segmenter.undo()
        assert segmenter.accept_all(objects, plane=()) == expected
        for label, each in zip(expected[:3], objects, strict=False):
            assert np.array_equal(segmenter.labels == label, each.mask.to_array(discs.shape))
    assert len(kept.journal.entries) == (3 if blocks > 1 else 1)
    assert kept.reopen(expected[1]).points.tolist() == [list(LARGE)]
    assert kept.undo().what == "accept_all"
    assert len(kept.objects) == 0
    assert kept.redo().labels[0] == 1
    assert len(kept.objects) == 3
    kept.undo()
    plain.undo()
    assert not plain.labels.any()
    assert not kept.labels.any()
    assert kept.accept_all([each.mask for each in objects[:2]], class_name="disc") == [1, 2]
    assert {found.label_class.name for found in kept.objects} == {"disc"}
    assert plain.accept_all([]) == []


def test_many_objects_that_cannot_be_accepted_are_refused_in_a_sentence(open_segmenter, discs):
    segmenter = open_segmenter(discs)
    mask = Mask(Box(0, 0, 3, 3), np.ones((3, 3), bool))
    for arguments, message in (
        (([mask, "mask"],), "a Mask or a NewObject"),
        (([mask, Mask(Box(0, 0, 9, 9), mask.pixels)],), "fill its box"),
    ):
        with pytest.raises(LabelsError, match=message):
            segmenter.accept_all(*arguments)
    with pytest.raises(LabelsError, match="does not exist"):
        segmenter.accept_all([mask], overlap="mine")
    with pytest.raises(LabelsError, match="There is no journal"):
        segmenter.accept_all([mask], class_name="cell")
    assert not segmenter.labels.any()


def test_objects_that_were_accepted_together_are_segmented_again_one_by_one(
    open_segmenter, discs, tmp_path, make_predictor
):
    segmenter = open_segmenter(discs, journal=tmp_path / "a.journal")
    segmenter.accept_all(proposals_of(segmenter))
    segmenter.accept(segmenter.segment(points=[LARGE], downsample=2), label=2)
    segmenter.delete(1)
    segmenter.close()
    target = LabelArray(np.zeros(discs.shape, np.uint16))
    outcomes = list(
        replay_prompts(open_journal(tmp_path / "a.journal"), Segmenter(discs, model=make_predictor()), target)
    )
    assert [(one.name, one.error) for one in outcomes] == [("3", None), ("2", None)]
    assert outcomes[0].iou == 1
    assert np.array_equal(target.array == 3, segmenter.labels == 3)


def test_the_overlap_of_two_masks():
    one, two = Mask(Box(0, 0, 4, 4), np.ones((4, 4), bool)), Mask(Box(2, 2, 6, 6), np.ones((4, 4), bool))
    assert overlap_of(one, two) == 4 / 28


@pytest.mark.parametrize("kind", ["numpy", "zarr", "pyramid"])
def test_semantic_labels_of_the_same_objects(open_segmenter, discs, tmp_path, kind):
    shape = discs.shape
    labels = {
        "numpy": lambda: np.zeros(shape, np.uint16),
        "zarr": lambda: zarr.create_array(tmp_path / "l.zarr", shape=shape, dtype="u2", chunks=(64, 64)),
        "pyramid": lambda: LabelPyramid.create(tmp_path / "l.ome.zarr", shape, chunks=(64, 64)),
    }[kind]()
    segmenter = open_segmenter(discs, labels=labels, journal=tmp_path / "a.journal")
    one, two, three = (segmenter.accept(segmenter.segment(points=[at])) for at in (SMALL, LARGE, BAR))
    segmenter.classify(one, "seed")
    segmenter.classify(two, "stone")
    instances = np.asarray(segmenter.labels[...])
    semantic = zarr.create_array(tmp_path / "s.zarr", shape=shape, dtype="u1", chunks=(32, 32))
    write_semantic(segmenter.labels, semantic, ClassMap.of(segmenter.objects))
    expected = np.where(instances == one, 1, np.where(instances == two, 2, 0))
    assert np.array_equal(semantic[...], expected)
    segmenter.classify(three, "stone")
    found = next(row for row in segmenter.objects if row.label == three)
    update_semantic(segmenter.labels, semantic, ClassMap.of(segmenter.objects), found.plane, found.box)
    assert np.array_equal(semantic[...], np.where(instances == three, 2, expected))
    write_semantic(segmenter.labels, semantic, ClassMap.of([], others=5))
    assert np.array_equal(semantic[...], np.where(instances > 0, 5, 0))
    with pytest.raises(LabelsError, match="does not fit"):
        write_semantic(segmenter.labels, semantic, ClassMap.of([], others=256))
    with pytest.raises(LabelsError, match="make them equal"):
        write_semantic(segmenter.labels, np.zeros((3, 3), np.uint8), ClassMap.of([]))


def test_the_page_about_the_journal_runs_as_it_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path))
    page = (Path(__file__).parents[2] / "docs" / "guides" / "journal.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, names)
    assert names["semantic"].max() == 1
    coin, other = names["coin"], names["other"]
    with Segmenter(coins(), journal=True) as again:
        assert [(item.label, item.label_class.name) for item in again.objects] == [(coin, "coin")]
        again.undo()
        assert [item.label for item in again.objects] == [coin, other]


def test_objects_that_were_merged_and_split_are_replayed_as_they_are_now(
    open_segmenter, discs, tmp_path, fake_predictor
):
    stack = np.stack([discs, discs])
    segmenter = open_segmenter(stack, journal=tmp_path / "a.journal")
    for z in range(2):
        segmenter.accept(segmenter.segment(points=[SMALL], plane=z), label=1)
        segmenter.accept(segmenter.segment(points=[LARGE], plane=z), label=2)
    segmenter.accept(segmenter.segment(points=[BAR], plane=0), label=3)
    segmenter.merge([3, 1])
    assert segmenter.split(2, planes=[1]) == [4]
    target = LabelArray(np.zeros(stack.shape, np.uint16))
    outcomes = list(replay_prompts(segmenter.journal, open_segmenter(stack), target))
    assert sorted(outcome.label for outcome in outcomes) == [2, 3, 3, 4]
    assert all(outcome.iou == 1 for outcome in outcomes if outcome.iou is not None)
    np.testing.assert_array_equal(target.array, segmenter.labels)
