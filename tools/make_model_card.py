"""Make what the model card shows: its table from evaluation results, and pictures of good and bad masks.

The pictures are of public images that scikit-image brings, none of which was trained on. Run `make model-card`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from skimage import data
from skimage.segmentation import find_boundaries

from napari_sam import Segmenter

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "compact.json"
CARD = HERE / "model_card.md"
PICTURE = HERE / "images" / "model-card.png"
MARGIN = 0.6

KINDS = {
    "amazon_forest_s2": "forest, satellite",
    "axondeepseg_sem": "axons, electron microscopy",
    "busi_breast_ultrasound": "tumours, ultrasound",
    "coco_natural": "photographs",
    "dsb2018_nuclei": "nuclei, fluorescence, H&E, bright field",
    "fives_retina": "vessels, fundus photographs",
    "flood_area": "flood water, from the air",
    "isic_skin": "skin lesions",
    "msd_hippocampus_mri": "hippocampus, MRI",
    "msd_spleen_ct_slices": "spleen, CT",
    "oam_buildings_uganda": "buildings, from the air",
    "qcanet_embryo_nuclei": "embryo nuclei, fluorescence volume",
    "sct_spinalcord_mri": "spinal cord, MRI",
    "solar_panels": "solar panels, from the air",
    "usiigaci_phase": "cells, phase contrast",
}


@dataclass(frozen=True)
class Shot:
    """One picture: an image, clicks on (1) and off (0) the object, and what it shows."""

    title: str
    image: Any
    points: tuple[tuple[int, int], ...]
    labels: tuple[int, ...] = (1,)


def shots() -> list[Shot]:
    """Return the pictures, good ones first; where they fail was seen, not chosen beforehand."""
    ihc, retina = data.immunohistochemistry(), data.retina()
    return [
        Shot("coin, 1 click", data.coins(), ((127, 153),)),
        Shot("cell, 1 click", data.cell(), ((374, 428),)),
        Shot("cup, 1 click", data.coffee(), ((200, 300),)),
        Shot("optic disc, 1 click", retina, ((653, 194),)),
        Shot("galaxy, 1 click", data.hubble_deep_field(), ((300, 350),)),
        Shot("stained gland, 1 click", ihc, ((190, 331),)),
        Shot("vessels, 1 click", retina, ((460, 870),)),
        Shot("cat, 1 click", data.chelsea(), ((180, 220),)),
        Shot("cat, 3 clicks", data.chelsea(), ((180, 220), (80, 130), (250, 60)), (1, 1, 1)),
        Shot("astronaut, 1 click", data.astronaut(), ((380, 220),)),
    ]


def picture() -> None:
    """Draw every shot with its mask's border and the clicks."""
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


def rows(results: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| subset | objects | 1 click | best of 3 | 3 clicks | 8 clicks | box | flood | random walker |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    classical = results["baselines"]
    for name, row in [*results["subsets"].items(), ("mean", results["mean"])]:
        clicks = [row["miou"][0], row["best_of_3"], row["miou"][2], row["miou"][7], row["box_miou"]]
        beside = classical["subsets"].get(name, classical["mean"])
        figures = [f"{value:.2f}" for value in [*clicks, beside["flood_miou"], beside["walker_miou"]]]
        if name == "mean":
            name, figures = "**mean of the subsets**", [f"**{figure}**" for figure in figures]
        else:
            name = f"{KINDS.get(name, name)} (`{name}`)"
        lines.append(f"| {name} | {row['n']} | " + " | ".join(figures) + " |")
    return lines


def main() -> None:
    """Write the table into the card, and the picture."""
    results = json.loads(RESULTS.read_text())
    table = "\n".join(rows(results))
    text = CARD.read_text()
    CARD.write_text(re.sub(r"(<!-- table -->\n).*?(\n<!-- end -->)", rf"\g<1>{table}\g<2>", text, flags=re.DOTALL))
    picture()


if __name__ == "__main__":
    main()
