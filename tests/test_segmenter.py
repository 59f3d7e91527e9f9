from __future__ import annotations

import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.data import coins
from skimage.filters import sobel
from skimage.segmentation import watershed

from napari_sam.core import candidates
from napari_sam.core.candidates import ANSWERS_KEPT
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, iou, touches_border
from napari_sam.core.predictor import Decoded
from napari_sam.core.prompts import MAX_DECODED_POINTS
from napari_sam.core.tile_search import MAX_REFINEMENTS
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import ImageError, LabelsError, NapariSamError, PromptError
from napari_sam.segmenter import Candidates, Segmenter


def disc(shape, row, col, radius):
    rows, cols = np.indices(shape)
    return (rows - row) ** 2 + (cols - col) ** 2 <= radius**2


@pytest.fixture
def discs():
    """Two discs, a bar and some texture too weak to matter."""
    image = np.random.default_rng(0).integers(10, 20, (300, 340)).astype(np.uint8)
    image[disc(image.shape, 80, 90, 11)] = 220
    image[disc(image.shape, 200, 230, 25)] = 160
    image[125:165, 20:220] = 240
    return image


SMALL, LARGE, BAR = (80, 90), (200, 230), (145, 120)


def same(a: Candidates, b: Candidates) -> bool:
    return (
        len(a) == len(b)
        and a.best_index == b.best_index
        and all(
            one.box == two.box
            and one.tile == two.tile
            and np.array_equal(one.pixels, two.pixels)
            and np.array_equal(one.low_res_logits, two.low_res_logits)
            and one.iou_prediction == two.iou_prediction
            and one.stability_score == two.stability_score
            for one, two in zip(a, b, strict=True)
        )
    )


