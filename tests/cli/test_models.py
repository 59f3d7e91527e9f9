"""`napari-sam models` and `napari-sam convert`, as a shell would run them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from napari_sam.cli import models as cli_models
from napari_sam.models import load_predictor
from napari_sam.weights import local as storage
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.registry import REGISTRY

pytestmark = pytest.mark.usefixtures("one_thread")

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("NAPARI_SAM_OFFLINE", raising=False)
    return tmp_path / "models"


# models


def test_the_list_names_every_model_and_where_it_is(run: Run, folder: Path) -> None:
    folder.mkdir()
    (folder / "vit_b.pth").write_bytes(bytes(3 * 2**20))
    code, out, err = run("models")
    assert (code, err) == (0, "")
    rows = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert {*REGISTRY, *DETECTORS} <= set(rows)
    assert "shipped, 14 MiB" in rows["compact"]
    assert "here, 3 MiB" in rows["vit_b"]
    assert "download, ~1.2 GiB" in rows["vit_l"]
    assert "by hand" in rows["medsam_vit_b"]
    assert "CC-BY-4.0" in rows["vit_b_lm"]
    assert str(folder) in out


def test_the_list_as_json(run: Run, folder: Path) -> None:
    code, out, _ = run("models", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [entry["name"] for entry in listed] == [*REGISTRY, *DETECTORS]
    assert listed[-1]["path"] == str(folder / "clip" / "model.safetensors")
    assert {entry["where"] for entry in listed} == {"shipped", "download", "by hand"}
    by_name = {entry["name"]: entry for entry in listed}
    assert by_name["vit_b"]["path"] == str(folder / "vit_b.pth")
    assert by_name["vit_b"]["source"] == REGISTRY["vit_b"].source
    assert by_name["sam3"]["source"] is None
    assert "licence" in by_name["sam3"]["by hand"]


def test_a_model_is_downloaded_ahead_of_time(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, path: Path, *, progress: Callable[[int, int | None], None], **options: Any) -> None:
        path.parent.mkdir()
        path.write_bytes(b"weights")
        progress(3, 7)
        progress(7, None)

    monkeypatch.setattr(storage, "download", download)
    code, out, err = run("models", "--download", "vit_b_lm")
    assert code == 0
    assert out == f"vit_b_lm is in {folder / 'vit_b_lm.pt'}\n"
    assert "vit_b_lm" in err  # The bar.


def test_a_file_that_is_there_is_verified_before_it_is_called_so(run: Run, folder: Path) -> None:
    folder.mkdir()
    (folder / "vit_b.pth").write_bytes(b"another file")
    code, out, err = run("models", "--download", "vit_b")
    assert (code, out) == (1, "")
    assert "damaged" in err
    assert ".sha256" not in err


def test_no_bar_is_drawn_for_what_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_SAM_OFFLINE", "1")
    _, _, err = run("models", "--download", "vit_b")
    assert err.startswith("Error: ")


def test_the_image_is_looked_at_before_gigabytes_are_fetched(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "download", lambda *_, **__: pytest.fail("downloaded"))
    code, _, err = run(
        "segment", "no such image.png", "--model", "vit_b", "--point", "1,1", "--out", tmp_path / "l.tif"
    )
    assert code == 1
    assert "no such image.png" in err


def test_convert_takes_the_name_of_a_model_too(run: Run, tmp_path: Path) -> None:
    code, out, err = run("convert", "compact", tmp_path / "compact.safetensors")
    assert code == 0, err
    assert out.startswith("compact with")


@pytest.mark.parametrize(
    ("name", "told"),
    [("vit_b", "NAPARI_SAM_OFFLINE"), ("medsam_vit_b", "medsam_vit_b.pth"), ("vit_x", "use one of")],
)
def test_what_cannot_be_downloaded_is_told_in_one_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, told: str
) -> None:
    monkeypatch.setenv("NAPARI_SAM_OFFLINE", "1")
    code, out, err = run("models", "--download", name)
    assert (code, out) == (1, "")
    assert told in err
    assert "Traceback" not in err


# convert


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The compact model as a trainer would save it, in single precision."""
    state = {f"module.{key}": value.float() for key, value in load_file(REGISTRY["compact"].path).items()}
    torch.save({"model_state": state, "epoch": 3}, tmp_path / "trained.pth")
    return tmp_path / "trained.pth"


