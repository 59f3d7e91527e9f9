"""Read Nikon ND2 files with nd2, frame by frame."""

from __future__ import annotations

import math
import operator
import weakref
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.names import known_letters
from napari_sam.images.lazy.blocks import whole_key
from napari_sam.images.source import ImageSource, checked

# The axes of a frame; those before them count frames.
IN_FRAME = ("C", "Y", "X", "S")


class Nd2Array:
    """The frames of a file, each read when it is sliced.

    Parameters
    ----------
    file
        The open file.
    loops
        Lengths of the axes that count frames.
    side
        Shape of a frame.
    """

    def __init__(self, file: Any, loops: tuple[int, ...], side: tuple[int, ...]) -> None:
        self._file, self._loops, self._side = file, loops, side
        self._lock = Lock()
        self.shape = (*loops, *side)
        self.chunks = (*(1 for _ in loops), *side)
        self.dtype = np.dtype(file.dtype)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part, by whole numbers and slices."""
        parts = whole_key(key, len(self.shape))
        count = len(self._loops)
        picked = [
            range(length)[part] if isinstance(part, slice) else [range(length)[operator.index(part)]]
            for part, length in zip(parts[:count], self._loops, strict=True)
        ]
        frames = np.arange(math.prod(self._loops)).reshape(self._loops)[np.ix_(*picked)] if count else np.zeros((), int)
        inside = tuple(parts[count:])
        blocks = [self._frame(int(number))[inside] for number in frames.ravel()]
        block = np.array(blocks, self.dtype).reshape(*frames.shape, *(blocks[0].shape if blocks else ()))
        return np.asarray(block[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts[:count])])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read everything."""
        return np.asarray(self[...], dtype)

    def _frame(self, number: int) -> NDArray[Any]:
        with self._lock:
            return np.asarray(self._file.read_frame(number)).reshape(self._side)


def open_nd2(path: Path) -> ImageSource:
    """Open an ND2 file.

    Raises
    ------
    ImageError
        It is damaged or cut off.
    """
    import nd2

    # Opened here, since the library does not close a file that it cannot read.
    handle = path.open("rb")
    try:
        file = nd2.ND2File(handle)
        sizes = {str(name): int(length) for name, length in file.sizes.items()}
    except Exception as error:  # The library raises many kinds for damaged files.
        handle.close()
        raise ImageError(f"{path} is damaged or cut off ({first_line(error)}): copy it again.") from error
    loops = {name: length for name, length in sizes.items() if name not in IN_FRAME}
    side = {name: length for name, length in sizes.items() if name in IN_FRAME}
    letters = known_letters("".join(name.lower() if name in "TZCYXS" else "q" for name in (*loops, *side)))
    if letters is None:
        raise ImageError(f"{path} has the axes {', '.join(sizes)}, which are no image: export it as OME-TIFF.")
    steps = _steps(file)
    names, colors = _channels(file) if "C" in side else ((), ())
    array = Nd2Array(file, tuple(loops.values()), tuple(side.values()))
    weakref.finalize(array, handle.close)
    opened = ImageSource(
        (array,),
        letters,
        spacing=tuple(steps.get(letter) or 1.0 for letter in letters) if steps else None,
        unit="micrometer" if steps else None,
        channel_names=names,
        colors=colors,
    )
    return checked(opened, path)


def _steps(file: Any) -> dict[str, float]:
    """Return the size of a voxel in micrometers; nothing where the file does not have it in a form that is known."""
    try:
        voxel = file.voxel_size()
        return {"x": float(voxel.x), "y": float(voxel.y), "z": float(voxel.z)}
    except Exception:  # Some programs leave parts of the metadata out.
        return {}


def _channels(file: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and colors of the channels, as far as the file has them."""
    try:
        channels = [each.channel for each in file.metadata.channels]
        colors = tuple("{:02X}{:02X}{:02X}".format(*channel.color[:3]) for channel in channels)
        return tuple(str(channel.name) for channel in channels), colors
    except Exception:  # Old files lack parts of it.
        return (), ()
