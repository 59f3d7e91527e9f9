"""Fixtures for the plugin: skipped where napari or a screen is missing, with the reason."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install '.[gui,test]'")

from napari_sam.plugin.controller import Controller
from napari_sam.testing import ImmediateRunner


@pytest.fixture(autouse=True)
def no_journals_of_other_tests(tmp_path, monkeypatch):
    """The same image in another test is no work to be gone on with."""
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def no_preferences_of_the_user(tmp_path, monkeypatch):
    """The plugin's page of napari's preferences is fresh, and kept away from the user's own."""
    import napari.settings

    monkeypatch.setattr(napari.settings, "_PLUGIN_SETTINGS", {})
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))


@pytest.fixture(scope="session")
def coins():
    from skimage.data import coins

    return coins()


@pytest.fixture(scope="session")
def coin_labels(coins):
    """A reference for skimage's coins, by the watershed of scikit-image's own example."""
    from scipy import ndimage
    from skimage.filters import sobel
    from skimage.segmentation import watershed

    markers = np.zeros(coins.shape, np.int32)
    markers[coins < 30] = 1
    markers[coins > 150] = 2
    filled = ndimage.binary_fill_holes(watershed(sobel(coins), markers) == 2)
    return ndimage.label(ndimage.binary_opening(filled, iterations=3))[0]


@pytest.fixture
def notes():
    """What the user was told."""
    return []


@pytest.fixture
def make_controller(notes):
    """Make controllers on viewer models and close them at the end."""
    made = []

    def make(viewer, runner=None):
        controller = Controller(viewer, runner or ImmediateRunner(), notes.append)
        made.append(controller)
        return controller

    yield make
    for controller in made:
        controller.close()


@pytest.fixture
def screen():
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        pytest.skip("needs a screen: run the tests with `make test`, or under xvfb-run")


@pytest.fixture
def qtbot(qapp, request):
    """pytest-qt's own, whose waits last 5 seconds unless they say more: too few for a machine that is busy."""
    from pytestqt.qtbot import QtBot

    from napari_sam.testing.window import ANSWER_WITHIN

    class PatientBot(QtBot):
        def waitUntil(self, condition, *, timeout=ANSWER_WITHIN):
            super().waitUntil(condition, timeout=timeout)

    return PatientBot(request)


@pytest.fixture
def open_window(make_napari_viewer, qtbot):
    from napari_sam.testing.window import Window, flush

    def open_on(image, **kwargs):
        viewer = make_napari_viewer(show=True)
        viewer.window.resize(1200, 800)
        viewer.add_image(image, **kwargs)
        _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
        window = Window(qtbot, viewer, widget)
        shown, canvas = viewer.window._qt_window.windowHandle(), window.canvas
        qtbot.waitUntil(lambda: shown.isExposed() and tuple(viewer.canvas.size) == (canvas.height(), canvas.width()))
        flush()
        viewer.reset_view()
        flush()
        return window

    return open_on


@pytest.fixture
def told(monkeypatch):
    """The notifications that the widget shows."""
    messages = []
    monkeypatch.setattr("napari_sam.plugin.widgets.dock.show_warning", messages.append)
    return messages


@pytest.fixture
def viewer(coins):
    """A viewer model with the coins; a module with a viewer of its own replaces it."""
    from napari.components import ViewerModel

    viewer = ViewerModel()
    viewer.add_image(coins, name="coins")
    return viewer


@pytest.fixture
def controller(viewer, make_controller):
    """A controller that segments the layer of the coins."""
    controller = make_controller(viewer)
    controller.session.set_image(viewer.layers["coins"])
    return controller
