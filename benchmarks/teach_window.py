"""The window while a model is taught in its process: gaps between ticks of a timer, and how long a click takes.

xvfb-run -a -s "-screen 0 1920x1080x24" python benchmarks/teach_window.py [--rounds 6] [--seconds 10] [--json FILE]

Each round measures with the lesson at work and then with its process stopped, so that other work on the machine
counts for both alike. A timer ticks every 10 ms; a gap tells how long the event loop was held or got no processor.
The processor time of the window in each long gap tells which: little means that other processes had the processor.
It runs on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
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
OBJECTS, MINUTES = 10, 20.0


def main() -> None:
    """Measure, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each half of a round")
    parser.add_argument("--clicks", type=int, default=2, help="in each half of a round")
    parser.add_argument("--patience", type=float, default=300.0, help="seconds until the lesson takes steps")
    parser.add_argument("--lesson-nice", type=int, help="priority of the lesson, if another than its own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"], os.environ["NAPARI_SAM_MODELS"] = folder, folder
        desk = desk_with_objects(OBJECTS)
        results = measured(desk, options)
        desk.close()
    print(json.dumps(results, indent=1))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def measured(desk: Desk, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures with and without the lesson."""
    places = nuclei()[: options.rounds * options.clicks]
    for place in places:
        click(desk, place)  # What the first click on an object encodes is there for all later ones.
    teacher = desk.controller.teacher
    results: dict[str, Any] = {"objects": teacher.material.count.objects, "window": {"nice": nice_of(0)}}
    results["beginning"] = begin(desk).figures()
    process = teacher.progress["process"]
    if options.lesson_nice is not None:
        os.setpriority(os.PRIO_PROCESS, process, options.lesson_nice)
    end = time.monotonic() + options.patience
    desk.wait_until(lambda: teacher.progress.get("step", 0) > 0 or not teacher.is_running or time.monotonic() > end)
    phases = {"teaching": Phase(), "stopped": Phase()}
    for number in range(options.rounds):
        own = places[number * options.clicks : (number + 1) * options.clicks]
        for name, phase in phases.items():
            os.kill(process, signal.SIGCONT if name == "teaching" else signal.SIGSTOP)
            start = cpu_seconds(process)
            phase.measure(desk, options.seconds, own)
            phase.lesson += cpu_seconds(process) - start
    os.kill(process, signal.SIGCONT)
    desk.controller.teacher.poll()
    results["lesson"] = {"nice": nice_of(process), "phase": teacher.phase, "step": teacher.progress.get("step", 0)}
    results |= {name: phase.figures() for name, phase in phases.items()} | {"load": os.getloadavg()[1]}
    teacher.discard()
    return results


def begin(desk: Desk) -> Gaps:
    """Press Teach, wait until the process works, and return the gaps until then."""
    teacher = desk.controller.teacher
    teacher.minutes = MINUTES
    with Gaps() as gaps:
        desk.widget.teaching.teach.click()
        desk.wait_until(lambda: "process" in teacher.progress or teacher.phase in ("failed", "killed"))
    if "process" not in teacher.progress:
        sys.exit(f"The lesson did not begin: {teacher.result}")
    return gaps


class Gaps:
    """The times between the ticks of a timer in ms, and the processor time that the window had in each."""

    def __init__(self) -> None:
        self._found: list[tuple[float, float]] = []
        self._timer = QTimer()
        self._timer.timeout.connect(self._tick)

    def __enter__(self) -> Gaps:
        self._last = time.perf_counter(), time.process_time()
        self._timer.start(TICK_MS)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.stop()
        self._tick()

    def _tick(self) -> None:
        now = time.perf_counter(), time.process_time()
        self._found.append((1000 * (now[0] - self._last[0]), 1000 * (now[1] - self._last[1])))
        self._last = now

    def figures(self) -> dict[str, Any]:
        """Return what a table tells of them."""
        gaps = np.array([gap for gap, _ in self._found])
        stalls = [(round(gap, 1), round(own, 1)) for gap, own in self._found if gap > STALL_MS]
        return {
            "seconds": round(float(gaps.sum()) / 1000, 1),
            "median_gap_ms": round(float(np.median(gaps)), 1),
            "p99_gap_ms": round(float(np.percentile(gaps, 99)), 1),
            "longest_gap_ms": round(float(gaps.max()), 1),
            "gaps_over_50_ms": len(stalls),
            "gaps_and_processor_ms": stalls,
        }


class Phase:
    """What is measured with the lesson at work, or without, in all rounds.

    Attributes
    ----------
    lesson
        Processor time that the lesson had, in seconds.
    """

    def __init__(self) -> None:
        self._gaps, self._clicks, self.lesson = Gaps(), list[float](), 0.0

    def measure(self, desk: Desk, seconds: float, places: list[tuple[float, float]]) -> None:
        """Watch a quiet window for so long, and then click places."""
        end = time.monotonic() + seconds
        with self._gaps:
            while time.monotonic() < end:
                QApplication.processEvents()
                time.sleep(0.001)
        self._clicks += [click(desk, place) for place in places]

    def figures(self) -> dict[str, Any]:
        """Return what a table tells of it."""
        return {
            **self._gaps.figures(),
            "click_ms": round(1000 * float(np.median(self._clicks)), 1),
            "clicks_ms": [round(1000 * one, 1) for one in self._clicks],
            "lesson_processor_s": round(self.lesson, 1),
        }


def nice_of(process: int) -> int:
    """Return the nice value of a process; 0 is this one."""
    return os.getpriority(os.PRIO_PROCESS, process)


def cpu_seconds(process: int) -> float:
    """Return how long a process of Linux has had a processor."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


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
