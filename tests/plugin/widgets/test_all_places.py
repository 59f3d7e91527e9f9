"""The task All in a real window: where and for what it searches, volumes, and what napari's layer list shows."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_sam.plugin.layers.factory import is_helper
from napari_sam.plugin.view.napari_private import layer_list_of
from napari_sam.testing.window import flush

pytestmark = pytest.mark.usefixtures("screen")

CTRL = Qt.KeyboardModifier.ControlModifier
# Four coins of scikit-image's photograph, and the middle of one of them in this part.
PART, COIN = np.s_[28:86, 75:235], (25, 81)


def press(button):
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    flush()


def choose(window, text):
    within = window.widget.proposals.within
    at = within.findText(text)
    within.setCurrentIndex(at)
    within.activated.emit(at)
    flush()


def search(window):
    press(window.widget.proposals.search)
    window.wait_until(lambda: not window.controller.finder.search.is_running)
    flush()


def listed(window):
    """The names of the layers that the layer list shows, from its top."""
    view = layer_list_of(window.viewer)
    return [layer.name for row, layer in enumerate(reversed(window.viewer.layers)) if not view.isRowHidden(row)]


def test_helper_layers_are_out_of_the_layer_list_until_they_are_asked_for(open_window, coins, told):
    window = open_window(coins[PART], name="coins")
    window.wait_ready()
    press(window.widget.tasks.buttons["all"])
    flush()
    assert listed(window) == ["coins"]
    window.viewer.add_points(np.zeros((1, 2)), name="mine")
    window.viewer.add_labels(np.zeros((5, 5), int), name="also mine")
    window.controller.finder.set_within("drawn")
    flush()
    assert set(listed(window)) == {"coins", "mine", "also mine"}
    assert len([layer for layer in window.viewer.layers if is_helper(layer)]) >= 4
    window.viewer.layers.move(window.viewer.layers.index("coins"), len(window.viewer.layers))
    flush()
    assert set(listed(window)) == {"coins", "mine", "also mine"}
    window.widget.helpers.setChecked(True)
    assert {"SAM points", "SAM proposals", "SAM region"} <= set(listed(window))
    window.widget.helpers.setChecked(False)
    assert set(listed(window)) == {"coins", "mine", "also mine"}
    # A look at another layer, and back to the proposals by the button of the task.
    window.viewer.layers.selection.active = window.viewer.layers["mine"]
    press(window.widget.tasks.buttons["all"])
    assert window.viewer.layers.selection.active is window.controller.finder.drawing.layer


def test_two_ellipses_say_which_sizes_count(open_window, coins, told):
    window = open_window(coins[PART], name="coins")
    window.wait_ready()
    panel, finder = window.widget.proposals, window.controller.finder
    press(window.widget.tasks.buttons["all"])
    press(panel.like)
    assert "smallest" in window.controller.session.status
    window.drag((10, 20), (20, 30))
    low, high = finder.selection.options.sizes
    assert low < 10 < high < 20
    window.drag((5, 60), (53, 108))
    assert finder.selection.options.sizes[0] == low
    assert 48 < finder.selection.options.sizes[1] < 80
    assert "px" in panel.values[panel.sizes].text()
    search(window)
    assert "SAM examples" not in window.viewer.layers
    assert len(finder.selection.kept) >= 3
    assert told == []


def test_a_drawn_rectangle_and_other_labels_limit_a_search(open_window, coins, told):
    window = open_window(coins[PART], name="coins")
    window.wait_ready()
    finder = window.controller.finder
    press(window.widget.tasks.buttons["all"])
    window.widget.proposals.confidence.setValue(50)
    choose(window, "what I draw")
    window.drag((2, 58), (54, 104))
    search(window)
    points = finder.selection.found.points[finder.selection.kept]
    assert len(points) >= 1
    assert ((points > (1, 57)) & (points < (55, 105))).all()
    labels = np.zeros(coins[PART].shape, np.uint8)
    labels[:, :57] = 1
    window.viewer.add_labels(labels, name="left")
    choose(window, "the labels of left")
    search(window)
    points = finder.selection.found.points[finder.selection.kept]
    assert len(points) >= 1
    assert (points[:, 1] < 57.5).all()
    window.viewer.layers.remove("left")
    assert window.widget.proposals.within.currentText() == "no limit"
    assert told == []


def test_a_volume_is_found_accepted_as_linked_objects_and_undone(open_window, coins, told):
    part = coins[PART]
    window = open_window(np.stack([part, np.roll(part, 2, axis=1), part]), name="stack", contrast_limits=(0, 255))
    window.wait_ready()
    widget, controller = window.widget, window.controller
    press(widget.tasks.buttons["all"])
    widget.proposals.confidence.setValue(50)
    assert widget.proposals.places["volume"].isEnabled()
    press(widget.proposals.places["volume"])
    assert widget.proposals.search.text() == "Run on volume"
    press(widget.proposals.search)
    window.wait_until(lambda: "planes" in widget.proposals.step.text())
    window.wait_until(lambda: not controller.finder.search.is_running)
    assert len(controller.finder.selection.found.planes) == 3
    press(widget.proposals.accept)
    window.wait_until(lambda: controller.session.target is not None and not controller.finder.is_accepting)
    labels = np.asarray(controller.session.target.data)
    coin = labels[(0, *COIN)]
    assert coin > 0
    assert labels[(1, *COIN)] == labels[(2, *COIN)] == coin
    assert len(controller.objects.get(int(coin)).parts) == 3
    assert len(controller.objects.rows) < 9
    assert "accepted" in widget.proposals.step.text()
    window.key(Qt.Key.Key_Z, CTRL)
    window.wait_until(lambda: len(controller.objects.rows) == 0)
    assert not np.asarray(controller.session.target.data).any()
    assert told == []
