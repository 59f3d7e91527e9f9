"""Show the result of the demo in napari, or save a screenshot of it.

Run as `python -m napari_sam.plugin.demo FOLDER [--screenshot]`; `napari-sam demo` does.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
import tifffile
from qtpy.QtWidgets import QApplication
from skimage.data import coins

from napari_sam.plugin.widgets.dock import SamWidget

WINDOW_SIZE = (1400, 900)
LIVE_POINT = (263, 244)
PATIENCE = 60.0


def open_demo(folder: Path, size: tuple[int, int] = WINDOW_SIZE) -> tuple[napari.Viewer, SamWidget]:
    """Open a viewer with the demo's image, its labels and the widget, one coin still to be accepted.

    Parameters
    ----------
    folder
        Where `napari-sam demo` wrote `labels.tif`.
    size
        Width and height of the window, in screen pixels.
    """
    viewer = napari.Viewer(title="napari-sam demo")
    viewer.window.resize(*size)
    viewer.add_image(coins(), name="coins")
    labels = viewer.add_labels(tifffile.imread(folder / "labels.tif"), name="SAM labels", opacity=0.6)
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    widget.output.value = labels
    QApplication.processEvents()
    viewer.reset_view()
    assert widget.controller.prompts.points is not None
    widget.controller.prompts.points.add(np.array([LIVE_POINT], float))
    return viewer, widget


def wait_until(condition: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Let Qt work until a condition holds.

    Raises
    ------
    TimeoutError
        It does not within `patience` seconds.
    """
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > patience:
            raise TimeoutError("The demo got no answer: see the messages above.")
        QApplication.processEvents()
        time.sleep(0.01)


def main() -> None:
    """Show the demo, or with --screenshot write FOLDER/screenshot.png and end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--screenshot", action="store_true")
    arguments = parser.parse_args()
    viewer, widget = open_demo(arguments.folder)
    if not arguments.screenshot:
        napari.run()
        return
    session = widget.controller.session
    wait_until(lambda: session.candidates is not None and not session.is_busy)
    start = time.monotonic()
    wait_until(lambda: time.monotonic() - start > 0.5)
    viewer.screenshot(str(arguments.folder / "screenshot.png"), canvas_only=False, flash=False)
    viewer.close()


if __name__ == "__main__":
    main()
