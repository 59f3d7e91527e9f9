"""Steps back over prompts, and several open objects at once."""

from __future__ import annotations

import numpy as np
from napari.components import ViewerModel

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.plugin.layers.preview import overview
from napari_sam.testing import HeldRunner

COIN, NEIGHBOUR, THIRD = (51, 155), (56, 99), (125, 102)


def click(controller, *points):
    for point in points:
        controller.prompts.points.add(np.array([point], float))


def points_of(controller):
    return [tuple(point) for point in controller.prompts.points.data.tolist()]


def mask_of(controller):
    return controller.session.mask_of(controller.session.current).to_array((303, 384))


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


# -- steps back over prompts -------------------------------------------------------------------------------------------


def test_each_prompt_is_taken_back_and_done_again_with_its_mask(controller):
    masks = []
    for point, sign in ((COIN, 1), ((45, 150), 1), ((60, 182), 0)):
        if controller.prompts.sign != sign:
            controller.prompts.toggle_sign()
        click(controller, point)
        masks.append(mask_of(controller))
    for count in (2, 1):
        controller.undo.undo()
        assert len(controller.prompts.points.data) == count
        np.testing.assert_array_equal(mask_of(controller), masks[count - 1])
    controller.undo.undo()
    assert points_of(controller) == []
    assert controller.session.candidates is None
    assert not controller.preview.layers.current.visible
    for count in (1, 2, 3):
        controller.undo.redo()
        np.testing.assert_array_equal(mask_of(controller), masks[count - 1])
    assert controller.prompts.points.features["label"].tolist() == [1, 1, 0]


def test_moving_deleting_flipping_and_clearing_are_steps(controller):
    click(controller, COIN)
    controller.prompts.points.data = np.array([NEIGHBOUR], float)
    controller.prompts.points.mode = "select"
    controller.prompts.points.selected_data = {0}
    controller.prompts.toggle_sign()
    controller.prompts.toggle_sign()
    controller.prompts.points.remove_selected()
    assert points_of(controller) == []
    for signs in ([1], [0], [1]):
        controller.undo.undo()
        assert points_of(controller) == [NEIGHBOUR]
        assert controller.prompts.points.features["label"].tolist() == signs
    controller.undo.undo()
    assert points_of(controller) == [COIN]
    controller.editing.clear()
    assert points_of(controller) == []
    controller.undo.undo()
    assert points_of(controller) == [COIN]
    assert controller.session.candidates is not None


def test_shapes_come_back_with_their_kind_their_sign_and_colour(controller):
    controller.editing.activate("box")
    controller.prompts.shapes.add_rectangles(np.array([[28, 132], [28, 179], [74, 179], [74, 132]], float))
    boxed = mask_of(controller)
    controller.prompts.toggle_sign()
    controller.prompts.shapes.add_paths(np.array([[80.0, 150], [80, 170]]))
    with_scribble = mask_of(controller)
    colors = controller.prompts.shapes.edge_color.copy()
    controller.undo.undo()
    assert controller.prompts.shapes.shape_type == ["rectangle"]
    np.testing.assert_array_equal(mask_of(controller), boxed)
    controller.undo.redo()
    assert controller.prompts.shapes.shape_type == ["rectangle", "path"]
    assert controller.prompts.shapes.features["label"].tolist() == [1, 0]
    np.testing.assert_allclose(controller.prompts.shapes.edge_color, colors)
    np.testing.assert_array_equal(mask_of(controller), with_scribble)


def test_selected_scribbles_are_flipped(controller):
    controller.editing.activate("scribble")
    controller.prompts.shapes.add_paths(np.array([[50.0, 145], [50, 165]]))
    controller.prompts.shapes.add_paths(np.array([[48.0, 180], [56, 182]]))
    controller.prompts.shapes.mode = "select"
    controller.prompts.shapes.selected_data = {1}
    controller.prompts.toggle_sign()
    assert controller.prompts.shapes.features["label"].tolist() == [1, 0]
    assert (controller.prompts.shapes.edge_color[0] != controller.prompts.shapes.edge_color[1]).any()
    assert not mask_of(controller)[56, 182]


