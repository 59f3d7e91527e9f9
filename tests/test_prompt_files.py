from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.object_prompts import ObjectPrompts
from napari_sam.core.prompts import rasterize_polygon
from napari_sam.errors import NapariSamError, OutputError, PromptError
from napari_sam.geo import Georeference
from napari_sam.prompt_csv import format_csv, parse_csv
from napari_sam.prompt_files import outlines, read_prompts, write_prompts
from napari_sam.prompt_geojson import format_geojson, parse_geojson

SHAPE = (60, 80)
UTM = 'PROJCS["UTM 33N",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],AUTHORITY["EPSG","32633"]]'
# Rows go down on the ground, and the grid is turned by a little.
ON_THE_MAP = Georeference(UTM, (0.5, 0.1, 400_000.0, 0.1, -0.5, 5_400_000.0))
NORTH_UP = Georeference(UTM, (0.3, 0.0, 400_000.0, 0.0, -0.3, 5_400_000.0))


def parsed(text: str) -> dict[str, ObjectPrompts]:
    return {one.name: one for one in parse_csv(text, "a.csv")}


def test_points_and_boxes_of_our_own_columns():
    found = parsed("object,row,col,label\n7,10.5,20,1\n3,1,2,1\n7,11,22,0\n")
    assert list(found) == ["7", "3"]
    assert found["7"].points == ((10.5, 20.0), (11.0, 22.0))
    assert found["7"].labels == (True, False)
    assert found["7"].number == 7
    found = parsed("object,top,left,bottom,right\n1,0,1,2,3.5\n2,5,5,9,9\n")
    assert [one.box for one in found.values()] == [(0, 1, 2, 3.5), (5, 5, 9, 9)]


def test_one_file_may_hold_both_and_planes():
    text = "object,row,col,label,top,left,bottom,right,plane\na,5,6,+,,,,,3\na,,,,1,2,8,9,3\nb,1,1,,,,,,\n"
    found = parsed(text)
    assert found["a"] == ObjectPrompts("a", ((5, 6),), (True,), (1, 2, 8, 9), plane=(3,))
    assert (found["a"].number, found["b"].plane) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "object,y,x\n1,5,6\n",
        "object;row;col\n1;5;6\n",
        "OBJECT, Row ,Col,comment\n1,5,6,a cell\n",
        'object\trow\tcol\r\n"1"\t5\t6\r\n\r\n',
        "row,col\n5,6\n",
        "object_id,x,y\n1,6,5\n",
    ],
)
def test_other_spellings(text):
    assert parsed(text) == {"1": ObjectPrompts("1", ((5, 6),), (True,))}


def test_without_the_column_object_every_row_is_one():
    assert [one.points for one in parsed("row,col\n5,6\n7,8\n").values()] == [((5, 6),), ((7, 8),)]


def test_the_points_of_napari():
    found = parsed("index,axis-0,axis-1,axis-2\n0.0,3.0,5.5,6.0\n1.0,4.0,7.0,8.0\n")
    assert [(one.points, one.plane) for one in found.values()] == [(((5.5, 6),), (3,)), (((7, 8),), (4,))]
    found = parsed("index,axis-0,axis-1,object,label\n0,5,6,2,1\n1,7,8,2,0\n")
    assert found == {"2": ObjectPrompts("2", ((5, 6), (7, 8)), (True, False))}


def test_the_shapes_of_napari():
    corners = {
        "rectangle": [(1.5, 2.5), (1.5, 9.5), (5.5, 9.5), (5.5, 2.5)],
        "polygon": [(10, 10), (10, 20), (20, 15)],
        "ellipse": [(30, 30), (30, 50), (40, 50), (40, 30)],
        "path": [(3, 4), (5, 6)],
    }
    lines = ["index,shape-type,vertex-index,axis-0,axis-1"]
    for number, (kind, at) in enumerate(corners.items()):
        lines += [f"{number}.0,{kind},{i}.0,{row},{col}" for i, (row, col) in enumerate(at)]
    box, polygon, ellipse, path = parse_csv("\n".join(lines), "a.csv")
    assert (box.name, box.box) == ("1", (2, 3, 6, 10))
    assert polygon.polygons == (((10, 10), (10, 20), (20, 15)),)
    rows, cols = np.indices(SHAPE)
    inside = ((rows - 35) / 5) ** 2 + ((cols - 40) / 10) ** 2 <= 1
    mask = ellipse.prompts(SHAPE).mask.to_array(SHAPE)
    assert np.count_nonzero(mask ^ inside) < 0.1 * inside.sum()
    assert path.points == ((3, 4), (5, 6))


