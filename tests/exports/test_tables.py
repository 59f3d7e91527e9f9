"""Tables: every number against numpy, in memory and in blocks, and no formula for spreadsheets."""

from __future__ import annotations

import csv
import time

import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.measure import regionprops_table

from napari_sam import export_labels
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tables import measurements
from napari_sam.exports.tables.measurements import Measuring
from napari_sam.images.volume import Volume

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed: pip install pyarrow")


SHAPES = ("perimeter", "axis_major_length", "axis_minor_length", "eccentricity", "solidity", "orientation")


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(row, names):
    return [float(row[name]) for name in names]


@pytest.fixture
def image(scene):
    rng = np.random.default_rng(5)
    return rng.integers(0, 60_000, (*scene.shape, 5)).astype(np.uint16)


def test_sizes_places_and_intensities_are_those_of_the_pixels(tmp_path, scene, image):
    volume = Volume.of(image, channel_axis=2, spacing=(0.5, 0.25))
    export_labels(scene, tmp_path / "table.csv", image=volume)
    rows = rows_of(tmp_path / "table.csv")
    assert [int(row["label"]) for row in rows] == list(range(1, 9))
    for row in rows:
        at = np.argwhere(scene == int(row["label"]))
        assert int(row["area_px"]) == len(at)
        assert float(row["area_units2"]) == pytest.approx(len(at) * 0.125)
        center = at.mean(axis=0)
        assert numbers(row, ("centroid_y_px", "centroid_x_px")) == pytest.approx(center)
        assert numbers(row, ("centroid_y_units", "centroid_x_units")) == pytest.approx(center * [0.5, 0.25])
        edges = [*at.min(axis=0), *(at.max(axis=0) + 1)]
        assert numbers(row, ("bbox_y_min", "bbox_x_min", "bbox_y_max", "bbox_x_max")) == edges
        for channel in range(5):
            values = image[..., channel][scene == int(row["label"])]
            found = numbers(row, (f"mean_{channel}", f"min_{channel}", f"max_{channel}"))
            assert found == pytest.approx([values.mean(), values.min(), values.max()])


def test_a_table_of_blocks_on_disk_is_that_of_the_whole_array(tmp_path, scene, image, monkeypatch):
    big = np.zeros((600, 700), np.uint32)
    for number, (row, col) in enumerate(np.ndindex(14, 11)):
        big[row * 42 : row * 42 + 40, col * 62 : col * 62 + 60] = np.where(
            scene, scene.astype(np.uint32) + 8 * number + 70_000, 0
        )
    pixels = np.tile(image[..., 0], (16, 13))[:600, :700]
    store = zarr.create_array(tmp_path / "labels.zarr", shape=big.shape, chunks=(64, 64), dtype="uint32")
    store[...] = big
    stored = zarr.create_array(tmp_path / "image.zarr", shape=big.shape, chunks=(50, 80), dtype="uint16")
    stored[...] = pixels
    export_labels(big, tmp_path / "whole.csv", image=pixels)
    monkeypatch.setattr(measurements, "MAX_GROUP_PIXELS", 5000)
    export_labels(store, tmp_path / "blocks.csv", image=Volume.of(stored))
    whole = sorted(map(str, rows_of(tmp_path / "whole.csv")))
    assert whole == sorted(map(str, rows_of(tmp_path / "blocks.csv")))
    assert len(whole) == 14 * 11 * 8


def test_a_body_in_several_planes_has_one_row_and_one_at_several_times_a_row_for_each(tmp_path):
    labels = np.zeros((3, 4, 20, 20), np.uint8)
    labels[0, 1:3, 4:8, 5:9] = labels[2, 1, 4:8, 5:10] = 1
    labels[2, 0, 0, 0] = 7
    volume = Volume.of(np.ones(labels.shape, np.float32), spacing=(1, 2, 0.5, 0.5))
    export_labels(labels, tmp_path / "table.csv", image=volume)
    rows = rows_of(tmp_path / "table.csv")
    assert [(row["label"], row["t"], row["volume_px"]) for row in rows] == [
        ("1", "0", "32"), ("1", "2", "20"), ("7", "2", "1"),
    ]  # fmt: skip
    assert numbers(rows[0], ("volume_units3", "centroid_z_units", "bbox_z_min", "bbox_z_max")) == [16, 3, 1, 3]


def test_pixels_without_data_do_not_count(tmp_path):
    labels = np.ones((4, 4), np.uint8)
    labels[2:] = 2
    pixels = np.full((4, 4), np.nan, np.float32)
    pixels[0] = [1, 2, 3, 6]
    export_labels(labels, tmp_path / "table.csv", image=pixels)
    first, second = rows_of(tmp_path / "table.csv")
    assert numbers(first, ("mean", "min", "max")) == [3, 1, 6]
    assert (second["mean"], second["min"], second["max"]) == ("", "", "")
    export_labels(labels, tmp_path / "nodata.csv", image=Volume.of(np.array([[0, 5, 5, 0]] * 4), nodata=0))
    assert numbers(rows_of(tmp_path / "nodata.csv")[0], ("mean", "min", "max")) == [5, 5, 5]