def test_prompts_go_first_and_then_what_was_written_and_forth_in_the_same_order(controller):
    click(controller, COIN)
    controller.commits.accept()
    written = controller.session.target.data.copy()
    click(controller, NEIGHBOUR)
    controller.undo.undo()
    assert points_of(controller) == []
    np.testing.assert_array_equal(controller.session.target.data, written)
    controller.undo.undo()
    assert not controller.session.target.data.any()
    controller.undo.redo()
    np.testing.assert_array_equal(controller.session.target.data, written)
    controller.undo.redo()
    assert points_of(controller) == [NEIGHBOUR]


def test_a_new_prompt_ends_the_way_forth_for_prompts_and_not_for_what_was_written(controller, notes):
    click(controller, COIN)
    controller.commits.accept()
    written = controller.session.target.data.copy()
    controller.undo.undo()
    click(controller, NEIGHBOUR)
    controller.undo.redo()
    np.testing.assert_array_equal(controller.session.target.data, written)
    assert points_of(controller) == [NEIGHBOUR]
    controller.undo.redo()
    assert "nothing to redo" in notes[-1]


def test_taking_up_an_object_is_a_step_and_nothing_comes_back_for_one_that_was_deleted(controller):
    click(controller, COIN)
    controller.commits.accept()
    controller.editing.reopen(1)
    assert controller.session.current.replaces.label == 1
    controller.undo.undo()
    assert controller.session.current.replaces is None
    assert points_of(controller) == []
    controller.undo.redo()
    assert controller.session.current.replaces.label == 1
    assert points_of(controller) == [COIN]
    controller.objects.delete([1])
    assert controller.session.current.replaces is None
    controller.undo.undo()  # The deletion, and not the taking up of an object that is gone.
    assert controller.session.target.data[COIN] == 1
    assert controller.session.current.replaces is None


def test_a_deleted_layer_of_prompts_comes_back(viewer, controller):
    click(controller, COIN)
    before = mask_of(controller)
    viewer.layers.remove(controller.prompts.points)
    assert controller.session.candidates is None
    controller.undo.undo()
    assert points_of(controller) == [COIN]
    np.testing.assert_array_equal(mask_of(controller), before)


def test_another_image_begins_with_no_steps(viewer, controller, coins, notes):
    click(controller, COIN)
    controller.session.set_image(viewer.add_image(coins[::-1], name="other"))
    controller.undo.undo()
    assert "nothing to undo" in notes[-1]
    assert points_of(controller) == []


# -- several open objects ----------------------------------------------------------------------------------------------


def open_three(controller):
    click(controller, COIN)
    controller.editing.new_object()
    click(controller, NEIGHBOUR)
    controller.editing.new_object()
    click(controller, THIRD)


def test_each_open_object_has_its_own_prompts_and_all_are_drawn(controller):
    open_three(controller)
    assert controller.prompts.points.features["object"].nunique() == 3
    mask = mask_of(controller)
    assert mask[THIRD]
    assert not mask[COIN]
    layer = controller.preview.layers.pending
    assert layer.visible
    shown = {point: layer.get_value(point, world=True) for point in (COIN, NEIGHBOUR, THIRD, (0, 0))}
    assert shown[COIN] != shown[NEIGHBOUR]
    assert shown[COIN]
    assert shown[NEIGHBOUR]
    assert not shown[THIRD]
    assert not shown[0, 0]


def test_they_are_taken_up_in_turn_corrected_and_accepted_one_by_one(controller, coin_labels):
    open_three(controller)
    controller.editing.next_object()
    assert mask_of(controller)[COIN]
    click(controller, (45, 150))
    assert controller.prompts.points.features["object"].tolist().count(controller.session.drafts.current.number) == 2
    controller.commits.accept()
    assert set(points_of(controller)) == {NEIGHBOUR, THIRD}
    assert controller.session.target.data[COIN] == 1
    assert controller.session.candidates is None
    controller.editing.next_object()
    controller.commits.accept()
    controller.editing.next_object()
    controller.commits.accept()
    assert points_of(controller) == []
    assert not controller.preview.layers.pending.visible
    for label, point in ((1, COIN), (2, NEIGHBOUR), (3, THIRD)):
        assert iou(controller.session.target.data == label, coin_labels == coin_labels[point]) > 0.8