def test_napari_itself_writes_what_is_read(tmp_path):
    builtins = pytest.importorskip("napari_builtins.io")
    builtins.napari_write_points(str(tmp_path / "points.csv"), np.array([(2, 5, 6), (3, 7, 8)]), {})
    assert [one.points[0] for one in read_prompts(tmp_path / "points.csv")] == [(5, 6), (7, 8)]
    corners = [np.array([(1.5, 2.5), (1.5, 9.5), (5.5, 9.5), (5.5, 2.5)])]
    builtins.napari_write_shapes(str(tmp_path / "shapes.csv"), corners, {"shape_type": ["rectangle"]})
    assert [one.box for one in read_prompts(tmp_path / "shapes.csv")] == [(2, 3, 6, 10)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has the columns none"),
        ("a,b\n1,2\n", "has the columns a, b"),
        ("object,row,col\n1,five,6\n", "Line 2 of a.csv is not understood: 'five' is no number"),
        ("object,row,col\n1,nan,6\n", "'nan' is no number"),
        ("object,row,col,label\n1,5,6,2\n", "the label '2' is neither"),
        ("object,row,col\n,5,6\n", "the column object is empty"),
        ("object,row,col\n1,,\n", "neither a point nor a box"),
        ("object,top,left,bottom,right\n1,1,2,3,4\n1,1,2,3,5\n", "Line 3 .* object 1 has two boxes"),
        ("object,row,col,plane\n1,1,2,3\n1,1,2,4\n", "lies in two planes"),
        ("object,row,col,class\n1,1,2,cell\n1,1,3,\n1,1,4,nucleus\n", "Line 4 .* object 1 has two classes"),
        ("index,shape-type,vertex-index,axis-0,axis-1\n0,star,0,1,1\n", "type 'star'"),
        ("index,shape-type,vertex-index,axis-0,axis-1\nx,path,0,1,1\n", "Line 2 .* 'x' is no number"),
    ],
)
def test_csv_that_is_not_understood_is_told_in_one_sentence(text, said):
    with pytest.raises(PromptError, match=said) as caught:
        parse_csv(text, "a.csv")
    assert str(caught.value).count(". ") == 0
    assert str(caught.value).endswith(".")


@st.composite
def objects(draw, polygons=True):
    number = st.integers(0, 4000).map(lambda n: n / 64)
    found = []
    for name in draw(st.lists(st.integers(1, 99), unique=True, min_size=1, max_size=4)):
        points = tuple(draw(st.lists(st.tuples(number, number), max_size=4)))
        labels = tuple(sorted((draw(st.booleans()) for _ in points), reverse=True))
        top, left = draw(number), draw(number)
        box = draw(st.sampled_from([None, (top, left, top + 1 + draw(number), left + 2.5)]))
        triangle = ((top, left), (top, left + 9), (top + 7.25, left))
        shapes = draw(st.sampled_from([(), (triangle,)])) if polygons else ()
        if not (points or box or shapes):
            box = (0, 0, 1, 1)
        plane = draw(st.sampled_from([None, (0,), (7,)]))
        kind = draw(st.sampled_from([None, "nucleus", "cell, dividing"]))
        found.append(ObjectPrompts(str(name), points, labels, box, shapes, plane, kind))
    return found


@given(objects(polygons=False))
def test_what_is_written_as_csv_is_read_again(found):
    assert parse_csv(format_csv(found), "a.csv") == found


@given(objects(), st.sampled_from([None, NORTH_UP, Georeference(None, None)]))
def test_what_is_written_as_geojson_is_read_again(found, place):
    again = parse_geojson(format_geojson(found, place), "a.geojson", place)
    for what in ("name", "labels", "plane", "class_name"):
        assert [getattr(one, what) for one in again] == [getattr(one, what) for one in found]
    for one, two in zip(found, again, strict=True):
        for a, b in zip(
            (one.points, one.box or (), *one.polygons), (two.points, two.box or (), *two.polygons), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-6)


def feature(kind, at, **properties):
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": at}}


def collection(*features, **more) -> str:
    return json.dumps({"type": "FeatureCollection", "features": list(features), **more})


def test_geojson_in_pixels():
    text = collection(
        feature("Point", [6, 5], object=4),
        feature("MultiPoint", [[7, 5], [8, 5, 0]], object=4, label="negative"),
        feature("Polygon", [[[2.5, 1.5], [9.5, 1.5], [9.5, 5.5], [2.5, 5.5], [2.5, 1.5]]], object="fold"),
        feature("Polygon", [[[10, 10], [20, 10], [15, 20], [10, 10]]], plane=2),
    )
    points, box, polygon = parse_geojson(text, "a.geojson")
    assert points == ObjectPrompts("4", ((5, 6), (5, 7), (5, 8)), (True, False, False))
    assert (box.name, box.box) == ("fold", (2, 3, 6, 10))
    assert (polygon.name, polygon.polygons, polygon.plane) == ("5", (((10, 10), (10, 20), (20, 15)),), (2,))


