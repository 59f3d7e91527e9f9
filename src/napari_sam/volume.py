"""Volume: one way to read pixels from numpy arrays, zarr arrays and image files.

The only module that touches lazy arrays: it slices first and converts to numpy afterwards, so a click reads the chunks
under its tile and no others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import Rendering, percentile_limits
from napari_sam.errors import ImageError

SAMPLE_PLANES = 8
SAMPLE_BLOCKS = 4
SAMPLE_BLOCK_SIDE = 512


class ArrayLike(Protocol):
    """What an image must offer: numpy, zarr and dask arrays all do."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """An image of any number of axes, read plane by plane and box by box.

    Parameters
    ----------
    array
        The pixels; numpy or zarr.
    rgb
        Whether the last axis holds channels (RGB or RGBA) and does not count as an axis of the volume.
    """

    array: ArrayLike
    rgb: bool = False

    @classmethod
    def of(cls, image: Volume | ArrayLike | str | Path, rgb: bool | None = None) -> Volume:
        """Return a volume of an array or of an image file.

        Parameters
        ----------
        image
            A numpy or zarr array, or the path of a .tif, .png, .jpg or .zarr.
        rgb
            Whether the last axis holds colour channels; left out, it does where it has length 3 or 4 and the two axes
            before it are longer than that (longer than 30 where the pixels are not uint8).

        Raises
        ------
        ImageError
            The file is missing or no image, or the array is no image (complex, text, fewer than two axes).
        """
        if isinstance(image, Volume):
            return image
        array = open_image(Path(image)) if isinstance(image, (str, Path)) else image
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            array = np.asarray(array)
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "buif":
            raise ImageError(f"Pixels of type {dtype} are no image: give whole or real numbers.")
        shape = tuple(array.shape)
        if rgb is None:
            shortest = 4 if dtype == np.uint8 else 30
            rgb = len(shape) > 2 and shape[-1] in (3, 4) and min(shape[-3:-1]) > shortest
        if rgb and len(shape) < 3:
            raise ImageError(f"An RGB image needs a channel axis at the end and this one has shape {shape}.")
        volume = cls(array, rgb)
        if len(volume.shape) < 2:
            raise ImageError(f"An image needs at least two axes and this one has shape {shape}: give a 2-D array.")
        if 0 in shape:
            raise ImageError(f"The image is empty, its shape is {shape}: give one with pixels.")
        return volume

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis in pixels, without the channel axis."""
        shape = tuple(self.array.shape)
        return shape[:-1] if self.rgb else shape

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Read the pixels of a box of a plane.

        Parameters
        ----------
        plane
            Which section of the volume.
        box
            Whole level-0 pixels, inside the plane.

        Returns
        -------
        numpy.ndarray
            Shape (rows, cols), or (rows, cols, channels) for RGB, in the dtype of the array.

        Raises
        ------
        ImageError
            The box holds NaN or infinite pixels, or cannot be read.
        """
        try:
            block = np.asarray(self.array[plane.slicer(box)])
        except (OSError, RuntimeError, ValueError) as error:
            raise ImageError(f"The pixels of {box} cannot be read ({error}): check the file or the store.") from error
        if block.dtype.kind == "f" and not np.isfinite(block).all():
            raise ImageError(
                "The image holds NaN or infinite pixels: replace them first, for example with numpy.nan_to_num."
            )
        return plane.oriented(block)

    def rendering(self, limits: Sequence[float] | None = None, gamma: float = 1.0) -> Rendering:
        """Return how the whole volume is stretched to 8 bits.

        Parameters
        ----------
        limits
            Contrast limits (low, high); left out, they are 0 and 255 for 8-bit RGB and else the 0.5 and 99.5
            percentiles of a few blocks spread over a few planes.
        gamma
            As in napari.

        Raises
        ------
        ImageError
            The limits are not two finite numbers in rising order, or gamma is not above 0.
        """
        if not gamma > 0:
            raise ImageError(f"Gamma must be above 0 and is {gamma}: 1 leaves the image as it is.")
        if limits is not None:
            pair = np.atleast_1d(np.asarray(limits, np.float64))
            if pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] >= pair[1]:
                raise ImageError(f"Contrast limits must be two numbers, low < high, and these are {limits}.")
            return Rendering(((float(pair[0]), float(pair[1])),), gamma)
        if self.rgb and np.dtype(self.array.dtype) == np.uint8:
            return Rendering(((0.0, 255.0),), gamma)
        return Rendering((percentile_limits(self._sample()),), gamma)

    def _sample(self) -> NDArray[Any]:
        """Read a few planes of the last two axes, spread over the others, and of large planes only 4 x 4 blocks."""
        *others, height, width = self.shape
        rows, cols = (_spread(length, SAMPLE_BLOCKS, SAMPLE_BLOCK_SIDE) for length in (height, width))
        count = math.prod(others)
        colours = (..., slice(3)) if self.rgb else ...
        chosen = np.unique(np.linspace(0, count - 1, min(count, SAMPLE_PLANES)).astype(int))
        blocks = [
            self.read(Plane.of(self.shape, [int(at) for at in index]), Box(top, left, bottom, right))[colours].ravel()
            for index in (zip(*np.unravel_index(chosen, others), strict=True) if others else [()])
            for top, bottom in rows
            for left, right in cols
        ]
        return np.concatenate(blocks)


def _spread(length: int, count: int, side: int) -> list[tuple[int, int]]:
    if length <= count * side:
        return [(0, length)]
    starts = np.linspace(0, length - side, count).astype(int)
    return [(int(start), int(start) + side) for start in starts]


def open_image(path: Path) -> ArrayLike:
    """Open an image file or a zarr array.

    Parameters
    ----------
    path
        A .tif or .tiff, a folder of a zarr array or OME-Zarr image, or anything that Pillow reads (.png, .jpg ...).

    Returns
    -------
    ArrayLike
        A numpy array, or a lazy zarr array.

    Raises
    ------
    ImageError
        The path does not exist or holds no image.
    """
    if not path.exists():
        raise ImageError(f"There is no file {path}: check the path.")
    try:
        if path.is_dir():
            return _open_zarr(path)
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            with _complete_tiff():
                return tifffile.imread(path)
        from PIL import Image

        with Image.open(path) as image:
            mode = {"LA": "L", "La": "L", "RGBa": "RGB"}.get(image.mode, image.mode)
            if mode in ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB"):
                mode = "RGB"
            return np.asarray(image if mode == image.mode else image.convert(mode))
    except ImageError:
        raise
    except Exception as error:
        first = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ImageError(
            f"{path} cannot be read as an image ({first}): is it complete, and a .tif, .png, .jpg or .zarr?"
        ) from error


@contextmanager
def _complete_tiff() -> Iterator[None]:
    """Refuse a TIFF of which pages are missing: tifffile only logs that, and returns what there is."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[assignment, method-assign]
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    for record in records:
        if any(sign in record.getMessage() for sign in ("invalid page offset", "failed to reshape")):
            raise ValueError("pages are missing")


def _open_zarr(path: Path) -> ArrayLike:
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node
    attributes: dict[str, Any] = dict(node.attrs)
    multiscales = attributes.get("ome", attributes).get("multiscales")
    if multiscales:
        return _member(node, str(multiscales[0]["datasets"][0]["path"]), path)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return _member(node, names[0], path)
    listed = ", ".join(names[:5]) or "none"
    raise ImageError(f"{path} is a zarr group and not one image: give the path of one of its arrays ({listed}).")


def _member(group: Any, name: str, path: Path) -> ArrayLike:
    import zarr

    member = group[name]
    if not isinstance(member, zarr.Array):
        raise ImageError(f"{path} says that its image is {name!r}, which is no array: check the store.")
    return member
