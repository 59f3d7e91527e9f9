"""The task Teach without a window: what is learned from, the process, and what comes of it."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tifffile

from napari_sam.core.geometry import Plane
from napari_sam.errors import OutputError
from napari_sam.journal.storage.complete_areas import complete_areas
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.plugin.teaching import teacher as teaching
from napari_sam.segmenter import Segmenter
from napari_sam.testing import FakePredictor
from napari_sam.testing.plugin import disc, make_controller, propose, random_image
from napari_sam.training.teaching.lesson import MODEL_FILE, Lesson, TeachOptions
from napari_sam.training.teaching.teach import lessons
from napari_sam.weights.registry import REGISTRY
from napari_sam.weights.taught import taught_model

SHAPE = (40, 200)
FIGURES = {"before": {"click_1": 0.5}, "after": {"click_1": 0.7}, "held_back": 2}


class FakeProcess:
    """A process that a test steers."""

    def __init__(self, lesson):
        self.lesson, self.is_running, self.is_killed = lesson, True, False
        lesson.resume()
        FakeProcess.last = self

    @property
    def progress(self):
        return self.lesson.progress

    def kill(self):
        self.is_running, self.is_killed = False, True

    def end(self, phase, **changes):
        if phase == "better":
            weights = load_weights(REGISTRY["compact"].path)
            card = {"name": "mine", "base": "compact", **FIGURES}
            save_weights(weights, self.lesson.folder / MODEL_FILE, family="compact", card=card)
        self.lesson.report(phase=phase, **FIGURES, **changes)
        self.is_running = False


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(teaching, "LessonProcess", FakeProcess)


@pytest.fixture
def messages():
    return []


@pytest.fixture
def controller(messages):
    controller = make_controller(random_image(shape=SHAPE), messages.append)
    controller.session.set_task("teach")
    yield controller
    controller.close()


def accept(controller, count):
    for at in range(count):
        propose(controller, disc(20, 11 + 18 * at, 7, shape=SHAPE), Plane.of(SHAPE))
        controller.commits.accept()


def test_it_says_what_is_missing_until_there_are_enough_objects(controller, messages):
    teacher = controller.teacher
    assert teacher.why_not.startswith("Accept objects first")
    accept(controller, 3)
    teacher.material.count_again()
    assert teacher.material.count.text == "3 objects, 0 corrected"
    assert "needs 8 objects or more" in teacher.why_not
    teacher.teach("mine")
    assert "needs 8 objects or more" in messages[-1]
    assert teacher.lesson is None


def begin(controller):
    accept(controller, 9)
    controller.teacher.material.count_again()
    controller.teacher.teach("mine")
    return controller.teacher


def test_a_better_model_is_used_on_request(controller):
    teacher, kept = begin(controller), []
    teacher.kept.connect(kept.append)
    assert teacher.lesson.images[0]["objects"] == 9
    assert teacher.is_running
    assert "stop it first" in teacher.why_not
    teacher.lesson.report(phase="training", step=3, steps=10)
    teacher.poll()
    assert (teacher.phase, teacher.progress["step"]) == ("training", 3)
    FakeProcess.last.end("better")
    teacher.poll()
    assert teacher.result == "Better: first click 0.50 -> 0.70 on 2 objects it has not seen."
    assert controller.session.status == teacher.result
    teacher.use()
    assert kept == ["mine"]
    assert taught_model("mine").card["base"] == "compact"
    assert teacher.lesson is None
    assert lessons() == []


def test_the_end_of_the_process_is_told_after_its_result(controller):
    teacher, told = begin(controller), []
    FakeProcess.last.end("better")
    FakeProcess.last.is_running = True  # It wrote its result and is about to end.
    teacher.poll()
    assert teacher.is_running
    FakeProcess.last.is_running = False
    teacher.changed.connect(lambda: told.append(teacher.is_running))
    teacher.poll()
    assert told == [False]
    teacher.poll()
    assert told == [False]


def test_a_model_that_is_not_better_is_not_offered(controller, messages):
    teacher = begin(controller)
    FakeProcess.last.end("not better")
    teacher.poll()
    assert teacher.result.startswith("Not better: first click 0.50 -> 0.70 on 2 objects")
    teacher.use()
    assert "no better model" in messages[-1]
    assert taught_model("mine") is None
    assert teacher.why_not == ""  # Another lesson can begin at once.
    teacher.teach("mine")
    assert teacher.is_running


def test_a_lesson_is_stopped_and_goes_on_in_another_session(controller, messages):
    teacher = begin(controller)
    teacher.stop()
    assert teacher.lesson.must_stop
    FakeProcess.last.end("stopped")
    teacher.poll()
    assert teacher.why_not == ""
    other = make_controller(random_image(shape=SHAPE), messages.append)
    try:
        assert other.teacher.phase == "stopped"
        other.teacher.teach("another name, which does not count")
        assert other.teacher.is_running
        assert not other.teacher.lesson.must_stop
        assert FakeProcess.last.lesson.options.name == "mine"
    finally:
        other.close()
    assert FakeProcess.last.lesson.must_stop  # Closing the window stops it.


def test_a_lesson_of_a_window_that_was_killed_is_followed_and_then_continued(controller, messages):
    begin(controller).lesson.report(phase="training", step=3, steps=10)
    other = make_controller(random_image(shape=SHAPE), messages.append)
    try:
        assert other.teacher.is_running
        folder = other.teacher.lesson
        folder._write("progress.json", {**folder.progress, "time": time.time() - 1000})
        other.teacher.poll()
        assert other.teacher.phase == "killed"
        assert other.teacher.why_not == ""
    finally:
        other.close()


def test_objects_that_seem_to_be_shifted_are_told_and_taught_on_request_only(controller):
    teacher = begin(controller)
    assert not teacher.lesson.options.trust_labels
    FakeProcess.last.end("failed", message="The outlines of 5 of 9 objects ...", is_displaced=True)
    teacher.poll()
    assert teacher.result.startswith("The outlines of 5")
    assert teacher.is_displaced
    teacher.teach("mine")
    assert teacher.lesson.options.trust_labels
    assert not teacher.is_displaced


def test_discarding_ends_the_process_and_removes_all(controller):
    teacher = begin(controller)
    folder = teacher.lesson.folder
    teacher.discard()
    assert FakeProcess.last.is_killed
    assert not folder.exists()
    assert teacher.phase == ""


def test_a_full_disk_is_told_and_leaves_nothing(controller, messages, monkeypatch):
    def full(*_, **__):
        raise OutputError("The disk is full: make room.")

    monkeypatch.setattr(teaching, "begun", full)
    teacher = begin(controller)
    assert messages[-1] == "The disk is full: make room."
    assert teacher.lesson is None
    assert not teacher.is_running


def test_other_images_are_added_by_their_journals(controller, messages, tmp_path):
    material = controller.teacher.material
    material.add(tmp_path / "nothing.tif")
    assert "There is no journal" in messages[-1]
    tifffile.imwrite(tmp_path / "other.tif", random_image(1, SHAPE))
    with Segmenter(tmp_path / "other.tif", model=FakePredictor(), journal=tmp_path / "own") as segmenter:
        for at in range(7):
            segmenter.accept(disc(20, 11 + 18 * at, 7, shape=SHAPE), plane=segmenter.plane())
    accept(controller, 2)
    material.add(tmp_path / "own")
    material.count_again()
    assert material.added == [tmp_path / "own"]
    assert material.count.objects == 9
    controller.teacher.teach("mine")
    assert [image["objects"] for image in controller.teacher.lesson.images] == [2, 7]
    material.clear()
    material.count_again()
    assert material.count.objects == 2


def test_the_options_say_what_the_user_chose(controller):
    accept(controller, 9)
    teacher = controller.teacher
    teacher.material.count_again()
    teacher.is_complete, teacher.minutes = True, 2.0
    teacher.teach("mine")
    options = teacher.lesson.options
    assert isinstance(options, TeachOptions)
    assert (options.is_complete, options.minutes, options.base) == (True, 2.0, "compact")
    (region,) = Lesson(teacher.lesson.folder).regions()
    assert set(np.unique(region.objects)) == set(range(10))


def test_regions_are_marked_as_complete_by_rectangles_and_stay_with_the_journal(controller, messages):
    regions, viewer = controller.teacher.complete, controller.viewer
    regions.mark_plane()
    assert messages[-1].startswith("Accept objects first")
    accept(controller, 3)
    regions.mark_drawn()
    assert messages[-1].startswith("No rectangle is drawn")
    assert regions.text == "Regions"
    viewer.add_shapes([[(0, 0), (0, 60), (30, 60), (30, 0)]], shape_type="rectangle")
    regions.mark_drawn()
    assert regions.text == "1 region"
    ((own,),) = [controller.teacher.material.images()()]
    (region,) = own.regions(0, is_complete=False)
    unlabelled = region.objects <= 0
    assert (region.objects[:30, :60][unlabelled[:30, :60]] == 0).all()
    assert (region.objects[31:][unlabelled[31:]] == -1).all()
    assert (region.objects[:, 61:][unlabelled[:, 61:]] == -1).all()
    # Another session of the same image finds the mark in the journal.
    folder = controller.objects.journal.folder
    assert complete_areas(folder) == regions.areas
    regions.unmark_plane()
    assert (regions.text, complete_areas(folder)) == ("Regions", [])
