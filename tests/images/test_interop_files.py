"""Files that other programs wrote, which are on some computers only."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from napari_sam.images.opening import open_image

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
        ("maize_clsm.tif", "yx", (512, 512)),
        ("newtonscradle.gif", "tyxs", None),
        ("rgba_geotiff.tiff", "yxs", None),
        ("simple_0.5.zip", None, None),
        ("trans2d_v05.ome.zarr", None, None),
        ("withlab_v04.ome.zarr", None, None),
    ],
)
def test_every_file_opens_with_its_axes(name, axes, shape):
    opened = open_image(FILES / name)
    assert axes is None or opened.axes == axes
    assert shape is None or opened.levels[0].shape == shape
    assert np.asarray(opened.levels[-1][tuple(slice(0, 2) for _ in opened.levels[-1].shape)]).size
