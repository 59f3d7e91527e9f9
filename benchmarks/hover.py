"""How often the mask under the cursor reaches the screen while the mouse moves, and how good it is: in a real window.

xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/hover.py [--json FILE]

The mouse runs over skimage's coins in real Qt events. A preview counts when the canvas is drawn after it came; its
latency is the time since the mouse was where it is the answer for. Then every coin is hovered over, clicked and
accepted, and compared with the watershed of scikit-image's own example.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication
from scipy import ndimage
from skimage.data import coins
from skimage.filters import sobel
from skimage.segmentation import watershed

sys.path.insert(0, str(Path(__file__).parent))
from event_loop import ENTRIES, Watch, wait

from napari_sam.plugin import controller
from napari_sam.plugin.inference import hover_search as hover

ENTRIES[controller.Controller] = ("_on_tool",)
ENTRIES[hover.Hover] = ("_on_move", "_on_canvas", "next_work", "_on_answer")
SECONDS = 8.0
EVERY_MS = 8
# Screen pixels a second: a hand that looks for something.
SPEED = 150


def reference(image: Any) -> Any:
    """Return a label for each coin, by a watershed from markers."""
    markers = np.zeros(image.shape, np.int32)
    markers[image < 30], markers[image > 150] = 1, 2
    filled = ndimage.binary_fill_holes(watershed(sobel(image), markers) == 2)
    return ndimage.label(ndimage.binary_opening(filled, iterations=3))[0]


class Session:
    """A window with the widget over an image, and its mouse."""

    def __init__(self, image: Any) -> None:
        self.viewer = napari.Viewer()
        self.viewer.window.resize(1400, 900)
        self.viewer.add_image(image, name="image")
        self.watch = Watch()
        _, self.widget = self.viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
        self.control = self.widget.controller
        self.canvas = self.viewer.window._qt_viewer.canvas.native
        QTest.qWaitForWindowExposed(self.viewer.window._qt_window)
        QApplication.processEvents()
        self.viewer.reset_view()
        wait(until=lambda: not self.control.session.is_warming)
        wait(1.0)
        wait(until=lambda: not self.control.prefetcher._plan and not self.widget._runner.idling)

    def pixel(self, point: Any) -> QPoint:
        """Return where a data position lies on the canvas."""
        camera = self.viewer.scene.camera
        middle = np.array([self.canvas.height(), self.canvas.width()]) / 2
        row, col = (np.asarray(point) - np.asarray(camera.center)[-2:]) * camera.zoom + middle
        return QPoint(round(col), round(row))


def move_about(session: Session, after_each: Any = None) -> None:
    """Move the mouse over the rows of the image for a while."""
    shape = session.control.session.image.data.shape
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        along = elapsed * SPEED / session.viewer.scene.camera.zoom
        row = 50 + 66 * int(along // (shape[1] - 40))
        col = 20 + along % (shape[1] - 40)
        QTest.mouseMove(session.canvas, session.pixel((row, col)))
        if after_each is not None:
            after_each()
        before = time.perf_counter()
        while time.perf_counter() - before < EVERY_MS / 1000:
            QApplication.processEvents()
            time.sleep(0.0005)


def measure_bare(session: Session) -> dict[str, Any]:
    """Return how often napari alone draws its canvas here while the mouse moves: what no preview can be faster than."""
    drawn = []
    session.control.hover.set_enabled(False)
    scene = session.viewer.window._qt_viewer.canvas._scene_canvas
    on_draw = scene.events.draw.connect(lambda event: drawn.append(event), position="last")
    busy = time.process_time()
    move_about(session, scene.update)
    scene.events.draw.disconnect(on_draw)
    session.control.hover.set_enabled(True)
    return {"per second": len(drawn) / SECONDS, "cores_had": (time.process_time() - busy) / SECONDS}


def measure_rate(session: Session) -> dict[str, Any]:
    """Move the mouse over the image for a while; return how often and how late a preview was drawn."""
    control, watch = session.control, session.watch
    moved: dict[Any, float] = {}
    asked: dict[Any, float] = {}
    waiting: list[float] = []
    drawn: list[tuple[float, float]] = []
    move_to, spot_of, show = control.hover.move_to, control.hover._position_of, control.hover._host.show_hover

    def noted_move(position: Any) -> None:
        moved[tuple(position)] = time.perf_counter()
        move_to(position)

    def noted(position: Any) -> Any:
        spot = spot_of(position)
        asked[spot] = moved[position]
        return spot

    def shown(candidates: Any) -> None:
        show(candidates)
        if candidates is not None and control.hover._shown_search is not None:
            waiting.append(asked[control.hover._shown_search.position])

    def on_draw(event: Any) -> None:
        if waiting:
            drawn.append((time.perf_counter(), time.perf_counter() - waiting[-1]))
            waiting.clear()

    control.hover.move_to, control.hover._position_of, control.hover._host.show_hover = noted_move, noted, shown
    scene = session.viewer.window._qt_viewer.canvas._scene_canvas
    scene.events.draw.connect(on_draw, position="last")
    watch.phase = "hovering"
    busy = time.process_time()
    move_about(session)
    scene.events.draw.disconnect(on_draw)
    control.hover.move_to, control.hover._position_of, control.hover._host.show_hover = move_to, spot_of, show
    late = [latency * 1000 for _, latency in drawn]
    entries = sorted(watch.entries["hovering"], reverse=True)
    return {
        "per second": len(drawn) / SECONDS,
        "cpu_ms": (time.process_time() - busy) * 1000 / max(len(drawn), 1),
        "cores_had": (time.process_time() - busy) / SECONDS,
        "latency_ms": statistics.median(late),
        "latency_95_ms": float(np.percentile(late, 95)),
        "ours_ms": entries[0][0] * 1000,
        "by": entries[0][2],
        "ours_cpu_ms": max(worked for _, worked, _ in entries) * 1000,
        "gap_ms": max(watch.gaps["hovering"]) * 1000,
    }


def measure_quality(session: Session, truth: Any) -> dict[str, Any]:
    """Hover over every coin, click, accept; return the mean IoU and how many clicks took the preview."""
    control = session.control
    session.watch.phase = "clicking"
    spots = [tuple(map(int, spot)) for spot in ndimage.center_of_mass(truth > 0, truth, range(1, truth.max() + 1))]
    taken, waits = 0, []
    for spot in spots:
        where = session.pixel(spot)
        QTest.mouseMove(session.canvas, where - QPoint(3, 3))
        wait(0.02)
        QTest.mouseMove(session.canvas, where)
        wait(0.3)
        had = control.hover.shown
        QTest.mouseClick(session.canvas, Qt.MouseButton.LeftButton, pos=where)
        start = time.perf_counter()
        wait(until=lambda: control.session.candidates is not None and not control.session.is_busy)
        waits.append(time.perf_counter() - start)
        taken += had is not None and control.session.candidates is had
        QTest.keyClick(session.canvas, Qt.Key.Key_C)
        wait(until=lambda: control.session.candidates is None)
    found = np.asarray(control.session.target.data)
    scores = []
    for label, spot in enumerate(spots, 1):
        mine, theirs = found == label, truth == truth[spot]
        scores.append(np.count_nonzero(mine & theirs) / np.count_nonzero(mine | theirs))
    entries = sorted(session.watch.entries["clicking"], reverse=True)
    return {
        "objects": len(spots),
        "mean_iou": float(np.mean(scores)),
        "worst_iou": float(np.min(scores)),
        "taken": taken,
        "click_to_mask_ms": statistics.median(waits) * 1000,
        "ours_ms": entries[0][0] * 1000,
        "by": entries[0][2],
        "ours_cpu_ms": max(worked for _, worked, _ in entries) * 1000,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    # Work that was left on the same image would come back.
    os.environ["NAPARI_SAM_CACHE"] = tempfile.mkdtemp()
    image = coins()
    session = Session(image)
    results = {
        "napari alone": measure_bare(session),
        "hovering": measure_rate(session),
        "clicking": measure_quality(session, reference(image)),
    }
    session.watch.timer.stop()
    session.viewer.close()
    for phase, row in results.items():
        print(phase, ", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
