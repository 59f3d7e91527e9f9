"""Take the pictures of the guide to volumes: python tools/through_planes_pictures.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from desk import Desk, save
from qtpy.QtCore import Qt

IMAGES = Path(__file__).parent.parent / "docs" / "images"
# The middle of the organ, and the slice where it is clear.
SLICE, MIDDLE = 12, (105.0, 83.0)


def main() -> None:
    """Write docs/images/through-planes*.png: an organ of the CT, followed and then shown in 3-D."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"] = folder  # Or earlier work on the sample would be offered.
        take()


def take() -> None:
    """Work in the window, and write the pictures."""
    desk = Desk("abdomen")
    planes = desk.controller.through_planes
    desk.viewer.dims.set_current_step(0, SLICE)
    desk.rest()
    desk.click(MIDDLE)
    desk.key(Qt.Key.Key_C)
    desk.key(Qt.Key.Key_3, Qt.KeyboardModifier.AltModifier)
    desk.press(desk.widget.planes.follow)
    desk.wait_until(lambda: not planes.following.is_running)
    desk.key(Qt.Key.Key_N)
    desk.rest()
    save(desk.picture().crop(desk.part([desk.canvas, desk.widget])), IMAGES / "through-planes.png")
    desk.mouse = None
    desk.press(desk.widget.planes.volume)
    save(desk.picture().crop(desk.part([desk.canvas])), IMAGES / "through-planes-3d.png")
    desk.close()


if __name__ == "__main__":
    main()
