"""Images of any size, form and position: what a click reads, and that the answer does not depend on them."""

from __future__ import annotations

import itertools
import os
import sys

import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.data import coins
from skimage.filters import sobel
from skimage.segmentation import watershed
from skimage.transform import resize
from zarr.storage import MemoryStore, WrapperStore

from napari_sam import Segmenter
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import iou
from napari_sam.errors import ImageError
from napari_sam.images.volume import Volume

pytestmark = pytest.mark.usefixtures("one_thread")

COIN = (51, 155)
LIMITS = (0, 255)
# For a thorough look, with more positions: NAPARI_SAM_POSITIONS=50 pytest -s tests/test_scale.py -k wherever
POSITIONS = int(os.environ.get("NAPARI_SAM_POSITIONS", "6"))


class CountingStore(WrapperStore):
    """A zarr store that remembers which chunks were asked for."""

    def __init__(self, store):
        super().__init__(store)
        self.chunks = []

    async def get(self, key, prototype, byte_range=None):
        if "zarr.json" not in key:
            self.chunks.append(tuple(int(part) for part in key.split("c/")[-1].split("/")))
        return await self._store.get(key, prototype, byte_range)


def counted(pixels, chunks):
    store = CountingStore(MemoryStore())
    array = zarr.create_array(store, shape=pixels.shape, chunks=chunks, dtype=pixels.dtype)
    array[...] = pixels
    store.chunks.clear()
    return store, array


