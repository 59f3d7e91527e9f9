"""Check paths before they are opened: reading a pipe, a socket or a device may never end."""

from __future__ import annotations

from pathlib import Path

from napari_sam.errors import ImageError
from napari_sam.files.paths import special_kind

# Files beside a raster that GDAL and tifffile read automatically: NAME.tif.aux.xml, or NAME.tfw.
APPENDED = (".aux.xml", ".ovr", ".msk", ".aux")
REPLACED = (".tfw", ".tifw", ".wld", ".jgw", ".pgw", ".j2w", ".prj", ".hdr", ".aux", ".rrd")


def existing(path: Path) -> bool:
    """Return whether a path names a regular file or a folder.

    Raises
    ------
    ImageError
        It names something else (a pipe, a socket, a device), or no path of this system.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:  # Too long a name, a loop of links, no permission, a null byte.
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{str(path)[:200]} cannot be opened ({reason}): check the path.") from error
    if special := special_kind(mode):
        raise ImageError(f"{path} is {special} and not a file: save the image to a file and open that.")
    return True


def check_sidecars(path: Path) -> None:
    """Refuse a raster beside which a pipe, socket or device has the name of one of its auxiliary files.

    Raises
    ------
    ImageError
        There is such a one.
    """
    for suffix in APPENDED:
        existing(path.with_name(f"{path.name}{suffix}"))
    for suffix in REPLACED:
        existing(path.with_suffix(suffix))
