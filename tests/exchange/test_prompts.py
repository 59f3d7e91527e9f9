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
from napari_sam.core.prompts import rasterize_polygon
from napari_sam.errors import NapariSamError, OutputError, PromptError
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.exchange.prompts import outlines, read_prompts, write_prompts
from napari_sam.exchange.prompts_csv import format_csv, parse_csv
from napari_sam.exchange.prompts_geojson import format_geojson, parse_geojson
from napari_sam.exchange.reference_systems import system_of
from napari_sam.images.axes.georeference import Georeference

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


def test_a_shape_that_lies_in_several_planes_is_refused():
    corners = [(4, 1, 1), (4, 1, 9), (5, 9, 9)]
    lines = [f"0,polygon,{i},{','.join(map(str, at))}" for i, at in enumerate(corners)]
    header = "index,shape-type,vertex-index,axis-0,axis-1,axis-2"
    with pytest.raises(PromptError, match="lies in 2 planes"):
        parse_csv("\n".join([header, *lines]), "a.csv")
    (one,) = parse_csv("\n".join([header, *(line.replace(",5,9,9", ",4,9,9") for line in lines)]), "a.csv")
    assert one.plane == (4,)


def test_boxes_by_width_and_height_are_not_taken_for_points_at_their_corners():
    with pytest.raises(PromptError, match="top, left, bottom and right"):
        parsed("object,x,y,width,height\n1,5,6,10,20\n")
    table = parsed(" ,Area,X,Y,BX,BY,Width,Height\n1,30,5.5,6.5,5,6,1,1\n")
    assert table["1"].points == ((6.5, 5.5),)


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
        ("object,row,col,plane\n1,1,2,3\n1,1,2,4\n1,1,2,\n", "Line 4 .* object 1 lies in several planes"),
        ("object,row,col,plane-0,plane-1\n1,1,2,3,\n", "no number"),
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


SEVERAL = [
    ObjectPrompts("1", ((5, 6), (7, 8)), (True, False), (1, 2, 9, 9), plane=(3,), class_name="cell"),
    ObjectPrompts("2", ((5, 6),), (True,), plane=(3,)),
    ObjectPrompts("1", box=(1, 2, 9, 9), plane=(4,), class_name="cell"),
    ObjectPrompts("1", ((5, 6),), (True,), plane=(12,), class_name="cell"),
]


def test_an_object_may_have_prompts_in_several_planes():
    assert parse_csv(format_csv(SEVERAL), "a.csv") == SEVERAL
    assert parse_geojson(format_geojson(SEVERAL), "a.geojson") == SEVERAL
    rows = "1,5,6,1,3\n2,5,6,1,3\n1,7,8,0,4\n1,9,9,1,3\n"
    found = parse_csv(f"object,row,col,label,z\n{rows}", "a.csv")
    assert [(one.name, one.named_plane, len(one.points)) for one in found] == [
        ("1", (("z", 3),), 2),
        ("2", (("z", 3),), 1),
        ("1", (("z", 4),), 1),
    ]
    found = parse_csv("object,axis-0,axis-1,axis-2\n1,3,5,6\n1,4.2,5,6\n1,3,7,8\n", "points.csv")
    assert [(one.plane, one.points) for one in found] == [((3,), ((5, 6), (7, 8))), ((4,), ((5, 6),))]


def test_a_prompt_that_does_not_name_the_plane_lies_in_that_of_the_others_where_there_is_one():
    assert parsed("object,row,col,z,t\n1,5,6,3,\n1,7,8,,1\n1,9,9,,\n")["1"].named_plane == (("z", 3), ("t", 1))
    found = parse_csv("object,row,col,z,t\n1,5,6,3,1\n1,5,6,4,0\n1,7,8,,1\n1,9,9,4,\n", "a.csv")
    assert [(one.named_plane, one.points) for one in found] == [
        ((("z", 3), ("t", 1)), ((5, 6), (7, 8))),
        ((("z", 4), ("t", 0)), ((5, 6), (9, 9))),
    ]


