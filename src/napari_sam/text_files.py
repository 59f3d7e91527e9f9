"""Read small text files: configurations, manifests. Pipes, devices and binary files are refused in a sentence."""

from __future__ import annotations

from pathlib import Path

from napari_sam.core.arguments import local_path
from napari_sam.errors import NapariSamError

MAX_BYTES = 64 * 2**20


def read_text(path: Path | str, what: str, error: type[NapariSamError]) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark.

    Parameters
    ----------
    path
        A file; a pipe would wait for ever.
    what
        The start of the message, such as "The manifest".
    error
        Class of the error.

    Raises
    ------
    NapariSamError
        It is missing, no regular file, larger than 64 MB, not readable, or not UTF-8.
    """
    file = local_path(path, what, error)
    try:
        if file.is_dir():
            raise error(f"{what} {file} is a folder: give the file in it.")
        if file.exists() and not file.is_file():
            raise error(f"{what} {file} is a pipe or device: give a file.")
        with file.open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
    except OSError as cause:
        raise error(f"{what} {file} cannot be read ({cause.strerror}): check the path.") from cause
    if len(content) > MAX_BYTES:
        raise error(f"{what} {file} has more than {MAX_BYTES // 2**20} MB: it is something else, check the path.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{what} {file} is no text in UTF-8: save it again in that encoding.") from cause
