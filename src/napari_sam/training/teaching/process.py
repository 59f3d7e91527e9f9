"""LessonProcess: a lesson that runs in a process of its own, below the priority of the window."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from napari_sam.errors import OutputError
from napari_sam.training.teaching.lesson import ENDED, LOG_FILE, Lesson

# Of the log, the end of which says why the process died.
LOG_BYTES = 2000


class LessonProcess:
    """Starts and watches the process of a lesson.

    Parameters
    ----------
    lesson
        What is taught.

    Raises
    ------
    OutputError
        The process cannot be started.
    """

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        lesson.resume()
        command = [sys.executable, "-m", "napari_sam.training.teaching", str(lesson.folder)]
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.BELOW_NORMAL_PRIORITY_CLASS | subprocess.CREATE_NO_WINDOW
        else:
            options["start_new_session"] = True  # Ctrl+C in napari's terminal is not meant for it.
        try:
            with (lesson.folder / LOG_FILE).open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
                )
        except OSError as error:
            raise OutputError(f"Teaching cannot be started ({error.strerror}): make room in memory.") from error

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is; the phase is "killed" where the process ended without saying why."""
        is_running = self.is_running  # Asked first: what it writes at its end is read afterwards.
        now = self.lesson.progress
        if not is_running and now.get("phase") not in (*ENDED, "stopped"):
            now |= {"phase": "killed", "message": self._last_words()}
        return now

    def stop(self) -> None:
        """Ask it to save its state and to end."""
        self.lesson.stop()

    def kill(self) -> None:
        """End it at once; what it saved last stays."""
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        try:
            lines = (self.lesson.folder / LOG_FILE).read_bytes()[-LOG_BYTES:].decode(errors="replace").split("\n")
        except OSError:
            lines = []
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"Teaching ended before it was done{f' ({said})' if said else ''}: teach again to go on."
