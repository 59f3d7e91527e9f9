"""Windows and widgets that are closed while something is under way, two at once, and layers that come and go.

Whatever is closed is gone: no thread goes on, nothing keeps the viewer, the widget or the controller alive, and what
was accepted is on the disk. napari's own checks for leaked windows are on.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QWidget

from napari_sam.journal.journal import Journal, open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.plugin.workers import runner as workers
from napari_sam.plugin.workers.runner import LatestRunner, Work
from napari_sam.testing import TIMEOUT
from napari_sam.testing.window import ANSWER_WITHIN, Window, flush

pytestmark = pytest.mark.usefixtures("screen", "nothing_left")

ROOT = Path(__file__).parents[2]
COIN, NEIGHBOUR, THIRD, FOURTH = (51, 155), (56, 99), (124, 205), (193, 212)


@pytest.fixture
def nothing_left(monkeypatch, qtbot):
    """No thread is left when a test is through, and napari looks for windows that are."""
    monkeypatch.setenv("NAPARI_STRICT_QT", "raise")
    before = our_threads()
    yield
    qtbot.waitUntil(lambda: workers._THREADS._count == 0)
    assert our_threads() <= before
    assert gc.isenabled()


def our_threads():
    """All threads but those of Qt's pool, which Python knows as dummies for ever, and zarr's, which never end."""
    return {each for each in threading.enumerate() if not each.name.startswith(("Dummy", "zarr", "asyncio"))}


def pool_is_idle(qtbot):
    """Let all jobs end, and tell of it whoever is still there."""
    pool = QThreadPool.globalInstance()
    qtbot.waitUntil(lambda: pool.activeThreadCount() == workers._THREADS._count == 0)


class Gate:
    """Lets the encoder of every window through, or holds it."""

    def __init__(self, monkeypatch):
        from napari_sam.models.compact.predictor import CompactPredictor

        self.is_open, self.held, self.passed = threading.Event(), threading.Event(), 0
        self.is_open.set()
        encode = CompactPredictor.encode

        def gated(predictor, tiles):
            if not self.is_open.is_set():
                self.held.set()
                assert self.is_open.wait(TIMEOUT)
            self.passed += 1
            return encode(predictor, tiles)

        monkeypatch.setattr(CompactPredictor, "encode", gated)

    def hold(self, window):
        """Hold the encoder in the middle of an encode of this window."""
        self.is_open.clear()
        self.held.clear()
        low, high = window.controller.session.image.contrast_limits
        window.controller.session.image.contrast_limits = (low, high + 1)  # All is to be encoded anew.
        window.viewer.scene.camera.zoom *= 1.01
        window.qtbot.waitUntil(self.held.is_set)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(monkeypatch)
    yield gate
    gate.is_open.set()


def ready(window):
    window.wait_ready()
    return window


def parts(window):
    """The widget and what hangs on it, to see whether it is gone."""
    controller = window.controller
    return {
        "widget": weakref.ref(window.widget),
        "controller": weakref.ref(controller),
        "runner": weakref.ref(window.widget._runner),
        "segmenter": weakref.ref(controller.jobs.segmenter),
        "points": weakref.ref(controller.prompts.points),
    }


def assert_gone(qtbot, **refs):
    """Wait until nothing keeps these any more."""

    pool_is_idle(qtbot)

    def all_are_gone():
        flush()
        gc.collect()  # What was destroyed lets go of more.
        assert [name for name, ref in refs.items() if ref() is not None] == []

    qtbot.waitUntil(all_are_gone)


def accept(window, place):
    window.click(place)
    window.key(Qt.Key.Key_C)


def close_dock(window, how):
    if how == "button":
        window.widget.parent().title.close_button.click()
    else:
        window.viewer.window.remove_dock_widget(window.widget)
    flush()


def test_two_viewers_work_in_turns_on_images_of_their_own(open_window, coins, qtbot):
    first, second = open_window(coins, name="one"), open_window(coins[::-1].copy(), name="two")
    height = coins.shape[0] - 1
    for place in (COIN, NEIGHBOUR):
        accept(first, place)
        accept(second, (height - place[0], place[1]))
    first.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    labels = [window.controller.session.target.data for window in (first, second)]
    assert [np.unique(each).tolist() for each in labels] == [[0, 1], [0, 1, 2]]
    assert labels[0][COIN] == labels[1][height - COIN[0], COIN[1]] == 1
    journals = [window.controller.objects.journal.journal for window in (first, second)]
    assert journals[0].folder != journals[1].folder
    refs = [{"viewer": weakref.ref(window.viewer), **parts(window)} for window in (first, second)]
    # Both: when Python destroys what one closed window drew with, napari's other windows cannot draw any more.
    first.viewer.close()
    second.viewer.close()
    del first, second, labels, journals
    for gone in refs:
        assert_gone(qtbot, **gone)


@pytest.mark.parametrize("how", ["button", "program"])
def test_the_widget_is_closed_in_mid_encode_and_opened_again(open_window, coins, gate, qtbot, how):
    window = ready(open_window(coins, name="coins"))
    accept(window, COIN)
    gone, viewer = parts(window), window.viewer
    gate.hold(window)
    close_dock(window, how)
    del window
    assert [layer.name for layer in viewer.layers] == ["coins", "SAM labels"]
    _, again = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    passed = gate.passed
    gate.is_open.set()
    assert_gone(qtbot, **gone)
    window = ready(Window(qtbot, viewer, again))
    window.widget.output.value = viewer.layers["SAM labels"]
    accept(window, NEIGHBOUR)
    assert gate.passed > passed
    assert np.unique(viewer.layers["SAM labels"].data).tolist() == [0, 1, 2]
    assert sorted(row.label for row in window.controller.objects.rows) == [1, 2]


def test_the_viewer_is_closed_in_mid_encode(open_window, coins, gate, qtbot):
    window = ready(open_window(coins, name="coins"))
    accept(window, COIN)
    folder = window.controller.objects.journal.journal.folder
    gone, viewer = parts(window), window.viewer
    gate.hold(window)
    viewer.close()
    flush()
    gate.is_open.set()
    viewer = weakref.ref(viewer)
    del window
    assert_gone(qtbot, viewer=viewer, **gone)
    with Journal(folder) as journal:  # Nobody has it open.
        assert [row.label for row in journal.objects] == [1]


@pytest.mark.parametrize("how", ["viewer", "dock"])
def test_writes_that_wait_reach_the_disk_when_the_window_is_closed(open_window, coins, gate, qtbot, tmp_path, how):
    window = ready(open_window(coins, name="coins"))
    path = tmp_path / "labels.ome.zarr"
    use_label_file(window.controller.session, window.controller.preview.layers, path)
    accept(window, COIN)
    window.click(NEIGHBOUR)
    mask = window.controller.session.candidates[window.controller.session.current.selected]
    held = Held(window.widget._runner, qtbot)
    QTest.keyClick(window.canvas, Qt.Key.Key_C)
    assert len(window.widget._runner._writes) == 1
    gone, viewer = parts(window), window.viewer
    if how == "viewer":
        viewer.close()
    else:
        close_dock(window, "program")
    del window
    held.release()
    pool_is_idle(qtbot)
    labels = np.asarray(LabelPyramid.open(path)[:, :])
    np.testing.assert_array_equal(labels == 2, mask.to_array(labels.shape) & (labels != 1))
    assert [row.label for row in open_journal(path).objects] == [1, 2]
    assert_gone(qtbot, **gone)
    Journal(path.with_name(f"{path.name}.journal")).close()


class Held:
    """A job that runs until it is released."""

    def __init__(self, runner, qtbot):
        self._gate, begun = threading.Event(), threading.Event()

        def job(_):
            begun.set()
            assert self._gate.wait(TIMEOUT)

        runner.submit_write(Work(job, lambda _: None, lambda _: None))
        qtbot.waitUntil(begun.is_set)

    def release(self):
        self._gate.set()


def test_the_process_ends_when_napari_is_closed_in_mid_encode_with_writes_waiting(tmp_path):
    """As `napari` on the command line: its own event loop, the window's own button."""
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.plugin.real_napari", str(tmp_path), "close", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(tmp_path / "config")}
    ended = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said == {"waiting": 1, "journal is free": True}
    path = tmp_path / "labels.ome.zarr"
    assert [row.label for row in open_journal(path).objects] == [1, 2]
    assert np.unique(np.asarray(LabelPyramid.open(path)[:, :])).tolist() == [0, 1, 2]


