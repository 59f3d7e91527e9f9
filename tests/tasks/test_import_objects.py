"""Objects of other programs as labels: COCO, GeoJSON, GeoPackage, ROIs and label images, pixel by pixel."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import roifile
import tifffile

from napari_sam import import_objects
from napari_sam.errors import LabelsError, PromptError
from napari_sam.exchange.importing.coco import mask_of_runs
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import journal_beside
from napari_sam.journal.journal import Journal
from napari_sam.labeled_image import LabeledImage

SHAPE = (40, 60)
# A ring with a hole, one pixel, and a rectangle.
OBJECTS = np.zeros((3, *SHAPE), bool)
OBJECTS[0, 5:15, 10:30] = True
OBJECTS[0, 8:12, 15:20] = False
OBJECTS[1, 39, 59] = True
OBJECTS[2, 20:30, 0:7] = True
CLASSES = ["nucleus", "debris", "nucleus"]


@pytest.fixture
def labeled(tmp_path):
    return opened(np.zeros(SHAPE, np.uint8), tmp_path)


def opened(image, folder):
    labeled = LabeledImage(image if isinstance(image, Volume) else Volume.of(image))
    labeled._open(None, folder / "a.journal", None)
    return labeled


def runs(mask):
    flat = mask.T.ravel()
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes, flat.size])
    return [0, *lengths.tolist()] if flat[0] else lengths.tolist()


def coco_text(counts):
    """Return run lengths in COCO's own text, as its C code writes them."""
    text = ""
    for at, count in enumerate(counts):
        value, is_more = count - (counts[at - 2] if at > 2 else 0), True
        while is_more:
            letter = value & 0x1F
            value >>= 5
            is_more = value != -1 if letter & 0x10 else value != 0
            text += chr((letter | 0x20 if is_more else letter) + 48)
    return text


def coco(segmentations, **more):
    categories = [{"id": 3, "name": "nucleus"}, {"id": 9, "name": "debris"}]
    annotations = [
        {"id": n, "image_id": 7, "category_id": 3 if name == "nucleus" else 9, "score": 0.5, **segmentation}
        for n, (segmentation, name) in enumerate(zip(segmentations, CLASSES, strict=True))
    ]
    images = [{"id": 7, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1]}, {"id": 8, "file_name": "b.png"}]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def write_json(path, data):
    path.write_text(json.dumps(data))
    return path


def assert_imported(labeled, labels):
    assert None not in labels
    for mask, label in zip(OBJECTS, labels, strict=True):
        np.testing.assert_array_equal(labeled.labels == label, mask)


@pytest.mark.parametrize("code", [lambda counts: counts, coco_text])
def test_run_lengths_of_coco_are_the_same_pixels_and_keep_holes(labeled, tmp_path, code):
    data = coco([{"segmentation": {"size": SHAPE, "counts": code(runs(mask))}} for mask in OBJECTS])
    labels = import_objects(labeled, write_json(tmp_path / "a.json", data), image="a.png")
    assert_imported(labeled, labels)
    names = [labeled.journal.object(label).label_class.name for label in labels]
    assert names == CLASSES
    assert labeled.journal.object(labels[0]).parts[0].accepted.mask.iou_prediction == pytest.approx(0.5)
    labeled.undo()
    assert not labeled.labels.any(), "one undo takes all back"


def test_the_text_of_coco_is_that_of_its_own_tools():
    mask = np.zeros((6, 6), bool)
    mask[1:4, 2:5] = True
    # What pycocotools.mask.encode returns for it.
    np.testing.assert_array_equal(mask_of_runs({"size": (6, 6), "counts": "=330005"}, (6, 6)).to_array((6, 6)), mask)
    assert coco_text(runs(mask)) == "=330005"


def test_polygons_and_boxes_of_coco_count_from_the_corner(labeled, tmp_path):
    ring = {
        "segmentation": [
            [10, 5, 30, 5, 30, 8, 10, 8],
            [10, 8, 15, 8, 15, 12, 10, 12],
            [20, 8, 30, 8, 30, 12, 20, 12],
            [10, 12, 30, 12, 30, 15, 10, 15],
        ]
    }
    data = coco([ring, {"bbox": [59, 39, 1, 1]}, {"segmentation": [[0, 20, 7, 20, 7, 30, 0, 30]]}])
    assert_imported(labeled, import_objects(labeled, write_json(tmp_path / "a.json", data), image="x/a.png"))


