"""Models behind one protocol. Only this package and `training` import torch."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.arguments import shown, whole
from napari_sam.errors import ModelError
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.registry import DEFAULT_MODEL, REGISTRY

if TYPE_CHECKING:
    import torch

    from napari_sam.core.predictor import Predictor
    from napari_sam.weights.download import Progress

# Read when torch is first imported. Its OpenMP threads spin while they wait for each other; beside any other work (a
# rendering napari, a second process) that made two clicks take 9.9 s instead of 0.5 s on two cores.
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# More than any computer has; torch would try to start any number.
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
    """Load a model by its name, downloading its weights if they are missing, or from a checkpoint.

    Parameters
    ----------
    model
        A name of the registry or of a taught model, or the path of a .safetensors, .pth or .pt file of a known
        architecture.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    threads
        Processor threads of torch in the whole process; by default its own choice, limited to the available ones.
    precision
        "float32", "bfloat16", "tf32" or "auto": bfloat16 for large models on devices that support it, else float32.
    progress
        Called during downloads with the bytes received and the total, or None if it is unknown.
    compiled
        Whether torch compiles the image encoder of a SAM, MobileSAM or SAM-HQ on a GPU: minutes once, faster after
        that.

    Raises
    ------
    ModelError
        The name or file is unknown, damaged, unsafe or of an architecture that napari-sam does not know, the weights
        cannot be downloaded, an optional dependency is missing, or the device is not available.
    """
    from napari_sam.models.checkpoints import detect_architecture
    from napari_sam.models.device import PRECISIONS, resolve_device
    from napari_sam.models.recognized import load_recognized
    from napari_sam.weights.download import sha256_of
    from napari_sam.weights.local import verified
    from napari_sam.weights.taught import taught_model

    where = resolve_device(device)
    count = None if threads is None else _checked_threads(threads)
    if not (isinstance(precision, str) and precision in PRECISIONS):
        raise ModelError(f"The precision {shown(precision)} is unknown: use one of {', '.join(PRECISIONS)}.")
    _set_threads(count)
    if not isinstance(model, (str, Path)):
        raise ModelError(f"A model is a name or the path of a checkpoint, and {shown(model)} is neither: give one.")
    entry, taught = REGISTRY.get(str(model)), taught_model(str(model))
    if entry:
        _check_extra(entry.family)
        path, digest = verified(entry, progress)
    elif taught is not None or os.path.exists(model):  # noqa: PTH110  False for too long a name, where `Path` raises.
        path, digest = Path(model) if taught is None else taught.path, ""
    else:
        raise _unknown(str(model))
    family, state = load_recognized(path, entry, detect_architecture)
    predictor = predictor_of(state, family, str(model), digest or sha256_of(path), where, precision)
    if compiled:
        _compile(predictor, where)
    return predictor


def _checked_threads(threads: int) -> int:
    advice = f"give a whole number from 1 to {MAX_THREADS}, or leave it out"
    return whole(threads, "The number of threads", advice, ModelError, least=1, most=MAX_THREADS)


def _set_threads(threads: int | None) -> None:
    """Set torch's number of threads; by default only if it is larger than that of the available ones."""
    import torch

    from napari_sam.models.device import free_threads

    if threads is not None or torch.get_num_threads() > free_threads():
        torch.set_num_threads(threads or free_threads())


def _compile(predictor: Predictor, device: torch.device) -> None:
    from napari_sam.models.sam import SamPredictor

    if device.type == "cpu" or not isinstance(predictor, SamPredictor):
        raise ModelError(
            "Compiling is supported for SAM, MobileSAM and SAM-HQ on a GPU only: leave it out, or choose both."
        )
    predictor.compile()


def _check_extra(family: str) -> None:
    """Refuse a family without its optional dependency, before anything is downloaded or read."""
    if family.startswith(("sam2", "sam3")) and find_spec("transformers") is None:
        raise ModelError(f"The models of {family} need the library transformers: pip install transformers.")


def predictor_of(
    state: dict[str, torch.Tensor], family: str, name: str, digest: str, device: torch.device, precision: str = "auto"
) -> Predictor:
    """Return the predictor of weights in memory; see `detect_architecture` and `TilePredictor`."""
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


def _unknown(model: str) -> ModelError:
    """Return the error for a name that is neither that of a model nor a path."""
    if model in DETECTORS:
        return ModelError(
            f"{model} knows words and segments nothing: choose another model, and give {model} to find as detector."
        )
    return ModelError(
        f"There is no model {shown(model)}: use one of {', '.join(REGISTRY)}, or the path of a checkpoint."
    )