def test_a_click_finds_the_whole_object_and_nothing_else(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    for (row, col), radius in [(SMALL, 11), (LARGE, 25)]:
        best = segmenter.segment(points=[(row, col)]).best
        assert iou(best.to_array(discs.shape), disc(discs.shape, row, col, radius)) > 0.8


def test_a_click_on_an_image_of_terapixels_reads_tiles_only(counting_array, fake_predictor):
    array = counting_array(shape=(1_000_000, 1_000_000))
    segmenter = Segmenter(array, model=fake_predictor, contrast_limits=(0, 255))
    best = segmenter.segment(points=[(654_350, 123_450)]).best
    assert Box(654_340, 123_440, 654_361, 123_461).contains(best.box.grown(-4))
    assert 250 < best.area < 600
    assert len(fake_predictor.encoded) <= 9
    # The tiles of all levels lie over each other and are read at once; the last one may be beside them.
    assert len(array.reads) <= 2
    assert array.pixels_read <= 1.6 * (fake_predictor.input_side * 8) ** 2


def test_the_contrast_is_sampled_once_and_never_from_the_whole_image(counting_array, fake_predictor):
    array = counting_array(shape=(40_000, 50_000))
    segmenter = Segmenter(array, model=fake_predictor)
    assert array.reads == []
    segmenter.segment(points=[(20_050, 30_050)])
    first = array.pixels_read
    assert first < 20 * 512**2
    segmenter.segment(points=[(33_350, 8_050)])
    assert array.pixels_read - first < 4 * 512**2


def test_the_second_click_reads_and_encodes_nothing_and_decodes_once(counting_array, discs, fake_predictor):
    array = counting_array(discs)
    segmenter = Segmenter(array, model=fake_predictor)
    segmenter.segment(points=[SMALL])
    reads, encoded, decoded = len(array.reads), len(fake_predictor.encoded), len(fake_predictor.decoded)
    segmenter.segment(points=[SMALL, (83, 92)])
    assert len(array.reads) == reads
    assert len(fake_predictor.encoded) == encoded
    assert len(fake_predictor.decoded) == decoded + 1
    last = fake_predictor.decoded[-1]
    assert len(last.points) == 2
    assert last.mask_logits is not None


def test_the_same_prompts_again_ask_the_model_nothing(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    first = segmenter.segment(points=[SMALL, (84, 92)], labels=[1, 1])
    decoded = len(fake_predictor.decoded)
    assert segmenter.segment(points=[SMALL, (84, 92)]) is first
    segmenter.segment(points=[SMALL])
    assert len(fake_predictor.decoded) == decoded


def test_tiles_with_equal_pixels_are_encoded_once(fake_predictor):
    image = np.zeros((256, 256), np.uint8)
    image[32::64, 32::64] = 255
    segmenter = Segmenter(image, model=fake_predictor, contrast_limits=(0, 255))
    segmenter.segment(box=(20, 20, 44, 44))
    encoded = len(fake_predictor.encoded)
    segmenter.segment(box=(84, 84, 108, 108))
    assert len(fake_predictor.encoded) == encoded


QUESTIONS = [
    {"points": [SMALL]},
    {"points": [SMALL, (90, 90)], "labels": [1, 0]},
    {"points": [LARGE]},
    {"points": [BAR, (140, 60)]},
    {"box": (60, 70, 100, 110)},
    {"box": (60, 70, 100, 110), "points": [(85, 95)]},
    {"points": [BAR], "downsample": 0.125},
    {"points": [BAR], "downsample": 4.0},
    {"mask": disc((300, 340), 200, 230, 20)},
]


def test_an_answer_depends_on_its_prompts_only_and_not_on_what_was_asked_before(discs, make_predictor):
    fresh = [Segmenter(discs, model=make_predictor()).segment(**question) for question in QUESTIONS]
    for seed in range(3):
        segmenter = Segmenter(discs, model=make_predictor())
        for i in np.random.default_rng(seed).integers(0, len(QUESTIONS), 25):
            assert same(segmenter.segment(**QUESTIONS[i]), fresh[i])


def test_an_answer_does_not_depend_on_how_many_others_came_between(discs, make_predictor):
    segmenter = Segmenter(discs, model=make_predictor())
    segmenter.encoder._memory.capacity = 5 * 64 * 64 * 3
    question = {"points": [SMALL, (84, 92), (78, 86)]}
    first = segmenter.segment(**question)
    for col in range(2 * ANSWERS_KEPT):
        segmenter.segment(box=(270, col, 290, col + 20))
    assert same(segmenter.segment(**question), first)


def test_a_mask_prompt_with_logits_is_not_confused_with_its_bare_pixels(discs, make_predictor):
    found = Segmenter(discs, model=make_predictor()).segment(points=[LARGE]).best
    fresh = Segmenter(discs, model=make_predictor()).segment(mask=found.to_array(discs.shape))
    segmenter = Segmenter(discs, model=make_predictor())
    segmenter.segment(mask=found)
    assert same(segmenter.segment(mask=found.to_array(discs.shape)), fresh)


@pytest.mark.parametrize("first", [(0, 1), (1, 1), (2, 0)])
def test_the_contrast_of_a_plane_does_not_depend_on_which_was_looked_at_first(discs, make_predictor, first):
    volume = np.stack([np.stack([discs // 4, discs // 2]) + 60 * i for i in range(3)])[..., :200, :200]
    expected = Segmenter(volume, model=make_predictor()).segment(points=[SMALL], plane=(1, 0))
    segmenter = Segmenter(volume, model=make_predictor())
    segmenter.segment(points=[SMALL], plane=first)
    predictor = segmenter.predictor
    again = segmenter.segment(points=[SMALL], plane=(1, 0))
    assert same(again, expected)
    other = make_predictor()
    Segmenter(volume, model=other).segment(points=[SMALL], plane=(1, 0))
    assert {tile.tobytes() for tile in other.encoded} <= {tile.tobytes() for tile in predictor.encoded}


def test_after_refresh_changed_pixels_are_seen(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    before = segmenter.segment(points=[SMALL]).best
    discs[disc(discs.shape, *SMALL, 30)] = 220
    segmenter.refresh()
    after = segmenter.segment(points=[SMALL]).best
    assert after.area > 4 * before.area


def test_candidates_go_from_small_to_large_and_the_best_is_the_one_predicted_best(discs, fake_predictor):
    candidates = Segmenter(discs, model=fake_predictor).segment(points=[LARGE])
    areas = [mask.area for mask in candidates]
    assert len(candidates) == 3
    assert areas == sorted(areas)
    assert areas[0] < areas[1] < areas[2]
    assert candidates.best.iou_prediction == max(mask.iou_prediction for mask in candidates)
    assert candidates.best is candidates[1]
    assert candidates[2].iou_prediction < candidates[0].iou_prediction  # The fake gives them the other way round.
    assert all(0 <= mask.stability_score <= 1 for mask in candidates)


def test_candidates_have_names(discs, fake_predictor):
    candidates = Segmenter(discs, model=fake_predictor).segment(points=[LARGE])
    assert [candidates.named(name) for name in ("small", "medium", "large")] == list(candidates)
    assert candidates.named("best") is candidates.best
    assert candidates[1:] == candidates.masks[1:]


def test_the_named_best_is_not_always_the_medium_one(discs, make_predictor):
    class PrefersLarge(make_predictor):
        def decode(self, embedding, prompts):
            decoded = super().decode(embedding, prompts)
            return Decoded(decoded.logits, np.array([0.9, 0.2, 0.3], np.float32))

    candidates = Segmenter(discs, model=PrefersLarge()).segment(points=[LARGE])
    assert candidates.best is candidates.named("large")


def test_a_negative_point_takes_pixels_away(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    without = segmenter.segment(points=[LARGE])
    candidates = segmenter.segment(points=[LARGE, (215, 230)], labels=[1, 0])
    assert without.best.to_array(discs.shape)[215, 230]
    assert not candidates.best.to_array(discs.shape)[215, 230]
    assert candidates.best.to_array(discs.shape)[LARGE]


def test_a_box_keeps_to_its_inside(discs, fake_predictor):
    found = Segmenter(discs, model=fake_predictor).segment(box=(200, 205, 225, 256)).best
    half = disc(discs.shape, *LARGE, 25)
    half[:200] = False
    assert iou(found.to_array(discs.shape), half) > 0.75
    assert fake_predictor.decoded[0].points.shape == (0, 2)


def test_the_earlier_answer_is_fed_back(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    candidates = segmenter.segment(points=[LARGE])
    alone = segmenter.segment(points=[LARGE, (205, 235)])
    for previous in candidates:
        decoded = len(fake_predictor.decoded)
        answer = segmenter.segment(points=[LARGE, (205, 235)], previous=previous)
        assert len(fake_predictor.decoded) == decoded + 1
        np.testing.assert_array_equal(fake_predictor.decoded[-1].mask_logits, previous.low_res_logits)
        assert same(answer, alone) == (previous is candidates.best)


def test_a_mask_of_ones_own_can_be_the_earlier_answer(discs, fake_predictor):
    drawn = disc(discs.shape, *LARGE, 20)
    mine = Mask(Box.of_shape(discs.shape), drawn).tightened()
    answer = Segmenter(discs, model=fake_predictor).segment(points=[LARGE], previous=mine)
    hint = fake_predictor.decoded[0].mask_logits
    assert hint is not None
    assert hint.max() == 8
    assert iou(answer.best.to_array(discs.shape), disc(discs.shape, *LARGE, 25)) > 0.8


def test_another_earlier_answer_leaves_what_is_remembered_alone(discs, make_predictor):
    segmenter = Segmenter(discs, model=make_predictor())
    question = {"points": [LARGE, (205, 235)]}
    segmenter.segment(**question, previous=segmenter.segment(points=[LARGE])[0])
    assert same(segmenter.segment(**question), Segmenter(discs, model=make_predictor()).segment(**question))


def test_the_first_guess_of_the_size_comes_from_the_zoom(counting_array, fake_predictor):
    array = counting_array(shape=(10_000, 10_000))
    segmenter = Segmenter(array, model=fake_predictor, contrast_limits=(0, 255))
    segmenter.segment(points=[(5000, 5000)], downsample=4)
    assert 64 * 16 <= array.reads[0][0] <= 64 * 16 * 1.25
    tiles = [tile for _, tile in segmenter.encoder._digests]
    assert [tile.level for tile in tiles[:5]] == [2, 1, 3, 0, 4]


def test_a_confident_but_empty_answer_is_not_taken(discs, make_predictor):
    class EmptyAtFirst(make_predictor):
        def decode(self, embedding, prompts):
            decoded = super().decode(embedding, prompts)
            if len(self.decoded) > 1:
                return decoded
            return Decoded(np.full((3, 16, 16), -4, np.float32), np.full(3, 0.999, np.float32))

    found = Segmenter(discs, model=EmptyAtFirst()).segment(points=[LARGE]).best
    assert iou(found.to_array(discs.shape), disc(discs.shape, *LARGE, 25)) > 0.8


def test_a_new_point_beside_the_earlier_tile_is_seen_all_the_same(discs, fake_predictor):
    tile = TileGrid(discs.shape, fake_predictor.input_side).tile(0, 2, 2)
    assert tile.read == Box(64, 64, 128, 128)
    earlier = Mask(Box(110, 110, 124, 124), np.ones((14, 14), bool), tile=tile)
    Segmenter(discs, model=fake_predictor).segment(points=[(132, 120)], previous=earlier)
    assert len(fake_predictor.decoded[0].points) == 1


class Boundless:
    """A model to which everything is the object."""

    name, input_side, object_fraction, digest = "boundless", 64, 1 / 3, "boundless"
    object_range, probe_levels, batch = (0.1, 0.75), 2, 1

    def __init__(self, make_predictor):
        self._fake = make_predictor()

    def encode(self, tiles):
        return self._fake.encode(tiles)

    def decode(self, embedding, prompts):
        return Decoded(np.full((3, 16, 16), 5, np.float32), np.array([0.5, 0.9, 0.1], np.float32))


def test_a_mask_that_runs_into_its_tiles_border_is_decoded_again_one_level_up(counting_array, make_predictor):
    array = counting_array(shape=(10_000, 10_000))
    segmenter = Segmenter(array, model=Boundless(make_predictor), contrast_limits=(0, 255))
    found = segmenter.segment(box=(5000, 5000, 5020, 5020)).best
    assert [rows for rows, _ in array.reads] == [64 * 2**level for level in range(MAX_REFINEMENTS + 1)]
    assert found.tile is not None
    assert found.tile.level == MAX_REFINEMENTS


def test_at_the_image_edge_there_is_nothing_to_go_up_for(counting_array, make_predictor):
    array = counting_array(np.zeros((60, 60), np.uint8))
    Segmenter(array, model=Boundless(make_predictor), contrast_limits=(0, 255)).segment(box=(10, 10, 40, 40))
    assert array.reads == [(60, 60)]


def test_points_far_apart_are_seen_together(discs, fake_predictor):
    found = Segmenter(discs, model=fake_predictor).segment(points=[SMALL, LARGE]).best
    assert len(fake_predictor.decoded[-1].points) == 2
    whole = found.to_array(discs.shape)
    assert whole[SMALL]
    assert whole[LARGE]
    assert not touches_border(found, discs.shape)


def test_a_long_object_is_found_from_end_to_end(discs, fake_predictor):
    found = Segmenter(discs, model=fake_predictor).segment(points=[BAR]).best
    assert found.box.width == pytest.approx(200, abs=20)
    assert not touches_border(found, discs.shape)


def test_the_mask_is_decoded_at_the_level_that_its_own_size_asks_for(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    for at in (SMALL, LARGE):
        found = segmenter.segment(points=[at]).best
        assert found.tile is not None
        assert 0.1 < found.box.extent / found.tile.read.extent < 0.75
        assert found.tile.read.contains(found.box)


@pytest.mark.parametrize(
    ("axes", "index"),
    [((0, 2), 3), ((2, 0), 3), ((1, 2), 5), ((2, 1), 5), ((1, 0), 7), ((-3, -1), -1)],
)
def test_a_plane_of_a_volume_answers_like_the_same_plane_alone(make_predictor, axes, index):
    rng = np.random.default_rng(0)
    volume = rng.integers(0, 30, (90, 100, 110)).astype(np.uint16)
    volume += (200 * (((np.indices(volume.shape) - 50) ** 2 / 16**2).sum(axis=0) <= 5)).astype(np.uint16)
    options = {"contrast_limits": (0, 255)}
    in_volume = Segmenter(volume, model=make_predictor(), axes=axes, **options)
    (other,) = {0, 1, 2} - {axis % 3 for axis in axes}
    section = np.moveaxis(volume, [axis % 3 for axis in axes], [0, 1])[..., index]
    assert section.shape == in_volume.plane(index).shape_in(volume.shape)
    alone = Segmenter(section, model=make_predictor(), **options)
    assert volume.shape[other] > abs(index)
    for question in (
        {"points": [(50, 50)]},
        {"points": [(50, 50), (2, 3)], "labels": [1, 0]},
        {"box": (20, 20, 80, 80)},
    ):
        assert same(in_volume.segment(**question, plane=index), alone.segment(**question))


def test_colours_and_time_together(make_predictor, discs):
    movie = np.zeros((4, *discs.shape, 3), np.uint8)
    movie[2] = discs[..., None] // np.array([1, 2, 3], np.uint8)
    segmenter = Segmenter(movie, model=make_predictor())
    assert segmenter.shape == (4, *discs.shape)
    alone = Segmenter(movie[2], model=make_predictor())
    assert same(segmenter.segment(points=[SMALL], plane=2), alone.segment(points=[SMALL]))
    segmenter.accept(segmenter.segment(points=[SMALL], plane=2))
    assert np.asarray(segmenter.labels).shape == (4, *discs.shape)


def test_zarr_and_files_answer_like_numpy(discs, make_predictor, tmp_path):
    stored = zarr.create_array(tmp_path / "image.zarr", shape=discs.shape, dtype=discs.dtype, chunks=(37, 41))
    stored[:] = discs
    expected = [Segmenter(discs, model=make_predictor()).segment(**question) for question in QUESTIONS]
    for image in (stored, tmp_path / "image.zarr", str(tmp_path / "image.zarr")):
        segmenter = Segmenter(image, model=make_predictor())
        assert all(same(segmenter.segment(**q), e) for q, e in zip(QUESTIONS, expected, strict=True))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.float16, np.float64, np.int64])
def test_images_of_any_real_type_can_be_segmented(dtype, fake_predictor):
    truth = disc((120, 120), 60, 60, 13)
    found = Segmenter((truth * 100).astype(dtype), model=fake_predictor).segment(points=[(60, 60)]).best
    assert iou(found.to_array(truth.shape), truth) > 0.75


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_an_image_of_one_pixel_or_line_is_refused(shape, fake_predictor):
    with pytest.raises(PromptError, match=rf"{shape[0]} x {shape[1]} pixels.*choose other axes or another image"):
        Segmenter(np.zeros(shape), model=fake_predictor).segment(points=[(0, 0)])


@pytest.mark.parametrize("shape", [(2, 2), (2, 300), (7, 5), (65, 3)])
def test_tiny_images_have_an_answer_within_them(shape, fake_predictor):
    image = np.zeros(shape, np.uint8)
    image[: shape[0] // 2 + 1, : shape[1] // 2 + 1] = 200
    candidates = Segmenter(image, model=fake_predictor).segment(points=[(0, 0)])
    assert all(Box.of_shape(shape).contains(mask.box) for mask in candidates)
    assert candidates.best.area > 0


def test_errors_of_prompts_planes_and_pixels_come_through(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    with pytest.raises(PromptError, match="no prompt"):
        segmenter.segment()
    with pytest.raises(PromptError, match="outside the image"):
        segmenter.segment(points=[(300, 0)])
    with pytest.raises(ImageError, match="many planes"):
        Segmenter(np.stack([discs] * 2), model=fake_predictor).segment(points=[(5, 5)])
    with pytest.raises(ImageError, match="does not exist"):
        Segmenter(np.stack([discs] * 2), model=fake_predictor).segment(points=[(5, 5)], plane=2)
    with pytest.raises(ImageError, match="low < high"):
        Segmenter(discs, model=fake_predictor, contrast_limits=(9, 3)).segment(points=[(5, 5)])
    assert fake_predictor.decoded == []


def test_a_failed_question_does_not_disturb_the_next(discs, make_predictor):
    segmenter = Segmenter(discs, model=make_predictor())
    segmenter.segment(points=[SMALL])
    with pytest.raises(PromptError):
        segmenter.segment(points=[SMALL, (999, 999)])
    expected = Segmenter(discs, model=make_predictor()).segment(points=[SMALL, (84, 92)])
    assert same(segmenter.segment(points=[SMALL, (84, 92)]), expected)


def test_accept_writes_exactly_the_mask_and_undo_takes_it_back(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    small, large = segmenter.segment(points=[SMALL]), segmenter.segment(points=[LARGE])
    assert segmenter.accept(small) == 1
    assert segmenter.accept(large[0]) == 2
    labels = np.asarray(segmenter.labels)
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels == 1, small.best.to_array(discs.shape))
    np.testing.assert_array_equal(labels == 2, large[0].to_array(discs.shape))
    edit = segmenter.undo()
    assert edit is not None
    assert edit.label == 2
    assert set(np.unique(segmenter.labels)) == {0, 1}
    segmenter.undo()
    assert not np.asarray(segmenter.labels).any()
    assert segmenter.undo() is None


def test_accept_keeps_or_takes_what_others_have_and_takes_a_given_label(discs, fake_predictor):
    labels = np.zeros(discs.shape, np.int32)
    labels[:, :230] = 7
    before = labels.copy()
    segmenter = Segmenter(discs, model=fake_predictor, labels=labels)
    candidates = segmenter.segment(points=[LARGE])
    truth = candidates.best.to_array(discs.shape)
    assert segmenter.accept(candidates) == 8
    np.testing.assert_array_equal(labels == 8, truth & (before == 0))
    segmenter.undo()
    np.testing.assert_array_equal(labels, before)
    assert segmenter.accept(candidates, label=50, overlap="overwrite") == 50
    np.testing.assert_array_equal(labels == 50, truth)
    segmenter.undo()
    np.testing.assert_array_equal(labels, before)
    assert segmenter.labels is labels


def test_accepting_twice_finds_nothing_free(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    candidates = segmenter.segment(points=[SMALL])
    segmenter.accept(candidates)
    with pytest.raises(LabelsError, match="belongs to other objects"):
        segmenter.accept(candidates)


def test_labels_must_have_the_shape_of_the_image_without_its_colours(discs, fake_predictor):
    with pytest.raises(LabelsError, match=r"\(300, 339\).*\(300, 340\).*make them equal"):
        Segmenter(discs, model=fake_predictor, labels=np.zeros((300, 339), np.uint8))
    colour = np.stack([discs] * 3, axis=-1)
    with pytest.raises(LabelsError, match="make them equal"):
        Segmenter(colour, model=fake_predictor, labels=np.zeros(colour.shape, np.uint8))
    Segmenter(colour, model=fake_predictor, labels=np.zeros(discs.shape, np.uint8))
    with pytest.raises(LabelsError, match="whole numbers"):
        Segmenter(discs, model=fake_predictor, labels=np.zeros(discs.shape))


def test_candidates_are_written_into_their_own_plane_whatever_came_after(discs, fake_predictor):
    segmenter = Segmenter(np.stack([discs] * 5), model=fake_predictor)
    third = segmenter.segment(points=[SMALL], plane=3)
    segmenter.segment(points=[SMALL], plane=1)
    segmenter.accept(third)
    assert np.flatnonzero(np.asarray(segmenter.labels).any(axis=(1, 2))).tolist() == [3]


def test_a_single_mask_goes_where_one_says_and_else_into_the_last_plane(discs, fake_predictor):
    segmenter = Segmenter(np.stack([discs] * 5), model=fake_predictor)
    candidates = segmenter.segment(points=[SMALL], plane=3)
    segmenter.accept(candidates[0])
    segmenter.accept(candidates[0], plane=-1)
    labels = np.asarray(segmenter.labels)
    assert np.unique(labels[3]).tolist() == [0, 1]
    assert np.unique(labels[4]).tolist() == [0, 2]
    assert not labels[:3].any()


@pytest.mark.parametrize("kind", ["numpy", "zarr"])
def test_masks_of_transposed_planes_are_written_where_they_were_seen(kind, discs, fake_predictor):
    volume = np.stack([discs] * 3, axis=1)  # Rows are axis 0, columns axis 2.
    labels = np.zeros(volume.shape, np.uint8)
    target = labels if kind == "numpy" else zarr.array(labels, chunks=(50, 1, 60))
    segmenter = Segmenter(volume, model=fake_predictor, axes=(2, 0), labels=target)
    candidates = segmenter.segment(points=[LARGE[::-1]], plane=1)
    segmenter.accept(candidates)
    written = np.asarray(target[...])
    assert iou(written[:, 1] == 1, disc(discs.shape, *LARGE, 25)) > 0.8
    assert not written[:, [0, 2]].any()
    segmenter.undo()
    assert not np.asarray(target[...]).any()


def test_a_plane_object_may_name_other_axes_than_the_segmenters_own(discs, make_predictor):
    volume = np.stack([discs] * 3)
    segmenter = Segmenter(volume, model=make_predictor(), contrast_limits=(0, 255))
    turned = segmenter.segment(points=[SMALL[::-1]], plane=Plane.of(volume.shape, 1, axes=(2, 1)))
    straight = Segmenter(discs.T.copy(), model=make_predictor(), contrast_limits=(0, 255)).segment(points=[SMALL[::-1]])
    assert same(turned, straight)


def test_progress_is_told_when_something_is_encoded_only(discs, fake_predictor):
    segmenter = Segmenter(discs, model=fake_predictor)
    messages: list[str] = []
    segmenter.encoder.progress = messages.append
    segmenter.segment(points=[SMALL])
    assert len(messages) == len(fake_predictor.encoded) > 0
    messages.clear()
    segmenter.segment(points=[SMALL, (84, 92)])
    assert messages == []


@pytest.fixture(scope="module")
def coin_truth():
    """Each coin's pixels, by the watershed of scikit-image's own example; independent of any model."""
    image = coins()
    markers = np.zeros(image.shape, np.int32)
    markers[image < 30] = 1
    markers[image > 150] = 2
    filled = ndimage.binary_fill_holes(watershed(sobel(image), markers) == 2)
    return ndimage.label(filled)[0]


@pytest.fixture(scope="module")
def coin_segmenter(compact):
    return Segmenter(coins(), model=compact)


COINS = [(51, 155), (125, 102), (127, 153), (124, 44)]


@pytest.mark.parametrize("click", COINS)
def test_the_embedded_model_finds_a_coin_from_one_click(coin_segmenter, coin_truth, click):
    truth = coin_truth == coin_truth[click]
    assert 500 < truth.sum() < 5000
    best = coin_segmenter.segment(points=[click]).best
    assert iou(best.to_array(truth.shape), truth) >= 0.85


@pytest.mark.parametrize("click", COINS)
def test_the_embedded_model_finds_a_coin_from_a_box(coin_segmenter, coin_truth, click):
    truth = coin_truth == coin_truth[click]
    box = Mask(Box.of_shape(truth.shape), truth).tightened().box
    best = coin_segmenter.segment(box=box).best
    assert iou(best.to_array(truth.shape), truth) >= 0.9


def test_the_embedded_model_gives_nested_answers_with_sane_scores(coin_segmenter):
    candidates = coin_segmenter.segment(points=[COINS[1]])
    areas = [mask.area for mask in candidates]
    assert areas == sorted(areas)
    for mask in candidates:
        assert 0 <= mask.iou_prediction <= 1
        assert 0 <= mask.stability_score <= 1


def test_the_embedded_model_answers_the_same_each_time(compact, coin_segmenter):
    question = {"box": (100, 75, 150, 130), "points": [COINS[1], (118, 95)]}
    coin_segmenter.segment(points=[COINS[0]])
    assert same(Segmenter(coins(), model=compact).segment(**question), coin_segmenter.segment(**question))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"box": "abcd"}, "must be numbers"),
        ({"box": 5}, "needs four numbers"),
        ({"box": [[1, 2], [3, 4]]}, "needs four numbers"),
        ({"points": [(5, 5)], "plane": 1.5}, "whole numbers"),
        ({"points": [(5, 5)], "plane": (1.5,)}, "whole numbers"),
        ({"points": [(5, 5)], "plane": "a"}, "whole numbers"),
    ],
)
def test_arguments_of_the_wrong_kind_are_one_sentence(fake_predictor, arguments, words):
    segmenter = Segmenter(np.zeros((3, 40, 50), np.uint8), model=fake_predictor)
    with pytest.raises(NapariSamError, match=words):
        segmenter.segment(**{"plane": 0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"axes": (0,)}, "two different axes"),
        ({"contrast_limits": 5}, "two numbers"),
        ({"gamma": -1}, "above 0"),
        ({"labels": [[0, 0], [0, 0]]}, "numpy or zarr array"),
    ],
)
def test_a_segmenter_made_with_the_wrong_kind_says_so(fake_predictor, arguments, words):
    with pytest.raises(NapariSamError, match=words):
        Segmenter(np.zeros((40, 50), np.uint8), model=fake_predictor, **arguments).segment(points=[(5, 5)])


def test_accept_says_what_it_can_take(fake_predictor, discs):
    segmenter = Segmenter(discs, model=fake_predictor)
    found = segmenter.segment(points=[(200, 232)])
    for wrong, words in (
        ({"mask": np.ones((4, 4), bool)}, "pass candidates"),
        ({"mask": found, "label": 0}, "0 is background"),
        ({"mask": found, "label": 1.5}, "whole number"),
        ({"mask": found, "overlap": "x"}, "keep or overwrite"),
    ):
        with pytest.raises(NapariSamError, match=words):
            segmenter.accept(**wrong)
    with pytest.raises(NapariSamError, match="no candidate"):
        found.named("foo")
    assert not segmenter.labels.any()


def test_with_a_with_statement_the_journal_is_free_afterwards(discs, fake_predictor, tmp_path):
    pixels = tmp_path / "labels.ome.zarr"
    for count in (1, 2):
        with Segmenter(discs, model=fake_predictor, labels=pixels, journal=True) as segmenter:
            segmenter.accept(segmenter.segment(points=[SMALL if count == 1 else LARGE]))
            assert len(segmenter.objects) == count
    np.testing.assert_array_equal(np.unique(zarr.open_group(pixels, mode="r")["0"][:]), [0, 1, 2])


# Many points and large answers


def test_many_points_cost_a_bounded_number_of_decodings(discs, make_predictor):
    counts = {}
    for count in (32, 33, 1000, 5000):
        predictor = make_predictor()
        points = [(195 + index % 11, 225 + index // 11 % 11) for index in range(count)]
        Segmenter(discs, model=predictor).segment(points=points)
        counts[count] = len(predictor.decoded)
        assert max(len(prompts.points) for prompts in predictor.decoded) <= MAX_DECODED_POINTS
    assert counts[33] == counts[32] + 1
    assert counts[5000] < counts[32] + 10


@pytest.mark.parametrize("count", [31, 32, 33, 64, 65, 100])
def test_one_more_click_is_one_more_decoding_and_a_script_gets_what_clicks_get(discs, make_predictor, count):
    points = [(195 + index % 11, 225 + index // 11) for index in range(count)]
    clicking, script = make_predictor(), make_predictor()
    by_clicks, at_once = Segmenter(discs, model=clicking), Segmenter(discs, model=script)
    for clicks in range(1, count):
        by_clicks.segment(points=points[:clicks])
    before = len(clicking.decoded)
    last = by_clicks.segment(points=points)
    assert len(clicking.decoded) == before + 1
    found = at_once.segment(points=points)
    np.testing.assert_array_equal(last.best.low_res_logits, found.best.low_res_logits)
    assert [mask.box for mask in last] == [mask.box for mask in found]


def test_the_answers_that_are_kept_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(candidates, "MAX_ANSWER_BYTES", 1000)

    def answer(side):
        mask = Mask(Box(0, 0, side, side), np.ones((side, side), bool))
        return Candidates((mask,), 0, Plane((0, 1), (0, 0)))

    cache = candidates.AnswerCache()
    for index in range(20):
        cache.put(index, answer(10))
    assert [index for index in range(20) if cache.get(index)] == list(range(10, 20))
    cache.put("huge", answer(100))
    assert cache.get("huge")
    assert not any(cache.get(index) for index in range(20))
    cache.put("huge", answer(1))
    cache.put("other", answer(1))
    assert cache.get("huge")
    assert len(list(reversed(cache))) == 2
