"""ZarrLayout: how embeddings lie in a zarr 3 group, in a folder or at a URL.

For each model there is one array of half precision numbers with a row for every digest that there could be. Rows that
are not written cost nothing, and a row is one chunk, thus one file, which zarr writes beside its place and renames: it
is there whole or not at all. Nothing in any file depends on when or by whom it was written.
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
# Of the 40 digits of a digest, 15 are the row's number. The others stand before the values, one small number each, so
# that two digests that share a row are told apart, and a row is never all fill, which zarr would not write.
ROW_DIGITS = 15
CHECK_DIGITS = 25
ARRAY = re.compile(r"[0-9a-f]{16}-\d+")
CHUNK = re.compile(r"\d+\.0")
# A file that zarr is still writing, to be renamed in the end.
PARTIAL = re.compile(r"(zarr|\d+)\.[0-9a-f]{32}\.partial")
CLAIMS = "claims"
CLAIM = re.compile(r"[0-9a-f]{40}")


class ZarrLayout:
    """The arrays of all models in one group.

    Parameters
    ----------
    path
        A folder, or the URL of any fsspec file system; nothing needs to be there.
    read_only
        Whether arrays are opened for reading only.
    """

    def __init__(self, path: Path | str, read_only: bool) -> None:
        self.path = path
        self._mode: Any = "r" if read_only else "r+"
        self._opened: dict[str, zarr.Array[Any]] = {}

    def check(self) -> None:
        """Refuse a place that holds anything but embeddings of this version.

        Raises
        ------
        OutputError
            It does, or cannot be reached.
        """
        try:
            note = _note_in(self.path) if isinstance(self.path, Path) else _note_at(self.path)
        except Exception as error:
            raise OutputError(
                f"The embeddings in {self.path} cannot be opened ({reason(error)}): correct that, or name "
                "another place."
            ) from error
        if note is None or note == NOTE:
            return
        if isinstance(note, dict) and note.get("kind") == NOTE["kind"]:
            raise OutputError(
                f"The embeddings in {self.path} are of version {note.get('version')} and this napari-sam reads version "
                f"{NOTE['version']}: delete them, or name another place."
            )
        raise OutputError(f"{self.path} holds something else: name an empty or a new folder for embeddings.")

    def holding(self, digest: str, predictor: str) -> Iterator[str]:
        """Give the names of the model's arrays (one, unless its embeddings have several lengths) that hold a row."""
        return (name for name in self._names(predictor) if self._holds(name, digest))

    def read(self, name: str, digest: str) -> NDArray[np.float16] | None:
        """Return the values of a row, shape (n,), or None where it is damaged or another digest's."""
        try:
            row = np.asarray(self._array(name)[_row(digest)])
        except Exception:  # Whatever zarr and its codecs make of a damaged chunk.
            return None
        return row[CHECK_DIGITS:] if np.array_equal(row[:CHECK_DIGITS], _check_values(digest)) else None

    def write(self, digest: str, predictor: str, values: NDArray[np.float16]) -> str:
        """Write a row of n values, and what it needs where that is not there yet; return its array's name.

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
            if not known:  # Listing a bucket takes long: not each time.
                import zarr

                group = zarr.open_group(self.path, mode="r")
                return sorted(name for name in group.array_keys() if name.startswith(prefix))
        return known

    def _holds(self, name: str, digest: str) -> bool:
        with contextlib.suppress(Exception):
            if isinstance(self.path, Path):
                # A file that was new when the power failed may be empty.
                return self.file(name, digest).stat().st_size > 0
            from zarr.core.sync import sync

            return bool(sync((self._array(name).store_path / _chunk(digest)).exists()))
        return False

    def _is_made(self, name: str, predictor: str) -> bool:
        if isinstance(self.path, Path):  # Asked each time: another process may have cleared it.
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
    """Make the group and an array, unless another process makes them at the same moment: it writes the same bytes."""
    import zarr
    from zarr.codecs import ZstdCodec
    from zarr.errors import ContainsArrayError, ContainsGroupError

    shape = _shape(name)
    with contextlib.suppress(ContainsGroupError):
        zarr.open_group(path, mode="a", zarr_format=3, attributes={NOTE_KEY: NOTE})
    with contextlib.suppress(ContainsArrayError):
        # As a place of its own: inside a group zarr makes hard links, which disks for all systems (exFAT) do not have.
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
    """Return which predictor the array in a folder is for; the folder's name where it does not say."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        return str(json.loads((folder / "zarr.json").read_bytes())["attributes"]["predictor"])
    return folder.name


def reason(error: Exception) -> str:
    """Return in a few words why something failed, to be put into a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)


def _note_in(folder: Path) -> Any:
    """Return what a folder says of itself, or None where there is nothing yet."""
    try:
        names = os.listdir(folder)  # noqa: PTH208
        if "zarr.json" in names:
            found = json.loads((folder / "zarr.json").read_bytes())
            return found.get("attributes", {}).get(NOTE_KEY, {}) if isinstance(found, dict) else {}
    except FileNotFoundError:
        return None
    # All that a process that was killed leaves when it begins a group, or clears one.
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
