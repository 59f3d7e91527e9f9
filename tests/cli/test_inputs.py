"""What every command does with names: inputs that are none, outputs that are inputs, planes by name."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import platformdirs
import pytest
import tifffile
import zarr
from skimage.data import coins
from tests.cli.checks import Run

from napari_sam import models
from napari_sam.cli import app as cli
from napari_sam.cli import models as cli_models
from napari_sam.errors import OutputError
from napari_sam.images.companion_files import parts_of
from napari_sam.journal.journal import open_journal

pytestmark = pytest.mark.usefixtures("one_predictor")

CROP = coins()[90:160, 170:240]
COIN = ("--point", "34,35")
ROWS = "object,row,col,class\n1,34,35,coin\n"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the inputs of all commands, some under names that an output may have."""
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("coin.tif", CROP)
    shutil.copy("coin.tif", "coin.json")
    zarr.create_array("coin.zarr", data=CROP)
    Path("prompts.csv").write_text(ROWS)
    Path("prompts.json").write_text('{"type": "Point", "coordinates": [35, 34]}')
    Path("link.json").symlink_to("coin.json")
    os.link("coin.json", "hard.json")
    entry = {"image": "coin.tif", "mask": "coin.tif", "subset": "coins", "kind": "instance"}
    Path("manifest.json").write_text(json.dumps([entry]))
    Path("split.json").write_text('{"kept_out": ["coin.tif"]}')
    Path("run").mkdir()
    for weights in ("model.safetensors", "run/weights.safetensors"):
        Path(weights).write_bytes(b"weights")
    shutil.copy("manifest.json", "run/curve.json")
    Path("init.toml").write_text('out = "run"\nmanifest = "manifest.json"\ninit = "run/weights.safetensors"\n')
    Path("manifest.toml").write_text('out = "run"\nmanifest = "run/curve.json"\n')
    return tmp_path


