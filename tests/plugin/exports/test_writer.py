"""Saving a Labels layer by napari: every format, with the geometry of the image, also of pyramids on disk."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager

from napari_sam import export_labels
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import OutputError
from napari_sam.exports.formats import SUFFIXES
from napari_sam.images.opening import open_image
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.exports.writer import write_labels
from napari_sam.plugin.layers import factory
from napari_sam.plugin.reader import read_layers

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")

# A CT whose rows run to the back and columns to the left, turned a little.
TURN = np.deg2rad(10)
DIRECTION = np.array([[1, 0, 0], [0, np.cos(TURN), -np.sin(TURN)], [0, np.sin(TURN), np.cos(TURN)]])
SPACING, ORIGIN = np.array([2.5, 0.8, 0.7]), np.array([-300.0, -120.0, 90.0])


@pytest.fixture
def labels():
    found = np.zeros((5, 6, 7), np.uint16)
    found[1:3, 2:4, 1:6] = 3
    found[4, 5, 6] = 300
    return found


@pytest.fixture(scope="module")
def plugins():
    PluginManager.instance().discover()
    return PluginManager.instance()


def saved(layer, path):
    data, attributes, kind = layer.as_layer_data_tuple()
    assert kind == "labels"
    return write_labels(str(path), data, attributes)


def itk_metadata(codes=("1", "2")):
    """What readers that use ITK leave in a layer: the world is left, posterior, superior, in the order z, y, x."""
    header = {"qform_code": codes[0], "sform_code": codes[1]}
    return {"spacing": SPACING, "origin": ORIGIN, "direction": DIRECTION, "header": header}


def itk_affine():
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = DIRECTION @ np.diag(SPACING), ORIGIN
    return affine


def test_the_manifest_offers_every_format(plugins):
    (writer,) = plugins.get_manifest("napari-sam").contributions.writers
    # A folder of the Cell Tracking Challenge has no ending by which napari finds a writer.
    assert sorted(writer.filename_extensions) == sorted(set(SUFFIXES) - {"_res"})
    assert writer.layer_types == ["labels"]


@pytest.mark.parametrize("ending", [".nii.gz", ".ome.zarr", ".geojson", ".csv", ".ome.tif"])
def test_napari_saves_a_layer_by_the_ending_of_its_name(tmp_path, plugins, labels, ending):
    viewer = ViewerModel()
    layer = viewer.add_labels(labels, scale=(2, 1, 1))
    path = tmp_path / f"saved{ending}"
    writer, _ = plugins.get_writer(str(path), ["labels"])
    if writer.command == "napari-sam.write_labels":
        assert viewer.layers.save(str(path)) == [str(path)]
    else:  # Another plugin that is installed takes it.
        saved(layer, path)
    assert path.exists()


def test_labels_of_a_nifti_image_read_by_itk_lie_on_it(tmp_path, labels):
    image = ViewerModel().add_image(np.zeros(labels.shape), affine=itk_affine(), metadata=itk_metadata())
    layer = Labels(labels, **factory.attributes_of(image))
    saved(layer, tmp_path / "labels.nii.gz")
    file = nibabel.load(tmp_path / "labels.nii.gz")
    # A voxel's place by ITK, in the other order and with the first two directions mirrored.
    for index in np.ndindex(labels.shape):
        left, back, up = (DIRECTION @ (SPACING * index) + ORIGIN)[::-1]
        assert np.allclose(file.affine @ [*index[::-1], 1], [-left, -back, up, 1], atol=1e-4)
    assert np.array_equal(np.asarray(file.dataobj), labels.transpose(2, 1, 0))
    assert (int(file.header["qform_code"]), int(file.header["sform_code"])) == (1, 2)


def test_labels_of_an_image_with_a_nifti_header_have_that_header(tmp_path, labels):
    affine = np.array([[-0.7, 0, 0, 90], [0, -0.8, 0, 120], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
    image = nibabel.Nifti1Image(np.zeros(labels.shape[::-1], np.float32), affine)
    image.set_sform(affine, 4)
    image.header["descrip"] = b"a CT"
    metadata = {"header": image.header, "affine": image.affine, "source_format": "NIfTI"}
    layer = Labels(labels, scale=(2.5, 0.8, 0.7), metadata=metadata)
    saved(layer, tmp_path / "labels.nii")
    file = nibabel.load(tmp_path / "labels.nii")
    assert np.array_equal(file.affine, image.affine)
    assert (int(file.header["sform_code"]), file.header["descrip"]) == (4, b"a CT")
    assert np.array_equal(np.asarray(file.dataobj), labels.transpose(2, 1, 0))


def test_a_reader_that_keeps_the_order_of_the_file_gets_it_back(tmp_path, labels):
    affine = np.array([[-0.7, 0, 0, 90], [0, -0.8, 0, 120], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
    in_order = labels.transpose(2, 1, 0)
    image = nibabel.Nifti1Image(np.zeros(in_order.shape, np.float32), affine)
    layer = Labels(in_order, affine=affine, metadata={"header": image.header})
    saved(layer, tmp_path / "labels.nii")
    file = nibabel.load(tmp_path / "labels.nii")
    assert np.array_equal(np.asarray(file.dataobj), in_order)
    assert np.allclose(file.affine, affine, atol=1e-6)


def test_scale_position_and_units_of_a_layer_are_those_of_the_file(tmp_path, labels):
    layer = Labels(
        labels, scale=(2, 0.5, 0.25), translate=(10, 20, 30), units=("um",) * 3, axis_labels=("z", "y", "x"),
    )  # fmt: skip
    saved(layer, tmp_path / "labels.ome.zarr")
    opened = open_image(tmp_path / "labels.ome.zarr")
    assert (opened.axes, opened.spacing, opened.origin, opened.unit) == (
        "zyx", (2, 0.5, 0.25), (10, 20, 30), "micrometer",
    )  # fmt: skip
    saved(layer, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["volume_um3"]) == 20 * 0.25
    assert float(first["centroid_z_um"]) == 10 + 1.5 * 2


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_labels_on_a_volume_that_our_reader_opened_lie_on_it(tmp_path, labels, ending):
    affine = np.array([[-0.7, 0.1, 0, 90], [0.1, -0.8, 0.2, 120], [0, 0.1, 2.5, -300], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(np.zeros(labels.shape[::-1], np.float32), affine), tmp_path / "image.nii.gz")
    export_labels(np.zeros(labels.shape, np.uint8), tmp_path / "image.nrrd", image=tmp_path / "image.nii.gz")
    ((data, options, _),) = read_layers(str(tmp_path / f"image{ending}"))
    image = ViewerModel().add_image(np.asarray(data), **options)
    saved(Labels(labels, **factory.attributes_of(image)), tmp_path / "labels.nii")
    file = nibabel.load(tmp_path / "labels.nii")
    assert np.allclose(file.affine, affine, atol=1e-5)
    assert np.array_equal(np.asarray(file.dataobj), labels.transpose(2, 1, 0))


def test_labels_on_a_map_that_our_reader_opened_lie_on_it(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install rasterio")
    from rasterio.features import rasterize
    from rasterio.warp import transform_geom

    labels = np.zeros((40, 50), np.uint8)
    labels[5:15, 8:20] = 4
    transform = rasterio.Affine(0.5, 0.1, 400_000, 0.05, -0.5, 5_000_000)
    profile = {"driver": "GTiff", "height": 40, "width": 50, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "image.tif", "w", crs="EPSG:32633", transform=transform, **profile) as dataset:
        dataset.write(labels, 1)
    ((data, options, _),) = read_layers(str(tmp_path / "image.tif"))
    image = ViewerModel().add_image(np.asarray(data), **options)
    layer = Labels(labels, **factory.attributes_of(image))
    saved(layer, tmp_path / "labels.geojson")
    (feature,) = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    shape = transform_geom("EPSG:4326", "EPSG:32633", feature["geometry"])
    assert np.array_equal(rasterize([(shape, 4)], out_shape=labels.shape, transform=transform), labels)
    assert feature["properties"]["area_m2"] == pytest.approx(120 * abs(transform.determinant))
    saved(layer, tmp_path / "labels.tif")
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert np.array_equal(dataset.read(1), labels)
        assert dataset.transform == transform


def test_a_layer_turned_by_its_affine_keeps_its_place_in_nifti(tmp_path, labels):
    turned = np.eye(4)
    turned[:3, :3] = [[2, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]
    layer = Labels(labels, affine=turned, translate=(1, 2, 3))
    saved(layer, tmp_path / "labels.nii")
    file = nibabel.load(tmp_path / "labels.nii")
    for index in ((0, 0, 0), (4, 5, 6)):
        assert np.allclose((file.affine @ [*index[::-1], 1])[:3][::-1], layer.data_to_world(index), atol=1e-5)


# Formats that need a map, a DICOM image, or time.
OF_SPECIAL_IMAGES = {".gpkg", ".dcm", ".geff", ".tracks.csv", "_res"}


@pytest.mark.parametrize("ending", sorted(set(SUFFIXES) - OF_SPECIAL_IMAGES))
def test_labels_on_disk_are_saved_with_their_classes(tmp_path, ending):
    pyramid = LabelPyramid.create(tmp_path / "work.ome.zarr", (1500, 1600), spacing=(0.5, 0.5), unit="micrometer")
    with Journal(tmp_path / "work.ome.zarr.journal", LabelArray(pyramid)) as journal:
        mask = Mask(Box(700, 800, 720, 830), np.ones((20, 30), bool), 0.9, 0.8)
        journal.accept(Plane.of(pyramid.shape), mask, class_name="nucleus")
        image = ViewerModel().add_image(np.zeros((1500, 1600), np.uint8), scale=(0.5, 0.5), units=("um", "um"))
        layer = factory.labels_of_pyramid(pyramid, image)
        assert layer.multiscale
        path = tmp_path / f"saved{ending}"
        assert saved(layer, path) == [str(path)]
    if ending == ".geojson":
        (feature,) = json.loads(path.read_text())["features"]
        assert feature["properties"]["classification"]["name"] == "nucleus"
        assert feature["properties"]["measurements"]["Area um^2"] == 150
        assert feature["geometry"]["coordinates"][0][0] == [800, 700]
    if ending == ".csv":
        assert "nucleus" in path.read_text()
    if ending in (".ome.zarr", ".zarr", ".tif", ".ome.tif"):
        opened = open_image(path, as_labels=True)
        assert np.argwhere(np.asarray(opened.levels[0])).tolist()[0] == [700, 800]
        assert opened.spacing == (0.5, 0.5)


def test_labels_are_not_saved_over_themselves(tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "work.ome.zarr", (1500, 1600))
    image = ViewerModel().add_image(np.zeros((1500, 1600), np.uint8))
    with pytest.raises(OutputError, match="is the label image itself"):
        saved(factory.labels_of_pyramid(pyramid, image), tmp_path / "work.ome.zarr")


def test_labels_of_a_volume_that_a_reader_has_turned_lie_on_its_file(tmp_path, labels):
    affine = np.array([[-0.7, 0.05, 0, 90], [-0.05, -0.7, 0.1, 120], [0, -0.1, 2.5, -300], [0, 0, 0, 1.0]])
    file = nibabel.Nifti1Image(labels.T, affine)
    # As napari-nifti does it: turned to the right, front and head, with that affine matrix and the header of the file.
    shown = nibabel.as_closest_canonical(file)
    metadata = {"header": file.header, "affine": shown.affine, "coordinate_system": "RAS+"}
    saved(Labels(np.asarray(shown.dataobj).T, scale=(-2.5, -0.7, -0.7), metadata=metadata), tmp_path / "labels.nii")
    written = nibabel.load(tmp_path / "labels.nii")
    assert np.array_equal(np.asarray(written.dataobj), np.asarray(file.dataobj))
    assert np.allclose(written.affine, file.affine, atol=1e-6)
