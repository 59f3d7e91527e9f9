"""GeoJSON in pixels, as QuPath reads it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rasterio.features import rasterize

from napari_sam import export_labels
from napari_sam.exports.polygons import geojson
from napari_sam.images.volume import Volume

shapely = pytest.importorskip("shapely", reason="shapely is not installed: pip install shapely")


def features(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["type"] == "FeatureCollection"
    return data["features"]


def drawn(found, shape):
    shapes = [(feature["geometry"], feature["properties"]["object"]) for feature in found]
    return rasterize(shapes, out_shape=shape, dtype="int32") if shapes else np.zeros(shape, np.int32)


def test_polygons_in_pixels_hold_exactly_the_pixels_of_every_object(tmp_path, scene):
    path = tmp_path / "objects.geojson"
    assert export_labels(scene, path).count == 8
    found = features(path)
    assert np.array_equal(drawn(found, scene.shape), scene)
    assert all(shapely.geometry.shape(feature["geometry"]).is_valid for feature in found)
    kinds = {feature["properties"]["object"]: feature["geometry"]["type"] for feature in found}
    assert kinds == {label: "MultiPolygon" if label in (5, 6) else "Polygon" for label in range(1, 9)}
    assert len(found[0]["geometry"]["coordinates"]) == 2, "the hole of the ring"
    assert "crs" not in json.loads(path.read_text())


def test_qupath_gets_types_classes_colors_and_measurements(tmp_path, classified):
    volume = Volume.of(np.zeros((30, 40), np.uint8), spacing=(0.5, 0.5))
    export_labels(classified, tmp_path / "objects.geojson", image=volume)
    first, second, third, _ = (feature["properties"] for feature in features(tmp_path / "objects.geojson"))
    assert first["objectType"] == "annotation"
    assert first["classification"]["name"] == "Zelle „groß“"
    assert second["classification"]["name"] == "=1+1"
    assert "classification" not in third
    red, green, blue = first["classification"]["color"]
    assert all(isinstance(part, int) and 0 <= part <= 255 for part in (red, green, blue))
    assert first["measurements"] == {
        "Area px^2": 20, "Area units^2": 5.0, "Predicted IoU": pytest.approx(0.6), "Stability": 0.75,
    }  # fmt: skip


def test_objects_of_a_stack_are_polygons_of_its_planes(tmp_path):
    labels = np.zeros((2, 3, 12, 14), np.uint8)
    labels[0, 1:, 2:5, 3:7] = 1
    labels[1, 2, 6:9, 3:7] = 2
    export_labels(labels, tmp_path / "objects.geojson")
    planes = [(f["properties"]["object"], f["geometry"]["plane"]) for f in features(tmp_path / "objects.geojson")]
    assert planes == [(1, {"c": -1, "z": 1, "t": 0}), (1, {"c": -1, "z": 2, "t": 0}), (2, {"c": -1, "z": 2, "t": 1})]


def test_many_objects_are_detections(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(geojson, "MAX_ANNOTATIONS", 7)
    export_labels(scene, tmp_path / "objects.geojson")
    assert {f["properties"]["objectType"] for f in features(tmp_path / "objects.geojson")} == {"detection"}


def test_labels_without_objects_are_a_file_without_features(tmp_path):
    export_labels(np.zeros((9, 9), np.uint8), tmp_path / "objects.geojson")
    assert features(tmp_path / "objects.geojson") == []


def test_a_choice_of_objects_leaves_the_others_out(tmp_path, classified, scene):
    export_labels(scene, tmp_path / "some.geojson", labels=[2, 5])
    assert np.array_equal(drawn(features(tmp_path / "some.geojson"), scene.shape), scene * np.isin(scene, [2, 5]))
    export_labels(classified, tmp_path / "class.geojson", class_name="Zelle „groß“")
    assert [f["properties"]["object"] for f in features(tmp_path / "class.geojson")] == [1, 4]