def test_an_image_that_coco_does_not_name_is_said(labeled, tmp_path):
    data = coco([{"bbox": [0, 0, 5, 5]}] * 3)
    path = write_json(tmp_path / "a.json", data)
    with pytest.raises(PromptError, match=r"holds a\.png, b\.png, and c\.png is none"):
        import_objects(labeled, path, image="c.png")
    data["images"] = [{"id": 7, "file_name": "a.png", "height": 10, "width": 10}]
    with pytest.raises(PromptError, match="of an image of 10 x 10 pixels and this one has 40 x 60"):
        import_objects(labeled, write_json(path, data))
    data = coco([{"segmentation": {"size": SHAPE, "counts": [5, 5]}}] * 3)
    with pytest.raises(PromptError, match="do not cover the image"):
        import_objects(labeled, write_json(path, data), image="a.png")


def test_the_file_of_sam_is_read_with_its_scores(labeled, tmp_path):
    entries = [
        {"segmentation": {"size": SHAPE, "counts": coco_text(runs(mask))}, "predicted_iou": 0.9, "stability_score": 0.8}
        for mask in OBJECTS
    ]
    data = {"image": {"image_id": 1, "height": 40, "width": 60, "file_name": "sa_1.jpg"}, "annotations": entries}
    labels = import_objects(labeled, write_json(tmp_path / "sa_1.json", data))
    assert_imported(labeled, labels)
    assert labeled.journal.object(labels[0]).parts[0].accepted.mask.stability_score == pytest.approx(0.8)


def ring_of(*corners):
    return [[float(x), float(y)] for x, y in (*corners, corners[0])]


def features(turn=lambda x, y: (x, y)):
    """Return the objects as polygons of pixel edges, in any coordinates."""
    boxes = [((10, 5, 30, 15), (15, 8, 20, 12)), ((59, 39, 60, 40),), ((0, 20, 7, 30),)]
    return [
        {
            "type": "Feature",
            "properties": {"objectType": "annotation", "classification": {"name": name, "color": [200, 0, 0]}},
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    ring_of(*(turn(*corner) for corner in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))))
                    for x0, y0, x1, y1 in rings
                ],
            },
        }
        for rings, name in zip(boxes, CLASSES, strict=True)
    ]


def test_polygons_of_qupath_have_their_pixels_holes_and_classes(labeled, tmp_path):
    line = {"type": "Feature", "properties": {}, "geometry": {"type": "LineString", "coordinates": [[1, 1], [9, 9]]}}
    path = write_json(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": [*features(), line]})
    labels = import_objects(labeled, path)
    assert_imported(labeled, labels)
    assert [labeled.journal.object(label).label_class.name for label in labels] == CLASSES


@pytest.fixture
def on_map(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    from affine import Affine

    place = Affine(10, 0, 500_000, 0, -10, 5_800_000)
    profile = {"driver": "GTiff", "count": 1, "height": SHAPE[0], "width": SHAPE[1], "dtype": "uint8"}
    with rasterio.open(tmp_path / "map.tif", "w", crs="EPSG:32633", transform=place, **profile) as file:
        file.write(np.ones(SHAPE, np.uint8), 1)
    return opened(str(tmp_path / "map.tif"), tmp_path)


def on_earth(crs):
    """Return what turns pixel edges into coordinates of a reference system."""
    from rasterio.warp import transform

    def turn(col, row):
        x, y = transform("EPSG:32633", crs, [500_000 + 10 * col], [5_800_000 - 10 * row])
        return x[0], y[0]

    return turn


@pytest.mark.parametrize(("crs", "is_named"), [("EPSG:4326", True), ("EPSG:4326", False), ("EPSG:3857", True)])
def test_polygons_in_another_system_are_converted_into_the_image(on_map, tmp_path, crs, is_named):
    data = {"type": "FeatureCollection", "features": features(on_earth(crs))}
    if is_named:
        data["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{crs.replace(':', '::')}"}}
    assert_imported(on_map, import_objects(on_map, write_json(tmp_path / "a.geojson", data)))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:4326"])
def test_a_geopackage_is_converted_into_the_image(on_map, tmp_path, crs):
    pyogrio, shapely = pytest.importorskip("pyogrio"), pytest.importorskip("shapely")
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in features(on_earth(crs))]
    pyogrio.raw.write(
        tmp_path / "a.gpkg",
        shapely.to_wkb(shapes),
        [np.array(CLASSES, object)],
        ["class"],
        crs=crs,
        geometry_type="Polygon",
        driver="GPKG",
    )
    labels = import_objects(on_map, tmp_path / "a.gpkg")
    assert_imported(on_map, labels)
    assert [on_map.journal.object(label).label_class.name for label in labels] == CLASSES


