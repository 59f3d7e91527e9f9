"""Pixels of DICOM frames, read one by one when they are sliced."""

from __future__ import annotations

import operator
from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.dicom.headers import Frame
from napari_sam.images.lazy.blocks import whole_key

KEPT_BYTES = 2**26
# Decoders of a library that is always there, for what pydicom has no decoder of its own.
DECODERS = {
    "1.2.840.10008.1.2.4.50": "jpeg_decode",
    "1.2.840.10008.1.2.4.51": "jpeg_decode",
    "1.2.840.10008.1.2.4.57": "ljpeg_decode",
    "1.2.840.10008.1.2.4.70": "ljpeg_decode",
    "1.2.840.10008.1.2.4.80": "jpegls_decode",
    "1.2.840.10008.1.2.4.81": "jpegls_decode",
    "1.2.840.10008.1.2.4.90": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.91": "jpeg2k_decode",
    "1.2.840.10008.1.2.4.201": "htj2k_decode",
    "1.2.840.10008.1.2.4.202": "htj2k_decode",
    "1.2.840.10008.1.2.4.203": "htj2k_decode",
}


class FrameArray:
    """Frames as an array of planes, each decoded when it is sliced.

    Parameters
    ----------
    frames
        One row for each time, with a frame for each plane.
    side
        Shape of a frame, with its color samples as last axis.
    dtype
        Of the stored numbers.
    """

    def __init__(self, frames: tuple[tuple[Frame, ...], ...], side: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._frames, self._side = frames, side
        self.shape = (len(frames), len(frames[0]), *side)
        self.dtype = dtype
        self.chunks = (1, 1, *side)
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part, by whole numbers and slices."""
        time, plane, *inside = whole_key(key, len(self.shape))
        times, planes = (
            range(length)[part] if isinstance(part, slice) else [range(length)[operator.index(part)]]
            for part, length in zip((time, plane), self.shape[:2], strict=True)
        )
        parts = [[self._frame(t, z)[tuple(inside)] for z in planes] for t in times]
        block = np.array(parts, self.dtype) if parts and parts[0] else np.zeros((len(times), len(planes), *self._side))
        return np.asarray(block[tuple(slice(None) if isinstance(part, slice) else 0 for part in (time, plane))])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _frame(self, time: int, plane: int) -> NDArray[Any]:
        """Return the pixels of a frame; the last ones are kept, since tiles of one plane follow one another."""
        with self._lock:
            if (time, plane) in self._kept:
                self._kept.move_to_end((time, plane))
                return self._kept[time, plane]
        pixels = decoded(self._frames[time][plane], self._side).astype(self.dtype, copy=False)
        with self._lock:
            self._kept[time, plane] = pixels
            while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return pixels


def decoded(frame: Frame, side: tuple[int, ...]) -> NDArray[Any]:
    """Read the pixels of one frame, colors as RGB.

    Raises
    ------
    ImageError
        They are cut off, damaged, or compressed in a way that needs another library.
    """
    from pydicom.pixels import pixel_array

    try:
        pixels = np.asarray(pixel_array(frame.path, index=frame.number))
    except RuntimeError as error:
        other = _decoded_otherwise(frame)
        if other is None:
            raise ImageError(
                f"The pixels of {frame.path} are compressed in a way that needs another library "
                f"({first_line(error)}): pip install pylibjpeg[all]"
            ) from error
        pixels = other
    except Exception as error:  # pydicom and decoders raise many kinds.
        raise ImageError(f"{frame.path} is damaged or cut off ({first_line(error)}): copy it again.") from error
    if pixels.shape != side:
        raise ImageError(f"{frame.path} has {pixels.shape} pixels and its header says {side}: copy it again.")
    return pixels


def _decoded_otherwise(frame: Frame) -> NDArray[Any] | None:
    """Decode a frame with imagecodecs; None where that does not know the compression either."""
    import imagecodecs
    import pydicom
    from pydicom.encaps import get_frame

    dataset = pydicom.dcmread(frame.path)
    decode = getattr(imagecodecs, DECODERS.get(str(dataset.file_meta.TransferSyntaxUID), ""), None)
    if decode is None:
        return None
    try:
        data = get_frame(dataset.PixelData, frame.number, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
        pixels = np.asarray(decode(data))
    except Exception as error:  # Codecs raise their own kinds.
        raise ImageError(f"{frame.path} is damaged or cut off ({first_line(error)}): copy it again.") from error
    unsigned = pixels.dtype.kind == "u" and int(dataset.get("PixelRepresentation", 0)) == 1
    return _signed(pixels, int(dataset.BitsStored)) if unsigned else pixels


def _signed(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Return signed numbers that a codec has decoded as unsigned ones of so many bits."""
    wide = pixels.astype(np.int32)
    half = 1 << (bits - 1)
    return ((wide & ((1 << bits) - 1)) ^ half) - half
