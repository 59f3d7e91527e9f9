"""Annotating in a real napari window, by real mouse and key events, until the process is killed.

python -m tests.plugin.real_napari FOLDER KIND SEED

KIND is "memory" (a photograph, labels in memory) or "pyramid" (a stack, labels on disk in FOLDER). Work that was left
is continued. After each finished operation, one line on stdout says what must be there from now on, whatever happens.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np

from napari_sam.plugin.objects.files import use_label_file
from napari_sam.testing import TIMEOUT

SAYS = "There must be: "
KINDS = ("memory", "pyramid")
# Middles of coins in scikit-image's photograph.
COINS = [(51, 155), (56, 99), (124, 205), (193, 212), (52, 217), (124, 105), (128, 154), (192, 280), (56, 38)]


def image_of(kind):
    """The photograph, or a small stack of it."""
    from skimage.data import coins

    return np.stack([coins(), coins()[::-1].copy(), coins()[:, ::-1].copy()]) if kind == "pyramid" else coins()


def pyramid_of(folder, kind):
    """Where the labels are, None for those in memory."""
    return folder / "labels.ome.zarr" if kind in ("pyramid", "close") else None


def digest(labels):
    """What stands for all bytes of labels."""
    return hashlib.sha256(str(labels.dtype).encode() + np.ascontiguousarray(labels).tobytes()).hexdigest()


class Patience:
    """The one thing of pytest-qt's bot that `Window` needs."""

    def waitUntil(self, condition, *, timeout=1000 * TIMEOUT):
        from qtpy.QtTest import QTest

        end = time.monotonic() + timeout / 1000
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("The plugin gave no answer.")
            QTest.qWait(5)


class Annotator:
    """Does at random what a user does."""

    def __init__(self, folder, kind, seed):
        import napari

        from napari_sam.testing.window import Window

        self.rng = np.random.default_rng(seed)
        viewer = napari.Viewer(show=True)
        viewer.window.resize(1100, 800)
        viewer.add_image(image_of(kind), name="image", contrast_limits=(0, 255))
        _, self.widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
        self.window = Window(Patience(), viewer, self.widget)
        self.viewer, self.controller = viewer, self.widget.controller
        self.labels_path = pyramid_of(folder, kind)

    # -- what is there -------------------------------------------------------------------------------------------------

    def labels(self):
        from napari_sam.plugin.layers import labels as labels_layer

        pyramid = labels_layer.pyramid_of(self.controller.session.target)
        return np.asarray(
            self.controller.session.target.data if pyramid is None else pyramid[(slice(None),) * pyramid.ndim]
        )

    def plane(self):
        return () if self.viewer.dims.ndim == 2 else (int(self.viewer.dims.current_step[0]),)

    def forget_object(self):
        """Wait until all that was asked for is done."""
        kept = self.controller.objects.journal
        self.window.wait()
        self.window.qtbot.waitUntil(lambda: kept is None or not kept.is_busy)

    def report(self, what):
        """Say what is there."""
        kept = self.controller.objects.journal
        if kept is None:
            return
        line = {"what": what, "number": kept.journal._history.number, "digest": digest(self.labels())}
        sys.stdout.write(f"{SAYS}{json.dumps(line)}\n")
        sys.stdout.flush()

    # -- what is done --------------------------------------------------------------------------------------------------

    def begin(self):
        """Continue what was left, as a user does."""
        controller, until = self.controller, self.window.qtbot.waitUntil
        self.viewer.reset_view()
        until(lambda: not controller.session.is_warming)
        if self.labels_path is not None:
            use_label_file(controller.session, controller.preview.layers, self.labels_path)
            until(lambda: not self.widget._runner.busy)
        elif controller.objects.offer is not None:
            self.widget.resume.click()
            until(lambda: controller.session.target is not None and controller.objects.journal is not None)
        self.widget.overlap.value = "overwrite"
        self.report("begin")

    def work(self):
        """Do one thing after the other, for ever."""
        some = {"accept": 5, "box": 1, "hurry": 1, "correct": 2, "reopen": 1, "delete": 2, "undo": 3, "redo": 2}
        names = [name for name, count in some.items() for _ in range(count)]
        while True:
            what = str(self.rng.choice(names))
            rows = self.controller.objects.rows
            if len(rows) < 3 and what in ("correct", "reopen", "delete", "undo"):
                what = "accept"
            getattr(self, what)()
            self.forget_object()
            self.clear()
            self.report(what)

    def clear(self):
        """Leave no prompts, where a mask could not be accepted."""
        from qtpy.QtCore import Qt

        controller = self.controller
        drawn = [
            len(layer.data) for layer in (controller.prompts.points, controller.prompts.shapes) if layer is not None
        ]
        if controller.session.candidates is not None or controller.session.current.replaces is not None or any(drawn):
            self.window.key(Qt.Key.Key_C, Qt.KeyboardModifier.ShiftModifier)

    def place(self):
        """A place on a coin, in some plane."""
        if self.viewer.dims.ndim == 3:
            self.viewer.dims.set_point(0, int(self.rng.integers(3)))
        row, col = COINS[self.rng.integers(len(COINS))] + self.rng.integers(-6, 7, 2)
        at = self.plane()
        if at == (1,):
            row = 302 - row
        elif at == (2,):
            col = 383 - col
        return (*at, int(row), int(col))

    def accept(self):
        """Click, perhaps click beside it, perhaps take another candidate, and accept."""
        from qtpy.QtCore import Qt

        window, place = self.window, self.place()
        if self.rng.random() < 0.5:
            window.hover(place)
        window.press(place)
        if self.rng.random() < 0.3:
            window.press((*place[:-1], place[-1] + 30), Qt.MouseButton.RightButton)
        if self.rng.random() < 0.3:
            window.key(Qt.Key.Key_N)
        window.key(Qt.Key.Key_C)

    def hurry(self):
        """Accept before the answer is there."""
        from qtpy.QtCore import Qt
        from qtpy.QtTest import QTest

        place = self.window.pixel(self.place())
        QTest.mouseMove(self.window.canvas, place)
        QTest.mouseClick(self.window.canvas, Qt.MouseButton.LeftButton, pos=place)
        QTest.keyClick(self.window.canvas, Qt.Key.Key_C)
        QTest.qWait(30)

    def box(self):
        """Draw a box and accept."""
        from qtpy.QtCore import Qt

        *at, row, col = self.place()
        self.controller.editing.activate("box")
        self.window.drag((*at, row - 26, col - 26), (*at, row + 26, col + 26))
        self.window.key(Qt.Key.Key_C)
        self.controller.editing.activate("points")

    def correct(self):
        """Ctrl+click on an object, one more point, and accept."""
        from qtpy.QtCore import Qt

        spots = np.argwhere(self.labels()[self.plane()])
        if len(spots) == 0:
            return
        place = (*self.plane(), *spots[self.rng.integers(len(spots))])
        self.window.press(place, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.ControlModifier)
        self.window.qtbot.waitUntil(lambda: self.controller.session.current.replaces is not None)
        self.window.wait()
        self.window.press((*place[:-2], place[-2] + 4, place[-1] + 4))
        self.window.key(Qt.Key.Key_C)

    def reopen(self):
        """Take up an object of the table, one more point, and accept."""
        from qtpy.QtCore import Qt

        found = self.some_object()
        self.controller.editing.reopen(found.label)
        self.window.wait()
        row, col = found.box.center
        self.window.press((*self.plane(), row, col))
        self.window.key(Qt.Key.Key_C)
        self.forget_object()
        self.viewer.reset_view()

    def delete(self):
        self.controller.objects.delete([self.some_object().label])

    def undo(self):
        from qtpy.QtCore import Qt

        self.window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)

    def redo(self):
        from qtpy.QtCore import Qt

        self.window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.ShiftModifier)

    def some_object(self):
        rows = self.controller.objects.rows
        return rows[self.rng.integers(len(rows))]