def test_polygons_elsewhere_are_said(on_map, tmp_path):
    data = {"type": "FeatureCollection", "features": features(lambda x, y: (x + 10, y + 10))}
    for feature in data["features"]:
        del feature["properties"]["objectType"]  # Which means pixels.
    with pytest.raises(PromptError, match="holds no object that lies in the image"):
        import_objects(on_map, write_json(tmp_path / "a.geojson", data))


def test_rois_of_imagej_have_their_pixels(labeled, tmp_path):
    ring = [(10, 5), (30, 5), (30, 15), (10, 15)]
    rois = [
        roifile.ImagejRoi.frompoints(np.array(ring, float)),
        roifile.ImagejRoi.frompoints(np.array([(59, 39), (60, 39), (60, 40), (59, 40)], float)),
        roifile.ImagejRoi.frompoints(np.array([(0, 20), (7, 20), (7, 30), (0, 30)], float)),
    ]
    roifile.roiwrite(tmp_path / "rois.zip", rois)
    labels = import_objects(labeled, tmp_path / "rois.zip")
    filled = OBJECTS.copy()
    filled[0, 5:15, 10:30] = True
    for mask, label in zip(filled, labels, strict=True):
        np.testing.assert_array_equal(labeled.labels == label, mask)


def test_damaged_rois_are_said(labeled, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(PromptError, match="cannot be read as ROIs"):
        import_objects(labeled, tmp_path / "a.zip")


def test_a_label_image_of_any_format_keeps_objects_that_go_on_in_other_planes(tmp_path):
    numbers = np.zeros((3, *SHAPE), np.int32)
    numbers[0, OBJECTS[0]] = 5
    numbers[1, OBJECTS[2]] = 70_000_000
    numbers[1, 5:9, 30:33] = 5
    numbers[2, OBJECTS[1]] = 9
    nibabel.save(nibabel.Nifti1Image(numbers.T, np.eye(4)), tmp_path / "labels.nii.gz")
    labeled = opened(np.zeros((3, *SHAPE), np.uint8), tmp_path)
    labels = import_objects(labeled, tmp_path / "labels.nii.gz")
    assert len(set(labels)) == 3
    known = {0: 0, 5: labels[0], 70_000_000: labeled.labels[1, 25, 3], 9: labels[-1]}
    expected = np.vectorize(known.get)(numbers)
    np.testing.assert_array_equal(labeled.labels, expected)
    labeled.undo()
    assert not labeled.labels.any()
    labeled.redo()
    np.testing.assert_array_equal(labeled.labels, expected)


def test_labels_of_another_shape_are_refused(labeled, tmp_path):
    tifffile.imwrite(tmp_path / "l.tif", np.ones((10, 10), np.uint8))
    with pytest.raises(PromptError, match="10 x 10 and the image 40 x 60"):
        import_objects(labeled, tmp_path / "l.tif")


def test_the_command_writes_labels_with_a_journal_and_prompts(run, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.zeros(SHAPE, np.uint8))
    path = write_json(tmp_path / "a.geojson", {"type": "FeatureCollection", "features": features()})
    out = tmp_path / "l.ome.zarr"
    result = run("import", path, "--image", tmp_path / "image.tif", "--out", out)
    assert result.code == 0, result.err
    assert "3 object(s) imported" in result.out
    with Journal(journal_beside(out)) as journal:
        assert sorted(one.label_class.name for one in journal.objects) == sorted(CLASSES)
    for name in ("p.geojson", "p.csv"):
        result = run("import", path, "--image", tmp_path / "image.tif", "--as", "prompts", "--out", tmp_path / name)
        assert result.code == 0, result.err
    assert "nucleus" in (tmp_path / "p.csv").read_text()
    assert Path(tmp_path / "p.geojson").exists()
    refused = run("import", path, "--image", tmp_path / "image.tif", "--out", out)
    assert (refused.code, "Traceback" in refused.err) == (1, False)


SQUARE = [[2, 2, 12, 2, 12, 12, 2, 12]]
RING = [[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]]


@pytest.mark.parametrize(
    "data",
    [
        {"images": None, "categories": None, "annotations": [{"segmentation": SQUARE, "category_id": 1}]},
        {"images": 5, "categories": [{"id": [1], "name": "x"}], "annotations": [{"segmentation": SQUARE}]},
        {"annotations": [{"segmentation": SQUARE, "category_id": [1]}], "categories": [{"id": 1, "name": None}]},
        {"annotations": [{"segmentation": SQUARE, "category_id": 1}], "categories": [{"id": 1, "name": ""}]},
    ],
)
def test_coco_with_empty_lists_or_odd_numbers_is_read_without_classes(labeled, tmp_path, data):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    assert import_objects(labeled, path) == [1]
    assert next(iter(labeled.journal.objects)).label_class is None


@pytest.mark.parametrize(
    "annotation",
    [
        {"segmentation": SQUARE, "score": 10**400},
        {"segmentation": {"size": list(SHAPE), "counts": [2**62, 2**62, 2**62, 2**62, SHAPE[0] * SHAPE[1]]}},
    ],
)
def test_numbers_of_coco_that_no_type_holds_are_said(labeled, tmp_path, annotation):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"annotations": [annotation]}))
    with pytest.raises(PromptError, match=r"Annotation 0 of .* is damaged"):
        import_objects(labeled, path)


