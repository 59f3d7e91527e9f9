"""Pyramids of any size and factor: what a tile shows does not depend on the levels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from napari_sam import Segmenter
from napari_sam.core.geometry import Box, Plane, overlap_matrix
from napari_sam.core.masks import iou
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import TileGrid
from napari_sam.images.levels import inferred_factors
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

AS_IT_IS = Rendering(((0.0, 255.0),))
SIDE = 64
LENGTHS = {"floor": math.floor, "ceil": math.ceil, "round": round}


def smooth(shape, seed=0, sigma=16.0):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (*(0,) * (len(shape) - 2), sigma, sigma))
    return (noise - noise.min()) / np.ptp(noise) * 255


def reduced(pixels, factors, lengths):
    """Average by area; a last pixel that covers less than the others averages what it has."""
    for axis, (factor, length) in enumerate(zip(factors, lengths, strict=True)):
        if length != pixels.shape[axis]:
            weights = overlap_matrix((np.arange(length) + 0.5) * factor, factor, 0, pixels.shape[axis])
            weights = weights / weights.sum(1, keepdims=True)
            pixels = np.moveaxis(np.tensordot(weights, pixels, (1, axis)), 0, axis)
    return pixels


def pyramid_of(image, factor, rounding, by_cascade, depth=3):
    """Return levels, each shorter by `factor` along the last two axes, and the factors of each."""
    shapes, factors = [image.shape[-2:]], [1.0]
    for number in range(1, depth):
        fine, by = (shapes[-1], factor) if by_cascade else (shapes[0], factor**number)
        shapes.append(tuple(max(LENGTHS[rounding](n / by - 1e-9 if rounding == "ceil" else n / by), 1) for n in fine))
        factors.append(factor**number)
    leading = (1,) * (image.ndim - 2)
    levels = [
        reduced(image, (*leading, f, f), (*image.shape[:-2], *shape)) for f, shape in zip(factors, shapes, strict=True)
    ]
    return [np.round(level).astype(np.float32) for level in levels], factors


def save_zarr(path, levels, factors):
    group = zarr.open_group(path, mode="w")
    leading = (1,) * (levels[0].ndim - 2)
    datasets = []
    for number, (level, factor) in enumerate(zip(levels, factors, strict=True)):
        group.create_array(str(number), data=level, chunks=(*leading, 50, 60))
        scale = [*leading, factor, factor]
        datasets.append({"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    axes = [{"name": letter, "type": "space"} for letter in "zyx"[-levels[0].ndim :]]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}


def save_tiff(path, levels):
    with tifffile.TiffWriter(path, ome=True) as writer:
        options = {"photometric": "minisblack", "tile": (64, 64)}
        writer.write(levels[0], subifds=len(levels) - 1, metadata={"axes": "ZYX"[-levels[0].ndim :]}, **options)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **options)


def difference(one, other, plane, tile):
    shown, wanted = (volume.render(plane, tile, AS_IT_IS).astype(int) for volume in (one, other))
    return np.abs(shown - wanted)


@st.composite
def pyramids(draw):
    height, width = draw(st.integers(70, 420)), draw(st.integers(70, 420))
    return (
        (height, width),
        (factor := draw(st.sampled_from([2.0, 3.0, 4.0, 1.5, 2.5]))),
        draw(st.sampled_from(list(LENGTHS))),
        factor.is_integer() and draw(st.booleans()),
        draw(st.integers(0, 5)),
    )


@settings(max_examples=60, deadline=None)
@given(pyramids(), st.integers(0, 4), st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_tile_of_an_image_with_levels_shows_what_one_of_the_finest_level_shows(chosen, level, down, along):
    shape, factor, rounding, by_cascade, seed = chosen
    levels, _ = pyramid_of(smooth(shape, seed), factor, rounding, by_cascade)
    with_levels, without = Volume.of(levels), Volume.of(levels[0])
    grid = TileGrid(shape, SIDE)
    tile = grid.tile_at(grid.clamp(level), down * shape[0], along * shape[1])
    wrong = difference(with_levels, without, Plane.of(shape), tile)
    # A cut or fractional level may lie up to a pixel of its own beside the finest one, at the far end.
    rows, cols = (int(n / tile.downsample) - 2 for n in (tile.read.height, tile.read.width))
    assert wrong[:rows, :cols].max(initial=0) <= (12 if factor.is_integer() else 24)
    assert wrong.max() <= 40


@pytest.mark.parametrize("kind", ["zarr", "tiff"])
@pytest.mark.parametrize("size", [(1388, 1040), (347, 521), (129, 1001)])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_a_file_of_halved_levels_of_odd_lengths_is_read_to_its_last_row(tmp_path, kind, size, rounding):
    image = smooth(size)
    levels, factors = pyramid_of(image, 2.0, rounding, by_cascade=True, depth=4)
    path = tmp_path / ("image.zarr" if kind == "zarr" else "image.ome.tif")
    save_zarr(path, levels, factors) if kind == "zarr" else save_tiff(path, levels)
    volume, plain = Volume.of(path), Volume.of(levels[0])
    assert volume.factors == tuple((factor, factor) for factor in factors)
    grid = TileGrid(size, SIDE)
    for level in range(grid.min_level, grid.max_level + 1):
        for at in [(0, 0), (size[0] - 1, size[1] - 1), (size[0] - 1, 0), (size[0] // 2, size[1] // 3)]:
            tile = grid.tile_at(level, *at)
            assert difference(volume, plain, Plane.of(size), tile).max() <= 12


def test_depth_that_shrinks_with_the_levels_is_read_at_its_place():
    shape = (21, 301, 203)
    image = np.broadcast_to(10.0 * np.arange(21)[:, None, None], shape)
    coarse = [reduced(image, (f, f, f), [n // f for n in shape]).astype(np.float32) for f in (2, 4)]
    volume = Volume.of([image.astype(np.float32), *coarse])
    assert volume.factors == ((1, 1, 1), (2, 2, 2), (4, 4, 4))
    grid = TileGrid(shape[1:], SIDE)
    for z in (0, 7, 20):
        tile = grid.tile_at(2, 300, 200)
        shown = volume.render(Plane.of(shape, z), tile, AS_IT_IS)[: 301 // 4, : 203 // 4]
        assert np.abs(shown.astype(int) - 10 * z).max() <= 25  # Four slices are averaged.


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_the_last_rows_that_no_coarse_pixel_covers_repeat_the_last_one(factor, rounding):
    size = (4 * 50 + factor - 1, 200)
    image = np.broadcast_to(np.linspace(0, 200, size[0])[:, None], size)
    levels, _ = pyramid_of(image, float(factor), rounding, by_cascade=False, depth=2)
    grid = TileGrid(size, SIDE)
    tile = grid.tile_at(3, size[0] - 1, 0)
    shown = Volume.of(levels).render(Plane.of(size), tile, AS_IT_IS)[: math.ceil(size[0] / 8), 0, 0].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert shown[-1] >= 190


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(st.integers(200, 10**6), st.integers(200, 10**6)),
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from(list(LENGTHS)),
    st.integers(2, 5),
)
def test_a_whole_factor_is_found_however_lengths_are_rounded(size, factor, rounding, depth):
    shapes = [size]
    while len(shapes) < depth and min(shapes[-1]) >= 4 * factor:
        shapes.append(tuple(int(LENGTHS[rounding](length / factor)) for length in shapes[-1]))
    assert inferred_factors(shapes) == tuple((float(factor**level),) * 2 for level in range(len(shapes)))


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
def test_a_mask_of_a_cut_pyramid_lies_where_the_object_is(tmp_path, fake_predictor, rounding):
    image = np.full((1388, 1040), 20.0)
    image[1330:1380, 980:1030] = 220
    levels, factors = pyramid_of(image, 2.0, rounding, by_cascade=True, depth=4)
    save_zarr(tmp_path / "image.zarr", [level.astype(np.uint8) for level in levels], factors)
    segmenter = Segmenter(tmp_path / "image.zarr", model=fake_predictor, contrast_limits=(0, 255))
    plain = Segmenter(image.astype(np.uint8), model=fake_predictor, contrast_limits=(0, 255))
    for downsample in (1, 4, 16):
        mask, wanted = (one.segment(points=[(1355, 1005)], downsample=downsample).best for one in (segmenter, plain))
        assert Box(1330, 980, 1380, 1030).contains_point(*mask.box.center)
        assert iou(mask.to_array((1388, 1040)), wanted.to_array((1388, 1040))) > 0.9


def test_levels_that_grow_are_refused():
    levels = [np.zeros((50, 50)), np.zeros((25, 25)), np.zeros((30, 25))]
    with pytest.raises(Exception, match="larger than the one before"):
        Volume.of(levels)


def test_a_pyramid_that_open_image_reads_names_each_level_once(tmp_path):
    levels, factors = pyramid_of(smooth((173, 130)), 2.0, "floor", by_cascade=True)
    save_zarr(tmp_path / "image.zarr", levels, factors)
    assert [level.shape for level in open_image(tmp_path / "image.zarr").levels] == [(173, 130), (86, 65), (43, 32)]
