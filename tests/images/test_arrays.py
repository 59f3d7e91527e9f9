"""Arrays of other libraries are images, and what is said of them is checked."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import torch
import zarr

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError
from napari_sam.images.arguments import check_plane_axes
from napari_sam.images.volume import Volume
from napari_sam.segmenter import Segmenter

PIXELS = np.random.default_rng(1).integers(0, 200, (40, 50), np.uint8)


def read(volume, index=None):
    plane = Plane.of(volume.shape, index)
    return volume.read(plane, Box.of_shape(plane.shape_in(volume.shape)))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.bfloat16, torch.float16, torch.bool])
def test_tensors_of_every_type_are_read_like_arrays(dtype):
    tensor = torch.from_numpy(PIXELS).to(dtype)
    found = read(Volume.of(tensor))
    np.testing.assert_array_equal(found, tensor.float().numpy().astype(found.dtype))


def test_a_tensor_with_a_gradient_or_without_memory_of_its_own_is_read():
    tensor = torch.from_numpy(PIXELS).float().requires_grad_()
    np.testing.assert_array_equal(read(Volume.of(tensor)), PIXELS)
    np.testing.assert_array_equal(read(Volume.of(tensor.T)), PIXELS.T)
    np.testing.assert_array_equal(read(Volume.of(torch.from_numpy(PIXELS).to_sparse())), PIXELS)


def test_levels_may_be_tensors():
    levels = [torch.from_numpy(PIXELS), torch.from_numpy(PIXELS[::2, ::2].copy())]
    assert Volume.of(levels).factors == ((1, 1), (2, 2))


@pytest.mark.parametrize("tensor", [torch.zeros(4, 4, dtype=torch.complex64), torch.zeros(4, 4, device="meta")])
def test_tensors_that_are_no_image_are_one_sentence(tensor):
    with pytest.raises(ImageError):
        Volume.of(tensor)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("is_dask", [False, True])
def test_masked_pixels_hold_nothing(dtype, is_dask):
    masked = np.ma.masked_where(PIXELS < 30, PIXELS.astype(dtype))
    volume = Volume.of(da.from_array(masked, chunks=(20, 20)) if is_dask else masked)
    found = read(volume)
    assert volume.may_hold_nothing
    np.testing.assert_array_equal(np.isnan(found), PIXELS < 30)
    np.testing.assert_array_equal(found[PIXELS >= 30], PIXELS[PIXELS >= 30])
    low, high = volume.rendering().limits[0]
    assert low >= 30
    assert high <= 200


def test_a_mask_of_one_channel_leaves_the_others_alone():
    colors = np.dstack([PIXELS] * 3)
    mask = np.zeros(colors.shape, bool)
    mask[5:9, :, 1] = True
    found = read(Volume.of(np.ma.array(colors, mask=mask)))
    np.testing.assert_array_equal(np.isnan(found), mask)


def test_an_array_without_masked_pixels_keeps_its_type():
    assert read(Volume.of(np.ma.array(PIXELS))).dtype == np.uint8


def test_an_array_with_an_opacity_is_seen_over_black():
    opacity = np.where(PIXELS < 30, 0, 128).astype(np.uint8)
    volume = Volume.of(np.dstack([PIXELS] * 3 + [opacity]))
    found = read(volume)
    assert found.shape == (40, 50, 3)
    np.testing.assert_array_equal(np.isnan(found).all(-1), PIXELS < 30)
    np.testing.assert_allclose(found[PIXELS >= 30][:, 0], PIXELS[PIXELS >= 30] * (128 / 255), rtol=1e-5)
    black = volume.rendering()(found)[PIXELS < 30]
    np.testing.assert_array_equal(black, np.zeros_like(black))


@pytest.mark.parametrize("opaque", [np.uint8(255), np.uint16(65535), np.float32(1)])
def test_full_opacity_changes_nothing(opaque):
    colors = np.full((40, 50, 4), opaque)
    colors[..., :3] = colors[..., :3] / 2
    found = read(Volume.of(colors, rgb=True))
    assert found.dtype == colors.dtype
    np.testing.assert_array_equal(found, colors[..., :3])


@pytest.mark.parametrize(
    ("image", "options"),
    [
        ([[1], [1, 2]], {}),
        (None, {}),
        (5, {}),
        ({}, {}),
        (b"a.tif", {}),
        (object(), {}),
        (np.zeros((3, 4), object), {}),
        (PIXELS[None], {"channel_axis": "c"}),
        (PIXELS[None], {"channel_axis": 1.5}),
        (np.stack([PIXELS] * 3), {"channel_axis": 0, "channels": ["a"]}),
        (np.stack([PIXELS] * 3), {"channel_axis": 0, "channels": 5}),
        (np.stack([PIXELS] * 3), {"channel_axis": 0, "channels": [0.5]}),
        (PIXELS, {"spacing": "ab"}),
        (PIXELS, {"spacing": 2}),
        (PIXELS, {"spacing": (1e300, 1e-300)}),
        (PIXELS, {"spacing": (10**400, 1)}),
        (PIXELS, {"spacing": (float("nan"), 1)}),
        (PIXELS, {"nodata": 10**400}),
        (PIXELS, {"nodata": "none"}),
    ],
)
def test_what_is_no_image_or_does_not_fit_one_is_one_sentence(image, options):
    with pytest.raises(ImageError) as caught:
        Volume.of(image, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("gamma", ["x", 0, -1, float("nan"), float("inf"), [1, 2, 3], None, 10**400])
def test_a_gamma_that_is_no_number_above_zero_is_one_sentence(gamma):
    with pytest.raises(ImageError, match="Gamma must be above 0"):
        Volume.of(PIXELS).rendering(gamma=gamma)


@pytest.mark.parametrize("gamma", [np.float32(2), np.array(2), 2, [2]])
def test_a_gamma_may_be_a_number_of_any_kind(gamma):
    assert Volume.of(PIXELS).rendering((0, 1), gamma).gamma == 2


@pytest.mark.parametrize("limits", ["ab", (0, 10**400), 5, [(0, 1), (2,)], (1, 0)])
def test_contrast_limits_that_are_no_pair_are_one_sentence(limits):
    with pytest.raises(ImageError, match="Contrast limits"):
        Volume.of(PIXELS).rendering(limits)


def test_numbers_of_numpy_name_axes_and_channels():
    volume = Volume.of(np.stack([PIXELS] * 3), channel_axis=np.int64(0), channels=np.array([2, 0]))
    assert (volume.channel_axis, volume.channels) == (0, (2, 0))


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("is_zarr", [False, True])
def test_planes_along_an_unnamed_axis_of_channels_are_refused_with_its_name(samples, is_zarr):
    image = np.stack([PIXELS.astype(np.float32)[:20]] * samples, -1)
    image = zarr.array(image) if is_zarr else image
    volume = Volume.of(image)
    for axes in ((-2, -1), (0, 2)):
        with pytest.raises(ImageError, match=r"channel_axis=-1.*--channels 0"):
            check_plane_axes(volume.shape, axes)
    check_plane_axes(volume.shape, (0, 1))
    assert Volume.of(image, channels=[0]).channel_axis == 2


@pytest.mark.parametrize("shape", [(2, 40, 50), (40, 50), (3, 4, 4), (40, 50, 12)])
def test_other_short_axes_are_planes(shape):
    check_plane_axes(shape, (-2, -1), is_named=True)


def test_a_short_last_axis_may_be_channels_or_depth():
    image = np.zeros((40, 50, 7), np.float32)
    with pytest.raises(ImageError, match=r"channel_axis=-1.*axes=\(0, 1\)"):
        check_plane_axes(image.shape, (-2, -1), is_named=False)
    check_plane_axes(image.shape, (0, 1), is_named=False)
    check_plane_axes((7, 40, 50), (-2, -1), is_named=False)
    assert Volume.of(image, channels=[6, 2]).channel_axis == 2


@pytest.mark.parametrize("axes", [3, "ab", (0,)])
def test_axes_that_are_not_two_are_one_sentence(axes, tmp_path):
    class Model:
        """Not reached."""

    with pytest.raises(ImageError, match="axes"):
        Segmenter(PIXELS, model=Model(), axes=axes)


def test_a_memoryview_is_read_like_the_array_behind_it():
    np.testing.assert_array_equal(read(Volume.of(memoryview(PIXELS))), PIXELS)


def test_a_dask_array_of_unknown_shape_is_refused_with_the_way_to_know_it():
    array = da.from_array(PIXELS, chunks=20)
    with pytest.raises(ImageError, match="compute_chunk_sizes"):
        Volume.of(array[array[:, 0] > 100])
