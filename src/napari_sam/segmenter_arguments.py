"""Check the arguments of `Segmenter` that name its model, labels, store and journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.arguments import path_argument, shown
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import LabelsError, ModelError, OutputError
from napari_sam.labels.regions import WritableArray

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor


def checked_model(model: Any) -> str | Path | Predictor:
    """Return a model as a name, a path or a loaded predictor.

    Raises
    ------
    ModelError
        It is none of these.
    """
    if isinstance(model, (str, Path)):
        return model
    missing = [name for name in ("encode", "decode", "input_side", "digest") if not hasattr(model, name)]
    if missing or isinstance(model, type):
        raise ModelError(
            f"The model cannot be {shown(model)}: give a name (see napari-sam models), the path of a checkpoint, or "
            "what load_predictor returned."
        )
    predictor: Predictor = model
    return predictor


def checked_labels(labels: Any) -> WritableArray | Path | None:
    """Return labels as an array that can be written to, or the path of one.

    A torch tensor in the computer's memory becomes a numpy array that shares its memory.

    Raises
    ------
    LabelsError
        They are no array, have masked values, or the path cannot be one.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        return path_argument(labels, "The path of the labels", LabelsError)
    if hasattr(labels, "detach") and hasattr(labels, "cpu"):
        if labels.device.type != "cpu":
            raise LabelsError(f"The labels are a tensor on {labels.device}: pass labels.cpu().")
        try:
            labels = labels.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise LabelsError(
                f"The labels are a tensor that numpy cannot share ({shown(labels.dtype)}): pass a numpy array."
            ) from error
    if isinstance(labels, np.ma.MaskedArray):
        raise LabelsError("The labels are a masked array, whose mask cannot be kept: pass labels.filled(0).")
    is_array = all(hasattr(labels, name) for name in ("shape", "dtype", "__getitem__", "__setitem__"))
    if not is_array or hasattr(labels, "iloc"):
        raise LabelsError(f"Labels must be a numpy or zarr array and are a {type(labels).__name__}: convert them.")
    array: WritableArray = labels
    return array


def checked_store(store: Any) -> EmbeddingStore | Path | str | None:
    """Return a store of embeddings, or its folder or URL.

    Raises
    ------
    OutputError
        It is none of these.
    """
    if store is None or isinstance(store, EmbeddingStore):
        return store
    if isinstance(store, str) and "://" in store:
        return store
    return path_argument(store, "The store", OutputError)


def checked_journal(journal: Any) -> bool | Path:
    """Return whether a journal is kept, or its folder.

    Raises
    ------
    OutputError
        It is neither True, False, None nor a path.
    """
    if journal is None or isinstance(journal, (bool, np.bool_)):
        return bool(journal)
    if not isinstance(journal, (str, Path)):
        raise OutputError(f"The journal must be True, False or a folder and is {shown(journal)}: correct it.")
    return path_argument(journal, "The journal", OutputError)


def check_same_shape(labels: WritableArray, shape: tuple[int, ...]) -> None:
    """Refuse labels of another shape than the image's.

    Raises
    ------
    LabelsError
        The shapes differ.
    """
    if tuple(labels.shape) != shape:
        raise LabelsError(f"The labels have shape {tuple(labels.shape)} and the image {shape}: make them equal.")
