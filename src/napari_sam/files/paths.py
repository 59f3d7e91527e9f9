"""Paths given by the user: safe reading, and checks that no output replaces an input."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse
from urllib.request import url2pathname

import platformdirs

from napari_sam.errors import NapariSamError, OutputError

APPLICATION = "napari-sam"
MAX_TEXT_BYTES = 2**30
MAX_SHOWN = 160
MAX_NAME_BYTES = 255
SPECIAL_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# Files that mark a folder as one zarr or one journal.
FOLDER_METADATA = ("zarr.json", ".zgroup", ".zarray", ".zattrs", "journal.sqlite", "entries.jsonl")


def user_folder(kind: Literal["cache", "data"]) -> Path | None:
    """Return the platform's folder for an application's files, or None for a user without a home folder.

    Containers often run under a user number that has no name and no home.

    Parameters
    ----------
    kind
        "cache" for files that can be computed again, "data" for the user's work.
    """
    find = platformdirs.user_cache_dir if kind == "cache" else platformdirs.user_data_dir
    try:
        folder = Path(find(APPLICATION, appauthor=False))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # Before platformdirs 4.4 it begins with ~ then.


def exists(path: str | Path) -> bool:
    """Say whether there is a file, a folder or a link of this name.

    Unlike `Path.exists`, it never raises: not for a name that is too long, holds a null character, or is a link that
    leads nowhere or back to itself.
    """
    try:
        os.lstat(path)
    except (OSError, ValueError):
        return False
    return True


def shortened(path: str | Path) -> str:
    """Return a path as text for a message, with the middle of a very long one left out."""
    text = str(path)
    half = MAX_SHOWN // 2
    return text if len(text) <= MAX_SHOWN else f"{text[:half]}...{text[-half:]}"


def special_kind(mode: int) -> str | None:
    """Return the kind of a special file, "a pipe", "a socket" or "a device"; None for files and folders.

    Opening a named pipe waits until another program writes to it, and a device may never end.

    Parameters
    ----------
    mode
        `st_mode` of `os.stat`.
    """
    return next((name for matches, name in SPECIAL_KINDS if matches(mode)), None)


def check_input(path: str | Path, kind: str, error: type[NapariSamError]) -> None:
    """Refuse a path that cannot be read as a file or a folder. A missing one passes: opening it raises the error.

    Parameters
    ----------
    path
        File or folder.
    kind
        Name of the input in the message, such as "image".
    error
        Type of the exception to raise.

    Raises
    ------
    NapariSamError
        Its name is not possible, it is a link that leads back to itself, or it is a pipe, a device or a socket.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  A null character is refused here and not by `Path`.
    except ValueError as cause:
        raise error(f"The name of the {kind} holds a null character, which is not allowed: correct it.") from cause
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise error(
                f"The name of the {kind} {shortened(path)} is longer than this disk allows: check the path."
            ) from cause
        if cause.errno == errno.ELOOP:
            raise error(f"The {kind} {shortened(path)} is a link that leads back to itself: name the file.") from cause
        return
    if special := special_kind(mode):
        raise error(f"The {kind} {shortened(path)} is {special} and not a file: save it to disk and name that file.")