def test_geojson_on_the_map():
    a, b, c, d, e, f = ON_THE_MAP.transform
    row, col = 12, 30
    x, y = a * (col + 0.5) + b * (row + 0.5) + c, d * (col + 0.5) + e * (row + 0.5) + f
    (one,) = parse_geojson(collection(feature("Point", [x, y])), "a.geojson", ON_THE_MAP)
    np.testing.assert_allclose(one.points, [(row, col)], atol=1e-6)


def test_geojson_of_another_reference_system_is_told():
    for said, code in [("urn:ogc:def:crs:OGC:1.3:CRS84", "4326"), ("urn:ogc:def:crs:EPSG::25833", "25833")]:
        crs = {"type": "name", "properties": {"name": said}}
        with pytest.raises(PromptError, match=f"in EPSG:{code} and the image in EPSG:32633"):
            parse_geojson(collection(feature("Point", [0, 0]), crs=crs), "a.geojson", NORTH_UP)
    same = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    assert parse_geojson(collection(feature("Point", [400_001, 5_399_999]), crs=same), "a.geojson", NORTH_UP)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no GeoJSON"),
        ("[1]", "holds no GeoJSON features"),
        ('{"type": "Topology"}', "holds no GeoJSON features"),
        (collection(feature("LineString", [[0, 0], [1, 1]])), "'LineString' is no prompt"),
        (collection({"type": "Feature", "properties": {}, "geometry": None}), "None is no prompt"),
        (collection(feature("Point", [])), "Feature 1 of a.geojson is no GeoJSON geometry"),
        (collection(feature("Point", ["a", 1])), "Feature 1 of a.geojson is no GeoJSON geometry"),
        (collection(feature("Polygon", [])), "Feature 1 of a.geojson is no GeoJSON geometry"),
        (collection("x"), "Feature 1 of a.geojson is no GeoJSON geometry"),
        (collection(feature("Polygon", [[[0, 0], [0, 9], [9, 9]]], label=0)), "a polygon cannot be negative"),
        ("[" * 100_000, "is no GeoJSON"),
    ],
)
def test_geojson_that_is_not_understood_is_told_in_one_sentence(text, said):
    with pytest.raises(PromptError, match=said) as caught:
        parse_geojson(text, "a.geojson")
    assert str(caught.value).endswith(".")


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "empty.csv").write_text("object,row,col\n")
    (tmp_path / "image.csv").write_bytes(b"\xff\xfe\x00\x81")
    for path, said in [
        (tmp_path / "prompts.txt", "let its name end in"),
        (tmp_path / "missing.csv", "No such file"),
        (tmp_path / "empty.csv", "holds no prompts"),
        (tmp_path / "image.csv", "no text in UTF-8"),
    ]:
        with pytest.raises(PromptError, match=said):
            read_prompts(path)


def test_a_polygon_goes_into_geojson_only(tmp_path):
    shape = ObjectPrompts("1", polygons=(((0, 0), (0, 9), (9, 9)),))
    with pytest.raises(OutputError, match=r"let the name end in \.geojson"):
        write_prompts(tmp_path / "a.csv", [shape])
    write_prompts(tmp_path / "a.geojson", [shape])
    assert read_prompts(tmp_path / "a.geojson") == [shape]
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["a.geojson"]


@given(st.integers(0, 999), st.sampled_from([0.3, 0.6, 0.9]))
def test_outlines_hold_the_pixels_of_a_mask_and_its_holes(seed, density):
    pixels = np.random.default_rng(seed).random((9, 11)) < density
    if not pixels.any():
        return
    mask = Mask(Box(20, 30, 29, 41), pixels)
    whole = np.zeros(SHAPE, bool)
    for corners in outlines(mask):
        whole |= rasterize_polygon(corners, SHAPE).to_array(SHAPE)
    # Pixels that meet at a corner only are of different parts, and what lies between them is open.
    assert np.array_equal(whole, ndimage.binary_fill_holes(mask.to_array(SHAPE), np.ones((3, 3))))


def test_prompts_that_no_image_can_take_are_told():
    for one in [
        ObjectPrompts("1", ((5, 6),), (False,)),
        ObjectPrompts("1", ((500, 6),), (True,)),
        ObjectPrompts("1", box=(5, 5, 1, 1)),
        ObjectPrompts("1", polygons=(((0, 0), (0, 9)),)),
    ]:
        with pytest.raises(NapariSamError):
            one.prompts(SHAPE)