def under(box, sides):
    rows, cols = sides
    return {
        (row, col)
        for row in range(int(box.top) // rows, -(-int(box.bottom) // rows))
        for col in range(int(box.left) // cols, -(-int(box.right) // cols))
    }


@pytest.fixture
def one_level(fake_predictor):
    """A predictor that takes the level of the zoom as it is."""
    fake_predictor.probe_levels = 0
    fake_predictor.object_range = (0.0, 10.0)
    return fake_predictor


@pytest.mark.parametrize(("at", "zoom"), [((700, 900), 1), ((5, 5), 1), ((1990, 1500), 4), ((1000, 1023), 8)])
@pytest.mark.parametrize("sides", [(64, 64), (100, 256)])
def test_a_click_reads_exactly_the_chunks_under_its_tile_and_the_next_one_none(one_level, at, zoom, sides):
    pixels = np.full((2000, 2048), 20, np.uint8)
    near = 9 * zoom
    pixels[max(at[0] - near, 0) : at[0] + near, max(at[1] - near, 0) : at[1] + near] = 200
    store, array = counted(pixels, sides)
    segmenter = Segmenter(array, model=one_level, contrast_limits=LIMITS)
    answer = segmenter.segment(points=[at], downsample=zoom)
    tiles = {tile for _, tile in segmenter.encoder._digests}
    assert len(tiles) == 1
    assert answer.best.area > 0
    assert set(store.chunks) == under(tiles.pop().read, sides)
    assert len(store.chunks) == len(set(store.chunks))
    asked = len(store.chunks)
    segmenter.segment(points=[at, (min(at[0] + 2, 1999), at[1] + 3)], downsample=zoom)
    assert len(store.chunks) == asked
    assert len(one_level.encoded) == 1


def test_a_click_that_tries_all_levels_reads_no_chunk_twice(fake_predictor):
    pixels = np.full((3000, 3000), 20, np.uint8)
    pixels[1500:1522, 1480:1502] = 200
    store, array = counted(pixels, (128, 128))
    segmenter = Segmenter(array, model=fake_predictor, contrast_limits=LIMITS)
    segmenter.segment(points=[(1510, 1490)])
    tiles = [tile for _, tile in segmenter.encoder._digests]
    assert len({tile.level for tile in tiles}) == 7
    assert len(store.chunks) == len(set(store.chunks))
    needed = set.union(*(under(tile.read, (128, 128)) for tile in tiles))
    union = tiles[0].read
    for tile in tiles[1:]:
        union = union.union(tile.read)
    assert needed <= set(store.chunks) <= under(union, (128, 128))


def test_a_pyramid_is_read_at_the_level_that_the_tile_asks_for(one_level):
    for zoom, level in [(1, 0), (2, 1), (4, 2), (16, 3)]:
        pixels = np.full((2048, 2048), 20, np.float32)
        pixels[800 : 800 + 20 * zoom, 800 : 800 + 20 * zoom] = 200
        levels = [pixels[:: 2**k, :: 2**k].copy() for k in range(4)]
        stores, arrays = zip(*(counted(level, (64, 64)) for level in levels), strict=True)
        segmenter = Segmenter(list(arrays), model=one_level, contrast_limits=LIMITS)
        segmenter.segment(points=[(800 + 10 * zoom, 800 + 10 * zoom)], downsample=zoom)
        assert [bool(store.chunks) for store in stores] == [k == level for k in range(4)]


def test_planes_that_are_hidden_are_not_read(one_level):
    pixels = np.full((9, 256, 256), 20, np.uint8)
    pixels[4, 100:120, 90:110] = 200
    store, array = counted(pixels, (1, 64, 64))
    Segmenter(array, model=one_level, contrast_limits=LIMITS).segment(points=[(110, 100)], plane=4, downsample=1)
    assert {chunk[0] for chunk in store.chunks} == {4}


# -- one image in many forms -------------------------------------------------------------------------------------------


def dask_of(pixels):
    return pytest.importorskip("dask.array").from_array(pixels, chunks=(100,) * pixels.ndim)


def zarr_of(pixels):
    return counted(pixels, (96,) * pixels.ndim)[1]


def tensorstore_of(pixels):
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed: pip install '.[test]'")
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory"}}
    array = tensorstore.open(spec, create=True, dtype=tensorstore.uint8, shape=pixels.shape).result()
    array.write(pixels).result()
    return array


def pyramid_of(pixels):
    # Means of 2 x 2 as they are: no level rounds, so every one says what the finest says.
    levels = [pixels.astype(np.float64)]
    while min(levels[-1].shape) > 64:
        rows, cols = (n // 2 * 2 for n in levels[-1].shape)
        half = levels[-1][:rows, :cols].reshape(rows // 2, 2, cols // 2, 2).mean((1, 3))
        levels.append(half)
    return [zarr_of(level) for level in levels]


@pytest.fixture(scope="module")
def photograph():
    """Coins, cut so that every level of a pyramid divides evenly."""
    return np.ascontiguousarray(coins()[:288, :384])


@pytest.fixture(scope="module")
def plain_answer(photograph, compact):
    return Segmenter(photograph, model=compact, contrast_limits=LIMITS).segment(points=[COIN])


def is_same(answer, plain):
    return all(
        one.box == two.box and np.array_equal(one.pixels, two.pixels) for one, two in zip(answer, plain, strict=True)
    )


@pytest.mark.parametrize("form", [dask_of, zarr_of, tensorstore_of, pyramid_of], ids=lambda form: form.__name__)
def test_one_image_has_one_answer_in_every_form(form, photograph, plain_answer, compact):
    segmenter = Segmenter(form(photograph), model=compact, contrast_limits=LIMITS)
    assert is_same(segmenter.segment(points=[COIN]), plain_answer)


def test_one_image_has_one_answer_in_colours_and_channels(photograph, plain_answer, compact):
    grey = np.repeat(photograph[..., None], 3, axis=-1)
    assert is_same(Segmenter(grey, model=compact).segment(points=[COIN]), plain_answer)
    channels = np.stack([photograph * 0, photograph])
    one = Segmenter(channels, model=compact, channel_axis=0, channels=[1], contrast_limits=LIMITS)
    assert is_same(one.segment(points=[COIN]), plain_answer)
    three = Segmenter(grey.transpose(2, 0, 1), model=compact, channel_axis=0, contrast_limits=LIMITS)
    assert is_same(three.segment(points=[COIN]), plain_answer)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("form", [lambda pixels: pixels, zarr_of, dask_of], ids=["numpy", "zarr", "dask"])
def test_one_image_has_one_answer_as_any_plane_of_a_volume(form, order, photograph, plain_answer, compact):
    volume = np.stack([photograph * 0, photograph, photograph * 0]).transpose(order)
    axes = order.index(1), order.index(2)
    segmenter = Segmenter(form(volume), model=compact, contrast_limits=LIMITS, axes=axes, rgb=False)
    assert is_same(segmenter.segment(points=[COIN], plane=1), plain_answer)


def test_slices_that_stand_apart_are_seen_as_the_world_they_lie_in(photograph, plain_answer, compact):
    thick = photograph.reshape(72, 4, 384).mean(1)
    segmenter = Segmenter(thick, model=compact, contrast_limits=LIMITS, spacing=(4, 1))
    best = segmenter.segment(points=[((COIN[0] + 0.5) / 4 - 0.5, COIN[1])]).best
    found = np.repeat(best.to_array((72, 384)), 4, axis=0)
    assert iou(found, plain_answer.best.to_array(photograph.shape)) > 0.85
    squeezed = Segmenter(thick, model=compact, contrast_limits=LIMITS).segment(points=[(13, COIN[1])]).best
    assert squeezed.tile.step[0] == squeezed.tile.step[1]
    assert best.tile.step[1] / best.tile.step[0] == pytest.approx(4)


# -- one object at any place and of any size ---------------------------------------------------------------------------


class Scene:
    """A huge plane with one real object on it, which exists only where it is looked at."""

    def __init__(self, patch, at, side=200_000):
        self.shape, self.dtype = (side, side), np.dtype(np.uint8)
        self._patch, self._at = patch, at
        self._ground = int(np.median(np.concatenate([patch[0], patch[-1], patch[:, 0], patch[:, -1]])))

    def __getitem__(self, key):
        rows, cols = (np.arange(*part.indices(n)) for part, n in zip(key, self.shape, strict=True))
        out = np.full((len(rows), len(cols)), self._ground, np.uint8)
        sizes = zip((rows, cols), self._at, self._patch.shape, strict=True)
        inside = [(axis >= at) & (axis < at + n) for axis, at, n in sizes]
        seen = self._patch[np.ix_(rows[inside[0]] - self._at[0], cols[inside[1]] - self._at[1])]
        out[np.ix_(*inside)] = seen
        return out


@pytest.fixture(scope="module")
def coin_and_mask():
    """A coin with what lies around it, fading into an even ground, and which pixels are coin."""
    image = coins()
    markers = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    parts, _ = ndimage.label(ndimage.binary_fill_holes(watershed(sobel(image), markers) == 2))
    mask = parts == parts[COIN]
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    frame = slice(rows[0] - 6, rows[-1] + 7), slice(cols[0] - 6, cols[-1] + 7)
    return image[frame], mask[frame]


def pasted(coin_and_mask, size, at):
    """Return the scene with the coin scaled to `size` pixels at a place, and the coin's own box and mask."""
    patch, mask = coin_and_mask
    scale = size / max(np.ptp(np.argwhere(mask), axis=0) + 1)
    shape = tuple(max(round(n * scale), 4) for n in patch.shape)
    image = resize(patch, shape, preserve_range=True, anti_aliasing=scale < 1).astype(np.uint8)
    truth = resize(mask.astype(float), shape, anti_aliasing=scale < 1) > 0.5
    return Scene(image, at), truth


def found_iou(mask, truth, at):
    box = Box(at[0], at[1], at[0] + truth.shape[0], at[1] + truth.shape[1])
    union = mask.box.union(box)
    both = np.zeros((2, *union.pixel_shape), bool)
    for layer, (pixels, place) in zip(both, ((mask.pixels, mask.box), (truth, box)), strict=True):
        layer[place.moved(-union.top, -union.left).slices] = pixels
    return iou(*both)


@pytest.mark.parametrize("kind", ["box", "click"])
@pytest.mark.parametrize("size", [12, 60, 400, 3000])
def test_an_object_is_found_whole_wherever_it_lies(size, kind, coin_and_mask, compact):
    """On borders and corners of tiles, at the image's edge, at any size: the answer hardly changes, nothing is cut."""
    rng = np.random.default_rng(size)
    reached = []
    span = int(256 * 2.0 ** round(np.log2(max(size / 85, 1 / 8))))
    for number in range(POSITIONS):
        corner = [int(rng.integers(2, 20)) * span // 2 for _ in range(2)]
        at = tuple(c - size // 2 + int(rng.integers(-size, size)) // 4 for c in corner)
        if number == 0:
            at = 0, 0
        scene, truth = pasted(coin_and_mask, size, at)
        tight = np.argwhere(truth)
        (top, left), (bottom, right) = tight.min(0) + at, tight.max(0) + 1 + at
        segmenter = Segmenter(scene, model=compact, contrast_limits=LIMITS)
        middle = (int(top + bottom) // 2, int(left + right) // 2)
        around = Box(int(top), int(left), int(bottom), int(right))
        # A user who clicks sees the object: it is a hundred pixels of the screen or so.
        zoom = 2.0 ** round(np.log2(size / 100))
        mask = segmenter.segment(
            **({"box": around} if kind == "box" else {"points": [middle], "downsample": zoom})
        ).best
        assert mask.tile.read.contains(around)
        reached.append(found_iou(mask, truth, at))
    figures = f"IoU least {min(reached):.3f}, median {np.median(reached):.3f}, most {max(reached):.3f}"
    sys.stdout.write(f"{size} px, {kind}: {figures}\n")
    assert min(reached) >= np.median(reached) - 0.05


# -- what cannot be read -----------------------------------------------------------------------------------------------


def test_a_damaged_chunk_is_one_sentence_and_the_rest_of_the_image_goes_on(tmp_path, one_level):
    pixels = np.full((512, 512), 20, np.uint8)
    pixels[100:120, 100:120] = pixels[400:420, 400:420] = 200
    array = zarr.create_array(tmp_path / "a.zarr", shape=pixels.shape, chunks=(128, 128), dtype=pixels.dtype)
    array[...] = pixels
    (tmp_path / "a.zarr" / "c" / "0" / "0").write_bytes(b"not what it was")
    segmenter = Segmenter(tmp_path / "a.zarr", model=one_level, contrast_limits=LIMITS)
    assert segmenter.accept(segmenter.segment(points=[(410, 410)], downsample=1)) == 1
    with pytest.raises(ImageError, match=r"cannot be read.*damaged, incomplete or out of reach"):
        segmenter.segment(points=[(110, 110)], downsample=1)
    assert np.count_nonzero(segmenter.labels) > 100
    assert segmenter.segment(points=[(410, 410)], downsample=1).best.area > 100


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        ([np.zeros((64, 64)), np.zeros((32, 32, 1))], "Level 1 of the pyramid has shape"),
        ([np.zeros((64, 64)), np.zeros((32, 32), np.uint8)], "type uint8"),
        ([np.zeros((64, 64)), np.zeros((128, 128))], "larger than the one before it"),
        ([np.zeros((64, 64)), np.zeros((16, 16)), np.zeros((32, 32))], "Level 2.*larger"),
    ],
)
def test_levels_that_do_not_match_are_refused(levels, words):
    with pytest.raises(ImageError, match=words):
        Volume.of(levels)


def test_a_level_of_odd_length_keeps_its_place():
    pixels = np.random.default_rng(0).integers(0, 255, (101, 67)).astype(np.float32)
    volume = Volume.of([pixels, pixels[:100:2, :66:2], pixels[::4, ::4]])
    assert volume.factors == ((1.0, 1.0), (2.0, 2.0), (4.0, 4.0))
    assert volume.read(Plane.of(volume.shape), Box(0, 0, 26, 17), 2).shape == (26, 17)