def test_features_of_an_object_name_several_planes_in_any_way_that_is_clear():
    def feature(**properties):
        return {"type": "Feature", "properties": properties, "geometry": {"type": "Point", "coordinates": [6, 5]}}

    def read(*features):
        return parse_geojson(json.dumps({"type": "FeatureCollection", "features": features}), "a.geojson")

    found = read(*(feature(object=1, plane=plane) for plane in ({"z": 2, "t": 1}, {"t": 1, "z": 3}, {"t": 1, "z": 2})))
    assert [(dict(one.named_plane), len(one.points)) for one in found] == [({"z": 2, "t": 1}, 2), ({"z": 3, "t": 1}, 1)]
    found = read(feature(object="a", plane=2), feature(object="a", plane=[3]), feature(plane=3))
    assert [(one.name, one.plane) for one in found] == [("a", (2,)), ("a", (3,)), ("3", (3,))]
    for planes in ((2, {"z": 3}, 4), (2, 3, None), ({"z": 2}, {"z": 3}, {"t": 1})):
        with pytest.raises(PromptError, match="lies in several planes"):
            read(*(feature(object=1, plane=plane) for plane in planes))


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


# Columns and properties that name planes


@pytest.mark.parametrize("columns", ["x,y,z,t", "t,z,y,x", "z,x,t,y", "time_z"])
def test_planes_are_named_by_columns_in_any_order(columns):
    values = {"x": 155, "y": 51, "z": 2, "t": 1}
    names = ["t", "x", "z", "y"] if columns == "time_z" else columns.split(",")
    one = parsed(f"object,{','.join(names)}\n1,{','.join(str(values[name]) for name in names)}\n")["1"]
    assert one.points == ((51, 155),)
    assert dict(one.named_plane) == {"z": 2, "t": 1}
    assert one.plane == (1, 2)


def test_rows_and_columns_of_other_planes_are_named_by_their_axes():
    (one,) = parse_csv("object,x,y,z\n1,7,8,9\n", "a.csv", ("z", "x"))
    assert (one.points, one.named_plane) == (((9, 7),), (("y", 8),))
    (one,) = parse_csv("object,col,row,y\n1,7,9,8\n", "a.csv", ("z", "x"))
    assert (one.points, one.named_plane) == (((9, 7),), (("y", 8),))


def test_numbered_planes_are_ordered_by_their_numbers():
    assert parsed("row,col,plane-1,plane-0\n5,6,2,1\n")["1"].plane == (1, 2)
    one = parsed("index,axis-3,axis-2,axis-1,axis-0\n0,6,5,2,1\n")["1"]
    assert (one.points, one.plane) == (((5, 6),), (1, 2))
    with pytest.raises(PromptError, match="one of the axes is missing"):
        parsed("index,axis-0,axis-2,axis-3\n0,1,5,6\n")


def test_features_of_a_points_layer_name_no_plane():
    one = parsed("index,axis-0,axis-1,z,frame\n0,5,6,7,8\n")["1"]
    assert (one.points, one.plane, one.named_plane) == (((5, 6),), None, ())


def test_a_channel_may_be_a_word_and_a_frame_counts_only_where_nothing_else_does():
    assert parsed("row,col,channel\n5,6,DAPI\n")["1"].named_plane == ()
    assert parsed("row,col,z,frame\n5,6,1,2\n")["1"].named_plane == (("z", 1),)
    assert parsed("row,col,frame\n5,6,2\n")["1"].named_plane == (("frame", 2),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("row,col,z\n1,1,1.5\n", "the plane 1.5 is no whole number"),
        ("row,col,plane\n1,1,nan\n", "'nan' is no number"),
        ("row,col,plane,z\n1,1,1,1\n", "both name a plane"),
        ("object,row,col,z,t\n1,1,1,1,\n1,1,1,2,\n1,1,1,,3\n", "Line 2 .* lies in several planes"),
        ("object,row,col,z,class\n1,1,1,1,a\n1,1,1,2,b\n", "Object 1 has two classes"),
        ("row,col,row\n1,1,1\n", "two columns row"),
        ("row,col\n5,5,6,0\n", "has 4 cells and the header 2"),
        ("row;col\n5,5;6\n", "'5,5' has a decimal comma"),
        ('row,col\n"1,1\n2,2\n', "is no CSV .* quotation mark"),
        ('row,col\n"1"1,1\n', "is no CSV"),
        ("row,col\n" + "x" * 140_000 + ",1\n", "is no CSV"),
        ("row,col\n" + "x" * 9_000 + ",1\n", "is no number"),
        ("row,col\n1e999,1\n", "'1e999' is no number"),
        ("object,row,col\n" + "x" * 9_000 + ",1,1\n", "name has 9000 characters"),
        ("row,col,class\n1,1," + "x" * 9_000 + "\n", "class has 9000 characters"),
        ("x" * 9_000 + "\n1\n", "has the columns x"),
        ("index,shape-type,vertex-index,axis-0,axis-1\n0,path,0,1,1\n0,polygon,1,1,1\n", "two types"),
    ],
)
def test_cells_that_would_be_taken_for_something_else_are_refused(text, said):
    with pytest.raises(PromptError, match=said) as caught:
        parse_csv(text, "a.csv")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nobject;row;col\n1;5;6\n",
        "sep=\t\r\nobject\trow\tcol\r\n1\t5\t6\r\n",
        "object,row,col\n1,5,6,,\n",
        "index,row,col,axis-²\n1,5,6,7\n",
    ],
)
def test_more_spellings(text):
    (one,) = parsed(text).values()
    assert one.points == ((5, 6),)


