"""Planes of images with several axes: by position and by name, in options and in prompt files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from skimage.data import coins
from tests.cli.checks import Run

from napari_sam.exchange.label_writer import LabelWriter
from napari_sam.labels.array import LabelArray
from napari_sam.segmenter import Segmenter
from napari_sam.tasks.batch import segment_all

pytestmark = pytest.mark.usefixtures("one_predictor")

CROP = coins()[90:160, 170:240]
COIN = ("--point", "34,35")


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Times and depths of which one plane shows the coin, beside an image of the coin alone."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("coin.tif", CROP)
    pixels = np.full((3, 4, *CROP.shape), 20, np.uint8)
    pixels[1, 2] = CROP
    tifffile.imwrite("stack.ome.tif", pixels, ome=True, metadata={"axes": "TZYX"})
    return tmp_path / "stack.ome.tif"


@pytest.mark.parametrize("columns", ["x,y,z,t", "t,z,y,x", "z,object,t,y,x"])
def test_the_columns_of_a_plane_may_stand_in_any_order(run: Run, stack: Path, columns: str) -> None:
    values = {"object": 1, "x": 35, "y": 34, "z": 2, "t": 1}
    Path("p.csv").write_text(f"{columns}\n{','.join(str(values[name]) for name in columns.split(','))}\n")
    assert run("segment", stack, "--prompts", "p.csv", "--out", "new.tif")[0] == 0
    assert {tuple(at[:2]) for at in np.argwhere(tifffile.imread("new.tif"))} == {(1, 2)}


def test_a_plane_is_named_on_the_command_line(run: Run, stack: Path) -> None:
    for plane in ("1,2", "t=1,z=2", "z=2, t=1"):
        out = f"{plane}.tif"
        assert run("segment", stack, *COIN, "--plane", plane, "--out", out, "--json", f"{plane}.json")[0] == 0
        assert json.loads(Path(f"{plane}.json").read_text())["plane"] == [1, 2]
    for plane in ("z=2", "t=1,z=9", "q=1", "t=1,t=2", "z=2,c=1", "z=", "z=1.5", "z=-1"):
        code, _, err = run("segment", stack, *COIN, "--plane", plane, "--out", "new.tif")
        assert (code, err.count("\n")) == (1, 1), (plane, err)
        assert "--plane" in err


def test_encode_takes_the_name_of_a_plane(run: Run, stack: Path) -> None:
    shared = ("encode", stack, "--store", "kept", "--contrast", "0,255", "--plane")
    assert run(*shared, "z=2,t=1")[1].startswith("1 of 1 tiles encoded")
    # In the order of the image's axes it is the seventh plane: 1 * 4 + 2 = 6, counted from 0.
    assert run(*shared, "6")[1].startswith("0 of 1 tiles encoded; 1 were there")
    code, _, err = run(*shared, "z=2")
    assert (code, err.count("\n")) == (1, 1)
    assert "where along t" in err


@pytest.mark.parametrize(
    ("image", "columns", "words"),
    [("coin.tif", "z", "has no axis z"), ("stack.ome.tif", "z", "where along t"), ("plain.npy", "t,z", "does not say")],
)
def test_an_axis_that_the_image_does_not_name_is_said(
    run: Run, stack: Path, image: str, columns: str, words: str
) -> None:
    np.save("plain.npy", np.zeros((3, 4, 70, 70), np.uint8))
    Path("p.csv").write_text(f"object,x,y,{columns}\n1,35,34{',1' * len(columns.split(','))}\n")
    code, _, err = run("segment", image, "--prompts", "p.csv", "--out", "new.tif")
    assert code == 1
    assert words in err
    assert not Path("new.tif").exists()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(axes=st.permutations("TZYX"), order=st.permutations("txyz"), data=st.data())
def test_any_order_of_axes_and_columns_names_the_same_pixels(
    tmp_path: Path, make_predictor: Any, axes: list[str], order: list[str], data: st.DataObject
) -> None:
    from napari_sam.exchange.prompts_csv import parse_csv

    sizes = {"T": 2, "Z": 3, "Y": 40, "X": 44}
    at = {"t": data.draw(st.integers(0, 1)), "z": data.draw(st.integers(0, 2)), "y": 20, "x": 24}
    pixels = np.full((2, 3, 40, 44), 20, np.uint8)
    pixels[at["t"], at["z"], 12:28, 16:32] = 200
    turned = np.ascontiguousarray(pixels.transpose(["TZYX".index(axis) for axis in axes]))
    path = tmp_path / "image.ome.zarr"
    shutil.rmtree(path, ignore_errors=True)
    group = zarr.create_group(path)
    group.create_array("0", data=turned)
    described = [{"name": axis.lower(), "type": "time" if axis == "T" else "space"} for axis in axes]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * 4}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": described, "datasets": [dataset]}]}
    segmenter = Segmenter(path, model=make_predictor(), axes=(axes.index("Y"), axes.index("X")))
    assert segmenter.shape == tuple(sizes[axis] for axis in axes)
    (one,) = parse_csv(f"{','.join(order)}\n{','.join(str(at[name]) for name in order)}\n", "a.csv")
    target = LabelArray(np.zeros(segmenter.shape, np.uint16))
    (outcome,) = segment_all(segmenter, [one], None, LabelWriter(target))
    assert outcome.error is None
    labels = np.asarray(target.array).transpose([axes.index(axis) for axis in "TZYX"])
    assert {tuple(where[:2]) for where in np.argwhere(labels)} == {(at["t"], at["z"])}
