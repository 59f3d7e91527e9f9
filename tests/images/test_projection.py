"""Projections of thick slices against numpy's own reductions of the whole slab."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError
from napari_sam.images import projection
from napari_sam.images.projection import Projection
from napari_sam.images.volume import Volume

SHAPE = (3, 7, 8, 9)
WHOLE = Box(0, 0, 8, 9)
plain = st.sampled_from(["sum", "mean", "max", "min"])


def pixels(dtype, shape=SHAPE):
    rng = np.random.default_rng(0)
    return (rng.normal(0, 50, shape) if dtype == "float32" else rng.integers(0, 250, shape)).astype(dtype)


def seen(array, mode, reach, index, axes=(2, 3), **options):
    before, after = zip(*reach, strict=True)
    plane = Plane.of(SHAPE, index, axes)
    volume = Volume.of(array, **options).projected(Projection((mode,), before, after))
    return volume.read(plane, Box.of_shape(plane.shape_in(SHAPE)))


@given(
    mode=plain,
    dtype=st.sampled_from(["uint8", "int16", "float32"]),
    reach=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2),
    index=st.tuples(st.integers(0, 2), st.integers(0, 6)),
    part=st.sampled_from([1, 200, 10**6]),
)
def test_several_planes_become_what_numpy_makes_of_them(mode, dtype, reach, index, part):
    array = pixels(dtype)
    slabs = [
        slice(max(at - before, 0), min(at + after + 1, length))
        for at, (before, after), length in zip(index, reach, SHAPE, strict=False)
    ]
    expected = getattr(np, mode)(array[tuple(slabs)], axis=(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projection, "PART_BYTES", part)
        found = seen(array, mode, (*reach, (0, 0), (0, 0)), index, rgb=False)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


def test_rows_and_columns_may_be_any_axes():
    array = pixels("uint8")
    found = seen(array, "max", ((0, 0), (0, 0), (0, 0), (1, 1)), (1, 4), axes=(2, 1), rgb=False)
    np.testing.assert_array_equal(found, array[1, :, :, 3:6].max(axis=-1).T)


def test_each_channel_is_projected_by_its_own_mode():
    array = pixels("uint8", (3, 7, 8, 9))
    volume = Volume.of(array, rgb=False, channel_axis=0).projected(
        Projection(("max", "none", "mean"), (1, 0, 0), (2, 0, 0))
    )
    found = volume.read(Plane((1, 2), (3, 0, 0)), WHOLE)
    np.testing.assert_allclose(found[..., 0], array[0, 2:6].max(axis=0))
    np.testing.assert_allclose(found[..., 1], array[1, 3])
    np.testing.assert_allclose(found[..., 2], array[2, 2:6].mean(axis=0))


def test_colors_are_projected_one_by_one():
    array = pixels("uint8", (5, 40, 50, 3))
    volume = Volume.of(array, rgb=True).projected(Projection(("min",), (1, 0, 0), (1, 0, 0)))
    found = volume.read(Plane((1, 2), (2, 0, 0)), Box(0, 0, 40, 50))
    np.testing.assert_array_equal(found, array[1:4].min(axis=0))


def test_a_coarser_level_is_projected_over_the_same_depth():
    fine = np.repeat(pixels("uint8", (4, 16, 18)), 2, axis=0)
    volume = Volume.of([fine, fine[::2, ::2, ::2]], rgb=False).projected(Projection(("max",), (2, 0, 0), (3, 0, 0)))
    found = volume.read(Plane((1, 2), (4, 0, 0)), Box(0, 0, 8, 9), level=1)
    np.testing.assert_array_equal(found, fine[2:8, ::2, ::2].max(axis=0))


def test_a_thick_slice_is_read_in_parts_and_only_where_it_is_seen(counting_array, monkeypatch):
    array = counting_array(np.zeros((300, 64, 64), np.uint8))
    monkeypatch.setattr(projection, "PART_BYTES", 16 * 16 * 10)
    volume = Volume.of(array, rgb=False).projected(Projection(("max",), (100, 0, 0), (100, 0, 0)))
    volume.read(Plane((1, 2), (150, 0, 0)), Box(0, 0, 16, 16))
    assert array.pixels_read == 201 * 16 * 16
    assert max(lengths[0] for lengths in array.reads) == 10


def test_one_volume_with_and_without_a_projection_shares_no_pixels(counting_array):
    array = counting_array(pixels("uint8", (5, 16, 16)))
    volume, plane, box = Volume.of(array, rgb=False), Plane((1, 2), (2, 0, 0)), Box(0, 0, 16, 16)
    one = volume.read(plane, box)
    thick = volume.projected(Projection(("max",), (2, 0, 0), (2, 0, 0))).read(plane, box)
    assert (thick > one).any()
    np.testing.assert_array_equal(volume.read(plane, box), one)


def test_an_unknown_projection_is_refused_by_its_name():
    with pytest.raises(ImageError, match="median"):
        Projection(("median",), (1,), (1,))
