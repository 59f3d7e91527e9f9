"""The task All on a volume, without a model: planes one after the other, linked into objects when they are accepted."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.proposals.playback import play, tile_of

from napari_sam.core.geometry import Plane
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.plugin.proposals import search as search_module
from napari_sam.plugin.proposals.found_planes import FoundPlanes
from napari_sam.testing.plugin import disc, labels_of, make_controller, propose, random_image

# A ball through all planes, an object of the first plane, and one that is missing in the middle.
BALL, FLAT, GAP = ((20, 20), 7, 0.9), ((8, 40), 4, 0.8), ((32, 38), 5, 0.7)
PLANES = {
    0: [tile_of(BALL, FLAT), tile_of(GAP)],
    1: [tile_of(((20, 21), 7, 0.9))],
    2: [tile_of(((21, 21), 6, 0.6), GAP)],
}


def plane_at(z):
    return Plane((1, 2), (z, 0, 0))


@pytest.fixture
def controller(messages, monkeypatch):
    controller = make_controller(random_image(), messages.append)
    controller.viewer.dims.set_current_step(0, 1)
    controller.finder.set_where("volume")
    monkeypatch.setattr(search_module, "SLICE_SECONDS", -1.0)  # One tile at a time.
    monkeypatch.setattr(search_module, "RARELY", 0)
    yield controller
    controller.close()


def search(controller, monkeypatch, planes=PLANES):
    segmenter = play(controller, monkeypatch, planes)
    controller.runner.run_idle()
    return segmenter


def test_the_plane_in_view_is_searched_first_and_progress_counts_planes(controller, monkeypatch):
    segmenter = play(controller, monkeypatch, PLANES)
    assert controller.finder.search.progress.text == "Starting ..."
    texts, counts = [], []
    while controller.finder.search.is_running:
        controller.runner.run_idle(limit=1)
        progress = controller.finder.search.progress
        if progress is not None:
            texts.append((progress.done, progress.total, progress.unit))
            counts.append(len(controller.finder.selection.kept))
    assert [asked["plane"].index[0] for asked in segmenter.asked] == [1, 2, 0]
    assert texts == [(done, 3, "planes") for done in (0, 1, 1, 2, 2, 2.5)]
    assert counts == [0, 1, 1, 3, 3, 5]
    assert len(controller.finder.selection.kept) == 6
    assert controller.finder.is_long


def test_progress_tells_planes_rate_and_time_left():
    progress = search_module.SearchProgress(40, 2.5, 25.0, "planes")
    assert progress.text == "2 of 40 planes, 6.0 a minute, 6 min 15 s left"
    assert search_module.SearchProgress(4, 2, 1.0).text == "2 of 4 tiles, 2.0 a second, 1 s left"


def test_parts_in_neighboring_planes_become_one_object_and_one_undo_takes_all_back(controller, monkeypatch, messages):
    search(controller, monkeypatch)
    controller.session.class_name = "cell"
    controller.finder.accept()
    labels = labels_of(controller)
    ball, flat, gap = labels[0, 20, 20], labels[0, 8, 40], labels[0, 32, 38]
    assert len({ball, flat, gap, 0}) == 4
    assert [labels[1, 20, 20], labels[2, 20, 20]] == [ball, ball]
    assert labels[2, 32, 38] == gap
    assert np.unique(labels).tolist() == sorted([0, ball, flat, gap])
    assert controller.session.status == "3 objects accepted."
    assert len(controller.objects.rows) == 3
    assert len(controller.objects.get(int(ball)).parts) == 3
    assert {row.label_class.name for row in controller.objects.rows} == {"cell"}
    assert controller.objects.get(int(ball)).part(plane_at(2)).prompts.points.tolist() == [[21, 21]]
    controller.undo.undo()
    assert controller.session.status == "3 objects were accepted: taken back."
    assert not labels_of(controller).any()
    assert len(controller.objects.rows) == 0
    controller.undo.redo()
    np.testing.assert_array_equal(labels_of(controller), labels)
    assert messages == []


def test_filters_clicks_and_review_work_across_planes(controller, monkeypatch):
    search(controller, monkeypatch)
    finder, selection = controller.finder, controller.finder.selection
    assert finder.drawing.layer.data.any()
    finder.filter(FilterOptions(confidence=0.75))
    assert len(selection.kept) == 3
    finder.filter(FilterOptions())
    controller.viewer.dims.set_current_step(0, 2)
    finder._on_click(controller.session.image.data_to_world((2, 32, 38)))
    assert len(selection.kept) == 5
    finder.next_doubtful()
    assert selection.found.place_of(selection.reviewed)[0] == plane_at(2)
    finder.next_doubtful()
    assert selection.found.place_of(selection.reviewed)[0] == plane_at(0)
    assert controller.session.plane == plane_at(0)
    finder.accept()
    labels = labels_of(controller)
    assert labels[2, 32, 38] == 0
    assert labels[0, 32, 38] > 0


def test_cancel_keeps_the_planes_that_are_done(controller, monkeypatch):
    play(controller, monkeypatch, PLANES)
    controller.runner.run_idle(limit=2)
    controller.finder.cancel()
    controller.runner.run_idle()
    assert not controller.finder.search.is_running
    assert controller.finder.selection.found.planes == [plane_at(1)]
    controller.finder.accept()
    assert labels_of(controller)[1].any()
    assert not labels_of(controller)[[0, 2]].any()


def test_an_object_that_was_accepted_before_goes_on_under_its_label(controller, monkeypatch):
    propose(controller, disc(20, 21, 7), plane_at(1))
    controller.commits.accept()
    search(controller, monkeypatch)
    controller.finder.accept()
    labels = labels_of(controller)
    assert [labels[z, 20, 20] for z in range(3)] == [1, 1, 1]
    assert len(controller.objects.get(1).parts) == 3
    controller.undo.undo()
    assert [labels_of(controller)[z, 20, 20] for z in range(3)] == [0, 1, 0]


def test_a_click_in_a_plane_that_was_not_searched_says_so(controller, monkeypatch):
    controller.finder.set_where("plane")
    search(controller, monkeypatch)
    controller.viewer.dims.set_current_step(0, 0)
    controller.finder._on_click(controller.session.image.data_to_world((0, 20, 20)))
    assert "not searched" in controller.session.status


def test_labels_of_another_layer_limit_every_plane_and_empty_planes_are_left_out(controller, monkeypatch, messages):
    tissue = np.zeros((3, 40, 48), np.uint8)
    tissue[1, 10:30, 5:25] = 3
    layer = controller.viewer.add_labels(tissue, name="tissue")
    controller.finder.set_within(layer)
    segmenter = search(controller, monkeypatch)
    (asked,) = segmenter.asked
    assert asked["plane"] == plane_at(1)
    assert asked["within"].box.as_tuple() == (10, 5, 30, 25)
    assert messages == []
    layer.data = np.zeros_like(tissue)
    search(controller, monkeypatch)
    assert "nothing to search" in messages[0]
    controller.viewer.layers.remove(layer)


def test_what_is_drawn_in_one_plane_limits_all_and_several_shapes_count_together(controller, monkeypatch):
    controller.finder.set_within("drawn")
    region = controller.viewer.layers["SAM region"]
    corners = np.array([[1, 2, 3], [1, 2, 20], [1, 15, 20], [1, 15, 3]], float)
    region.add_rectangles([corners, corners + np.array([0, 20, 20])])
    segmenter = search(controller, monkeypatch)
    assert [asked["plane"].index[0] for asked in segmenter.asked] == [1, 2, 0]
    within = segmenter.asked[1]["within"]
    assert within.box.as_tuple() == (2, 3, 36, 41)
    assert within.area == 2 * 14 * 18


def test_planes_are_numbered_one_after_the_other():
    parts = [FoundObjects(plane_at(z), tile_of(*objects)) for z, objects in ((1, [BALL, FLAT]), (0, []), (2, [GAP]))]
    found = FoundPlanes(parts)
    assert len(found) == 3
    assert [found.place_of(number)[0].index[0] for number in range(3)] == [1, 1, 2]
    assert found.number(plane_at(2), 0) == 2
    assert found.mask(2).box == disc(32, 38, 5).box
    assert found.among(plane_at(1), np.array([2, 1, 0])).tolist() == [1, 0]
    assert found.among(plane_at(0), np.array([2, 1, 0])).tolist() == []
    assert found.select().tolist() == [0, 1, 2]
    assert found.on(plane_at(5)) is None
