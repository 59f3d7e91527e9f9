"""Read boxes of planes from arrays of any kind.

Arrays are sliced first and converted to numpy afterwards, so a click reads the chunks under its tile and no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError, first_line
from napari_sam.images.arrays import values_of
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.projection import Projection, project

# A limit for single reads: without smaller levels, a large tile needs all level-0 pixels under it.
MAX_READ_BYTES = 8 * 2**30


@dataclass(frozen=True, slots=True, eq=False)
class PlaneReader:
    """Reads one box of a plane, or of several planes.

    Parameters
    ----------
    array
        Anything that can be sliced.
    plane
        The plane, in pixels of the array, channels not counted.
    box
        Whole pixels inside the plane.
    channel_axis
        Axis of the array that holds channels, or None.
    channels
        The channels to read, in this order.
    """

    array: Any
    plane: Plane
    box: Box
    channel_axis: int | None
    channels: tuple[int, ...]

    def read(self, spans: Mapping[int, range] | None = None) -> NDArray[Any]:
        """Read the box of the plane, or of the planes in the given range along each hidden axis.

        Returns
        -------
        numpy.ndarray
            Shape (rows, cols), or (planes, rows, cols) with `spans`, and the channels as last axis.

        Raises
        ------
        ImageError
            It cannot be read, or takes more than 8 GiB.
        """
        spans = spans or {}
        key: list[Any] = list(self.plane.slicer(self.box))
        for axis, span in spans.items():
            key[axis] = slice(span.start, span.stop)
        if self.channel_axis is not None:
            # A slice is what every kind of array can do; the channels are picked from the result.
            key.insert(self.channel_axis, slice(min(self.channels), max(self.channels) + 1))
        block = self._values(tuple(key))
        if self.channel_axis is not None:
            axis = sum(not isinstance(part, int) for part in key[: self.channel_axis])
            block = self._picked(np.moveaxis(block, axis, -1))
        if not spans:
            return self.plane.oriented(block)
        block = np.moveaxis(block, sorted(spans), range(len(spans)))
        block = block.reshape(-1, *block.shape[len(spans) :])
        return block if self.plane.axes[0] < self.plane.axes[1] else block.swapaxes(1, 2)

    def project(self, spans: Mapping[int, range], projection: Projection) -> NDArray[Any]:
        """Read the planes in the given range along each hidden axis, and combine them into one, part by part."""
        axis, span = max(spans.items(), key=lambda each: len(each[1]))
        middle = self.read() if "none" in projection.modes else None
        return project(lambda part: self.read({**spans, axis: part}), span, projection.modes, middle)

    def _picked(self, block: NDArray[Any]) -> NDArray[Any]:
        picked = [channel - min(self.channels) for channel in self.channels]
        return block if picked == list(range(block.shape[-1])) else block[..., picked]

    def _values(self, key: tuple[Any, ...]) -> NDArray[Any]:
        nbytes = math.prod(_length(part) for part in key) * dtype_of(self.array).itemsize
        if nbytes > MAX_READ_BYTES:
            raise _too_much(self.box, nbytes)
        try:
            return values_of(self.array[key])
        except MemoryError as error:
            raise _too_much(self.box, nbytes) from error
        except Exception as error:  # Stores, codecs and file systems each raise their own.
            raise ImageError(
                f"The pixels of {_edges(self.box)} cannot be read ({first_line(error)}): the file or store is damaged, "
                "incomplete or out of reach; repair it, or work elsewhere in the image."
            ) from error


def without_nodata(block: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    """Return pixels in which those without a value are NaN, in float32; unchanged if there are none."""
    if nodata is None or not math.isfinite(nodata):
        return block
    nothing = block == nodata
    return np.where(nothing, np.float32(np.nan), block.astype(np.float32)) if nothing.any() else block


def _length(part: Any) -> int:
    return max(int(part.stop) - int(part.start), 0) if isinstance(part, slice) else 1


def _too_much(box: Box, nbytes: int) -> ImageError:
    return ImageError(
        f"The pixels of {_edges(box)} take {nbytes / 2**30:.1f} GiB and do not fit into memory at once: save the image "
        "with smaller levels, as an OME-Zarr or TIFF pyramid, or give smaller prompts."
    )


def _edges(box: Box) -> str:
    return f"rows {box.top:g} to {box.bottom:g}, columns {box.left:g} to {box.right:g}"
