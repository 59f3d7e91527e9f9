"""NIfTI volumes that nibabel has written: pixels, axes, place in the body, parts, and files that are cut off."""

import gzip
import struct

import nibabel
import numpy as np
import pytest

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume
from napari_sam.images.volumes import stored_pixels

# Columns, rows, planes: 5 x 4 x 3.
VOXELS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
ANISOTROPIC = np.diag([0.5, 0.75, 3.0, 1.0])
TURNED = np.array([[0.0, 0.0, 3.0, 7.0], [-0.5, 0.0, 0.0, 8.0], [0.0, -0.75, 0.0, 9.0], [0, 0, 0, 1.0]])


def saved(folder, data, affine=ANISOTROPIC, name="a.nii", change=None, kind=nibabel.Nifti1Image):
    image = kind(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    if change:
        change(image)
    nibabel.save(image, folder / name)
    return folder / name


def world(opened, index):
    """Return where the voxel (z, y, x) lies in the body, right, anterior, superior."""
    z, y, x = index
    return (opened.anatomy.ras @ [x, y, z, 1])[:3]


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, ">i2"])
def test_the_axes_are_those_of_the_file_backwards(tmp_path, name, dtype):
    kind = nibabel.Nifti1Pair if name == "a.hdr" else nibabel.Nifti1Image
    data = VOXELS.astype(dtype)
    opened = open_image(saved(tmp_path, data, name=name, kind=kind))
    assert opened.axes == "zyx"
    assert opened.levels[0].shape == (3, 4, 5)
    assert opened.levels[0].dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), data.T)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][2, 1:3, 4]), data.T[2, 1:3, 4])


def test_a_nifti_2_file_is_the_same(tmp_path):
    opened = open_image(saved(tmp_path, VOXELS, kind=nibabel.Nifti2Image))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), VOXELS.T)


@pytest.mark.parametrize(
    ("affine", "spacing", "origin"),
    [
        (ANISOTROPIC, (3, -0.75, -0.5), (0, 0, 0)),
        (np.diag([-0.5, -0.75, 3, 1]), (3, 0.75, 0.5), (0, 0, 0)),
        (TURNED, (-3, 0.75, 0.5), (-7, -9, -8)),
    ],
)
def test_axes_are_shown_as_radiologists_see_the_body(tmp_path, affine, spacing, origin):
    opened = open_image(saved(tmp_path, VOXELS, affine))
    assert opened.spacing == pytest.approx(spacing)
    assert opened.origin == pytest.approx(origin)
    assert opened.unit == "millimeter"
    np.testing.assert_allclose(opened.anatomy.ras, affine, atol=1e-6)


def test_an_oblique_affine_is_kept_whole(tmp_path):
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.5, 0.75, 3])
    affine[:3, 3] = -10, 20, 30
    opened = open_image(saved(tmp_path, VOXELS, affine))
    np.testing.assert_allclose(np.abs(opened.spacing), (3, 0.75, 0.5), rtol=1e-6)
    np.testing.assert_allclose(world(opened, (2, 3, 4)), (affine @ [4, 3, 2, 1])[:3], atol=1e-5)


def test_the_sform_counts_before_the_qform_as_in_other_programs(tmp_path):
    def change(image):
        image.set_sform(np.diag([2, 2, 2, 1]), 1)
        image.set_qform(np.diag([5, 5, 5, 1]), 1)

    path = saved(tmp_path, VOXELS, change=change)
    assert np.abs(open_image(path).spacing) == pytest.approx(2)

    def without(image):
        change(image)
        image.set_sform(None, 0)

    assert np.abs(open_image(saved(tmp_path, VOXELS, change=without)).spacing) == pytest.approx(5)


def test_without_a_place_only_the_sizes_are_known(tmp_path):
    def change(image):
        image.set_sform(None, 0)
        image.set_qform(None, 0)
        image.header.set_zooms((0.5, 0.75, 3))

    opened = open_image(saved(tmp_path, VOXELS, change=change))
    assert opened.spacing == pytest.approx((3, 0.75, 0.5))
    assert opened.anatomy is None
    assert opened.origin is None


