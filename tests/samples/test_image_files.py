"""The real images of the samples: small, under a license that is named, and read by the package's own reader."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_sam import Segmenter
from napari_sam.images.opening import open_image
from napari_sam.samples.image_files import ABDOMEN_CT, DATA, LANDSAT, LANDSAT_PIXEL_M

IMAGES = sorted(path for path in DATA.iterdir() if path.suffix == ".tif")
SQUARE_CM = 0.15 * 0.15
HECTARES = LANDSAT_PIXEL_M**2 / 10_000


def test_the_package_ships_exactly_the_images_that_it_names():
    assert set(IMAGES) == {ABDOMEN_CT, LANDSAT}


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_an_image_is_small_and_its_source_and_license_are_noted(path):
    assert path.stat().st_size <= 1_000_000
    note = (DATA / "README.md").read_text("utf-8").split(f"## {path.name}\n")[1].split("\n## ")[0]
    for entry in ("Source", "License", "Changes"):
        assert f"- **{entry}**: " in note


def test_the_license_that_asks_for_its_text_beside_the_data_has_it_there():
    assert "LICENSE-Apache-2.0.txt" in (DATA / "README.md").read_text("utf-8")
    assert "Apache License" in (DATA / "LICENSE-Apache-2.0.txt").read_text("utf-8")[:200]


def test_the_ct_opens_with_the_size_of_its_voxels_and_the_densities_of_a_body():
    opened = open_image(ABDOMEN_CT)
    assert (opened.axes, opened.spacing, opened.unit) == ("zyx", (3.0, 1.5, 1.5), "millimeter")
    volume = np.asarray(opened.levels[0])
    assert (volume.shape, volume.dtype) == ((24, 160, 224), np.int16)
    assert volume[0, :8, :8].mean() < -900, "air beside the body"
    liver, lung = volume[20, 50:70, 50:70], volume[20, 100:120, 50:70]
    assert 60 < liver.mean() < 140
    assert -950 < lung.mean() < -700


def test_the_satellite_image_opens_with_its_place_on_the_earth():
    pytest.importorskip("rasterio")
    from rasterio.warp import transform

    opened = open_image(LANDSAT)
    assert (opened.axes, opened.levels[0].shape, opened.levels[0].dtype) == ("yxs", (600, 600, 3), np.uint8)
    place = opened.georeference
    assert place.transform == (LANDSAT_PIXEL_M, 0.0, 734_145.0, 0.0, -LANDSAT_PIXEL_M, -2_791_095.0)
    (longitude,), (latitude,) = transform(place.crs, "EPSG:4326", [734_145.0], [-2_791_095.0])
    assert (longitude, latitude) == pytest.approx((-54.676, -25.218), abs=0.001)


def test_the_satellite_image_opens_without_rasterio(monkeypatch):
    with_rasterio = np.asarray(open_image(LANDSAT).levels[0])
    monkeypatch.setitem(sys.modules, "rasterio", None)
    opened = open_image(LANDSAT)
    assert opened.georeference.crs == "EPSG:32621"
    assert opened.georeference.transform == (LANDSAT_PIXEL_M, 0.0, 734_145.0, 0.0, -LANDSAT_PIXEL_M, -2_791_095.0)
    assert opened.axes == "yxs"
    assert np.array_equal(np.asarray(opened.levels[0]), with_rasterio)


# The areas are those of the organs by a threshold of their density, and 20 % less and more.
@pytest.mark.parametrize(
    ("organ", "point", "area_cm2", "density_hu"),
    [
        ("right kidney", (0, 105, 83), (8.7, 13.1), (100, 260)),
        ("liver", (20, 60, 60), (115, 174), (60, 140)),
    ],
)
def test_one_click_outlines_an_organ_of_the_ct(organ, point, area_cm2, density_hu):
    opened = open_image(ABDOMEN_CT)
    segmenter = Segmenter(np.asarray(opened.levels[0]), contrast_limits=(-160, 240), spacing=opened.spacing)
    plane, *click = point
    mask = segmenter.segment(points=[tuple(click)], plane=plane).best
    area = np.count_nonzero(mask.pixels) * SQUARE_CM
    assert area_cm2[0] < area < area_cm2[1], organ
    top, left = mask.box.top, mask.box.left
    height, width = mask.pixels.shape
    values = opened.levels[0][plane, top : top + height, left : left + width][mask.pixels]
    assert density_hu[0] < np.median(values) < density_hu[1], organ


# The areas are those of a flood fill by color, and 20 % less and more.
@pytest.mark.parametrize(
    ("field", "point", "hectares"),
    [
        ("pale field between woods", (145, 299), (46, 69)),
        ("red field at the shore", (232, 266), (97, 146)),
        ("light green field", (30, 310), (57, 86)),
    ],
)
def test_one_click_outlines_a_field_of_the_satellite_image(field, point, hectares):
    mask = Segmenter(LANDSAT).segment(points=[point]).best
    assert hectares[0] < np.count_nonzero(mask.pixels) * HECTARES < hectares[1], field
