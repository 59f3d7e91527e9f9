"""Outputs: checked before any work, written atomically, and replaced only on request."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_sam.errors import OutputError
from napari_sam.files.locks import SharedPlace
from napari_sam.files.paths import check_name, exists
from napari_sam.files.publishing import url_of
from napari_sam.files.temporary import move_all, remove_leftovers, temporary_folder, unfinished

ZARR_FILES = ("zarr.json", ".zarray", ".zgroup")
# Files of zarr (metadata, chunks by their keys, and their partial writes), and those that file managers create.
_IN_ZARR = re.compile(
    r"zarr\.json|\.z(array|group|attrs|metadata)|c(\.\d+)*|\d+(\.\d+)*|.*\.[0-9a-f]{8}([0-9a-f]{24})?\.partial"
    r"|\.DS_Store|Thumbs\.db|desktop\.ini|\._.*"
)
# Files of the Cell Tracking Challenge.
_IN_RESULTS = re.compile(r"mask\d+\.tif|res_track\.txt|\.DS_Store|Thumbs\.db|desktop\.ini|\._.*")
MOVE_SECONDS = 60.0


def check_output(
    path: Path, suffixes: tuple[str, ...] = (), overwrite: bool = False, *, can_append: bool = False
) -> None:
    """Refuse an output that cannot be written, before any work is done. Nothing is created.

    Leftovers of killed runs in its folder are removed.

    Parameters
    ----------
    path
        File or folder of the output.
    suffixes
        Allowed endings; any by default.
    overwrite
        Whether an existing output is replaced.
    can_append
        Whether the message for an existing output mentions `--append`.

    Raises
    ------
    OutputError
        It is a URL, a pipe or a device, the suffix is unknown, the path exists and may not be overwritten, or its
        folder (the nearest that exists) cannot be written to.
    """
    check_name(path)
    if url_of(path) is not None:
        raise OutputError(f"{path} is a URL, and outputs are written to disk only: give a path.")
    if suffixes and path.suffix.lower() not in suffixes:
        raise OutputError(f"{path.name} has an unknown ending: use one of {', '.join(suffixes)}.")
    remove_leftovers(path.parent)
    if exists(path) and not overwrite:
        append = ", pass --append to add to it" if can_append else ""
        replace = " to replace it" if can_append else ""
        raise OutputError(f"{path} exists already: choose another name{append}, or pass --overwrite{replace}.")
    _check_replaceable(path)
    check_writable(next(parent for parent in path.absolute().parents if parent.exists()), "choose another one")


def check_writable(folder: Path, advice: str) -> None:
    """Refuse a folder in which no file can be created.

    Parameters
    ----------
    folder
        An existing folder.
    advice
        The end of the message.

    Raises
    ------
    OutputError
        No file can be created there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written to ({error.strerror}): {advice}.") from error


def _check_replaceable(path: Path) -> None:
    """Refuse to put a file in the place of a folder, or a zarr array in the place of anything but zarr labels."""
    if not path.is_dir():
        if path.exists() and not path.is_file():
            raise OutputError(f"{path} is a pipe or a device and is not replaced: choose another name.")
        return
    # Labels among those of an OME-Zarr image need no ending.
    is_named_so = path.suffix.lower() in (".zarr", ".geff") or path.parent.name == "labels"
    if path.name.lower().endswith("_res") and next(_foreign_files(path, _IN_RESULTS), None) is None:
        return
    is_zarr = is_named_so and any((path / name).exists() for name in ZARR_FILES)
    if not is_zarr:
        raise OutputError(f"{path} is a folder and not a zarr array, so it is not replaced: choose another name.")
    foreign = next(_foreign_files(path), None)
    if foreign is not None:
        raise OutputError(
            f"{path} holds {foreign}, which is not part of a zarr array, so it is not replaced: move that file away, "
            "or choose another name."
        )
    if _is_group_without_labels(path):
        raise OutputError(
            f"{path} is a zarr group with an image or several arrays and without labels, so it is not replaced: "
            "choose another name."
        )


def _foreign_files(folder: Path, own: re.Pattern[str] = _IN_ZARR) -> Iterator[Path]:
    for root, _, names in os.walk(folder):
        for name in names:
            if not own.fullmatch(name):
                yield Path(root, name).relative_to(folder)


def _is_group_without_labels(folder: Path) -> bool:
    attributes: Any = {}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if (folder / "zarr.json").exists():
            found = json.loads((folder / "zarr.json").read_bytes())
            if found.get("node_type") != "group":
                return False
            attributes = found.get("attributes", {})
            attributes = attributes.get("ome", attributes)
        elif (folder / ".zarray").exists():
            return False
        elif (folder / ".zattrs").exists():
            attributes = json.loads((folder / ".zattrs").read_bytes())
    return not isinstance(attributes, dict) or not {"image-label", "geff"} & set(attributes)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path, and move it to `path` if no error occurred.

    The temporary path has the ending of `path` and lies beside it. Files with a longer name, such as the journal
    TEMPORARY.journal, are renamed to PATH.journal at the same time.

    Raises
    ------
    OutputError
        It cannot be written or moved, or another program created `path` meanwhile; an older file stays unchanged.
    """
    _check_replaceable(path)
    existed = os.path.lexists(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as folder:
            temporary = unfinished(folder, path)
            yield temporary
            with SharedPlace.of(path.parent).exclusive(MOVE_SECONDS):
                if not existed and os.path.lexists(path):
                    raise OutputError(
                        f"{path} was created by another program meanwhile and is not replaced: choose another name, or "
                        "pass --overwrite."
                    )
                names = sorted(name for name in os.listdir(path.parent) if name.startswith(temporary.name))  # noqa: PTH208
                move_all(folder, [(name, path.name + name.removeprefix(temporary.name)) for name in names])
    except TimeoutError as error:
        raise OutputError(
            f"{path} cannot be written since another program has locked its folder: try again."
        ) from error
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}): is the disk full or the folder read-only?"
        ) from error
