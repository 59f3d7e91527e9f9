"""Take the pictures of the guide to finding similar objects: python tools/find_similar_pictures.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from desk import Desk, save
from qtpy.QtCore import Qt

IMAGES = Path(__file__).parent.parent / "docs" / "images"
# The middle of the nucleus that is the example.
EXAMPLE = (300.0, 347.0)
ANSWERS = 1
# The middles of a bright nucleus and of a dim one.
CLASSES = {"bright": (386.0, 179.0), "dim": (406.0, 247.0)}


def main() -> None:
    """Write docs/images/find-similar*.png: nuclei like one of them, during the review, and nuclei of two classes."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAPARI_SAM_CACHE"] = folder  # Or earlier work on the sample would be offered.
        take(IMAGES, (1400, 900))


def take(folder: Path, size: tuple[int, int]) -> None:
    """Work in the window, and write the pictures."""
    desk = Desk("cells", size)
    finder, widget = desk.controller.finder, desk.widget
    desk.click(EXAMPLE)
    desk.key(Qt.Key.Key_C)
    widget.objects.table.choose([1])
    widget.objects.menu.find_similar.trigger()
    desk.wait_until(lambda: not finder.search.is_running)
    desk.viewer.reset_view()
    desk.rest()
    desk.mouse = None
    save(desk.picture().crop(desk.part([desk.canvas, widget])), folder / "find-similar.png")
    desk.key(Qt.Key.Key_R)
    for _ in range(ANSWERS):
        desk.key(Qt.Key.Key_Y)
    save(desk.picture().crop(desk.part([desk.canvas, widget])), folder / "find-similar-review.png")
    finder.discard()
    finder.wanted.set_like("anything")
    desk.press(widget.tasks.buttons["one"])
    widget.objects.table.choose([])  # The class is for the next object, and not for a selected one.
    for name, middle in CLASSES.items():
        desk.type_class(name)
        desk.click(middle)
        desk.key(Qt.Key.Key_C)
    widget.objects.table.choose([2, 3])
    widget.objects.menu.find_similar.trigger()
    desk.wait_until(lambda: not finder.search.is_running)
    desk.viewer.reset_view()
    desk.rest()
    desk.mouse = None
    save(desk.picture().crop(desk.part([desk.canvas, widget])), folder / "find-similar-classes.png")
    desk.close()


if __name__ == "__main__":
    main()
