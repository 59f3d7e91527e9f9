"""Labels of NIfTI images that a reader has turned: written on the grid of the file."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource, Place
from napari_sam.exports.volumes.nifti import Nifti
from napari_sam.exports.volumes.turned import turn_between
from napari_sam.images.axes.calibration import Calibration

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")

OBLIQUE = np.array([[0.66, -0.21, 0.3, -10], [0.2, 0.64, 0.5, 20], [-0.12, -0.19, 2.43, 30], [0, 0, 0, 1.0]])
LENGTHS = (7, 6, 5)
TURNS = list(product(permutations(range(3)), product((1, -1), repeat=3)))


def reoriented(voxels, affine, order, signs):
    """Turn a volume as nibabel does it, and return its affine matrix."""
    orientation = np.array([(order.index(axis), signs[axis]) for axis in range(3)])
    turned = nibabel.orientations.apply_orientation(voxels, orientation)
    return turned, affine @ nibabel.orientations.inv_ornt_aff(orientation, voxels.shape)


@pytest.mark.parametrize(("order", "signs"), TURNS)
def test_labels_of_a_turned_image_lie_on_its_file_voxel_by_voxel(tmp_path, order, signs):
    rng = np.random.default_rng(0)
    file = nibabel.Nifti1Image(np.zeros(LENGTHS, np.int16), OBLIQUE)
    file.set_sform(OBLIQUE, 2)
    file.set_qform(OBLIQUE, 1)
    wanted = rng.integers(0, 300, LENGTHS).astype(np.uint16)
    shown, affine = reoriented(wanted, OBLIQUE, order, signs)
    place = Place(Calibration("zyx"), orientation=Orientation(affine, file.header))
    Nifti().write(ExportSource(shown.T, place), tmp_path / "labels.nii.gz", ExportOptions())
    written = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), wanted)
    for name in ("get_sform", "get_qform"):
        np.testing.assert_array_equal(getattr(written, name)(), getattr(file, name)())
    assert (int(written.header["sform_code"]), int(written.header["qform_code"])) == (2, 1)


def test_labels_on_another_grid_than_the_file_have_their_own_place(tmp_path):
    file = nibabel.Nifti1Image(np.zeros(LENGTHS, np.int16), OBLIQUE)
    coarser = OBLIQUE @ np.diag([2, 2, 1, 1.0])
    shifted = OBLIQUE + np.array([[0, 0, 0, 5.0], [0] * 4, [0] * 4, [0] * 4])
    labels = np.arange(210, dtype=np.uint8).reshape(5, 6, 7)
    for affine in (coarser, shifted):
        assert turn_between(affine, LENGTHS, OBLIQUE, LENGTHS) is None
        place = Place(Calibration("zyx"), orientation=Orientation(affine, file.header))
        Nifti().write(ExportSource(labels, place), tmp_path / "labels.nii", ExportOptions())
        written = nibabel.load(tmp_path / "labels.nii")
        np.testing.assert_allclose(written.affine, affine, atol=1e-5)
        np.testing.assert_array_equal(np.asarray(written.dataobj), labels.T)
