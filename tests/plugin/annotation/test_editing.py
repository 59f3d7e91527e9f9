"""Steps back over prompts, and several open objects at once."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from tests.plugin.conftest import HeldRunner

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.plugin.layers.preview import overview

COIN, NEIGHBOUR, THIRD = (51, 155), (56, 99), (125, 102)


@pytest.fixture
def viewer(coins):
    viewer = ViewerModel()
    viewer.add_image(coins, name="coins")
    return viewer


@pytest.fixture
def controller(viewer, make_controller):
    controller = make_controller(viewer)
    controller.set_image(viewer.layers["coins"])
    return controller


def click(controller, *points):
    for point in points:
        controller.points.add(np.array([point], float))


def points_of(controller):
    return [tuple(point) for point in controller.points.data.tolist()]


def mask_of(controller):
    return controller.mask_of(controller.selected).to_array((303, 384))


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


# -- steps back over prompts -------------------------------------------------------------------------------------------


def test_each_prompt_is_taken_back_and_done_again_with_its_mask(controller):
    masks = []
    for point, sign in ((COIN, 1), ((45, 150), 1), ((60, 182), 0)):
        if controller.sign != sign:
            controller.toggle_sign()
        click(controller, point)
        masks.append(mask_of(controller))
    for count in (2, 1):
        controller.undo()
        assert len(controller.points.data) == count
        np.testing.assert_array_equal(mask_of(controller), masks[count - 1])
    controller.undo()
    assert points_of(controller) == []
    assert controller.candidates is None
    assert not controller.preview.visible
    for count in (1, 2, 3):
        controller.redo()
        np.testing.assert_array_equal(mask_of(controller), masks[count - 1])
    assert controller.points.features["label"].tolist() == [1, 1, 0]


def test_moving_deleting_flipping_and_clearing_are_steps(controller):
    click(controller, COIN)
    controller.points.data = np.array([NEIGHBOUR], float)
    controller.points.mode = "select"
    controller.points.selected_data = {0}
    controller.toggle_sign()
    controller.toggle_sign()
    controller.points.remove_selected()
    assert points_of(controller) == []
    for signs in ([1], [0], [1]):
        controller.undo()
        assert points_of(controller) == [NEIGHBOUR]
        assert controller.points.features["label"].tolist() == signs
    controller.undo()
    assert points_of(controller) == [COIN]
    controller.clear()
    assert points_of(controller) == []
    controller.undo()
    assert points_of(controller) == [COIN]
    assert controller.candidates is not None


def test_shapes_come_back_with_their_kind_their_sign_and_colour(controller):
    controller.activate("box")
    controller.shapes.add_rectangles(np.array([[28, 132], [28, 179], [74, 179], [74, 132]], float))
    boxed = mask_of(controller)
    controller.toggle_sign()
    controller.shapes.add_paths(np.array([[80.0, 150], [80, 170]]))
    with_scribble = mask_of(controller)
    colors = controller.shapes.edge_color.copy()
    controller.undo()
    assert controller.shapes.shape_type == ["rectangle"]
    np.testing.assert_array_equal(mask_of(controller), boxed)
    controller.redo()
    assert controller.shapes.shape_type == ["rectangle", "path"]
    assert controller.shapes.features["label"].tolist() == [1, 0]
    np.testing.assert_allclose(controller.shapes.edge_color, colors)
    np.testing.assert_array_equal(mask_of(controller), with_scribble)


def test_selected_scribbles_are_flipped(controller):
    controller.activate("scribble")
    controller.shapes.add_paths(np.array([[50.0, 145], [50, 165]]))
    controller.shapes.add_paths(np.array([[48.0, 180], [56, 182]]))
    controller.shapes.mode = "select"
    controller.shapes.selected_data = {1}
    controller.toggle_sign()
    assert controller.shapes.features["label"].tolist() == [1, 0]
    assert (controller.shapes.edge_color[0] != controller.shapes.edge_color[1]).any()
    assert not mask_of(controller)[56, 182]


def test_prompts_go_first_and_then_what_was_written_and_forth_in_the_same_order(controller):
    click(controller, COIN)
    controller.accept()
    written = controller.target.data.copy()
    click(controller, NEIGHBOUR)
    controller.undo()
    assert points_of(controller) == []
    np.testing.assert_array_equal(controller.target.data, written)
    controller.undo()
    assert not controller.target.data.any()
    controller.redo()
    np.testing.assert_array_equal(controller.target.data, written)
    controller.redo()
    assert points_of(controller) == [NEIGHBOUR]


def test_a_new_prompt_ends_the_way_forth_for_prompts_and_not_for_what_was_written(controller, notes):
    click(controller, COIN)
    controller.accept()
    written = controller.target.data.copy()
    controller.undo()
    click(controller, NEIGHBOUR)
    controller.redo()
    np.testing.assert_array_equal(controller.target.data, written)
    assert points_of(controller) == [NEIGHBOUR]
    controller.redo()
    assert "nothing to redo" in notes[-1]


def test_taking_up_an_object_is_a_step_and_nothing_comes_back_for_one_that_was_deleted(controller):
    click(controller, COIN)
    controller.accept()
    controller.objects.reopen(1)
    assert controller.refining.label == 1
    controller.undo()
    assert controller.refining is None
    assert points_of(controller) == []
    controller.redo()
    assert controller.refining.label == 1
    assert points_of(controller) == [COIN]
    controller.objects.delete([1])
    assert controller.refining is None
    controller.undo()  # The deletion, and not the taking up of an object that is gone.
    assert controller.target.data[COIN] == 1
    assert controller.refining is None


def test_a_deleted_layer_of_prompts_comes_back(viewer, controller):
    click(controller, COIN)
    before = mask_of(controller)
    viewer.layers.remove(controller.points)
    assert controller.candidates is None
    controller.undo()
    assert points_of(controller) == [COIN]
    np.testing.assert_array_equal(mask_of(controller), before)


def test_another_image_begins_with_no_steps(viewer, controller, coins, notes):
    click(controller, COIN)
    controller.set_image(viewer.add_image(coins[::-1], name="other"))
    controller.undo()
    assert "nothing to undo" in notes[-1]
    assert points_of(controller) == []


# -- several open objects ----------------------------------------------------------------------------------------------


def open_three(controller):
    click(controller, COIN)
    controller.in_hand.begin_another()
    click(controller, NEIGHBOUR)
    controller.in_hand.begin_another()
    click(controller, THIRD)


def test_each_open_object_has_its_own_prompts_and_all_are_drawn(controller):
    open_three(controller)
    assert controller.points.features["object"].nunique() == 3
    mask = mask_of(controller)
    assert mask[THIRD]
    assert not mask[COIN]
    layer = controller.drawing.pending
    assert layer.visible
    shown = {point: layer.get_value(point, world=True) for point in (COIN, NEIGHBOUR, THIRD, (0, 0))}
    assert shown[COIN] != shown[NEIGHBOUR]
    assert shown[COIN]
    assert shown[NEIGHBOUR]
    assert not shown[THIRD]
    assert not shown[0, 0]


def test_they_are_taken_up_in_turn_corrected_and_accepted_one_by_one(controller, coin_labels):
    open_three(controller)
    controller.in_hand.take_next()
    assert mask_of(controller)[COIN]
    click(controller, (45, 150))
    assert controller.points.features["object"].tolist().count(controller.open.now.number) == 2
    controller.accept()
    assert set(points_of(controller)) == {NEIGHBOUR, THIRD}
    assert controller.target.data[COIN] == 1
    assert controller.candidates is None
    controller.in_hand.take_next()
    controller.accept()
    controller.in_hand.take_next()
    controller.accept()
    assert points_of(controller) == []
    assert not controller.drawing.pending.visible
    for label, point in ((1, COIN), (2, NEIGHBOUR), (3, THIRD)):
        assert iou(controller.target.data == label, coin_labels == coin_labels[point]) > 0.8


def test_all_are_accepted_at_once_in_their_order_and_taken_back_at_once(controller):
    open_three(controller)
    controller.accepting.accept_all()
    labels = controller.target.data
    assert [labels[point] for point in (COIN, NEIGHBOUR, THIRD)] == [1, 2, 3]
    assert points_of(controller) == []
    assert [len(row.parts[0].prompts.points) for row in controller.objects.rows] == [1, 1, 1]
    controller.undo()
    assert [labels[point] for point in (COIN, NEIGHBOUR, THIRD)] == [0, 0, 0]


def test_ctrl_click_and_a_selected_prompt_take_an_open_object_up(controller):
    open_three(controller)
    controller.in_hand.refine(NEIGHBOUR)
    assert mask_of(controller)[NEIGHBOUR]
    controller.points.selected_data = {0}
    assert mask_of(controller)[COIN]
    assert controller.refining is None


def test_beginning_another_one_is_a_step_and_needs_a_prompt(controller, notes):
    controller.in_hand.begin_another()
    assert "click an object first" in notes[-1]
    controller.in_hand.take_next()
    assert "No other object is open" in notes[-1]
    click(controller, COIN)
    controller.in_hand.begin_another()
    click(controller, NEIGHBOUR)
    controller.undo()
    assert controller.candidates is None
    assert len(controller.open.pending) == 1
    controller.undo()
    assert controller.open.pending == []
    assert mask_of(controller)[COIN]
    assert not controller.drawing.pending.visible
    controller.redo()
    controller.redo()
    assert mask_of(controller)[NEIGHBOUR]
    assert len(controller.open.pending) == 1


def test_accepting_one_leaves_the_steps_of_the_others(controller):
    open_three(controller)
    controller.accept()
    controller.in_hand.take_next()
    controller.undo()  # That the first one was taken up again.
    assert controller.candidates is None
    assert [row.label for row in controller.objects.rows] == [1]
    controller.undo()  # That the third one was accepted.
    assert controller.objects.rows == []
    controller.undo()  # That a third one was begun.
    assert mask_of(controller)[NEIGHBOUR]
    controller.undo()
    assert points_of(controller) == [COIN]
    controller.redo()
    assert points_of(controller) == [COIN, NEIGHBOUR]


def test_what_cannot_be_written_stays_open_with_all_that_waited(controller, viewer, coins, notes):
    full = np.full(coins.shape, 7, np.uint16)
    controller.set_target(viewer.add_labels(full.copy()))
    controller.accepting.overlap = "empty"
    open_three(controller)
    controller.accepting.accept_all()
    assert len(notes) == 1
    assert set(points_of(controller)) == {COIN, NEIGHBOUR, THIRD}
    assert len(controller.open.pending) == 2
    np.testing.assert_array_equal(controller.target.data, full)
    controller.accepting.overlap = "overwrite"
    controller.accepting.accept_all()
    assert sorted(np.unique(controller.target.data)) == [7, 8, 9, 10]


def test_an_object_that_is_left_before_its_answer_is_asked_again_when_it_is_accepted(viewer, make_controller):
    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, COIN)
    controller.in_hand.begin_another()
    click(controller, NEIGHBOUR)
    controller.accepting.accept_all()
    while runner.jobs:
        runner.release()
    assert [controller.target.data[point] for point in (COIN, NEIGHBOUR)] == [1, 2]
    assert points_of(controller) == []


def test_open_objects_are_drawn_on_their_own_plane_only(coins, make_controller):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([coins, coins]))
    controller = make_controller(viewer)
    controller.set_image(image)
    viewer.dims.set_point(0, 0)
    controller.points.add(np.array([[0, *COIN]], float))
    controller.in_hand.begin_another()
    assert controller.drawing.pending.visible
    viewer.dims.set_point(0, 1)
    assert not controller.drawing.pending.visible
    controller.points.add(np.array([[1, *NEIGHBOUR]], float))
    controller.accepting.accept_all()
    assert controller.target.data[(0, *COIN)] == 1
    assert controller.target.data[(1, *NEIGHBOUR)] == 2
    assert controller.target.data[(1, *COIN)] == 0


def test_a_viewer_is_emptied_with_objects_open(viewer, controller):
    open_three(controller)
    viewer.layers.clear()
    assert controller.image is None
    assert controller.open.pending == []
    assert len(viewer.layers) == 0


def test_a_picture_of_masks_far_apart_is_small_and_shows_each():
    plane_side = 100_000
    masks = [
        Mask(Box(at, at, at + 40, at + 30), np.ones((40, 30), bool)) for at in (100, plane_side // 2, plane_side - 60)
    ]
    box, step, picture = overview(masks, 512)
    assert max(picture.shape) <= 512
    assert set(np.unique(picture)) == {0, 1, 2, 3}
    for number, mask in enumerate(masks, 1):
        row, col = np.argwhere(picture == number)[0]
        assert abs(box.top + row * step - mask.box.top) <= step
        assert abs(box.left + col * step - mask.box.left) <= step


def test_a_picture_of_masks_close_together_is_exact():
    disc = np.hypot(*np.mgrid[-4:5, -4:5]) < 4
    box, step, picture = overview([Mask(Box(3, 5, 12, 14), disc), Mask(Box(20, 2, 22, 4), np.ones((2, 2), bool))], 512)
    assert step == 1
    assert box.as_tuple() == (3, 2, 22, 14)
    np.testing.assert_array_equal(picture[:9, 3:12] == 1, disc)
    assert (picture == 2).sum() == 4


def test_an_object_that_is_left_without_prompts_is_open_no_more(viewer, controller):
    open_three(controller)
    controller.points.selected_data = set()
    controller.points.mode = "select"
    viewer.layers.remove(controller.points)
    assert controller.open.pending == []
    assert not controller.drawing.pending.visible
    controller.undo()
    assert len(controller.open.pending) == 2
    assert controller.drawing.pending is not None


def test_the_answer_of_an_open_object_follows_its_prompts(controller):
    open_three(controller)
    mine = controller.open.pending[0]
    before = mine.candidates
    data = controller.points.data.copy()
    data[0] = (45, 150)
    controller.points.data = data
    assert mine.candidates is not before
    controller.accepting.accept_all()
    assert controller.target.data[45, 150] == 1
    assert controller.objects.rows[0].parts[0].prompts.points.tolist() == [[45, 150]]


def test_after_a_flip_the_next_click_belongs_to_the_object_in_hand(controller):
    open_three(controller)
    controller.in_hand.take_next()  # The last point belongs to another object now.
    mine = controller.open.now
    controller.points.mode = "select"
    controller.points.selected_data = {0}
    controller.toggle_sign()
    controller.toggle_sign()
    controller.activate("points")
    click(controller, (45, 150))
    assert controller.open.now is mine
    assert controller.points.features["object"].tolist()[-1] == mine.number


def test_after_a_flip_of_a_scribble_the_next_one_belongs_to_the_object_in_hand(controller):
    controller.activate("scribble")
    controller.shapes.add_paths(np.array([[50.0, 145], [50, 165]]))
    mine = controller.open.now
    controller.in_hand.begin_another()
    controller.shapes.add_paths(np.array([[56.0, 90], [56, 105]]))
    controller.in_hand.take_next()
    controller.shapes.mode = "select"
    controller.shapes.selected_data = {0}
    controller.toggle_sign()
    controller.toggle_sign()
    controller.activate("scribble")
    controller.shapes.add_paths(np.array([[40.0, 150], [44, 160]]))
    assert controller.open.now is mine
    assert controller.shapes.features["object"].tolist()[-1] == mine.number


def test_an_object_in_hand_stays_in_the_steps_when_another_one_is_let_go(controller):
    click(controller, COIN)
    controller.accept()
    controller.objects.reopen(1)
    controller.in_hand.begin_another()
    click(controller, NEIGHBOUR)
    controller.in_hand.begin_another()
    controller.in_hand.take_next()
    controller.in_hand.take_next()
    assert mask_of(controller)[NEIGHBOUR]
    controller.objects.delete([1])  # The parked correction goes with it.
    assert controller.open.pending == []
    controller.undo()  # That the neighbour was taken up: it is parked again, and not lost.
    assert points_of(controller) == [NEIGHBOUR]
    assert any(controller.prompts.count_of(each.number) for each in controller.open.open)


def test_the_sign_of_the_next_prompt_is_the_same_for_all_tools_after_a_flip(controller):
    click(controller, COIN, (45, 150))
    controller.points.mode = "select"
    controller.points.selected_data = {1}
    controller.toggle_sign()
    controller.activate("scribble")
    assert controller.sign == int(controller.shapes.feature_defaults["label"][0]) == 1
    controller.shapes.add_paths(np.array([[50.0, 150], [52, 160]]))
    assert controller.shapes.features["label"].tolist() == [1]
