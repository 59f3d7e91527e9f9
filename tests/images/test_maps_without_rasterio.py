"""Images on a map where rasterio is missing: the tags of usual files are read, and what is lost of others is said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import tifffile

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install rasterio")

import rasterio
from affine import Affine
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS

from napari_sam import cli
from napari_sam.exchange import label_output
from napari_sam.exchange.label_output import write_label_image
from napari_sam.files.libraries import MissingLibraryWarning
from napari_sam.images.opening import open_image
from napari_sam.images.rasters import gdal as geo
from napari_sam.images.rasters.gdal import write_labels_geotiff
from napari_sam.images.tiff import geo_tags, reader
from napari_sam.images.volume import Volume

pytestmark = [
    # Of rasterio's own, when the tests write.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
ROTATED = Affine(0.4330127, 0.125, 500_000, 0.25, -0.21650635, 4_000_000)
UTM = CRS.from_epsg(32633)
PIXELS = np.random.default_rng(0).integers(1, 60000, (3, 80, 120)).astype(np.uint16)


def write(path, pixels, **profile):
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **profile) as dataset:
        dataset.write(pixels)


@pytest.fixture
def without_rasterio(monkeypatch):
    for module in (geo, geo_tags, reader, label_output):
        monkeypatch.setattr(module, "has_rasterio", lambda: False)


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("code", [32633, 4326])
@pytest.mark.parametrize("corner", ["area", "point"])
def test_without_rasterio_a_usual_geotiff_lies_where_it_does_with_it(tmp_path, request, transform, code, corner):
    write(tmp_path / "a.tif", PIXELS, crs=CRS.from_epsg(code), transform=transform, nodata=9)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT=corner.capitalize())
    expected = open_image(tmp_path / "a.tif")
    request.getfixturevalue("without_rasterio")
    opened = open_image(tmp_path / "a.tif")
    assert opened.georeference.transform == pytest.approx(expected.georeference.transform)
    assert opened.georeference.crs == f"EPSG:{code}"
    assert opened.nodata == expected.nodata == 9
    assert opened.axes == expected.axes


def test_labels_made_without_rasterio_are_on_the_map_where_it_is_there(tmp_path, request):
    write(tmp_path / "a.tif", PIXELS[0], crs=UTM, transform=NORTH_UP)
    request.getfixturevalue("without_rasterio")
    volume = Volume.of(tmp_path / "a.tif")
    write_label_image(tmp_path / "labels.zarr", np.ones(PIXELS.shape[1:], np.uint16), volume)
    with pytest.warns(UserWarning, match=r"the labels on the map needs.*pip install rasterio, or let their name"):
        write_label_image(tmp_path / "labels.tif", np.ones(PIXELS.shape[1:], np.uint16), volume)
    request.getfixturevalue("monkeypatch").undo()
    place = open_image(tmp_path / "labels.zarr").georeference
    assert geo.meters_per_unit(place.crs) == 1.0
    assert geo.same_system("EPSG:32633", place.crs)
    write_labels_geotiff(tmp_path / "again.tif", np.ones(PIXELS.shape[1:], np.uint16), place)
    with rasterio.open(tmp_path / "again.tif") as again, rasterio.open(tmp_path / "a.tif") as image:
        assert (again.crs, again.transform) == (image.crs, image.transform)
    assert open_image(tmp_path / "labels.tif").georeference is None


UNUSUAL = {
    "a system without a code": {"crs": CRS.from_string("+proj=aea +lat_1=50 +lat_2=70 +lat_0=40 +ellps=GRS80")},
    "control points": {"gcps": [GroundControlPoint(row, col, col, row) for row in (0, 9) for col in (0, 9)]},
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_what_an_unusual_geotiff_loses_without_rasterio_is_said(tmp_path, without_rasterio, kind):
    profile = UNUSUAL[kind]
    write(tmp_path / "a.tif", PIXELS[0], **({"transform": NORTH_UP} if "crs" in profile else {"crs": UTM}), **profile)
    with pytest.warns(MissingLibraryWarning, match=r"a\.tif may lie on a map, which needs the library rasterio: pip"):
        assert open_image(tmp_path / "a.tif").georeference is None


def test_what_lies_beside_an_image_is_not_left_out_in_silence(tmp_path, without_rasterio):
    for name in ("a.tif", "b.png"):
        Image.fromarray(PIXELS[0]).save(tmp_path / name)
    (tmp_path / "a.tfw").write_text("2\n0\n0\n-2\n1\n1\n")
    (tmp_path / "b.pgw").write_text("2\n0\n0\n-2\n1\n1\n")
    for name in ("a.tif", "b.png"):
        with pytest.warns(MissingLibraryWarning, match=rf"{name} may lie on a map.*pip install rasterio\.$"):
            open_image(tmp_path / name)


def test_a_tiff_that_only_names_its_nodata_loses_nothing_without_rasterio(tmp_path, without_rasterio):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[0], extratags=[(42113, "s", 0, "9", True)])
    assert open_image(tmp_path / "a.tif").nodata == 9


def test_the_command_says_it_in_one_line(tmp_path, without_rasterio, monkeypatch, capsys):
    write(tmp_path / "a.tif", PIXELS[0], crs=UNUSUAL["a system without a code"]["crs"], transform=NORTH_UP)
    np.save(tmp_path / "labels.npy", np.ones(PIXELS.shape[1:], np.uint16))
    arguments = ["export", str(tmp_path / "labels.npy"), "--image", str(tmp_path / "a.tif")]
    monkeypatch.setattr("sys.argv", ["napari-sam", *arguments, "--out", str(tmp_path / "table.csv")])
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert not end.value.code
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [f"{tmp_path}/a.tif may lie on a map, which needs the library rasterio: pip install rasterio."]