def read_text(path: Path, kind: str, error: type[NapariSamError], max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Parameters
    ----------
    path
        The file.
    kind
        Name of the input in messages, such as "prompt file".
    error
        Type of the exception to raise.
    max_bytes
        Largest size that is read.

    Raises
    ------
    NapariSamError
        It is missing, not a regular file, too large, cannot be read, or is not text in UTF-8.
    """
    check_input(path, kind, error)
    try:
        if path.is_dir():
            raise error(f"The {kind} {shortened(path)} is a folder and cannot be read as a file: name the file in it.")
        if path.stat().st_size > max_bytes:
            raise error(
                f"The {kind} {shortened(path)} is larger than {_size(max_bytes)}: divide it into several files."
            )
        raw = path.read_bytes()
    except OSError as cause:
        raise error(f"The {kind} {shortened(path)} cannot be read ({cause.strerror}): check the path.") from cause
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"The {kind} {shortened(path)} is no text in UTF-8: save it again as UTF-8.") from cause


def check_name(path: Path) -> None:
    """Refuse the name of an output that the file system does not allow, before any work is done.

    Parameters
    ----------
    path
        File or folder to be written.

    Raises
    ------
    OutputError
        The name, or the path, is too long, or holds a null character.
    """
    if "\0" in str(path):
        raise OutputError("The name of an output holds a null character, which is not allowed: correct it.")
    too_long = f"The name {shortened(path.name)} is longer than this disk allows: choose a shorter one."
    limit = MAX_NAME_BYTES
    for folder in path.absolute().parents:
        if exists(folder):
            limit = _longest_name(folder)
            break
    if any(len(os.fsencode(part)) > limit for part in path.parts):
        raise OutputError(too_long)
    try:
        os.lstat(path)
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:
            raise OutputError(too_long) from cause


def check_apart(
    inputs: Mapping[str, str | Path | None],
    outputs: Mapping[str, str | Path | None],
    extended: Iterable[str] = (),
) -> None:
    """Refuse outputs of a command that would replace an input or each other.

    Two names of one file count as equal: by links, by hard links, and by case where the disk ignores it. An output may
    neither lie inside a zarr image or a journal that is read, nor hold an input.

    Parameters
    ----------
    inputs
        For each input its name in messages, such as "image", and its path or URL. None and URLs are skipped.
    outputs
        For each output the option that names it, such as "--out", and its path or URL. None and URLs are skipped.
    extended
        Options whose output exists and is added to, not replaced: it may lie inside an input.

    Raises
    ------
    OutputError
        An output is an input, lies inside one or holds one, or two outputs are the same or lie in each other.
    """
    read = {kind: path for kind, given in inputs.items() if (path := local_path(given)) is not None}
    written = {option: path for option, given in outputs.items() if (path := local_path(given)) is not None}
    for option, out in written.items():
        for kind, path in read.items():
            _check_pair(out, option, path, kind, may_be_inside=option in extended)
    options = list(written.items())
    for number, (option, out) in enumerate(options):
        for other, path in options[:number]:
            if _is_same(out, path) or _is_inside(out, path) or _is_inside(path, out):
                raise OutputError(
                    f"{option} and {other} both write to {shortened(out)}: choose names that do not lie in each other."
                )


def local_path(given: str | Path | None) -> Path | None:
    """Return the local path that is given as a path or a file:// URL, or None."""
    text = "" if given is None else str(given)
    if text.startswith("file://"):
        text = url2pathname(urlparse(text).path)
    return None if not text or "://" in text or "\0" in text else Path(text)


def _check_pair(out: Path, option: str, path: Path, kind: str, *, may_be_inside: bool) -> None:
    if _is_same(out, path):
        raise OutputError(f"{shortened(out)} is the {kind} itself: choose another name for {option}.")
    root = _whole_of(path)
    if root is not None and not may_be_inside and (_is_same(out, root) or _is_inside(out, root)):
        raise OutputError(
            f"{shortened(out)} lies inside the {kind} {shortened(root)}: choose another place for {option}."
        )
    if _is_inside(path, out):
        raise OutputError(
            f"The {kind} {shortened(path)} lies inside {shortened(out)}: choose another name for {option}."
        )


def _is_same(a: Path, b: Path) -> bool:
    try:
        if os.path.samefile(a, b):  # noqa: PTH121  Neither needs to exist.
            return True
    except (OSError, ValueError):
        pass
    return _key(a) == _key(b)


def _is_inside(path: Path, folder: Path) -> bool:
    return any(_is_same(parent, folder) for parent in Path(os.path.realpath(path)).parents)


def _whole_of(path: Path) -> Path | None:
    """Return the outermost zarr or journal that a path is or lies in, or None."""
    found = None
    real = Path(os.path.realpath(path))
    for folder in (real, *real.parents):
        if any(exists(folder / name) for name in FOLDER_METADATA):
            found = folder
        elif folder != real:
            break
    return found


def _key(path: Path) -> str:
    real = os.path.realpath(path)
    return unicodedata.normalize("NFC", real).casefold() if _ignores_case(Path(real)) else real


def _ignores_case(path: Path) -> bool:
    """Say whether the disk of a path takes names in upper and in lower case for the same."""
    for folder in (path, *path.parents):
        if exists(folder) and folder.name.swapcase() != folder.name:
            try:
                return os.path.samefile(folder, folder.with_name(folder.name.swapcase()))  # noqa: PTH121
            except OSError:
                return False
    return False


def _longest_name(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):
        return MAX_NAME_BYTES


def _size(nbytes: int) -> str:
    return f"{nbytes // 2**30} GiB" if nbytes >= 2**30 else f"{nbytes // 2**20} MiB"