def test_micrometers_are_kept(tmp_path):
    opened = open_image(saved(tmp_path, VOXELS, change=lambda image: image.header.set_xyzt_units("micron", "msec")))
    assert (opened.unit, np.abs(opened.spacing[0])) == ("micrometer", pytest.approx(3))
    assert np.linalg.norm(opened.anatomy.matrix[:3, 2]) == pytest.approx(0.003)


def test_time_comes_first(tmp_path):
    data = np.arange(120, dtype=np.int16).reshape(5, 4, 3, 2)
    opened = open_image(saved(tmp_path, data, change=lambda image: image.header.set_zooms((0.5, 0.75, 3, 2.5))))
    assert (opened.axes, opened.time_unit, opened.spacing[0]) == ("tzyx", "second", pytest.approx(2.5))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][1, 2]), data[:, :, 2, 1].T)


def test_components_are_channels(tmp_path):
    data = np.arange(180, dtype=np.uint8).reshape(5, 4, 3, 1, 3)
    opened = open_image(saved(tmp_path, data))
    assert opened.axes == "czyx"
    volume = Volume.of(saved(tmp_path, data))
    assert volume.shape == (3, 4, 5)


def test_colors_are_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (5, 4, 3, 3), np.uint8)
    stored = np.ascontiguousarray(colors).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    opened = open_image(saved(tmp_path, stored))
    assert opened.axes == "zyxs"
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), colors.transpose(2, 1, 0, 3))


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"), [(1, -1024, np.int32), (2, 0, np.int32), (0.5, 1, np.float32), (0, 5, np.int16)]
)
def test_values_are_those_that_the_numbers_stand_for(tmp_path, slope, intercept, dtype):
    path = saved(tmp_path, VOXELS)
    raw = bytearray(path.read_bytes())
    raw[112:120] = struct.pack("<ff", slope, intercept)
    path.write_bytes(raw)
    expected = VOXELS.T if slope == 0 else VOXELS.T * slope + intercept
    array = open_image(path).levels[0]
    assert array.dtype == dtype
    np.testing.assert_array_equal(np.asarray(array[:]), expected)


def test_only_the_plane_that_is_asked_for_is_read(tmp_path):
    path = saved(tmp_path, np.zeros((64, 64, 50), np.int16))
    array = open_image(path).levels[0]
    assert isinstance(array, np.memmap)
    assert array[3].flags.c_contiguous


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_that_is_cut_off_is_refused_when_it_is_opened(tmp_path, name):
    path = saved(tmp_path, np.random.default_rng(0).integers(0, 99, (32, 32, 8)).astype(np.int16), name=name)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageError, match=r"cut off|cannot be decompressed"):
        open_image(path)


def test_a_header_that_lies_about_its_size_takes_no_memory(tmp_path, monkeypatch):
    path = saved(tmp_path, VOXELS)
    raw = bytearray(path.read_bytes())
    raw[42:48] = struct.pack("<hhh", 30000, 30000, 30000)
    path.write_bytes(raw)
    with pytest.raises(ImageError, match="promises 54000000000352 bytes"):
        open_image(path)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(ImageError, match=r"compressed and holds .* unpack it to \.nii first"):
        open_image(tmp_path / "b.nii.gz")
    monkeypatch.setattr(stored_pixels, "MAX_WHOLE_BYTES", 2**50)
    raw[42:48] = struct.pack("<hhh", 1000, 1000, 1000)
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    with pytest.raises(ImageError, match="cut off"):
        open_image(tmp_path / "b.nii.gz")


def test_the_pixels_of_a_pair_may_be_missing(tmp_path):
    path = saved(tmp_path, VOXELS, name="a.hdr", kind=nibabel.Nifti1Pair)
    (tmp_path / "a.img").unlink()
    with pytest.raises(ImageError, match=r"a\.img"):
        open_image(path)


def test_the_header_goes_into_the_metadata_of_a_layer(tmp_path):
    opened = open_image(saved(tmp_path, VOXELS))
    assert opened.metadata["header"]["dim"][1] == 5
    np.testing.assert_allclose(opened.metadata["affine"], ANISOTROPIC)
    assert Volume.of(tmp_path / "a.nii").anatomy == opened.anatomy
