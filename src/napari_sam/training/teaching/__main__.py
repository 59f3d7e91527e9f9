"""Run a lesson in a process of its own: `python -m napari_sam.training.teaching FOLDER`."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from pathlib import Path

from napari_sam.errors import NapariSamError
from napari_sam.training.teaching.displaced import DisplacedError
from napari_sam.training.teaching.lesson import Lesson
from napari_sam.training.teaching.teach import only_lesson, run

NICE = 10


def main(folder: Path) -> int:
    """Run a lesson, and say in its progress how it ended; returns the exit status."""
    if hasattr(os, "nice"):
        os.nice(NICE)
    lesson = Lesson(folder)
    from napari_sam.training.teaching.run import StoppedError

    try:
        with only_lesson():
            run(lesson)
    except StoppedError:
        return 0
    except NapariSamError as error:
        return _failed(lesson, str(error), is_displaced=isinstance(error, DisplacedError))
    except (MemoryError, OSError, RuntimeError) as error:
        traceback.print_exc()
        return _failed(lesson, f"Teaching failed ({error}): close other programs and teach again.")
    return 0


def _failed(lesson: Lesson, message: str, *, is_displaced: bool = False) -> int:
    print(message, file=sys.stderr)  # noqa: T201  The log, from which the window reads it if the disk is full.
    with contextlib.suppress(NapariSamError):
        lesson.report(phase="failed", message=message, is_displaced=is_displaced)
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
