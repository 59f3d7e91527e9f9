"""What tests of the commands share: prompts on the coins, and checks of outputs and messages."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COIN, OTHER_COIN, BESIDE_THE_COIN = (124, 205), (193, 212), (124, 160)

COIN_BOX = (102, 182, 146, 227)

Run = Callable[..., Any]


def point(at: tuple[int, int], sign: str = "") -> tuple[str, str]:
    return "--point", f"{at[0]},{at[1]}{sign}"


def box(edges: tuple[int, ...]) -> tuple[str, str]:
    return "--box", ",".join(map(str, edges))


def tight_box(pixels: np.ndarray) -> list[int]:
    rows, cols = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return [int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1]


def assert_objects_describe(objects: list[dict[str, Any]], labels: np.ndarray) -> None:
    """Check that the objects of the JSON are those of the label image, one by one."""
    assert [entry["label"] for entry in objects] == [label for label in np.unique(labels) if label]
    for entry in objects:
        pixels = labels == entry["label"]
        assert entry["area"] == np.count_nonzero(pixels)
        assert entry["box"] == tight_box(pixels)
        assert 0 <= entry["iou_prediction"] <= 1
        assert 0 <= entry["stability_score"] <= 1


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_sentence(err: str) -> str:
    """Check that the command said one sentence, and return it."""
    assert "Traceback" not in err
    lines = err.strip().splitlines()
    assert len(lines) == 1, f"more than one line: {err}"
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith((".", "?"))
    assert not re.search(r"[.!?]\s+[A-Z]", lines[0]), f"more than one sentence: {err}"
    return lines[0]


def text_file(folder: Path, name: str) -> Path:
    (folder / name).write_text("This is no image and no model.\n" * 30)
    return folder / name