def test_classes_and_scores_are_in_the_table_and_no_spreadsheet_executes_them(tmp_path, classified):
    export_labels(classified, tmp_path / "table.csv")
    assert [row["class"] for row in rows_of(tmp_path / "table.csv")] == ["Zelle „groß“", "'=1+1", "", "Zelle „groß“"]
    assert [float(row["predicted_iou"]) for row in rows_of(tmp_path / "table.csv")] == pytest.approx(
        [0.6, 0.7, 0.8, 0.9]
    )
    for sign in "=+-@\t\r":
        assert measurements_quoted(sign) == f"'{sign}cmd"


def measurements_quoted(sign):
    from napari_sam.exports.tables.table_files import _quoted

    return _quoted(f"{sign}cmd")


def test_parquet_has_the_same_columns_with_their_types(tmp_path, classified):
    export_labels(classified, tmp_path / "table.csv", image=np.arange(1200.0).reshape(30, 40))
    export_labels(classified, tmp_path / "table.parquet", image=np.arange(1200.0).reshape(30, 40))
    table = parquet.read_table(tmp_path / "table.parquet").to_pydict()
    rows = rows_of(tmp_path / "table.csv")
    assert list(table) == list(rows[0])
    assert table["class"] == ["Zelle „groß“", "=1+1", None, "Zelle „groß“"]
    for name, values in table.items():
        if name != "class":
            assert values == pytest.approx([float(row[name]) for row in rows], nan_ok=True)


def test_a_table_of_nothing_has_its_columns(tmp_path, scene, image):
    volume = Volume.of(image, channel_axis=2)
    export_labels(scene, tmp_path / "all.csv", image=volume)
    export_labels(scene * 0, tmp_path / "none.csv", image=volume)
    export_labels(scene * 0, tmp_path / "none.parquet", image=volume)
    first = (tmp_path / "all.csv").read_text().splitlines()[0]
    assert (tmp_path / "none.csv").read_text().splitlines() == [first]
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_labels_of_any_size_and_sign_are_measured(tmp_path):
    labels = np.zeros((10, 10), np.int64)
    labels[0, 0], labels[1], labels[2] = -5, 2**31 + 7, 2**40
    export_labels(labels, tmp_path / "table.csv")
    assert [row["label"] for row in rows_of(tmp_path / "table.csv")] == [str(2**31 + 7), str(2**40)]


def blobs(seed, spread, shape=(90, 110)):
    """Return objects of all forms: with holes, in parts, of one pixel, one row and one column."""
    rng = np.random.default_rng(seed)
    waves = ndimage.gaussian_filter(rng.normal(size=shape), spread)
    labels, _ = ndimage.label(waves > 0.3 * waves.std())
    labels[rng.random(shape) < 0.05] = 0
    labels = (labels + 1) // 2  # Two parts each.
    labels[:, 0] = labels[0, :] = 0
    labels[5, 0], labels[0, 20:40], labels[10:60, 0] = 2000, 2001, 2002
    return labels.astype(np.uint16)


@pytest.mark.parametrize("spread", [0.7, 2, 5])
def test_shapes_are_those_of_scikit_image(tmp_path, spread):
    labels = blobs(3, spread)
    export_labels(labels, tmp_path / "table.csv")
    with np.errstate(divide="ignore", invalid="ignore"):
        wanted = regionprops_table(labels, properties=["label", *SHAPES])
    rows = rows_of(tmp_path / "table.csv")
    assert [int(row["label"]) for row in rows] == wanted["label"].tolist()
    for name in SHAPES:
        column = f"{name}_px" if f"{name}_px" in rows[0] else name
        assert [float(row[column]) for row in rows] == pytest.approx(wanted[name].tolist(), abs=1e-6)


def test_ninety_thousand_objects_are_measured_at_once():
    labels = np.kron(np.arange(1, 90_001).reshape(300, 300), np.ones((10, 10), np.int64))
    labels[::10] = labels[:, ::10] = 0
    begin = time.process_time()
    table = Measuring(ExportSource(labels), ExportOptions()).table()
    # One by one they would take three minutes of the processor.
    assert time.process_time() - begin < 30
    assert table["label"].tolist() == list(range(1, 90_001))
    assert (table["area_px"] == 81).all()
    assert (table["solidity"] == 1).all()
    assert (table["perimeter_px"] == 32).all()
    assert np.array_equal(table["centroid_y_px"], np.repeat(np.arange(300) * 10 + 5, 300))
