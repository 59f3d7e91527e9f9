"""Read Leica LIF files with liffile, plane by plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ImageError, first_line
from napari_sam.images.axes.names import known_letters
from napari_sam.images.microscopy.choice import chosen_image
from napari_sam.images.source import ImageSource, checked


def open_lif(path: Path, wanted: str | None = None) -> ImageSource:
    """Open an image of a LIF file.

    Parameters
    ----------
    path
        The file.
    wanted
        Name or number of the image, where there are several.

    Raises
    ------
    ImageError
        It is damaged or cut off, or holds several images.
    """
    import liffile

    try:
        # Pixels that are mapped into memory stay when the file is closed.
        with liffile.LifFile(path) as file:
            images = list(file.images)
            image: Any = images[chosen_image(path, [str(each.name) for each in images], wanted)]
            shape, dims = tuple(int(length) for length in image.shape), [str(name).lower() for name in image.dims]
            array = image.asarray(mode="r", out="memmap")
            positions = {str(name).lower(): np.asarray(values) for name, values in image.coords.items()}
    except ImageError:
        raise
    except Exception as error:  # The library raises many kinds for damaged files.
        raise ImageError(f"{path} is damaged or cut off ({first_line(error)}): copy it again.") from error
    letters = known_letters("".join(name if name in "tczyxs" else "q" for name in dims))
    if letters is None:
        raise ImageError(f"{path} has the axes {', '.join(dims)}, which are no image: export it as OME-TIFF.")
    steps = {letter: _step(positions.get(name)) for letter, name in zip(letters, dims, strict=True)}
    is_measured = all(steps.get(letter) for letter in "yx")
    # The file counts in meters and seconds.
    scale = {letter: abs(step) * (1e6 if letter in "zyx" else 1.0) for letter, step in steps.items() if step}
    opened = ImageSource(
        (array.reshape(shape),),
        letters,
        spacing=tuple(scale.get(letter, 1.0) for letter in letters) if is_measured else None,
        unit="micrometer" if is_measured else None,
        time_unit="second" if is_measured and "t" in scale else None,
    )
    return checked(opened, path)


def _step(positions: Any) -> float | None:
    """Return the distance of the positions along an axis, or None."""
    if positions is None or len(positions) < 2:
        return None
    found = float(np.asarray(positions, float)[-1] - np.asarray(positions, float)[0]) / (len(positions) - 1)
    return found if np.isfinite(found) and found else None
