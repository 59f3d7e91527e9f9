"""Networks behind one protocol. torch lives here and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ModelError
from napari_sam.models.registry import DEFAULT_MODEL, REGISTRY

if TYPE_CHECKING:
    from napari_sam.models.predictor import Predictor

# Read when torch is first imported. Its OpenMP threads spin while they wait for each other; beside any other work (a
# rendering napari, a second process) that made two clicks take 9.9 s instead of 0.5 s on two cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

__all__ = ["DEFAULT_MODEL", "REGISTRY", "load_predictor"]


def load_predictor(model: str | Path = DEFAULT_MODEL, device: str = "auto", threads: int | None = None) -> Predictor:
    """Load a model by its name or from a checkpoint.

    Parameters
    ----------
    model
        A name of the registry, or the path of a .safetensors, .pth or .pt file of a known architecture.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads
        Processor threads for torch in the whole process; its own choice when left out.

    Raises
    ------
    ModelError
        The name or file is unknown, damaged, unsafe or of an architecture that napari-sam does not know, or the
        device is not there.
    """
    import torch

    from napari_sam.models.compact import CompactPredictor
    from napari_sam.models.device import resolve_device
    from napari_sam.models.sam import SamPredictor
    from napari_sam.models.weights import load_weights, recognise, sha256_of

    where = resolve_device(device)
    if threads is not None and threads < 1:
        raise ModelError(f"The model needs at least one thread and was given {threads}: leave the number out.")
    if threads is not None:
        torch.set_num_threads(threads)
    entry = REGISTRY.get(str(model))
    path = entry.path if entry else Path(model)
    if entry is None and not path.exists():
        names = ", ".join(REGISTRY)
        raise ModelError(f"There is no model {str(model)!r}: use one of {names}, or the path of a checkpoint.")
    if entry and sha256_of(path) != entry.sha256:
        raise ModelError(f"The weights of {entry.name} are damaged ({path}): install napari-sam again.")
    state = load_weights(path)
    digest = entry.sha256 if entry else sha256_of(path)
    family, state = recognise(state, path)
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelError(
            f"The weights in {path} hold NaN or infinite values: use a checkpoint of an intact training run."
        )
    if family == "compact":
        return CompactPredictor(state, name=str(model), digest=digest, device=where)
    return SamPredictor(state, family, name=str(model), digest=digest, device=where)