@pytest.fixture(scope="module")
def labels_with_journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labels of coin.tif and their journal, made once."""
    folder = tmp_path_factory.mktemp("labels")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tifffile.imwrite("coin.tif", CROP)
        Path("prompts.csv").write_text(ROWS)
        arguments = ("coin.tif", "--prompts", "prompts.csv", "--journal", "--out", "l.ome.zarr")
        patch.setattr(sys, "argv", ["napari-sam", "segment", *arguments])
        with pytest.raises(SystemExit, match="0"):
            cli.main()
    return folder


@pytest.fixture
def journal(work: Path, labels_with_journal: Path) -> Path:
    for name in ("l.ome.zarr", "l.ome.zarr.journal"):
        shutil.copytree(labels_with_journal / name, work / name)
    return work / "l.ome.zarr.journal"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


OUT = ("--out", "new.tif")
EVALUATE = ("evaluate", "manifest.json")
SEGMENT = ("segment", "coin.tif", *COIN, "--out", "new.tif", "--overwrite")
BY_FILE = ("segment", "coin.tif", "--prompts", "prompts.json", "--out", "new.tif", "--overwrite")
OVER_AN_INPUT: dict[str, tuple[str, ...]] = {
    "labels over the image": ("segment", "coin.tif", *COIN, "--out", "coin.tif", "--overwrite"),
    "objects over the image": ("segment", "coin.json", *COIN, "--out", "new.tif", "--json", "coin.json", "--overwrite"),
    "by a link": ("segment", "coin.json", *COIN, "--out", "new.tif", "--json", "link.json", "--overwrite"),
    "by a hard link": ("segment", "coin.json", *COIN, "--out", "new.tif", "--json", "hard.json", "--overwrite"),
    "objects over the prompts": (*BY_FILE, "--json", "prompts.json"),
    "objects in the image": ("segment", "coin.zarr", *COIN, "--out", "new.tif", "--json", "coin.zarr/objects.json"),
    "labels in the image": ("segment", "coin.zarr", *COIN, "--out", "coin.zarr/labels.tif"),
    "embeddings in the image": ("segment", "coin.zarr", *COIN, "--out", "new.tif", "--store", "coin.zarr/kept"),
    "embeddings in the labels": (*SEGMENT[:-3], "--out", "new.zarr", "--store", "new.zarr/kept"),
    "encoded into the image": ("encode", "coin.zarr", "--store", "coin.zarr"),
    "found objects over the image": (
        "find",
        "coin.json",
        "coin",
        "--out",
        "n.tif",
        "--json",
        "coin.json",
        "--overwrite",
    ),
    "figures over the manifest": ("evaluate", "manifest.json", "--json", "manifest.json", "--overwrite"),
    "figures over the split": (
        "evaluate",
        "manifest.json",
        "--json",
        "split.json",
        "--split",
        "split.json",
        "--overwrite",
    ),
    "figures over an image": ("evaluate", "own.json", "--json", "coin.json", "--overwrite"),
    "a model over itself": ("convert", "model.safetensors", "model.safetensors", "--overwrite"),
    "weights over their start": ("train", "init.toml"),
    "a curve over the manifest": ("train", "manifest.toml"),
}


@pytest.mark.parametrize("name", OVER_AN_INPUT)
def test_no_command_writes_over_what_it_reads(run: Run, work: Path, name: str) -> None:
    Path("own.json").write_text(Path("manifest.json").read_text().replace("coin.tif", "coin.json"))
    before = contents(work)
    code, _, err = run(*OVER_AN_INPUT[name])
    assert code == 1
    assert err.count("\n") == 1
    assert "itself" in err or "lies inside" in err or "both write to" in err
    assert contents(work) == before


@pytest.mark.parametrize("kind", ["ome", "vrt", "nested vrt"])
def test_no_command_writes_over_a_file_that_its_image_is_made_of(run: Run, work: Path, kind: str) -> None:
    image, part = work / "whole.ome.tif", work / "part.tif"
    tifffile.imwrite(part, CROP, metadata=None)
    if kind == "ome":
        names = (image.name, part.name)
        planes = "".join(
            f'<TiffData FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
            for z, name in enumerate(names)
        )
        height, width = CROP.shape
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{height}" SizeZ="2" '
            f'SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(image, CROP, metadata=None, description=xml)
    else:
        inner, image = work / "inner.vrt", work / "whole.vrt"
        text = (
            '<VRTDataset rasterXSize="70" rasterYSize="70"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
            '<SourceFilename relativeToVRT="1">{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
        )
        inner.write_text(text.format(part.name))
        image.write_text(text.format(part.name if kind == "vrt" else inner.name))
    before = part.read_bytes()
    code, _, said = run("segment", image, *COIN, "--out", part, "--overwrite")
    assert code == 1
    assert "is the file of the image part.tif itself" in " ".join(said.split())
    assert part.read_bytes() == before
    assert parts_of(work / "missing.tif") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prompts", "l.ome.zarr.journal/new.csv"),
        ("--semantic", "coin.tif", "--overwrite"),
        ("--out", "coin.tif", "--overwrite"),
        ("--out", "coin.tif", "--image", "coin.tif", "--overwrite"),
        ("--out", "l.ome.zarr", "--overwrite"),
        ("--out", "l.ome.zarr/new.tif"),
        ("--out", "new.tif", "--semantic", "new.tif"),
    ],
)
def test_a_replay_writes_over_nothing_that_belongs_to_its_journal(
    run: Run, work: Path, journal: Path, arguments: tuple[str, ...]
) -> None:
    before = contents(work)
    code, _, err = run("replay", "l.ome.zarr", *arguments)
    assert (code, err.count("\n")) == (1, 1), err
    assert contents(work) == before


def test_labels_and_their_journal_are_replaced_together_or_not_at_all(run: Run, work: Path, journal: Path) -> None:
    before = contents(work)
    Path("bad.csv").write_text("object,row,col\n1,900,900\n")
    again = ("segment", "coin.tif", "--journal", "--overwrite", "--out", "l.ome.zarr", "--prompts")
    assert run(*again, "bad.csv")[0] == 1
    Path("bad.csv").unlink()
    assert contents(work) == before
    Path("prompts.csv").write_text(ROWS.replace("coin", "penny"))
    assert run(*again, "prompts.csv")[0] == 0
    assert [kind.name for kind in open_journal(journal).classes] == ["penny"]
    assert sorted(path.name for path in work.glob("*l.ome.zarr*")) == ["l.ome.zarr", "l.ome.zarr.journal"]


def test_a_folder_that_is_called_like_a_journal_is_left_alone(run: Run, work: Path) -> None:
    Path("new.ome.zarr.journal").mkdir()
    Path("new.ome.zarr.journal/diary.txt").write_text("my own")
    before = contents(work)
    arguments = ("--prompts", "prompts.csv", "--journal", "--overwrite", "--out", "new.ome.zarr")
    code, _, err = run("segment", "coin.tif", *arguments)
    assert code == 1
    assert "is not a journal" in err
    assert contents(work) == before


def test_the_demo_replaces_its_own_files_only(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "DEMO_POINTS", cli.DEMO_POINTS[7:8])
    Path("mine").mkdir()
    for name in ("labels.tif", "objects.json"):
        Path("mine", name).write_text('{"image": "mine"}')
        code, _, err = run("demo", "--no-show", "--out", "mine")
        assert code == 1
        assert "is not of an earlier demo" in err
        assert Path("mine", name).read_text() == '{"image": "mine"}'
        Path("mine", name).unlink()
    for _ in range(2):
        assert run("demo", "--no-show", "--out", "mine")[0] == 0


# Inputs that are no files


PIPES: dict[str, tuple[str, ...]] = {
    "image": ("segment", "pipe.tif", *COIN, "--out", "new.tif"),
    "prompts": ("segment", "coin.tif", "--prompts", "pipe.csv", "--out", "new.tif"),
    "model": ("segment", "coin.tif", *COIN, "--model", "pipe.pt", "--out", "new.tif"),
    "image to encode": ("encode", "pipe.tif"),
    "image to search": ("find", "pipe.tif", "coin", "--out", "new.tif"),
    "journal": ("replay", "pipe.journal", "--out", "new.tif"),
    "image of a journal": ("replay", "l.ome.zarr", "--image", "pipe.tif", "--out", "new.tif"),
    "manifest": ("evaluate", "pipe.json", "--json", "new.json"),
    "split": ("evaluate", "manifest.json", "--split", "pipe.json", "--json", "new.json"),
    "configuration": ("train", "pipe.toml"),
    "checkpoint": ("convert", "pipe.pt", "new.safetensors"),
}


@pytest.mark.parametrize("name", PIPES)
def test_no_command_waits_for_a_pipe(run: Run, work: Path, journal: Path, name: str) -> None:
    for ending in ("tif", "csv", "pt", "json", "toml"):
        os.mkfifo(f"pipe.{ending}")
    Path("pipe.journal").mkdir()
    os.mkfifo("pipe.journal/entries.jsonl")
    code, _, err = run(*PIPES[name])
    assert (code, err.count("\n")) == (1, 1), err
    assert "is a pipe and not a file" in err


@pytest.mark.parametrize("raw", ['out = "é"'.encode("latin-1"), b"\x80\x00"])
def test_a_configuration_that_is_no_text_is_refused(run: Run, work: Path, raw: bytes) -> None:
    Path("c.toml").write_bytes(raw)
    code, _, err = run("train", "c.toml")
    assert code == 1
    assert "no text in UTF-8" in err


# Names of all kinds


@pytest.mark.parametrize("name", ["n" * 251 + ".tif", "a[b].tif", "細胞.tif", "a b\n.tif", "im\udcff.tif"])
def test_a_name_is_written_as_it_is(run: Run, work: Path, name: str) -> None:
    assert run("segment", "coin.tif", *COIN, "--out", name)[0] == 0
    assert tifffile.imread(name).max() == 1
    image = Path("coin.tif").rename("copy-" + name[-200:])
    rows = ("--prompts", "prompts.csv", "--journal")
    assert run("segment", image, *rows, "--out", "j.ome.zarr")[0] == 0
    assert open_journal(Path("j.ome.zarr")).about["image"] == str(image)


@pytest.mark.parametrize(
    "arguments",
    [
        ("segment", "coin.tif", *COIN, "--out", "n" * 252 + ".tif"),
        ("segment", "coin.tif", "--prompts", "prompts.csv", "--journal", "--out", "n" * 240 + ".ome.zarr"),
        ("segment", "coin.tif", *COIN, "--out", "new.tif", "--json", "n" * 300 + ".json"),
        ("segment", "n" * 300, *COIN, "--out", "new.tif"),
        ("segment", "coin.tif", *COIN, "--out", "new.tif", "--model", "n" * 300),
        ("segment", "coin.tif", "--prompts", "n" * 300 + ".csv", "--out", "new.tif"),
        ("replay", "n" * 300, "--out", "new.tif"),
        ("replay", ".", "--out", "new.tif"),
        ("replay", "/", "--out", "new.tif"),
        ("convert", "n" * 300, "new.safetensors"),
        ("train", "n" * 300),
        ("evaluate", "n" * 300, "--json", "new.json"),
    ],
)
def test_a_name_that_is_not_possible_is_refused_before_any_work(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(models, "load_predictor", lambda *_, **__: pytest.fail("a model was loaded"))
    before = contents(work)
    code, _, err = run(*arguments)
    assert (code, err.count("\n")) == (1, 1), err
    assert len(err) < 500
    assert contents(work) == before


def test_without_a_home_folder_a_command_runs_or_says_what_to_set(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_dir", refuse)
    monkeypatch.setattr(platformdirs, "user_data_dir", refuse)
    monkeypatch.delenv("NAPARI_SAM_CACHE")
    monkeypatch.delenv("NAPARI_SAM_MODELS", raising=False)
    assert run("segment", "coin.tif", *COIN, "--out", "new.tif")[0] == 0
    assert run("info")[0] == 0
    for arguments in (("encode", "coin.tif"), ("cache",), ("models",)):
        code, _, err = run(*arguments)
        assert (code, err.count("\n")) == (1, 1), err
        assert "set NAPARI_SAM_" in err


@pytest.mark.parametrize("out", ["new.tif", "new.ome.zarr"])
def test_a_message_names_the_output_and_not_where_it_is_made(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OutputError(f"{path} cannot be written.")

    monkeypatch.setattr("napari_sam.exchange.label_output.write_labels", refuse)
    monkeypatch.setattr("napari_sam.labels.opening.open_labels", refuse)
    code, _, err = run("segment", "coin.tif", "--prompts", "prompts.csv", "--out", out)
    assert (code, err) == (1, f"Error: {out} cannot be written.\n")


def test_an_interrupted_command_says_so_by_its_status(run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_models, "load", interrupted)
    before = contents(work)
    code, _, err = run("segment", "coin.tif", *COIN, "--out", "new.tif")
    assert code == 130
    assert "Traceback" not in err
    assert contents(work) == before


@pytest.mark.parametrize(
    "error",
    [
        OSError(5, "Input/output error", "x"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes.\nmore"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object\nmore"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    run: Run, work: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(cli_models, "load", fail)
    code, _, err = run("segment", "coin.tif", *COIN, "--out", "new.tif")
    assert (code, err.count("\n")) == (1, 1)


def test_labels_on_disk_that_exist_can_be_added_to_and_the_message_says_so(run: Run, work: Path) -> None:
    assert run("segment", "coin.tif", *COIN, "--out", "labels.ome.zarr")[0] == 0
    code, _, err = run("segment", "coin.tif", *COIN, "--out", "labels.ome.zarr")
    assert (code, err.count("\n")) == (1, 1)
    assert "--append to add to it, or pass --overwrite to replace it" in err
    Path("labels.tif").touch()
    assert "--append" not in run("segment", "coin.tif", *COIN, "--out", "labels.tif")[2]


def test_prompts_that_all_miss_a_map_are_refused_once(run: Run, work: Path) -> None:
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install rasterio")
    profile = {"driver": "GTiff", "height": 70, "width": 70, "count": 1, "dtype": "uint8", "crs": "EPSG:32636"}
    transform = rasterio.Affine(2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
    with rasterio.open("map.tif", "w", transform=transform, **profile) as dataset:
        dataset.write(CROP, 1)
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [33.0, 36.1]}}
    Path("p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature] * 46}))
    code, _, err = run("segment", "map.tif", "--prompts", "p.geojson", "--out", "new.tif")
    assert (code, err.count("\n")) == (1, 1)
    assert "46 object(s) of p.geojson lie outside the image" in err
    feature["geometry"]["coordinates"] = [500_071.0, 3_999_931.0]
    Path("p.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert run("segment", "map.tif", "--prompts", "p.geojson", "--out", "new.tif")[0] == 0


def test_many_objects_that_fail_alike_are_said_once(run: Run, work: Path) -> None:
    rows = "".join(f"{number},{900 + number},5\n" for number in range(46))
    Path("p.csv").write_text(f"object,row,col\n{rows}46,34,35\n")
    code, out, err = run("segment", "coin.tif", "--prompts", "p.csv", "--out", "new.tif", "--json", "new.json")
    assert code == 1
    assert "1 object(s) written" in out
    assert err.count("\n") == 2  # The other line is about names from 0 on.
    assert "46 objects (0, 1, 2, 3, 4, ...) failed" in err
    assert len(json.loads(Path("new.json").read_text())["failed"]) == 46
