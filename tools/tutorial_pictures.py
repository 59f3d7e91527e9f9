"""Take the pictures of the tutorial: python tools/tutorial_pictures.py.

The first process ends as a crash does, without closing anything, and the second one resumes its work.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from desk import Desk, Place, save
from PIL import Image
from qtpy.QtCore import Qt

IMAGES = Path(__file__).parent.parent / "docs" / "images"
# A click near the edge of a nucleus, where the mask includes part of another one.
TOUCHING, NEIGHBOUR = (625.0, 536.0), (628.0, 516.0)
NUCLEI = [
    (345.0, 251.0),
    (357.0, 201.0),
    (334.0, 151.0),
    (320.0, 185.0),
    (435.0, 190.0),
    (468.0, 281.0),
    (430.0, 289.0),
]
DIVIDING = (384.0, 179.0)
VIEW: Place = (395.0, 235.0)


def main() -> None:
    """Write docs/images/tutorial-*.png."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAPARI_SAM_CACHE": folder}
        crashed = subprocess.run([sys.executable, __file__, "until the crash"], env=environment)
        assert crashed.returncode == 1, "The first half did not reach its end: see the messages above."
        subprocess.run([sys.executable, __file__, "after the crash"], env=environment, check=True)
        subprocess.run([sys.executable, __file__, "slices"], env=environment, check=True)


def until_the_crash() -> None:
    """Open, hover, click, correct, accept, classify, reopen, undo, and die."""
    desk = Desk("cells")
    save(desk.picture(), IMAGES / "tutorial-open.png")
    desk.look_at(VIEW, 2.6)
    desk.move(NUCLEI[0])
    desk.rest()
    save(_work(desk, "the mouse rests here"), IMAGES / "tutorial-hover.png")
    desk.click(NUCLEI[0])
    save(_work(desk, "click"), IMAGES / "tutorial-click.png")
    desk.key(Qt.Key.Key_C)
    desk.look_at(TOUCHING, 6.0)
    desk.click(TOUCHING)
    before = _canvas(desk, "click")
    desk.click(NEIGHBOUR, right=True)
    _side_by_side([before, _canvas(desk, "right click")], IMAGES / "tutorial-correct.png")
    desk.widget.object_section.expand(animate=False)
    desk.type_class("resting")
    desk.key(Qt.Key.Key_C)
    desk.look_at(VIEW, 2.6)
    for nucleus in NUCLEI[1:]:
        desk.click(nucleus)
        desk.key(Qt.Key.Key_C)
    desk.type_class("bright")
    desk.click(DIVIDING)
    desk.key(Qt.Key.Key_C)
    desk.widget.objects.table.choose([1, 2, 8])
    desk.show(desk.widget.object_section)
    desk.mouse = None
    save(_work(desk), IMAGES / "tutorial-objects.png")
    desk.look_at(TOUCHING, 2.6)
    desk.widget.objects.table.choose([2])
    desk.press(desk.widget.objects.reopen)
    save(_work(desk), IMAGES / "tutorial-reopen.png")
    os._exit(1)


def after_the_crash() -> None:
    """Open the same image again and resume."""
    desk = Desk("cells")
    desk.look_at(VIEW, 2.6)
    before = _offer(desk)
    desk.press(desk.widget.resume)
    assert len(desk.controller.objects.journal.rows) == 9, "Not all objects came back."
    _side_by_side([before, _work(desk)], IMAGES / "tutorial-continue.png", 0.62)
    desk.close()


def slices() -> None:
    """Segment an organ in a slice of the CT."""
    desk = Desk("abdomen")
    desk.viewer.dims.set_current_step(0, 0)
    desk.look_at((84.0, 108.0), 4.4)
    desk.click((105.0, 83.0))
    save(_work(desk, "click"), IMAGES / "tutorial-ct.png")
    desk.close()


def _work(desk: Desk, note: str = "") -> Image.Image:
    """Return a picture of the canvas and the widget."""
    return desk.picture(note).crop(desk.part([desk.canvas, desk.widget]))


def _canvas(desk: Desk, note: str = "") -> Image.Image:
    picture = desk.picture(note).crop(desk.part([desk.canvas], 0))
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((520, 520), Image.Resampling.LANCZOS)


def _offer(desk: Desk) -> Image.Image:
    desk.show(desk.widget.resume)
    return _work(desk)


def _side_by_side(pictures: list[Image.Image], path: Path, scale: float = 1.0) -> None:
    """Write pictures side by side, scaled by a factor."""
    sizes = [(round(one.width * scale), round(one.height * scale)) for one in pictures]
    together = Image.new("RGB", (sum(w for w, _ in sizes) + 8 * (len(sizes) - 1), max(h for _, h in sizes)), "white")
    left = 0
    for picture, size in zip(pictures, sizes, strict=True):
        together.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, 0))
        left += size[0] + 8
    save(together, path)


if __name__ == "__main__":
    {"until the crash": until_the_crash, "after the crash": after_the_crash, "slices": slices}.get(
        sys.argv[1] if len(sys.argv) > 1 else "", main
    )()
