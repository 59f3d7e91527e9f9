"""Which device is taken, and what is said when it is not there."""

from __future__ import annotations

import pytest
import torch

from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.device import available_devices, resolve_device


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Make torch believe in a machine with so many CUDA devices, and MPS or not."""

    def has(cuda: int = 0, mps: bool = False) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


def test_the_processor_is_always_there(machine) -> None:
    machine()
    assert available_devices() == ["cpu"]
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")


def test_auto_takes_the_fastest(machine) -> None:
    machine(cuda=2, mps=True)
    assert available_devices() == ["cuda:0", "cuda:1", "mps", "cpu"]
    assert resolve_device("auto") == torch.device("cuda:0")
    machine(mps=True)
    assert resolve_device("auto") == torch.device("mps")


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_with_and_without_a_number(machine, name: str) -> None:
    machine(cuda=2)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("cuda", "name", "offered"),
    [
        (0, "cuda", "auto, cpu."),
        (0, "cuda:0", "auto, cpu."),
        (0, "mps", "auto, cpu."),
        (0, "graphics card", "auto, cpu."),
        (0, "", "auto, cpu."),
        (0, "CPU:7", "auto, cpu."),
        (2, "cuda:2", "auto, cuda:0, cuda:1, cpu."),
    ],
)
def test_a_device_that_is_not_there_is_refused_and_the_others_are_named(
    machine, cuda: int, name: str, offered: str
) -> None:
    machine(cuda=cuda)
    with pytest.raises(ModelError) as caught:
        resolve_device(name)
    assert repr(name) in str(caught.value)
    assert str(caught.value).endswith(f"use one of {offered}")


def test_a_model_on_a_device_that_is_not_there(machine) -> None:
    machine()
    with pytest.raises(ModelError, match="'cuda' is not available here: use one of auto, cpu"):
        load_predictor("compact", "cuda")
