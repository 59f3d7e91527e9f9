"""Taking up objects that stand in a Labels layer already; without a window."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.layers import Labels

from napari_sam.core.geometry import Plane
from napari_sam.plugin.annotation import picking as refine
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.testing import HeldRunner
from napari_sam.testing.plugin import propose

COIN, OTHER = (51, 155), (125, 102)
PLANE = Plane((0, 1), (0, 0))


@pytest.fixture
def labelled(viewer, coin_labels):
    rough = np.where(coin_labels == coin_labels[COIN], 7, 0).astype(np.uint16)
    rough[:, :140] = 0
    rough[52:60, 92:105] = 3
    return viewer.add_labels(rough, name="mine")


@pytest.fixture
def controller(viewer, labelled, make_controller):
    controller = make_controller(viewer)
    controller.session.set_image(viewer.layers["coins"])
    controller.session.set_target(labelled)
    return controller


def test_an_object_of_any_size_is_found_whole_and_its_far_pieces_are_left_out(monkeypatch):
    monkeypatch.setattr(refine, "WINDOW", 8)
    data = np.zeros((90, 120), np.uint8)
    data[10:80, 20:115] = 5
    data[30:60, 40:60] = 2
    data[0:3, 0:3] = 5
    found = refine.pick_object([Labels(data)], PLANE, (70.2, 100.4))
    expected = data == 5
    expected[0:3, 0:3] = False
    assert found.label == 5
    np.testing.assert_array_equal(found.mask.to_array(data.shape), expected)
    assert refine.pick_object([Labels(data)], PLANE, (5, 60)) is None


@pytest.mark.parametrize("axes", [(1, 2), (2, 1)])
def test_on_any_plane_and_of_zarr(tmp_path, axes):
    array = zarr.create_array(tmp_path / "l.zarr", shape=(3, 40, 50), chunks=(1, 16, 16), dtype="uint16")
    array[1, 10:20, 30:45] = 4
    found = refine.pick_object([Labels(array)], Plane(axes, (1, 0, 0)), (15, 35) if axes == (1, 2) else (35, 15))
    assert found.mask.area == 150
    box = (10, 30, 20, 45) if axes == (1, 2) else (30, 10, 45, 20)
    assert found.mask.box.as_tuple() == box


def test_accept_takes_the_objects_place_and_undo_brings_the_old_one_back(controller, labelled, coin_labels):
    before = labelled.data.copy()
    controller.editing.pick((51, 150))
    assert controller.session.current.replaces.label == 7
    controller.prompts.points.add(np.array([(51, 130)], float))
    controller.commits.accept()
    truth = coin_labels == coin_labels[COIN]
    mine = labelled.data == 7
    assert np.count_nonzero(mine & truth) / np.count_nonzero(mine | truth) > 0.85
    assert (labelled.data == 3).sum() == (before == 3).sum()
    controller.undo.undo()
    np.testing.assert_array_equal(labelled.data, before)
    controller.prompts.points.add(np.array([OTHER], float))
    controller.commits.accept()
    assert labelled.data[OTHER] == 8


def test_a_mask_that_cannot_be_written_leaves_the_old_object(controller, labelled, notes):
    before = labelled.data.copy()
    hole = refine.pick_object([labelled], PLANE, (55, 100)).mask  # All of it belongs to another label.
    controller.editing.pick((51, 150))
    propose(controller, hole, PLANE)
    controller.commits.accept()
    assert notes
    np.testing.assert_array_equal(labelled.data, before)
    assert controller.session.current.replaces.label == 7


@pytest.mark.parametrize("how", ["clear", "plane", "deleted", "new object"])
def test_what_is_not_gone_on_with_changes_nothing(controller, labelled, viewer, how):
    before = labelled.data.copy()
    controller.editing.pick((51, 150))
    if how == "clear":
        controller.editing.clear()
    elif how == "plane":
        viewer.dims.ndisplay = 3
        viewer.dims.ndisplay = 2
        controller.editing.clear()
    elif how == "deleted":
        viewer.layers.remove(labelled)
    else:
        controller.editing.pick((55, 100))
        assert controller.session.current.replaces.label == 3
        controller.editing.clear()
    assert controller.session.current.replaces is None
    assert controller.session.candidates is None
    np.testing.assert_array_equal(labelled.data, before)


def test_a_miss_while_an_answer_waits_does_not_lose_the_answer(viewer, labelled, make_controller, notes):
    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    controller.prompts.points.add(np.array([OTHER], float))
    controller.editing.pick((5, 5))
    runner.jobs.pop(0)  # As the runner drops what waits.
    runner.release()
    assert "no object to correct" in notes[-1]
    assert controller.session.is_busy
    while runner.jobs:
        runner.release()
    assert controller.session.candidates.best.box.contains_point(*OTHER)


def test_objects_on_disk_are_replaced_too(viewer, controller, notes, tmp_path):
    use_label_file(controller.session, controller.preview.layers, tmp_path / "labels.ome.zarr")
    controller.prompts.points.add(np.array([COIN], float))
    controller.commits.accept()
    controller.editing.pick(COIN)
    assert controller.session.current.replaces.label == 1
    controller.commits.accept()
    assert notes == []
    assert "label 1" in controller.session.status
    controller.editing.clear()
    controller.prompts.points.add(np.array([OTHER], float))
    controller.commits.accept()
    assert controller.session.target.metadata["napari-sam pyramid"].highest_label() == 2


def test_a_correction_ends_with_the_layer_of_its_object_though_another_one_is_the_output(controller, viewer, labelled):
    controller.editing.pick((56, 98))
    assert controller.session.current.replaces.label == 3
    other = viewer.add_labels(np.zeros(labelled.data.shape, np.uint16), name="other")
    controller.session.set_target(other)
    controller.editing.new_object()
    controller.prompts.points.add([COIN])
    assert [draft.replaces.layer for draft in controller.session.drafts.pending] == [labelled]
    viewer.layers.remove(labelled)
    assert controller.session.drafts.pending == []
    assert controller.session.target is other
    assert len(controller.prompts.points.data) == 1
    controller.commits.accept()
    assert other.data[COIN] == 1
