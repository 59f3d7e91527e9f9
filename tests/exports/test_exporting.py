"""Exports are whole or not there, never over an input, and refused in one sentence."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_sam import Segmenter, export_labels
from napari_sam.errors import ImageError, LabelsError, NapariSamError, OutputError
from napari_sam.exports.exporting import source_of
from napari_sam.exports.formats import FORMATS, SUFFIXES, suitable_formats
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.files import libraries
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.volume import Volume

# A map in pixels of a meter, for the formats that need one.
MAP = Georeference(None, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
# Tracks need a time axis, and a segmentation a DICOM image.
ENDINGS = sorted(set(SUFFIXES) - {"_res", ".geff", ".tracks.csv", ".dcm"})


@pytest.fixture
def volume(scene):
    from dataclasses import replace

    return replace(Volume.of(np.zeros(scene.shape, np.uint8)), georeference=MAP)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_written_and_replaced_only_on_request(tmp_path, scene, volume, ending):
    path = tmp_path / f"objects{ending}"
    assert export_labels(scene, path, image=volume).count == 8
    with pytest.raises(OutputError, match="exists already"):
        export_labels(scene, path, image=volume)
    assert export_labels(scene, path, image=volume, labels=[1, 3], overwrite=True).count == 2
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path, scene, volume, ending, monkeypatch):
    path = tmp_path / f"objects{ending}"
    export_labels(scene, path, image=volume)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    form = SUFFIXES[ending]
    write = type(form).write

    def fail(self, source, temporary, options):
        write(self, source, temporary, options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(form), "write", fail)
    with pytest.raises(OutputError, match=r"No space left.*disk full"):
        export_labels(scene, path, image=volume, overwrite=True)
    with pytest.raises(OutputError, match="No space left"):
        export_labels(scene, tmp_path / f"other{ending}", image=volume)
    assert {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()} == before


def test_labels_that_cannot_be_read_leave_nothing(tmp_path, scene):
    class Damaged:
        shape, dtype = scene.shape, scene.dtype

        def __getitem__(self, key):
            raise OSError("the disk is gone")

        def __setitem__(self, key, value):
            raise OSError

    with pytest.raises(LabelsError, match=r"cannot be read \(the disk is gone\)"):
        export_labels(Damaged(), tmp_path / "objects.csv")
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
import numpy as np
from napari_sam import export_labels
from napari_sam.exports.formats import SUFFIXES
form = SUFFIXES[sys.argv[2]]
write = type(form).write
def killed(self, source, path, options):
    write(self, source, path, options)
    os.kill(os.getpid(), 9)
type(form).write = killed
labels = np.zeros((20, 20), np.uint8); labels[2:5, 2:5] = 1
export_labels(labels, sys.argv[1], overwrite=True)
"""


@pytest.mark.parametrize("ending", [".csv", ".ome.zarr"])
def test_a_killed_export_leaves_nothing_after_the_next_one(tmp_path, scene, ending):
    path = tmp_path / f"objects{ending}"
    assert subprocess.run([sys.executable, "-c", KILLED, str(path), ending], check=False).returncode == -9
    assert not path.exists()
    export_labels(scene, path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("form", [form for form in FORMATS if form.library is not None], ids=lambda form: form.name)
def test_a_missing_library_is_named_before_any_work(tmp_path, form, monkeypatch):
    monkeypatch.setattr(libraries, "is_installed", lambda name: False)
    package = form.library[1]
    with pytest.raises(
        OutputError, match=rf"^A file x{form.suffixes[0]} needs the library {package}: pip install {package}\.$"
    ):
        export_labels(None, tmp_path / f"x{form.suffixes[0]}")


def test_a_missing_shapely_is_named(tmp_path, scene, monkeypatch):
    monkeypatch.setattr(libraries, "is_installed", lambda name: name != "shapely")
    with pytest.raises(OutputError, match=r"pip install shapely\.$"):
        export_labels(scene, tmp_path / "x.geojson", simplify=1)
    export_labels(scene, tmp_path / "x.geojson")


def test_inputs_are_never_written_over(tmp_path, scene):
    labels, image = tmp_path / "labels.tif", tmp_path / "image.tif"
    tifffile.imwrite(labels, scene)
    tifffile.imwrite(image, scene.astype(np.uint8))
    for out in (labels, image):
        with pytest.raises(OutputError, match="itself"):
            export_labels(labels, out, image=image, overwrite=True)
    assert np.array_equal(tifffile.imread(labels), scene)


def test_labels_with_a_journal_are_not_replaced(tmp_path, scene, classified):
    with pytest.raises(OutputError, match="has a journal of its own"):
        export_labels(scene, classified, overwrite=True)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"labels": [2, 99]}, "There is no object 99"),
    ({"labels": "all"}, "labels must be a list"),
    ({"labels": [1.5]}, "whole number"),
    ({"class_name": "cell"}, "There is no journal"),
    ({"class_name": 3}, "must be a name"),
    ({"crs": "utm"}, "'utm' are unknown: use one of auto, image, wgs84, pixels"),
    ({"simplify": -1}, "from 0 on"),
    ({"simplify": "much"}, "from 0 on"),
    ({"image": np.zeros((7, 7))}, r"shape \(40, 60\) and the image \(7, 7\)"),
])  # fmt: skip
def test_wrong_arguments_are_refused_in_one_sentence(tmp_path, scene, arguments, message):
    with pytest.raises(NapariSamError, match=message) as raised:
        export_labels(scene, tmp_path / "x.csv", **arguments)
    assert str(raised.value).endswith(".")
    assert list(tmp_path.iterdir()) == []