def test_qupath_names_planes_in_the_geometry_and_c_stands_for_all_channels():
    drawn = feature("Point", [6, 5])
    drawn["geometry"]["plane"] = {"c": -1, "z": 2, "t": 1}
    for one in (drawn, feature("Point", [6, 5], plane={"t": 1, "z": 2}), feature("Point", [6, 5], z=2, t=1)):
        (found,) = parse_geojson(collection(one), "a.geojson")
        assert dict(found.named_plane) == {"z": 2, "t": 1}
        assert found.plane == (1, 2)
    (found,) = parse_geojson(collection(feature("Point", [400_001, 5_399_999], z=112.5)), "a.geojson", NORTH_UP)
    assert found.plane is None, "on a map z is a height"


# Classes of QuPath


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        ({"classification": {"name": "Tumor", "color": [200, 0, 0]}}, "Tumor"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
        ({"classification": {"name": "Tumor: Positive"}}, "Tumor: Positive"),
        ({"classification": "Stroma"}, "Stroma"),
        ({"classification": {"name": None}}, None),
        ({"classification": {}}, None),
        ({"classification": None, "isLocked": True, "name": "x"}, None),
        ({"class": "nucleus", "classification": {"name": "Tumor"}}, "nucleus"),
        ({"category": 3}, "3"),
        ({}, None),
    ],
)
def test_the_class_of_qupath_comes_with_the_prompts(properties, name):
    (one,) = parse_geojson(collection(feature("Point", [6, 5], objectType="annotation", **properties)), "a.geojson")
    assert one.class_name == name


def test_a_cell_of_qupath_is_its_outline_and_a_file_may_be_a_list_of_features():
    outline = [[[10, 10], [20, 10], [15, 20], [10, 10]]]
    cell = feature("Polygon", outline, objectType="cell", measurements={"Area": float("nan"), "area": 1})
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[[12, 12], [14, 12], [13, 14], [12, 12]]]}
    several = feature("MultiPolygon", [outline, [[[30, 30], [40, 30], [35, 40], [30, 30]]]])
    one, two = parse_geojson(json.dumps([cell, several]), "a.geojson")
    assert one.polygons == (((10, 10), (10, 20), (20, 15)),)
    assert len(two.polygons) == 2


