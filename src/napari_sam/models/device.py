"""Which processor the model runs on."""

from __future__ import annotations

import torch

from napari_sam.errors import ModelError


def available_devices() -> list[str]:
    """Return the names of the devices that torch can use here, the fastest first; "cpu" is always among them."""
    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def resolve_device(name: str = "auto") -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1" or "mps" into a device that is there.

    Raises
    ------
    ModelError
        torch does not know the device or cannot use it on this machine.
    """
    available = available_devices()
    wanted = available[0] if name == "auto" else name
    if wanted not in available and not (wanted == "cuda" and available[0].startswith("cuda")):
        raise ModelError(f"The device {name!r} is not available here: use one of {', '.join(['auto', *available])}.")
    return torch.device(wanted)
