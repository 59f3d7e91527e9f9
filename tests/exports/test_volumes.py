"""NIfTI, NRRD and MetaImage: pixels, axes and places as other libraries read them."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_sam import Segmenter, export_labels, import_objects
from napari_sam.errors import LabelsError, NapariSamError, PromptError
from napari_sam.exports.opening import open_label_file
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource, Place
from napari_sam.exports.volumes.meta_image import MetaImage
from napari_sam.exports.volumes.nifti import Nifti
from napari_sam.exports.volumes.nrrd import Nrrd
from napari_sam.images.axes.calibration import Calibration

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")
nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed: pip install pynrrd")
itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install SimpleITK")

AFFINES = {
    "plain": np.diag([0.7, 0.7, 2.5, 1.0]),
    "mirrored": np.array([[-0.7, 0, 0, 90], [0, -0.7, 0, 120], [0, 0, 2.5, -300], [0, 0, 0, 1.0]]),
    "sagittal": np.array([[0, 0, 2.5, -80], [-0.7, 0, 0, 90], [0, -0.7, 0, 40], [0, 0, 0, 1.0]]),
    "oblique": np.array([[0.66, -0.21, 0.3, -10], [0.2, 0.64, 0.5, 20], [-0.12, -0.19, 2.43, 30], [0, 0, 0, 1.0]]),
    "sheared": np.array([[0.7, 0.2, 0, 5], [0, 0.7, 0.4, 6], [0, 0, 2.5, 7], [0, 0, 0, 1.0]]),
}


@pytest.fixture
def labels():
    rng = np.random.default_rng(1)
    found = rng.integers(0, 4, (5, 6, 7)).astype(np.uint16)
    found[0, 0] = 0
    return found


@pytest.fixture(params=AFFINES)
def image(request, tmp_path):
    """A NIfTI file whose sform and qform have codes of their own."""
    affine = AFFINES[request.param]
    file = nibabel.Nifti1Image(np.zeros((7, 6, 5), np.float32), affine)
    file.set_sform(affine, 2)
    file.set_qform(affine if request.param != "sheared" else np.diag([0.7, 0.7, 2.5, 1]), 1)
    file.header["descrip"] = b"CT of Mueller"
    file.header["cal_max"] = 400
    nibabel.save(file, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_labels_have_the_affine_matrix_codes_and_header_of_their_image(tmp_path, image, labels, ending):
    path = tmp_path / f"labels{ending}"
    export_labels(labels, path, image=image)
    before, after = nibabel.load(image), nibabel.load(path)
    assert np.array_equal(np.asarray(after.dataobj), labels.transpose(2, 1, 0))
    assert after.get_data_dtype() == np.uint8
    for name in ("affine", "get_sform", "get_qform"):
        values = [getattr(file, name) if name == "affine" else getattr(file, name)() for file in (before, after)]
        assert np.array_equal(*values)
    for name in ("sform_code", "qform_code", "pixdim", "xyzt_units", "descrip"):
        assert np.array_equal(before.header[name], after.header[name])
    assert float(after.header["cal_max"]) == 0
    assert after.header.get_slope_inter() == (None, None)


def test_labels_in_nifti_keep_their_place_in_every_volume_format(tmp_path, image, labels):
    file = nibabel.load(image)
    nibabel.save(nibabel.Nifti1Image(labels.transpose(2, 1, 0), None, file.header), tmp_path / "labels.nii")
    place = Place(orientation=Orientation(file.affine))
    path = tmp_path / "labels.nrrd"
    Nrrd().write(ExportSource(labels, place), path, ExportOptions())
    data, header = nrrd.read(str(path))
    assert np.array_equal(data, labels.transpose(2, 1, 0))
    assert header["space"] == "right-anterior-superior"
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.array(header["space directions"]).T, header["space origin"]
    assert np.allclose(matrix, file.affine, atol=1e-6)


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_labels_of_a_medical_image_lie_on_it_in_every_other_format(tmp_path, image, labels, ending):
    export_labels(labels, tmp_path / f"labels{ending}", image=image)
    export_labels(labels, tmp_path / "again.nii", image=tmp_path / f"labels{ending}")
    again = nibabel.load(tmp_path / "again.nii")
    assert np.allclose(again.affine, nibabel.load(image).affine, atol=1e-5)
    assert np.array_equal(np.asarray(again.dataobj), labels.transpose(2, 1, 0))


def test_simple_itk_reads_the_voxels_and_the_place_of_meta_images(tmp_path, image, labels):
    export_labels(labels, tmp_path / "labels.mha", image=image)
    file = itk.ReadImage(str(tmp_path / "labels.mha"))
    assert np.array_equal(itk.GetArrayFromImage(file), labels)
    assert file.GetPixelID() == itk.sitkUInt8
    for index in ((0, 0, 0), (6, 5, 4)):
        to_right, to_front, to_head = (nibabel.load(image).affine @ [*index, 1])[:3]
        wanted = (-to_right, -to_front, to_head)
        assert file.TransformIndexToPhysicalPoint(index) == pytest.approx(wanted, abs=1e-5)


def test_meta_images_of_planes_of_sections_and_of_movies_have_their_axes(tmp_path):
    labels = np.arange(2 * 4 * 5 * 6, dtype=np.uint8).reshape(2, 4, 5, 6)
    cases = {"yx": labels[0, 0], "zyx": labels[0], "tyx": labels[0], "tzyx": labels, "zxy": labels[0].swapaxes(1, 2)}
    wanted = {"yx": (6, 5), "zyx": (6, 5, 4), "tyx": (6, 5, 1, 4), "tzyx": (6, 5, 4, 2), "zxy": (6, 5, 4)}
    for axes, pixels in cases.items():
        place = Place(Calibration(axes, tuple(range(1, len(axes) + 1)), None, "millimeter"))
        path = tmp_path / f"{axes}.mha"
        MetaImage().write(ExportSource(pixels, place), path, ExportOptions())
        file = itk.ReadImage(str(path))
        assert file.GetSize() == wanted[axes]
        steps = dict(zip("xyzt", file.GetSpacing(), strict=False))
        assert all(steps[letter] == axes.index(letter) + 1 for letter in axes)
        plain = pixels.swapaxes(1, 2) if axes == "zxy" else pixels
        assert np.array_equal(np.squeeze(itk.GetArrayFromImage(file)), plain)
    section = Place(orientation=Orientation(AFFINES["sagittal"]), calibration=Calibration("yx", (1.0, 1.0)))
    MetaImage().write(ExportSource(labels[0, 0], section), tmp_path / "section.mha", ExportOptions())
    file = itk.ReadImage(str(tmp_path / "section.mha"))
    assert (file.GetSize(), file.GetOrigin()) == ((6, 5, 1), pytest.approx((80, -90, 40)))
    assert MetaImage().refusal(ExportSource(labels, Place(Calibration("tcyx", (1.0,) * 4)))) is not None


def test_a_volume_of_a_microscope_has_its_pixel_sizes_in_millimeters(tmp_path, labels):
    calibration = Calibration("zyx", (2.0, -0.5, 0.25), (10.0, 20.0, 30.0), "micrometer")
    Nifti().write(ExportSource(labels, Place(calibration)), tmp_path / "labels.nii", ExportOptions())
    file = nibabel.load(tmp_path / "labels.nii")
    wanted = np.array([[0.25e-3, 0, 0, 0.03], [0, -0.5e-3, 0, 0.02], [0, 0, 2e-3, 0.01], [0, 0, 0, 1]])
    assert np.allclose(file.affine, wanted, rtol=1e-6)
    assert np.allclose(file.get_qform(), wanted, atol=1e-7)
    assert file.header.get_xyzt_units() == ("mm", "sec")
    assert np.array_equal(np.asarray(file.dataobj), labels.transpose(2, 1, 0))


@pytest.mark.parametrize(("axes", "shape", "wanted"), [
    ("yx", (6, 7), (7, 6, 1)), ("zyx", (5, 6, 7), (7, 6, 5)), ("tyx", (3, 6, 7), (7, 6, 1, 3)),
    ("tzyx", (3, 5, 6, 7), (7, 6, 5, 3)), ("zxy", (5, 7, 6), (7, 6, 5)), ("tczyx", (2, 3, 4, 5, 6), (6, 5, 4, 2, 3)),
])  # fmt: skip
def test_axes_of_any_order_are_those_of_the_file(tmp_path, axes, shape, wanted):
    labels = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    source = ExportSource(labels, Place(Calibration(axes, tuple(range(1, len(axes) + 1)), None, "millimeter")))
    Nifti().write(source, tmp_path / "labels.nii", ExportOptions())
    file = nibabel.load(tmp_path / "labels.nii")
    assert file.shape == wanted
    order = [axes.index(letter) for letter in "xyztc" if letter in axes]
    assert np.array_equal(np.squeeze(np.asarray(file.dataobj)), np.squeeze(labels.transpose(order)))
    zooms = dict(zip("xyzt", file.header.get_zooms(), strict=False))
    assert all(zooms[letter] == axes.index(letter) + 1 for letter in axes if letter != "c")


@pytest.mark.parametrize("highest", [255, 256, 65_536, 2**31 + 5])
def test_labels_are_stored_in_the_smallest_type_that_holds_them(tmp_path, highest):
    labels = np.zeros((2, 3, 4), np.uint32)
    labels[1, 2, 3], labels[0, 0, 0] = highest, 1
    export_labels(labels, tmp_path / "labels.nii.gz")
    file = nibabel.load(tmp_path / "labels.nii.gz")
    assert int(np.asarray(file.dataobj).max()) == highest
    wanted = {255: "uint8", 256: "uint16", 65_536: "int32", 2**31 + 5: "uint32"}
    assert file.get_data_dtype() == np.dtype(wanted[highest])
    export_labels(labels, tmp_path / "labels.nrrd")
    assert int(nrrd.read(str(tmp_path / "labels.nrrd"))[0].max()) == highest
    export_labels(labels, tmp_path / "labels.mha")
    assert int(itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / "labels.mha"))).max()) == highest


@pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
def test_labels_of_more_than_32_bits_are_refused(tmp_path, ending):
    with pytest.raises(LabelsError, match="more than 32 bits"):
        export_labels(np.full((2, 3), 2**40 + 7, np.int64), tmp_path / f"a{ending}")
    assert not any(tmp_path.iterdir())


def test_a_volume_is_read_plane_by_plane(tmp_path):
    labels = np.zeros((40, 300, 300), np.uint8)
    labels[:, 100:200, 100:200] = 1
    sizes = []

    class Recorded(np.ndarray):
        def __getitem__(self, key):
            block = np.asarray(self).__getitem__(key)
            sizes.append(block.size)
            return block

    source = ExportSource(labels.view(Recorded))
    assert len(source.extents) == 1
    sizes.clear()
    Nifti().write(source, tmp_path / "labels.nii", ExportOptions())
    assert max(sizes) == 300 * 300
    assert np.array_equal(np.asarray(nibabel.load(tmp_path / "labels.nii").dataobj).T, labels)


def test_nrrd_names_the_segments_for_slicer(tmp_path, classified):
    export_labels(classified, tmp_path / "labels.nrrd", image=zarr.zeros((30, 40)))
    _, header = nrrd.read(str(tmp_path / "labels.nrrd"))
    assert header["Segment0_Name"] == "1 Zelle ?gro??"
    assert (header["Segment1_LabelValue"], header["Segment2_Name"]) == ("2", "3")
    assert len(header["Segment3_Color"].split()) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_labels_stored_as_floating_point_numbers_are_labels(tmp_path, dtype, ending, fake_predictor):
    labels = np.zeros((4, 12, 10), np.uint16)
    labels[1:3, 2:6, 3:7], labels[2:, 8:11, 1:9] = 3, 70_000 % 2**16
    path = tmp_path / f"mask{ending}"
    stored = labels.T.astype(dtype)
    stored[0, 0, 0] = np.nan  # As of masks of the brain.
    nibabel.save(nibabel.Nifti1Image(stored, np.diag([0.5, 0.75, 2, 1])), path)
    assert export_labels(path, tmp_path / "out.nii.gz").count == 2
    written = nibabel.load(tmp_path / "out.nii.gz")
    assert written.get_data_dtype().kind in "ui"
    assert np.array_equal(np.asarray(written.dataobj).T, labels)
    back = Segmenter(np.zeros(labels.shape, np.uint8), model=fake_predictor)
    import_objects(back, path)
    assert np.array_equal(np.asarray(back.labels) > 0, labels > 0)
    assert len(np.unique(np.asarray(back.labels))) == 3


def test_a_probability_map_is_no_label_image(tmp_path, fake_predictor):
    path = tmp_path / "probability.nii"
    nibabel.save(nibabel.Nifti1Image(np.full((6, 5, 4), 0.5, np.float32), np.eye(4)), path)
    message = r"probability\.nii holds the value 0\.5, and labels are whole numbers: .*threshold\.$"
    with pytest.raises(NapariSamError, match=message):
        export_labels(path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    with pytest.raises(PromptError, match=message):
        import_objects(Segmenter(np.zeros((4, 5, 6), np.uint8), model=fake_predictor), path)


def test_labels_with_a_slope_that_rounds_are_whole_and_infinite_ones_are_refused(tmp_path):
    image = nibabel.Nifti1Image((np.arange(60).reshape(5, 4, 3) * 10).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(0.1, 0)
    nibabel.save(image, tmp_path / "a.nii")
    with (tmp_path / "a.nii").open("r+b") as file:  # nibabel resets the slope.
        file.seek(112)
        file.write(np.array([0.1], "<f4").tobytes())
    array, _ = open_label_file(tmp_path / "a.nii")
    assert np.array_equal(np.asarray(array[:]), np.arange(60).reshape(5, 4, 3).T)
    np.save(tmp_path / "b.npy", np.array([[0.0, np.inf]]))
    with pytest.raises(NapariSamError, match="holds the value inf"):
        export_labels(tmp_path / "b.npy", tmp_path / "b.csv")