def test_all_are_accepted_at_once_in_their_order_and_taken_back_at_once(controller):
    open_three(controller)
    controller.commits.accept_all()
    labels = controller.session.target.data
    assert [labels[point] for point in (COIN, NEIGHBOUR, THIRD)] == [1, 2, 3]
    assert points_of(controller) == []
    assert [len(row.parts[0].prompts.points) for row in controller.objects.rows] == [1, 1, 1]
    controller.undo.undo()
    assert [labels[point] for point in (COIN, NEIGHBOUR, THIRD)] == [0, 0, 0]


def test_ctrl_click_and_a_selected_prompt_take_an_open_object_up(controller):
    open_three(controller)
    controller.editing.pick(NEIGHBOUR)
    assert mask_of(controller)[NEIGHBOUR]
    controller.prompts.points.selected_data = {0}
    assert mask_of(controller)[COIN]
    assert controller.session.current.replaces is None


def test_beginning_another_one_is_a_step_and_needs_a_prompt(controller, notes):
    controller.editing.new_object()
    assert "click an object first" in notes[-1]
    controller.editing.next_object()
    assert "No other object is open" in notes[-1]
    click(controller, COIN)
    controller.editing.new_object()
    click(controller, NEIGHBOUR)
    controller.undo.undo()
    assert controller.session.candidates is None
    assert len(controller.session.drafts.pending) == 1
    controller.undo.undo()
    assert controller.session.drafts.pending == []
    assert mask_of(controller)[COIN]
    assert not controller.preview.layers.pending.visible
    controller.undo.redo()
    controller.undo.redo()
    assert mask_of(controller)[NEIGHBOUR]
    assert len(controller.session.drafts.pending) == 1


def test_accepting_one_leaves_the_steps_of_the_others(controller):
    open_three(controller)
    controller.commits.accept()
    controller.editing.next_object()
    controller.undo.undo()  # That the first one was taken up again.
    assert controller.session.candidates is None
    assert [row.label for row in controller.objects.rows] == [1]
    controller.undo.undo()  # That the third one was accepted.
    assert controller.objects.rows == []
    controller.undo.undo()  # That a third one was begun.
    assert mask_of(controller)[NEIGHBOUR]
    controller.undo.undo()
    assert points_of(controller) == [COIN]
    controller.undo.redo()
    assert points_of(controller) == [COIN, NEIGHBOUR]


def test_what_cannot_be_written_stays_open_with_all_that_waited(controller, viewer, coins, notes):
    full = np.full(coins.shape, 7, np.uint16)
    controller.session.set_target(viewer.add_labels(full.copy()))
    controller.session.overlap = "empty"
    open_three(controller)
    controller.commits.accept_all()
    assert len(notes) == 1
    assert set(points_of(controller)) == {COIN, NEIGHBOUR, THIRD}
    assert len(controller.session.drafts.pending) == 2
    np.testing.assert_array_equal(controller.session.target.data, full)
    controller.session.overlap = "overwrite"
    controller.commits.accept_all()
    assert sorted(np.unique(controller.session.target.data)) == [7, 8, 9, 10]


def test_an_object_that_is_left_before_its_answer_is_asked_again_when_it_is_accepted(viewer, make_controller):
    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, COIN)
    controller.editing.new_object()
    click(controller, NEIGHBOUR)
    controller.commits.accept_all()
    while runner.jobs:
        runner.release()
    assert [controller.session.target.data[point] for point in (COIN, NEIGHBOUR)] == [1, 2]
    assert points_of(controller) == []


def test_open_objects_are_drawn_on_their_own_plane_only(coins, make_controller):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([coins, coins]))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    viewer.dims.set_point(0, 0)
    controller.prompts.points.add(np.array([[0, *COIN]], float))
    controller.editing.new_object()
    assert controller.preview.layers.pending.visible
    viewer.dims.set_point(0, 1)
    assert not controller.preview.layers.pending.visible
    controller.prompts.points.add(np.array([[1, *NEIGHBOUR]], float))
    controller.commits.accept_all()
    assert controller.session.target.data[(0, *COIN)] == 1
    assert controller.session.target.data[(1, *NEIGHBOUR)] == 2
    assert controller.session.target.data[(1, *COIN)] == 0


