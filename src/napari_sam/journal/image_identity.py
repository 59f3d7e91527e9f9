"""Image identity: whether a journal is of an image, decided by its pixels and not by its name.

A journal's first line holds `pixels`, a digest of the image's shape, type and pixels, and `place` and `inode`, its path
or URL and the file system's number of it. An image that was renamed or moved is still the same one; a file that was
replaced by another one is not. Of two files with the same pixels, the journal is of the one that it names, as long as
that is there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import dtype_of

if TYPE_CHECKING:
    from napari_sam.images.opening import ArrayLike

# Images of up to so many bytes are read whole, larger ones in blocks.
MAX_BYTES = 2**24
BLOCK_SIDE = 128
# Axes up to this length can be colors or channels, all of which are read.
MAX_CHANNELS = 4


def pixel_digest(array: ArrayLike) -> str:
    """Return a digest of the shape, type and pixels of an image.

    Parameters
    ----------
    array
        The finest level. Up to 16 MB are read whole; of larger ones blocks of 128 pixels at the begin, the middle and
        the end of the longest three axes, at most 27.

    Returns
    -------
    str
        32 hexadecimal digits; the same for the same pixels in memory and on disk.
    """
    shape, dtype = tuple(int(length) for length in array.shape), dtype_of(array).newbyteorder("=")
    digest = hashlib.blake2b(f"{shape} {dtype.str[1:]}".encode(), digest_size=16)
    whole = math.prod(shape) * dtype.itemsize <= MAX_BYTES
    for key in [(slice(None),) * len(shape)] if whole else spread_blocks(shape, _sides(shape)):
        try:
            block = np.ascontiguousarray(np.asarray(array[key]), dtype)
            digest.update(block.tobytes())
        except Exception:  # Damaged parts, of which reading says so where they matter.
            digest.update(b"unreadable")
    return digest.hexdigest()


def place_of(source: str | Path | None) -> str | None:
    """Return the URL or absolute path of an image, or None for an array."""
    text = None if source is None else str(source)
    return text if text is None or "://" in text else str(Path(text).resolve())


def inode_of(place: str | None) -> int | None:
    """Return the file system's number of a file or folder, which stays when it is renamed; None where it is not."""
    if place is None or "://" in place:
        return None
    try:
        return Path(place).stat().st_ino
    except (OSError, ValueError):
        return None


def is_of_another(header: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Return whether a journal is certainly of another image.

    Parameters
    ----------
    header
        The first line of the journal.
    about
        Description that a new journal of the image would store.
    """
    if any(_differ(header, about, key) for key in ("shape", "dtype", "pixels")):
        return True
    # Journals of earlier versions hold a digest of pixels only for arrays.
    is_old = "pixels" not in header and header.get("image") is None and about.get("image") is None
    return is_old and _differ(header, about, "digest")


def check_image(name: str, header: Mapping[str, Any], about: Mapping[str, Any], shape: tuple[int, ...] | None) -> None:
    """Refuse a journal that is of another image, or of labels of another shape.

    Parameters
    ----------
    name
        The journal, for messages.
    header, about
        As in `is_of_another`.
    shape
        Shape of the labels, or None.

    Raises
    ------
    LabelsError
        The journal is of another image, or of other labels.
    """
    said = header.get("shape")
    if shape is not None and said is not None and said != list(shape):
        listed = tuple(said) if isinstance(said, list) else said
        raise LabelsError(
            f"The journal {name} is of labels of shape {listed} and these have {shape}: give it the labels that it is "
            "of, or name another folder."
        )
    if is_of_another(header, about):
        image = f" ({header['image']})" if header.get("image") else ""
        raise LabelsError(
            f"The journal {name} is of another image{image}, or that image's pixels have changed since: open it with "
            "the image that it is of, or name another folder for this one."
        )


def belongs_to(header: Mapping[str, Any], about: Mapping[str, Any]) -> bool:
    """Return whether a journal may be continued for an image without asking; parameters as in `is_of_another`."""
    if is_of_another(header, about):
        return False
    if "pixels" not in header or "pixels" not in about:
        return header.get("digest") == about.get("digest")
    recorded, place = header.get("place"), about.get("place")
    if not isinstance(recorded, str) or not isinstance(place, str) or recorded == place:
        return True
    if "://" in recorded:
        return False
    # The file was moved; or renamed, and another one has its old name.
    return inode_of(recorded) is None or (about.get("inode") is not None and header.get("inode") == about["inode"])


def _differ(header: Mapping[str, Any], about: Mapping[str, Any], key: str) -> bool:
    one, other = header.get(key), about.get(key)
    if key == "dtype" and isinstance(one, str) and isinstance(other, str):
        one, other = one.lstrip("<>=|"), other.lstrip("<>=|")
    return one is not None and other is not None and one != other


def spread_blocks(shape: Sequence[int], sides: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield blocks spread over an array: at the begin, the middle and the end of its three longest axes.

    Parameters
    ----------
    shape
        Of the array.
    sides
        Length of a block along each axis; along all but the three longest axes it is in the middle.
    """
    parts = []
    for axis, (length, side) in enumerate(zip(shape, sides, strict=True)):
        last = length - side
        starts = {0, last // 2, last} if axis in _longest(shape) else {last // 2}
        parts.append([slice(start, start + side) for start in sorted(starts)])
    yield from product(*parts)


def _longest(shape: Sequence[int]) -> list[int]:
    return sorted(range(len(shape)), key=lambda axis: shape[axis])[-3:]


def _sides(shape: Sequence[int]) -> list[int]:
    """Return the sides of the blocks: squares along the two longest axes, with all colors or channels."""
    square = _longest(shape)[-2:]
    return [
        length if length <= MAX_CHANNELS else min(BLOCK_SIDE if axis in square else 1, length)
        for axis, length in enumerate(shape)
    ]
