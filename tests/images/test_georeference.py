"""Positions on the earth of every kind, carried to the labels; coordinate reference systems and their names."""

from __future__ import annotations

import json

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is an optional extra")

from affine import Affine  # noqa: E402
from PIL import Image  # noqa: E402
from rasterio.control import GroundControlPoint  # noqa: E402
from rasterio.crs import CRS  # noqa: E402
from rasterio.enums import Resampling  # noqa: E402
from rasterio.rpc import RPC  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from napari_sam.cli.app import app  # noqa: E402
from napari_sam.core.geometry import Plane  # noqa: E402
from napari_sam.errors import PromptError  # noqa: E402
from napari_sam.exchange.label_output import write_label_image  # noqa: E402
from napari_sam.exchange.object_prompts import ObjectPrompts  # noqa: E402
from napari_sam.exchange.prompts_geojson import format_geojson, parse_geojson  # noqa: E402
from napari_sam.exchange.reference_systems import system_of  # noqa: E402
from napari_sam.images.axes.attributes import map_in  # noqa: E402
from napari_sam.images.axes.georeference import Georeference  # noqa: E402
from napari_sam.images.opening import open_image  # noqa: E402
from napari_sam.images.rasters.array_formats import leading_axes  # noqa: E402
from napari_sam.images.rasters.gdal import RasterioArray, open_raster, read_georeference  # noqa: E402
from napari_sam.images.rasters.sidecars import has_sidecar  # noqa: E402
from napari_sam.images.volume import Volume  # noqa: E402
from napari_sam.segmenter import open_labels  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SHAPE = (120, 90)
TURNED = Affine.translation(400_000, 5_400_000) @ Affine.rotation(20) @ Affine.scale(0.5, -0.5)
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 5_400_000)
ALBERS = CRS.from_string("+proj=aea +lat_1=50 +lat_2=70 +lat_0=40 +lon_0=-96 +ellps=GRS80 +units=m").to_wkt()


def image(seed=0):
    return np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)


def write(path, pixels, **profile):
    height, width = pixels.shape
    options = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": pixels.dtype, **profile}
    points, rpcs, tags = (options.pop(name, None) for name in ("points", "rpcs", "tags"))
    with rasterio.open(path, "w", **options) as dataset:
        if points:
            dataset.gcps = (points, CRS.from_epsg(32633))
        if rpcs:
            dataset.rpcs = rpcs
        dataset.update_tags(**(tags or {}))
        dataset.write(pixels, 1)


# -- images ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "world"),
    [
        ("a.jpg", "a.jgw"),
        ("a.jpg", "a.JGW"),
        ("a.jpeg", "a.jpegw"),
        ("a.png", "a.pgw"),
        ("a.png", "a.Pgw"),
        ("a.png", "a.wld"),
        ("a.PNG", "a.PNGW"),
        ("a.bmp", "a.bpw"),
        ("a.tif", "a.TFW"),
        ("a.tif", "a.tifw"),
    ],
)
def test_a_world_file_beside_a_picture_places_it_and_its_labels(tmp_path, name, world):
    Image.fromarray(image()).save(tmp_path / name)
    # Of the first pixel's center.
    (tmp_path / world).write_text("2.0\n0.0\n0.0\n-2.0\n101.0\n199.0\n")
    expected = Georeference(None, (2, 0, 100, 0, -2, 200))
    volume = Volume.of(tmp_path / name)
    assert volume.georeference == expected
    write_label_image(tmp_path / "l.tif", np.ones(SHAPE, np.uint16), volume)
    assert read_georeference(tmp_path / "l.tif").transform == expected.transform


def test_what_gdal_notes_beside_a_picture_counts(tmp_path):
    Image.fromarray(image()).save(tmp_path / "a.png")
    (tmp_path / "a.png.aux.xml").write_text(
        "<PAMDataset><SRS>EPSG:32633</SRS><GeoTransform>400000, 0.5, 0, 5400000, 0, -0.5</GeoTransform></PAMDataset>"
    )
    place = open_image(tmp_path / "a.png").georeference
    assert place.transform == tuple(NORTH_UP)[:6]
    assert system_of(place.crs) == "EPSG:32633"


def test_a_picture_without_such_a_file_lies_nowhere(tmp_path):
    Image.fromarray(image()).save(tmp_path / "a.png")
    (tmp_path / "b.pgw").write_text("2\n0\n0\n-2\n1\n1\n")
    (tmp_path / "a.jgw").write_text("2\n0\n0\n-2\n1\n1\n")
    assert not has_sidecar(tmp_path / "a.png")
    assert open_image(tmp_path / "a.png").georeference is None


def test_a_photograph_with_a_world_file_is_placed_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(image()).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.JGW").write_text("2\n0\n0\n-2\n1\n1\n")
    opened = open_image(tmp_path / "a.jpg")
    assert opened.georeference.transform == (2, 0, 0, 0, -2, 2)
    assert opened.levels[0].shape == SHAPE


POINTS = [
    GroundControlPoint(row, col, x, y, z)
    for row, col, x, y, z in [
        (0, 0, 4e5, 5e6, 0),
        (0, 90, 4.1e5, 5e6, 1),
        (120, 0, 4e5, 4.9e6, 2),
        (50, 40, 4e5, 4.9e6, 3),
    ]
]
SENSOR = RPC(
    height_off=10,
    height_scale=500,
    lat_off=50,
    lat_scale=0.1,
    long_off=10,
    long_scale=0.1,
    line_off=60,
    line_scale=60,
    samp_off=45,
    samp_scale=45,
    line_num_coeff=[0.1] * 20,
    line_den_coeff=[1.0] + [0.0] * 19,
    samp_num_coeff=[0.2] * 20,
    samp_den_coeff=[1.0] + [0.0] * 19,
    err_bias=None,
    err_rand=None,
)


@pytest.mark.parametrize("profile", [{"points": POINTS}, {"rpcs": SENSOR}])
def test_control_points_and_sensor_coefficients_go_into_the_labels(tmp_path, profile):
    write(tmp_path / "a.tif", image(), **profile)
    volume = Volume.of(tmp_path / "a.tif")
    assert volume.georeference.is_known
    write_label_image(tmp_path / "l.tif", np.ones(SHAPE, np.uint16), volume)
    with rasterio.open(tmp_path / "a.tif") as given, rasterio.open(tmp_path / "l.tif") as labels:
        points, system = labels.gcps
        assert [(p.row, p.col, p.x, p.y, p.z) for p in points] == [(p.row, p.col, p.x, p.y, p.z) for p in given.gcps[0]]
        assert system == given.gcps[1]
        assert (labels.rpcs and labels.rpcs.to_dict()) == (given.rpcs and given.rpcs.to_dict())


def test_control_points_move_and_turn_with_their_image():
    place = Georeference("EPSG:32633", None, gcps=((10.0, 20.0, 1.0, 2.0, 0.0),), rpcs={"line_off": 60, "samp_off": 45})
    moved = place.shifted(4, 5)
    assert moved.gcps == ((6, 15, 1, 2, 0),)
    assert moved.rpcs == {"line_off": 56, "samp_off": 40}
    assert place.transposed().gcps == ((20, 10, 1, 2, 0),)


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
@pytest.mark.parametrize("kind", ["Area", "Point"])
def test_labels_lie_on_their_image_to_the_half_pixel(tmp_path, transform, kind):
    write(tmp_path / "a.tif", image(), transform=transform, crs="EPSG:32633", tags={"AREA_OR_POINT": kind})
    volume = Volume.of(tmp_path / "a.tif")
    np.testing.assert_allclose(volume.georeference.transform, tuple(transform)[:6])
    write_label_image(tmp_path / "l.tif", np.ones(SHAPE, np.uint16), volume)
    with rasterio.open(tmp_path / "l.tif") as labels:
        np.testing.assert_allclose(tuple(labels.transform), tuple(transform))
        assert labels.crs == CRS.from_epsg(32633)


@pytest.mark.parametrize("transform", [NORTH_UP, TURNED])
def test_an_image_with_overviews_lies_where_its_finest_level_lies(tmp_path, transform):
    pixels = np.random.default_rng(0).integers(0, 255, (701, 533)).astype(np.uint8)
    write(tmp_path / "a.tif", pixels, transform=transform, crs="EPSG:32633", tiled=True, blockxsize=128, blockysize=128)
    with rasterio.open(tmp_path / "a.tif", "r+") as dataset:
        dataset.build_overviews([2, 4], Resampling.average)
    volume = Volume.of(tmp_path / "a.tif")
    assert volume.factors == ((1, 1), (2, 2), (4, 4))
    np.testing.assert_allclose(volume.georeference.transform, tuple(transform)[:6])


def test_labels_of_a_transposed_plane_of_a_map_are_transposed_on_the_map_and_of_a_section_on_none(tmp_path):
    write(tmp_path / "a.tif", image(), transform=TURNED, crs="EPSG:32633")
    volume = Volume.of(tmp_path / "a.tif")
    write_label_image(tmp_path / "l.tif", np.ones(SHAPE[::-1], np.uint16), volume, Plane.of(SHAPE, None, (1, 0)))
    with rasterio.open(tmp_path / "l.tif") as labels:
        np.testing.assert_allclose(labels.xy(30, 70), rasterio.transform.xy(TURNED, 70, 30))
    stack = Volume.of(np.zeros((3, *SHAPE)))
    assert stack.georeference_of(Plane.of(stack.shape, 5, (0, 2))) is None


