"""Checkpoints: good ones run, bad ones are refused in one sentence, and nothing in a file is ever executed."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import Compact
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.weights.download import sha256_of
from napari_sam.weights.registry import REGISTRY

ONE_POINT = TilePrompts(np.array([[100, 130]], np.float32), np.array([True]))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return Compact().state_dict()


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)


def refusal(path: Path) -> str:
    """Try to use a checkpoint; return the one sentence that says why not."""
    with pytest.raises(ModelError) as caught:
        load_predictor(path, "cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"[.!?]\s+[A-Z]", message), f"more than one sentence: {message}"
    assert ": " in message, f"no mend is named: {message}"
    return message


class Bomb:
    """Pickled code that makes a file as soon as anybody unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


# Good checkpoints


@pytest.mark.parametrize("wrapped_as", [None, "model_state", "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_torch_checkpoint_of_the_network_runs(
    tmp_path: Path, state: dict[str, torch.Tensor], tile: np.ndarray, suffix: str, wrapped_as: str | None
) -> None:
    path = tmp_path / f"mine{suffix}"
    torch.save(state if wrapped_as is None else {wrapped_as: state, "epoch": 3}, path)
    loaded = load_weights(path)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state)
    if suffix == ".pth":
        predictor = load_predictor(path, "cpu")
        decoded = predictor.decode(predictor.encode(tile[None])[0], ONE_POINT)
        assert decoded.logits.shape == (3, 64, 64)
        assert np.isfinite(decoded.logits).all()
        assert predictor.digest.startswith(sha256_of(path))


def test_a_safetensors_checkpoint_of_the_network_runs(
    tmp_path: Path, state: dict[str, torch.Tensor], tile: np.ndarray
) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(state, path)
    predictor = load_predictor(str(path), "cpu")
    assert np.isfinite(predictor.decode(predictor.encode(tile[None])[0], ONE_POINT).logits).all()
    assert predictor.name == str(path)


def test_the_same_weights_give_the_same_answer_from_any_kind_of_file(tmp_path: Path, tile: np.ndarray) -> None:
    shipped = load_predictor("compact", "cpu")
    path = tmp_path / "again.pth"
    torch.save({key: value.float() for key, value in load_file(REGISTRY["compact"].path).items()}, path)
    again = load_predictor(path, "cpu")
    expected, found = (p.decode(p.encode(tile[None])[0], ONE_POINT) for p in (shipped, again))
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert again.digest != shipped.digest


