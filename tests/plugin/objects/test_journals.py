"""The journal in napari, without a window: what is accepted is kept, undone, redone, reopened and gone on with."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.journal.former import as_former
from tests.plugin.annotating import SHAPE, disc, image_of, labels_of, make_controller, propose
from tifffile import imwrite

from napari_sam.cli.app import app
from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.journal.discovery import labels_path
from napari_sam.journal.journal import open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.plugin.layers import factory as own_layers

ROOT = Path(__file__).parents[3]
PLANES = [Plane((1, 2), (index, 0, 0)) for index in range(SHAPE[0])]


@pytest.fixture
def made():
    """Controllers that are closed in the end."""
    controllers = []
    yield controllers
    for controller in controllers:
        controller.close()


@pytest.fixture(params=["memory", "pyramid"])
def begin(request, made, notes, tmp_path):
    """Open the image anew, as after a restart."""

    def reopen():
        for controller in made:
            controller.close()
        path = tmp_path / "labels.ome.zarr" if request.param == "pyramid" else None
        controller = make_controller(image_of(), notes, path)
        made.append(controller)
        return controller

    return reopen


def accept(controller, mask, plane=PLANES[0], **kwargs):
    propose(controller, mask, plane, **kwargs)
    controller.commits.accept()
    return controller.objects.journal.next_undo.label


def look(controller):
    """Look for work that was left, also where that was done before the image got its path."""
    controller.journals._found.pop(controller.session.image, None)
    job = controller.journals.look_job(controller.session.image)
    if job is not None:
        job()


def test_undo_and_redo_have_no_end_and_last_over_a_restart(begin, notes):
    controller = begin()
    states = [np.zeros(SHAPE, int)]
    for at in range(12):
        accept(controller, disc(6 + at * 2, 8 + at * 3, 4), PLANES[at % 3])
        states.append(labels_of(controller))
    controller.objects.delete([4])
    states.append(labels_of(controller))
    assert 4 not in states[-1]
    controller = begin()
    look(controller)
    if controller.session.target is None:
        assert controller.objects.offer.count == 11
        controller.objects.resume()
    np.testing.assert_array_equal(labels_of(controller), states[-1])
    for state in states[-2::-1]:
        controller.undo.undo()
        np.testing.assert_array_equal(labels_of(controller), state)
    assert controller.objects.rows == []
    for state in states[1:]:
        controller.undo.redo()
        np.testing.assert_array_equal(labels_of(controller), state)
    assert notes == []
    controller.undo.redo()
    assert "nothing to redo" in notes[-1]


def test_many_objects_that_were_accepted_at_once_are_one_step_of_undo(begin, notes):
    controller = begin()
    accept(controller, disc(6, 8, 4))
    objects = [NewObject(disc(20, 10 * at, 4)) for at in range(1, 4)]
    journal, done = controller.objects.journal, []
    act = lambda log: [log.accept_all(PLANES[0], objects, class_name="cell").entry]  # noqa: E731
    controller.journals.act(journal, 0, act, done.append, notes.append)
    assert [entry.labels for (entry,) in done] == [[2, 3, 4]]
    assert [row.label for row in controller.objects.rows] == [1, 2, 3, 4]
    assert controller.objects.next_undo.text == "3 objects were accepted."
    after = labels_of(controller)
    controller.undo.undo()
    assert controller.session.status == "3 objects were accepted: taken back."
    assert [row.label for row in controller.objects.rows] == [1]
    controller.undo.redo()
    assert controller.session.status == "3 objects were accepted: done again."
    np.testing.assert_array_equal(labels_of(controller), after)
    assert notes == []


def test_a_journal_of_an_earlier_version_is_resumed_and_the_kept_file_is_named(begin, notes):
    controller = begin()
    for at in range(3):
        accept(controller, disc(6 + at * 10, 8 + at * 10, 4))
    labels, folder = labels_of(controller), controller.objects.journal.folder
    controller.close()
    log = as_former(folder)
    raw = log.read_bytes()
    controller = begin()
    look(controller)
    if controller.session.target is None:
        assert controller.objects.offer.count == 3
        controller.objects.resume()
    np.testing.assert_array_equal(labels_of(controller), labels)
    assert [row.label for row in controller.objects.rows] == [1, 2, 3]
    assert f"the file of the earlier version is {log}." in notes.pop()
    controller.undo.undo()
    assert [row.label for row in controller.objects.rows] == [1, 2]
    assert log.read_bytes() == raw


def test_an_accept_without_continue_leaves_earlier_work_as_it_is_and_both_can_be_continued(made, notes):
    first = make_controller(image_of(6), notes)
    made.append(first)
    accept(first, disc(10, 10, 4))
    accept(first, disc(20, 20, 4))
    earlier = first.objects.journal.journal.folder / "journal.sqlite"
    first.close()
    before = earlier.read_bytes()
    second = make_controller(image_of(6), notes)
    made.append(second)
    look(second)
    assert accept(second, disc(30, 30, 4)) == 1
    assert [row.label for row in second.objects.rows] == [1]
    assert np.unique(labels_of(second)).tolist() == [0, 1]
    assert labels_of(second)[0, 10, 10] == 0
    assert second.objects.offer.journal == earlier.parent
    second.close()
    assert earlier.read_bytes() == before
    os.utime(earlier, (0, 0))
    third = make_controller(image_of(6), notes)
    made.append(third)
    look(third)
    assert third.objects.offer.count == 1
    third.objects.resume()
    assert labels_of(third)[0, 30, 30] == 1
    assert third.objects.offer.count == 2
    third.objects.resume()
    assert labels_of(third)[0, 10, 10] == 1
    assert labels_of(third)[0, 30, 30] == 0
    assert third.objects.offer is None
    assert notes == []


def test_an_empty_layer_of_the_user_does_not_get_the_objects_of_earlier_work(made, notes):
    first = make_controller(image_of(7), notes)
    made.append(first)
    accept(first, disc(10, 10, 4))
    first.close()
    second = make_controller(image_of(7), notes)
    made.append(second)
    look(second)
    mine = second.viewer.add_labels(np.zeros(SHAPE, np.uint16), name="mine")
    second.session.set_target(mine)
    assert not mine.data.any()
    assert accept(second, disc(30, 30, 4)) == 1
    assert np.count_nonzero(mine.data) == disc(30, 30, 4).area


def test_layers_of_one_name_and_different_pixels_have_work_of_their_own(made, notes):
    first = make_controller(image_of(8), notes)
    made.append(first)
    accept(first, disc(10, 10, 4))
    first.close()
    other = image_of(8)
    other[1, 20, 20] += 1
    for pixels, is_same in ((other, False), (image_of(8), True)):
        controller = make_controller(pixels, notes)
        made.append(controller)
        look(controller)
        assert (controller.objects.offer is not None) == is_same


def pyramid_session(made, notes, monkeypatch, path):
    """An image whose labels go to disk, opened from a file."""
    monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 0)
    controller = make_controller(zarr.open_array(path, mode="r")[...], notes)
    controller.session.image._source = controller.session.image.source.model_copy(update={"path": str(path)})
    made.append(controller)
    look(controller)
    return controller


def test_labels_on_disk_are_offered_for_their_image_alone_whatever_its_name(made, notes, monkeypatch, tmp_path):
    for name, seed in {"plate.A01.zarr": 1, "plate.A02.zarr": 1, "plate.A03.zarr": 2}.items():
        zarr.create_array(tmp_path / name, data=image_of(seed))
    first = pyramid_session(made, notes, monkeypatch, tmp_path / "plate.A01.zarr")
    accept(first, disc(10, 10, 4))
    assert labels_path(first.objects.journal.target.array).name == "plate.A01_labels.ome.zarr"
    first.close()

    def offered(name):
        controller = pyramid_session(made, notes, monkeypatch, tmp_path / name)
        offer = controller.objects.offer
        controller.close()
        return None if offer is None else offer.labels.name

    assert offered("plate.A01.zarr") == "plate.A01_labels.ome.zarr"
    assert offered("plate.A02.zarr") is None  # The same pixels, but the image of the labels is still there.
    assert offered("plate.A03.zarr") is None
    (tmp_path / "plate.A01.zarr").rename(tmp_path / "renamed.zarr")
    assert offered("renamed.zarr") == "plate.A01_labels.ome.zarr"
    (tmp_path / "plate.A03.zarr").rename(tmp_path / "plate.A01.zarr")  # Another image under the old name.
    assert offered("plate.A01.zarr") is None


def test_a_name_that_another_journal_has_is_not_taken_for_new_labels(made, notes, monkeypatch, tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=image_of(3))
    first = pyramid_session(made, notes, monkeypatch, tmp_path / "a.zarr")
    accept(first, disc(10, 10, 4))
    first.close()
    shutil.rmtree(tmp_path / "a_labels.ome.zarr")
    second = pyramid_session(made, notes, monkeypatch, tmp_path / "a.zarr")
    assert second.objects.offer is None
    assert accept(second, disc(30, 30, 4)) == 1
    assert labels_path(second.objects.journal.target.array).name == "a_labels_2.ome.zarr"


def test_work_that_is_left_aside_stays_on_the_disk(made, notes):
    controller = make_controller(image_of(1), notes)
    made.append(controller)
    accept(controller, disc(10, 10, 4))
    folder = controller.objects.journal.journal.folder
    controller.viewer.layers.remove(controller.session.target)
    assert controller.objects.offer.count == 1
    controller.objects.start_over()
    assert controller.objects.offer is None
    accept(controller, disc(30, 30, 4))
    assert np.unique(labels_of(controller)).tolist() == [0, 1]
    assert labels_of(controller)[0, 10, 10] == 0
    aside = [path for path in folder.parent.iterdir() if path.name.startswith(folder.stem) and path != folder]
    assert [row.box.center for row in open_journal(aside[0]).objects] == [(10.5, 10.5)]


def test_a_reopened_object_gets_its_prompts_back_and_accept_replaces_it(begin):
    controller = begin()
    label = accept(controller, disc(12, 12, 6), PLANES[1], points=((12, 12), (14, 13)))
    accept(controller, disc(30, 30, 5))
    controller.editing.reopen(label)
    assert controller.viewer.dims.current_step[0] == 1
    np.testing.assert_array_equal(controller.prompts.points.data, [[1, 12, 12], [1, 14, 13]])
    assert controller.session.current.replaces.label == label
    propose(controller, disc(15, 16, 3), PLANES[1])
    controller.commits.accept()
    assert controller.session.current.replaces is None
    assert len(controller.prompts.points.data) == 0
    np.testing.assert_array_equal(labels_of(controller)[1] == label, disc(15, 16, 3).to_array(SHAPE[1:]))
    controller.undo.undo()
    np.testing.assert_array_equal(labels_of(controller)[1] == label, disc(12, 12, 6).to_array(SHAPE[1:]))


def test_boxes_and_negative_points_come_back(begin):
    from napari_sam.core.geometry import Box
    from napari_sam.core.prompts import Prompts
    from napari_sam.segmenter import Candidates

    controller = begin()
    prompts = Prompts(np.array([[9.0, 8], [20, 21]]), np.array([True, False]), Box(3.0, 4, 18, 17))
    propose(controller, disc(10, 10, 5), PLANES[0])
    controller.session.drafts.current.candidates = Candidates((disc(10, 10, 5),) * 3, 0, PLANES[0], prompts)
    controller.commits.accept()
    controller.editing.reopen(1)
    assert controller.prompts.points.features["label"].tolist() == [1, 0]
    from napari_sam.plugin.layers.adapters import prompts_of

    again = prompts_of(controller.prompts.points, controller.prompts.shapes, controller.session.image, PLANES[0])
    assert again.box == prompts.box
    np.testing.assert_array_equal(again.points, prompts.points)


def test_classes_are_given_changed_and_undone(begin):
    controller = begin()
    objects = controller.objects
    controller.session.class_name = "nucleus"
    accept(controller, disc(10, 10, 4))
    controller.session.class_name = None
    accept(controller, disc(30, 30, 4))
    assert [row.label_class and row.label_class.name for row in objects.rows] == ["nucleus", None]
    objects.classify([1, 2], "cell")
    assert {row.label_class.name for row in objects.rows} == {"cell"}
    objects.define_class("cell", (1, 0, 0))
    assert {row.label_class.color for row in objects.rows} == {(1.0, 0.0, 0.0)}
    controller.undo.undo()
    controller.undo.undo()
    assert [row.label_class and row.label_class.name for row in sorted(objects.rows, key=lambda r: r.label)] == [
        "nucleus",
        None,
    ]
    controller.undo.undo()
    assert [row.label for row in objects.rows] == [1]
    assert objects.get(1).label_class.name == "nucleus"


def test_what_is_seen_is_what_is_written_with_a_clean_up(begin):
    controller = begin()
    pixels = disc(15, 15, 8).to_array(SHAPE[1:])
    pixels[15, 15] = False
    pixels[35, 40] = True
    from napari_sam.core.geometry import Box
    from napari_sam.core.masks import Mask

    mask = Mask(Box.of_shape(SHAPE[1:]), pixels)
    controller.requests.set_cleaning(Cleaning(keep_largest=True, fill_holes=None))
    propose(controller, mask, PLANES[0])
    controller.preview.show()
    shown = controller.preview.layers.current.data.sum()
    controller.commits.accept()
    assert shown == np.count_nonzero(labels_of(controller)) == disc(15, 15, 8).area


def test_the_journal_of_another_window_is_left_alone(made, notes):
    first = make_controller(image_of(2), notes)
    second = make_controller(image_of(2), notes)
    made += [first, second]
    accept(first, disc(10, 10, 4))
    propose(second, disc(20, 20, 4), PLANES[0])
    second.commits.accept()
    assert notes == []
    assert second.objects.journal.journal.folder != first.objects.journal.journal.folder
    assert labels_of(second)[0, 20, 20] == 1
    assert not labels_of(second)[0, 10, 10]
    second.undo.undo()
    assert not labels_of(second).any()


@pytest.mark.parametrize("kind", ["memory", "pyramid"])
def test_without_a_place_for_a_journal_all_operations_work_until_the_window_is_closed(
    made, notes, tmp_path, monkeypatch, kind
):
    blocked = tmp_path / ("cache" if kind == "memory" else "labels.ome.zarr.journal")
    blocked.write_text("a file where a folder should be")
    if kind == "memory":
        monkeypatch.setenv("NAPARI_SAM_CACHE", str(blocked))
    controller = make_controller(image_of(5), notes, tmp_path / "labels.ome.zarr" if kind == "pyramid" else None)
    made.append(controller)
    states = [np.zeros(SHAPE, int)]
    first = accept(controller, disc(10, 10, 5))
    states.append(labels_of(controller))
    assert len(notes) == 1
    assert "has no journal, so its undo ends with this window" in notes[0]
    accept(controller, disc(30, 30, 5), PLANES[1])
    states.append(labels_of(controller))
    controller.editing.reopen(first)
    propose(controller, disc(14, 16, 3), PLANES[0])
    controller.commits.accept()
    states.append(labels_of(controller))
    np.testing.assert_array_equal(states[-1][0] == first, disc(14, 16, 3).to_array(SHAPE[1:]))
    controller.objects.delete([first])
    states.append(labels_of(controller))
    assert [row.label for row in controller.objects.rows] == [first + 1]
    for step, expected in ((controller.undo.undo, states[-2::-1]), (controller.undo.redo, states[1:])):
        for state in expected:
            step()
            np.testing.assert_array_equal(labels_of(controller), state)
    assert len(notes) == 1
    controller.viewer.layers.remove(controller.session.target or controller.objects.journal.layer)
    assert controller.objects.offer is None
    assert blocked.is_file()


def test_labels_that_hold_other_objects_get_a_journal_of_their_own(made, notes):
    controller = make_controller(image_of(3), notes)
    made.append(controller)
    accept(controller, disc(10, 10, 4))
    first = controller.objects.journal.journal.folder
    data = np.zeros(SHAPE, np.uint8)
    data[2, 5:9, 5:9] = 7
    mine = controller.viewer.add_labels(data, name="mine")
    controller.session.set_target(mine)
    assert accept(controller, disc(30, 30, 4)) == 8
    assert controller.objects.journal.journal.folder != first
    assert [row.label for row in controller.objects.rows] == [8]
    controller.undo.undo()
    assert np.unique(mine.data).tolist() == [0, 7]


def test_labels_get_more_bits_when_they_need_them(made, notes):
    controller = make_controller(image_of(4), notes)
    made.append(controller)
    data = np.zeros(SHAPE, np.uint8)
    data[2, 5:9, 5:9] = 255
    mine = controller.viewer.add_labels(data)
    controller.session.set_target(mine)
    assert accept(controller, disc(30, 30, 4)) == 256
    assert mine.data[0, 30, 30] == 256
    controller.undo.undo()
    assert np.unique(mine.data).tolist() == [0, 255]
    controller.undo.redo()
    assert mine.data[0, 30, 30] == 256


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (0, 2, 1)])
def test_what_is_written_is_drawn(made, notes, dtype, order):
    controller = make_controller(image_of(5), notes)
    made.append(controller)
    viewer = controller.viewer
    mine = viewer.add_labels(np.zeros(SHAPE, dtype))
    controller.session.set_target(mine)
    viewer.dims.order = order
    accept(controller, disc(12, 30, 5), PLANES[1])
    viewer.dims.set_point(range(3), (1, 12, 30))
    accept(controller, disc(20, 20, 5), PLANES[1])
    accept(controller, disc(20, 20, 5), PLANES[0])
    controller.objects.delete([1])
    drawn = mine._slice.image.view.copy()
    mine.refresh()
    np.testing.assert_array_equal(drawn, mine._slice.image.view)


@pytest.mark.parametrize("kind", ["memory", "pyramid"])
def test_a_killed_program_loses_nothing_that_was_accepted(kind, tmp_path, monkeypatch, made, notes):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    pick = random.Random(7)
    for turn in range(3):
        said = _annotate_and_kill(tmp_path, kind, pick.uniform(0.1, 0.6))
        controller = make_controller(image_of(), notes, tmp_path / "labels.ome.zarr" if kind == "pyramid" else None)
        made.append(controller)
        look(controller)
        controller.objects.resume()
        kept = controller.objects.journal
        assert said <= kept.journal._history.number <= said + 1
        labels = labels_of(controller)
        assert not set(np.unique(labels)) - {0} - {row.label for row in controller.objects.rows}
        folder = kept.journal.folder
        controller.close()
        imwrite(tmp_path / "image.tif", image_of(), photometric="minisblack")
        out = tmp_path / f"again{turn}.zarr"
        app(["replay", str(folder), "--image", str(tmp_path / "image.tif"), "--out", str(out)], standalone_mode=False)
        np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], labels)


def _annotate_and_kill(folder, kind, after):
    """Return the number of the last thing that the killed program had done."""
    command = [sys.executable, "-m", "tests.plugin.annotating", str(folder), kind]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True, cwd=ROOT) as process:
        lines = [process.stdout.readline()]
        assert lines[0].strip().isdigit()
        time.sleep(after)
        process.kill()
        lines += process.stdout.read().split("\n")
    return int([line for line in lines if line.strip().isdigit()][-1])


def test_the_latest_labels_on_disk_are_offered_for_an_image_that_needs_them(made, notes, tmp_path, monkeypatch):
    monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 1000)
    monkeypatch.setattr(own_layers, "label_folder", lambda: tmp_path)
    controller = make_controller(image_of(6), notes)
    made.append(controller)
    accept(controller, disc(10, 10, 4))
    before = labels_of(controller)
    assert before[0, 10, 10] == 1
    controller.close()
    again = make_controller(image_of(6), notes)
    made.append(again)
    look(again)
    assert again.objects.offer.count == 1
    again.objects.resume()
    np.testing.assert_array_equal(labels_of(again), before)
    assert [row.label for row in again.objects.rows] == [1]
