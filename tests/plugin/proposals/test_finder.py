"""The task All without a window and without a model: the search is played back tile by tile."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Shapes
from tests.plugin.proposals.playback import play, tile_of

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ModelError
from napari_sam.everything.options import FilterOptions
from napari_sam.plugin.layers.proposals import COLORS, REMOVED_COLOR, REVIEWED_COLOR, Pixels
from napari_sam.plugin.proposals import search as search_module
from napari_sam.testing.plugin import disc, labels_of, make_controller, propose, random_image

PLANE = Plane((1, 2), (0, 0, 0))
# Middle, radius and score of each object.
OBJECTS = (((8, 10), 5, 0.9), ((8, 30), 5, 0.6), ((28, 10), 6, 0.7), ((28, 34), 3, 0.55), ((20, 22), 4, 0.3))


@pytest.fixture
def controller(messages, monkeypatch):
    controller = make_controller(random_image(), messages.append)
    controller.viewer.dims.set_current_step(0, 0)
    controller.finder.filter(FilterOptions(confidence=0.5))
    monkeypatch.setattr(search_module, "SLICE_SECONDS", -1.0)  # One tile at a time.
    monkeypatch.setattr(search_module, "RARELY", 0)
    yield controller
    controller.close()


def found(controller, monkeypatch, *objects):
    """Search to the end."""
    segmenter = play(controller, monkeypatch, tile_of(*objects))
    controller.runner.run_idle()
    return segmenter


def kept_middles(controller):
    selection = controller.finder.selection
    return [tuple(selection.found.points[number].astype(int)) for number in selection.kept]


def click(controller, row, col):
    controller.finder._on_click(controller.session.image.data_to_world((0, row, col)))


def test_what_a_tile_gives_is_shown_before_the_next_one_and_the_best_comes_first(controller, monkeypatch):
    play(controller, monkeypatch, tile_of(*OBJECTS[:2]), tile_of(*OBJECTS[2:]))
    progress, counts = [], []
    for _ in range(3):
        assert controller.runner.run_idle(limit=1) == 1
        now = controller.finder.search.progress
        progress.append(None if now is None else (now.done, now.total))
        counts.append(len(controller.finder.selection.kept))
    assert progress == [(0, 2), (1, 2), None]
    assert counts == [0, 2, 4]
    assert kept_middles(controller) == [(8, 10), (28, 10), (8, 30), (28, 34)]
    assert controller.finder.drawing.layer.visible
    assert controller.finder.drawing.layer not in controller.session.outputs


def test_filters_act_without_the_model(controller, monkeypatch):
    segmenter = found(controller, monkeypatch, *OBJECTS)
    for options, count in (
        (FilterOptions(confidence=0.2), 5),
        (FilterOptions(confidence=0.65), 2),
        (FilterOptions(confidence=0.2, sizes=(0, 7)), 1),
        (FilterOptions(confidence=0.2, stability_score_thresh=0.95), 0),
    ):
        controller.finder.filter(options)
        assert len(controller.finder.selection.kept) == count
        assert bool(controller.finder.drawing.layer.data.any()) == bool(count)
    assert len(segmenter.asked) == 1


def test_a_click_removes_a_proposal_another_one_brings_it_back_and_later_tiles_change_nothing(controller, monkeypatch):
    play(controller, monkeypatch, tile_of(*OBJECTS[:2]), tile_of(*OBJECTS[2:]))
    controller.runner.run_idle(limit=2)
    click(controller, 8, 30)
    click(controller, 1, 46)  # On nothing.
    assert kept_middles(controller) == [(8, 10)]
    controller.runner.run_idle()
    assert kept_middles(controller) == [(8, 10), (28, 10), (28, 34)]
    controller.finder.filter(FilterOptions(confidence=0.2))
    assert (8, 30) not in kept_middles(controller)
    click(controller, 10, 31)
    assert (8, 30) in kept_middles(controller)


def test_a_click_adds_an_object_that_the_filters_leave_out_but_no_other_view_of_a_kept_one(controller, monkeypatch):
    part_of_the_first = ((8, 10), 4, 0.4)
    found(controller, monkeypatch, *OBJECTS, part_of_the_first)
    assert (20, 22) not in kept_middles(controller)
    click(controller, 20, 22)
    assert (20, 22) in kept_middles(controller)
    controller.finder.filter(FilterOptions(confidence=0.65))
    assert kept_middles(controller) == [(8, 10), (28, 10), (20, 22)]
    click(controller, 20, 22)
    assert (20, 22) not in kept_middles(controller)
    click(controller, 8, 10)
    click(controller, 8, 10)
    assert kept_middles(controller) == [(8, 10), (28, 10)]
    click(controller, 1, 46)
    assert controller.session.status == "Nothing was found here: click it in the task One."


def test_accepting_writes_what_is_kept_with_prompts_and_scores_and_one_undo_takes_it_back(
    controller, monkeypatch, messages
):
    found(controller, monkeypatch, *OBJECTS)
    click(controller, 28, 10)
    controller.session.class_name = "cell"
    controller.finder.accept()
    labels = labels_of(controller)
    assert np.unique(labels).tolist() == [0, 1, 2, 3]
    assert [labels[0, 8, 10], labels[0, 8, 30], labels[0, 28, 34]] == [1, 2, 3]
    assert labels[0, 28, 10] == 0
    first = controller.objects.get(1)
    assert first.label_class.name == "cell"
    assert first.iou_prediction == pytest.approx(0.9)
    assert first.parts[0].prompts.points.tolist() == [[8, 10]]
    assert controller.finder.selection.found is None
    assert controller.session.status == "3 objects accepted."
    controller.undo.undo()
    assert not labels_of(controller).any()
    controller.undo.redo()
    np.testing.assert_array_equal(labels_of(controller), labels)
    assert messages == []


def test_an_accepted_proposal_is_corrected_like_any_object(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    controller.finder.accept()
    controller.editing.reopen(1)
    assert controller.session.task == "one"
    assert controller.session.current.replaces.label == 1
    np.testing.assert_allclose(controller.prompts.points.data, [[0, 8, 10]])


def test_clicks_and_proposals_are_undone_in_the_order_in_which_they_were_accepted(controller, monkeypatch):
    found(controller, monkeypatch, OBJECTS[0], OBJECTS[1])
    controller.finder.accept()
    propose(controller, disc(28, 10, 4), PLANE)
    controller.commits.accept()
    assert np.unique(labels_of(controller)).tolist() == [0, 1, 2, 3]
    controller.undo.undo()
    assert np.unique(labels_of(controller)).tolist() == [0, 1, 2]
    controller.undo.undo()
    assert not labels_of(controller).any()


def test_proposals_that_other_objects_cover_are_told_and_stay(controller, monkeypatch, messages):
    propose(controller, disc(8, 10, 9), PLANE)
    controller.commits.accept()
    found(controller, monkeypatch, OBJECTS[0])
    controller.finder.accept()
    assert "cover all of these" in messages[0]
    assert len(controller.finder.selection.kept) == 1
    controller.session.overlap = "overwrite"
    controller.finder.accept()
    assert labels_of(controller)[0, 8, 10] == 2


def test_objects_that_are_found_again_are_not_written_again(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS[:2])
    controller.finder.accept()
    before = labels_of(controller).copy()
    found(controller, monkeypatch, *[(middle, radius + 1, score) for middle, radius, score in OBJECTS[:2]], OBJECTS[2])
    controller.finder.accept()
    after = labels_of(controller)
    assert np.unique(after).tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(after[before > 0], before[before > 0])
    assert np.count_nonzero(after == 3) == disc(28, 10, 6).area
    assert controller.session.status == "1 object accepted. 2 lie under other objects."


def test_without_proposals_there_is_nothing_to_accept(controller, messages):
    controller.session.set_task("all")
    controller.finder.accept()
    assert "find objects first" in messages[0]


def test_cancel_keeps_what_was_found_and_ends_the_run(controller, monkeypatch):
    segmenter = play(controller, monkeypatch, tile_of(*OBJECTS[:2]), tile_of(*OBJECTS[2:]))
    controller.runner.run_idle(limit=2)
    controller.finder.cancel()
    assert controller.runner.run_idle() == 1
    assert segmenter.closed
    assert not controller.finder.search.is_running
    assert len(kept_middles(controller)) == 2
    controller.finder.accept()
    assert np.unique(labels_of(controller)).tolist() == [0, 1, 2]


def test_cancel_shows_the_tiles_that_were_not_worth_showing_yet(controller, monkeypatch):
    monkeypatch.setattr(search_module, "RARELY", 1e9)
    play(controller, monkeypatch, tile_of(OBJECTS[0]), tile_of(OBJECTS[1]), tile_of(*OBJECTS[2:]))
    controller.runner.run_idle(limit=3)
    assert kept_middles(controller) == []
    controller.finder.cancel()
    controller.runner.run_idle()
    assert kept_middles(controller) == [(8, 10), (8, 30)]


def test_an_error_of_the_search_is_told_and_ends_it(controller, monkeypatch, messages):
    def fail(report):
        raise ModelError("The weights are damaged: download them again.")

    monkeypatch.setattr(controller.jobs, "builder", lambda *_: fail)
    controller.finder.find()
    controller.runner.run_idle()
    assert messages == ["The weights are damaged: download them again."]
    assert not controller.finder.search.is_running


def test_another_contrast_stops_the_search_and_another_image_drops_the_proposals(controller, monkeypatch):
    play(controller, monkeypatch, tile_of(*OBJECTS[:2]), tile_of(*OBJECTS[2:]))
    controller.runner.run_idle(limit=2)
    controller.session.image.contrast_limits = (0, 100)
    controller.runner.run_idle(limit=1)
    assert not controller.finder.search.is_running
    assert len(controller.finder.selection.kept) == 2
    other = controller.viewer.add_image(random_image(1), contrast_limits=(0, 255))
    controller.session.set_image(other)
    assert controller.finder.selection.found is None
    assert "SAM proposals" not in controller.viewer.layers


def test_review_goes_from_the_least_certain_one_and_remembers_what_was_judged(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    finder, selection = controller.finder, controller.finder.selection

    def reviewed():
        number = selection.reviewed
        return None if number is None else tuple(selection.found.points[number].astype(int))

    finder.next_doubtful()
    assert reviewed() == (28, 34)
    np.testing.assert_allclose(controller.viewer.scene.camera.center[-2:], (28, 34), atol=1)
    finder.judge(keep=False)
    assert reviewed() == (8, 30)
    finder.judge(keep=True)
    assert reviewed() == (28, 10)
    finder.next_doubtful()
    assert reviewed() == (8, 10)
    finder.next_doubtful()  # Around again, without those that were judged.
    assert reviewed() == (28, 10)
    finder.leave()
    assert reviewed() is None
    assert controller.session.task == "all"
    assert kept_middles(controller) == [(8, 10), (28, 10), (8, 30)]
    finder.next_doubtful()
    finder.judge(keep=True)
    finder.judge(keep=True)
    assert reviewed() is None
    assert len(kept_middles(controller)) == 3


def test_escape_leaves_the_task_and_what_was_found_is_there_again(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    layer = controller.finder.drawing.layer
    controller.finder.leave()
    assert controller.session.task == "one"
    assert controller.prompts.tool == "points"
    assert not layer.visible
    controller.session.set_task("all")
    assert layer.visible
    assert controller.viewer.layers.selection.active is layer
    controller.editing.activate("box")  # A tool of the other task.
    assert controller.session.task == "one"
    controller.viewer.layers.selection.active = layer
    assert controller.session.task == "all"


def test_proposals_show_on_their_own_plane_only(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    layer = controller.finder.drawing.layer
    controller.viewer.dims.set_current_step(0, 1)
    assert not layer.visible
    click(controller, 8, 10)
    assert len(controller.finder.selection.kept) == 4
    controller.viewer.dims.set_current_step(0, 0)
    assert layer.visible


def test_the_view_the_plane_or_a_drawn_region_is_searched(controller, monkeypatch, messages):
    finder = controller.finder
    (asked,) = found(controller, monkeypatch, OBJECTS[0]).asked
    assert asked["box"].pixel_shape == (40, 48)
    assert asked["within"] is None
    finder.set_where("plane")
    assert found(controller, monkeypatch, OBJECTS[0]).asked[0]["box"] is None
    finder.filter(FilterOptions(sizes=(4.0, 30.0)))
    assert found(controller, monkeypatch, OBJECTS[0]).asked[0]["sizes"] == (4.0, 30.0)

    finder.set_within("drawn")
    region = controller.viewer.layers["SAM region"]
    assert controller.viewer.layers.selection.active is region
    finder.find()
    assert "There is no region yet" in messages[0]
    region.add_rectangles(np.array([[0, 2, 3], [0, 2, 20], [0, 15, 20], [0, 15, 3]], float))
    (asked,) = found(controller, monkeypatch, OBJECTS[0]).asked
    assert asked["within"].box.as_tuple() == (2, 3, 16, 21)

    mine = Shapes([np.array([[0, 20, 5], [0, 20, 30], [0, 35, 30]], float)], shape_type="polygon", ndim=3)
    controller.viewer.add_layer(mine)
    controller.viewer.layers.selection.active = mine
    (asked,) = found(controller, monkeypatch, OBJECTS[0]).asked
    assert asked["within"].pixels.sum() == pytest.approx(25 * 15 / 2, rel=0.2)
    assert controller.session.candidates is None


def test_a_deleted_layer_of_proposals_is_made_again(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    controller.viewer.layers.remove("SAM proposals")
    assert controller.finder.drawing.layer is None
    found(controller, monkeypatch, *OBJECTS)
    assert "SAM proposals" in controller.viewer.layers
    controller.close()
    assert "SAM proposals" not in controller.viewer.layers


def test_keys_of_the_layer_accept_review_and_leave(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    layer, selection = controller.finder.drawing.layer, controller.finder.selection
    pressed = {str(key): function for key, function in layer.keymap.items()}
    pressed["R"](layer)
    assert selection.reviewed is not None
    pressed["N"](layer)
    assert len(selection.kept) == 3
    pressed["Y"](layer)
    assert selection.doubtful_count == 2
    pressed["Escape"](layer)
    assert selection.reviewed is None
    pressed["C"](layer)
    assert len(controller.objects.rows) == 3
    assert not set(map(str, controller.prompts.points.keymap)) & {"Y", "R", "Escape"}


def test_outlines_have_their_own_colors_and_small_objects_are_dots(controller, monkeypatch):
    found(controller, monkeypatch, *OBJECTS)
    selection = controller.finder.selection
    all_found, kept = selection.found, selection.kept
    whole = controller.session.plane.shape_in((3, 40, 48))
    box = Box.of_shape(whole)
    (all_found,) = all_found.parts
    picture = Pixels(all_found, box, 1).picture(kept[1:], kept[:1], int(kept[1]))
    inside = lambda color: COLORS.index(color) + 1 + len(COLORS)  # noqa: E731
    assert picture[8, 10] == inside(REMOVED_COLOR)
    assert picture[3, 10] == COLORS.index(REMOVED_COLOR) + 1
    assert picture[28, 10] == inside(REVIEWED_COLOR)
    assert picture[20, 22] == 0  # It does not pass the filter.
    coarse = Pixels(all_found, box, 4).picture(kept, kept[:0])
    assert coarse.shape == (10, 12)
    assert (coarse[2, 2] > 0, coarse[7, 2] > 0, coarse[7, 8] > 0, coarse[5, 5] > 0) == (True, True, True, False)
    whole_picture = Pixels(all_found, box, 1).picture(kept, kept[:0])
    part = Pixels(all_found, Box(5, 10, 12, 20), 1).picture(kept, kept[:0])
    np.testing.assert_array_equal(part > 0, whole_picture[5:12, 10:20] > 0)
