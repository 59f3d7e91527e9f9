"""Take the pictures of the guide to teaching: python tools/teach_pictures.py [--minutes 4]."""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from desk import Desk, save
from PIL import Image
from qtpy.QtCore import Qt
from scipy.ndimage import distance_transform_edt

from napari_sam.evaluation.clicks import next_click
from napari_sam.evaluation.datasets import TargetObject
from napari_sam.evaluation.metrics import iou_of
from napari_sam.samples.cells import CellImage
from napari_sam.samples.cells import cells as computed_cells

IMAGES = Path(__file__).parent.parent / "docs" / "images"
# The corner of the image in which every nucleus is accepted: top, left, bottom, right, in pixels.
CORNER = (0, 0, 330, 330)
# A mask of this IoU is accepted; others are corrected by at most so many clicks.
GOOD, CORRECTIONS = 0.9, 4
GAP = 16


def main() -> None:
    """Write docs/images/teach.png, the window before the lesson, and teach-lesson.png, the panel in it and after it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=4)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        # Or earlier work on the sample would be offered, and the models of one's own.
        os.environ["NAPARI_SAM_CACHE"], os.environ["NAPARI_SAM_MODELS"] = folder, folder
        desk = desk_with_objects()
        desk.mouse = None
        save(desk.picture().crop(desk.part([desk.canvas, desk.widget])), IMAGES / "teach.png")
        save(lesson(desk, minutes), IMAGES / "teach-lesson.png")
        desk.close()


def lesson(desk: Desk, minutes: int) -> Image.Image:
    """Teach, and return the panel while it learns, and beside it the curve and the result."""
    panel, teacher = desk.widget.teaching, desk.controller.teacher
    panel.minutes.setValue(minutes)
    desk.press(panel.teach)
    # Short lessons have no point of the curve between the first and the last one, so the steps tell.
    desk.wait_until(
        lambda: 2 * teacher.progress.get("step", 0) > teacher.progress.get("steps", 0) > 0 or teacher.result
    )
    learning = desk.picture().crop(desk.part([panel]))
    desk.wait_until(lambda: bool(teacher.result) and not panel.stop.isEnabled())
    desk.rest()
    print(teacher.result)
    result = desk.picture().crop(desk.part([panel.curve, panel.result]))
    both = Image.new("RGB", (learning.width + GAP + result.width, max(learning.height, result.height)), "white")
    both.paste(learning, (0, 0))
    both.paste(result, (learning.width + GAP, 0))
    return both


def desk_with_objects(count: int | None = None) -> Desk:
    """Return a window with nuclei of a corner, by default all, that are accepted; the corner is marked as complete."""
    desk = Desk("cells")
    for place in nuclei()[:count]:
        segment(desk, place)
        desk.key(Qt.Key.Key_C)
    desk.key(Qt.Key.Key_4, Qt.KeyboardModifier.AltModifier)
    regions = desk.controller.teacher.complete
    regions.draw()
    top, left, bottom, right = CORNER
    image, layer = desk.controller.session.image, desk.viewer.layers.selection.active
    corners = [(top, left), (top, right), (bottom, right), (bottom, left)]
    index = [0] * (image.ndim - 2)
    layer.add_rectangles(np.array([layer.world_to_data(image.data_to_world([*index, *one])) for one in corners]))
    regions.mark_drawn()
    desk.rest()
    desk.wait_until(lambda: bool(regions.areas) and desk.controller.teacher.material.count.objects > 0)
    return desk


def segment(desk: Desk, place: tuple[float, float]) -> None:
    """Click a nucleus, and correct its mask as a user would."""
    truth, session = cells().truth, desk.controller.session
    target = TargetObject(session.plane, truth == truth[int(place[0]), int(place[1])], None)
    desk.click(place)
    for _ in range(CORRECTIONS):
        mask = session.mask_of(session.drafts.current).to_array(truth.shape)
        if iou_of(mask, target) >= GOOD:
            break
        point, sign = next_click(mask, target)
        desk.click(point, right=sign == 0)


@cache
def cells() -> CellImage:
    """Return the sample, which takes long to compute."""
    return computed_cells()


@cache
def nuclei() -> list[tuple[float, float]]:
    """Return the middle of each nucleus that lies in the corner."""
    truth, (top, left, bottom, right) = cells().truth, CORNER
    inside = truth[top:bottom, left:right]
    whole = np.bincount(truth.ravel())
    found = []
    for label in np.unique(inside[inside > 0]):
        mask = inside == label
        if mask.sum() == whole[label]:
            deepest = np.unravel_index(distance_transform_edt(mask).argmax(), mask.shape)
            found.append((float(deepest[0] + top), float(deepest[1] + left)))
    return found


if __name__ == "__main__":
    main()
