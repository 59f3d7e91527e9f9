"""Label images at URLs: made in a folder of this computer, and copied when they are finished."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import typer

from napari_sam.cli.console import say
from napari_sam.errors import OutputError
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.folders import cache_folder
from napari_sam.files.locks import SharedPlace
from napari_sam.files.publishing import check_published, publish, url_of

# In the cache folder: what is needed to go on with a run that was stopped, such as proposals, stays there.
OUTPUTS = "outputs"
COPY_SECONDS = 3600.0


def also_at_urls(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that writes label images by --out also take the URL of one."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        url = url_of(options["out"])
        if url is None:
            command(**options)
            return
        if options.get("append") or options.get("resume"):
            raise OutputError(
                f"{url} is a URL, and labels are added to on disk only: name a folder, and copy it when it is finished."
            )
        with _published(url, overwrite=options["overwrite"]) as out:
            command(**{**options, "out": out})

    return run


@contextmanager
def _published(url: str, *, overwrite: bool) -> Iterator[Path]:
    """Give a path on disk for labels, and copy them and their journal to a URL once they are there."""
    name = url.rstrip("/").rpartition("/")[2]
    if not name.endswith(".zarr"):
        raise OutputError(f"{url} cannot hold labels: let it end in .ome.zarr, one for each image.")
    check_published(url, overwrite=overwrite)
    folder = cache_folder() / OUTPUTS / blake2b(url.encode(), digest_size=10).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    made, journal = folder / name, LabelOutput.path_of_journal(folder / name)
    with _alone_in(folder):
        check_published(url, overwrite=overwrite)  # Another process may just have copied them.
        for left in (made, journal):  # Of a run that could not copy them.
            shutil.rmtree(left, ignore_errors=True)
    try:
        yield made
    except typer.Exit:  # Some objects failed, and those that did not are written.
        _publish(made, journal, url, overwrite=overwrite)
        raise
    _publish(made, journal, url, overwrite=overwrite)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes on this computer, which may make the same labels, from copying or removing them."""
    try:
        with SharedPlace.of(folder).exclusive(COPY_SECONDS):
            yield
    except TimeoutError as error:
        raise OutputError("Another process copies the same labels: wait until it has ended.") from error


def _publish(made: Path, journal: Path, url: str, *, overwrite: bool) -> None:
    with _alone_in(made.parent):
        if made.is_dir():  # Another process that made the same labels may have copied them.
            _copy(made, journal, url, overwrite=overwrite)


def _copy(made: Path, journal: Path, url: str, *, overwrite: bool) -> None:
    if journal.is_dir():
        # First, so that who finds the labels finds it, too; one without labels is of a copy that failed.
        publish(journal, f"{url.rstrip('/').rpartition('/')[0]}/{journal.name}", overwrite=True)
    publish(made, url, overwrite=overwrite)
    say(f"They are at {url} now.")
    for copied in (made, journal):
        shutil.rmtree(copied, ignore_errors=True)
    with suppress(OSError):
        made.parent.rmdir()  # Where nothing is left to go on with.
