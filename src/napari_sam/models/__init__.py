"""Networks behind one protocol. torch lives here and nowhere else."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.arguments import shown, whole
from napari_sam.errors import ModelError
from napari_sam.weights.registry import DEFAULT_MODEL, REGISTRY

if TYPE_CHECKING:
    import torch

    from napari_sam.core.predictor import Predictor
    from napari_sam.weights.download import Progress

# Read when torch is first imported. Its OpenMP threads spin while they wait for each other; beside any other work (a
# rendering napari, a second process) that made two clicks take 9.9 s instead of 0.5 s on two cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# More than any computer has; torch tries to start as many as it is asked for.
MAX_THREADS = 1024

__all__ = ["DEFAULT_MODEL", "REGISTRY", "load_predictor"]


def load_predictor(
    model: str | Path = DEFAULT_MODEL,
    device: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    progress: Progress | None = None,
    compiled: bool = False,
) -> Predictor:
    """Load a model by its name, downloading its weights where they are not there yet, or from a checkpoint.

    Parameters
    ----------
    model
        A name of the registry, or the path of a .safetensors, .pth or .pt file of a known architecture.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads
        Processor threads for torch in the whole process; when left out its own choice, and no more than are ours.
    precision
        "float32", "bfloat16", "tf32" or "auto", which takes bfloat16 for large models where the device multiplies it.
    progress
        Called while weights are downloaded, with the bytes that are there and the bytes in all or None.
    compiled
        Whether torch compiles the image encoder of a SAM, MobileSAM or SAM-HQ on a GPU: minutes once, faster after
        that.

    Raises
    ------
    ModelError
        The name or file is unknown, damaged, unsafe or of an architecture that napari-sam does not know, the weights
        cannot be downloaded, an optional dependency is missing, or the device is not there.
    """
    import torch

    from napari_sam.models.checkpoints import detect_architecture
    from napari_sam.models.device import PRECISIONS, free_threads, resolve_device
    from napari_sam.models.safe_load import load_weights
    from napari_sam.weights.download import sha256_of
    from napari_sam.weights.local import verified

    where = resolve_device(device)
    if threads is not None:
        advice = f"give a whole number from 1 to {MAX_THREADS}, or leave it out"
        threads = whole(threads, "The number of threads", advice, ModelError, least=1, most=MAX_THREADS)
    if not (isinstance(precision, str) and precision in PRECISIONS):
        raise ModelError(f"The precision {shown(precision)} is not known: use one of {', '.join(PRECISIONS)}.")
    if threads is not None or torch.get_num_threads() > free_threads():
        torch.set_num_threads(threads or free_threads())
    if not isinstance(model, (str, Path)):
        raise ModelError(f"A model is a name or the path of a checkpoint, and {shown(model)} is neither: give one.")
    entry = REGISTRY.get(str(model))
    if entry:
        _check_extra(entry.family)
        path, digest = verified(entry, progress)
    elif os.path.exists(model):  # noqa: PTH110  A name too long for a file is no error here.
        path, digest = Path(model), ""
    else:
        names = ", ".join(REGISTRY)
        raise ModelError(f"There is no model {shown(str(model))}: use one of {names}, or the path of a checkpoint.")
    state = load_weights(path)
    family, state = detect_architecture(state, path)
    if entry and family != entry.family:
        raise ModelError(
            f"The file {path} holds {family} weights where {entry.name} needs {entry.family}: put the right file there."
        )
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelError(
            f"The weights in {path} hold NaN or infinite values: use a checkpoint of an intact training run."
        )
    predictor = _predictor(state, family, str(model), digest or sha256_of(path), where, precision)
    if compiled:
        _compile(predictor, where)
    return predictor


def _compile(predictor: Predictor, device: torch.device) -> None:
    from napari_sam.models.sam import SamPredictor

    if device.type == "cpu" or not isinstance(predictor, SamPredictor):
        raise ModelError(
            "Compiling pays for a SAM, MobileSAM or SAM-HQ on a GPU and for nothing else: leave it out, or choose both."
        )
    predictor.compile()


def _check_extra(family: str) -> None:
    """Refuse a family whose optional dependency is missing, before anything is downloaded or read for it."""
    if family.startswith(("sam2", "sam3")) and find_spec("transformers") is None:
        raise ModelError(f"The models of {family} need the library transformers: pip install transformers.")


def _predictor(
    state: dict[str, torch.Tensor], family: str, name: str, digest: str, device: torch.device, precision: str
) -> Predictor:
    _check_extra(family)
    if family == "compact":
        from napari_sam.models.compact import CompactPredictor

        return CompactPredictor(state, name=name, digest=digest, device=device, precision=precision)
    if family.startswith("sam2"):
        from napari_sam.models.sam2 import Sam2Predictor

        return Sam2Predictor(state, family, name=name, digest=digest, device=device, precision=precision)
    if family == "sam3":
        from napari_sam.models.sam3 import Sam3Predictor

        return Sam3Predictor(state, family, name=name, digest=digest, device=device, precision=precision)
    from napari_sam.models.sam import SamPredictor

    return SamPredictor(state, family, name=name, digest=digest, device=device, precision=precision)
