"""Draw the pictures of the model card: good and bad masks, each by one click or three.

The images come with scikit-image, and none of them was trained on. Run `make model-card`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from skimage import data
from skimage.segmentation import find_boundaries

from napari_sam import Segmenter

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "model-card.png"
MARGIN = 0.6


@dataclass(frozen=True)
class Shot:
    """One picture: an image and the clicks on the object (1) and off it (0)."""

    title: str
    image: Any
    points: tuple[tuple[int, int], ...]
    labels: tuple[int, ...] = (1,)


def shots() -> list[Shot]:
    """Return the pictures; the objects were chosen before it was known which of them fail."""
    ihc, retina = data.immunohistochemistry(), data.retina()
    return [
        Shot("coin, 1 click", data.coins(), ((127, 153),)),
        Shot("cell, 1 click", data.cell(), ((374, 428),)),
        Shot("cup, 1 click", data.coffee(), ((200, 300),)),
        Shot("optic disc, 1 click", retina, ((653, 194),)),
        Shot("galaxy, 1 click", data.hubble_deep_field(), ((300, 350),)),
        Shot("stained gland, 1 click", ihc, ((190, 331),)),
        Shot("vessels, 1 click", retina, ((436, 943),)),
        Shot("cat, 1 click", data.chelsea(), ((180, 220),)),
        Shot("cat, 3 clicks", data.chelsea(), ((180, 220), (80, 130), (250, 60)), (1, 1, 1)),
        Shot("astronaut, 1 click", data.astronaut(), ((380, 220),)),
    ]


def picture() -> None:
    """Draw every image with the clicks and the border of the mask."""
    chosen = shots()
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    for axes, shot in zip(figure.subplots(2, 5).flat, chosen, strict=True):
        best = Segmenter(shot.image).segment(points=list(shot.points), labels=list(shot.labels)).best
        shape = shot.image.shape[:2]
        mask = best.to_array(shape)
        points = np.array(shot.points)
        rows, cols = (np.append(np.flatnonzero(mask.any(1 - axis)), points[:, axis]) for axis in (0, 1))
        extent = max(np.ptp(rows), np.ptp(cols), 40) * (1 + MARGIN)
        middle = (rows.min() + rows.max()) / 2, (cols.min() + cols.max()) / 2
        shown = shot.image if shot.image.ndim == 3 else np.repeat(shot.image[..., None], 3, axis=-1)
        overlay = shown.astype(float) / 255
        overlay[mask] = 0.6 * overlay[mask] + 0.4 * np.array([0.1, 0.8, 0.9])
        overlay[find_boundaries(mask, mode="inner")] = (0, 1, 1)
        axes.imshow(overlay, interpolation="nearest")
        axes.set(
            xlim=(middle[1] - extent / 2, middle[1] + extent / 2), ylim=(middle[0] + extent / 2, middle[0] - extent / 2)
        )
        for (row, col), label in zip(shot.points, shot.labels, strict=True):
            axes.plot(col, row, "o", color="lime" if label else "red", markeredgecolor="black", markersize=7)
        axes.set_title(f"{shot.title}\npredicted IoU {best.iou_prediction:.2f}", fontsize=9)
        axes.set(xticks=[], yticks=[])
    figure.savefig(PICTURE, dpi=110)


if __name__ == "__main__":
    picture()
