"""`napari-sam segment` by points and boxes: the labels and the description that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from PIL import Image
from skimage.data import coins
from tests.cli.checks import (
    BESIDE_THE_COIN,
    COIN,
    COIN_BOX,
    OTHER_COIN,
    Run,
    assert_objects_describe,
    assert_one_sentence,
    box,
    contents,
    point,
)

from napari_sam import models
from napari_sam.labels.pyramid import LabelPyramid

pytestmark = pytest.mark.usefixtures("one_predictor")


def test_a_point_gives_one_object_in_a_label_image(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    result = run("segment", image, *point(COIN), "--out", out, "--json", described)
    assert (result.code, result.err) == (0, "")
    assert str(out) in result.out
    labels = tifffile.imread(out)
    assert labels.shape == coins().shape
    assert labels.dtype == np.uint16
    assert set(np.unique(labels)) == {0, 1}
    assert labels[COIN] == 1
    assert labels[OTHER_COIN] == 0
    assert 0.85 < np.count_nonzero(labels) / 1206 < 1.1, "the coin has 1206 pixels"
    written = json.loads(described.read_text())
    assert written.keys() == {"image", "model", "plane", "objects"}
    assert written["image"] == str(image)
    assert written["model"] == "compact"
    assert written["plane"] == []
    assert_objects_describe(written["objects"], labels)


def test_all_points_are_one_object_and_the_sign_counts(run: Run, image: Path, tmp_path: Path) -> None:
    labels = {}
    for sign in (",+", ",-"):
        out = tmp_path / f"labels{sign}.tif"
        assert run("segment", image, *point(COIN), *point(BESIDE_THE_COIN, sign), "--out", out).code == 0
        labels[sign] = tifffile.imread(out)
        assert labels[sign].max() == 1
        assert labels[sign][COIN] == 1
    assert labels[",+"][BESIDE_THE_COIN] == 1
    assert labels[",-"][BESIDE_THE_COIN] == 0


def test_each_box_is_one_object_and_the_points_are_another(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    second = (104, 249, 135, 296)
    result = run(
        *("segment", image, *point(OTHER_COIN), *box(COIN_BOX), *box(second), "--out", out, "--json", described)
    )
    assert result.code == 0, result.err
    labels = tifffile.imread(out)
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert (labels[OTHER_COIN], labels[COIN], labels[119, 271]) == (1, 2, 3)
    objects = json.loads(described.read_text())["objects"]
    assert_objects_describe(objects, labels)
    assert objects[0]["prompts"] == {"points": [list(OTHER_COIN)], "labels": [1]}
    assert objects[1]["prompts"] == {"box": list(COIN_BOX)}


def test_objects_that_overlap_are_described_as_they_were_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later object keeps off an earlier one, so its box and area are those of what is left of it."""
    image = tmp_path / "flat.tif"
    tifffile.imwrite(image, np.zeros((40, 60), np.uint8))
    # The answers are the boxes themselves, so that what overlaps is known.
    monkeypatch.setattr("napari_sam.segmenter.Segmenter.segment", _segment_exactly_the_box)
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    assert (
        run("segment", image, *box((5, 5, 25, 25)), *box((5, 15, 25, 45)), "--out", out, "--json", described).code == 0
    )
    labels = tifffile.imread(out)
    objects = json.loads(described.read_text())["objects"]
    assert [entry["area"] for entry in objects] == [400, 400]
    assert_objects_describe(objects, labels)


def test_a_prompt_whose_object_is_taken_already_is_left_out_and_named(run: Run, image: Path, tmp_path: Path) -> None:
    out, described = tmp_path / "labels.tif", tmp_path / "objects.json"
    result = run("segment", image, *box(COIN_BOX), *box(COIN_BOX), "--out", out, "--json", described)
    assert result.code == 0
    assert "Left out" in result.err
    assert len(result.err.strip().splitlines()) == 1
    objects = json.loads(described.read_text())["objects"]
    assert len(objects) == 1
    assert_objects_describe(objects, tifffile.imread(out))


