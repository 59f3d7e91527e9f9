"""ModelState: which models there are and which are on this machine, for faces that know no model themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Where = Literal["shipped", "here", "download", "by hand"]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model that can be asked for by name.

    Parameters
    ----------
    name
        What the user types.
    where
        "shipped" with the package, "here" on this machine, to be fetched by "download", or "by hand".
    nbytes
        About how large its weights are; None where that is not known.
    licence
        Of the weights.
    summary
        What it is good for.
    homepage
        Who made it.
    by_hand
        How to get it where `where` says so.
    """

    name: str
    where: Where
    nbytes: int | None
    licence: str
    summary: str
    homepage: str = ""
    by_hand: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it can be loaded without a network."""
        return self.where in ("shipped", "here")

    @property
    def size(self) -> str:
        """Its size in words, or nothing where it is not known."""
        if self.nbytes is None:
            return ""
        return f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:.0f} MB"


def model_states() -> list[ModelState]:
    """Return all models of the registry, the default one first; reads no weights and no torch.

    Raises
    ------
    ModelError
        The folder of models that the environment names is none.
    """
    from napari_sam.weights.registry import REGISTRY, ModelEntry

    def where(entry: ModelEntry) -> Where:
        if entry.shipped:
            return "shipped"
        return "here" if entry.is_here else "download" if entry.source else "by hand"

    return [
        ModelState(entry.name, where(entry), entry.nbytes, entry.licence, entry.summary, entry.homepage, entry.by_hand)
        for entry in REGISTRY.values()
    ]


def download_model(name: str, progress: Callable[[int, int | None], None]) -> None:
    """Fetch the weights of a model of the registry; in any thread.

    Parameters
    ----------
    name
        Of the model.
    progress
        Called with the bytes that are there and the bytes in all or None; what it raises stops the download, which
        goes on from there the next time.

    Raises
    ------
    ModelError
        They cannot be downloaded.
    """
    from napari_sam.weights.local import fetch
    from napari_sam.weights.registry import REGISTRY

    fetch(REGISTRY[name], progress)