def test_layers_are_renamed_moved_deleted_and_replaced_while_the_widget_works(open_window, coins, gate, qtbot, told):
    window = ready(open_window(coins, name="coins"))
    viewer, controller = window.viewer, window.controller
    accept(window, COIN)
    first = controller.session.target
    gate.hold(window)
    viewer.layers["coins"].name = "renamed"
    first.name = "mine"
    viewer.layers.move(0, len(viewer.layers))
    viewer.layers.move(len(viewer.layers) - 1, 0)
    for layer in (controller.preview.layers.current, controller.prompts.points):
        if layer is not None:
            viewer.layers.remove(layer)
    gate.is_open.set()
    qtbot.waitUntil(lambda: not controller.session.is_busy)
    controller.editing.activate("points")
    accept(ready(window), NEIGHBOUR)
    assert controller.session.target is first
    assert np.unique(first.data).tolist() == [0, 1, 2]
    first.data = np.where(first.data == 2, 0, first.data)  # Others replace the array.
    accept(window, THIRD)
    assert first.data[THIRD] == first.data.max() > 0
    gate.hold(window)
    window.controller.prompts.points.add(np.array([NEIGHBOUR], float))
    viewer.layers.remove(first)
    viewer.layers.remove("renamed")
    gone = weakref.ref(first)
    del first
    gate.is_open.set()
    qtbot.waitUntil(lambda: not controller.session.is_busy)
    assert controller.session.image is controller.session.target is controller.session.candidates is None
    viewer.add_image(coins, name="again")
    accept(ready(window), FOURTH)  # The earlier ones come back only with *Continue*.
    assert controller.session.target.data[FOURTH] == controller.session.target.data.max() == 1
    assert controller.objects.offer is not None
    assert_gone(qtbot, layer=gone)
    assert told == []


