"""Record the animation of the README in a real window: preview, click, accept, keep a draft, undo and redo.

xvfb-run -a -s "-screen 0 1920x1080x24" python tools/make_animation.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from desk import Desk, Place
from PIL import Image
from qtpy.QtCore import Qt

TARGET = Path(__file__).parent.parent / "docs" / "images" / "annotating.gif"
SIZE = (1180, 760)
WIDTH = 900
STEPS = 5
MOVE_MS, LOOK_MS, READ_MS = 60, 350, 900
COINS: list[Place] = [(50.0, 155.0), (46.0, 216.0), (51.0, 274.0)]
BESIDE: Place = (125.0, 102.0)
NEXT: Place = (115.0, 152.0)


class Film:
    """Frames, each with the time that it is shown."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._frames: list[tuple[Image.Image, int]] = []

    def take(self, note: str, milliseconds: int) -> None:
        """Add a picture of the window, shown for some milliseconds."""
        desk = self._desk
        picture = desk.picture(note).crop(desk.part([desk.canvas, desk.widget], 0))
        height = round(picture.height * WIDTH / picture.width)
        self._frames.append((picture.resize((WIDTH, height), Image.Resampling.LANCZOS), milliseconds))

    def move(self, start: Place, end: Place) -> None:
        """Move the mouse from one position to another in steps, and wait for the preview at each."""
        for step in range(1, STEPS + 1):
            share = step / STEPS
            self._desk.move((start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])))
            self._desk.rest()
            self.take("", MOVE_MS)

    def write(self, path: Path) -> None:
        """Write the frames as a looping GIF with one palette."""
        some = [picture for picture, _ in self._frames[:: max(1, len(self._frames) // 12)]]
        sheet = Image.new("RGB", (WIDTH, sum(picture.height for picture in some)))
        for number, picture in enumerate(some):  # A palette for all frames, not only for the last ones.
            sheet.paste(picture, (0, number * picture.height))
        palette = sheet.quantize(192, dither=Image.Dither.NONE)
        pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture, _ in self._frames]
        pictures[0].save(
            path,
            save_all=True,
            append_images=pictures[1:],
            duration=[milliseconds for _, milliseconds in self._frames],
            loop=0,
            optimize=True,
        )


def main() -> None:
    """Write docs/images/annotating.gif, with an empty cache so that no earlier work appears."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NAPARI_SAM_CACHE": folder}
        subprocess.run([sys.executable, __file__, "film"], env=environment, check=True)


def film() -> None:
    """Accept three coins; then keep a draft, start another object, accept both, undo and redo."""
    desk = Desk("coins", SIZE)
    desk.look_at((105.0, 180.0), 2.4)
    shot = Film(desk)
    place: Place = (84.0, 92.0)
    for number, coin in enumerate(COINS):
        shot.move(place, coin)
        shot.take("hover", LOOK_MS if number else READ_MS)
        desk.click(coin)
        shot.take("click", LOOK_MS if number else READ_MS)
        desk.key(Qt.Key.Key_C)
        shot.take("C: accept", LOOK_MS)
        place = coin
    shot.move(place, BESIDE)
    desk.click(BESIDE)
    shot.take("click", LOOK_MS)
    desk.press(desk.widget.prompts.candidates[2])
    shot.take("Tab: the large one", READ_MS)
    desk.key(Qt.Key.Key_O)
    shot.take("O: keep as a draft", READ_MS)
    shot.move(BESIDE, NEXT)
    desk.click(NEXT)
    shot.take("start another", READ_MS)
    desk.key(Qt.Key.Key_C, Qt.KeyboardModifier.AltModifier)
    shot.take("Alt+C: accept both", READ_MS)
    desk.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    shot.take("Ctrl+Z: undo", READ_MS)
    desk.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)
    shot.take("Ctrl+Shift+Z: redo", 2 * READ_MS)
    shot.write(TARGET)
    desk.close()


if __name__ == "__main__":
    film() if sys.argv[1:] == ["film"] else main()
