"""`napari-sam find`, with a model that finds bright discs when it is asked for them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import tifffile
import zarr
from tests.text_model import DiscFinder
from tests.word_search.models import DiscDetector, LikeFinder

from napari_sam.cli import app as cli
from napari_sam.cli import models as cli_models
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.models import open_vocabulary
from napari_sam.testing import FakePredictor


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


def test_boxes_of_a_detector_become_labels_by_the_compact_model(run, image, tmp_path, monkeypatch):
    detector, asked = DiscDetector(), []
    monkeypatch.setattr(open_vocabulary, "load_detector", lambda name, device: asked.append((name, device)) or detector)
    monkeypatch.setattr(cli_models, "load", lambda options, *_: asked.append(options.model) or FakePredictor())
    second = tmp_path / "discs2.tif"
    second.write_bytes(image.read_bytes())
    arguments = ("--detector", "owlv2", "--device", "cpu", "--contrast", "0,255", "--json", tmp_path / "objects.json")
    code, _, error = run("find", image, second, "disc", "--out", tmp_path / "labels", *arguments)
    assert code == 0, error
    assert asked == ["compact", ("owlv2", "cpu")], "both models are loaded once"
    described = json.loads((tmp_path / "objects.json").read_text())["images"]
    assert [entry["detector"] for entry in described] == ["owlv2", "owlv2"]
    assert [len(entry["objects"]) for entry in described] == [6, 6]
    written = sorted((tmp_path / "labels").glob("discs*.ome.zarr"))
    assert [set(np.unique(LabelPyramid.open(path)[...])) for path in written] == [set(range(7))] * 2
    assert run("find", image, "disc", "--out", tmp_path / "l.tif", *arguments, "--threshold", "0.95")[0] == 1


def test_exemplars_of_this_and_of_another_image_find_objects(run, image, tmp_path, monkeypatch):
    monkeypatch.setattr(cli_models, "load", lambda *_, **__: LikeFinder())
    out, box = tmp_path / "labels.tif", ("--exemplar", "36,36,64,64", "--contrast", "0,255")
    code, said, error = run("find", image, "", "--out", out, *box)
    assert code == 0, error
    assert "6 object(s)" in said
    other = tmp_path / "other.tif"
    pixels = np.full((90, 90), 20, np.uint8)
    pixels[40:60, 40:60] = 200
    tifffile.imwrite(other, pixels)
    code, said, error = run("find", image, "", "--out", out, *box, "--exemplar-image", other, "--overwrite")
    assert code == 0, error
    assert "6 object(s)" in said
    code, _, error = run("find", image, "", "--out", other, *box, "--exemplar-image", other, "--overwrite")
    assert code == 1
    assert tifffile.imread(other).max() == 200, "an output never replaces an input"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "name the objects"),
        (("disc", "--exemplar", "1,2"), "--exemplar"),
        (("disc", "--exemplar-image", "a.tif"), "give their boxes by --exemplar"),
        (("disc", "--exemplar", "1,2,3,4", "--detector", "clip"), "leave --detector or --exemplar out"),
        (("disc", "--detector", "owlv2"), "owlv2 cannot be downloaded by a program: get model.safetensors"),
        (("disc", "--detector", "yolo"), "no detector 'yolo'"),
    ],
)
def test_options_that_make_no_sense_are_told_in_one_sentence(run, image, tmp_path, monkeypatch, arguments, words):
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    code, _, error = run("find", image, *arguments, "--out", tmp_path / "labels.tif")
    assert code == 1
    assert words in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "labels.tif").exists()


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