# GeoJSON that is damaged


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (collection(feature("Point", [True, False])), "is no GeoJSON geometry"),
        (collection(feature("Point", [None, 1])), "is no GeoJSON geometry"),
        (collection(feature("Point", None)), "is no GeoJSON geometry"),
        (collection(feature("Point", [float("nan"), 1])), "a coordinate is no number"),
        ('{"type": "Point", "coordinates": [1' + "0" * 400 + ", 5]}", "too large"),
        ('{"type": "Point", "coordinates": [1' + "0" * 5000 + ", 5]}", "too many digits"),
        (collection(None), "is no GeoJSON geometry"),
        (collection(feature("Point", [1, 1], plane=True)), "the plane True is no whole number"),
        (collection(feature("Point", [1, 1], plane=1.5)), "the plane 1.5 is no whole number"),
        (collection(feature("Point", [1, 1], plane=float("inf"))), "the plane inf is no whole number"),
        (collection(feature("Point", [1, 1], plane=float("nan"))), "the plane nan is no whole number"),
        (collection(feature("Point", [1, 1], plane={"depth": 1})), "names the axis 'depth'"),
        (collection(feature("Point", [1, 1], object={"a": 1})), "the object is neither a number nor a name"),
        (collection(feature("Point", [1, 1], object="\ud800")), "the name of the object is damaged"),
        (collection(feature("Point", [1, 1], object="x" * 999)), "the name of the object is too long"),
        (collection(feature("Point", [1, 1], classification=[[1]])), "its class is neither"),
        ('{"type": "Point", "coordinates": [1, 1], "coordinates": [2, 2]}', "has the key 'coordinates' twice"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_damaged_geojson_is_refused_in_one_sentence(text, said):
    with pytest.raises(PromptError, match=said) as caught:
        parse_geojson(text, "a.geojson")
    assert str(caught.value).endswith(".")
    assert "sys." not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "crs", [[1], {"properties": [1]}, {"properties": {"name": 1}}, "x", None, {"properties": None}]
)
def test_a_reference_system_of_another_form_says_nothing(crs):
    (one,) = parse_geojson(collection(feature("Point", [6, 5]), crs=crs), "a.geojson")
    assert one.points == ((5, 6),)


def test_names_are_found_in_linear_time(monkeypatch):
    """Features without a name take the free numbers, each of which is looked at once."""
    drawn = []

    def count(start):
        number = start
        while True:
            drawn.append(number)
            yield number
            number += 1

    monkeypatch.setattr("napari_sam.exchange.prompts_geojson.itertools.count", count)
    unnamed = [feature("Point", [1, 1]) for _ in range(300)]
    named = [feature("Point", [2, 2], object=number) for number in range(1, 301)]
    found = parse_geojson(collection(*unnamed, *named), "a.geojson")
    assert [one.name for one in found] == [str(number) for number in [*range(301, 601), *range(1, 301)]]
    assert len(drawn) <= 2 * len(found)


# Reference systems

LOCAL = 'PROJCS["by hand",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],UNIT["metre",1,AUTHORITY["EPSG","9001"]]]'
WKT2 = 'PROJCRS["UTM 33N",BASEGEOGCRS["WGS 84",ID["EPSG",4326]],LENGTHUNIT["m",1,ID["EPSG",9001]], ID["EPSG",32633]]'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("urn:ogc:def:crs:EPSG::32633", "EPSG:32633"),
        ("urn:ogc:def:crs:EPSG:9.9:32633", "EPSG:32633"),
        ("EPSG:4326", "EPSG:4326"),
        ("epsg:3857", "EPSG:3857"),
        ("ESRI:102003", "ESRI:102003"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326"),
        ("urn:ogc:def:crs:OGC::CRS84", "EPSG:4326"),
        ("http://www.opengis.net/def/crs/EPSG/0/3347", "EPSG:3347"),
        (UTM, "EPSG:32633"),
        (WKT2, "EPSG:32633"),
        (LOCAL, None),
        ('PROJCS["a ]],AUTHORITY[EPSG,1]"]', None),
        ("by hand", None),
    ],
)
def test_the_code_of_a_system_is_the_one_of_all_of_it(text, code):
    assert system_of(text) == code


def test_a_system_without_a_code_is_written_whole_and_compared(tmp_path):
    place = Georeference(LOCAL, NORTH_UP.transform)
    text = format_geojson([ObjectPrompts("1", ((5, 6),), (True,))], place)
    assert "9001" not in json.loads(text)["crs"]["properties"]["name"].partition("UNIT")[0]
    (one,) = parse_geojson(text, "a.geojson", place)
    np.testing.assert_allclose(one.points, [(5, 6)], atol=1e-6)
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3347"}}
    with pytest.raises(PromptError, match="in EPSG:3347 and the image in a system without a code"):
        parse_geojson(collection(feature("Point", [0, 0]), crs=crs), "a.geojson", place)
    with pytest.raises(PromptError, match="in another system and the image in EPSG:32633"):
        parse_geojson(text, "a.geojson", NORTH_UP)
