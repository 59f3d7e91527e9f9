"""An object that is taken up again shows the mask that was accepted, until its prompts change."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.core.cleaning import Cleaning

COIN = (51, 155)


@pytest.fixture
def controller(coins, make_controller):
    viewer = ViewerModel()
    viewer.add_image(coins, contrast_limits=(0, 255))
    made = make_controller(viewer)
    made.session.set_image(viewer.layers[0])
    return made


def shown(controller):
    return controller.session.mask_of(controller.session.current).to_array((303, 384))


def accept(controller, how):
    """Accept a coin in a way that its prompts alone do not tell."""
    controller.prompts.points.add([COIN])
    if how == "another size":
        controller.editing.cycle()
        controller.editing.cycle()
    elif how == "smoothed":
        controller.requests.set_cleaning(Cleaning(smooth=4.0))
    elif how == "another zoom":
        controller.viewer.scene.camera.zoom = 0.2
    elif how == "on from another size":
        controller.editing.cycle()
        controller.prompts.points.add([[60, 160]])
    controller.commits.accept()
    return controller.session.target.data == 1


WAYS = ["as it came", "another size", "smoothed", "another zoom", "on from another size"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("model", ["the same", "another"])
def test_c_right_after_reopening_changes_no_pixel(controller, make_predictor, how, model):
    accepted = accept(controller, how)
    made = controller.objects.get(1).parts[0].made
    if model == "another":
        controller.session.set_model(make_predictor(), "cpu")
    controller.editing.reopen(1)
    np.testing.assert_array_equal(shown(controller), accepted)
    controller.commits.accept()
    np.testing.assert_array_equal(controller.session.target.data == 1, accepted)
    assert controller.objects.get(1).parts[0].made == made


def test_a_changed_prompt_asks_the_model_and_undo_brings_the_accepted_mask_back(controller):
    accepted = accept(controller, "another size")
    controller.editing.reopen(1)
    controller.prompts.points.add([[70, 100]])
    assert not np.array_equal(shown(controller), accepted)
    controller.undo.undo()
    np.testing.assert_array_equal(shown(controller), accepted)
    controller.undo.redo()
    assert not np.array_equal(shown(controller), accepted)


def test_another_size_of_a_reopened_object_is_asked_for(controller):
    accepted = accept(controller, "as it came")
    controller.editing.reopen(1)
    controller.editing.cycle()
    assert controller.session.current.selected == (controller.session.candidates.best_index + 1) % 3
    assert len({mask.area for mask in controller.session.candidates}) > 1
    assert not np.array_equal(shown(controller), accepted)


def test_an_object_of_no_journal_shows_its_own_pixels(controller, coins):
    labels = np.zeros(coins.shape, np.uint16)
    labels[40:60, 140:170] = 5
    controller.session.set_target(controller.viewer.add_labels(labels.copy()))
    controller.editing.pick((50, 150))
    np.testing.assert_array_equal(shown(controller), labels == 5)
    controller.commits.accept()
    np.testing.assert_array_equal(controller.session.target.data, labels)


def test_contrast_and_planes_that_change_meanwhile_change_no_accepted_mask(controller):
    accepted = accept(controller, "another size")
    controller.editing.reopen(1)
    controller.session.image.contrast_limits = (0, 120)
    np.testing.assert_array_equal(shown(controller), accepted)


@pytest.mark.parametrize("size", [0, 2])
def test_a_size_of_a_reopened_object_is_the_one_that_was_chosen(controller, size):
    accept(controller, "as it came")
    controller.editing.reopen(1)
    controller.editing.choose_size(size)
    assert controller.session.current.selected == size
    assert not controller.session.drafts.current.is_as_accepted
