"""ProposalStore: the proposals of a sweep on disk, tile by tile, so that a run can be stopped, resumed and shared."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.tiles import Tile
from napari_sam.errors import OutputError, first_line
from napari_sam.everything.proposals import Proposals
from napari_sam.files.process_locks import remove_stale_locks, work_lock

CLAIMS = "claims"
SETTINGS = "settings.json"
CLAIM = re.compile(r"-?\d+_\d+_\d+|settings\.json")
UNFINISHED = re.compile(r"\.(-?\d+_\d+_\d+|settings\.json)(\.npz)?\.\d+")
WAIT_SECONDS = 0.1
# A tile of 512 pixels has a few thousand seeds at most; a file that claims more is damaged.
MAX_PROPOSALS = 10**6
# Longest side of a box: an area of larger ones would not fit a number of 64 bits.
MOST_PIXELS = 2**31
# Counts up whenever the same pixels lead to other proposals, so that those of earlier versions are not used.
STORE_VERSION = 3


class ProposalStore:
    """The proposals of one sweep with one set of settings.

    Parameters
    ----------
    folder
        Folder of all sweeps over one image. Each set of settings has a folder in it.
    settings
        All that the proposals depend on: image, plane, region, model and rendering, as plain data.

    Attributes
    ----------
    path
        Folder of the sweep.
    settings
        As given.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        text = json.dumps(settings, sort_keys=True)
        self.path = folder / blake2b(text.encode(), digest_size=8).hexdigest()
        self.settings = dict(settings)

    @property
    def levels(self) -> list[int] | None:
        """The levels of the sweep, or None for a new one."""
        try:
            levels = json.loads((self.path / SETTINGS).read_text("utf-8"))["levels"]
            return [int(level) for level in levels]
        except (OSError, ValueError, TypeError, LookupError):
            return None

    def begin(self, levels: Sequence[int]) -> None:
        """Record the levels of the sweep; those of a sweep that has begun stay.

        Raises
        ------
        OutputError
            The folder cannot be written.
        """
        if self.levels is None:
            text = json.dumps({**self.settings, "levels": list(levels)}, sort_keys=True, indent=1)
            # A process that holds the lock writes the same levels: they follow from the settings.
            with work_lock(self.path / CLAIMS / SETTINGS) as is_mine:
                if is_mine:
                    self._write(self.path / SETTINGS, lambda file: file.write_text(text, "utf-8"))

    def get(self, tile: Tile) -> Proposals | None:
        """Return the proposals of a tile; None if it was not done yet, or its file is damaged."""
        return load_proposals(self._file(tile))

    def put(self, tile: Tile, proposals: Proposals) -> None:
        """Write the proposals of a tile, whole or not at all.

        Raises
        ------
        OutputError
            The disk is full, or refuses.
        """
        self._write(self._file(tile), lambda file: save_proposals(file, proposals))

    @contextlib.contextmanager
    def claimed(self, tile: Tile) -> Iterator[bool]:
        """Lock a tile for this process; yields False if another one works on it."""
        with work_lock(self.path / CLAIMS / _name(tile)) as is_mine:
            yield is_mine

    def wait_for_others(self) -> None:
        """Wait a moment for another process to finish its tile."""
        time.sleep(WAIT_SECONDS)

    def tidy(self) -> None:
        """Delete the locks and unfinished files of killed processes."""
        with contextlib.suppress(OSError):
            self._remove_unfinished()
        remove_stale_locks(self.path / CLAIMS, CLAIM)

    def _remove_unfinished(self) -> None:
        for file in list(self.path.iterdir()):
            if unfinished := UNFINISHED.fullmatch(file.name):
                with work_lock(self.path / CLAIMS / unfinished[1]) as is_mine:
                    if is_mine:  # Otherwise a process may be writing it.
                        file.unlink(missing_ok=True)

    def _file(self, tile: Tile) -> Path:
        return self.path / f"{_name(tile)}.npz"

    def _write(self, file: Path, save: Any) -> None:
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        with self._writing():
            # Not before there is something to write, so that a refused search leaves no folder.
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                save(unfinished)
                unfinished.replace(file)
            finally:
                with contextlib.suppress(OSError):
                    unfinished.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(
                f"Proposals cannot be written to {self.path} ({first_line(error)}): make room, check its permissions, "
                "or choose another place for the output."
            ) from error


def load_proposals(path: Path) -> Proposals | None:
    """Return the proposals of a file; None if it is missing or damaged."""
    try:
        # Opened here, since numpy leaves a file open that is no archive.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return _checked({name: file[name] for name in file.files})
    except Exception:  # A damaged file is any error of zipfile, zlib, numpy and its parser of headers.
        return None


def save_proposals(path: Path, proposals: Proposals) -> None:
    """Write proposals to a file, which may be half written after a crash: name it otherwise until it is whole."""
    with path.open("wb") as out:
        arrays: dict[str, Any] = proposals.arrays
        np.savez_compressed(out, **arrays)


def _name(tile: Tile) -> str:
    return f"{tile.level}_{tile.row}_{tile.col}"


def _checked(arrays: dict[str, Any]) -> Proposals:
    """Return stored arrays as proposals.

    Raises
    ------
    ValueError, TypeError
        They do not fit together.
    """
    found = Proposals(**arrays)
    empty = Proposals.none()
    count = len(found.scores)
    if count > MAX_PROPOSALS or any(
        array.dtype != getattr(empty, name).dtype or array.ndim != getattr(empty, name).ndim
        for name, array in found.arrays.items()
    ):
        raise ValueError("they are of another type")
    if any(len(array) != count for name, array in found.arrays.items() if name != "bits"):
        raise ValueError("their numbers differ")
    if found.boxes.shape[1] != 4 or found.points.shape[1] != 2:
        raise ValueError("they have other columns")
    if not all(np.isfinite(array).all() for array in (found.scores, found.stability, found.points, found.descriptors)):
        raise ValueError("some are no numbers")
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    if (sides < 1).any() or (sides > MOST_PIXELS).any():
        raise ValueError("the boxes are none")
    sizes = -(-sides.prod(axis=1) // 8)
    if not np.array_equal(np.cumsum(sizes), found.ends) or sizes.sum() != len(found.bits):
        raise ValueError("the masks do not fit their boxes")
    if count and not np.array_equal(np.add.reduceat(_ones(found.bits), found.ends - sizes), found.areas):
        raise ValueError("the areas are not those of the masks")
    return found


def _ones(bits: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return how many bits of each byte are 1."""
    # By a table, since numpy counts them from version 2 on.
    table = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.int64)
    return np.asarray(table[bits], np.int64)