@pytest.mark.parametrize("name", ["l.zarr", "l.ome.zarr"])
def test_labels_in_zarr_keep_the_position_of_their_image(tmp_path, name):
    write(tmp_path / "a.tif", image(), transform=TURNED, crs="EPSG:32633")
    volume = Volume.of(tmp_path / "a.tif")
    if name == "l.zarr":
        write_label_image(tmp_path / name, np.ones(SHAPE, np.uint16), volume)
    else:
        open_labels(tmp_path / name, volume)
    place = open_image(tmp_path / name).georeference
    np.testing.assert_allclose(place.transform, tuple(TURNED)[:6])
    assert system_of(place.crs) == "EPSG:32633"


@pytest.mark.parametrize("profile", [{"points": POINTS}, {"rpcs": SENSOR}])
@pytest.mark.parametrize("name", ["l.zarr", "l.ome.zarr"])
def test_labels_in_zarr_keep_control_points_and_sensor_coefficients(tmp_path, name, profile):
    write(tmp_path / "a.tif", image(), **profile)
    volume = Volume.of(tmp_path / "a.tif")
    if name == "l.zarr":
        write_label_image(tmp_path / name, np.ones(SHAPE, np.uint16), volume)
    else:
        open_labels(tmp_path / name, volume)
    place, given = open_image(tmp_path / name).georeference, volume.georeference
    assert (place.crs, place.transform, place.gcps) == (given.crs, given.transform, given.gcps)
    assert (place.rpcs and dict(place.rpcs)) == given.rpcs


def test_damaged_control_points_of_a_zarr_are_left_out():
    feature = {"properties": {"row": 1, "col": 2}, "geometry": {"type": "Point", "coordinates": [3, 4]}}
    known = map_in({"gcps": {"features": [feature]}})
    assert known.gcps == ((1, 2, 3, 4, 0),)
    for damaged in ([], {"features": [{}]}, {"features": [{**feature, "properties": {"row": "x"}}]}, 5):
        assert map_in({"gcps": damaged, "rpcs": {"line_off": 1}}) is None


# -- arrays of scientific formats --------------------------------------------------------------------------------------


class Dataset:
    """What GDAL tells of an array of a scientific format; this machine's GDAL writes none."""

    driver = "netCDF"

    def __init__(self, count, **tags):
        self.count, self._tags = count, tags

    def tags(self):
        return self._tags


@pytest.mark.parametrize(
    ("count", "tags", "expected"),
    [
        (12, {}, ((12,), "z", "z")),
        (1, {}, ((), "", "")),
        (5, {"NETCDF_DIM_EXTRA": "{time}", "NETCDF_DIM_time_DEF": "{5,6}"}, ((5,), "t", "")),
        (5, {"NETCDF_DIM_EXTRA": "{band}", "NETCDF_DIM_band_DEF": "{5,6}"}, ((), "", "")),
        (
            12,
            {"NETCDF_DIM_EXTRA": "{time,lev}", "NETCDF_DIM_time_DEF": "{4,6}", "NETCDF_DIM_lev_DEF": "{3,6}"},
            ((4, 3), "tz", ""),
        ),
        (
            12,
            {"NETCDF_DIM_EXTRA": "{run,member}", "NETCDF_DIM_run_DEF": "{4,6}", "NETCDF_DIM_member_DEF": "{3,6}"},
            ((4, 3), "zt", "zt"),
        ),
        (7, {"NETCDF_DIM_EXTRA": "{time,lev}", "NETCDF_DIM_time_DEF": "{4,6}"}, ((7,), "z", "z")),
    ],
)
def test_the_bands_of_a_scientific_array_are_its_leading_axes(count, tags, expected):
    assert leading_axes(Dataset(count, **tags)) == expected


def test_a_picture_with_colors_last_in_a_scientific_format_is_no_stack(tmp_path, monkeypatch):
    pixels = np.random.default_rng(1).integers(0, 255, (60, 50, 3)).astype(np.uint8)
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=50, width=3, count=60, dtype="uint8") as dataset:
        dataset.write(pixels)
    monkeypatch.setattr("napari_sam.images.rasters.array_formats.ARRAY_DRIVERS", ("GTiff",))
    raster = open_raster(tmp_path / "a.tif")
    assert raster.axes == "yxs"
    np.testing.assert_array_equal(raster.levels[0][:], pixels)


