"""The exports of a session: its objects, classes and channels, and what the user is told."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from napari_sam.core.geometry import Plane
from napari_sam.exports.options import ExportOptions
from napari_sam.testing.plugin import disc, make_controller, propose, random_image


@pytest.fixture
def controller(notes, tmp_path):
    controller = make_controller(random_image(), notes.append, tmp_path / "labels.ome.zarr")
    for plane, center, name in ((0, (10, 10), "nucleus"), (0, (25, 30), None), (2, (10, 10), "nucleus")):
        controller.session.class_name = name
        propose(controller, disc(*center, 6), Plane.of((3, 40, 48), plane))
        controller.commits.accept()
    yield controller
    controller.close()


def exported(controller, path, **options):
    """Export, and return the number of objects that the user is told."""
    done = []
    controller.exporter.export(path, ExportOptions(**options), done.append)
    return done[0].count if done else None


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_objects_a_class_or_some_labels_are_exported(controller, tmp_path):
    assert exported(controller, tmp_path / "all.csv") == 3
    assert [row["class"] for row in rows_of(tmp_path / "all.csv")] == ["nucleus", "", "nucleus"]
    assert exported(controller, tmp_path / "class.geojson", class_name="nucleus") == 2
    assert exported(controller, tmp_path / "some.geojson", labels=(2,)) == 1
    features = json.loads((tmp_path / "some.geojson").read_text())["features"]
    assert [feature["geometry"]["plane"]["z"] for feature in features] == [0]
    assert controller.session.status.startswith("1 object exported to ")


def test_the_table_has_the_intensities_of_every_channel_by_its_name(controller, tmp_path):
    other = random_image(7)
    controller.viewer.add_image(other, name="membrane")
    controller.viewer.add_image(other, name="elsewhere", translate=(0, 5, 5))
    exported(controller, tmp_path / "table.csv")
    first = rows_of(tmp_path / "table.csv")[0]
    mask = disc(10, 10, 6)
    assert float(first["mean_membrane"]) == pytest.approx(other[0][mask.box.slices][mask.pixels].mean())
    assert float(first["mean_image"]) == pytest.approx(random_image()[0][mask.box.slices][mask.pixels].mean())
    assert "mean_elsewhere" not in first


def test_formats_that_suit_the_image_are_offered(controller):
    endings = [form.suffixes[0] for form in controller.exporter.formats()]
    assert endings[0] == ".csv"
    assert ".nii.gz" in endings
    assert not {".gpkg", ".sa1b.json"} & set(endings)


def test_a_file_is_named_after_image_and_labels_and_lies_beside_the_image(controller, tmp_path):
    form = controller.exporter.formats()[0]
    assert controller.exporter.suggested_path(form, tmp_path).name == "image labels.csv"
    controller.session.image.name = "label"
    assert controller.exporter.suggested_path(form, tmp_path).name == "labels.csv"
    assert controller.exporter.suggested_path(form, tmp_path).parent == tmp_path


def test_an_export_that_fails_is_told_in_one_sentence(controller, tmp_path, notes):
    assert exported(controller, tmp_path / "no" / "x.docx") is None
    assert len(notes) == 1
    assert "unknown ending" in notes[0]
    assert exported(controller, tmp_path / "labels.ome.zarr") is None
    assert "is the label image itself" in notes[1]
    assert not controller.exporter.is_running


def test_there_is_nothing_to_export_before_the_first_object(notes, tmp_path):
    controller = make_controller(np.zeros((20, 20), np.uint8), notes.append)
    assert controller.exporter.formats() == []
    assert exported(controller, tmp_path / "x.csv") is None
    assert notes == ["There are no objects to export: accept one first."]
    controller.close()
