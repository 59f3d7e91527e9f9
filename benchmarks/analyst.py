"""Outline all roofs of a map as an analyst would: a real window, mouse and keys, a stopwatch, and the truth.

    xvfb-run -a python benchmarks/analyst.py MANIFEST --split SPLIT --out FOLDER

A GeoTIFF is made of held-out labeled images. Three roofs are clicked and accepted, and similar ones are found in the
plane. The least certain ones are answered by keys; all above the slider are accepted, and exported as a GeoPackage.
Prints actions, seconds of a person, seconds on the clock and of the processor, and precision, recall and F1 at an IoU
of 0.5 after each step.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from skimage.io import imread

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from desk import Desk
from scipy.ndimage import distance_transform_edt

from napari_sam.evaluation.datasets import read_split
from napari_sam.evaluation.instances import best_match
from napari_sam.exports.exporting import Exported
from napari_sam.exports.options import ExportOptions

# Seconds of a person: to look at an outline and decide, to find and click something, to press a key.
LOOK, CLICK, KEY = 1.2, 2.0, 0.3
EXAMPLES, LEAST_IOU = 3, 0.5
# Meters to a pixel of the images, about that of level 21 of web maps near the equator.
PIXEL, CORNER, SYSTEM = 0.075, (453_000.0, 36_000.0), "EPSG:32636"


def build(manifest: Path, split: Path, subset: str, out: Path) -> NDArray[np.int64]:
    """Write the held-out images of a subset as one GeoTIFF, and return their labels."""
    import rasterio
    from rasterio.transform import from_origin

    kept_out = set(read_split(split))
    rows = [row for row in json.loads(manifest.read_text()) if row.get("subset") == subset and row["image"] in kept_out]
    parts = [[imread(manifest.parent / row[name]) for name in ("image", "mask")] for row in rows]
    side = parts[0][0].shape[0]
    parts = [part for part in parts if part[0].shape[:2] == (side, side)]
    across = math.isqrt(len(parts))
    parts = parts[: across * across]
    pixels = np.zeros((3, across * side, across * side), np.uint8)
    labels = np.zeros(pixels.shape[1:], np.int64)
    for at, (image, mask) in enumerate(parts):
        top, left = at // across * side, at % across * side
        pixels[:, top : top + side, left : left + side] = image[..., :3].transpose(2, 0, 1)
        own = mask.astype(np.int64)
        labels[top : top + side, left : left + side] = np.where(own > 0, own + labels.max(), 0)
    profile = {"driver": "GTiff", "count": 3, "dtype": "uint8", "tiled": True, "photometric": "RGB", "crs": SYSTEM}
    size = {"height": pixels.shape[1], "width": pixels.shape[2]}
    with rasterio.open(out, "w", **profile, **size, transform=from_origin(*CORNER, PIXEL, PIXEL)) as file:
        file.write(pixels)
    return labels


class Analyst:
    """Works in a window, and counts what was done."""

    def __init__(self, desk: Desk, truth: NDArray[np.int64]) -> None:
        self.desk, self.truth = desk, truth
        values, sizes = np.unique(truth[truth > 0], return_counts=True)
        self.areas = dict(zip(values.tolist(), sizes.tolist(), strict=True))
        self.finder = desk.controller.finder
        self.actions, self.human = 0, 0.0
        self.begun, self.used = time.monotonic(), time.process_time()
        self.steps: list[dict[str, object]] = []

    def count(self, seconds: float, actions: int = 1) -> None:
        self.actions += actions
        self.human += seconds

    def key(self, key: Qt.Key, seconds: float = KEY) -> None:
        self.desk.key(key)
        self.desk.wait_until(lambda: not self.desk.controller.session.must_wait)
        self.count(seconds)

    def is_right(self, pixels: NDArray[np.int64]) -> bool:
        return bool(len(pixels)) and best_match(pixels, self.areas)[0] >= LEAST_IOU

    def measured(self, found: list[NDArray[np.int64]]) -> dict[str, float]:
        """Return how good some objects are, of each of which the truth in its pixels is given."""
        matches = [best_match(pixels, self.areas) for pixels in found]
        right = len({label for iou, label in matches if iou >= LEAST_IOU})
        precision, recall = right / max(len(found), 1), right / len(self.areas)
        return {"precision": precision, "recall": recall, "f1": 2 * right / max(len(found) + len(self.areas), 1)}

    def tell(self, what: str) -> None:
        """Print a step, and take a picture."""
        selection, target = self.finder.selection, self.desk.controller.session.target
        if selection.found is not None:
            masks = [selection.found.mask(int(number)) for number in selection.kept]
            found = [self.truth[mask.box.slices][mask.pixels] for mask in masks]
        else:
            labels = np.asarray(target.data)
            found = [self.truth[labels == label] for label in np.unique(labels[labels > 0])]
        step = {
            "step": what,
            "actions": self.actions,
            "user_s": round(self.human, 1),
            "wall_s": round(time.monotonic() - self.begun, 1),
            "processor_s": round(time.process_time() - self.used, 1),
            "objects": len(found),
            **{name: round(value, 3) for name, value in self.measured(found).items()},
        }
        self.steps.append(step)
        print(json.dumps(step), flush=True)

    def click_roofs(self) -> None:
        """Click some roofs of usual size in their middles, and accept each."""
        values = np.array(sorted(self.areas, key=lambda label: self.areas[label]))
        for label in values[len(values) // 2 - 2 :: len(values) // 6][:EXAMPLES]:
            distance = distance_transform_edt(np.pad(self.truth == label, 1))
            row, col = np.unravel_index(int(distance.argmax()), distance.shape)
            self.desk.click((float(row - 1), float(col - 1)))
            self.count(CLICK)
            self.key(Qt.Key.Key_C, LOOK + KEY)

    def find_similar(self) -> None:
        """Select the roofs in the table, and find similar ones in the plane."""
        widget = self.desk.widget
        self.finder.set_where("plane")
        self.count(CLICK)
        widget.objects.table.choose(list(range(1, EXAMPLES + 1)))
        self.count(2 * CLICK, 2)
        widget.objects.menu.find_similar.trigger()
        self.count(2 * CLICK, 2)
        self.desk.wait_until(lambda: not self.finder.search.is_running)
        self.desk.rest()

    def review(self, answers: int) -> None:
        """Answer by the truth whether the outline that is shown is a roof."""
        selection = self.finder.selection
        self.key(Qt.Key.Key_R)
        for _ in range(answers):
            if selection.reviewed is None:
                break
            mask = selection.found.mask(selection.reviewed)
            is_right = self.is_right(self.truth[mask.box.slices][mask.pixels])
            self.key(Qt.Key.Key_Y if is_right else Qt.Key.Key_N, LOOK + KEY)

    def export(self, path: Path) -> Exported:
        """Write the GeoPackage: the button, the format, and the dialog for the file."""
        done: list[Exported] = []
        path.unlink(missing_ok=True)
        self.desk.controller.exporter.export(path, ExportOptions(), done.append)
        self.desk.wait_until(lambda: bool(done))
        self.count(3 * CLICK, 3)
        return done[0]


def main() -> None:
    """Run the job once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--subset", default="oam_buildings_uganda")
    parser.add_argument("--answers", type=int, nargs="*", default=[10, 10])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    image = arguments.out / "roofs.tif"
    truth = build(arguments.manifest, arguments.split, arguments.subset, image)
    desk = Desk(image, size=(1366, 768))
    user = Analyst(desk, truth)
    user.click_roofs()
    user.tell("three clicks")
    user.find_similar()
    user.tell("found")
    desk.picture().save(arguments.out / "found.png")
    for answers in arguments.answers:
        user.review(answers)
        user.tell(f"{answers} answers")
    desk.picture().save(arguments.out / "review.png")
    user.key(Qt.Key.Key_C)
    desk.wait_until(lambda: not user.finder.is_accepting)
    desk.rest()
    user.tell("accepted")
    exported = user.export(arguments.out / "roofs.gpkg")
    user.tell(f"exported {exported.count} objects" if hasattr(exported, "count") else "exported")
    desk.picture().save(arguments.out / "accepted.png")
    if arguments.json:
        figures = {"pixels": list(truth.shape), "roofs": len(user.areas), "steps": user.steps}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    desk.close()


if __name__ == "__main__":
    main()
