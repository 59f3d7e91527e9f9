"""Files that other programs wrote, which are on some computers only."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from napari_sam.exchange.importing.reading import read_objects_of
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

FILES = Path(__file__).parents[3] / "shared" / "interop"
pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="the files of other programs are not on this computer")


def test_the_volume_of_nibabel_has_its_voxels_and_its_place():
    opened = open_image(FILES / "anatomical.nii")
    image = nibabel.load(FILES / "anatomical.nii")
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), np.asarray(image.dataobj).T)
    np.testing.assert_allclose(opened.anatomy.ras, image.affine)
    assert (opened.axes, opened.unit, opened.spacing) == ("zyx", "millimeter", pytest.approx((2, -2, 2)))


def test_the_only_dataset_of_an_hdf5_file_is_found():
    import h5py

    with h5py.File(FILES / "zyx_one_dataset.h5") as file:
        expected = file["data"][5, 20:30, 40:50]
    for name in ("zyx_one_dataset.h5", "zyx_one_dataset.h5:/data"):
        opened = open_image(f"{FILES / name}")
        np.testing.assert_array_equal(np.asarray(opened.levels[0][5, 20:30, 40:50]), expected)


@pytest.mark.parametrize(
    ("name", "axes", "shape"),
    [
        ("above_cog.tif", "yxc", (1800, 1800, 31)),
        ("banana0020.tif", None, None),
        ("bioformats2raw_like_1388x1040.ome.zarr", None, None),
        ("cut_pyramid_1388x1040.ome.tif", None, None),
        ("flower-palette-08.tif", "yxs", None),
        ("maize_clsm.tif", "yx", (512, 512)),
        ("minisblack-2c-8b-alpha.tiff", "yx", None),
        ("newtonscradle.gif", "tyxs", None),
        ("ome_zarr_0.6_scale.zarr", "zyx", (27, 226, 186)),
        ("rgba_geotiff.tiff", "yxs", None),
        ("simple_0.5.zip", None, None),
        ("test_RGB_16.png", "yxs", None),
        ("trans2d_v05.ome.zarr", None, None),
        ("tyx_without_sizes.ome.tif", "tyx", None),
        ("withlab_v04.ome.zarr", None, None),
        ("world.jpg", "yxs", None),
        ("ycbcr-cat.tif", "yxs", None),
    ],
)
def test_every_file_opens_with_its_axes(name, axes, shape):
    opened = open_image(FILES / name)
    assert axes is None or opened.axes == axes
    assert shape is None or opened.levels[0].shape == shape
    assert np.asarray(opened.levels[-1][tuple(slice(0, 2) for _ in opened.levels[-1].shape)]).size


def test_steps_of_an_image_of_version_0_6_are_those_of_its_metadata():
    opened = open_image(FILES / "ome_zarr_0.6_scale.zarr")
    assert (opened.spacing, opened.unit) == ((4, 3, 2), "micrometer")


@pytest.mark.parametrize("name", ["banana0020.tif", "rgba_geotiff.tiff", "above_cog.tif"])
def test_pixels_of_tiffs_are_those_of_tifffile(name):
    opened, expected = open_image(FILES / name), tifffile.imread(FILES / name)
    found = np.asarray(opened.levels[0][...])
    channels = min(found.shape[-1], expected.shape[-1]) if found.ndim == 3 else None
    np.testing.assert_array_equal(found[..., :channels], expected[..., :channels])


def test_annotations_of_qupath_are_objects_with_holes_and_classes_and_lines_are_left_out():
    tumor, stroma = read_objects_of(FILES / "qupath.geojson", Volume.of(np.zeros((400, 400), np.uint8)))[0]
    assert (tumor.class_name, stroma.class_name) == ("Tumor", "Stroma")
    pixels = tumor.mask.to_array((400, 400))
    assert pixels.sum() == 60 * 60
    assert pixels[70:130, 90:150].all()
    assert not stroma.mask.to_array((400, 400))[345:355, 345:355].any()
    assert read_objects_of(FILES / "qupath.geojson", Volume.of(np.zeros((400, 400), np.uint8)))[1] == 1
