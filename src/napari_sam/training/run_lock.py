"""The lock of a training run on its folder, so that two runs never save into the same folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_sam.errors import OutputError
from napari_sam.files.locks import Lock, try_lock

LOCK_FILE = "training.lock"


@contextmanager
def only_run_in(folder: Path, busy: str = "") -> Iterator[None]:
    """Keep other training runs out of a folder. It is created, and removed again if it is empty in the end.

    The lock is on a file of its own: other programs may write results into the folder meanwhile. The file is removed in
    the end; that of a killed run by the next run.

    Parameters
    ----------
    folder
        The folder.
    busy
        The message if another run is there; by default one that names the folder.

    Raises
    ------
    OutputError
        Another run trains there, or the folder cannot be written to.
    """
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock, is_busy = _locked(folder / LOCK_FILE)
    except OSError as error:
        raise OutputError(
            f"The folder {folder} cannot be written to ({error.strerror}): choose another place (out)."
        ) from error
    if is_busy:
        raise OutputError(
            busy or f"Another training run is using {folder}: wait until it has ended, or choose another folder (out)."
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if (folder / LOCK_FILE).stat().st_size == 0:  # A file with content is not ours.
                (folder / LOCK_FILE).unlink()
        if lock is not None:
            lock.release()
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def _locked(path: Path) -> tuple[Lock | None, bool]:
    """Return the lock on a file, and whether another program has it; no lock if the file system has none."""
    path.touch()
    while True:
        try:
            lock = try_lock(path, create=True)
        except OSError:
            return None, False
        if lock is None:
            return None, True
        if lock.is_on(path):
            return lock, False
        lock.release()  # The last run removed the file when it ended.
