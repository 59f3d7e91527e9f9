"""`napari-sam find`, with a model that finds bright discs when it is asked for them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile
import zarr
from tests.text_model import DiscFinder

from napari_sam.cli import app as cli
from napari_sam.cli import models as cli_models
from napari_sam.labels.pyramid import LabelPyramid


@pytest.fixture
def run(run, monkeypatch):
    predictor = DiscFinder()
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: predictor)
    return run


@pytest.fixture
def image(tmp_path):
    rows, cols = np.mgrid[:200, :300] % 100 - 50
    tifffile.imwrite(tmp_path / "discs.tif", np.where(rows**2 + cols**2 <= 121, 200, 20).astype(np.uint8))
    return tmp_path / "discs.tif"


def test_every_disc_becomes_a_label(run, image, tmp_path):
    out, table = tmp_path / "labels.tif", tmp_path / "objects.json"
    code, said, error = run("find", image, "disc", "--out", out, "--json", table, "--contrast", "0,255")
    assert code == 0, error
    assert "6 object(s)" in said
    labels = tifffile.imread(out)
    assert set(np.unique(labels)) == set(range(7))
    assert labels[50, 50] > 0
    assert labels[0, 0] == 0
    assert {entry["score"] for entry in json.loads(table.read_text())["objects"]} == {0.9}


def test_what_a_killed_run_was_writing_into_the_store_is_removed_and_no_file_of_the_user(run, image, tmp_path):
    arguments = ("find", image, "disc", "--out", tmp_path / "l.tif", "--store", tmp_path / "store", "--overwrite")
    assert run(*arguments)[0] == 0
    (array,) = (path for path in (tmp_path / "store").iterdir() if path.is_dir() and path.name != "claims")
    half, mine = array / f"123.{'0123456789abcdef' * 2}.partial", array / "mine.partial"
    for path in (half, mine):
        path.write_bytes(b"")
    assert run(*arguments)[0] == 0
    assert (half.exists(), mine.exists()) == (False, True)


def test_labels_of_a_volume_on_disk_are_written_in_its_plane(run, image, tmp_path):
    volume = tmp_path / "volume.zarr"
    pixels = np.stack([tifffile.imread(image)] * 3)
    zarr.create_array(volume, shape=pixels.shape, chunks=(1, 64, 64), dtype="u1")[...] = pixels
    out = tmp_path / "labels.ome.zarr"
    arguments = ("--plane", "1", "--box", "0,0,100,100", "--contrast", "0,255")
    code, said, error = run("find", volume, "disc", "--out", out, *arguments)
    assert code == 0, error
    assert "1 object(s)" in said
    found = np.asarray(LabelPyramid.open(out)[...])
    assert [int(found[z].max()) for z in range(3)] == [0, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("unicorn",), "Nothing was found"),
        (("disc", "--box", "1,2"), "not understood"),
        (("disc", "--downsample", "0"), "above 0"),
        (("disc", "--box", "900,900,950,950"), "outside the image"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_sentence_and_nothing_is_written(run, image, tmp_path, arguments, words):
    out = tmp_path / "labels.tif"
    code, _, error = run("find", image, *arguments, "--out", out, "--contrast", "0,255")
    assert code == 1
    assert words in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_model_that_takes_no_text_is_told(image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        sys, "argv", ["napari-sam", "find", str(image), "disc", "--model", "compact", "--out", str(tmp_path / "l.tif")]
    )
    with pytest.raises(SystemExit):
        cli.main()
    assert "use SAM 3" in capsys.readouterr().err