def test_files_and_arrays_that_are_no_labels_are_refused(tmp_path, scene, classified):
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", np.full((40, 50), 0.5, np.float32))
    for given, message in (
        (tmp_path / "rgb.tif", "picture in color"),
        (tmp_path / "float.tif", "whole numbers"),
        (tmp_path / "none.tif", "There is no file"),
        (scene.astype(float), "whole numbers"),
        (None, "no labels to export"),
    ):
        with pytest.raises((LabelsError, ImageError), match=message):
            export_labels(given, tmp_path / "x.csv")
    with pytest.raises(OutputError, match=r"unknown ending: use one of \.coco\.json, \.csv"):
        export_labels(scene, tmp_path / "x.docx")
    with pytest.raises(LabelsError, match="No object has the class 'cell': there are =1\\+1, Zelle"):
        export_labels(classified, tmp_path / "x.csv", class_name="cell")
    with pytest.raises(OutputError, match="of one plane"):
        export_labels(np.ones((3, 9, 9), np.uint8), tmp_path / "x.sa1b.json")


def test_more_than_65535_objects_are_exported(tmp_path):
    labels = np.arange(70_000, dtype=np.uint32).reshape(200, 350)
    for ending in (".tif", ".ome.zarr", ".nii.gz", ".json", ".geojson"):
        assert export_labels(labels, tmp_path / f"x{ending}").count == 69_999
    assert tifffile.imread(tmp_path / "x.tif").max() == 69_999


def test_the_segmenter_exports_its_objects_with_its_image(tmp_path, fake_predictor):
    pixels = np.zeros((256, 256), np.uint8)
    segmenter = Segmenter(pixels, model=fake_predictor, journal=tmp_path / "work.journal", spacing=(2, 2))
    segmenter.accept(segmenter.segment(points=[(100, 120)]), class_name="cell")
    segmenter.accept(segmenter.segment(points=[(30, 30)]))
    assert segmenter.export(tmp_path / "all.csv").count == 2
    assert segmenter.export(tmp_path / "cells.csv", class_name="cell").count == 1
    assert "area_units2" in (tmp_path / "all.csv").read_text()
    segmenter.close()


def test_formats_are_offered_by_what_fits_the_image(scene, volume):
    def first(source):
        return [form.suffixes[0] for form in suitable_formats(source)]

    plain, on_map = ExportSource(scene), source_of(scene, volume, ExportOptions())
    assert first(plain)[:2] == [".csv", ".geojson"]
    assert ".gpkg" not in first(plain)
    assert first(on_map)[:2] == [".gpkg", ".geojson"]
    assert ".sa1b.json" not in first(ExportSource(np.ones((3, 9, 9), np.uint8)))


def test_formats_state_what_they_hold_and_no_ending_is_taken_twice():
    endings = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(endings) == len(set(endings))
    assert all(form.name and form.holds and form.loses and form.place for form in FORMATS)


def test_an_ome_tiff_has_pixel_sizes_also_on_a_map(tmp_path, scene, volume):
    export_labels(scene, tmp_path / "labels.ome.tif", image=volume)
    with tifffile.TiffFile(tmp_path / "labels.ome.tif") as file:
        assert file.is_ome
        assert not file.is_geotiff
        assert np.array_equal(file.asarray(), scene)


@pytest.mark.parametrize("ending", [".csv", ".json", ".geojson"])
def test_labels_of_64_bits_are_refused_and_none_is_written_under_another_number(tmp_path, ending):
    with pytest.raises(LabelsError, match="more than 63 bits"):
        export_labels(np.full((2, 3), 2**63 + 1, np.uint64), tmp_path / f"a{ending}")
    assert not any(tmp_path.iterdir())
