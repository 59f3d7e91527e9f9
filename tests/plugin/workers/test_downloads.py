"""A model that is not on this machine: what it is, asked for, fetched with progress, cancelled, failed."""

from __future__ import annotations

import threading

import pytest
from qtpy.QtCore import QObject, QThreadPool

from napari_sam.errors import ModelError
from napari_sam.plugin.workers.downloads import Download
from napari_sam.testing import TIMEOUT
from napari_sam.testing.window import flush
from napari_sam.weights.availability import model_states
from napari_sam.weights.registry import REGISTRY

pytestmark = pytest.mark.usefixtures("screen")
MEGABYTES = 10


class Server:
    """Stands in for the network: gives a file block by block, as long as it is let."""

    def __init__(self):
        self.gate = threading.Event()
        self.error = None
        self.asked = []

    def fetch(self, entry, progress=None):
        if entry.path.exists():
            return entry.path
        self.asked.append(entry.name)
        for block in range(MEGABYTES + 1):
            progress(block * 2**20, MEGABYTES * 2**20)
            if block == MEGABYTES // 2:
                while not self.gate.wait(0.02):
                    progress(block * 2**20, MEGABYTES * 2**20)
                if self.error:
                    raise self.error
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        entry.path.write_bytes(b"weights")
        return entry.path


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("napari_sam.weights.local.fetch", server.fetch)
    yield server
    server.gate.set()


@pytest.fixture
def warned(monkeypatch):
    messages = []
    monkeypatch.setattr("napari_sam.plugin.widgets.model_panel.show_warning", messages.append)
    return messages


def test_states_tell_shipped_from_here_from_what_must_be_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    (tmp_path / "vit_b.pth").write_bytes(b"")
    states = {state.name: state for state in model_states()}
    assert next(iter(states)) == "compact"
    assert [states[name].where for name in ("compact", "vit_b", "vit_h", "sam3")] == [
        "shipped",
        "here",
        "download",
        "by hand",
    ]
    assert states["vit_b"].is_ready
    assert (states["vit_b"].size, states["vit_h"].size) == ("375 MB", "2.6 GB")


def test_nothing_is_downloaded_before_the_button_is_pressed_and_then_the_model_is_used(
    open_window, coins, server, warned
):
    window = open_window(coins, name="coins")
    panel, controller = window.widget.models, window.controller
    assert not panel.isVisible()
    window.widget.model.value = "vit_b"
    assert panel.isVisibleTo(panel.parent())
    assert panel.button.text() == "Download (375 MB)"
    for word in ("375 MB", "Apache-2.0", "compact is used"):
        assert word in panel.text.text()
    assert controller.session.model == "compact"
    assert server.asked == []
    panel.button.click()
    window.qtbot.waitUntil(lambda: panel.button.text() == "Cancel (50%)")
    window.click((51, 155))  # The old model goes on working.
    assert controller.session.candidates is not None
    controller.editing.clear()
    server.gate.set()
    window.qtbot.waitUntil(lambda: panel.download.name is None)
    assert controller.session.model == "vit_b"
    assert not panel.isVisible()
    assert server.asked == ["vit_b"]
    window.widget.model.value = "compact"
    window.qtbot.waitUntil(lambda: not controller.session.is_warming)
    assert warned == []


@pytest.mark.parametrize("how", ["cancelled", "dock", "failed", "broken"])
def test_a_download_that_does_not_end_well_leaves_the_old_model(open_window, coins, server, warned, how):
    window = open_window(coins, name="coins")
    panel, controller = window.widget.models, window.controller
    window.widget.model.value = "vit_b"
    panel.button.click()
    window.qtbot.waitUntil(lambda: panel.button.text() == "Cancel (50%)")
    if how == "cancelled":
        panel.button.click()
    elif how == "dock":
        panel.download._bar.cancel()  # What the button in napari's activity dock does.
    else:
        server.error = ModelError("The server cannot be reached: try again.") if how == "failed" else ValueError("odd")
        server.gate.set()
    window.qtbot.waitUntil(lambda: panel.download.name is None)
    assert panel.button.text() == "Download (375 MB)"
    assert controller.session.model == "compact"
    assert not REGISTRY["vit_b"].path.exists()
    assert len(warned) == (0 if how in ("cancelled", "dock") else 1)
    window.click((51, 155))
    assert controller.session.candidates is not None


def test_a_model_that_no_program_may_fetch_says_how_to_get_it(open_window, coins, server):
    window = open_window(coins, name="coins")
    window.widget.model.value = "sam3"
    assert not window.widget.models.button.isVisible()
    assert "accept the licence" in window.widget.models.text.text()
    window.widget.model.value = "compact"
    assert not window.widget.models.isVisible()
    assert window.controller.session.model == "compact"


def test_closing_in_mid_download_stops_it_and_tells_nobody(qtbot, server):
    told = []
    download = Download(told.append, lambda *why: told.append(why), lambda: None)
    assert isinstance(download, QObject)
    download.start("vit_b", 10)
    qtbot.waitUntil(lambda: server.asked == ["vit_b"])
    download.close()
    assert QThreadPool.globalInstance().waitForDone(1000 * TIMEOUT)
    flush()
    assert told == []
