"""Device and number format of a model, and the number of tiles that fit into its memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from napari_sam.arguments import shown
from napari_sam.errors import ModelError

PRECISIONS = ("auto", "float32", "tf32", "bfloat16")
CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
# Share of the free memory that stays unused, and the largest useful number of tiles in a call.
SPARE_SHARE = 0.2
MAX_TILES = 32
T = TypeVar("T")


def available_devices() -> list[str]:
    """Return the names of the available devices, the fastest first; "cpu" is always among them."""
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device for "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises
    ------
    ModelError
        torch does not know the device or cannot use it on this machine.
    """
    available = available_devices()
    name = str(name) if isinstance(name, torch.device) else name
    if not isinstance(name, str):
        raise ModelError(f"The device cannot be {shown(name)}: use one of {', '.join(['auto', *available])}.")
    wanted = available[0] if name == "auto" else name
    if wanted not in available and not (wanted == "cuda" and available[0].startswith("cuda")):
        raise ModelError(
            f"The device {shown(name)} is not available here: use one of {', '.join(['auto', *available])}."
        )
    return torch.device(wanted)


def free_threads() -> int:
    """Return the number of processor threads that this process may use.

    torch takes one for every core that it sees; on a cluster or in a container far fewer may be ours, and threads that
    share a core wait for each other.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CGROUP_LIMIT.read_text(encoding="ascii").split()
        count = min(count, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # No limit, "max", or another system.
    return max(1, count)


def has_fast_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16; emulating it is slower than float32."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is not None:
        found = capabilities()
        return any(found.get(name) for name in FAST_BFLOAT16)
    try:  # An older torch has no such function.
        words = set(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split())
    except OSError:
        return False
    return not words.isdisjoint(FAST_BFLOAT16)


def precision_for(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Return the number format of the image encoder for the name of a precision.

    Parameters
    ----------
    device
        Device of the model.
    precision
        "auto" is bfloat16 where the device multiplies it itself, and else float32; "tf32" is float32 whose products an
        NVIDIA GPU may round to 10 bits, for the whole process.

    Raises
    ------
    ModelError
        It is another word, or the device does not have it.
    """
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ModelError(f"The precision {precision!r} is unknown: use one of {known}.")
    if precision == "tf32":
        if device.type != "cuda":
            raise ModelError("The precision tf32 exists on NVIDIA GPUs only: use float32, or bfloat16.")
        torch.set_float32_matmul_precision("high")
        return torch.float32
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else has_fast_bfloat16()
        return torch.bfloat16 if fast and device.type in ("cuda", "cpu") else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def precision_name(dtype: torch.dtype, precision: str = "auto") -> str:
    """Return the name of a precision in digests of embeddings."""
    return "tf32" if precision == "tf32" else str(dtype).removeprefix("torch.")


class Batches:
    """Processes as many items at a time as the device's memory holds.

    Parameters
    ----------
    device
        Device of the work. On a processor it is one item at a time: more are not faster, and the last bits of a
        result would depend on its company.
    item_bytes
        Memory that one item takes, roughly.

    Attributes
    ----------
    size
        How many items are best given at once.
    """

    def __init__(self, device: torch.device, item_bytes: int) -> None:
        self._device = device
        self.size = 1
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            self.size = max(1, min(MAX_TILES, int(free * (1 - SPARE_SHARE)) // item_bytes))

    def run(self, items: Sequence[int], work: Callable[[Sequence[int]], list[T]]) -> list[T]:
        """Process all items, in smaller batches once memory has run out.

        Raises
        ------
        ModelError
            There is not enough memory for a single item.
        """
        done: list[T] = []
        while len(done) < len(items):
            part = items[len(done) : len(done) + self.size]
            try:
                done += work(part)
            except torch.OutOfMemoryError as error:
                if len(part) == 1:
                    raise ModelError(
                        f"The memory of {self._device} is too small for a tile of this model: close other programs "
                        "that use it, take a smaller model, or run on the cpu."
                    ) from error
                self.size = max(1, len(part) // 2)
            else:
                continue
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
        return done
