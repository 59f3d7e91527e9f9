"""The tasks in a real window: what stands where, and all coins of an image found, filtered, accepted and undone."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QPushButton, QScrollArea

from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

COIN, NEIGHBOUR = (51, 155), (56, 99)
ALT, CTRL = Qt.KeyboardModifier.AltModifier, Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def window(open_window, coins, told):
    window = open_window(coins, name="coins")
    window.wait_ready()
    return window


def find(window):
    QTest.mouseClick(window.widget.proposals.search, Qt.MouseButton.LeftButton)
    window.wait_until(lambda: not window.controller.finder.search.is_running)
    flush()


def middle_of(window, number):
    found = window.controller.finder.selection.found
    return tuple(float(at) for at in found.points[number])


def places_of(widget):
    """Where everything that is always there lies, and how large it is: x, y, width and height in pixels."""
    task = widget.prompts if widget.tasks.buttons["one"].isChecked() else widget.proposals
    parts = task.accept, widget.object_section, widget.objects.table, widget.objects.reopen, widget.footer.undo
    places = [(part.mapTo(widget, QPoint(0, 0)), part.size()) for part in (widget.tasks, *parts)]
    return np.array([(at.x(), at.y(), size.width(), size.height()) for at, size in places])


def test_all_coins_are_found_filtered_clicked_away_accepted_and_undone(window, coin_labels, told):
    widget, controller = window.widget, window.controller
    widget.tasks.buttons["all"].click()
    selection = controller.finder.selection
    assert not widget.proposals.accept.isEnabled()
    widget.proposals.confidence.setValue(50)
    find(window)
    count = len(selection.kept)
    assert count >= 18
    assert widget.proposals.accept.text().startswith(f"Accept {count}")

    widget.proposals.confidence.setValue(95)
    assert len(selection.kept) < count
    widget.proposals.confidence.setValue(50)
    assert len(selection.kept) == count

    number = selection.at(controller.session.plane, *COIN)
    assert number is not None
    window.press(COIN)
    assert number not in selection.kept
    window.press(COIN)
    assert number in selection.kept
    window.press(NEIGHBOUR)
    assert len(selection.kept) == count - 1

    center, start = window.viewer.scene.camera.center, window.pixel(COIN)
    QTest.mousePress(window.canvas, Qt.MouseButton.LeftButton, pos=start)
    for way in (4, 9, 14, 20):
        QTest.mouseMove(window.canvas, start + QPoint(way, way))
        flush()
    QTest.mouseRelease(window.canvas, Qt.MouseButton.LeftButton, pos=start + QPoint(20, 20))
    flush()
    assert window.viewer.scene.camera.center != center  # It moves the view, and removes nothing.
    assert len(selection.kept) == count - 1
    window.key(Qt.Key.Key_C)
    window.wait_until(lambda: len(controller.objects.rows) == count - 1)
    labels = np.asarray(controller.session.target.data)
    assert labels[COIN] > 0
    assert labels[NEIGHBOUR] == 0
    mine, theirs = labels == labels[COIN], coin_labels == coin_labels[COIN]
    assert np.count_nonzero(mine & theirs) / np.count_nonzero(mine | theirs) > 0.8
    assert widget.objects.model.rowCount() == count - 1

    window.key(Qt.Key.Key_Z, CTRL)
    window.wait_until(lambda: len(controller.objects.rows) == 0)
    assert not np.asarray(controller.session.target.data).any()
    window.key(Qt.Key.Key_1, ALT)
    assert controller.session.task == "one"
    window.click(NEIGHBOUR)
    assert controller.session.candidates is not None
    assert told == []


def test_review_by_keys_and_the_size_of_two_examples(window):
    widget, controller = window.widget, window.controller
    for point in (COIN, NEIGHBOUR):
        window.click(point)
        window.key(Qt.Key.Key_C)
    window.key(Qt.Key.Key_2, ALT)
    assert widget.tasks.buttons["all"].isChecked()
    assert widget.proposals.like.text() == "Size like examples ..."
    widget.objects.table.choose([1, 2])
    assert widget.proposals.like.text() == "Size like the selected objects"
    widget.proposals.like.click()
    low, high = controller.finder.selection.options.sizes
    areas = widget.objects.chosen_areas
    assert low < 2 * (min(areas) / np.pi) ** 0.5 < 2 * (max(areas) / np.pi) ** 0.5 < high < 200
    find(window)
    selection = controller.finder.selection
    scores = selection.found.scores
    count = len(selection.kept)
    window.key(Qt.Key.Key_R)
    first = selection.reviewed
    assert scores[first] == scores[selection.kept].min()
    window.key(Qt.Key.Key_N)
    assert first not in selection.kept
    assert selection.reviewed in selection.kept
    window.key(Qt.Key.Key_Y)
    assert len(selection.kept) == count - 1
    window.key(Qt.Key.Key_Escape)
    assert selection.reviewed is None
    assert controller.session.task == "all"
    window.key(Qt.Key.Key_Escape)
    assert controller.session.task == "one"
    assert len(controller.objects.rows) == 2
    assert len(selection.kept) == count - 1


@pytest.mark.parametrize("task", ["one", "all"])
def test_each_task_fits_a_small_screen_and_nothing_moves(window, task):
    widget = window.widget
    window.viewer.window._qt_window.resize(1366, 768)
    widget.tasks.buttons[task].click()
    flush()
    scroll = widget.findChild(QScrollArea)
    assert scroll.verticalScrollBar().maximum() == 0
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    assert widget.width() <= 350
    before = places_of(widget)
    if task == "one":
        window.click(COIN)
        window.key(Qt.Key.Key_O)
        window.click(NEIGHBOUR)
        window.key(Qt.Key.Key_C, ALT)
    else:
        find(window)
        window.key(Qt.Key.Key_R)
        window.controller.session.set_status("A message of many words that needs more than one line. " * 4)
    flush()
    # napari's status bar is a pixel higher while the activity dock has something to show.
    np.testing.assert_allclose(places_of(widget), before, atol=1)
    window.wait()


def test_every_button_that_cannot_be_pressed_says_why_and_no_text_is_cut(window):
    widget = window.widget
    for task in ("one", "all"):
        widget.tasks.buttons[task].click()
        flush()
        for button in widget.findChildren(QPushButton):
            if button.isVisibleTo(widget):
                assert button.isEnabled() or button.toolTip(), button.text()
                needed = max(button.fontMetrics().horizontalAdvance(line) for line in button.text().split("\n"))
                assert needed <= button.width(), button.text()


def test_the_activity_dock_shows_a_run_on_the_plane_and_cancels_it(open_window, told):
    from napari.utils.progress import progress as every

    image = np.random.default_rng(0).integers(0, 255, (4000, 4000)).astype(np.uint8)
    window = open_window(image, name="large", contrast_limits=(0, 255))
    widget, finder = window.widget, window.controller.finder
    window.wait_until(lambda: not window.controller.session.is_warming)
    widget.tasks.buttons["all"].click()
    widget.proposals.places["plane"].click()
    assert widget.proposals.search.text() == "Run on plane"
    widget.proposals.search.click()
    window.wait_until(lambda: finder.search.progress is not None and finder.search.progress.done > 0)
    assert "left" in widget.proposals.step.text()
    (bar,) = [each for each in every._all_instances if each.desc.startswith("Finding objects")]
    assert bar.total == finder.search.progress.total
    bar.cancel()
    window.wait_until(lambda: not finder.search.is_running)
    assert not [each for each in every._all_instances if each.desc.startswith("Finding objects")]
    assert finder.selection.found is not None
    assert told == []
