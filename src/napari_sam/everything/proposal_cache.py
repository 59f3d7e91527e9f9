"""ProposalCache: what was proposed on tiles, by their pixels, so that no place is searched twice by a model."""

from __future__ import annotations

import contextlib
import os
import re
import time
from hashlib import blake2b
from pathlib import Path

from napari_sam.core.tiles import Tile
from napari_sam.errors import OutputError
from napari_sam.everything.proposal_store import STORE_VERSION, load_proposals, save_proposals
from napari_sam.everything.proposals import Proposals
from napari_sam.files.folders import cache_capacity, cache_folder

FOLDER = "proposals"
# A tile takes about 0.1 MB, a plane of 10 000 x 10 000 pixels 10 to 40 MB: a small part of the cache is enough.
SHARE_OF_CACHE = 0.1
# The oldest ones are deleted when the folder is full, until so much of it is left; it is looked at every so many bytes.
KEEP_SHARE, LOOK_SHARE = 0.9, 0.02
# An unfinished file that is older was left by a process that was killed.
ABANDONED_SECONDS = 3600.0
NAME = re.compile(r"[0-9a-f]{40}\.npz")
UNFINISHED = re.compile(r"\.[0-9a-f]{40}\.npz\.\d+")


class ProposalCache:
    """Proposals of tiles on disk, for all images and models together.

    What was proposed is worth more than embeddings: it is smaller, and needs no decoding. Several processes may use one
    folder; each file is written whole or not at all, and one that is damaged counts as missing.

    Parameters
    ----------
    folder
        The folder, created at the first write.
    capacity
        Its largest size in bytes, above which the proposals that were not used for longest are deleted.

    Attributes
    ----------
    folder
        As given.
    """

    def __init__(self, folder: Path, capacity: int) -> None:
        self.folder = folder
        self._capacity = capacity
        # At the limit, so that the first write of a process looks at the folder.
        self._unseen = capacity * LOOK_SHARE
        self._is_writable = True

    @classmethod
    def default(cls) -> ProposalCache | None:
        """Return that of the user, in the cache folder; None where there is no such folder."""
        try:
            return cls(cache_folder() / FOLDER, int(cache_capacity() * SHARE_OF_CACHE))
        except OutputError:
            return None

    @property
    def count(self) -> int:
        """Number of tiles."""
        return len(self._files())

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._files())

    def get(self, key: str) -> Proposals | None:
        """Return the proposals of a key of `key_of`, or None if they are missing or damaged."""
        file = self._file(key)
        found = load_proposals(file)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(file)
        return found

    def put(self, key: str, proposals: Proposals) -> None:
        """Keep proposals. A disk that is full or refuses is no error: the search goes on without the cache."""
        if not self._is_writable:
            return
        file = self._file(key)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            save_proposals(unfinished, proposals)
            self._unseen += unfinished.stat().st_size
            unfinished.replace(file)
        except OSError:
            self._is_writable = False
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            return
        if self._unseen >= self._capacity * LOOK_SHARE:
            self._unseen = 0
            self._evict()

    def clear(self) -> None:
        """Delete all proposals, and the folder if nothing else is in it.

        Raises
        ------
        OutputError
            They cannot be deleted.
        """
        try:
            for entry in _listed(self.folder):
                if NAME.fullmatch(entry.name) or UNFINISHED.fullmatch(entry.name):
                    Path(entry.path).unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"The proposals in {self.folder} cannot be deleted: check its permissions.") from error
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _evict(self) -> None:
        """Make room, and remove what killed processes have left."""
        for entry in _listed(self.folder):
            if UNFINISHED.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    if entry.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                        Path(entry.path).unlink(missing_ok=True)
        files = sorted(self._files(), key=lambda file: file[2])
        left = sum(size for _, size, _ in files)
        if left <= self._capacity:
            return
        for path, size, _ in files:
            if left <= self._capacity * KEEP_SHARE:
                break
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)
                left -= size

    def _files(self) -> list[tuple[str, int, int]]:
        """Return path, size and time of the last use of each file."""
        found = []
        for entry in _listed(self.folder):
            if NAME.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    stat = entry.stat()
                    found.append((entry.path, stat.st_size, stat.st_mtime_ns))
        return found

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.npz"


def key_of(digest: str, tile: Tile, *settings: object) -> str:
    """Return the key of a tile's proposals.

    Parameters
    ----------
    digest
        `tile_digest` of its pixels and its model.
    tile
        The tile: proposals lie in the plane, and those at its edges depend on what it owns.
    settings
        What they depend on besides.
    """
    text = repr((STORE_VERSION, digest, tile, settings))
    return blake2b(text.encode(), digest_size=20).hexdigest()


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []
