"""ROIs of ImageJ, as roifile reads them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from rasterio.features import rasterize

from napari_sam import export_labels
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

roifile = pytest.importorskip("roifile", reason="roifile is not installed: pip install roifile")
shapely = pytest.importorskip("shapely", reason="shapely is not installed: pip install shapely")


def shape_of(roi):
    """Return the area of a ROI, which ImageJ fills by the even-odd rule."""
    if not roi.composite:
        return shapely.Polygon(roi.coordinates())
    area = shapely.Polygon()
    for ring in roi.coordinates(multi=True):
        area = area.symmetric_difference(shapely.Polygon(ring))
    return area


def read(path):
    return {roi.name: roi for roi in roifile.roiread(path)}


def test_rois_hold_exactly_the_pixels_of_every_object(tmp_path, scene):
    export_labels(scene, tmp_path / "objects.zip")
    rois = read(tmp_path / "objects.zip")
    assert list(rois) == [f"{label:05d}" for label in range(1, 9)]
    drawn = rasterize([(shape_of(roi), int(name)) for name, roi in rois.items()], out_shape=scene.shape, dtype="int32")
    assert np.array_equal(drawn, scene)
    assert [name for name, roi in rois.items() if roi.composite] == ["00001", "00005", "00006"]
    for name, roi in rois.items():
        at = np.argwhere(scene == int(name))
        assert [roi.top, roi.left, roi.bottom, roi.right] == [
            *at.min(axis=0),
            *(at.max(axis=0) + 1),
        ] or not roi.composite


def test_classes_are_in_the_names_and_colors(tmp_path, classified):
    export_labels(classified, tmp_path / "objects.zip")
    rois = read(tmp_path / "objects.zip")
    assert list(rois) == ["00001 Zelle „groß“", "00002 =1+1", "00003", "00004 Zelle „groß“"]
    colors = [roi.stroke_color for roi in rois.values()]
    assert colors[0] == colors[3] != colors[1]
    assert colors[0][0] == 255


def test_rois_of_a_stack_lie_in_its_planes(tmp_path):
    labels = np.zeros((2, 3, 12, 14), np.uint8)
    labels[0, 1:, 2:5, 3:7] = 1
    export_labels(labels, tmp_path / "objects.zip")
    positions = [(roi.t_position, roi.z_position) for roi in read(tmp_path / "objects.zip").values()]
    assert positions == [(1, 2), (1, 3)]
    export_labels(labels[0], tmp_path / "stack.zip")
    assert [roi.position for roi in read(tmp_path / "stack.zip").values()] == [2, 3]


def test_objects_far_from_the_origin_keep_their_place(tmp_path):
    labels = np.zeros((3, 70_000), np.uint8)
    labels[1, 69_990:69_995] = 1
    export_labels(labels, tmp_path / "objects.zip")
    (roi,) = read(tmp_path / "objects.zip").values()
    assert shapely.Polygon(roi.coordinates()).bounds == (69_990, 1, 69_995, 2)


def test_a_class_with_a_very_long_name_or_a_new_line_is_a_name_of_a_file(tmp_path):
    target = LabelArray(LabelPyramid.create(tmp_path / "long.ome.zarr", (30, 40)))
    with Journal(tmp_path / "long.ome.zarr.journal", target) as journal:
        mask = Mask(Box(1, 1, 4, 4), np.ones((3, 3), bool))
        journal.accept(Plane.of((30, 40)), mask, 1, class_name="a\n" + "x" * 100_000)
    export_labels(tmp_path / "long.ome.zarr", tmp_path / "a.zip")
    (name,) = zipfile.ZipFile(tmp_path / "a.zip").namelist()
    assert name.isprintable()
    assert len(name) < 100
