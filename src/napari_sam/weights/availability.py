"""ModelState: the models of the registry and whether they are on this computer, for user interfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Where = Literal["shipped", "here", "download", "by hand"]


@dataclass(frozen=True, slots=True)
class ModelState:
    """A model of the registry.

    Parameters
    ----------
    name
        Name of the model for users.
    where
        "shipped" with the package, "here" on this computer, or available by "download" or "by hand".
    nbytes
        Approximate size of its weights; None if it is not known.
    licence
        License of the weights.
    summary
        Images that it is suited to.
    homepage
        Page of its authors.
    by_hand
        How to get it if `where` is "by hand".
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
        """Its size in words; empty if it is not known."""
        if self.nbytes is None:
            return ""
        return f"{self.nbytes / 1e9:.1f} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:.0f} MB"


def model_states() -> list[ModelState]:
    """Return all models of the registry, the default one first, and those that were taught; reads no weights.

    Raises
    ------
    ModelError
        NAPARI_SAM_MODELS or NAPARI_SAM_CACHE is not a folder on this computer.
    """
    from napari_sam.weights.registry import REGISTRY, ModelEntry
    from napari_sam.weights.taught import taught_models

    def where(entry: ModelEntry) -> Where:
        if entry.shipped:
            return "shipped"
        return "here" if entry.is_here else "download" if entry.source else "by hand"

    taught = [ModelState(each.name, "here", None, f"as {each.base}", each.summary) for each in taught_models()]
    return [
        *(
            ModelState(
                entry.name, where(entry), entry.nbytes, entry.licence, entry.summary, entry.homepage, entry.by_hand
            )
            for entry in REGISTRY.values()
        ),
        *taught,
    ]


def detector_states() -> list[ModelState]:
    """Return the models that know words and segment nothing themselves; `by_hand` says how to get each, and where to.

    Raises
    ------
    ModelError
        NAPARI_SAM_MODELS or NAPARI_SAM_CACHE is not a folder on this computer.
    """
    from napari_sam.weights.detectors import DETECTORS

    return [
        ModelState(
            entry.name,
            "here" if entry.is_here else "by hand",
            entry.nbytes,
            entry.licence,
            entry.summary,
            entry.homepage,
            f"{entry.by_hand}, and put both into {entry.path.parent}",
        )
        for entry in DETECTORS.values()
    ]


def download_model(name: str, progress: Callable[[int, int | None], None]) -> None:
    """Download the weights of a model of the registry. Works in any thread.

    Parameters
    ----------
    name
        Name of the model.
    progress
        Called with the bytes received and the total, or None if it is unknown. An exception that it raises stops the
        download; the next one resumes there.

    Raises
    ------
    ModelError
        They cannot be downloaded.
    """
    from napari_sam.weights.local import fetch
    from napari_sam.weights.registry import REGISTRY

    fetch(REGISTRY[name], progress)
