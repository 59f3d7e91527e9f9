"""Weight files: verified by sha256, loaded without ever executing anything from them, recognised by their keys."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from napari_sam.errors import ModelError

SAFETENSORS = ".safetensors"
TORCH = (".pth", ".pt")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, as 64 hexadecimal digits.

    Raises
    ------
    ModelError
        The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read ({error.strerror}): check the path.") from error


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
            f"There is no model file {path}: give the name of a model (napari-sam models) or a checkpoint."
        )
    if path.suffix.lower() == SAFETENSORS:
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path} is no complete safetensors file ({error}): download or save it again.") from error
    if path.suffix.lower() not in TORCH:
        raise ModelError(f"{path} is no checkpoint: model files end in .safetensors, .pth or .pt.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds something other than weights, which is never executed here: use a checkpoint that contains "
            "only tensors, best as .safetensors."
        ) from error
    except Exception as error:
        raise ModelError(f"{path} is no complete torch checkpoint: download or save it again.") from error
    state = loaded.get("model_state", loaded.get("state_dict", loaded)) if isinstance(loaded, dict) else loaded
    tensors = isinstance(state, dict) and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors or not state:
        raise ModelError(f"{path} holds no dictionary of tensors: give a checkpoint saved from a model's state_dict().")
    return {str(key): value for key, value in state.items()}


def recognise(state: dict[str, torch.Tensor], path: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """Say which network a state dict is of, by its keys and shapes, whatever the file is called.

    Parameters
    ----------
    state
        The state dict, perhaps with a "sam." or "module." before every key, as trainers save it.
    path
        Where it came from, for the message.

    Returns
    -------
    family : str
        "compact", "vit_b", "vit_l" or "vit_h".
    state : dict
        The state dict with the network's own keys.

    Raises
    ------
    ModelError
        It is of another architecture, or of this one with parts missing or of another shape.
    """
    from napari_sam.models.compact import Compact
    from napari_sam.models.sam import SIZES, Sam, size_of

    for prefix in ("module.", "sam."):
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    state = {
        key: value
        for key, value in state.items()
        if not key.endswith(("num_batches_tracked", "pixel_mean", "pixel_std"))
    }
    size = size_of(state)
    with torch.device("meta"):
        network = Sam(SIZES[size]) if size else Compact()
    expected = {
        key: value.shape for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")
    }
    wrong = sorted(key for key in {*expected, *state} if key not in state or state[key].shape != expected.get(key))
    if not wrong:
        return size or "compact", state
    if size:
        raise ModelError(
            f"The weights in {path} look like SAM {size} and differ from it in {len(wrong)} entries ({wrong[0]} ...): "
            "use a complete checkpoint of SAM ViT-B, ViT-L or ViT-H."
        )
    raise ModelError(
        f"The weights in {path} are of an architecture that napari-sam does not know: "
        "use a checkpoint of SAM (ViT-B, ViT-L, ViT-H) or of the compact model, or the name 'compact'."
    )
