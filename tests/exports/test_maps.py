"""Polygons and tables on a map: in its own coordinates, and in longitude and latitude."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tifffile

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install rasterio")
shapely = pytest.importorskip("shapely", reason="shapely is not installed: pip install shapely")
pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed: pip install pyogrio")

from affine import Affine  # noqa: E402
from rasterio.crs import CRS  # noqa: E402
from rasterio.features import rasterize  # noqa: E402
from rasterio.warp import transform_geom  # noqa: E402

from napari_sam import Segmenter, export_labels, import_objects  # noqa: E402
from napari_sam.errors import OutputError  # noqa: E402
from napari_sam.exports.polygons import coordinates  # noqa: E402

UTM = CRS.from_epsg(32633)
# A compound system without a code.
COMPOUND = CRS.from_wkt(
    'COMPD_CS["map and height",' + CRS.from_epsg(25833).to_wkt()
    + ',VERT_CS["some height",VERT_DATUM["some datum",2005],UNIT["metre",1],AXIS["Up",UP]]]'
)  # fmt: skip
NORTH_UP = Affine(0.5, 0, 400_000, 0, -0.5, 5_000_000)
PLACES = {
    "north up": (UTM, NORTH_UP),
    "rotated": (UTM, Affine.translation(400_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(0.5, -0.5)),
    "sheared": (UTM, Affine(0.5, 0.2, 400_000, 0.1, -0.4, 5_000_000)),
    "mirrored": (UTM, Affine(-0.5, 0, 400_000, 0, -0.5, 5_000_000)),
    "south up": (UTM, Affine(0.5, 0, 400_000, 0, 0.5, 5_000_000)),
    "compound": (COMPOUND, NORTH_UP),
}


@pytest.fixture(params=PLACES)
def geotiff(request, tmp_path, scene):
    crs, transform = PLACES[request.param]
    return write(tmp_path / "image.tif", scene, crs, transform)


def write(path, pixels, crs, transform):
    rows, cols = pixels.shape
    profile = {"driver": "GTiff", "height": rows, "width": cols, "count": 1, "dtype": "uint16"}
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as dataset:
        dataset.write(pixels.astype(np.uint16), 1)
    return path


def place_of(path):
    with rasterio.open(path) as dataset:
        return dataset.crs, dataset.transform


def collection(path):
    return json.loads(path.read_text(encoding="utf-8"))


def drawn(shapes, shape, transform):
    return rasterize(shapes, out_shape=shape, transform=transform, dtype="int32")


def test_geojson_is_in_longitude_and_latitude_and_lies_on_the_image(tmp_path, geotiff, scene):
    crs, transform = place_of(geotiff)
    export_labels(scene, tmp_path / "objects.geojson", image=geotiff)
    data = collection(tmp_path / "objects.geojson")
    assert "crs" not in data
    for feature in data["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert 13 < shape.centroid.x < 15
        assert 44 < shape.centroid.y < 46
        # The right hand rule of RFC 7946.
        for part in getattr(shape, "geoms", [shape]):
            assert part.exterior.is_ccw
            assert not any(ring.is_ccw for ring in part.interiors)
    back = [
        (transform_geom("EPSG:4326", crs, feature["geometry"]), feature["properties"]["object"])
        for feature in data["features"]
    ]
    assert np.array_equal(drawn(back, scene.shape, transform), scene)


def test_corners_in_longitude_and_latitude_are_right_to_a_hundredth_of_a_pixel(tmp_path):
    # One object of 3 km, whose straight edges are curves in longitude and latitude.
    labels = np.zeros((3000, 3000), np.uint8)
    labels[1:2999, 1:2999] = 1
    image = write(tmp_path / "image.tif", labels, UTM, Affine(10, 0, 300_000, 0, -10, 5_500_000))
    export_labels(labels, tmp_path / "objects.geojson", image=image)
    (feature,) = collection(tmp_path / "objects.geojson")["features"]
    # Points between those of the file, where a map draws straight lines.
    ring = shapely.segmentize(shapely.geometry.shape(feature["geometry"]), 1e-4)
    back = shapely.geometry.shape(transform_geom("EPSG:4326", UTM, shapely.geometry.mapping(ring)))
    true = shapely.box(300_010, 5_500_000 - 29_990, 300_000 + 29_990, 5_499_990)
    assert shapely.hausdorff_distance(back.exterior, true.exterior) < 10 * 0.05


def test_geojson_in_the_coordinates_of_the_image_names_them(tmp_path, geotiff, scene):
    crs, transform = place_of(geotiff)
    export_labels(scene, tmp_path / "objects.geojson", image=geotiff, crs="image")
    data = collection(tmp_path / "objects.geojson")
    # Polygons are flat: of a compound system they have the horizontal part.
    assert CRS.from_user_input(data["crs"]["properties"]["name"]).to_epsg() == (32633 if crs == UTM else 25833)
    shapes = [(feature["geometry"], feature["properties"]["object"]) for feature in data["features"]]
    assert np.array_equal(drawn(shapes, scene.shape, transform), scene)


def test_geojson_in_pixels_of_an_image_on_a_map(tmp_path, geotiff, scene):
    export_labels(scene, tmp_path / "objects.geojson", image=geotiff, crs="pixels")
    data = collection(tmp_path / "objects.geojson")
    shapes = [(feature["geometry"], feature["properties"]["object"]) for feature in data["features"]]
    assert np.array_equal(drawn(shapes, scene.shape, Affine.identity()), scene)


def test_a_geopackage_lies_on_the_image_in_its_reference_system(tmp_path, geotiff, scene):
    crs, transform = place_of(geotiff)
    export_labels(scene, tmp_path / "objects.gpkg", image=geotiff)
    info, _, geometry, columns = pyogrio.raw.read(tmp_path / "objects.gpkg")
    shapes = shapely.from_wkb(geometry)
    assert all(shape.is_valid for shape in shapes)
    table = dict(zip(info["fields"], columns, strict=True))
    labels = table["object"].tolist()
    assert np.array_equal(drawn(zip(shapes, labels, strict=True), scene.shape, transform), scene)
    assert table["area_px"].tolist() == [int((scene == label).sum()) for label in labels]
    pixel = abs(transform.determinant)
    assert table["area_m2"] == pytest.approx(table["area_px"] * pixel)
    assert [shape.area for shape in shapes] == pytest.approx(table["area_m2"].tolist(), rel=1e-3)
    named = CRS.from_user_input(info["crs"])
    assert named == crs if crs == UTM else "some height" in named.to_wkt()
    assert pyogrio.read_info(tmp_path / "objects.gpkg")["geometry_type"] == "MultiPolygon"


def test_a_geopackage_in_longitude_and_latitude(tmp_path, scene):
    image = write(tmp_path / "image.tif", scene, UTM, NORTH_UP)
    export_labels(scene, tmp_path / "objects.gpkg", image=image, crs="wgs84")
    info, _, geometry, _ = pyogrio.raw.read(tmp_path / "objects.gpkg")
    assert info["crs"] == "EPSG:4326"
    assert shapely.from_wkb(geometry)[0].centroid.y == pytest.approx(45.1, abs=0.1)


def test_a_geopackage_of_nothing_is_an_empty_layer(tmp_path, scene):
    image = write(tmp_path / "image.tif", scene, UTM, NORTH_UP)
    export_labels(np.zeros_like(scene), tmp_path / "objects.gpkg", image=image)
    assert pyogrio.read_info(tmp_path / "objects.gpkg")["features"] == 0


def test_the_table_has_the_place_of_each_object_on_the_map(tmp_path, geotiff, scene):
    crs, transform = place_of(geotiff)
    export_labels(scene, tmp_path / "table.csv", image=geotiff)
    export_labels(scene, tmp_path / "degrees.csv", image=geotiff, crs="wgs84")
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "degrees.csv").open(newline="") as file:
        degrees = list(csv.DictReader(file))
    for row, other in zip(rows, degrees, strict=True):
        at = np.argwhere(scene == int(row["label"])).mean(axis=0) + 0.5
        x, y = transform @ (at[1], at[0])
        assert (float(row["map_x"]), float(row["map_y"])) == pytest.approx((x, y), abs=1e-6)
        assert float(row["area_m2"]) == pytest.approx(int(row["area_px"]) * abs(transform.determinant))
        (lon,), (lat,) = rasterio.warp.transform(crs, "EPSG:4326", [x], [y])
        assert (float(other["longitude"]), float(other["latitude"])) == pytest.approx((lon, lat), abs=1e-9)


def test_labels_on_a_map_know_their_place_without_the_image(tmp_path, geotiff, scene):
    export_labels(scene, tmp_path / "labels.tif", image=geotiff)
    export_labels(scene, tmp_path / "with.geojson", image=geotiff)
    export_labels(tmp_path / "labels.tif", tmp_path / "without.geojson")
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert np.array_equal(dataset.read(1), scene)
        assert dataset.transform == place_of(geotiff)[1]
    assert collection(tmp_path / "with.geojson") == collection(tmp_path / "without.geojson")


def test_images_that_lie_on_no_map_have_no_map_coordinates(tmp_path, scene):
    with pytest.raises(OutputError, match=r"lies on no map"):
        export_labels(scene, tmp_path / "objects.geojson", crs="wgs84")
    with pytest.raises(OutputError, match=r"lies on no map.*\.geojson"):
        export_labels(scene, tmp_path / "objects.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_map_without_a_named_system_keeps_its_coordinates(tmp_path, scene):
    image = write(tmp_path / "image.tif", scene, None, NORTH_UP)
    export_labels(scene, tmp_path / "objects.geojson", image=image)
    data = collection(tmp_path / "objects.geojson")
    assert "crs" not in data
    shapes = [(feature["geometry"], feature["properties"]["object"]) for feature in data["features"]]
    assert np.array_equal(drawn(shapes, scene.shape, NORTH_UP), scene)
    with pytest.raises(OutputError, match="does not name its reference system"):
        export_labels(scene, tmp_path / "other.geojson", image=image, crs="wgs84")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_placed_by_control_points_is_refused_with_what_to_do(tmp_path, scene):
    from rasterio.control import GroundControlPoint

    path = tmp_path / "image.tif"
    points = [GroundControlPoint(row, col, 10 + col / 60, 50 - row / 60) for row in (0, 40) for col in (0, 60)]
    with rasterio.open(path, "w", driver="GTiff", height=40, width=60, count=1, dtype="uint16") as dataset:
        dataset.gcps = (points, CRS.from_epsg(4326))
        dataset.write(scene, 1)
    with pytest.raises(OutputError, match=r"control points.*gdalwarp"):
        export_labels(scene, tmp_path / "objects.geojson", image=path)


def test_a_map_without_a_place_on_the_earth_keeps_its_coordinates(tmp_path, scene):
    local = CRS.from_wkt('LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]')
    image = write(tmp_path / "image.tif", scene, local, NORTH_UP)
    with pytest.raises(OutputError, match=r"no known place on the earth.*crs image"):
        export_labels(scene, tmp_path / "objects.geojson", image=image)
    export_labels(scene, tmp_path / "objects.geojson", image=image, crs="image")
    assert "site" in collection(tmp_path / "objects.geojson")["crs"]["properties"]["name"]


def test_a_missing_rasterio_is_named(tmp_path, scene, monkeypatch):
    image = write(tmp_path / "image.tif", scene, UTM, NORTH_UP)
    export_labels(scene, tmp_path / "labels.ome.zarr", image=image)
    monkeypatch.setattr(coordinates, "has_rasterio", lambda: False)
    with pytest.raises(OutputError, match=r"pip install rasterio, or keep those of the map, with crs image\.$"):
        export_labels(tmp_path / "labels.ome.zarr", tmp_path / "objects.geojson")


def test_outlines_in_pixels_of_an_image_on_a_map_come_back(tmp_path, geotiff, scene, fake_predictor):
    export_labels(scene, tmp_path / "objects.geojson", image=geotiff, crs="pixels")
    back = Segmenter(geotiff, model=fake_predictor)
    labels = import_objects(back, tmp_path / "objects.geojson")
    assert len(labels) == len(np.unique(scene)) - 1
    for label in labels:
        former = np.unique(scene[np.asarray(back.labels) == label])
        assert len(former) == 1
        assert np.array_equal(np.asarray(back.labels) == label, scene == former[0])


def test_an_object_in_several_planes_comes_back_from_pixels_as_one(tmp_path, fake_predictor):
    labels = np.zeros((3, 20, 30), np.uint16)
    labels[0:2, 2:6, 3:9] = 4
    labels[1:3, 10:16, 3:9] = 7
    export_labels(labels, tmp_path / "objects.geojson")
    tifffile.imwrite(tmp_path / "image.tif", labels, metadata={"axes": "ZYX"}, photometric="minisblack")
    back = Segmenter(tmp_path / "image.tif", model=fake_predictor)
    import_objects(back, tmp_path / "objects.geojson")
    found = np.asarray(back.labels)
    assert len(np.unique(found)) == 3
    assert np.array_equal(found > 0, labels > 0)
    assert len(np.unique(found[labels == 4])) == len(np.unique(found[labels == 7])) == 1


@pytest.fixture
def ring_across():
    """Shape (40, 60): a ring around another object on the antimeridian, one on each side, and one on it."""
    labels = np.zeros((40, 60), np.uint16)
    labels[2:22, 10:50] = 1
    labels[6:18, 20:42] = 0
    labels[10:14, 24:40] = 2
    labels[30:34, 2:6], labels[30:34, 52:58] = 3, 4
    labels[36:39, 28:33] = 5
    return labels


FIJI = (CRS.from_epsg(32760), Affine(1000, 0, 790_000, 0, -1000, 8_100_000))


@pytest.mark.parametrize(
    ("crs", "transform"), [FIJI, (CRS.from_epsg(4326), Affine(0.5, 0, 165, 0, -0.5, 10))], ids=["UTM", "degrees"]
)
def test_outlines_across_the_antimeridian_are_cut_as_the_standard_says(
    tmp_path, ring_across, crs, transform, fake_predictor
):
    image = write(tmp_path / "image.tif", ring_across, crs, transform)
    export_labels(ring_across, tmp_path / "objects.geojson", image=image)
    found = {
        feature["properties"]["object"]: shapely.geometry.shape(feature["geometry"])
        for feature in collection(tmp_path / "objects.geojson")["features"]
    }
    assert {label for label, shape in found.items() if shape.geom_type == "MultiPolygon"} >= {1, 2, 5}
    for shape in found.values():
        assert shape.is_valid
        for part in getattr(shape, "geoms", [shape]):
            assert -180 <= part.bounds[0] < part.bounds[2] <= 180
            assert part.bounds[2] - part.bounds[0] < 20
            assert part.exterior.is_ccw
    assert (found[3].bounds[0] > 0, found[4].bounds[0] < 0) == (True, True)
    if crs == FIJI[0]:
        # The other way round, all pixels are those of before.
        back = Segmenter(image, model=fake_predictor)
        labels = import_objects(back, tmp_path / "objects.geojson")
        again = np.asarray(back.labels)
        assert len(labels) == 5
        assert all(len(np.unique(ring_across[again == label])) == 1 for label in labels)
        assert np.array_equal(again > 0, ring_across > 0)


def test_an_object_around_a_pole_is_refused(tmp_path):
    labels = np.zeros((40, 40), np.uint8)
    labels[10:30, 10:30] = 1
    image = write(tmp_path / "pole.tif", labels, CRS.from_epsg(3031), Affine(10_000, 0, -200_000, 0, -10_000, 200_000))
    with pytest.raises(OutputError, match="The object 1 lies around a pole: export the map's coordinates, with crs im"):
        export_labels(labels, tmp_path / "objects.geojson", image=image)
