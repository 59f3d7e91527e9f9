"""The task Through planes without a window and without a model: what is followed is played back plane by plane."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.propagation.playback import play, run

from napari_sam.core.geometry import Plane
from napari_sam.plugin.propagation.measures import measures_text
from napari_sam.testing.plugin import disc, labels_of, make_controller, propose, random_image

SHAPE = (9, 40, 48)
# It grows, is doubtful in the planes 2 and 6, and is missing in the planes 0 and 8.
CONFIDENCES = (0.9, 0.3, 0.8, 1, 0.85, 0.5, 0.9)
BALL = {at: (20, 20 + at, 7, confidence) for at, confidence in enumerate(CONFIDENCES, start=1)}
LARGER = {at: (row, col, 9, 0.9) for at, (row, col, _, _) in BALL.items()}


def plane_at(at):
    return Plane((1, 2), (at, 0, 0))


@pytest.fixture
def messages():
    return []


@pytest.fixture
def pixels():
    return random_image(shape=SHAPE)


@pytest.fixture
def controller(messages, pixels):
    controller = make_controller(pixels, messages.append)
    controller.session.set_task("planes")
    accept(controller, 4, disc(20, 24, 7))
    yield controller
    controller.close()


def accept(controller, at, mask):
    controller.viewer.dims.set_current_step(0, at)
    propose(controller, mask, plane_at(at))
    controller.commits.accept()


def follow(controller, monkeypatch, pixels, discs, planes=None):
    play(controller, monkeypatch, discs, pixels)
    controller.through_planes.follow()
    run(controller, planes)


def click(controller, at, row, col):
    """Click in a plane; no model answers."""
    controller.viewer.dims.set_current_step(0, at)
    controller.prompts.points.add([at, row, col])


def states(controller):
    return controller.through_planes.choice.object.states


def test_an_object_is_followed_both_ways_until_it_ends_and_one_undo_takes_all_back(
    controller, monkeypatch, pixels, messages
):
    follow(controller, monkeypatch, pixels, {1: BALL})
    labels = labels_of(controller)
    assert np.flatnonzero((labels == 1).any((1, 2))).tolist() == list(range(1, 8))
    for at in range(1, 8):
        np.testing.assert_array_equal(labels[at] == 1, disc(20, 20 + at, 7).to_array(SHAPE[1:]))
    assert [at for at, state in states(controller).items() if state.is_accepted] == [4]
    assert states(controller)[2].confidence == pytest.approx(0.3)
    assert controller.session.status == "The object was followed through 6 planes."
    assert controller.through_planes.hint == "2 of 7 planes are doubtful: N jumps to the next"
    controller.keys.run("undo")
    assert np.flatnonzero(labels_of(controller).any((1, 2))).tolist() == [4]
    controller.keys.run("redo")
    np.testing.assert_array_equal(labels_of(controller), labels)
    assert messages == []


def test_masks_appear_plane_by_plane_and_progress_tells_the_plane(controller, monkeypatch, pixels):
    play(controller, monkeypatch, {1: BALL}, pixels)
    planes = controller.through_planes
    planes.follow()
    assert planes.following.progress.text == "Starting ..."
    counts, texts = [], []
    while planes.following.is_running:
        controller.runner.run_idle(1)
        counts.append(len(states(controller)))
        texts += [] if planes.following.progress is None else [planes.following.progress.text]
    assert sorted(set(counts)) == list(range(1, 8))
    assert any(text.startswith("Plane 5: 1 of 8") for text in texts)


def test_cancel_keeps_what_is_done_and_that_is_one_step_of_undo_too(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL}, planes=3)
    controller.through_planes.cancel()
    assert not controller.through_planes.following.is_running
    assert sorted(states(controller)) == [4, 5, 6, 7]
    assert controller.session.status == "Stopped. The object was followed through 3 planes."
    controller.keys.run("undo")
    assert sorted(states(controller)) == [4]


def test_undo_in_the_middle_stops_and_takes_back_what_was_written(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL}, planes=3)
    controller.keys.run("undo")
    run(controller)
    assert sorted(states(controller)) == [4]


def test_n_goes_first_where_a_correction_gains_most_and_leaves_out_those_beside_one_that_was_seen(
    controller, monkeypatch, pixels, messages
):
    near = {**BALL, 1: (20, 21, 7, 0.4)}
    follow(controller, monkeypatch, pixels, {1: near})
    seen = []
    for _ in range(4):
        controller.keys.run("next_candidate")
        seen.append(controller.session.plane.index[0])
    # Plane 1 is surer than plane 2, but behind it the object may go on.
    assert seen == [1, 6, 2, 1]
    assert messages == []


def test_where_no_plane_is_doubtful_n_shows_the_one_that_counts_most(controller, monkeypatch, pixels):
    sure = {**BALL, 2: (20, 22, 7, 0.95), 6: (20, 26, 7, 0.95)}
    follow(controller, monkeypatch, pixels, {1: sure})
    assert controller.through_planes.hint == "None of 7 planes is doubtful: N shows the one that counts most"
    controller.keys.run("next_candidate")
    assert controller.session.plane.index[0] == 3


def test_n_before_anything_was_followed_says_what_to_do(controller, messages):
    controller.keys.run("next_candidate")
    assert messages == ["No plane was propagated yet: follow the object first."]


def test_a_corrected_plane_is_accepted_into_the_object_and_following_again_changes_no_accepted_plane(
    controller, monkeypatch, pixels, messages
):
    follow(controller, monkeypatch, pixels, {1: BALL})
    click(controller, 6, 20, 30)
    draft = controller.session.current
    assert (draft.replaces.label, draft.replaces.plane) == (1, plane_at(6))
    np.testing.assert_array_equal(draft.replaces.hint.pixels, disc(20, 26, 7).pixels)
    propose(controller, disc(21, 30, 5), plane_at(6))
    controller.keys.run("accept")
    assert states(controller)[6].is_accepted
    corrected = labels_of(controller)[6]
    np.testing.assert_array_equal(corrected == 1, disc(21, 30, 5).to_array(SHAPE[1:]))
    assert np.unique(labels_of(controller)).tolist() == [0, 1]
    before = labels_of(controller)

    follow(controller, monkeypatch, pixels, {1: LARGER})
    labels = labels_of(controller)
    for at in (4, 6):
        np.testing.assert_array_equal(labels[at], before[at])
    for at in (1, 2, 3, 7):
        np.testing.assert_array_equal(labels[at] == 1, disc(20, 20 + at, 9).to_array(SHAPE[1:]))
    assert [at for at, state in sorted(states(controller).items()) if state.is_accepted] == [4, 6]
    controller.keys.run("undo")
    np.testing.assert_array_equal(labels_of(controller), before)
    assert messages == []


def test_a_correction_that_is_open_is_not_left_by_n(controller, monkeypatch, pixels, messages):
    follow(controller, monkeypatch, pixels, {1: BALL})
    click(controller, 6, 20, 30)
    propose(controller, disc(21, 30, 5), plane_at(6))
    controller.keys.run("next_candidate")
    assert controller.session.plane.index[0] == 6
    assert "Accept the correction" in messages[0]


def test_n_lets_go_of_a_reopened_plane_that_was_only_looked_at(controller, monkeypatch, pixels, messages):
    follow(controller, monkeypatch, pixels, {1: BALL})
    controller.viewer.dims.set_current_step(0, 3)
    controller.editing.reopen(1)
    controller.keys.run("next_candidate")
    assert controller.session.plane == plane_at(2)
    assert not controller.session.is_begun
    assert messages == []


def test_a_plane_that_is_accepted_while_its_object_is_followed_stays(controller, monkeypatch, pixels):
    play(controller, monkeypatch, {1: BALL}, pixels)
    controller.through_planes.follow()
    run(controller, planes=2)
    click(controller, 2, 20, 30)
    propose(controller, disc(8, 8, 4), plane_at(2))
    controller.keys.run("accept")
    run(controller)
    np.testing.assert_array_equal(labels_of(controller)[2] == 1, disc(8, 8, 4).to_array(SHAPE[1:]))
    assert sorted(states(controller)) == list(range(1, 8))


def test_an_object_that_is_deleted_while_it_is_followed_does_not_come_back(controller, monkeypatch, pixels):
    play(controller, monkeypatch, {1: BALL}, pixels)
    controller.through_planes.follow()
    run(controller, planes=2)
    controller.objects.delete([1])
    run(controller)
    assert not labels_of(controller).any()


def test_a_click_where_the_object_has_no_mask_adds_one_to_it(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL})
    click(controller, 8, 20, 30)
    assert controller.session.current.replaces.label == 1
    propose(controller, disc(20, 30, 4), plane_at(8))
    controller.keys.run("accept")
    labels = labels_of(controller)
    np.testing.assert_array_equal(labels[8] == 1, disc(20, 30, 4).to_array(SHAPE[1:]))
    assert states(controller)[8].is_accepted
    assert labels.max() == 1


def test_accept_locks_the_plane_in_view_and_unlock_lets_it_be_changed_again(controller, monkeypatch, pixels, messages):
    follow(controller, monkeypatch, pixels, {1: BALL})
    planes = controller.through_planes
    controller.viewer.dims.set_current_step(0, 2)
    assert not planes.state.is_accepted
    controller.keys.run("accept")
    assert planes.state.is_accepted
    assert controller.session.status == "Plane 2 is accepted: it stays as it is."
    locked = labels_of(controller)[2]
    follow(controller, monkeypatch, pixels, {1: LARGER})
    np.testing.assert_array_equal(labels_of(controller)[2], locked)
    planes.unlock()
    assert not planes.state.is_accepted
    follow(controller, monkeypatch, pixels, {1: LARGER})
    assert np.count_nonzero(labels_of(controller)[2]) > np.count_nonzero(locked)
    controller.viewer.dims.set_current_step(0, 4)
    planes.unlock()
    assert planes.state.is_accepted
    assert "the only accepted plane" in messages[-1]
    controller.viewer.dims.set_current_step(0, 0)
    controller.keys.run("accept")
    assert "no mask in this plane" in messages[-1]


def test_an_object_is_taken_out_of_the_planes_behind_its_end_and_not_followed_there_again(
    controller, monkeypatch, pixels, messages
):
    follow(controller, monkeypatch, pixels, {1: BALL})
    planes = controller.through_planes
    controller.viewer.dims.set_current_step(0, 6)
    planes.remove()
    assert sorted(states(controller)) == [1, 2, 3, 4, 5]
    assert planes.choice.planes == (0, 5)
    controller.viewer.dims.set_current_step(0, 2)
    planes.remove()
    assert sorted(states(controller)) == [3, 4, 5]
    assert planes.choice.planes == (3, 5)
    follow(controller, monkeypatch, pixels, {1: LARGER})
    assert sorted(states(controller)) == [3, 4, 5]
    controller.viewer.dims.set_current_step(0, 4)
    planes.remove()
    assert "the only accepted plane" in messages[0]
    for _ in range(3):
        controller.keys.run("undo")
    assert sorted(states(controller)) == list(range(1, 8))


def test_between_two_accepted_planes_one_plane_is_taken_out_alone(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL})
    controller.viewer.dims.set_current_step(0, 7)
    controller.keys.run("accept")
    controller.viewer.dims.set_current_step(0, 5)
    controller.through_planes.remove()
    assert sorted(states(controller)) == [1, 2, 3, 4, 6, 7]
    assert controller.through_planes.choice.planes == (0, 8)


def test_a_reopened_plane_that_is_accepted_as_it_is_counts_as_accepted(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL})
    controller.viewer.dims.set_current_step(0, 6)
    controller.editing.reopen(1)
    assert controller.session.current.is_as_accepted
    controller.keys.run("accept")
    assert states(controller)[6].is_accepted


def test_an_object_goes_on_behind_one_empty_plane_and_ends_after_two(controller, monkeypatch, pixels):
    gap = {at: BALL[at] for at in (1, 5, 7)}
    follow(controller, monkeypatch, pixels, {1: gap})
    assert sorted(states(controller)) == [4, 5, 7]
    assert controller.through_planes.choice.object.extent == (4, 7)


def test_an_object_of_one_plane_is_told(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {})
    assert sorted(states(controller)) == [4]
    assert controller.session.status == "Nothing was found in other planes."


def test_the_range_limits_what_is_followed(controller, monkeypatch, pixels):
    controller.through_planes.choice.choose_planes(5, 3)
    assert controller.through_planes.choice.planes == (3, 5)
    follow(controller, monkeypatch, pixels, {1: BALL})
    assert sorted(states(controller)) == [3, 4, 5]


def test_several_selected_objects_are_followed_at_once_and_a_click_corrects_the_one_under_it(
    controller, monkeypatch, pixels
):
    accept(controller, 3, disc(34, 42, 4))
    accept(controller, 5, disc(6, 6, 3))
    controller.through_planes.choice.select([1, 2])
    second = dict.fromkeys(range(9), (34, 42, 4, 0.9))
    follow(controller, monkeypatch, pixels, {1: BALL, 2: second, 3: second})
    labels = labels_of(controller)
    assert np.flatnonzero((labels == 2).any((1, 2))).tolist() == list(range(9))
    assert np.flatnonzero((labels == 3).any((1, 2))).tolist() == [5]
    assert controller.session.status == "2 objects were followed through 9 planes."
    click(controller, 7, 34, 42)
    assert controller.session.current.replaces.label == 2
    controller.editing.clear()
    click(controller, 7, 18, 28)
    assert controller.session.current.replaces.label == 1
    controller.editing.clear()
    click(controller, 7, 30, 40)  # Beside both: the nearest one.
    assert controller.session.current.replaces.label == 2
    controller.editing.clear()
    controller.viewer.dims.set_current_step(0, 6)
    controller.keys.run("accept")
    assert all(controller.through_planes.choice.planes_of(label).states[6].is_accepted for label in (1, 2))
    controller.keys.run("undo")
    assert not any(controller.through_planes.choice.planes_of(label).states[6].is_accepted for label in (1, 2))


def test_without_a_selection_the_object_that_was_accepted_last_is_followed(controller):
    accept(controller, 3, disc(34, 42, 4))
    assert controller.through_planes.choice.labels == [2]
    controller.through_planes.choice.select([1])
    assert controller.through_planes.choice.labels == [1]
    controller.objects.delete([1])
    assert controller.through_planes.choice.labels == [2]


@pytest.mark.parametrize("shape", [(40, 48), (1, 40, 48)])
def test_an_image_of_one_plane_says_so(shape, messages):
    controller = make_controller(random_image(shape=shape), messages.append)
    controller.session.set_task("planes")
    assert controller.through_planes.why_not == "This image has one plane."
    controller.keys.run("follow")
    assert messages == ["This image has one plane."]
    propose(controller, disc(20, 20, 5), Plane.of(shape, None if len(shape) == 2 else 0))
    controller.keys.run("accept")
    assert labels_of(controller).max() == 1
    controller.keys.run("follow")
    assert messages[1:] == ["This image has one plane."]
    controller.close()


def test_volume_is_told_in_the_units_of_the_image(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL})
    image, choice = controller.session.image, controller.through_planes.choice
    area = 7 * disc(20, 20, 7).area
    assert measures_text(choice.object, image, choice.axis) == f"Label 1: 7 planes, {area} voxels"
    image.scale, image.units = (5, 0.5, 0.5), ("mm", "mm", "mm")
    assert measures_text(choice.object, image, choice.axis).endswith(f", {area * 1.25 / 1000:.4g} cm³")


def test_the_camera_stays_where_the_object_is_in_view(controller, monkeypatch, pixels):
    follow(controller, monkeypatch, pixels, {1: BALL})
    camera = controller.viewer.scene.camera
    camera.center = (0.0, 19.0, 23.0)
    controller.through_planes.go_to(2)
    assert controller.session.plane == plane_at(2)
    assert tuple(camera.center) == (0.0, 19.0, 23.0)
