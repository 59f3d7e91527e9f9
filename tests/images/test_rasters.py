from __future__ import annotations

import errno
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings

pytest.importorskip("rasterio", reason="rasterio is not installed: pip install rasterio")

import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.crs import CRS
from scipy.io import netcdf_file

from napari_sam.errors import ImageError, OutputError
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.opening import open_image
from napari_sam.images.rasters import gdal as geo
from napari_sam.images.rasters.gdal import RasterioArray, open_raster, read_georeference, write_labels_geotiff
from napari_sam.images.tiff import reader as tiff
from napari_sam.testing.strategies import array_keys

pytestmark = [
    # Of rasterio's own, when the tests write.
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 4_000_000)
# By 30 degrees; pixels of 0.5 x 0.25.
ROTATED = Affine(0.4330127, 0.125, 500_000, 0.25, -0.21650635, 4_000_000)
UTM = CRS.from_epsg(32633)


@pytest.fixture(scope="module")
def bands():
    return np.random.default_rng(0).integers(1, 60000, (5, 300, 420)).astype(np.uint16)


def on_map(transform, row, col):
    a, b, c, d, e, f = tuple(transform)[:6]
    return a * col + b * row + c, d * col + e * row + f


def write(path, pixels, driver="GTiff", **profile):
    """Write (bands, rows, cols) or (rows, cols) by GDAL."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    size = {"count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2], "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver=driver, **size, **profile) as dataset:
        dataset.write(pixels)
    return path


def tiled(path, pixels, **profile):
    return write(path, pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate", **profile)


# -- where an image lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("nodata", [None, 0, 65535])
def test_where_a_tif_lies_is_known_and_its_pixels_are_as_ever(tmp_path, bands, transform, nodata):
    tiled(tmp_path / "a.tif", bands[0], crs=UTM, transform=transform, nodata=nodata)
    opened = open_image(tmp_path / "a.tif")
    place = opened.georeference
    assert CRS.from_wkt(place.crs) == UTM
    assert place.transform == pytest.approx(tuple(transform)[:6])
    assert place.nodata == opened.nodata == nodata
    assert isinstance(opened.levels[0], np.ndarray)
    np.testing.assert_array_equal(opened.levels[0], bands[0])


def test_a_tif_that_lies_nowhere_has_no_place(tmp_path, bands):
    assert read_georeference(tiled(tmp_path / "a.tif", bands[0])) is None
    assert open_image(tmp_path / "a.tif").georeference is None


@pytest.mark.parametrize("profile", [{"crs": UTM}, {"transform": NORTH_UP}, {"nodata": 7}])
def test_what_a_tif_says_of_its_place_may_be_incomplete(tmp_path, bands, profile):
    place = open_image(tiled(tmp_path / "a.tif", bands[0], **profile)).georeference
    assert (place.crs is not None) == ("crs" in profile)
    assert (place.transform is not None) == ("transform" in profile)
    assert place.nodata == profile.get("nodata")


def test_a_world_file_beside_a_tif_counts(tmp_path, bands):
    tifffile.imwrite(tmp_path / "a.tif", bands[0])
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n1000.25\n1999.75\n")
    assert open_image(tmp_path / "a.tif").georeference.transform == (0.5, 0, 1000, 0, -0.5, 2000)


def test_what_is_no_raster_lies_nowhere(tmp_path):
    (tmp_path / "a.tif").write_text("text")
    assert read_georeference(tmp_path / "a.tif") is None


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
def test_a_part_lies_where_its_first_pixel_does(transform):
    place = Georeference(None, tuple(transform)[:6], 3)
    moved = place.shifted(20, 7)
    for row, col in [(0, 0), (4, 9)]:
        assert on_map(moved.transform, row, col) == pytest.approx(on_map(transform, row + 20, col + 7))
    assert moved.nodata == 3
    assert Georeference("wkt", None).shifted(1, 2) == Georeference("wkt", None)


# -- rasters -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raster(tmp_path_factory, bands):
    return tiled(tmp_path_factory.mktemp("raster") / "a.tif", bands)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array_keys((300, 420, 5), negative_steps=True))
def test_parts_of_a_raster_are_those_of_numpy(raster, bands, key):
    array, reference = RasterioArray(raster), np.moveaxis(bands, 0, -1)
    assert (array.shape, array.dtype, array.chunks) == (reference.shape, reference.dtype, (64, 64, 1))
    np.testing.assert_array_equal(array[key], reference[key])


@pytest.mark.parametrize("key", [(300,), (0, -421), (0, 0, 5), (0, 0, 0, 0)])
def test_indices_outside_of_a_raster_are_refused_as_numpy_does(raster, key):
    with pytest.raises(IndexError):
        RasterioArray(raster)[key]


@pytest.fixture
def broken(tmp_path, bands):
    """A raster of which only the tile in the second row and column is sound."""
    path = tiled(tmp_path / "broken.tif", bands[0])
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for number, (offset, count) in enumerate(places):
            if number != 7 + 1:
                file.seek(offset)
                file.write(b"x" * count)
    return path


def test_only_the_blocks_under_a_window_are_read(broken, bands):
    array = open_raster(broken).levels[0]
    np.testing.assert_array_equal(array[64:128, 64:128], bands[0, 64:128, 64:128])
    with pytest.raises(rasterio.errors.RasterioIOError):
        array[64:128, 64:129]


def test_threads_that_read_at_once_read_the_same(raster, bands):
    array = RasterioArray(raster)
    corners = [(row, col) for row in range(0, 280, 40) for col in range(0, 400, 50)]
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(lambda corner: array[corner[0] : corner[0] + 70, corner[1] :, 1:3], corners))
    for (row, col), block in zip(corners, blocks, strict=True):
        np.testing.assert_array_equal(block, np.moveaxis(bands[1:3, row : row + 70, col:], 0, -1))


def test_a_thread_opens_the_file_once(raster, monkeypatch):
    array, opened = RasterioArray(raster), []
    original = geo._open
    monkeypatch.setattr(geo, "_open", lambda *args, **options: opened.append(args) or original(*args, **options))
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            array[0, 0]
            pool.submit(array.__getitem__, (1, 1)).result()
    assert len(opened) == 1


@pytest.mark.parametrize("small", [2**26, 0])
@pytest.mark.parametrize(
    ("count", "dtype", "axes"), [(1, np.uint16, "yx"), (3, np.uint8, "yxs"), (5, np.uint16, "yxc")]
)
def test_the_overviews_of_a_cog_are_levels(tmp_path, bands, monkeypatch, small, count, dtype, axes):
    monkeypatch.setattr(tiff, "SMALL_TIFF", small)
    pixels = (bands[:count] // 256).astype(dtype)
    colours = {"photometric": "RGB"} if axes == "yxs" else {}
    tiled(tmp_path / "plain.tif", pixels, crs=UTM, transform=NORTH_UP, nodata=0, **colours)
    rasterio.shutil.copy(
        tmp_path / "plain.tif", tmp_path / "cog.tif", driver="COG", blocksize=128, overview_resampling="nearest"
    )
    opened = open_image(tmp_path / "cog.tif")
    assert opened.axes == axes
    assert opened.nodata == 0
    assert [level.shape[:2] for level in opened.levels] == [(300, 420), (150, 210), (75, 105)]
    by_gdal = open_raster(tmp_path / "cog.tif")
    assert by_gdal.axes == axes
    for level, other in zip(opened.levels, by_gdal.levels, strict=True):
        np.testing.assert_array_equal(level[30:70, 20:], other[30:70, 20:])
    reference = pixels[0] if axes == "yx" else np.moveaxis(pixels, 0, -1)
    np.testing.assert_array_equal(opened.levels[0][...], reference)


@pytest.mark.parametrize(("name", "driver"), [("a.img", "HFA"), ("a.jp2", "JP2OpenJPEG"), ("a.bil", "EHdr")])
def test_what_only_gdal_knows_is_read_in_parts(tmp_path, bands, name, driver):
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    write(tmp_path / name, bands[0], driver, crs=UTM, transform=NORTH_UP, **lossless)
    opened = open_image(tmp_path / name)
    assert isinstance(opened.levels[0], RasterioArray)
    assert opened.axes == "yx"
    assert opened.georeference.transform == tuple(NORTH_UP)[:6]
    np.testing.assert_array_equal(opened.levels[0][100:200, 300:], bands[0, 100:200, 300:])


def vrt(path, *bands, size=(420, 300)):
    described = "".join(
        f'<VRTRasterBand dataType="{dtype}" band="{number}"{kind}>{content}</VRTRasterBand>'
        for number, (dtype, kind, content) in enumerate(bands, 1)
    )
    path.write_text(f'<VRTDataset rasterXSize="{size[0]}" rasterYSize="{size[1]}">{described}</VRTDataset>')
    return path


def source(name, band=1):
    file = f'<SourceFilename relativeToVRT="1">{name}</SourceFilename>'
    return f"<SimpleSource>{file}<SourceBand>{band}</SourceBand></SimpleSource>"


def test_bands_of_several_types_are_read_in_one_that_holds_them(tmp_path, bands):
    tiled(tmp_path / "a.tif", bands[:2])
    path = vrt(tmp_path / "a.vrt", ("UInt16", "", source("a.tif")), ("Float32", "", source("a.tif", 2)))
    opened = open_image(path)
    assert opened.axes == "yxc"
    assert opened.levels[0].dtype == np.float32
    np.testing.assert_array_equal(opened.levels[0][5:9, :, 1], bands[1, 5:9])


def test_no_code_in_a_raster_is_run(tmp_path, bands, monkeypatch):
    monkeypatch.setenv("GDAL_VRT_ENABLE_PYTHON", "YES")
    tiled(tmp_path / "a.tif", bands[0])
    code = f"def f(a, out, *_, **__):\n    open({str(tmp_path / 'sprung')!r}, 'w')\n    out[:] = 1\n"
    derived = (
        "<PixelFunctionType>f</PixelFunctionType><PixelFunctionLanguage>Python</PixelFunctionLanguage>"
        f"<PixelFunctionCode><![CDATA[{code}]]></PixelFunctionCode>{source('a.tif')}"
    )
    path = vrt(tmp_path / "a.vrt", ("UInt16", ' subClass="VRTDerivedRasterBand"', derived))
    with pytest.raises((ImageError, rasterio.errors.RasterioError)):
        open_image(path).levels[0][:5, :5]
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("Red", "Green", "Blue"), "yxs"),
        (("Red", "Green", "Blue", "Alpha"), "yxs"),
        (("Blue", "Green", "Red"), "yxc"),
        (("Red", "Green", "Blue", "Gray"), "yxc"),
        (("Gray", "Gray", "Gray"), "yxc"),
    ],
)
def test_bands_are_colours_where_the_file_names_them(tmp_path, bands, names, axes):
    tiled(tmp_path / "a.tif", bands[0])
    described = [("UInt16", "", f"<ColorInterp>{name}</ColorInterp>{source('a.tif')}") for name in names]
    assert open_image(vrt(tmp_path / "a.vrt", *described)).axes == axes


def test_a_raster_of_several_images_names_one_of_them(tmp_path):
    with netcdf_file(tmp_path / "a.nc", "w") as file:
        for name, length in (("one", 4), ("two", 6)):
            file.createDimension(f"rows_{name}", length)
            file.createDimension(f"cols_{name}", length)
            file.createVariable(name, "f4", (f"rows_{name}", f"cols_{name}"))[:] = 1
    with pytest.raises(
        ImageError, match=r"a\.nc holds several images, such as netcdf:.*:(one|two): write one of them as \.tif"
    ):
        open_image(tmp_path / "a.nc")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<VRTDataset/>", r"a\.vrt cannot be read as a raster"),
        ("text", r"a\.vrt cannot be read as a raster"),
    ],
)
def test_a_raster_that_is_none_is_one_sentence(tmp_path, content, message):
    (tmp_path / "a.vrt").write_text(content)
    with pytest.raises(ImageError, match=message):
        open_image(tmp_path / "a.vrt")


@pytest.mark.parametrize("dtype", ["CInt16", "CFloat32"])
def test_complex_rasters_are_refused(tmp_path, dtype):
    with pytest.raises(ImageError, match=r"a\.vrt"):
        open_image(vrt(tmp_path / "a.vrt", (dtype, "", "")))


def test_a_tif_that_tifffile_cannot_decode_is_left_to_gdal(tmp_path, bands, monkeypatch):
    tiled(tmp_path / "a.tif", bands[0], crs=UTM, transform=NORTH_UP)
    monkeypatch.setattr(tiff, "_is_decodable", lambda series: False)
    opened = open_image(tmp_path / "a.tif")
    assert isinstance(opened.levels[0], RasterioArray)
    assert opened.georeference.transform == tuple(NORTH_UP)[:6]
    np.testing.assert_array_equal(opened.levels[0][...], bands[0])


def test_a_tif_that_nobody_can_decode_is_one_sentence(tmp_path, bands):
    tiled(tmp_path / "a.tif", bands[0])
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(34661)
    with pytest.raises(ImageError, match=r"a\.tif has the unsupported compression JBIG"):
        open_image(tmp_path / "a.tif")


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def labels():
    found = np.zeros((700, 600), np.uint16)
    found[30:300, 50:420] = 1
    found[600:, 590:] = 40_000
    return found


@pytest.mark.parametrize("transform", [NORTH_UP, ROTATED])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_labels_lie_where_their_image_does(tmp_path, labels, transform, dtype):
    place = Georeference(UTM.to_wkt(), tuple(transform)[:6], -9999)
    expected = labels.astype(dtype)
    write_labels_geotiff(tmp_path / "labels.tif", expected, place)
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert dataset.crs == UTM
        assert tuple(dataset.transform) == pytest.approx(tuple(transform))
        assert dataset.nodata == 0
        assert dataset.profile["tiled"]
        assert dataset.profile["compress"] == "deflate"
        read = dataset.read(1)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, expected)
    opened = open_image(tmp_path / "labels.tif")
    np.testing.assert_array_equal(opened.levels[0], expected)
    assert opened.georeference.transform == pytest.approx(place.transform)
    assert (tmp_path / "labels.tif").stat().st_size < expected.nbytes / 10


@pytest.mark.parametrize("shape", [(1, 1), (10, 12), (300, 700), (513, 511)])
def test_labels_of_every_size_are_written(tmp_path, shape):
    labels = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference(None, tuple(NORTH_UP)[:6]))
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels.tif"), labels)


def test_the_labels_of_a_window_of_a_map_lie_in_it(tmp_path, bands, labels):
    tiled(tmp_path / "map.tif", bands[0], crs=UTM, transform=ROTATED)
    place = open_image(tmp_path / "map.tif").georeference.shifted(100, 200)
    write_labels_geotiff(tmp_path / "labels.tif", labels[:50, :60], place)
    with rasterio.open(tmp_path / "labels.tif") as small, rasterio.open(tmp_path / "map.tif") as large:
        assert small.xy(3, 4) == pytest.approx(large.xy(103, 204))


def test_without_rasterio_no_geotiff_is_written_and_its_mend_named(tmp_path, labels, monkeypatch):
    monkeypatch.setattr(geo, "has_rasterio", lambda: False)
    with pytest.raises(OutputError, match=r"A GeoTIFF needs the library rasterio: pip install rasterio\."):
        write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference(None, None))
    assert list(tmp_path.iterdir()) == []


def test_a_system_of_coordinates_that_is_none_leaves_what_was_there(tmp_path, labels):
    (tmp_path / "labels.tif").write_text("earlier work")
    with pytest.raises(OutputError, match=r"labels\.tif cannot be written in the image's coordinate reference system"):
        write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference("no WKT", tuple(NORTH_UP)[:6]))
    assert (tmp_path / "labels.tif").read_text() == "earlier work"
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_a_full_disk_leaves_what_was_there(tmp_path, labels, monkeypatch):
    (tmp_path / "labels.tif").write_text("earlier work")

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(geo, "_open", full)
    with pytest.raises(OutputError, match=r"labels\.tif cannot be written \(No space left"):
        write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference(None, None))
    assert (tmp_path / "labels.tif").read_text() == "earlier work"
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit for the size of files")
@pytest.mark.parametrize("missing", [1, 400, 50_000])
def test_a_disk_that_is_full_when_the_file_is_closed_leaves_what_was_there(tmp_path, missing):
    import resource
    import signal

    noise = np.random.default_rng(0).integers(0, 60_000, (700, 600)).astype(np.uint16)
    write_labels_geotiff(tmp_path / "labels.tif", noise, Georeference(None, None))
    earlier = (tmp_path / "labels.tif").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(earlier) - missing, limits[1]))
        with pytest.raises(OutputError, match=r"labels\.tif cannot be written"):
            write_labels_geotiff(tmp_path / "labels.tif", noise[::-1], Georeference(None, None))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (tmp_path / "labels.tif").read_bytes() == earlier
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_labels_that_read_back_differently_are_not_kept(tmp_path, labels, monkeypatch):
    original = geo._open

    def tampered(path, mode="r", **options):
        dataset = original(path, mode, **options)
        if mode == "w":
            dataset.close()
            return SimpleContext(write=lambda *_: write(path, np.zeros_like(labels)))
        return dataset

    class SimpleContext(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(geo, "_open", tampered)
    with pytest.raises(OutputError, match="cannot be read back"):
        write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference(None, None))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_the_way_is_one_sentence(tmp_path, labels):
    (tmp_path / "labels.tif").mkdir()
    with pytest.raises(OutputError, match=r"labels\.tif"):
        write_labels_geotiff(tmp_path / "labels.tif", labels, Georeference(None, None))
