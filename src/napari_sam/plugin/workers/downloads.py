"""Download: fetch weights in a thread of its own, with progress and cancel in napari's activity dock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from napari.utils import cancelable_progress
from qtpy.QtCore import QObject, Signal  # type: ignore[attr-defined]
from superqt.utils import FunctionWorker, create_worker

from napari_sam.errors import NapariSamError
from napari_sam.weights import availability as model_list

REPORT_SECONDS = 0.1


class _CancelledError(Exception):
    """The user wants no more of it."""


class Download(QObject):
    """Fetches one model at a time, in the background.

    Parameters
    ----------
    done
        Called in the GUI thread with the model's name once it is on this machine.
    failed
        Called there with the name and one sentence; with an empty one where the user cancelled.
    changed
        Called there whenever `name` or `share` did.

    Attributes
    ----------
    name
        The model under way, or None.
    share
        How much of it is there, 0 to 1.
    """

    _reported = Signal(object, object)

    def __init__(
        self, done: Callable[[str], None], failed: Callable[[str, str], None], changed: Callable[[], None]
    ) -> None:
        super().__init__()
        self.name: str | None = None
        self.share = 0.0
        self._done, self._failed, self._changed = done, failed, changed
        self._cancelled = threading.Event()
        self._bar: Any = None
        self._worker: FunctionWorker[Any] | None = None
        self._closed = False
        self._reported.connect(self._on_report)

    def start(self, name: str, nbytes: int | None) -> None:
        """Begin to fetch a model, if none is under way."""
        if self.name is not None or self._closed:
            return
        self.name, self.share = name, 0.0
        self._cancelled = threading.Event()
        self._bar = cancelable_progress(total=nbytes or 0, desc=f"Downloading {name}")
        job = _job(name, self._reported.emit, self._cancelled)
        self._worker = create_worker(job, _start_thread=False)
        self._worker.returned.connect(self._on_end)
        self._worker.start()
        self._changed()

    def cancel(self) -> None:
        """Stop at the next block; the downloaded part is kept for the next attempt."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop without a callback."""
        self._closed = True
        self.cancel()
        self._close_bar()

    def _on_report(self, there: int, total: int | None) -> None:
        if self._closed or self._bar is None:
            return
        if self._bar.is_canceled:
            self.cancel()
        if total:
            self._bar.total = total
            self.share = there / total
        self._bar.update(there - self._bar.n)
        self._changed()

    def _on_end(self, error: str | None) -> None:
        name, self.name, self._worker = self.name, None, None
        self._close_bar()
        if self._closed or name is None:
            return
        if error is None:
            self._done(name)
        else:
            self._failed(name, error)
        self._changed()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _job(name: str, report: Callable[[int, int | None], None], cancelled: threading.Event) -> Callable[[], str | None]:
    """Return what fetches a model: None at its end, or why it did not come, in one sentence."""
    last = [0.0]

    def progress(there: int, total: int | None) -> None:
        if cancelled.is_set():
            raise _CancelledError
        now = time.monotonic()
        if now - last[0] >= REPORT_SECONDS or there == total:
            last[0] = now
            report(there, total)

    def fetch() -> str | None:
        try:
            model_list.download_model(name, progress)
        except _CancelledError:
            return ""
        except NapariSamError as error:
            return str(error)
        except Exception as error:
            return f"{name} could not be downloaded ({type(error).__name__}: {error}): try again."
        return None

    return fetch
