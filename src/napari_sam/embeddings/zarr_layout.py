"""ZarrLayout: embeddings in a zarr 3 group, in a folder or at a URL.

Each model has one array of half-precision numbers with a row for every possible digest. Unwritten rows take no space. A
row is one chunk and so one file, which zarr writes under another name and renames: it is complete or missing. No file
depends on the time or the process that wrote it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import OutputError, first_line

if TYPE_CHECKING:
    import zarr

NOTE_KEY = "napari-sam"
NOTE: dict[str, Any] = {"kind": "embeddings", "version": 1}
# Of the 40 digits of a digest, 15 are the row's number. The others precede the values, one small number each. They tell
# two digests of one row apart, and keep rows from being all fill values, which zarr would not write.
ROW_DIGITS = 15
CHECK_DIGITS = 25
ARRAY = re.compile(r"[0-9a-f]{16}-\d+")
CHUNK = re.compile(r"\d+\.0")
# A file that zarr has not finished writing.
PARTIAL = re.compile(r"(zarr|\d+)\.[0-9a-f]{32}\.partial")
CLAIMS = "claims"
CLAIM = re.compile(r"[0-9a-f]{40}")


class ZarrLayout:
    """The arrays of all models in one group.

    Parameters
    ----------
    path
        A folder, or a URL of any fsspec file system; it need not exist.
    read_only
        Whether arrays are opened for reading only.
    """

    def __init__(self, path: Path | str, read_only: bool) -> None:
        self.path = path
        self._mode: Any = "r" if read_only else "r+"
        self._opened: dict[str, zarr.Array[Any]] = {}

    def check(self) -> None:
        """Refuse a folder or URL with anything but embeddings of this version.

        Raises
        ------
        OutputError
            There is something else, or it cannot be reached.
        """
        try:
            note = _note_in(self.path) if isinstance(self.path, Path) else _note_at(self.path)
        except Exception as error:
            raise OutputError(
                f"The embeddings in {self.path} cannot be opened ({reason(error)}): correct that, or choose "
                "another folder."
            ) from error
        if note is None or note == NOTE:
            return
        if isinstance(note, dict) and note.get("kind") == NOTE["kind"]:
            raise OutputError(
                f"The embeddings in {self.path} are of version {note.get('version')} and this napari-sam reads version "
                f"{NOTE['version']}: delete them, or choose another folder."
            )
        raise OutputError(f"{self.path} contains something else: choose an empty or a new folder for embeddings.")

    def holding(self, digest: str, predictor: str) -> Iterator[str]:
        """Return the arrays of a model with a row; several if its embeddings have several lengths."""
        return (name for name in self._names(predictor) if self._holds(name, digest))

    def read(self, name: str, digest: str) -> NDArray[np.float16] | None:
        """Return the values of a row, shape (n,), or None if it is damaged or of another digest."""
        try:
            row = np.asarray(self._array(name)[_row(digest)])
        except Exception:  # zarr and its codecs raise different exceptions for damaged chunks.
            return None
        return row[CHECK_DIGITS:] if np.array_equal(row[:CHECK_DIGITS], _check_values(digest)) else None

    def write(self, digest: str, predictor: str, values: NDArray[np.float16]) -> str:
        """Write a row of n values, creating its array if needed; return the name of the array.

        Raises
        ------
        Exception
            Of the file system; or anything else, where metadata are damaged.
        """
        row = np.concatenate([_check_values(digest), values])
        name = f"{_prefix(predictor)}{len(row)}"
        if not self._is_made(name, predictor):
            self.check()
            _make(self.path, name, predictor)
        self._array(name)[_row(digest)] = row
        return name

    def file(self, name: str, digest: str) -> Path:
        """Return the file of a row in a folder."""
        return Path(self.path, name, _chunk(digest))

    def _names(self, predictor: str) -> list[str]:
        prefix = _prefix(predictor)
        if isinstance(self.path, Path):
            with contextlib.suppress(OSError):
                return sorted(name for name in os.listdir(self.path) if name.startswith(prefix))  # noqa: PTH208
            return []
        known = [name for name in self._opened if name.startswith(prefix)]
        with contextlib.suppress(Exception):
            if not known:  # Once, since listing a bucket is slow.
                import zarr

                group = zarr.open_group(self.path, mode="r")
                return sorted(name for name in group.array_keys() if name.startswith(prefix))
        return known

    def _holds(self, name: str, digest: str) -> bool:
        with contextlib.suppress(Exception):
            if isinstance(self.path, Path):
                # After a power failure a new file may be empty.
                return self.file(name, digest).stat().st_size > 0
            from zarr.core.sync import sync

            return bool(sync((self._array(name).store_path / _chunk(digest)).exists()))
        return False

    def _is_made(self, name: str, predictor: str) -> bool:
        if isinstance(self.path, Path):  # Checked each time: another process may have cleared it.
            return all((self.path / file).exists() for file in ("zarr.json", f"{name}/zarr.json"))
        return name in self._names(predictor)

    def _array(self, name: str) -> zarr.Array[Any]:
        if name not in self._opened:
            import zarr

            array = zarr.open_array(_inside(self.path, name), mode=self._mode, zarr_format=3)
            if array.dtype != np.float16 or array.shape != _shape(name):
                raise ValueError(f"{name} is another array")
            self._opened[name] = array
        return self._opened[name]


def _make(path: Path | str, name: str, predictor: str) -> None:
    """Create the group and an array. Another process that does so at the same time writes the same bytes."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.errors import ContainsArrayError, ContainsGroupError

    shape = _shape(name)
    with contextlib.suppress(ContainsGroupError):
        zarr.open_group(path, mode="a", zarr_format=3, attributes={NOTE_KEY: NOTE})
    with contextlib.suppress(ContainsArrayError):
        # As a store of its own: inside a group zarr creates hard links, which exFAT does not have.
        # Of the 459 KB of a tile of the compact model Zstandard leaves 135 (written in 3.2 ms, read in 1.1), LZ4 with
        # shuffled bits 192 (3.6, 1.4); as they are they take 2.2 and 0.8 ms.
        zarr.create_array(
            _inside(path, name),
            shape=shape,
            chunks=(1, shape[1]),
            dtype=np.float16,
            fill_value=np.nan,
            compressors=ZstdCodec(level=1, checksum=True),
            chunk_key_encoding={"name": "v2", "separator": "."},
            attributes={"predictor": predictor, "check_digits": CHECK_DIGITS},
        )


