"""Sessions in a real window leave the labels that are recorded in tests/goldens/plugin.json.

The model is the fake one, so only the plugin can change them. The last digits of where a click lies depend on the size
of the window, hence the tolerance.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from qtpy.QtCore import Qt

from tests.goldens import sessions

pytestmark = pytest.mark.usefixtures("screen")
CONTROL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


@pytest.fixture(autouse=True)
def _fake_model():
    with sessions.a_fake_model():
        yield


def check(record_property, labels):
    """Hand the labels to record.py by pytest's report, then compare them with the recorded ones."""
    name = "clicks" if labels.ndim == 2 else "volume"
    found = sessions.described(labels, exact=False)
    record_property(name, json.dumps(found))
    sessions.assert_near(found, sessions.recorded("plugin")[name])


def test_clicks_boxes_and_undo_in_a_window_leave_the_recorded_labels(open_window, told, record_property):
    window = open_window(sessions.discs(), name="discs", contrast_limits=(0, 255))
    controller, prompts = window.controller, window.widget.prompts
    prompts.hover.setChecked(False)  # A click may take the preview, whose levels depend on what is encoded already.
    window.click(sessions.SMALL)
    window.key(Qt.Key.Key_C)
    window.click(sessions.LARGE)
    window.key(Qt.Key.Key_T)
    window.click((20, 20))
    window.key(Qt.Key.Key_C)
    prompts.tools["box"].click()
    window.drag((104, 12), (136, 128))
    prompts.accept.click()
    window.wait()
    prompts.tools["points"].click()
    window.click(sessions.TINY)
    window.key(Qt.Key.Key_C)
    assert np.unique(controller.session.target.data).tolist() == [0, 1, 2, 3, 4]
    window.key(Qt.Key.Key_Z, CONTROL)
    window.key(Qt.Key.Key_Z, CONTROL | SHIFT)
    window.key(Qt.Key.Key_Z, CONTROL)
    assert told == []
    check(record_property, np.asarray(controller.session.target.data))


def test_planes_of_a_volume_corrected_and_deleted_in_a_window_leave_the_recorded_labels(
    open_window, told, record_property
):
    window = open_window(sessions.volume(), name="volume", contrast_limits=(0, 255))
    controller = window.controller
    window.widget.prompts.hover.setChecked(False)
    # The zoom chooses the levels that a click tries; napari's own depends on the size of the window.
    window.viewer.scene.camera.zoom = 5.75
    for plane in range(3):
        window.viewer.dims.set_point(0, plane)
        window.wait()
        window.click((plane, 60, 70))
        window.key(Qt.Key.Key_N)
        window.key(Qt.Key.Key_C)
    assert [thing.label for thing in controller.objects.rows] == [1, 2, 3]
    controller.editing.reopen(2)
    window.wait()
    window.widget.prompts.tools["box"].click()
    window.drag((1, 50, 60), (1, 70, 80))
    window.widget.prompts.accept.click()
    window.wait()
    controller.objects.delete([1])
    window.wait()
    assert told == []
    check(record_property, np.asarray(controller.session.target.data))
