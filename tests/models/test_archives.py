"""A checkpoint takes no more memory than its file is worth: what is out of proportion is refused before it is read."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_sam.errors import ModelError
from napari_sam.models import archives
from napari_sam.models.archives import MAX_OLD_OPCODES, check_safetensors, check_torch_file
from napari_sam.models.safe_load import load_weights

START = b"\x80\x02("


def torch_zip(path: Path, pickled: bytes, *, compressed: bool = False, repeat: int = 1) -> None:
    """Write a torch file with another list of contents."""
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(4)}, whole)
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", kind) as target:
        for name in source.namelist():
            with target.open(name, "w") as member:
                for _ in range(repeat if name.endswith("data.pkl") else 1):
                    member.write(pickled if name.endswith("data.pkl") else source.read(name))


def old_torch(path: Path, pickled: bytes) -> None:
    """Write a torch file of the kind before zip archives."""
    before = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join([*before, pickled, pickle.dumps([], 2)]))


BOMBS: dict[str, tuple[Callable[[Path], None], str]] = {
    "zeros": (lambda path: torch_zip(path, b"\0" * 2**20, compressed=True, repeat=40), "40 MB in a file of 0.0 MB"),
    "empty sets": (lambda path: torch_zip(path, START + b"\x8f" * 2**20 + b"l."), "list of contents"),
    "empty dictionaries": (lambda path: torch_zip(path, START + b"}" * 2**21 + b"l."), "list of contents"),
    "empty lists": (lambda path: torch_zip(path, START + b"]" * 2**21 + b"l."), "list of contents"),
    "raw bytes": (lambda path: torch_zip(path, b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x01\x85R."), "raw bytes"),
    "old, empty sets": (lambda path: old_torch(path, START + b"\x8f" * MAX_OLD_OPCODES + b"l."), "list of contents"),
    "old, raw bytes": (lambda path: old_torch(path, b"\x80\x02cbuiltins\nbytearray\nJ\0\0\0\x01\x85R."), "raw bytes"),
}


@pytest.mark.parametrize("kind", list(BOMBS))
def test_a_small_file_that_would_take_much_memory_is_refused_unread(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.pt"
    make, words = BOMBS[kind]
    make(path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match=f"{words}.*which no network needs"):
        load_weights(path)


def test_entries_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """Many entries of a zip archive can point to the same bytes, and each is unpacked."""
    path = tmp_path / "shared.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data/0", b"\0" * 2**20)
        first = archive.filelist[0]
        archive.filelist += [first] * 10
    with pytest.raises(ModelError, match="11 MB in a file of 1"):
        check_torch_file(path)


def test_a_tensor_that_repeats_a_number_is_not_spread_out(tmp_path: Path) -> None:
    path = tmp_path / "spread.pt"
    torch.save({"mask_decoder.x": torch.zeros(1).expand(10**12)}, path)
    with pytest.raises(ModelError, match="repeat few numbers many times"):
        load_weights(path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "old"])
def test_a_usual_checkpoint_with_its_optimizer_is_fine(tmp_path: Path, new: bool) -> None:
    state = {f"layers.{index}.weight": torch.rand(8, 8) for index in range(500)}
    history = {"loss": [float(index) for index in range(5000)], "names": [f"name {index}" for index in range(2000)]}
    content = {
        "model": state,
        "optimizer": {"state": {i: {"exp_avg": value} for i, value in enumerate(state.values())}},
    }
    path = tmp_path / "usual.pt"
    torch.save({**content, **history}, path, _use_new_zipfile_serialization=new)
    check_torch_file(path)
    assert load_weights(path).keys() == state.keys()


def test_a_checkpoint_that_was_packed_again_is_fine(tmp_path: Path) -> None:
    whole, path = io.BytesIO(), tmp_path / "packed.pt"
    torch.save({"weight": torch.rand(300, 300)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    check_torch_file(path)


@pytest.mark.parametrize("length", [2**62, 2**63, 200, 0])
def test_a_header_longer_than_the_file_is_no_safetensors(tmp_path: Path, length: int) -> None:
    path = tmp_path / "some.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        load_weights(path)


def test_a_header_of_very_many_tensors_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.safetensors"
    save_file({f"{index}": torch.zeros(1) for index in range(100)}, path)
    check_safetensors(path)
    monkeypatch.setattr(archives, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(ModelError, match="which no network needs"):
        load_weights(path)


def test_offsets_beyond_the_file_are_no_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "some.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 16)
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        load_weights(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors", ".ckpt", ""])
def test_a_pipe_is_no_checkpoint(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"pipe{suffix}"
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is a pipe or device"):
        load_weights(path)
