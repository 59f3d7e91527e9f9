"""Find by words in the task All: which model knows them, what is needed where none does, and what is found."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.proposals.playback import use
from tests.word_search.models import BrightnessRanker, DiscDetector

from napari_sam.everything.options import FilterOptions
from napari_sam.models.open_vocabulary import loading
from napari_sam.plugin.proposals import wanted as wanted_module
from napari_sam.plugin.proposals.wanted import LOOK_SECONDS, NO_WORDS
from napari_sam.plugin.widgets.tasks.like_row import LikeRow
from napari_sam.segmenter import Segmenter
from napari_sam.testing.plugin import make_controller
from napari_sam.testing.predictors import FakePredictor

CENTERS = [(20, 20), (20, 70)]


@pytest.fixture
def models(tmp_path, monkeypatch):
    """The folder of the user's models, which is empty."""
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    return tmp_path


def planes():
    image = np.zeros((3, 40, 96), np.uint8)
    rows, cols = np.ogrid[:40, :96]
    for row, col in CENTERS:
        image[:2, (rows - row) ** 2 + (cols - col) ** 2 <= 64] = 220
    return image


@pytest.fixture
def controller(models, messages, monkeypatch):
    image = planes()
    controller = make_controller(image, messages.append)
    segmenter = Segmenter(image, model=FakePredictor(), contrast_limits=(0, 255), store=None)
    use(controller, monkeypatch, segmenter)
    monkeypatch.setattr(controller.jobs, "segmenter_of", lambda _: segmenter)
    controller.viewer.dims.set_current_step(0, 0)
    yield controller
    controller.close()


def register(models, monkeypatch, name="owlv2"):
    """Put a model where the user would, and load one that knows discs in its place; return what was loaded."""
    file = models / name / "model.safetensors"
    file.parent.mkdir()
    file.touch()
    loaded = []
    monkeypatch.setattr(loading, "load_detector", lambda given, *_: loaded.append(given) or DiscDetector())
    return loaded


def find(controller, where, words="disc"):
    finder = controller.finder
    finder.set_where(where)
    finder.wanted.set_words(words)
    finder.find()
    controller.runner.run_idle()
    return finder.selection


def test_without_a_model_that_knows_words_it_says_which_files_are_needed_and_where(controller, models, messages):
    finders = controller.finder.wanted.word_finders
    assert {finder.name for finder in finders} == {"owlv2", "grounding-dino", "clip"}
    for finder in finders:
        assert "model.safetensors" in finder.needs
        assert str(models / finder.name) in finder.needs
    assert controller.finder.wanted.word_finder is None
    find(controller, "plane")
    assert messages == [NO_WORDS]
    assert not controller.finder.search.is_running


def test_a_model_that_was_put_into_its_folder_finds_what_words_name_in_a_plane(controller, models, monkeypatch):
    loaded = register(models, monkeypatch)
    assert controller.finder.wanted.word_finder.detector == "owlv2"
    selection = find(controller, "plane")
    assert loaded == ["owlv2"]
    middles = sorted(tuple(box[:2] + (box[2:] - box[:2]) // 2) for box in selection.found.boxes[selection.kept])
    assert np.abs(np.array(middles) - CENTERS).max() <= 2
    controller.finder.accept()
    assert len(controller.objects.rows) == len(CENTERS)


def test_words_are_found_in_all_planes_and_go_on_through_them(controller, models, monkeypatch):
    register(models, monkeypatch)
    selection = find(controller, "volume")
    assert len(selection.found.planes) == 3
    assert len(selection.kept) == 2 * len(CENTERS)
    controller.finder.accept()
    assert len(controller.objects.rows) == len(CENTERS)
    controller.undo.undo()
    assert len(controller.objects.rows) == 0


def test_words_are_found_in_the_view_and_inside_what_is_drawn(controller, models, monkeypatch):
    register(models, monkeypatch)
    image = controller.session.image
    controller.viewer.add_shapes([[[0, 5, 50], [0, 5, 90], [0, 35, 90], [0, 35, 50]]], name="part")
    controller.finder.set_within("drawn")
    selection = find(controller, "plane")
    assert len(selection.kept) == 1
    assert selection.found.boxes[selection.kept][0][1] > 50
    assert controller.session.image is image


def test_a_chosen_file_is_used_and_another_choice_replaces_it(controller, models, monkeypatch):
    loaded = register(models, monkeypatch)
    wanted = controller.finder.wanted
    wanted.set_detector("/somewhere/mine.safetensors")
    assert [finder.name for finder in wanted.word_finders][-1] == "mine.safetensors"
    find(controller, "plane")
    wanted.set_detector("owlv2")
    find(controller, "plane")
    assert loaded == ["/somewhere/mine.safetensors", "owlv2"]


def test_a_wrong_file_is_told_in_a_sentence_and_the_next_search_works(controller, models, messages):
    file = models / "clip" / "model.safetensors"
    file.parent.mkdir()
    file.write_bytes(b"no weights")
    find(controller, "plane")
    assert str(file) in messages[-1]
    controller.finder.wanted.set_like("anything")
    assert controller.finder.wanted.maker() is None


def test_files_of_models_are_looked_for_once_in_a_while_and_not_at_each_change(controller, models, monkeypatch):
    looks, now = [], [1000.0]
    states = wanted_module.detector_states
    monkeypatch.setattr(wanted_module, "detector_states", lambda: looks.append(now[0]) or states())
    monkeypatch.setattr(wanted_module.time, "monotonic", lambda: now[0])
    wanted = controller.finder.wanted
    wanted.set_like("words")
    for _ in range(20):
        wanted.changed.emit()
        assert wanted.word_finder is None
    assert looks == [1000.0]
    register(models, monkeypatch)
    now[0] += LOOK_SECONDS
    assert wanted.word_finder.detector == "owlv2"
    assert looks == [1000.0, now[0]]


def test_a_model_that_ranks_ranks_what_was_found_and_searches_nothing(qtbot, controller, models, monkeypatch):
    register(models, monkeypatch, "clip")
    ranker = BrightnessRanker()
    monkeypatch.setattr(loading, "load_detector", lambda *_: ranker)
    finder, row = controller.finder, LikeRow(controller.finder)
    finder.set_where("plane")
    finder.find()
    controller.runner.run_idle()
    found, searches = finder.selection.found, []
    kept, confidence = finder.selection.kept.tolist(), finder.selection.options.confidence
    monkeypatch.setattr(finder.search, "start", lambda *_: searches.append(1))
    for words, count in (("dark", 0), ("bright", len(CENTERS))):
        finder.wanted.set_like("words")
        row.refresh()
        row.words.setText(words)
        row.words.returnPressed.emit()
        controller.runner.run_idle()
        assert len(finder.selection.kept) == count
        np.testing.assert_array_equal(finder.selection.found.boxes, found.boxes)
    assert len(ranker.pictures) == 2 * (found.scores >= FilterOptions().confidence).sum()
    assert not searches
    finder.wanted.set_like("anything")
    controller.runner.run_idle()
    np.testing.assert_array_equal(finder.selection.found.scores, found.scores)
    assert (finder.selection.kept.tolist(), finder.selection.options.confidence) == (kept, confidence)
    row.deleteLater()
