"""Measure an organ in a CT as a radiologist would: a real window, mouse and keys, a stopwatch, and the truth.

    xvfb-run -a python benchmarks/radiologist.py CT.nii.gz TRUTH.nii.gz --label 1 --out FOLDER

One click on one slice, Follow, N and a corrected slice, N and a corrected slice, Follow again, 3-D, export as NIfTI.
Prints actions, seconds, the time that the program was busy, and the IoU with the truth after each step.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from desk import Desk, save
from scipy.ndimage import distance_transform_edt

# Seconds of a person: to look at a slice and decide, to click, to press a key.
LOOK, CLICK, KEY = 2.0, 1.5, 0.5
# A correction is at most so many clicks.
MOST_CLICKS = 3


class Radiologist:
    """Works in a window, and counts what was done.

    Parameters
    ----------
    desk
        The window.
    truth
        Shape of the image, bool.
    out
        Folder of the pictures.
    """

    def __init__(self, desk: Desk, truth: np.ndarray, out: Path) -> None:
        self.desk, self.truth, self.out = desk, truth, out
        self.actions, self.human, self.begun = 0, 0.0, time.monotonic()
        self.planes = desk.controller.through_planes

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self.desk.controller.session.target.data) == 1

    @property
    def at(self) -> int:
        return self.desk.controller.session.plane.index[0]

    def count(self, seconds: float) -> None:
        self.actions += 1
        self.human += seconds

    def tell(self, what: str) -> None:
        found = self.labels
        iou = np.count_nonzero(found & self.truth) / np.count_nonzero(found | self.truth)
        wall = time.monotonic() - self.begun
        print(
            f"{what:20} actions {self.actions:2}  user {self.human:5.1f} s  wall {wall:6.1f} s  IoU {iou:.3f}",
            flush=True,
        )
        save(self.desk.picture(), self.out / f"{len(list(self.out.glob('*.png'))):02} {what}.png")

    def go_to(self, at: int) -> None:
        image = self.desk.controller.session.image
        self.desk.viewer.dims.set_point(0, float(image.data_to_world([at, 0, 0])[0]))
        self.desk.rest()
        self.count(LOOK)

    def click(self, mask: np.ndarray, *, right: bool = False) -> None:
        distance = distance_transform_edt(np.pad(mask, 1))
        row, col = np.unravel_index(int(distance.argmax()), distance.shape)
        self.desk.click((float(row - 1), float(col - 1)), right=right)
        self.count(CLICK)

    def key(self, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
        self.desk.key(key, modifier)
        self.desk.wait_until(lambda: not self.desk.controller.session.must_wait)  # The journal is looked for apart.
        self.count(KEY)

    def follow(self) -> None:
        self.key(Qt.Key.Key_F)
        self.desk.wait_until(lambda: not self.planes.following.is_running)
        self.desk.rest()

    def correct(self) -> None:
        """Correct the slice in view: clicks in the middle of the larger error, or take the organ out of it."""
        self.human += LOOK
        truth = self.truth[self.at]
        if not truth.any():
            self.desk.press(self.desk.widget.planes.remove)
            self.count(KEY)
            return
        for _ in range(MOST_CLICKS):
            candidates = self.desk.controller.session.candidates
            session = self.desk.controller.session
            now = self.labels[self.at] if candidates is None else session.mask_of(session.current).to_array(truth.shape)
            if np.count_nonzero(now & truth) / np.count_nonzero(now | truth) > 0.9:
                break
            missed, wrong = truth & ~now, now & ~truth
            self.click(wrong if wrong.sum() > missed.sum() else missed, right=bool(wrong.sum() > missed.sum()))
        self.key(Qt.Key.Key_C)


def main() -> None:
    """Run the job once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ct", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--label", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    desk = Desk(arguments.ct, size=(1366, 768))
    truth = np.equal(np.asarray(nibabel.load(arguments.truth).dataobj).T, arguments.label)
    image = desk.controller.session.image
    assert tuple(image.data.shape) == truth.shape, (image.data.shape, truth.shape)
    user = Radiologist(desk, truth, arguments.out)
    desk.widget.contrast.value = "CT abdomen (soft tissue)"
    user.count(KEY)
    areas = truth.sum((1, 2))
    user.go_to(int(areas.argmax()))
    desk.viewer.reset_view()
    desk.rest()
    user.begun = time.monotonic()
    user.click(truth[user.at])
    save(desk.picture(), arguments.out / "00 click.png")
    user.key(Qt.Key.Key_C)
    assert desk.controller.session.target is not None, desk.controller.session.status
    user.tell("one click")
    user.key(Qt.Key.Key_3, Qt.KeyboardModifier.AltModifier)
    user.follow()
    user.tell("followed")
    for number in (1, 2):
        user.key(Qt.Key.Key_N)
        user.correct()
        user.tell(f"correction {number}")
    user.follow()
    user.tell("followed again")
    desk.press(desk.widget.planes.volume)
    user.count(CLICK)
    QApplication.processEvents()
    user.tell("3-D")
    desk.press(desk.widget.planes.volume)
    user.count(CLICK)
    place = arguments.out / "spleen.nii.gz"
    place.unlink(missing_ok=True)
    desk.viewer.layers.selection = {desk.controller.session.target}
    desk.viewer.layers.save(str(place), selected=True, plugin="napari-sam")  # File > Save selected layers.
    user.count(LOOK + CLICK)
    user.tell("exported")
    written, source = nibabel.load(place), nibabel.load(arguments.ct)
    assert np.allclose(written.affine, source.affine), (written.affine, source.affine)
    assert np.array_equal(np.asarray(written.dataobj).T == 1, user.labels)
    desk.close()


if __name__ == "__main__":
    main()
