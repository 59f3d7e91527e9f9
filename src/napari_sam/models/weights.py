"""Weight files: loaded without ever executing anything from them, and written as safetensors."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from napari_sam.errors import ModelError
from napari_sam.files import replacing
from napari_sam.models.download import BEGINNINGS, sha256_of
from napari_sam.models.families import recognise

__all__ = ["load_weights", "recognise", "save_weights", "sha256_of"]

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt")
# Under which of these trainers keep the state dict beside other things.
WRAPPERS = ("model_state", "state_dict", "model_state_dict", "model")
HALF_MOST = 65504.0


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
    if path.is_dir():
        raise ModelError(f"{path} is a folder: give the checkpoint in it, a .safetensors, .pth or .pt file.")
    if not path.is_file():
        raise ModelError(
            f"There is no model file {path}: check the path, or give the name of a model (napari-sam models)."
        )
    if path.suffix.lower() == SAFETENSORS:
        try:
            return load_file(path)
        except PermissionError as error:
            raise ModelError(f"The model file {path} cannot be read: check its permissions.") from error
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path} is no complete safetensors file ({error}): download or save it again.") from error
    if path.suffix.lower() not in TORCH and not _looks_like_torch(path):
        raise ModelError(f"{path} is no checkpoint: give a .safetensors, .pth, .pt or .ckpt file.")
    loaded = _load_torch(path)
    name = next((name for name in WRAPPERS if name in loaded), None) if isinstance(loaded, dict) else None
    state = loaded if name is None else loaded[name]
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not state:
        raise ModelError(f"{path} holds no dictionary of tensors: give a checkpoint saved from a model's state_dict().")
    return {str(key): value for key, value in state.items()}


def _looks_like_torch(path: Path) -> bool:
    """Say whether a file of any name begins as torch's do: a zip archive, or the older kind."""
    try:
        with path.open("rb") as file:
            return file.read(4).startswith(BEGINNINGS)
    except OSError:
        return False


def _load_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds something other than weights, which is never executed here: use a checkpoint that contains "
            "only tensors, or save one from a trainer's file that you trust, by micro_sam.util.export_custom_sam_model "
            "or by torch.save(torch.load(file, weights_only=False)['model_state'], new_file)."
        ) from error
    except PermissionError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}): check its permissions.") from error
    except Exception as error:
        raise ModelError(f"{path} is no complete torch checkpoint: download or save it again.") from error


def save_weights(state: dict[str, torch.Tensor], path: Path, *, family: str, half: bool = False) -> None:
    """Write a state dict as safetensors, whole or not at all, with its family in the metadata.

    Parameters
    ----------
    state
        What `families.recognise` returned.
    path
        A .safetensors file; replaced where it exists.
    family
        Which network it is of.
    half
        Round to half precision, except what that cannot hold and running statistics, which small errors spoil.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    tensors: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        fits = half and value.is_floating_point() and "running_" not in key and bool((value.abs() <= HALF_MOST).all())
        # A copy of its own for each: safetensors refuses tensors that share memory.
        tensors[key] = value.to(torch.float16 if fits else value.dtype, copy=True).contiguous()
    with replacing(path) as temporary:
        temporary.touch()
        usual = temporary.stat().st_mode
        save_file(tensors, temporary, metadata={"family": family, "format": "pt"})
        temporary.chmod(usual)  # The library makes files that only their owner may read.
