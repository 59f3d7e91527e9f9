"""Load weights, and say of which network they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from napari_sam.errors import ModelError
from napari_sam.models.safe_load import load_weights
from napari_sam.weights.registry import ModelEntry

State = dict[str, torch.Tensor]


def load_recognized(
    path: Path, entry: ModelEntry | None, recognize: Callable[[State, Path], tuple[str, State]]
) -> tuple[str, State]:
    """Load the weights of a file.

    Parameters
    ----------
    path
        The checkpoint.
    entry
        The model that the file is of, where it was named; None for any file.
    recognize
        Returns the family of weights and their tensors with the names that the network expects.

    Raises
    ------
    ModelError
        The file cannot be loaded, is of no known network or of another one than it is named for, or holds values that
        are no numbers.
    """
    family, state = recognize(load_weights(path), path)
    if entry and family != entry.family:
        raise ModelError(
            f"The file {path} holds {family} weights where {entry.name} needs {entry.family}: put the right file there."
        )
    if not all(bool(torch.isfinite(value).all()) for value in state.values()):
        raise ModelError(f"The weights in {path} hold NaN or infinite values: get an intact checkpoint.")
    return family, state