class Owned(QWidget):
    """Of a Python class, which PySide destroys in whatever thread finds it to be garbage."""


def test_what_windows_leave_behind_is_never_destroyed_in_a_thread_of_ours(qtbot):
    where, runner, done = [], LatestRunner(), []
    for _ in range(5):
        widget = Owned()
        widget.itself = widget  # Garbage that only a search for it finds.
        widget.destroyed.connect(
            lambda *_: where.append(threading.current_thread()), Qt.ConnectionType.DirectConnection
        )
    del widget

    def job(_):
        return len([[index] for index in range(200_000)])

    runner.submit(job, done.append, done.append, lambda _: None)
    qtbot.waitUntil(lambda: done != [])
    assert done == [200_000]
    gc.collect()
    assert where == [threading.main_thread()] * 5
    runner.close()


def test_a_runner_that_is_closed_finishes_its_writes_in_order_and_tells_nobody(qtbot):
    runner, written, told = LatestRunner(), [], []
    held = Held(runner, qtbot)
    for index in range(5):
        runner.submit_write(Work(lambda _, index=index: written.append(index), told.append, told.append))
    runner.submit(lambda _: written.append("request"), told.append, told.append, told.append)
    runner.close()
    assert written == []
    held.release()
    assert QThreadPool.globalInstance().waitForDone(ANSWER_WITHIN)
    assert written == [0, 1, 2, 3, 4]
    flush()
    assert told == []


def test_a_runner_that_is_closed_before_it_knows_of_a_jobs_end_finishes_its_writes(qtbot, caplog):
    runner, written = LatestRunner(), []
    runner.submit_write(Work(lambda _: None, written.append, written.append))
    assert QThreadPool.globalInstance().waitForDone(ANSWER_WITHIN)  # And the GUI thread was not told yet.
    runner.submit_write(Work(lambda _: 1 / 0, written.append, written.append))
    runner.submit_write(Work(lambda _: written.append("after it"), written.append, written.append))
    runner.close()
    assert QThreadPool.globalInstance().waitForDone(ANSWER_WITHIN)
    flush()
    assert written == ["after it"]
    assert "could not be written after its window was closed: division by zero" in caplog.text