def test_candidates_small_and_large(run: Run, image: Path, tmp_path: Path) -> None:
    areas = {}
    for name in ("small", "medium", "large"):
        out = tmp_path / f"{name}.tif"
        assert run("segment", image, *box(COIN_BOX), "--candidate", name, "--out", out).code == 0
        areas[name] = np.count_nonzero(tifffile.imread(out))
    assert areas["small"] < areas["medium"] < areas["large"]


def test_zarr_output_equals_tif_output(run: Run, image: Path, tmp_path: Path) -> None:
    for name in ("labels.tif", "labels.zarr"):
        assert run("segment", image, *box(COIN_BOX), "--out", tmp_path / name).code == 0
    store = zarr.open_array(tmp_path / "labels.zarr", mode="r")
    assert store.dtype == np.uint16
    np.testing.assert_array_equal(store[...], tifffile.imread(tmp_path / "labels.tif"))


def test_one_plane_of_a_volume(run: Run, tmp_path: Path) -> None:
    image, out, described = tmp_path / "volume.tif", tmp_path / "labels.tif", tmp_path / "objects.json"
    tifffile.imwrite(image, np.stack([coins()[::-1], coins(), coins()[:, ::-1]]), photometric="minisblack")
    result = run("segment", image, *point(COIN), "--plane", "1", "--out", out, "--json", described)
    assert result.code == 0, result.err
    labels = tifffile.imread(out)
    assert labels.shape == coins().shape
    assert 0.85 < np.count_nonzero(labels) / 1206 < 1.15
    assert json.loads(described.read_text())["plane"] == [1]
    mirrored = (COIN[0], coins().shape[1] - 1 - COIN[1])
    out = tmp_path / "last.tif"
    assert (
        run("segment", image, *point(mirrored), "--plane", "-1", "--out", out, "--json", tmp_path / "last.json").code
        == 0
    )
    assert tifffile.imread(out)[mirrored] == 1
    assert json.loads((tmp_path / "last.json").read_text())["plane"] == [2]


def test_png_zarr_and_rgb_images_are_read(run: Run, tmp_path: Path) -> None:
    rgb = np.repeat(coins()[..., None], 3, axis=-1)
    Image.fromarray(rgb).save(tmp_path / "image.png")
    zarr.create_array(tmp_path / "image.zarr", data=coins())
    for name in ("image.png", "image.zarr"):
        out = tmp_path / f"{name}-labels.tif"
        result = run("segment", tmp_path / name, *box(COIN_BOX), "--out", out)
        assert result.code == 0, result.err
        labels = tifffile.imread(out)
        assert labels.shape == coins().shape
        assert labels[COIN] == 1


