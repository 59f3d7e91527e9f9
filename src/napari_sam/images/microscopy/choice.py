"""Choose one image of a file that holds several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sam.errors import ImageError

MAX_LISTED = 6


def chosen_image(path: Path, names: Sequence[str], wanted: str | None) -> int:
    """Return the number of the image of a name or number, or of the only one.

    Raises
    ------
    ImageError
        There are several and none is named, or there is no such one.
    """
    if wanted is None and len(names) == 1:
        return 0
    fitting = [number for number, name in enumerate(names) if wanted == name]
    if len(fitting) == 1:
        return fitting[0]
    if wanted is not None and wanted.isascii() and wanted.isdigit() and int(wanted) < len(names):
        return int(wanted)
    if not names:
        raise ImageError(f"{path} holds no image: export it again.")
    listed = ", ".join(f"{number} ({name})" if name else str(number) for number, name in enumerate(names[:MAX_LISTED]))
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    raise ImageError(f"{path} holds {len(names)} images, {listed}{more}: name one by its number, as in {path}:/0.")