def test_a_checkpoint_becomes_safetensors_under_the_official_names(run: Run, checkpoint: Path) -> None:
    out = checkpoint.with_name("new.safetensors")
    code, told, err = run("convert", checkpoint, out)
    assert (code, err) == (0, "")
    assert "compact" in told
    assert str(out) in told
    shipped, found = load_file(REGISTRY["compact"].path), load_file(out)
    assert found.keys() == {key for key in shipped if not key.endswith("num_batches_tracked")}
    assert all(torch.equal(value, shipped[key].float()) for key, value in found.items())
    with safe_open(out, "pt") as file:
        assert file.metadata()["family"] == "compact"
    assert load_predictor(out, "cpu").input_side == 256


def test_half_precision_is_half_as_large(run: Run, checkpoint: Path) -> None:
    whole, half = checkpoint.with_name("whole.safetensors"), checkpoint.with_name("half.safetensors")
    run("convert", checkpoint, whole)
    assert run("convert", checkpoint, half, "--half")[0] == 0
    assert half.stat().st_size < 0.52 * whole.stat().st_size
    assert load_predictor(half, "cpu").input_side == 256


@pytest.mark.parametrize("option", ["--overwrite", "--force"])
def test_nothing_is_overwritten_unless_that_is_wanted(run: Run, checkpoint: Path, option: str) -> None:
    out = checkpoint.with_name("new.safetensors")
    out.write_bytes(b"mine")
    code, _, err = run("convert", checkpoint, out)
    assert code == 1
    assert "exists already" in err
    assert out.read_bytes() == b"mine"
    assert run("convert", checkpoint, out, option)[0] == 0
    assert load_file(out)


def test_a_checkpoint_is_never_replaced_by_what_is_made_of_it(run: Run, checkpoint: Path) -> None:
    path = checkpoint.with_name("new.safetensors")
    run("convert", checkpoint, path)
    before = path.read_bytes()
    code, _, err = run("convert", path, path, "--half", "--force")
    assert code == 1
    assert "is the checkpoint itself" in err
    assert path.read_bytes() == before
    assert load_predictor(path, "cpu").input_side == 256


@pytest.mark.parametrize("content", [b"no weights", b""])
def test_what_is_no_checkpoint_leaves_nothing_behind(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    code, _, err = run("convert", tmp_path / "bad.pth", tmp_path / "out.safetensors", "--force")
    assert code == 1
    assert err.startswith("Error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]


def test_a_full_disk_leaves_the_older_file(run: Run, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_sam.models import safe_load as weights

    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    out = checkpoint.with_name("new.safetensors")
    out.write_bytes(b"mine")
    monkeypatch.setattr(weights, "save_file", full)
    code, _, err = run("convert", checkpoint, out, "--force")
    assert code == 1
    assert "No space left" in err
    assert out.read_bytes() == b"mine"


def test_another_ending_is_refused(run: Run, checkpoint: Path) -> None:
    code, _, err = run("convert", checkpoint, checkpoint.with_name("new.pth"))
    assert code == 1
    assert ".safetensors" in err


def test_the_commands_start_without_torch() -> None:
    assert "torch" not in vars(cli_models)


def test_models_is_a_table_with_size_and_licence(run: Run) -> None:
    result = run("models")
    assert (result.code, result.err) == (0, "")
    for word in ("compact", "BSD-3-Clause", "MiB", "licence"):
        assert word in result.out