def test_a_checkpoint_file_as_model(run: Run, image: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    path, out, described = tmp_path / "mine.pth", tmp_path / "labels.tif", tmp_path / "objects.json"
    torch.save(load_file(models.REGISTRY["compact"].path), path)
    result = run("segment", image, *box(COIN_BOX), "--model", path, "--out", out, "--json", described)
    assert result.code == 0, result.err
    assert tifffile.imread(out)[COIN] == 1
    assert json.loads(described.read_text())["model"] == str(path)


def test_missing_folders_of_the_output_are_made(run: Run, image: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder" / "labels.tif"
    assert run("segment", image, *box(COIN_BOX), "--out", out).code == 0
    assert out.exists()


@pytest.mark.parametrize("name", ["labels.tif", "labels.zarr", "objects.json"])
def test_nothing_is_overwritten_unless_that_is_wanted(run: Run, image: Path, tmp_path: Path, name: str) -> None:
    if name.endswith(".zarr"):
        zarr.create_array(tmp_path / name, data=np.full((3, 3), 7))
    else:
        (tmp_path / name).write_text("my work")
    before = contents(tmp_path)
    out = tmp_path / (name if name.startswith("labels") else "labels.tif")
    arguments = ("segment", image, *box(COIN_BOX), "--out", out, "--json", tmp_path / "objects.json")
    result = run(*arguments)
    assert result.code != 0
    assert "--overwrite" in assert_one_sentence(result.err)
    assert contents(tmp_path) == before
    result = run(*arguments, "--overwrite")
    assert result.code == 0, result.err
    labels = zarr.open_array(out, mode="r")[...] if out.suffix == ".zarr" else tifffile.imread(out)
    assert_objects_describe(json.loads((tmp_path / "objects.json").read_text())["objects"], labels)


def test_a_failure_leaves_the_older_output_even_where_it_may_be_overwritten(
    run: Run, image: Path, tmp_path: Path
) -> None:
    out = tmp_path / "labels.tif"
    out.write_text("my work")
    result = run("segment", image, "--point", "9999,3", "--out", out, "--overwrite")
    assert result.code != 0
    assert out.read_text() == "my work"


def _segment_exactly_the_box(_: object, *, box: Any, plane: Any, **_others: object) -> Any:
    from napari_sam import Box, Candidates, Mask

    where = Box(*map(int, box.as_tuple()))
    mask = Mask(where, np.ones(where.pixel_shape, bool), iou_prediction=0.9, stability_score=0.8)
    return Candidates((mask, mask, mask), 1, plane)


def test_labels_of_the_whole_volume_are_a_pyramid_that_can_be_added_to(run: Run, volume: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.ome.zarr"
    first = run("segment", volume, "--plane", "1", "--point", "51,155", "--out", out)
    assert first.code == 0, first.err
    assert run("segment", volume, "--plane", "2", "--point", "124,205", "--out", out).code == 1
    second = run("segment", volume, "--plane", "2", "--point", "124,205", "--out", out, "--append")
    assert second.code == 0, second.err
    labels = np.asarray(LabelPyramid.open(out)[...])
    assert [np.unique(plane).tolist() for plane in labels] == [[0], [0, 1], [0, 2]]
    assert "--append goes with" in run("segment", volume, "--point", "1,1", "--out", "l.tif", "--append").err


def test_a_mask_that_meets_another_is_left_out_where_only_empty_pixels_may_be_taken(
    run: Run, image: Path, tmp_path: Path
) -> None:
    boxes = ("--box", "26,130,78,182", "--box", "30,134,74,178")
    result = run("segment", image, *boxes, "--overlap", "empty", "--out", tmp_path / "l.tif")
    assert result.code == 0
    assert "1 object(s)" in result.out
    assert "Left out" in result.err


def test_a_geotiff_gives_labels_that_lie_where_it_lies(run: Run, tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install '.[geo]'")
    from affine import Affine

    place = Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
    profile = {"driver": "GTiff", "height": 303, "width": 384, "count": 1, "dtype": "uint8", "nodata": 0}
    with rasterio.open(tmp_path / "g.tif", "w", crs="EPSG:32636", transform=place, **profile) as dataset:
        dataset.write(coins(), 1)
    result = run("segment", tmp_path / "g.tif", "--point", "51,155", "--out", tmp_path / "l.tif")
    assert result.code == 0, result.err
    with rasterio.open(tmp_path / "l.tif") as labels:
        assert labels.crs.to_epsg() == 32636
        assert labels.transform == place
        assert labels.nodata == 0
        assert 1000 < np.count_nonzero(labels.read(1)) < 6000


@pytest.mark.parametrize(
    "bad", [("--point", "900,60"), ("--plane", "99"), ("--box", "30,30,80,80", "--box", "900,900,990,990")]
)
def test_labels_on_disk_are_made_only_when_everything_went_well(
    run: Run, volume: Path, tmp_path: Path, bad: tuple[str, ...]
) -> None:
    out = tmp_path / "labels.ome.zarr"
    plane = () if "--plane" in bad else ("--plane", "1")
    prompt = ("--point", "51,155") if "--plane" in bad else ()
    assert run("segment", volume, *plane, *prompt, *bad, "--out", out).code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["volume.zarr"]
    good = ("segment", volume, "--plane", "1", "--point", "51,155", "--out", out)
    assert run(*good).code == 0
    assert run(*good).code == 1
    assert run(*good, "--overwrite").code == 0
    assert np.unique(np.asarray(LabelPyramid.open(out)[1])).tolist() == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.ome.zarr", "volume.zarr"]
