"""Temporary files beside an output; those of a killed run are removed by the next run.

Each run creates a folder with a random name and a locked owner file in it. Its unfinished files are in that folder, or
beside it under names with the same random digits. A folder is removed only if its name and owner file are of this form
and the lock is free, together with the files that have its digits. The parent is locked while the folder is created, so
a folder without owner file belongs to a process that was killed at that moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from napari_sam.files.locks import Lock, SharedPlace, try_lock

NAME = re.compile(r"\.napari-sam-([0-9a-f]{16})")
OWNER, MOVES = "owner.json", "moves.json"
# A folder with this file is needed to undo what a killed run added to labels, see `labels.additions`.
ADDITIONS = "added.json"
_CONTENT = '{"napari-sam": "temporary files of a run, removed by the next one"}\n'
# Names may have 255 bytes, and temporary names are slightly longer than those of their outputs.
MAX_BYTES = 100
# If the parent cannot be locked, a folder without owner file counts as abandoned after this time.
_EMPTY_SECONDS = 3600.0
_BEGIN_SECONDS = 10.0


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a folder for temporary files in the folder of an output, and remove it in the end.

    Leftovers of processes that were killed are removed first.

    Raises
    ------
    OSError
        It cannot be created.
    """
    remove_leftovers(parent)
    folder, lock = _begin(parent)
    try:
        yield folder
    finally:
        _remove(folder)
        if lock is not None:
            lock.release()


def unfinished(folder: Path, output: Path) -> Path:
    """Return a temporary path beside an output, with its ending; it is removed with the temporary folder."""
    stem = os.fsencode(output.stem)[:MAX_BYTES].decode(errors="ignore")
    return folder.with_name(f".{stem}-{_digits(folder)}{output.suffix}")


def final_name(temporary: Path) -> str:
    """Return the name of the output of a path that `unfinished` gave."""
    stem, _, _ = temporary.stem.removeprefix(".").rpartition("-")
    return f"{stem}{temporary.suffix}"


def move_all(folder: Path, moves: Sequence[tuple[str, str]]) -> None:
    """Rename files or folders beside a temporary folder: all of them, or none.

    Several moves are recorded first, so that the next run can complete those of a killed one.

    Parameters
    ----------
    folder
        A temporary folder.
    moves
        Old and new name of each. An existing file of the new name is replaced.

    Raises
    ------
    OSError
        They cannot be moved; nothing has changed then.
    """
    if len(moves) > 1 or any((folder.parent / name).is_dir() for _, name in moves):
        noted = folder / f"{MOVES}.new"
        noted.write_text(json.dumps(moves))
        noted.replace(folder / MOVES)
    replaced: list[tuple[Path, Path]] = []
    try:
        _move(folder, moves, replaced)
    except OSError:
        (folder / MOVES).unlink(missing_ok=True)
        for source, place in reversed(replaced):
            with contextlib.suppress(OSError):
                source.rename(place)
        raise


def remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders of killed processes, after completing their recorded moves."""
    for folder in _folders_in(parent):
        if not (folder / ADDITIONS).exists():
            _remove_if_dead(folder)


def dead_folders(parent: Path) -> Iterator[Path]:
    """Yield the temporary folders of processes that were killed while they added to labels.

    Each is locked until the next one is requested, and removed if the caller has deleted its `ADDITIONS`.
    """
    for folder in _folders_in(parent):
        if not (folder / ADDITIONS).exists():
            continue
        with contextlib.suppress(OSError, ValueError):
            lock = try_lock(folder / OWNER)
            if lock is None:
                continue
            try:
                if (folder / OWNER).read_text() == _CONTENT:
                    yield folder
                    if not (folder / ADDITIONS).exists():
                        _remove(folder)
            finally:
                lock.release()


def _folders_in(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            found = [Path(entry.path) for entry in entries if NAME.fullmatch(entry.name)]
    except OSError:
        return []
    return [folder for folder in found if folder.is_dir() and not folder.is_symlink()]


def _begin(parent: Path) -> tuple[Path, Lock | None]:
    """Create a temporary folder, with the parent locked until its owner file exists."""
    folder = parent / f".napari-sam-{secrets.token_hex(8)}"
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(TimeoutError):
            stack.enter_context(SharedPlace.of(parent).exclusive(_BEGIN_SECONDS))
        folder.mkdir()
        try:
            return folder, _own(folder)
        except BaseException:
            _remove(folder)
            raise


def _own(folder: Path) -> Lock | None:
    """Create the owner file of a folder; it is locked before it gets its name."""
    unnamed = folder / f"{OWNER}.new"
    with unnamed.open("x") as file:
        file.write(_CONTENT)
    try:
        lock = try_lock(unnamed)
    except OSError:
        lock = None  # Without locks on this file system no other run will remove the folder.
    unnamed.replace(folder / OWNER)
    return lock


def _remove_if_dead(folder: Path) -> None:
    owner = folder / OWNER
    with contextlib.suppress(OSError, ValueError):
        if not owner.exists():
            _remove_if_unfinished(folder)
            return
        lock = try_lock(owner)
        if lock is None:
            return
        try:
            if owner.read_text() == _CONTENT:
                _finish(folder)
                _remove(folder)
        finally:
            lock.release()


def _remove_if_unfinished(folder: Path) -> None:
    """Remove a folder whose process was killed before it created the owner file."""
    lock = None
    with contextlib.suppress(OSError):
        lock = try_lock(folder.parent)
    try:
        is_dead = lock is not None or time.time() - folder.stat().st_mtime > _EMPTY_SECONDS
        # Its process may have continued until the parent was locked here.
        if is_dead and all(name == f"{OWNER}.new" for name in os.listdir(folder)):  # noqa: PTH208
            _remove(folder)
    finally:
        if lock is not None:
            lock.release()


def _finish(folder: Path) -> None:
    """Complete the recorded moves of a killed process."""
    if not (folder / MOVES).exists():
        return
    moves = [(str(source), str(name)) for source, name in json.loads((folder / MOVES).read_text())]
    if all(Path(name).name == name for move in moves for name in move):
        _move(folder, moves, [])


def _move(folder: Path, moves: Sequence[tuple[str, str]], replaced: list[tuple[Path, Path]]) -> None:
    for number, (name, target) in enumerate(moves):
        source, place, older = folder.parent / name, folder.parent / target, folder / f"older-{number}"
        if not os.path.lexists(source):
            continue  # It was moved before the process was killed.
        if place.is_dir():
            place.rename(older)
            replaced.append((older, place))
        source.replace(place)
        replaced.append((place, source))


def _remove(folder: Path) -> None:
    """Remove a temporary folder and its files; the owner file is removed last."""
    with contextlib.suppress(OSError):
        for entry in _belongings(folder):
            _delete(entry)
        if not _belongings(folder):
            (folder / OWNER).unlink(missing_ok=True)
            folder.rmdir()


def _belongings(folder: Path) -> list[os.DirEntry[str]]:
    """Return the files of a temporary folder, beside it and in it, without the owner file."""
    digits = f"-{_digits(folder)}"
    with os.scandir(folder.parent) as beside, os.scandir(folder) as inside:
        return [
            *(
                entry
                for entry in beside
                if entry.name.startswith(".") and digits in entry.name and entry.name != folder.name
            ),
            *(entry for entry in inside if entry.name != OWNER),
        ]


def _delete(entry: os.DirEntry[str]) -> None:
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        Path(entry.path).unlink(missing_ok=True)


def _digits(folder: Path) -> str:
    return folder.name.rpartition("-")[2]
