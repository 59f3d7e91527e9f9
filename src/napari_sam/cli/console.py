"""Output of the commands: text on the standard streams that can never fail a run."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, TypeVar, cast

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from napari_sam.errors import OutputError
from napari_sam.files.libraries import MissingLibraryWarning

BROKEN_PIPE_STATUS = 141
MAX_NAMES_SHOWN = 5
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
Step = TypeVar("Step")


class SafeStream(io.TextIOBase):
    """Forward text to `sys.stdout` or `sys.stderr`, and drop it where the stream fails.

    Characters that the stream's encoding lacks are written as escapes. After a failure (a full disk, a closed pipe)
    nothing more is written, so that neither a message nor the end of the program raises an error.

    Parameters
    ----------
    name
        "stdout" or "stderr".

    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._failed: Any = None
        self._failure: OSError | None = None

    @property
    def failure(self) -> OSError | None:
        """The first error of the present stream, or None."""
        return self._failure if getattr(sys, self._name) is self._failed else None

    @property
    def _stream(self) -> Any:
        # Looked up every time: tests and embedding programs replace the standard streams.
        stream = getattr(sys, self._name)
        return None if stream is self._failed else stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        stream = self._stream
        try:
            return stream is not None and bool(stream.isatty())
        except (AttributeError, ValueError):
            return False

    def fileno(self) -> int:
        stream = self._stream
        if stream is None:
            raise io.UnsupportedOperation("there is no stream")
        return int(stream.fileno())

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        stream = self._stream
        if stream is None:
            return len(text)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        except (OSError, ValueError) as error:
            self._give_up(stream, error)
        return len(text)

    def flush(self) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(stream, error)

    def _give_up(self, stream: Any, error: Exception) -> None:
        self._failed = stream
        self._failure = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        # Python flushes the stream once more when it ends, which would fail again and change the exit status.
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


_stdout = SafeStream("stdout")
console = Console(file=cast(IO[str], _stdout), markup=False, highlight=False, emoji=False)
messages = Console(file=cast(IO[str], SafeStream("stderr")), stderr=True, markup=False, highlight=False, emoji=False)


def say(text: str) -> None:
    """Print the result of a command in one line."""
    console.print(Text(one_line(text)), soft_wrap=True)


def warn(text: str) -> None:
    """Print a message beside the result in one line."""
    messages.print(Text(one_line(text)), soft_wrap=True)


def print_warnings() -> None:
    """Let the warnings of this package be printed in one line, without the line of code that Python names."""
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *more: Any, **named: Any) -> None:
        if issubclass(category, MissingLibraryWarning):
            warn(str(message))
        else:
            others(message, category, *more, **named)

    warnings.showwarning = show


def show_error(error: Exception) -> None:
    """Print why a command failed in one line."""
    messages.print(Text(one_line(f"Error: {error}"), style="red"), soft_wrap=True)


def show_table(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other; end the command if that is not possible, as by `finish_listing`."""
    table = Table("", "", show_header=False)
    for name, value in rows:
        table.add_row(Text(one_line(name)), Text(one_line(value)))
    console.print(table)
    finish_listing()


def finish_listing() -> None:
    """End a command whose result is what it printed: it failed where that could not be printed.

    Raises
    ------
    OutputError
        The standard output is full.
    typer.Exit
        The program that read the output stopped reading.
    """
    _stdout.flush()
    failure = _stdout.failure
    if failure is None:
        return
    if isinstance(failure, BrokenPipeError):
        raise typer.Exit(BROKEN_PIPE_STATUS)
    raise OutputError(f"The output cannot be written ({failure.strerror}): make room, or choose another place.")


def progress_bar(description: str = "{task.description}", *more: ProgressColumn) -> Progress:
    """Return a bar on the standard error, with the number of steps and the time that is left.

    Parameters
    ----------
    description
        Format of the text before the bar.
    more
        Columns before the time that is left.
    """
    # Names of data sets and files stand in the description, and square brackets in them are no markup.
    text = TextColumn(description, markup=False)
    columns = (text, BarColumn(), MofNCompleteColumn(), *more, TimeRemainingColumn())
    return InnerProgress(*columns, console=messages) if _bars_of_images else Progress(*columns, console=messages)


class InnerProgress(Progress):
    """The progress of one image, shown above the bar of all images and removed when it ends."""

    def start(self) -> None:
        _bars_of_images[-1].show(self)

    def stop(self) -> None:
        _bars_of_images[-1].show(None)


class ImagesProgress:
    """A bar over all images of a run, and above it that of the current image."""

    def __init__(self, total: int) -> None:
        text = TextColumn("{task.description}", markup=False)
        self._bar = Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=messages)
        self._task = self._bar.add_task("images", total=total)
        self._live = Live(self._bar, console=messages, refresh_per_second=4, transient=True)

    def show(self, inner: Progress | None) -> None:
        """Show the bar of the current image, or none."""
        self._live.update(self._bar if inner is None else Group(inner, self._bar))

    def over(self, sources: Sequence[str]) -> Iterator[str]:
        """Yield each image."""
        with self._live:
            for source in sources:
                self._bar.update(self._task, description=one_line(source.rstrip("/").rpartition("/")[2]))
                yield source
                self._bar.advance(self._task)


_bars_of_images: list[ImagesProgress] = []


def bar_over_images(sources: Sequence[str]) -> Iterator[str]:
    """Yield each image of a run, with a bar over all of them where the standard error is a terminal."""
    progress = ImagesProgress(len(sources))
    _bars_of_images.append(progress)
    try:
        yield from progress.over(sources) if messages.is_terminal else sources
    finally:
        _bars_of_images.remove(progress)


def bar_over(steps: Iterable[Step], total: int, description: str = "objects") -> Iterator[Step]:
    """Yield each step, with a bar where the standard error is a terminal."""
    if not messages.is_terminal:
        yield from steps
        return
    with progress_bar() as progress:
        task = progress.add_task(description, total=total)
        for step in steps:
            yield step
            progress.advance(task)


class Failures:
    """The objects that failed, with one line for each reason instead of one for each object.

    Parameters
    ----------
    kind
        What failed, as one noun.
    """

    def __init__(self, kind: str = "object") -> None:
        self._kind = kind
        self._found: dict[str, list[tuple[str, str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, name: str, error: str) -> None:
        """Note an object and why it failed."""
        # The same reason at another place differs in its numbers only.
        self._found.setdefault(_NUMBER.sub("#", error), []).append((name, error))

    def show(self) -> None:
        """Print each reason once, with the objects that it holds for."""
        for members in self._found.values():
            first, error = members[0]
            if len(members) == 1:
                warn(f"{self._kind.capitalize()} {first} failed: {error}")
                continue
            names = ", ".join(name for name, _ in members[:MAX_NAMES_SHOWN])
            more = ", ..." if len(members) > MAX_NAMES_SHOWN else ""
            is_same = len({error for _, error in members}) == 1
            warn(f"{len(members)} {self._kind}s ({names}{more}) failed{'' if is_same else ', the first one'}: {error}")


def one_line(text: str) -> str:
    """Return text with its control characters, line ends among them, written as escapes."""
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    is_control = unicodedata.category(character) in ("Cc", "Zl", "Zp")
    return character.encode("unicode_escape").decode("ascii") if is_control else character