def close_in_mid_encode(annotator):
    """Accept an object, and another one while something is encoded; close the window, then let the encoder go on."""
    from qtpy.QtCore import Qt
    from qtpy.QtTest import QTest

    from napari_sam.models.compact.predictor import CompactPredictor

    window, encode = annotator.window, CompactPredictor.encode
    held, may_end = threading.Event(), threading.Event()

    def slow(predictor, tiles):
        held.set()
        assert may_end.wait(TIMEOUT)
        return encode(predictor, tiles)

    window.press(COINS[0])
    window.key(Qt.Key.Key_C)
    annotator.forget_object()
    window.press(COINS[1])
    CompactPredictor.encode = slow
    annotator.viewer.scene.camera.zoom *= 4  # Other tiles are in view now.
    window.qtbot.waitUntil(held.is_set)
    QTest.keyClick(window.canvas, Qt.Key.Key_C)
    waiting = len(annotator.widget._runner._writes)
    threading.Timer(0.5, may_end.set).start()
    annotator.viewer.window._qt_window.close()
    return waiting


def is_free(folder):
    """Whether another window of this process can go on with the labels."""
    from napari_sam.errors import OutputError
    from napari_sam.journal.discovery import journal_beside
    from napari_sam.journal.journal import Journal

    try:
        Journal(journal_beside(pyramid_of(folder, "close"))).close()
    except OutputError:
        return False
    return True


def main(folder, kind, seed):
    """Work in napari's own event loop until the process is killed, or the window is closed for the kind "close"."""
    import napari
    from qtpy.QtCore import QTimer

    annotator, waiting = Annotator(folder, kind, seed), []

    def play():
        try:
            annotator.begin()
            if kind == "close":
                waiting.append(close_in_mid_encode(annotator))
            else:
                annotator.work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)

    QTimer.singleShot(0, play)
    napari.run()
    sys.stdout.write(json.dumps({"waiting": waiting[0], "journal is free": is_free(folder)}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
