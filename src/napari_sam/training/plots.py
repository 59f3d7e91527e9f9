"""Draw the learning curve."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

SMOOTHED = 50


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curve(curve: list[dict[str, Any]], path: Path) -> None:
    """Draw loss and IoU over the steps, smoothed, and the IoU on held-out images if it was measured.

    Parameters
    ----------
    curve
        What `train` keeps in curve.json: an entry a step, with `step`, `loss`, and perhaps `iou_first`, `iou_best`,
        `iou_last` and `validation`.
    path
        The .png to write.

    Raises
    ------
    OSError
        It cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, axes, text in (
        ("loss", left, "loss"),
        ("dense", left, "dense loss"),
        ("iou_first", right, "first prompt"),
        ("iou_best", right, "first prompt, best of three"),
        ("iou_last", right, "last round"),
    ):
        known = [(entry["step"], entry[name]) for entry in curve if name in entry]
        if known:
            steps, values = np.array(known).T
            axes.plot(steps, _smooth(values), label=text, linewidth=1.2)
    checks = [(entry["step"], entry["validation"]) for entry in curve if entry.get("validation")]
    if checks:
        steps = np.array([step for step, _ in checks])
        clicks = len(checks[0][1]["miou"])
        for count in sorted({1, 3, clicks} & set(range(1, clicks + 1))):
            values = [mean["miou"][count - 1] for _, mean in checks]
            right.plot(steps, values, "o--", markersize=3, linewidth=0.8, label=f"kept out, {count} click(s)")
    left.set(xlabel="step", ylabel="loss")
    right.set(xlabel="step", ylabel="IoU", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    figure.savefig(path, format="png")


def _smooth(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    width = min(SMOOTHED, max(1, len(values) // 4))
    padded = np.pad(values, (width // 2, width - 1 - width // 2), mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")
