"""Take the picture of the guide to the task All: python tools/all_objects_pictures.py."""

from __future__ import annotations

from pathlib import Path

from desk import Desk, save
from qtpy.QtCore import Qt

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main() -> None:
    """Write docs/images/all-objects.png: a field of nuclei with one proposal removed and one in review."""
    desk = Desk("cells")
    finder = desk.controller.finder
    desk.press(desk.widget.tasks.buttons["all"])
    desk.press(desk.widget.proposals.search)
    desk.wait_until(lambda: not finder.search.is_running)
    desk.key(Qt.Key.Key_R)
    desk.viewer.reset_view()
    desk.rest()
    points = finder.selection.found.points
    desk.click(tuple(points[finder.selection.kept[0]]))
    save(desk.picture("click").crop(desk.part([desk.canvas, desk.widget])), IMAGES / "all-objects.png")
    desk.close()


if __name__ == "__main__":
    main()
