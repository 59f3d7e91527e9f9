"""Label images of all formats as the libraries of their fields read them: every pixel, whatever is in them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam import export_labels


def read_nifti(path):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")
    return np.asarray(nibabel.load(path).dataobj).T


def read_nrrd(path):
    nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed: pip install pynrrd")
    return nrrd.read(str(path))[0].T


def read_meta_image(path):
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install SimpleITK")
    return itk.GetArrayFromImage(itk.ReadImage(str(path)))


READERS = {
    ".tif": tifffile.imread,
    ".ome.tif": tifffile.imread,
    ".ome.zarr": lambda path: zarr.open_group(path, mode="r")["0"][...],
    ".zarr": lambda path: zarr.open_array(path, mode="r")[...],
    ".nii": read_nifti,
    ".nii.gz": read_nifti,
    ".nrrd": read_nrrd,
    ".mha": read_meta_image,
}


def one_pixel():
    labels = np.zeros((30, 40), np.uint8)
    labels[29, 39] = 200
    return labels


def volume():
    labels = np.zeros((4, 20, 30), np.uint16)
    labels[1:3, 2:9, 3:12] = 5
    labels[2, 4:6, 5:8] = 0  # A hole.
    labels[1:4, 2:9, 12:20] = 300  # It touches the other one.
    return labels


SCENES = {
    "nothing": lambda: np.zeros((30, 40), np.uint8),
    "no object in a volume": lambda: np.zeros((3, 30, 40), np.uint8),
    "one pixel": one_pixel,
    "a hole, and two objects that touch": volume,
    "70 000 objects": lambda: np.arange(70_000, dtype=np.uint32).reshape(200, 350),
}


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize("scene", SCENES)
def test_every_pixel_is_read_by_the_other_library(tmp_path, scene, ending):
    labels, path = SCENES[scene](), tmp_path / f"labels{ending}"
    assert export_labels(labels, path).count == len(np.unique(labels)) - 1
    np.testing.assert_array_equal(READERS[ending](path).reshape(labels.shape), labels)


def test_files_of_no_objects_are_read_by_the_libraries_of_objects(tmp_path):
    nothing = np.zeros((30, 40), np.uint8)
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install pyarrow")
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed: pip install pycocotools")
    roifile = pytest.importorskip("roifile", reason="roifile is not installed: pip install roifile")
    for ending in (".parquet", ".json", ".sa1b.json", ".zip"):
        assert export_labels(nothing, tmp_path / f"x{ending}").count == 0
    table = parquet.read_table(tmp_path / "x.parquet")
    assert (table.num_rows, "area_px" in table.column_names) == (0, True)
    read = coco.COCO(str(tmp_path / "x.json"))
    assert (len(read.getImgIds()), read.getAnnIds()) == (1, [])
    assert json.loads((tmp_path / "x.sa1b.json").read_text())["annotations"] == []
    assert roifile.roiread(tmp_path / "x.zip") == []