def test_a_viewer_is_emptied_with_objects_open(viewer, controller):
    open_three(controller)
    viewer.layers.clear()
    assert controller.session.image is None
    assert controller.session.drafts.pending == []
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
    controller.prompts.points.selected_data = set()
    controller.prompts.points.mode = "select"
    viewer.layers.remove(controller.prompts.points)
    assert controller.session.drafts.pending == []
    assert not controller.preview.layers.pending.visible
    controller.undo.undo()
    assert len(controller.session.drafts.pending) == 2
    assert controller.preview.layers.pending is not None


def test_the_answer_of_an_open_object_follows_its_prompts(controller):
    open_three(controller)
    mine = controller.session.drafts.pending[0]
    before = mine.candidates
    data = controller.prompts.points.data.copy()
    data[0] = (45, 150)
    controller.prompts.points.data = data
    assert mine.candidates is not before
    controller.commits.accept_all()
    assert controller.session.target.data[45, 150] == 1
    assert controller.objects.rows[0].parts[0].prompts.points.tolist() == [[45, 150]]


def test_after_a_flip_the_next_click_belongs_to_the_object_in_hand(controller):
    open_three(controller)
    controller.editing.next_object()  # The last point belongs to another object now.
    mine = controller.session.drafts.current
    controller.prompts.points.mode = "select"
    controller.prompts.points.selected_data = {0}
    controller.prompts.toggle_sign()
    controller.prompts.toggle_sign()
    controller.editing.activate("points")
    click(controller, (45, 150))
    assert controller.session.drafts.current is mine
    assert controller.prompts.points.features["object"].tolist()[-1] == mine.number


def test_after_a_flip_of_a_scribble_the_next_one_belongs_to_the_object_in_hand(controller):
    controller.editing.activate("scribble")
    controller.prompts.shapes.add_paths(np.array([[50.0, 145], [50, 165]]))
    mine = controller.session.drafts.current
    controller.editing.new_object()
    controller.prompts.shapes.add_paths(np.array([[56.0, 90], [56, 105]]))
    controller.editing.next_object()
    controller.prompts.shapes.mode = "select"
    controller.prompts.shapes.selected_data = {0}
    controller.prompts.toggle_sign()
    controller.prompts.toggle_sign()
    controller.editing.activate("scribble")
    controller.prompts.shapes.add_paths(np.array([[40.0, 150], [44, 160]]))
    assert controller.session.drafts.current is mine
    assert controller.prompts.shapes.features["object"].tolist()[-1] == mine.number


def test_an_object_in_hand_stays_in_the_steps_when_another_one_is_let_go(controller):
    click(controller, COIN)
    controller.commits.accept()
    controller.editing.reopen(1)
    controller.editing.new_object()
    click(controller, NEIGHBOUR)
    controller.editing.new_object()
    controller.editing.next_object()
    controller.editing.next_object()
    assert mask_of(controller)[NEIGHBOUR]
    controller.objects.delete([1])  # The parked correction goes with it.
    assert controller.session.drafts.pending == []
    controller.undo.undo()  # That the neighbour was taken up: it is parked again, and not lost.
    assert points_of(controller) == [NEIGHBOUR]
    assert any(controller.prompts.count_of(each.number) for each in controller.session.drafts.open)


def test_the_sign_of_the_next_prompt_is_the_same_for_all_tools_after_a_flip(controller):
    click(controller, COIN, (45, 150))
    controller.prompts.points.mode = "select"
    controller.prompts.points.selected_data = {1}
    controller.prompts.toggle_sign()
    controller.editing.activate("scribble")
    assert controller.prompts.sign == int(controller.prompts.shapes.feature_defaults["label"][0]) == 1
    controller.prompts.shapes.add_paths(np.array([[50.0, 150], [52, 160]]))
    assert controller.prompts.shapes.features["label"].tolist() == [1]
