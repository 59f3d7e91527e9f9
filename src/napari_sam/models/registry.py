"""The models that can be asked for by name. Reading this file imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the registry.

    Parameters
    ----------
    name
        What the user types.
    family
        Which network it is; today always "compact".
    file
        The weights, a file of this package.
    sha256
        Hash of the file, checked each time before it is loaded.
    licence
        Licence of the weights.
    summary
        What it is good for.
    """

    name: str
    family: str
    file: str
    sha256: str
    licence: str
    summary: str

    @property
    def path(self) -> Path:
        return Path(str(files("napari_sam.models") / self.file))


DEFAULT_MODEL = "compact"

REGISTRY: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        ModelEntry(
            name="compact",
            family="compact",
            file="compact/compact.safetensors",
            sha256="5dc2c0f289c9022310fc32f0cb7920df9dcb92afac0f3f0e79ce48aa6b3e6da2",
            licence="BSD-3-Clause",
            summary="Ships with napari-sam: small, works offline, fast on a laptop's processor.",
        ),
    )
}