def _inside(path: Path | str, name: str) -> Path | str:
    return path / name if isinstance(path, Path) else f"{path.rstrip('/')}/{name}"


def predictor_of(folder: Path) -> str:
    """Return the predictor of the array in a folder; the folder's name if it is not stated."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return str(json.loads((folder / "zarr.json").read_bytes())["attributes"]["predictor"])
    return folder.name


def reason(error: Exception) -> str:
    """Return the reason of an error in a few words, for a message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


def _note_in(folder: Path) -> Any:
    """Return the note of a folder, or None for an empty or missing one."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
        if "zarr.json" in names:
            found = json.loads((folder / "zarr.json").read_bytes())
            return found.get("attributes", {}).get(NOTE_KEY, {}) if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    # Leftovers of a process that was killed while it created or cleared a group.
    ours = (name == CLAIMS or PARTIAL.fullmatch(name) or ARRAY.fullmatch(name) for name in names)
    return None if all(ours) else {}


def _note_at(url: str) -> Any:
    import zarr

    try:
        return zarr.open_group(url, mode="r").attrs.asdict().get(NOTE_KEY, {})
    except (FileNotFoundError, zarr.errors.GroupNotFoundError):
        return None
    except zarr.errors.ContainsArrayError:
        return {}


def _prefix(predictor: str) -> str:
    return hashlib.blake2b(predictor.encode(), digest_size=8).hexdigest() + "-"


def _shape(name: str) -> tuple[int, int]:
    return 16**ROW_DIGITS, int(name.partition("-")[2])


def _row(digest: str) -> int:
    return int(digest[:ROW_DIGITS], 16)


def _chunk(digest: str) -> str:
    return f"{_row(digest)}.0"


def _check_values(digest: str) -> NDArray[np.float16]:
    return np.array([int(digit, 16) for digit in digest[ROW_DIGITS:]], np.float16)
