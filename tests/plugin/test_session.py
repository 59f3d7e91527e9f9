"""The state that the plugin's parts share, and the request that it makes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam.plugin.inference.requests import resolve
from napari_sam.plugin.layers import factory
from napari_sam.plugin.layers.coverage import make_coverage
from napari_sam.plugin.prompts.layers import PromptLayers
from napari_sam.plugin.session import Session


@pytest.fixture
def session(notes):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 50), np.uint8), contrast_limits=(0, 1))
    session = Session(viewer, PromptLayers(viewer), notes.append)
    session.set_image(image)
    session.prompts.activate("points", image)
    return session


def emitted(signal):
    """A list that grows with every emission."""
    emissions = []
    signal.connect(lambda: emissions.append(1))
    return emissions


def test_a_request_follows_from_the_session_alone_and_changes_nothing(session):
    assert not session.is_begun
    session.prompts.points.add([[10, 12]])
    first, second = resolve(session, session.current), resolve(session, session.current)
    assert first.is_like(second)
    assert session.current.downsample is None
    assert session.request is None
    session.prompts.points.add([[20, 22]])
    assert not resolve(session, session.current).is_like(first)
    np.testing.assert_array_equal(first.prompts.points, [[10, 12]])


def test_prompts_of_other_drafts_are_in_no_request(session):
    session.prompts.points.add([[10, 12]])
    first = session.current
    session.drafts.park()
    session.prompts.begin(session.current.number)
    session.prompts.points.add([[30, 32]])
    np.testing.assert_array_equal(resolve(session, session.current).prompts.points, [[30, 32]])
    np.testing.assert_array_equal(resolve(session, first).prompts.points, [[10, 12]])


def test_signals_are_emitted_for_changes_alone(session):
    images, encoders = emitted(session.image_changed), emitted(session.encoder_changed)
    session.set_image(session.image)
    session.set_model(session.model, session.device)
    session.set_compose(session.compose)
    session.set_store(session.store)
    assert images == encoders == []
    session.set_model("another", session.device)
    session.set_compose(True)
    session.set_image(None)
    assert (len(images), len(encoders)) == (1, 2)


def test_an_output_that_does_not_fit_the_image_is_refused_with_a_message(session, notes):
    targets = emitted(session.target_changed)
    session.set_target(Labels(np.zeros((4, 5), np.uint16)))
    assert session.target is None
    assert targets == []
    assert "shape" in notes[-1]
    assert notes[-1] == session.status


def test_layers_that_only_show_something_are_no_outputs_but_a_copy_of_one_is(session):
    viewer, image = session.viewer, session.image
    output = viewer.add_labels(np.zeros((40, 50), np.uint16))
    for make in (factory.make_preview, factory.make_pending, make_coverage):
        viewer.add_layer(make(image))
    assert session.outputs == [output]
    preview = viewer.layers[-1]
    copy = viewer.add_layer(Labels(preview.data.copy(), metadata=dict(preview.metadata)))
    assert session.outputs == [output, copy]


def test_an_accepted_draft_without_its_answer_blocks_other_requests(session):
    session.prompts.points.add([[10, 12]])
    request = resolve(session, session.current)
    session.request = session.current, request
    assert not session.must_wait  # A newer request may take its place.
    session.drafts.accept()
    assert session.must_wait
    session.request = None
    assert not session.must_wait
