"""The window while a model is taught in its process: gaps between ticks of a timer, and how long a click takes.

xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/teach_window.py [--seconds 60] [--json FILE]

The same is measured before the lesson and during it, so that other work on the machine counts for both. A timer ticks
every 10 ms; a gap tells how long the event loop was held or got no processor.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from desk import Desk
from teach_pictures import desk_with_objects, nuclei

TICK_MS, STALL_MS = 10, 50.0
OBJECTS, MINUTES = 10, 4.0


def main() -> None:
    """Measure, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clicks", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"], os.environ["NAPARI_SAM_MODELS"] = folder, folder
        desk = desk_with_objects(OBJECTS)
        before = phase(desk, options)
        begin(desk)
        teacher = desk.controller.teacher
        process = teacher.progress["process"]
        start = cpu_seconds(process)
        results = {"before": before, "teaching": phase(desk, options), "then": teacher.phase}
        results["process"] = {"nice": nice_of(process), "cpu_s": round(cpu_seconds(process) - start, 1)}
        results["window"] = {"nice": nice_of(0)}
        desk.controller.teacher.discard()
        desk.close()
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def begin(desk: Desk) -> None:
    """Press Teach, and wait until the process works."""
    teacher = desk.controller.teacher
    teacher.minutes = MINUTES
    desk.widget.teaching.teach.click()
    desk.wait_until(lambda: "process" in teacher.progress or teacher.phase == "failed")


def nice_of(process: int) -> int:
    """Return the nice value of a process; 0 is this one."""
    return os.getpriority(os.PRIO_PROCESS, process)


def cpu_seconds(process: int) -> float:
    """Return how long a process of Linux has had a processor."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def phase(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """Return the gaps of a quiet window, and the times of clicks."""
    gaps: list[float] = []
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append((now - last[0]) * 1000)
        last[0] = now

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(TICK_MS)
    end = time.monotonic() + options.seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.001)
    timer.stop()
    clicks = [click(desk, place) for place in nuclei()[: options.clicks]]
    return {
        "seconds": options.seconds,
        "ticks": len(gaps),
        "median_gap_ms": round(float(np.median(gaps)), 1),
        "p99_gap_ms": round(float(np.percentile(gaps, 99)), 1),
        "longest_gap_ms": round(max(gaps), 1),
        "gaps_over_50_ms": sum(gap > STALL_MS for gap in gaps),
        "click_ms": round(1000 * float(np.median(clicks)), 1),
        "clicks_ms": [round(1000 * one, 1) for one in clicks],
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def click(desk: Desk, place: tuple[float, float]) -> float:
    """Return the seconds from a point to its candidates."""
    session = desk.controller.session
    points = desk.controller.prompts.points
    image = session.image
    world = image.data_to_world([*[0] * (image.ndim - 2), place[0] + 2, place[1] + 2])
    start = time.perf_counter()
    points.add(np.array([points.world_to_data(world)]))
    while session.candidates is None or session.is_busy:
        QApplication.processEvents()
        time.sleep(0.001)
    taken = time.perf_counter() - start
    desk.controller.editing.clear()
    desk.rest()
    return taken


if __name__ == "__main__":
    main()
