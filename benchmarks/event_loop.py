"""How long the plugin holds the event loop while it encodes, previews and accepts: in a real window, on a huge image.

xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/event_loop.py [--json FILE] [--screenshot FILE]

A timer ticks every 2 ms; a tick that comes late tells how long the loop was held. Napari's own work (drawing, slicing)
holds it too, so every entry of our code from the loop is timed besides: slots of the runner, layer events, keys.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parent))
from large import CASES, COIN, build, middle

from napari_sam.plugin.annotation import commits, editing, undo, view_follower
from napari_sam.plugin.inference import hover_search as hover
from napari_sam.plugin.inference import prefetch, requests
from napari_sam.plugin.prompts import layers as prompt_layers
from napari_sam.plugin.widgets import dock as widget
from napari_sam.plugin.workers import runner as workers

TICK_MS = 2
ENTRIES = {
    workers.LatestRunner: ("_finish", "_on_progress", "_next"),
    view_follower.ViewFollower: ("on_plane", "on_rendering"),
    undo.UndoStack: ("undo", "redo"),
    requests.PredictionRequests: ("request", "_on_answer"),
    commits.CommitQueue: ("accept", "accept_all", "_on_written"),
    editing.DraftEditor: ("new_object", "switch_to", "correct", "pick", "cycle"),
    prompt_layers.PromptLayers: ("_on_data", "_on_features", "_on_tool"),
    hover.Hover: ("_on_move", "_on_canvas", "next_work", "_on_answer"),
    prefetch.Prefetcher: ("rested", "moved"),
    widget.SamWidget: ("_on_view", "_refresh", "reset_choices"),
}


class Watch:
    """Times the entries of our code, and the gaps between ticks of the loop."""

    def __init__(self) -> None:
        self.phase = "start"
        self.entries: dict[str, list[tuple[float, float, str]]] = {}
        self.gaps: dict[str, list[float]] = {}
        self._depth = 0
        self._last = time.perf_counter()
        for owner, names in ENTRIES.items():
            for name in names:
                setattr(owner, name, self._timed(getattr(owner, name), name))
        self.timer = QTimer()
        self.timer.timeout.connect(self._tick)
        self.timer.start(TICK_MS)

    def _timed(self, function: Any, name: str) -> Any:
        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            start, busy = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    held, worked = time.perf_counter() - start, time.thread_time() - busy
                    self.entries.setdefault(self.phase, []).append((held, worked, name))

        return timed

    def _tick(self) -> None:
        now = time.perf_counter()
        self.gaps.setdefault(self.phase, []).append(now - self._last)
        self._last = now


def wait(seconds: float = 0.0, until: Any = None, patience: float = 120.0) -> None:
    """Let the loop run for a time, or until something holds."""
    start = time.monotonic()
    while (time.monotonic() - start < seconds) if until is None else not until():
        if time.monotonic() - start > patience:
            raise TimeoutError("The plugin gave no answer.")
        QApplication.processEvents()
        time.sleep(0.001)


def main() -> None:
    """Play a session and print what held the loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--objects", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        image = folder / "scan.ome.zarr"
        (folder / "zarr pyramid 100 000 x 100 000").rename(image)
        results = play(image, options.objects, options.screenshot)
    for phase, row in results.items():
        print(
            f"{phase:20s} longest of ours {row['ours_ms']:6.1f} ms (of the processor {row['ours_cpu_ms']:.1f}, in",
            end=" ",
        )
        print(f"{row['by']}), then {row['next_ms']:.1f}; longest gap of the loop {row['gap_ms']:.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def play(path: Path, objects: int, screenshot: Path | None) -> dict[str, dict[str, Any]]:
    """Open the image, let the view be encoded, click on coins and accept them; return what held the loop."""
    viewer = napari.Viewer()
    viewer.window.resize(1400, 900)
    viewer.open(str(path), plugin="napari-sam")
    viewer.layers[0].contrast_limits = (0, 51_000)
    watch = Watch()
    _, sam = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    control, shape = sam.controller, CASES["zarr pyramid 100 000 x 100 000"]
    top = left = shape[0] // 2 // 512 * 512
    row, col = middle()
    viewer.scene.camera.center = (top + row + 100, left + col + 100)
    viewer.scene.camera.zoom = 1.0
    wait(until=lambda: not control.session.is_warming and not sam._runner.busy)
    watch.phase = "encoding the view"
    wait(1.0)
    wait(until=lambda: not control.prefetcher._plan and not sam._runner.idling)
    spots = [(top + row + dr, left + col + dc) for dr, dc in OTHERS[:objects]]
    for spot in spots:
        watch.phase = "previewing"
        control.prompts.points.add(np.array([spot], float))
        wait(until=lambda: control.session.candidates is not None and not control.session.is_busy)
        wait(0.2)
        watch.phase = "accepting"
        control.commits.accept()
        wait(until=lambda: control.session.candidates is None and not sam._runner.busy)
        wait(0.2)
    watch.phase = "undoing"
    control.undo.undo()
    wait(until=lambda: "taken back" in control.session.status)
    watch.phase = "last"
    control.prompts.points.add(np.array([spots[-1]], float))
    wait(until=lambda: control.session.candidates is not None and not control.session.is_busy)
    wait(1.0)
    if screenshot:
        viewer.screenshot(str(screenshot), canvas_only=False, flash=False)
    watch.timer.stop()
    pyramid = control.session.target.metadata["napari-sam pyramid"]
    assert len(np.unique(np.asarray(pyramid[top : top + 2000, left : left + 2000]))) == objects
    viewer.close()
    return {phase: _summary(watch, phase) for phase in ("encoding the view", "previewing", "accepting", "undoing")}


def _summary(watch: Watch, phase: str) -> dict[str, Any]:
    entries = sorted(watch.entries[phase], reverse=True)
    return {
        "ours_ms": entries[0][0] * 1000,
        "by": entries[0][2],
        "next_ms": entries[min(1, len(entries) - 1)][0] * 1000,
        "ours_cpu_ms": max(worked for _, worked, _ in entries) * 1000,
        "gap_ms": max(watch.gaps[phase]) * 1000,
        "median_gap_ms": statistics.median(watch.gaps[phase]) * 1000,
    }


# Coins of skimage's photograph beside the one at COIN, by rows and columns from it.
OTHERS = [
    (at[0] - COIN[0], at[1] - COIN[1])
    for at in ((53, 277), (54, 45), (56, 99), (119, 271), (124, 44), (124, 205), (125, 336), (186, 348))
]

if __name__ == "__main__":
    main()
