"""Explain why a folder is not an image, and what to give instead."""

from __future__ import annotations

import itertools
from pathlib import Path

from napari_sam.images.files.unsupported_formats import DICOM, N5, known_format

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
N5_FILE = "attributes.json"
MAX_ENTRIES = 2000
PICTURES = {
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    ".png": "PNG",
    **dict.fromkeys((".jpg", ".jpeg"), "JPEG"),
    ".bmp": "BMP",
}


def is_zarr_folder(path: Path) -> bool:
    """Return whether a folder holds the metadata of a zarr array or group."""
    return any((path / name).exists() for name in ZARR_FILES)


def is_n5_folder(path: Path) -> bool:
    """Return whether a folder is an N5 store, or a group or an array in one."""
    is_store = (path / N5_FILE).is_file() or (path.suffix.lower() == ".n5" and path.is_dir())
    return is_store and not is_zarr_folder(path)


def explain_folder(path: Path) -> str:
    """Return the error message for a folder that is not a zarr."""
    entries = sorted(itertools.islice(path.iterdir(), MAX_ENTRIES))
    entries = [entry for entry in entries if entry.name not in (".DS_Store", "Thumbs.db", "desktop.ini")]
    if not entries:
        return f"{path} cannot be read as an image, since it is an empty folder: give an image file or a zarr."
    stores = [entry for entry in entries if entry.is_dir() and is_zarr_folder(entry)]
    if len(stores) == 1:
        return f"{path} cannot be read as an image, since it is a folder around a zarr: give {stores[0]}."
    if stores:
        return (
            f"{path} cannot be read as an image, since it is a folder of {len(stores)} zarrs: give the path of one of "
            f"them, such as {stores[0]}."
        )
    if is_n5_folder(path):
        return f"{path} cannot be read as an image, since it is {N5[0]}: {N5[1]}."
    files = [entry for entry in entries if entry.is_file()]
    if any(entry.name.upper() == "DICOMDIR" or known_format(entry) is DICOM for entry in files[:20]):
        return f"{path} cannot be read as an image, since it is a folder of DICOM files: {DICOM[1]}."
    return _explain_files(path, entries, files)


def _explain_files(path: Path, entries: list[Path], files: list[Path]) -> str:
    kinds = [PICTURES[entry.suffix.lower()] for entry in files if entry.suffix.lower() in PICTURES]
    if kinds:
        kind = max(set(kinds), key=kinds.count)
        first = next(entry for entry in files if PICTURES.get(entry.suffix.lower()) == kind)
        if len(kinds) == 1:
            return f"{path} cannot be read as an image, since it is a folder with one {kind} file: give {first}."
        return (
            f"{path} cannot be read as an image, since it is a folder of {len(kinds)} {kind} files: give one of them, "
            f"such as {first}, or save them as one TIFF stack (in Fiji: File > Import > Image Sequence, then Save As)."
        )
    inner = ", ".join(entry.name for entry in entries[:3])
    return (
        f"{path} cannot be read as an image, since it is a folder and not a zarr, with {inner}"
        f"{' and more' if len(entries) > 3 else ''}: give the path of an image file or of a zarr."
    )