def test_weights_without_the_batch_norms_counters_are_complete(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "lean.safetensors"
    save_file({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    assert load_predictor(path, "cpu").input_side == 256


# Files that are no checkpoint


def test_a_missing_file(tmp_path: Path) -> None:
    assert "no model" in refusal(tmp_path / "nowhere.pth")


def test_an_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"There is no model 'sam9000': use one of compact, vit_b, .*, or the path"):
        load_predictor("sam9000", "cpu")


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder.pth"
    folder.mkdir()
    refusal(folder)


@pytest.mark.parametrize("suffix", [".txt", ".onnx", ".h5", ""])
def test_another_kind_of_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"\0" * 100)
    assert ".safetensors, .pth, .pt or .ckpt" in refusal(path)


@pytest.mark.parametrize("content", [b"These are not weights.\n" * 40, b"", b"\0" * 1000, b"{}"])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_of_something_else(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert path.name in refusal(path)


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_checkpoint(tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, kept: float) -> None:
    path = tmp_path / f"model{suffix}"
    few = dict(list(state.items())[:12])
    torch.save(few, path) if suffix == ".pth" else save_file(few, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert "download or save it again" in refusal(path)


# Files with code in them


def _plain_pickle(bomb: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(bomb))


def _torch_archive(bomb: Any, path: Path) -> None:
    torch.save(bomb, path)


def _state_with_code(bomb: Any, path: Path) -> None:
    torch.save({"state_dict": {"weight": torch.zeros(3)}, "config": bomb}, path)


def _old_torch_file(bomb: Any, path: Path) -> None:
    torch.save(bomb, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("save", [_plain_pickle, _torch_archive, _state_with_code, _old_torch_file])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_code_in_a_checkpoint_is_refused_and_not_executed(
    tmp_path: Path, save: Callable[[Any, Path], None], suffix: str
) -> None:
    marker = tmp_path / "executed"
    path = tmp_path / f"evil{suffix}"
    save(Bomb(marker), path)
    message = refusal(path)
    assert not marker.exists()
    if suffix != ".safetensors":
        assert "never executed" in message
        assert "export_custom_sam_model" in message


def test_the_bomb_of_these_tests_does_go_off(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    pickle.load(io.BytesIO(pickle.dumps(Bomb(marker))))
    assert marker.exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), path)
    assert "never executed" in refusal(path)


# Files with other things than a network's tensors


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [torch.zeros(3)],
        {},
        {"state_dict": {}},
        {"epoch": 3, "weight": torch.zeros(3)},
        {"state_dict": 7},
        {"model_state": [torch.zeros(2)]},
    ],
    ids=["tensor", "list", "empty", "empty inside", "mixed", "number inside", "list inside"],
)
def test_a_torch_file_without_a_state_dict(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.pth"
    torch.save(content, path)
    assert "state_dict" in refusal(path)


# Other architectures


def test_a_sam_checkpoint_with_parts_missing_is_called_incomplete(tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save_file({"image_encoder.pos_embed": torch.zeros(1, 64, 64, 768)}, path)
    message = refusal(path)
    assert "SAM vit_b" in message
    assert "complete checkpoint" in message
    assert re.search(r"\d+ missing \(image_encoder\.", message)


def test_a_checkpoint_of_an_unknown_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(1000)}, path)
    message = refusal(path)
    assert "does not know" in message
    for known in ("SAM (ViT-B, ViT-L, ViT-H)", "MobileSAM", "HQ-SAM", "SAM 2.1", "SAM 3", "compact"):
        assert known in message


def _narrower(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return Compact(width=64).state_dict()


def _one_missing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if key != "mask_decoder.bias.weight"}


def _one_more(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "mask_decoder.extra.weight": torch.zeros(3)}


def _one_of_another_shape(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {**state, "mask_decoder.bias.weight": torch.zeros(4, 128)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_narrower, r"of another shape \(.*, \.\.\.\)"),
        (_one_missing, r"1 missing \(mask_decoder\.bias\.weight\)"),
        (_one_more, r"1 too many \(mask_decoder\.extra\.weight\)"),
        (_one_of_another_shape, r"1 of another shape \(mask_decoder\.bias\.weight\)"),
    ],
)
def test_a_network_that_is_nearly_right_is_refused_by_what_is_wrong_with_it(
    tmp_path: Path,
    state: dict[str, torch.Tensor],
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    told: str,
) -> None:
    with pytest.raises(ModelError, match=rf"look like the compact model and differ.*{told}"):
        detect_architecture(change(state), tmp_path / "nearly.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_broke_down(tmp_path: Path, state: dict[str, torch.Tensor], value: float) -> None:
    path = tmp_path / "broken.safetensors"
    save_file({**state, "mask_decoder.bias.weight": torch.full_like(state["mask_decoder.bias.weight"], value)}, path)
    assert "NaN or infinite" in refusal(path)


def test_a_torch_file_of_any_name_is_taken(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "last.ckpt")
    assert load_predictor(tmp_path / "last.ckpt", "cpu").input_side == 256


# Writing weights


def test_written_weights_are_the_ones_that_are_read(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "out.safetensors"
    shared = {**state, "twice": state["mask_decoder.bias.weight"]}
    save_weights(shared, path, family="compact")
    found = load_weights(path)
    assert found.keys() == shared.keys()
    assert all(torch.equal(found[key], shared[key]) for key in shared)
    with safe_open(path, "pt") as file:
        assert file.metadata()["family"] == "compact"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.safetensors"]
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_half_precision_leaves_alone_what_it_cannot_hold(tmp_path: Path) -> None:
    state = {
        "weight": torch.tensor([0.1, 2.0]),
        "large": torch.tensor([1e6]),
        "norm.running_var": torch.tensor([0.1]),
        "count": torch.tensor([7]),
        "nothing": torch.zeros(0),
    }
    save_weights(state, tmp_path / "half.safetensors", family="compact", half=True)
    found = load_weights(tmp_path / "half.safetensors")
    kinds = {key: value.dtype for key, value in found.items()}
    assert kinds == {
        "weight": torch.float16,
        "large": torch.float32,
        "norm.running_var": torch.float32,
        "count": torch.int64,
        "nothing": torch.float16,
    }
    torch.testing.assert_close(found["weight"].float(), state["weight"], atol=1e-3, rtol=0)


# The registry's own file


@pytest.fixture
def altered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let the registry point to a copy of the shipped weights that a test may spoil; return that copy."""
    entry = REGISTRY["compact"]
    copy = tmp_path / entry.path.name
    shutil.copy(entry.path, copy)
    monkeypatch.setitem(REGISTRY, "compact", replace(entry, file=str(copy)))
    assert REGISTRY["compact"].path == copy
    return copy


def _flip_one_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _replace_by_text(content: bytes) -> bytes:
    return b"<html>Please log in to the hospital's network</html>"


def test_an_unaltered_copy_of_the_shipped_weights_loads(altered: Path) -> None:
    assert load_predictor("compact", "cpu").name == "compact"


@pytest.mark.parametrize("spoil", [_flip_one_bit, _cut, _replace_by_text])
def test_altered_shipped_weights_are_called_damaged(altered: Path, spoil: Callable[[bytes], bytes]) -> None:
    altered.write_bytes(spoil(altered.read_bytes()))
    with pytest.raises(ModelError, match=r"damaged.*install napari-sam again"):
        load_predictor("compact", "cpu")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(ModelError, match="cannot be read"):
        sha256_of(tmp_path / "missing")
