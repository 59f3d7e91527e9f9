"""OME-Zarr labels: on their own, and among the labels of an image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from napari_sam import export_labels
from napari_sam.errors import LabelsError, OutputError
from napari_sam.images.opening import open_image
from napari_sam.labels.pyramid import LabelPyramid

SHAPES = [(2, 3, 90, 121), (2, 3, 45, 61), (2, 3, 22, 30)]  # Channels, planes, rows, columns; rounded up and down.


def make_image(path, zarr_format):
    """Write an image of three levels in OME-Zarr 0.4 or 0.5."""
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    datasets = [
        {
            "path": f"s{level}",
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 2.0, 0.5 * 2**level, 0.25 * 2**level]},
                {"type": "translation", "translation": [0.0, 5.0, 6.0, 7.0]},
            ],
        }
        for level in range(3)
    ]
    entry = {"name": "image", "axes": axes, "datasets": datasets}
    attributes = {"ome": {"version": "0.5", "multiscales": [entry]}}
    if zarr_format == 2:
        attributes = {"multiscales": [{"version": "0.4", **entry}]}
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes=attributes)
    for level, shape in enumerate(SHAPES):
        names = {"dimension_names": list("czyx")} if zarr_format == 3 else {}
        group.create_array(f"s{level}", shape=shape, chunks=(1, 1, 64, 64), dtype="uint8", **names)
    return path


@pytest.fixture
def labels():
    found = np.zeros(SHAPES[0][1:], np.uint32)
    found[1, 10:40, 20:50] = 3
    found[2, 60:80, 100:121] = 70_000
    return found


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_labels_in_an_image_have_its_levels_axes_and_places_and_are_listed(tmp_path, labels, zarr_format):
    image = make_image(tmp_path / "image.ome.zarr", zarr_format)
    before = {path: path.read_bytes() for path in image.rglob("*") if path.is_file()}
    export_labels(labels, image / "labels" / "cells", image=image)
    assert all(path.read_bytes() == content for path, content in before.items()), "the image is as it was"
    group = zarr.open_group(image / "labels" / "cells", mode="r")
    assert group.metadata.zarr_format == zarr_format
    attributes = group.attrs.asdict()
    ome = attributes["ome"] if zarr_format == 3 else attributes
    (entry,) = ome["multiscales"]
    assert entry["name"] == "cells"
    assert [axis["name"] for axis in entry["axes"]] == ["z", "y", "x"]
    assert [group[dataset["path"]].shape for dataset in entry["datasets"]] == [shape[1:] for shape in SHAPES]
    assert entry["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, 1.0, 0.5]}, {"type": "translation", "translation": [5.0, 6.0, 7.0]},
    ]  # fmt: skip
    assert ome["image-label"]["source"] == {"image": "../../"}
    levels = [group[dataset["path"]][...] for dataset in entry["datasets"]]
    assert np.array_equal(levels[0], labels)
    assert np.array_equal(levels[1], labels[:, ::2, ::2])
    assert np.array_equal(levels[2], labels[:, ::4, ::4][:, :22, :30])
    listed = zarr.open_group(image / "labels", mode="r").attrs.asdict()
    assert (listed["ome"] if zarr_format == 3 else listed)["labels"] == ["cells"]
    place = open_image(image / "labels" / "cells")
    assert (place.axes, place.spacing, place.origin, place.unit) == (
        "zyx", (2.0, 0.5, 0.25), (5.0, 6.0, 7.0), "micrometer",
    )  # fmt: skip


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_second_label_image_is_listed_beside_the_first_and_replaced_on_request(tmp_path, labels, zarr_format):
    image = make_image(tmp_path / "image.ome.zarr", zarr_format)
    export_labels(labels, image / "labels" / "cells", image=image)
    export_labels(labels, image / "labels" / "some", image=image, labels=[3])
    with pytest.raises(OutputError, match="exists already"):
        export_labels(labels, image / "labels" / "some", image=image)
    export_labels(labels, image / "labels" / "cells", image=image, labels=70_000, overwrite=True)
    listed = zarr.open_group(image / "labels", mode="r").attrs.asdict()
    assert (listed["ome"] if zarr_format == 3 else listed)["labels"] == ["some", "cells"]
    assert np.unique(np.asarray(LabelPyramid.open(image / "labels" / "cells"))).tolist() == [0, 70_000]
    assert np.unique(np.asarray(LabelPyramid.open(image / "labels" / "some"))).tolist() == [0, 3]
    assert sorted(path.name for path in (image / "labels").iterdir() if path.is_dir()) == ["cells", "some"]


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_a_summary_of_metadata_knows_the_new_labels(tmp_path, labels):
    image = make_image(tmp_path / "image.ome.zarr", 3)
    zarr.consolidate_metadata(str(image))
    export_labels(labels, image / "labels" / "cells", image=image)
    assert "labels/cells/0" in dict(zarr.open_group(image, mode="r", use_consolidated=True).members(max_depth=None))


def test_labels_of_another_shape_are_not_put_into_an_image(tmp_path, labels):
    image = make_image(tmp_path / "image.ome.zarr", 3)
    before = sorted(path for path in image.rglob("*"))
    with pytest.raises(LabelsError, match="shape"):
        export_labels(labels[:, :50], image / "labels" / "cells")
    assert [path for path in sorted(image.rglob("*")) if path != image / "labels"] == before


def test_classes_are_colors_and_properties_of_the_labels(tmp_path, classified):
    export_labels(classified, tmp_path / "labels.ome.zarr")
    ome = json.loads((tmp_path / "labels.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    properties = {each["label-value"]: each for each in ome["image-label"]["properties"]}
    assert ome["multiscales"][0]["name"] == "labels"
    assert {label: each.get("class") for label, each in properties.items()} == {
        1: "Zelle „groß“", 2: "=1+1", 3: None, 4: "Zelle „groß“",
    }  # fmt: skip
    assert properties[2]["predicted_iou"] == pytest.approx(0.7)
    colors = {each["label-value"]: each["rgba"] for each in ome["image-label"]["colors"]}
    assert colors.keys() == {1, 2, 4}
    assert colors[1] == colors[4] != colors[2]
    assert np.array_equal(LabelPyramid.open(tmp_path / "labels.ome.zarr"), LabelPyramid.open(classified))


def test_only_chunks_with_objects_are_written(tmp_path):
    source = LabelPyramid.create(tmp_path / "large.ome.zarr", (20_000, 30_000))
    source[11_000:11_010, 12_000:12_010] = 5
    export_labels(source, tmp_path / "copy.ome.zarr")
    assert LabelPyramid.open(tmp_path / "copy.ome.zarr")[11_005, 12_005] == 5
    chunks = [path for path in (tmp_path / "copy.ome.zarr" / "0").rglob("*") if path.name.isdigit() and path.is_file()]
    assert len(chunks) == 1
