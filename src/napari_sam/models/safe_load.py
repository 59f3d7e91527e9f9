"""Load weight files without executing anything from them, and write safetensors."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_sam.errors import ModelError
from napari_sam.files.outputs import replacing
from napari_sam.models.archives import check_safetensors, check_torch_file
from napari_sam.models.base import MAX_HALF
from napari_sam.models.checkpoints import weights_in
from napari_sam.models.nested_checkpoints import MAX_DEPTH, flattened
from napari_sam.weights.download import BEGINNINGS, sha256_of

__all__ = ["load_weights", "save_weights", "sha256_of"]

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt")


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Load a checkpoint as a plain dictionary of tensors.

    Parameters
    ----------
    path
        A .safetensors, .pth or .pt file.

    Raises
    ------
    ModelError
        The file is missing, of another kind, truncated, or holds code instead of weights.
    """
    _check_file(path)
    if path.suffix.lower() == SAFETENSORS:
        return _load_safetensors(path)
    if path.suffix.lower() not in TORCH and not _looks_like_torch(path):
        raise ModelError(f"{path} is not a checkpoint: give a .safetensors, .pth, .pt or .ckpt file.")
    content = _load_torch(path)
    state = flattened(content)
    if any(value.numel() * value.itemsize > value.untyped_storage().nbytes() for value in state.values()):
        raise ModelError(f"{path} holds tensors that repeat few numbers many times: save the network's weights again.")
    is_flat = isinstance(content, dict) and all(isinstance(value, torch.Tensor) for value in content.values())
    found = state if is_flat else weights_in(state, path) or _largest_dictionary(content)
    if not found:
        raise ModelError(f"{path} is not a dictionary of tensors: give a checkpoint saved from a model's state_dict().")
    return found


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise ModelError(f"{path} is a folder: give the checkpoint in it, a .safetensors, .pth or .pt file.")
        if not path.exists():
            raise ModelError(
                f"There is no model file {path}: check the path, or give the name of a model (napari-sam models)."
            )
        if not path.is_file():
            raise ModelError(f"{path} is a pipe or device: give a checkpoint, a .safetensors, .pth or .pt file.")
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}): check the path.") from error


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        check_safetensors(path)
        return load_file(path)
    except PermissionError as error:
        raise ModelError(f"The model file {path} cannot be read: check its permissions.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is not a complete safetensors file ({error}): download or save it again.") from error


def _largest_dictionary(content: Any, depth: int = 0) -> dict[str, torch.Tensor]:
    """Return the largest dictionary in nested ones whose values are all tensors; empty if there is none."""
    if not isinstance(content, dict) or depth >= MAX_DEPTH:
        return {}
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return flattened(content)
    return max((_largest_dictionary(value, depth + 1) for value in content.values()), key=len, default={})


def _looks_like_torch(path: Path) -> bool:
    """Return whether a file begins like a torch file: a zip archive, or the older format."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(BEGINNINGS)
    except OSError:
        return False


def _load_torch(path: Path) -> Any:
    try:
        check_torch_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds other objects than weights, which are never executed here: use a checkpoint that contains "
            "only tensors, or save one from a trainer's file that you trust, by micro_sam.util.export_custom_sam_model "
            "or by torch.save(torch.load(file, weights_only=False)['model_state'], new_file)."
        ) from error
    except ModelError:
        raise
    except PermissionError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}): check its permissions.") from error
    except Exception as error:
        raise ModelError(f"{path} is not a complete torch checkpoint: download or save it again.") from error


def save_weights(
    state: dict[str, torch.Tensor],
    path: Path,
    *,
    family: str,
    half: bool = False,
    card: dict[str, Any] | None = None,
) -> None:
    """Write a state dict as safetensors, atomically, with its family in the metadata.

    Parameters
    ----------
    state
        What `families.detect_architecture` returned.
    path
        A .safetensors file; replaced where it exists.
    family
        Network that the weights are of.
    half
        Round to half precision, except what that cannot hold and running statistics, which small errors spoil.
    card
        What is known of the model, for its metadata; values that JSON can hold.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        fits = half and value.is_floating_point() and "running_" not in key and bool((value.abs() <= MAX_HALF).all())
        # A copy of each, since safetensors refuses tensors that share memory.
        tensors[key] = value.to(torch.float16 if fits else value.dtype, copy=True).contiguous()
    with replacing(path) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode
        described = {} if card is None else {"card": json.dumps(card)}
        save_file(tensors, temporary, metadata={"family": family, "format": "pt", **described})
        temporary.chmod(usual)  # The library creates files that only their owner may read.
