"""COCO and SA-1B: run lengths as pycocotools reads them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_sam import Segmenter, export_labels
from napari_sam.exports.instances import run_lengths as module
from napari_sam.exports.instances.run_lengths import run_lengths
from napari_sam.exports.source import ExportSource

mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed: pip install pycocotools")
# numpy's, on pycocotools' own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def drawn(annotations, shape, key="object"):
    labels = np.zeros(shape, np.int64)
    for annotation in annotations:
        pixels = mask.decode(annotation["segmentation"]).astype(bool)
        assert annotation["area"] == pixels.sum() == mask.area(annotation["segmentation"])
        assert annotation["bbox"] == mask.toBbox(annotation["segmentation"]).tolist()
        labels[pixels] = annotation[key]
    return labels


@given(arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 3)))
def test_run_lengths_of_any_labels_are_those_of_pycocotools(labels):
    for plane in ExportSource(labels).planes():
        for runs in run_lengths(plane):
            theirs = mask.encode(np.asfortranarray(labels == runs.label, np.uint8))
            assert runs.text.encode() == theirs["counts"]


def test_annotations_hold_exactly_the_pixels_of_every_object(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(module, "MAX_GROUP_PIXELS", 100)
    export_labels(scene, tmp_path / "objects.json")
    data = read(tmp_path / "objects.json")
    assert np.array_equal(drawn(data["annotations"], scene.shape), scene)
    assert data["images"] == [{"id": 1, "file_name": "image", "width": 60, "height": 40}]
    assert data["categories"] == [{"id": 1, "name": "object", "supercategory": ""}]
    assert [annotation["id"] for annotation in data["annotations"]] == list(range(1, 9))


def test_classes_are_categories_and_scores_are_kept(tmp_path, classified):
    export_labels(classified, tmp_path / "objects.coco.json")
    data = read(tmp_path / "objects.coco.json")
    names = {category["id"]: category["name"] for category in data["categories"]}
    found = [(names[each["category_id"]], each["score"]) for each in data["annotations"]]
    kinds = ["Zelle „groß“", "=1+1", "object", "Zelle „groß“"]
    assert found == [(kind, pytest.approx(score)) for kind, score in zip(kinds, (0.6, 0.7, 0.8, 0.9), strict=True)]


def test_every_plane_of_a_stack_is_an_image(tmp_path):
    labels = np.zeros((4, 10, 12), np.uint8)
    labels[1, 2:5, 3:7] = labels[3, 2:5, 3:8] = 1
    export_labels(labels, tmp_path / "objects.json")
    data = read(tmp_path / "objects.json")
    planes = {image["id"]: image["z"] for image in data["images"]}
    assert [planes[each["image_id"]] for each in data["annotations"]] == [1, 3]


def test_pycocotools_loads_the_file(tmp_path, classified, capsys):
    from pycocotools.coco import COCO

    export_labels(classified, tmp_path / "objects.json")
    coco = COCO(str(tmp_path / "objects.json"))
    capsys.readouterr()
    (number,) = coco.getCatIds(catNms=["=1+1"])
    (annotation,) = coco.loadAnns(coco.getAnnIds(catIds=[number]))
    assert coco.annToMask(annotation).sum() == annotation["area"]


def test_sa1b_has_scores_and_the_points_that_were_clicked(tmp_path, fake_predictor):
    segmenter = Segmenter(np.zeros((256, 256), np.uint8), model=fake_predictor, journal=tmp_path / "work.journal")
    segmenter.accept(segmenter.segment(points=[(100, 120)]))
    segmenter.export(tmp_path / "objects.sa1b.json")
    segmenter.close()
    data = read(tmp_path / "objects.sa1b.json")
    (annotation,) = data["annotations"]
    assert np.array_equal(drawn([annotation], (256, 256), "id"), segmenter.labels)
    assert annotation["point_coords"] == [[120.0, 100.0]]
    assert 0 <= annotation["predicted_iou"] <= 1
    assert annotation["crop_box"] == [0, 0, 256, 256]
    assert (data["image"]["width"], data["image"]["height"]) == (256, 256)
