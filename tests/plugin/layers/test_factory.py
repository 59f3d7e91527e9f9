"""New labels carry the place and the metadata of their image, in memory and on disk."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.layers import Image

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.images.opening import open_image
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.reader import read_layers

HEADER = {"nifti_header": object(), "affine": np.diag([-1.0, -1, 2, 1])}
PLACE = {
    "scale": (2, 0.5, -0.25),
    "translate": (3, 100, -200),
    "rotate": np.eye(3),
    "affine": np.diag([1.0, 2, 2, 1]),
    "axis_labels": ("z", "y", "x"),
    "units": ("micrometer",) * 3,
}


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(own_layers, "label_folder", lambda: tmp_path / "made")
    monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 1000)


def pyramid_on(image):
    return own_layers.pyramid_maker(own_layers.label_path(image), image)()


def test_label_colors_are_bright_unlike_the_preview_and_differ_from_the_next_ones():
    from napari.utils.colormaps.standardize_color import transform_color

    labels = own_layers.make_labels(Image(np.zeros((60, 70), np.uint8)))
    colors = np.array([labels.get_color(label)[:3] for label in range(1, 200)])
    assert colors.max(axis=1).min() > 0.7
    assert np.abs(colors - transform_color(own_layers.PREVIEW_COLOR)[0, :3]).max(axis=1).min() > 0.2
    for step in (1, 2, 3):
        assert np.abs(colors[step:] - colors[:-step]).max(axis=1).min() > 0.15
    assert labels.get_color(0) is None or labels.get_color(0)[3] == 0


def test_labels_in_memory_have_the_metadata_of_the_image_that_writers_look_for():
    image = Image(np.zeros((3, 60, 70), np.uint8), metadata={**HEADER, own_layers.PYRAMID: 1}, **PLACE)
    labels = own_layers.make_labels(image)
    assert labels.metadata == HEADER
    assert adapters.same_place(labels, image)
    assert (labels.units, labels.axis_labels) == (image.units, image.axis_labels)
    labels.metadata["more"] = 1
    assert "more" not in image.metadata


def test_labels_of_a_multiscale_image_have_its_metadata_and_their_pyramid(on_disk):
    image = Image([np.zeros((3, 600, 700), np.uint8), np.zeros((3, 300, 350), np.uint8)], metadata=HEADER, **PLACE)
    pyramid = pyramid_on(image)
    labels = own_layers.labels_of_pyramid(pyramid, image)
    assert labels.metadata == {**HEADER, own_layers.PYRAMID: pyramid}
    assert labels_layer.pyramid_of(labels) is pyramid
    assert adapters.same_place(labels, image)


def test_labels_on_disk_of_axes_in_several_units_have_all_lengths_in_one(on_disk):
    place = {**PLACE, "affine": np.eye(4), "units": ("nanometer", "micrometer", "millimeter")}
    image = Image(np.zeros((3, 600, 700), np.uint8), **place)
    opened = open_image(pyramid_on(image).path)
    factor = np.array([1e-6, 1e-3, 1])
    assert opened.unit == "millimeter"
    np.testing.assert_allclose(opened.spacing, np.array(PLACE["scale"]) * factor)
    np.testing.assert_allclose(opened.origin, np.array(PLACE["translate"]) * factor)


def test_labels_on_disk_store_all_transforms_of_the_image_together_with_their_signs(on_disk):
    image = Image(np.zeros((3, 600, 700), np.uint8), **PLACE)
    opened = open_image(pyramid_on(image).path)
    assert opened.axes == "zyx"
    assert opened.spacing == (2, 1, -0.5)
    assert opened.origin == (3, 200, -400)
    assert opened.unit == "micrometer"


def test_a_rotated_image_keeps_its_scale_and_position_on_disk(on_disk):
    image = Image(np.zeros((600, 700), np.uint8), scale=(2, 2), translate=(5, 6), rotate=30)
    pyramid = pyramid_on(image)
    opened = open_image(pyramid.path)
    assert (opened.spacing, opened.origin) == ((2, 2), (5, 6))
    assert adapters.same_place(own_layers.labels_of_pyramid(pyramid, image), image)


@pytest.mark.parametrize(
    ("labels", "axes"),
    [
        (("z", "t", "y", "x"), "ztyx"),
        (("time", "depth", "row", "column"), "tzyx"),
        (("y", "x", "z", "t"), "yxzt"),
        (("-4", "-3", "-2", "-1"), "tzyx"),
    ],
)
def test_labels_on_disk_keep_the_order_of_the_axes_of_the_layer(on_disk, labels, axes):
    shape = tuple({"y": 600, "x": 700}.get(letter, 2) for letter in axes)
    image = Image(np.zeros(shape, np.uint8), axis_labels=labels)
    pyramid = pyramid_on(image)
    assert pyramid.shape == shape
    assert open_image(pyramid.path).axes == axes
    plane = Plane.of(shape, (1, 0), (axes.index("y"), axes.index("x")))
    layer = own_layers.labels_of_pyramid(pyramid, image)
    assert adapters.same_place(layer, image)
    box = Box(500, 600, 520, 640)
    pyramid[plane.slicer(box)] = plane.oriented(Mask(box, np.ones((20, 40), bool)).pixels).astype(np.uint16)
    assert pyramid[plane.slicer(Box(510, 610, 511, 611))].item() == 1


def test_an_image_file_lies_where_it_says_and_so_do_its_labels(tmp_path):
    scale, start = [2.0, 0.5, 0.25], [-7.0, 100.0, 200.0]
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", data=np.zeros((3, 60, 80), np.uint8))
    moves = [{"type": "scale", "scale": scale}, {"type": "translation", "translation": start}]
    axes = [{"name": letter, "type": "space", "unit": "micrometer"} for letter in "zyx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": moves}]}],
    }
    LabelPyramid.create(
        tmp_path / "l.ome.zarr", (3, 60, 80), axes="zyx", spacing=scale, translation=start, unit="micrometer"
    )
    ((_, image, _),) = read_layers(str(tmp_path / "a.zarr"))
    ((_, labels, kind),) = read_layers(str(tmp_path / "l.ome.zarr"))
    assert kind == "labels"
    for options in (image, labels):
        assert (options["scale"], options["translate"]) == (scale, start)
        assert options["axis_labels"] == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("unit", "shown"), [("nanometer", "nanometer"), ("furlongs per lamp", "pixel"), ("s", "pixel")]
)
def test_a_unit_that_napari_does_not_know_is_left_out(tmp_path, unit, shown):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", data=np.zeros((60, 80), np.uint8))
    axes = [{"name": letter, "type": "space", "unit": unit} for letter in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2, 2]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    ((data, options, _),) = read_layers(str(tmp_path / "a.zarr"))
    assert [str(unit) for unit in Image(data, **options).units] == [shown] * 2


def test_axes_have_their_names_without_sizes(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=np.zeros((3, 60, 80), np.uint8), dimension_names=["t", "y", "x"])
    ((_, options, _),) = read_layers(str(tmp_path / "a.zarr"))
    assert options["axis_labels"] == ["t", "y", "x"]
    assert "scale" not in options