@pytest.mark.parametrize(
    "geometry",
    [
        {"coordinates": [[[10**400, 1], [2, 3], [4, 5]]]},
        {"coordinates": [RING], "plane": {"z": float("inf")}},
    ],
)
def test_numbers_of_geojson_that_no_type_holds_are_said(labeled, tmp_path, geometry):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Feature", "geometry": {"type": "Polygon", **geometry}, "properties": {}}))
    with pytest.raises(PromptError, match="no GeoJSON geometry"):
        import_objects(labeled, path)


def test_half_a_character_in_the_name_of_a_class_is_said(labeled, tmp_path):
    path = tmp_path / "a.json"
    annotation = {"segmentation": SQUARE, "category_id": 1}
    path.write_text(json.dumps({"annotations": [annotation], "categories": [{"id": 1, "name": "a\ud800"}]}))
    with pytest.raises(LabelsError, match="is damaged"):
        import_objects(labeled, path)


def test_all_layers_of_a_geopackage_are_read_and_tables_left_out(labeled, tmp_path):
    pyogrio = pytest.importorskip("pyogrio", reason="pyogrio is not installed: pip install pyogrio")
    shapely = pytest.importorskip("shapely", reason="shapely is not installed: pip install shapely")
    path = tmp_path / "a.gpkg"
    pyogrio.raw.write(path, None, [np.array([1, 2])], ["a"], driver="GPKG", geometry_type=None, layer="table")
    with pytest.raises(PromptError, match="holds no object"):
        import_objects(labeled, path)
    for at, name in enumerate(["first", "second"]):
        shape = np.array([shapely.to_wkb(shapely.box(10 * at, 2, 10 * at + 5, 9))], object)
        with pytest.warns(UserWarning, match="crs"):
            pyogrio.raw.write(path, shape, [], [], driver="GPKG", geometry_type="Polygon", layer=name)
    assert import_objects(labeled, path) == [1, 2]


def test_the_command_offers_no_option_that_it_lacks_for_labels_that_exist(run, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.zeros(SHAPE, np.uint8))
    (tmp_path / "a.json").write_text(json.dumps({"annotations": [{"segmentation": SQUARE}]}))
    given = ("import", tmp_path / "a.json", "--image", tmp_path / "image.tif", "--out", tmp_path / "out.ome.zarr")
    assert run(*given).code == 0
    again = run(*given)
    assert again.code == 1
    assert "exists already" in again.err
    assert "--append" not in again.err
