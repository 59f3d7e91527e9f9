"""OME-Zarr metadata: what is read from damaged ones, and exactly what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zarr

from napari_sam.images.ome_zarr.metadata import read_multiscale, with_paths
from napari_sam.labels.pyramid import LabelPyramid

PLANE = """{"ome": {"version": "0.5", "multiscales": [{"name": "cells", "type": "nearest",
 "axes": [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}],
 "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]},
 {"type": "translation", "translation": [0.0, 0.0]}]}, {"path": "1", "coordinateTransformations":
 [{"type": "scale", "scale": [2.0, 2.0]}, {"type": "translation", "translation": [0.0, 0.0]}]}]}],
 "image-label": {}}, "napari-sam": {"highest_label": 0}}"""
MOVIE = """{"ome": {"version": "0.5", "multiscales": [{"name": "nuclei", "type": "nearest",
 "axes": [{"name": "z", "type": "space", "unit": "micrometer"}, {"name": "t"}, {"name": "c"},
 {"name": "y", "type": "space", "unit": "micrometer"}, {"name": "x", "type": "space", "unit": "micrometer"}],
 "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [2.0, 1.0, 1.0, -0.5, 0.25]},
 {"type": "translation", "translation": [0.0, 3.0, 0.0, 1.5, 0.0]}]}]}],
 "image-label": {"source": {"image": "../../image.zarr"}}}, "more": [1], "napari-sam": {"highest_label": 0}}"""


def attributes_text(path: Path) -> str:
    return json.dumps(json.loads((path / "zarr.json").read_text())["attributes"])


def test_the_metadata_of_a_new_label_image_are_these_to_the_letter(tmp_path: Path) -> None:
    LabelPyramid.create(tmp_path / "cells.zarr", (600, 40))
    assert attributes_text(tmp_path / "cells.zarr") == json.dumps(json.loads(PLANE))
    LabelPyramid.create(
        tmp_path / "movie.zarr",
        (2, 3, 1, 20, 30),
        axes="ztcyx",
        spacing=(2, 1, 1, -0.5, 0.25),
        translation=(0, 3, 0, 1.5, 0),
        unit="micrometer",
        name="nuclei",
        source="../../image.zarr",
        attributes={"more": [1]},
    )
    assert attributes_text(tmp_path / "movie.zarr") == json.dumps(json.loads(MOVIE))


@pytest.mark.parametrize(
    "damage",
    [
        {"axes": 5},
        {"axes": [{"name": "y"}]},
        {"coordinateTransformations": 5},
        {"coordinateTransformations": [{"type": "rotation", "rotation": [[0, 1], [1, 0.5]]}]},
        {"coordinateSystems": [{"name": "world"}]},
    ],
)
def test_labels_open_whatever_their_metadata_say_of_axes_and_positions(tmp_path: Path, damage: dict[str, Any]) -> None:
    path = tmp_path / "labels.zarr"
    LabelPyramid.create(path, (600, 40))
    group = zarr.open_group(path, mode="r+")
    ome: Any = group.attrs["ome"]
    group.attrs["ome"] = ome | {"multiscales": [ome["multiscales"][0] | damage]}
    assert LabelPyramid.open(path).downsample_factors == ((1, 1), (2, 2))


@pytest.mark.parametrize(
    "attributes",
    [{}, {"ome": 5}, {"multiscales": "x"}, {"multiscales": []}, {"ome": {"multiscales": [{"datasets": []}]}}],
)
def test_attributes_that_describe_no_image_are_refused(attributes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, LookupError)):
        read_multiscale(attributes)


@pytest.mark.parametrize("is_nested", [True, False])
def test_levels_get_other_paths_and_all_other_metadata_stay(is_nested: bool) -> None:
    first = {"name": "a", "datasets": [{"path": "0", "coordinateTransformations": [1]}, {"path": "1"}]}
    ome = {"version": "0.5", "multiscales": [first, {"datasets": []}], "image-label": {}}
    attributes = {"ome": ome, "other": 1} if is_nested else ome | {"other": 1}
    changed = with_paths(attributes, ["0-uint32", "1-uint32"])
    datasets = [{"path": "0-uint32", "coordinateTransformations": [1]}, {"path": "1-uint32"}]
    multiscales = [first | {"datasets": datasets}, {"datasets": []}]
    assert changed == ({"ome": ome | {"multiscales": multiscales}} if is_nested else {"multiscales": multiscales})
