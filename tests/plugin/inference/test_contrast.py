from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.plugin.inference.contrast_presets import FULL, PERCENTILES, WINDOWS, presets_for, set_limits


@pytest.fixture
def ct():
    return np.random.default_rng(0).normal(40, 300, (200, 220)).astype(np.int16)


def test_presets_set_the_limits_that_layer_and_encoder_share(make_controller, ct):
    viewer = ViewerModel()
    image = viewer.add_image(ct, contrast_limits=(0, 1))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    set_limits(controller.session, controller.runner, "CT abdomen (soft tissue)")
    assert image.contrast_limits == [-160, 240]
    assert controller.jobs.segmenter.encoder.rendering.limits == ((-160.0, 240.0),)
    set_limits(controller.session, controller.runner, PERCENTILES)
    np.testing.assert_allclose(image.contrast_limits, np.percentile(ct, (0.5, 99.5)), rtol=0.05)
    set_limits(controller.session, controller.runner, FULL)
    assert image.contrast_limits == [-32768, 32767]


def test_colours_have_none_and_say_so(make_controller, notes):
    viewer = ViewerModel()
    controller = make_controller(viewer)
    controller.session.set_image(viewer.add_image(np.zeros((40, 50, 3), np.uint8), rgb=True))
    set_limits(controller.session, controller.runner, FULL)
    assert "colors are encoded as they are" in notes[-1]


def test_the_choice_in_the_widget_acts_once(screen, open_window, ct):
    window = open_window(ct, name="ct")
    window.widget.contrast.value = "CT lung"
    window.qtbot.waitUntil(lambda: window.controller.session.image.contrast_limits == [-1350, 150])
    assert window.widget.contrast.value == "as the layer shows it"
    window.controller.session.image.contrast_limits = (0, 100)
    window.widget.contrast.value = "CT lung"
    window.qtbot.waitUntil(lambda: window.controller.session.image.contrast_limits == [-1350, 150])


def test_windows_of_a_ct_are_offered_where_values_can_be_hounsfield_units(ct):
    viewer = ViewerModel()
    layers = {
        "int16": (viewer.add_image(ct), True),
        "int16 in its brain window": (viewer.add_image(ct, contrast_limits=(0, 80)), True),
        "float with air": (viewer.add_image(ct.astype(np.float32)), True),
        "float, probabilities": (viewer.add_image(np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)), False),
        "camera": (viewer.add_image(np.zeros((10, 10), np.uint16)), False),
        "photo": (viewer.add_image(np.zeros((10, 10, 3), np.uint8), rgb=True), False),
    }
    offered = {name: set(WINDOWS) <= set(presets_for(layer)) for name, (layer, _) in layers.items()}
    assert offered == {name: expected for name, (_, expected) in layers.items()}
    assert presets_for(None) == (PERCENTILES, FULL)


def test_the_widget_offers_the_windows_for_the_chosen_image(screen, open_window, ct):
    window = open_window(ct, name="ct")
    assert set(WINDOWS) <= set(window.widget.contrast.choices)
    camera = window.viewer.add_image(np.zeros((40, 40), np.uint8), name="camera")
    window.widget.image.value = camera
    assert not set(WINDOWS) & set(window.widget.contrast.choices)
