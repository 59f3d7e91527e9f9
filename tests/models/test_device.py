"""Which device is taken, and what is said when it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from napari_sam.errors import ModelError
from napari_sam.models import device as device_module
from napari_sam.models import load_predictor
from napari_sam.models.device import Batches, available_devices, resolve_device


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


# -- precision and memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_taken_where_the_processor_has_it(fast, expected, monkeypatch):
    monkeypatch.setattr(device_module, "has_fast_bfloat16", lambda: fast)
    cpu = torch.device("cpu")
    assert device_module.precision_for(cpu) == expected
    assert device_module.precision_for(cpu, "float32") == torch.float32
    assert device_module.precision_for(cpu, "bfloat16") == torch.bfloat16


@pytest.mark.parametrize(
    "found", [{"amx_bf16": True}, {"avx512_bf16": True}, {"avx512_f": True, "avx512_bf16": False}, {}]
)
def test_the_processor_is_asked_for_what_it_has(found, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert device_module.has_fast_bfloat16() == any(found.get(name) for name in device_module.FAST_BFLOAT16)


def test_an_older_torch_leaves_the_question_to_the_system(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self, **_: "flags : fpu avx512_bf16 lm")
    assert device_module.has_fast_bfloat16()
    monkeypatch.setattr(Path, "read_text", lambda self, **_: "flags : fpu lm")
    assert not device_module.has_fast_bfloat16()


@pytest.mark.parametrize(("precision", "words"), [("float16", "use one of"), ("tf32", "NVIDIA")])
def test_a_precision_that_is_not_there_is_refused(precision, words):
    with pytest.raises(ModelError, match=words):
        device_module.precision_for(torch.device("cpu"), precision)


class Memory:
    """A device that holds so many items at a time."""

    def __init__(self, holds):
        self.holds, self.calls = holds, []

    def work(self, items):
        self.calls.append(len(items))
        if len(items) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [item * 10 for item in items]


def test_a_batch_that_does_not_fit_is_done_in_smaller_ones_and_nothing_is_lost():
    batches, memory = Batches(torch.device("cpu"), 1), Memory(3)
    batches.size = 16
    assert batches.run(range(21), memory.work) == [10 * i for i in range(21)]
    assert batches.size <= 3
    assert memory.calls[:4] == [16, 8, 4, 2]
    memory.holds = 1
    assert batches.run(range(5), memory.work) == [0, 10, 20, 30, 40]


def test_a_device_that_holds_not_even_one_tile_says_what_to_do():
    batches = Batches(torch.device("cpu"), 1)
    with pytest.raises(ModelError, match=r"is too small for a tile.*smaller model"):
        batches.run(range(3), Memory(0).work)


def test_batches_on_a_gpu_are_sized_from_its_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * 2**30, 80 * 2**30))
    assert Batches(torch.device("cuda"), 2**30).size == 8
    assert Batches(torch.device("cuda"), 2**40).size == 1
    assert Batches(torch.device("cuda"), 1).size == device_module.MAX_TILES


@pytest.mark.parametrize(("limit", "most"), [("150000 100000", 2), ("max 100000", 64), ("50000 100000", 1), (None, 64)])
def test_no_more_threads_than_are_ours(limit, most, monkeypatch, tmp_path):
    monkeypatch.setattr(device_module.os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(device_module, "CGROUP_LIMIT", tmp_path / "cpu.max")
    if limit:
        (tmp_path / "cpu.max").write_text(limit)
    assert device_module.free_threads() == most


def test_a_model_leaves_the_threads_of_others_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(device_module, "free_threads", lambda: 3)
    load_predictor("compact", "cpu")
    load_predictor("compact", "cpu", threads=5)
    monkeypatch.setattr(device_module, "free_threads", lambda: 9)
    load_predictor("compact", "cpu")
    assert asked == [3, 5]
