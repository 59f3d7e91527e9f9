"""Objects that were followed through time, as tracks."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.propagation.playback import play, run
from tests.plugin.propagation.test_through_planes import SHAPE, accept

from napari_sam.plugin.exports.layer_source import source_of_layer
from napari_sam.testing.plugin import disc, make_controller, random_image

PARENT = {at: (20, 10 + 2 * at, 4, 0.9) for at in range(4)}


@pytest.fixture
def messages():
    return []


@pytest.fixture
def controller(messages, monkeypatch):
    pixels = random_image(shape=SHAPE)
    controller = make_controller(pixels, messages.append)
    controller.session.image.axis_labels = ("t", "y", "x")
    accept(controller, 0, disc(20, 10, 4))
    for row in (12, 28):
        accept(controller, 5, disc(row, 22, 3))
    play(controller, monkeypatch, {1: PARENT}, pixels)
    controller.through_planes.choice.select([1])
    controller.through_planes.follow()
    run(controller)
    yield controller
    controller.close()


def tracks_of(controller):
    (layer,) = [layer for layer in controller.viewer.layers if layer.name == "SAM tracks"]
    return layer


def test_each_object_is_a_track_of_the_middles_of_its_masks(controller, messages):
    controller.through_planes.tracks.show()
    data = np.asarray(tracks_of(controller).data)
    np.testing.assert_allclose(data[data[:, 0] == 1][:, 1:], [[at, 20, 10 + 2 * at] for at in range(4)])
    np.testing.assert_allclose(data[data[:, 0] == 3], [[3, 5, 28, 22]])
    assert messages == []


def test_the_parent_of_three_objects_is_the_one_that_begins_first(controller, messages):
    controller.through_planes.tracks.divide([2, 3, 1])
    assert {child: list(parents) for child, parents in tracks_of(controller).graph.items()} == {2: [1], 3: [1]}
    assert controller.session.status == "Object 1 divides into 2 and 3."
    data, attributes, _ = controller.session.target.as_layer_data_tuple()
    known = controller.objects.journal.journal.objects
    assert source_of_layer(data, attributes, objects=known).parents == {2: 1, 3: 1}
    controller.undo.undo()
    controller.through_planes.tracks.show()
    assert tracks_of(controller).graph == {}
    controller.undo.redo()
    controller.objects.delete([3])
    controller.through_planes.tracks.show()
    assert {child: list(parents) for child, parents in tracks_of(controller).graph.items()} == {2: [1]}
    assert messages == []


def test_a_successor_must_begin_after_the_parents_last_frame(controller, messages):
    accept(controller, 3, disc(34, 40, 3))
    controller.through_planes.tracks.divide([1, 2, 4])
    assert messages == [
        "Object 4 begins at 3 and object 1 ends at 3: what an object divides into must begin after its last frame."
    ]
    controller.through_planes.tracks.divide([1, 2])
    assert messages[1].startswith("Select three objects")


def test_without_time_there_are_no_tracks(controller, messages):
    controller.session.image.axis_labels = ("z", "y", "x")
    controller.through_planes.tracks.show()
    assert messages == ["Tracks need an axis of time, t."]
