"""Arrays of other libraries as images: torch tensors, masked arrays, pictures of Pillow, nested lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.letters import named_axes, names_of_array
from napari_sam.images.pictures import pixels_of
from napari_sam.images.source import ArrayLike, ImageSource


def opened_array(image: Any) -> ImageSource:
    """Return an array, or the levels of a pyramid, as an opened image.

    Parameters
    ----------
    image
        A numpy, zarr, dask or tensorstore array or anything alike, a torch tensor on any device, a picture of Pillow,
        a nested list of numbers, or the levels of a pyramid from fine to coarse.

    Raises
    ------
    ImageError
        It is nothing of the kind.
    """
    if isinstance(image, memoryview):  # It counts as a sequence, and cannot be iterated over.
        image = np.asarray(image)
    if isinstance(image, Sequence) and len(image) and all(hasattr(level, "shape") for level in image):
        levels = tuple(_readable(level) for level in image)
        if len(levels) == 1 or len({tuple(level.shape) for level in levels}) > 1:
            return _named(levels)
        image = levels
    if hasattr(image, "array_keys"):
        raise ImageError("A zarr group is not one image: give its path, or one of its arrays.")
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        pixels, axes = pixels_of(image)
        return ImageSource((pixels,), axes)
    return _named((_readable(image),))


def _named(levels: tuple[ArrayLike, ...]) -> ImageSource:
    """Return levels with the letters of their axes, if the arrays name them."""
    axes, guessed = named_axes(names_of_array(levels[0]), len(levels[0].shape))
    return ImageSource(levels, axes, guessed_axes=guessed)


def values_of(block: Any) -> NDArray[Any]:
    """Return a block as a numpy array; with masked pixels it is float32, and they are NaN."""
    if not isinstance(block, np.ndarray) and hasattr(block, "compute"):
        block = block.compute()  # numpy would take the data of a masked block of dask without its mask.
    elif not isinstance(block, np.ndarray) and hasattr(block, "variable") and hasattr(block, "values"):
        return np.asarray(block.values)
    if isinstance(block, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(block)
        data = np.asarray(block.data)
        return np.where(mask, np.float32(np.nan), data.astype(np.float32)) if mask.any() else data
    return np.asarray(block)


def is_masked(array: Any) -> bool:
    """Return whether an array can have masked pixels."""
    return isinstance(array, np.ma.MaskedArray) or isinstance(getattr(array, "_meta", None), np.ma.MaskedArray)


def _readable(array: Any) -> ArrayLike:
    """Return an array that can be sliced and converted to numpy."""
    if hasattr(array, "detach") and hasattr(array, "cpu"):
        return _from_torch(array)
    if hasattr(array, "shape") and hasattr(array, "dtype") and _has_numpy_type(array):
        if any(length != length for length in array.shape):  # NaN: unknown to dask.
            raise ImageError(
                f"The lengths of the image's axes are not known, {tuple(array.shape)}: call compute_chunk_sizes() on "
                "the dask array first."
            )
        return cast(ArrayLike, array)
    if array is None or isinstance(array, (str, bytes, Path, dict, set)):
        raise ImageError(f"A {type(array).__name__} is not an image: give an array, or the path of an image.")
    try:
        return np.asarray(array)
    except Exception as error:  # Libraries raise different exceptions.
        raise ImageError(
            f"The image, of type {type(array).__name__}, cannot be converted to an array ({first_line(error)}): give a "
            "numpy array, with rows of equal length."
        ) from error


def _from_torch(tensor: Any) -> ArrayLike:
    """Return a torch tensor as numpy array, without a copy if it is in the memory of the processor."""
    try:
        plain = tensor.detach().cpu()
        if plain.layout is not None and str(plain.layout) != "torch.strided":
            plain = plain.to_dense()
        if str(plain.dtype) == "torch.bfloat16":  # numpy has no such type.
            plain = plain.float()
        return cast(ArrayLike, plain.resolve_conj().resolve_neg().numpy())
    except Exception as error:  # Quantized, on a device without memory, of a subclass ...
        raise ImageError(
            f"The tensor of type {getattr(tensor, 'dtype', '?')} cannot be turned into an array "
            f"({first_line(error)}): give a numpy array."
        ) from error


def _has_numpy_type(array: Any) -> bool:
    try:
        np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    except TypeError:
        return False
    return True
