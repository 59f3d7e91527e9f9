"""Images that are flipped, moved, turned, sheared or mapped: small or large, they take objects alike."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.view import world

COIN = (51, 155)
SHEAR = np.array([[1, 0.3], [0, 1]])
PLACES = {
    "flipped": {"scale": (-1, 1)},
    "flipped twice, in micrometres": {"scale": (-0.5, -0.25), "translate": (-7, 3), "units": ("um", "um")},
    "moved": {"translate": (-20.5, 13)},
    "turned": {"rotate": 30, "scale": (0.5, 0.5)},
    "sheared": {"shear": [0.2]},
    "mapped": {"affine": np.array([[0, 2, 5], [-1, 0.5, -3], [0, 0, 1]])},
    "mapped and flipped": {"scale": (1, -1), "affine": np.array([[-1, 0, 9], [0, 1, 0], [0, 0, 1]])},
}


def pixels_of(labels):
    return np.asarray(labels.data[0] if labels.multiscale else labels.data)


@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("size", ["small", "large"])
def test_an_object_is_accepted_undone_and_continued_on(
    coins, make_controller, monkeypatch, tmp_path, notes, size, place
):
    if size == "large":
        monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 0)
        monkeypatch.setattr(own_layers, "label_folder", lambda: tmp_path)
    viewer = ViewerModel()
    image = viewer.add_image(coins, contrast_limits=(0, 255), name="coins", **PLACES[place])
    controller = make_controller(viewer)
    controller.session.set_image(image)
    at = np.asarray(controller.prompts.points.world_to_data(world.to_world(viewer, image, COIN)))
    controller.prompts.points.add(at[None])
    controller.commits.accept()
    mask = pixels_of(controller.session.target) == 1
    assert mask[COIN]
    assert 1300 < mask.sum() < 2000
    assert world.same_place(controller.session.target, image)
    assert all("labels are kept on disk" in note for note in notes)
    controller.undo.undo()
    assert controller.objects.rows == []
    controller.undo.redo()
    before = controller.session.target
    viewer.layers.remove(before)
    controller.objects.resume()
    assert world.same_place(controller.session.target, image)
    np.testing.assert_array_equal(pixels_of(controller.session.target) == 1, mask)
