"""Find similar in a real window: all coins from one of them, reviewed by keys, saved, and found by the file."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QFileDialog, QScrollArea
from tests.word_search.models import DiscDetector

from napari_sam.models.open_vocabulary import loading
from napari_sam.plugin.widgets.tasks.like_row import FROM_FILE, NOT_LEARNED
from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

COIN, NEIGHBOUR = (51, 155), (56, 99)
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def window(open_window, coins, told):
    window = open_window(coins, name="coins")
    window.wait_ready()
    return window


def coins_of(labels, coin_labels):
    """Return the coins of which at least half is in some label."""
    numbers, sizes = np.unique(coin_labels[coin_labels > 0], return_counts=True)
    inside = np.array([np.count_nonzero(labels[coin_labels == number]) for number in numbers])
    return numbers[inside > sizes / 2]


def wait(window):
    window.wait_until(lambda: not window.controller.finder.search.is_running)
    flush()


def choose(row, text):
    """Choose an entry as the user does."""
    at = next(at for at in range(row.like.count()) if row.like.itemText(at) == text)
    row.like.setCurrentIndex(at)
    row.like.activated.emit(at)


def test_all_coins_are_found_from_one_reviewed_saved_and_found_by_the_file(
    window, coin_labels, told, tmp_path, monkeypatch
):
    widget, controller = window.widget, window.controller
    window.viewer.window._qt_window.resize(1366, 768)
    panel, selection = widget.proposals, controller.finder.selection
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    window.wait_until(lambda: len(controller.objects.rows) == 1)
    widget.objects.table.choose([1])
    widget.objects.menu.refresh()
    assert widget.objects.menu.find_similar.isEnabled()
    assert panel.wanted.save.toolTip() == NOT_LEARNED
    widget.objects.menu.find_similar.trigger()
    wait(window)

    assert controller.session.task == "all"
    assert panel.names[panel.confidence].text() == "Likeness"
    assert panel.confidence.value() == round(100 * selection.options.confidence)
    assert panel.wanted.like.currentText() == "the selected objects"
    low, high = panel.sizes.value()
    assert 0 < low < high
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()

    before = selection.found.scores.copy()
    window.key(Qt.Key.Key_R)
    first = selection.reviewed
    window.key(Qt.Key.Key_N)
    assert first in selection.removed
    assert selection.reviewed != first
    assert np.abs(selection.found.scores - before).max() > 0
    window.key(Qt.Key.Key_Z, CTRL)
    np.testing.assert_allclose(selection.found.scores, before, atol=1e-6)
    assert selection.reviewed == first
    window.key(Qt.Key.Key_Escape)

    path = tmp_path / "coins.sam"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path.with_suffix("")), ""))
    QTest.mouseClick(panel.wanted.save, Qt.MouseButton.LeftButton)
    assert path.is_file()

    window.key(Qt.Key.Key_C)
    window.wait_until(lambda: len(controller.objects.rows) > 1)
    found = coins_of(np.asarray(controller.session.target.data), coin_labels)
    assert len(found) >= 16

    window.key(Qt.Key.Key_Z, CTRL)
    window.wait_until(lambda: len(controller.objects.rows) == 1)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(path), ""))
    choose(panel.wanted, FROM_FILE)
    assert panel.wanted.like.currentText() == "learned: coins.sam"
    QTest.mouseClick(panel.search, Qt.MouseButton.LeftButton)
    wait(window)
    window.key(Qt.Key.Key_C)
    window.wait_until(lambda: len(controller.objects.rows) > 1)
    again = coins_of(np.asarray(controller.session.target.data), coin_labels)
    np.testing.assert_array_equal(again, found)
    assert told == []


def test_what_is_under_the_mouse_is_an_example_and_anything_comes_back(window):
    widget, controller = window.widget, window.controller
    selection = controller.finder.selection
    widget.tasks.buttons["all"].click()
    QTest.mouseClick(widget.proposals.search, Qt.MouseButton.LeftButton)
    wait(window)
    everything = sorted(selection.kept)
    confidence = widget.proposals.confidence.value()
    window.move(NEIGHBOUR)
    window.key(Qt.Key.Key_F, SHIFT)
    wait(window)
    assert selection.similar is not None
    number = selection.at(controller.session.plane, *NEIGHBOUR)
    assert number in selection.kept
    assert selection.found.scores[number] > np.median(selection.found.scores)
    choose(widget.proposals.wanted, "anything")
    wait(window)
    assert sorted(selection.kept) == everything
    assert widget.proposals.confidence.value() == confidence
    assert widget.proposals.names[widget.proposals.confidence].text() == "Confidence"


def test_words_say_what_they_need_and_are_found_by_a_model_that_was_put_into_its_folder(
    window, told, tmp_path, monkeypatch
):
    """At 1280 x 800 all of it is in view, also the legend of classes."""
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    monkeypatch.setattr(loading, "load_detector", lambda *_: DiscDetector())
    widget, finder = window.widget, window.controller.finder
    window.viewer.window._qt_window.resize(1280, 800)
    widget.tasks.buttons["all"].click()
    row = widget.proposals.wanted
    assert row.named.isHidden()
    choose(row, "words")
    flush()
    assert not row.named.isHidden()
    assert not row.words.isEnabled()
    assert str(tmp_path / "owlv2") in row.words.toolTip()
    assert "SAM 3" in widget.proposals.step.toolTip()
    (tmp_path / "owlv2").mkdir()
    (tmp_path / "owlv2" / "model.safetensors").touch()
    choose(row, "anything")
    choose(row, "words")
    assert row.words.isEnabled()
    assert row.by.currentText() == "owlv2"
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    row.words.setFocus()
    QTest.keyClicks(row.words, "disc")
    QTest.keyClick(row.words, Qt.Key.Key_Return)
    wait(window)
    assert finder.wanted.words == "disc"
    assert len(finder.selection.found)
    assert told == []
