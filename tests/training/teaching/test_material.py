"""What a model learns from: the objects of journals, cut out with what is known around them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from tests.training.teaching.conftest import CENTERS, SHAPE, disc

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance, mask_of
from napari_sam.errors import ImageError, LabelsError, ModelError, PromptError
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import is_only_journal, journal_beside
from napari_sam.journal.storage.complete_areas import AREAS, CompleteArea
from napari_sam.segmenter import Segmenter
from napari_sam.testing import FakePredictor
from napari_sam.training.teaching.displaced import check_in_place, displaced_labels, edge_rank
from napari_sam.training.teaching.journals import TaughtImage, taught_images
from napari_sam.training.teaching.measuring.held_back import FEWEST, Figures, held_back, is_better
from napari_sam.training.teaching.regions import SIDE, Background, Region, TaughtPart, cut_regions
from napari_sam.training.teaching.steps import CORRECTED_WEIGHT, sources_of


def regions(journal, *, is_complete=False):
    return list(TaughtImage.of(journal).regions(0, is_complete=is_complete))


def test_a_journal_has_all_that_a_model_is_taught_by(journal, pixels):
    (region,) = regions(journal)
    assert sorted(region.labels) == list(range(1, 11))
    assert sorted(region.labels[region.is_corrected]) == [1, 2]
    first = region.objects == region.numbers[region.labels == 1]
    np.testing.assert_array_equal(first, disc(CENTERS[0], 17))
    assert np.corrcoef(region.pixels[..., 0].ravel(), pixels.ravel())[0, 1] > 0.99


def test_what_was_not_accepted_is_background_only_where_all_was(journal):
    (partial,), (complete,) = regions(journal), regions(journal, is_complete=True)
    outside = ~np.isin(partial.objects, partial.numbers)
    assert (partial.objects[outside] == -1).all()
    assert (complete.objects[outside] == 0).all()


def test_a_region_that_was_marked_as_complete_is_background_and_the_mark_survives(journal, image, tmp_path):
    with Segmenter(image, model=FakePredictor(), labels=journal, journal=True) as segmenter:
        segmenter.mark_complete((0, 0, 100, 160))
        segmenter.mark_complete((150, 0, 240, 100))
        segmenter.mark_complete((200, 0, 210, 10), is_complete=False)
        with pytest.raises(PromptError, match="no area"):
            segmenter.mark_complete((5, 5, 5, 9))
    with Segmenter(image, model=FakePredictor(), labels=journal, journal=True) as segmenter:
        assert segmenter.complete_areas == [CompleteArea(segmenter.plane(), Box(0, 0, 100, 160))]
    (region,) = regions(journal)
    inside = np.zeros(SHAPE, bool)
    inside[:100, :160] = True
    unlabelled = ~np.isin(region.objects, region.numbers)
    assert (region.objects[unlabelled & inside] == 0).all()
    assert (region.objects[unlabelled & ~inside] == -1).all()
    # Parts that are given for one lesson come on top.
    (more,) = TaughtImage.of(journal).regions(0, is_complete=False, complete=[Box(220, 300, 400, 400)])
    assert more.objects[230, 310] == 0
    assert (more.objects == 0).sum() == (region.objects == 0).sum() + 20 * 20
    # A journal with such a file is nothing but a journal: it may be replaced.
    assert is_only_journal(journal_beside(journal))


def test_marks_that_cannot_be_read_or_written_say_what_to_do(journal, pixels):
    path = journal_beside(journal) / AREAS
    path.write_text('{"areas": [{"axes": [0]}]}')
    with pytest.raises(LabelsError, match=r"complete\.json cannot be read .* mark the complete regions again"):
        TaughtImage.of(journal)
    with Segmenter(pixels, model=FakePredictor()) as segmenter, pytest.raises(LabelsError, match="no journal"):
        segmenter.mark_complete()


def test_propagated_objects_are_no_background_of_a_complete_plane(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    with Segmenter(image, model=FakePredictor(), journal=tmp_path / "own") as segmenter:
        segmenter.journal.accept(segmenter.plane(), mask_of(disc(CENTERS[0])), 1)
        made = Provenance(is_propagated=True)
        segmenter.journal.accept(segmenter.plane(), mask_of(disc(CENTERS[5])), 2, made=made)
        segmenter.mark_complete(plane=segmenter.plane())
        (region,) = regions(segmenter)
    assert region.labels.tolist() == [1]
    np.testing.assert_array_equal(region.objects == -1, disc(CENTERS[5]))
    assert (region.objects[~disc(CENTERS[5]) & ~disc(CENTERS[0])] == 0).all()


@pytest.mark.parametrize("name", ["labels.zarr", "labels.zarr.journal", "discs.tif"])
def test_the_image_its_labels_and_the_journal_name_the_same_objects(journal, image, tmp_path, name):
    if name == "discs.tif":
        with Segmenter(image, model=FakePredictor(), journal=True) as segmenter:
            for center in CENTERS[:10]:
                segmenter.accept(mask_of(disc(center)), plane=segmenter.plane())
    (region,) = regions(tmp_path / name)
    assert len(region.numbers) == 10


def test_an_array_is_taught_from_its_segmenter_or_together_with_its_journal(pixels, tmp_path):
    with Segmenter(pixels, model=FakePredictor(), journal=tmp_path / "own") as segmenter:
        for center in CENTERS[:9]:
            segmenter.accept(mask_of(disc(center)), plane=segmenter.plane())
        assert len(regions(segmenter)[0].numbers) == 9
    assert len(regions((tmp_path / "own", pixels))[0].numbers) == 9
    with pytest.raises(ImageError, match="never in a file"):
        TaughtImage.of(tmp_path / "own")
    with pytest.raises(ImageError, match="not those that the journal"):
        TaughtImage.of((tmp_path / "own", pixels + 1))


def test_a_journal_without_its_image_says_what_to_do(journal, image, tmp_path):
    image.rename(tmp_path / "elsewhere.tif")
    with pytest.raises(ImageError, match="not there any more"):
        TaughtImage.of(journal)
    with pytest.raises(LabelsError, match="There is no journal of"):
        TaughtImage.of(tmp_path / "elsewhere.tif")
    with pytest.raises(LabelsError, match="check the path"):
        TaughtImage.of(tmp_path / "nothing")
    with pytest.raises(LabelsError, match="give at least one journal"):
        taught_images([])


def test_propagated_masks_teach_nothing(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "volume.tif", image, photometric="minisblack")
    with Segmenter(tmp_path / "volume.tif", model=FakePredictor(), journal=tmp_path / "own") as segmenter:
        for z, is_propagated in enumerate((False, True, False)):
            made = Provenance(is_propagated=is_propagated)
            segmenter.journal.accept(segmenter.plane(z), mask_of(disc(CENTERS[4])), 1, made=made)
        found = regions(segmenter)
    assert [region.position for region in found] == [0, 2]


def test_each_object_of_a_large_plane_is_whole_in_one_region():
    rng = np.random.default_rng(0)
    shape = (2600, 3000)
    image = rng.integers(0, 255, shape).astype(np.uint8)
    corners = [(row, col) for row in range(0, 2500, 310) for col in range(0, 2900, 370)]
    parts = [
        TaughtPart(at, Mask(Box(row, col, row + 60, col + 60), np.ones((60, 60), bool)))
        for at, (row, col) in enumerate(corners, 1)
    ]
    volume = Volume.of(image)
    cut = list(cut_regions(volume, Plane.of(shape), volume.rendering(), parts, Background()))
    assert len(cut) > 4
    assert all(max(region.objects.shape) <= SIDE + 1 for region in cut)
    labels = np.concatenate([region.labels for region in cut])
    assert sorted(labels.tolist()) == list(range(1, len(parts) + 1))
    for region in cut:
        areas = np.bincount(region.objects[region.objects > 0], minlength=region.numbers.max() + 1)
        assert (areas[region.numbers] == 3600).all()


def test_an_object_larger_than_a_region_is_taken_from_a_reduced_plane():
    shape = (1520, 3200)
    pixels = np.zeros(shape, np.uint8)
    large, small = np.zeros(shape, bool), np.zeros(shape, bool)
    large[200:1300, 300:2500], small[20:60, 20:60] = True, True
    pixels[large], pixels[small] = 200, 100
    volume = Volume.of(pixels)
    parts = [TaughtPart(at, mask_of(mask)) for at, mask in enumerate((large, small), 1)]
    fine, coarse = cut_regions(
        volume, Plane.of(shape), volume.rendering((0, 255)), parts, Background([Box.of_shape(shape)])
    )
    assert fine.labels.tolist() == [2]
    assert coarse.labels.tolist() == [1]
    assert coarse.objects.shape == (shape[0] / 8, shape[1] / 8)
    (value,) = coarse.numbers
    inside = (coarse.objects == value).sum() * 64
    assert abs(inside - large.sum()) < 0.02 * large.sum()
    assert coarse.pixels[coarse.objects == value].min() > 90


def test_masks_over_each_other_are_taken_as_the_labels_got_them():
    shape = (60, 60)
    one, two = np.zeros(shape, bool), np.zeros(shape, bool)
    one[10:40, 10:40], two[20:50, 20:50] = True, True
    volume = Volume.of(np.zeros(shape, np.uint8))
    for overlap, owner in (("keep", 1), ("overwrite", 2)):
        parts = [TaughtPart(1, mask_of(one)), TaughtPart(2, mask_of(two), overlap)]
        (region,) = cut_regions(volume, Plane.of(shape), volume.rendering(), parts, Background([Box.of_shape(shape)]))
        assert (region.objects[one & two] == region.numbers[region.labels == owner]).all()


def made_regions(counts, images=None):
    """Return regions with so many objects each."""
    found = []
    for at, count in enumerate(counts):
        numbers = np.arange(1, count + 1, dtype=np.int32)
        objects = np.repeat(np.repeat(numbers, 8)[None], 8, axis=0)
        image = at if images is None else images[at]
        labels = numbers.astype(np.int64)
        corrected = np.zeros(count, bool)
        found.append(Region(np.zeros((*objects.shape, 3), np.uint8), objects, numbers, labels, corrected, image, at))
    return found


def test_a_fifth_is_held_back_of_every_image_alike():
    held = held_back(made_regions([30, 10, 10]), seed=0)
    assert [int(chosen.sum()) for chosen in held] == [6, 2, 2]
    again, other = held_back(made_regions([30, 10, 10]), seed=0), held_back(made_regions([30, 10, 10]), seed=1)
    assert all(np.array_equal(one, two) for one, two in zip(held, again, strict=True))
    assert not all(np.array_equal(one, two) for one, two in zip(held, other, strict=True))


def test_an_object_is_held_back_in_all_of_its_planes():
    held = held_back(made_regions([12, 12, 12], images=[0, 0, 0]), seed=0)
    assert all(np.array_equal(chosen, held[0]) for chosen in held)
    assert held[0].sum() == 2


def test_planes_of_one_organ_are_held_back_as_neighbors():
    held = held_back(made_regions([1] * 20, images=[0] * 20), seed=3)
    places = np.flatnonzero([chosen[0] for chosen in held])
    assert len(places) == 4
    assert np.ptp(places) == 3


@pytest.mark.parametrize("count", [1, FEWEST - 1])
def test_too_few_objects_are_refused_with_their_number(count):
    with pytest.raises(ModelError, match=f"needs {FEWEST} objects or more, and there (is|are) {count}:"):
        held_back(made_regions([count]), seed=0)


def test_held_back_objects_are_unknown_while_it_learns_and_corrected_ones_come_more_often():
    (region,) = made_regions([10])
    corrected = np.arange(10) == 3
    region = Region(region.pixels, region.objects, region.numbers, region.labels, corrected)
    held = held_back([region], seed=0)
    assert not held[0][3]
    sources, _ = sources_of([region], held)
    (source,) = sources["0"]
    hidden = region.numbers[held[0]]
    assert not np.isin(source.objects, hidden).any()
    assert (source.objects[np.isin(region.objects, hidden)] == -1).all()
    assert not np.isin(source.values, hidden).any()
    ratio = source.shares[source.values == 4] / source.shares[source.values == 5]
    assert ratio == pytest.approx(CORRECTED_WEIGHT)


def figures(first, third=None, box=None):
    first = np.asarray(first, float)
    others = [first if each is None else np.asarray(each, float) for each in (third, box)]
    return Figures(first, *others)


def test_a_model_is_better_only_if_chance_does_not_explain_it():
    rng = np.random.default_rng(0)
    before = figures(rng.uniform(0.3, 0.7, 8))
    assert is_better(before, figures(before.click_1 + 0.1))
    assert not is_better(before, before)
    assert not is_better(before, figures(before.click_1 + 0.005))
    # One object gained much, and the others lost a little.
    assert not is_better(before, figures(before.click_1 + np.array([0.5, *[-0.04] * 7])))
    # The first click became worse, however good the others are.
    assert not is_better(before, figures(before.click_1 - 0.01, before.click_1 + 0.2, before.click_1 + 0.2))


def test_an_outline_beside_the_edges_of_the_image_is_noticed(pixels):
    image = np.repeat(pixels[..., None], 3, axis=-1)
    assert edge_rank(image, disc(CENTERS[5])) == 1
    # An outline that is drawn a little too large is in its place.
    assert edge_rank(image, disc(CENTERS[5], 19)) == 1
    assert edge_rank(image, disc((CENTERS[5][0], CENTERS[5][1] + 20))) < 0.8


@pytest.mark.parametrize(("shifted", "is_refused"), [(0, False), (2, False), (6, True)])
def test_objects_of_which_many_are_shifted_are_refused_by_their_labels(pixels, shifted, is_refused):
    masks = [disc((row, col + 20 if at < shifted else col)) for at, (row, col) in enumerate(CENTERS)]
    volume = Volume.of(pixels)
    parts = [TaughtPart(at, mask_of(mask)) for at, mask in enumerate(masks, 1)]
    cut = list(cut_regions(volume, Plane.of(SHAPE), volume.rendering(), parts, Background()))
    found, count = displaced_labels(cut, seed=0)
    assert (sorted(found), count) == (list(range(1, shifted + 1)), 12)
    if is_refused:
        with pytest.raises(ModelError, match=r"outlines of 6 of 12 objects lie beside the edges .*correct or delete"):
            check_in_place(cut, seed=0)
    else:
        check_in_place(cut, seed=0)
