"""Commands with many images: one model, a broken one in the middle, what is resumed, and the names of the outputs."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from tests.cli.checks import assert_one_sentence
from tests.everything.scenes import discs, picture
from tests.text_model import DiscFinder

from napari_sam.cli import models as cli_models
from napari_sam.cli.many_images import IMAGE_SUFFIXES, outputs_of, sources_of
from napari_sam.errors import OutputError
from napari_sam.images.formats.readable import FORMATS
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.testing import BlobFinder

SHAPE = (120, 130)
POINT = ("--point", "60,60", "--contrast", "0,255")


@pytest.fixture
def loaded(monkeypatch):
    """The models that a command has loaded."""
    loaded = []

    def load(*_, **__):
        loaded.append(BlobFinder())
        return loaded[-1]

    monkeypatch.setattr(cli_models, "load", load)
    return loaded


@pytest.fixture
def folder(tmp_path):
    """Three images of a disc each, the one in the middle cut off, and a file that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b", "c"):
        tifffile.imwrite(folder / f"{name}.tif", picture(discs(SHAPE, [(60, 60)])))
    path = folder / "b.tif"
    path.write_bytes(path.read_bytes()[:-2000])
    (folder / "notes.txt").write_text("text")
    return folder


def test_a_broken_image_in_the_middle_does_not_end_the_others(run, loaded, folder, tmp_path):
    result = run("segment", folder, *POINT, "--out", tmp_path / "labels", "--json", tmp_path / "all.json")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "b.tif failed: " in result.err
    assert "2 of 3 image(s) done, 1 failed." in result.out
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a.ome.zarr", "c.ome.zarr"]
    for name in ("a", "c"):
        assert np.asarray(LabelPyramid.open(tmp_path / f"labels/{name}.ome.zarr"))[60, 60] == 1
    described = json.loads((tmp_path / "all.json").read_text())
    assert [Path(each["image"]).name for each in described["images"]] == ["a.tif", "c.tif"]
    assert [Path(each["image"]).name for each in described["failed"]] == ["b.tif"]
    assert len(described["images"][0]["objects"]) == 1
    assert len(loaded) == 1, "one model for all images"


def test_a_run_is_resumed_where_it_stopped(run, loaded, folder, tmp_path):
    command = ("segment", folder, *POINT, "--out", tmp_path / "labels")
    assert run(*command).code == 1
    tifffile.imwrite(folder / "b.tif", picture(discs(SHAPE, [(60, 60)])))
    refused = run(*command)
    assert (refused.code, "--resume" in assert_one_sentence(refused.err)) == (1, True)
    asked = sum(len(model.encoded) for model in loaded)
    resumed = run(*command, "--resume")
    assert resumed.code == 0, resumed.err
    assert "1 of 3 image(s) done, 2 image(s) have outputs and were left out" in resumed.out
    assert 0 < sum(len(model.encoded) for model in loaded) - asked <= asked
    again = run(*command, "--resume")
    assert (again.code, "0 of 3" in again.out) == (0, True)
    assert run(*command, "--overwrite").code == 0


def test_one_image_is_resumed_too(run, loaded, folder, tmp_path):
    command = ("segment", folder / "a.tif", *POINT, "--out", tmp_path / "l.tif", "--resume")
    assert run(*command).code == 0
    count = len(loaded)
    assert run(*command).code == 0
    assert len(loaded) == count


def test_a_star_in_the_name_of_the_output_stands_for_that_of_the_image(run, loaded, folder, tmp_path):
    result = run("segment", folder / "a.tif", folder / "c.tif", *POINT, "--out", tmp_path / "labels/*_cells.tif")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a_cells.tif", "c_cells.tif"]
    result = run("segment", folder, *POINT, "--out", tmp_path / "all.tif")
    assert (result.code, "3 images: name a folder" in assert_one_sentence(result.err)) == (1, True)


def test_each_image_has_prompts_of_its_own_in_a_folder(run, loaded, folder, tmp_path):
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "a.csv").write_text("object,y,x\n7,60,60\n")
    result = run("segment", folder / "a.tif", folder / "c.tif", "--prompts", prompts, "--out", tmp_path / "labels")
    assert result.code == 1
    assert "c.tif failed: There are no prompts of it" in result.err
    assert np.asarray(LabelPyramid.open(tmp_path / "labels/a.ome.zarr"))[60, 60] == 7


def test_find_and_encode_take_many_images(run, monkeypatch, folder, tmp_path):
    loaded = []
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: loaded.append(DiscFinder()) or loaded[-1])
    result = run(
        "find", folder / "a.tif", folder / "c.tif", "disc", "--out", tmp_path / "labels", "--contrast", "0,255"
    )
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == ["a.ome.zarr", "c.ome.zarr"]
    result = run("encode", folder / "?.tif", "--store", tmp_path / "store", "--contrast", "0,255")
    assert result.code == 1
    assert "2 of 3 image(s) done, 1 failed." in result.out
    assert len(loaded) == 2, "one for each command"


def test_a_folder_gives_images_and_neither_labels_nor_hidden_files(tmp_path):
    for name in ("b.nii.gz", "a.TIF", "._a.tif", "notes.txt", "c.h5"):
        (tmp_path / name).write_bytes(b"")
    LabelPyramid.create(tmp_path / "a_labels.ome.zarr", (8, 8))
    assert [Path(source).name for source in sources_of([str(tmp_path)])] == ["a.TIF", "b.nii.gz", "c.h5"]


def test_outputs_are_named_as_their_images(tmp_path):
    (tmp_path / "scan.h5").write_bytes(b"")
    sources = ["in/a.nii.gz", "in/b.ome.tif", "in/c.v2.png", f"{tmp_path}/scan.h5:/raw/cells", "s3://bucket/d.zarr"]
    names = [path.name.removesuffix(".ome.zarr") for path in outputs_of(sources, tmp_path / "out").values()]
    assert names == ["a", "b", "c.v2", "scan_raw_cells", "d"]
    with pytest.raises(OutputError, match="both be labeled in"):
        outputs_of(["x/a.tif", "y/a.tif"], tmp_path / "out")


def test_every_ending_that_a_folder_is_searched_for_is_one_that_is_read():
    known = {suffix.rstrip("/") for each in FORMATS for suffix in each.suffixes}
    assert set(IMAGE_SUFFIXES) <= known


def test_a_folder_of_volumes_is_segmented_in_the_plane_of_a_name(run, loaded, tmp_path):
    pixels = np.stack([np.zeros(SHAPE, np.uint8), picture(discs(SHAPE, [(60, 60)]))])
    for name in ("a.nii", "b.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(pixels.T, np.diag([1, 1, 3, 1])), tmp_path / name)
    out = tmp_path / "out"
    result = run("segment", tmp_path / "*.nii*", *POINT, "--plane", "z=1", "--out", out)
    assert result.code == 0, result.err
    for name in ("a", "b"):
        labels = LabelPyramid.open(out / f"{name}.ome.zarr")
        assert np.asarray(labels)[1, 60, 60] == 1
        assert labels.shape == (2, *SHAPE)