@pytest.mark.parametrize("leading", [(6,), (2, 3)])
def test_leading_axes_are_read_in_parts_like_an_array(tmp_path, leading):
    pixels = np.random.default_rng(1).integers(0, 9999, (6, 50, 70)).astype(np.uint16)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=50, width=70, count=6, dtype="uint16"
    ) as dataset:
        dataset.write(pixels)
    array = RasterioArray(tmp_path / "a.tif", None, leading)
    expected = pixels.reshape(*leading, 50, 70)
    assert array.shape == expected.shape
    everything = (slice(None),) * len(leading)
    last = (-1,) * len(leading)
    for key in [
        everything,
        last,
        (slice(1, None, 2), *last[1:]),
        (Ellipsis, slice(3, 40, 3), 5),
        (*last, 7, slice(2, 9)),
    ]:
        np.testing.assert_array_equal(array[key], expected[key])


def test_bands_of_a_map_are_channels_as_ever(tmp_path):
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", height=50, width=70, count=6, dtype="uint16"
    ) as dataset:
        dataset.write(np.zeros((6, 50, 70), np.uint16))
    assert open_raster(tmp_path / "a.tif").axes == "yxc"


# -- coordinate reference systems --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EPSG:32633", "EPSG:32633"),
        ("urn:ogc:def:crs:EPSG::3347", "EPSG:3347"),
        ("urn:ogc:def:crs:EPSG:9.9:3347", "EPSG:3347"),
        ("http://www.opengis.net/def/crs/EPSG/0/3347", "EPSG:3347"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"),
        ("somewhere", None),
        ("", None),
        (ALBERS, None),
        (CRS.from_epsg(32633).to_wkt(), "EPSG:32633"),
        (CRS.from_epsg(32633).to_wkt(version="WKT2_2019"), "EPSG:32633"),
        (CRS.from_epsg(4326).to_wkt(), "EPSG:4326"),
        (CRS.from_epsg(7415).to_wkt(), "EPSG:7415"),
        (CRS.from_user_input("EPSG:32633+5773").to_wkt(), "EPSG:32633"),
        (CRS.from_user_input("EPSG:32633+5773").to_wkt(version="WKT2_2019"), "EPSG:32633"),
        (CRS.from_user_input("ESRI:102001").to_wkt(), "ESRI:102001"),
        ('LOCAL_CS["a, ] tricky [ name",UNIT["metre",1,AUTHORITY["EPSG","9001"]]]', None),
        ('PROJCS["cut",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]]', None),
    ],
)
def test_the_code_of_a_system_is_that_of_the_whole_and_of_no_part(text, code):
    assert system_of(text) == code


def test_prompts_in_the_horizontal_system_of_a_compound_one_are_taken():
    place = Georeference(CRS.from_user_input("EPSG:32633+5773").to_wkt(), tuple(NORTH_UP)[:6])
    text = format_geojson([ObjectPrompts("1", ((3.0, 4.0),), (True,))], place)
    assert json.loads(text)["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    (found,) = parse_geojson(text, "a.geojson", place)
    np.testing.assert_allclose(found.points, [(3, 4)])


def test_prompts_of_a_system_without_a_code_name_it_by_its_definition_and_are_read_again():
    place = Georeference(ALBERS, tuple(NORTH_UP)[:6])
    text = format_geojson([ObjectPrompts("1", ((3.0, 4.0),), (True,))], place)
    assert "9001" not in json.loads(text)["crs"]["properties"]["name"].split("UNIT")[0]
    assert CRS.from_wkt(json.loads(text)["crs"]["properties"]["name"]) == CRS.from_wkt(ALBERS)
    (found,) = parse_geojson(text, "a.geojson", place)
    np.testing.assert_allclose(found.points, [(3, 4)])


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("urn:ogc:def:crs:EPSG::3347", r"in EPSG:3347 and the image in a system without a code"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", r"in EPSG:4326 and the image in a system without a code"),
    ],
)
def test_prompts_in_another_system_than_one_without_a_code_are_refused(said, words):
    place = Georeference(ALBERS, tuple(NORTH_UP)[:6])
    data = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": said}},
        "features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [4e5, 5.4e6]}}],
    }
    with pytest.raises(PromptError, match=words):
        parse_geojson(json.dumps(data), "a.geojson", place)


def test_the_command_writes_labels_of_a_picture_with_a_world_file_as_a_geotiff(tmp_path):
    pixels = np.full(SHAPE, 20, np.uint8)
    pixels[40:80, 30:60] = 220
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "a.PGW").write_text("2.0\n0.0\n0.0\n-2.0\n101.0\n199.0\n")
    arguments = ["segment", str(tmp_path / "a.png"), "--point", "60,45", "--out", str(tmp_path / "l.tif")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "l.tif") as labels:
        assert labels.transform == Affine(2, 0, 100, 0, -2, 200)
        assert labels.read(1)[60, 45] == 1
