"""Find by example in the task All, without a window and without a model: the objects are of two kinds."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.proposals.playback import Comparing, described_tile, query_of, use

from napari_sam.core.geometry import Plane
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.similar import LIKENESS
from napari_sam.plugin.annotation.undo import DECISION_STEP
from napari_sam.plugin.layers.proposals import COLORS, LIKENESS_COLORS
from napari_sam.plugin.proposals.found_planes import Decision, SimilarPlanes
from napari_sam.plugin.proposals.wanted import NO_TEXT, NO_WORDS, SELECT_FIRST
from napari_sam.segmenter import Segmenter
from napari_sam.similarity.query import Query
from napari_sam.testing.plugin import disc, labels_of, propose, random_image
from napari_sam.testing.predictors import DiscFinder, FakePredictor

PLANE = Plane((1, 2), (0, 0, 0))
# Middle, radius, score and kind of each object.
DARK = [((8, 6), 3, 0.9, -1.0), ((8, 16), 3, 0.8, -0.9), ((8, 26), 3, 0.85, -1.1), ((8, 36), 3, 0.7, -1.0)]
BRIGHT = [((26, 6), 3, 0.9, 1.0), ((26, 16), 3, 0.8, 0.9), ((26, 26), 3, 0.85, 1.1), ((26, 36), 3, 0.7, 1.0)]
BETWEEN = ((17, 40), 3, 0.8, 0.1)


@pytest.fixture
def segmenter(controller, monkeypatch):
    return use(controller, monkeypatch, Comparing(described_tile(*DARK, *BRIGHT, BETWEEN)))


def accept(controller, middle, name=None, plane=PLANE):
    """Accept an object by hand, of a class."""
    controller.session.class_name = name
    propose(controller, disc(*middle, 3), plane)
    controller.commits.accept()
    controller.session.class_name = None
    return controller.objects.get(len(controller.objects.rows))


def find_similar(controller, *objects):
    controller.finder.wanted.find_similar(objects)
    controller.runner.run_idle()
    return controller.finder.selection


def middles(selection, numbers):
    return {tuple(selection.found.points[number].astype(int)) for number in numbers}


def places(objects):
    return {middle for middle, *_ in objects}


def number_at(selection, middle):
    return next(i for i, point in enumerate(selection.found.points) if tuple(point.astype(int)) == middle)


def test_what_is_like_an_object_is_found_at_its_size_and_keeps_what_is_likely_of_its_kind(controller, segmenter):
    selection = find_similar(controller, accept(controller, (8, 6)))
    assert controller.session.task == "all"
    assert middles(selection, selection.kept) >= places(DARK[1:])
    assert not middles(selection, selection.kept) & places(BRIGHT)
    assert selection.options.confidence == LIKENESS
    low, high = selection.options.sizes
    assert low < 6 < high
    assert segmenter.asked[0]["sizes"] is None  # Those of the examples.


def test_what_was_found_already_is_ranked_at_once_and_comes_back_with_the_confidence_of_before(controller, segmenter):
    finder = controller.finder
    finder.filter(FilterOptions(confidence=0.75))
    finder.find()
    controller.runner.run_idle()
    everything = set(finder.selection.kept)
    chosen = accept(controller, (26, 6))
    selection = find_similar(controller, chosen)
    assert len(segmenter.asked) == 1  # It was searched once.
    assert segmenter.described[0][3] is not None  # The example is among what was found.
    assert middles(selection, selection.kept) >= places(BRIGHT)
    assert not middles(selection, selection.kept) & places(DARK)
    finder.wanted.set_like("anything")
    controller.runner.run_idle()
    assert set(selection.kept) == everything
    assert selection.options.confidence == 0.75
    assert not isinstance(selection.found, SimilarPlanes)


def test_each_answer_ranks_the_others_and_undo_takes_it_back_also_from_the_ranking(controller, segmenter):
    selection = find_similar(controller, accept(controller, (8, 6)))
    before = selection.found.scores.copy()
    between = number_at(selection, BETWEEN[0])
    controller.finder.next_doubtful()
    first = selection.reviewed
    doubt = np.abs(before - selection.options.confidence)
    assert doubt[first] == doubt[selection.similar.doubtful(selection.options)].min()
    selection.toggle(between)
    wanted = between not in selection.removed
    assert selection.found.scores[between] == float(wanted)
    others = np.delete(np.arange(len(before)), between)
    assert np.abs(selection.found.scores - before)[others].max() > 0.005
    controller.undo.undo()
    np.testing.assert_allclose(selection.found.scores, before, atol=1e-6)
    assert controller.undo.next_redo.text == DECISION_STEP
    controller.undo.redo()
    assert selection.found.scores[between] == float(wanted)


def test_review_asks_the_least_certain_one_never_one_twice_and_undo_goes_back_to_it(controller, segmenter):
    selection = find_similar(controller, accept(controller, (8, 6)))
    asked = []
    controller.finder.next_doubtful()
    while selection.reviewed is not None and len(asked) < 20:
        asked.append(selection.reviewed)
        row = selection.found.points[selection.reviewed][0]
        controller.finder.judge(bool(row < 12))
    assert len(set(asked)) == len(asked)
    assert middles(selection, selection.kept) >= places(DARK) - {(8, 6)}
    assert not middles(selection, selection.kept) & places(BRIGHT)
    controller.undo.undo()
    controller.finder.next_doubtful()
    assert selection.reviewed == asked[-1]


def test_objects_of_two_classes_give_each_proposal_its_class_by_one_step_of_undo(controller, segmenter):
    chosen = [accept(controller, (8, 6), "dark"), accept(controller, (26, 6), "bright")]
    selection = find_similar(controller, *chosen)
    assert set(selection.similar.classes) == {"dark", "bright"}
    drawn = controller.finder.drawing.layer.data
    assert drawn[0, 8, 26] not in (0, drawn[0, 26, 26])  # Each class in its color.
    controller.finder.accept()
    classes = {}
    for row in controller.objects.rows:
        classes[row.parts[0].box.center] = row.label_class.name
    for middle in places(DARK[1:]):
        assert classes[middle[0] + 0.5, middle[1] + 0.5] == "dark"
    for middle in places(BRIGHT[1:]):
        assert classes[middle[0] + 0.5, middle[1] + 0.5] == "bright"
    controller.undo.undo()
    assert np.unique(labels_of(controller)).tolist() == [0, 1, 2]


def test_another_class_can_be_chosen_for_the_one_in_review(controller, segmenter):
    selection = find_similar(controller, accept(controller, (8, 6), "dark"), accept(controller, (26, 6), "bright"))
    controller.finder.next_doubtful()
    number, name = selection.reviewed, selection.reviewed_class
    controller.finder.actions["other_class"]()
    other = selection.reviewed_class
    assert {name, other} == {"dark", "bright"}
    controller.finder.judge(True)
    assert selection.similar.class_of(number) == other
    assert number in selection.kept


def test_the_more_likely_the_brighter_and_those_removed_stay_in_gray(controller, segmenter):
    selection = find_similar(controller, accept(controller, (8, 6)))
    layer = controller.finder.drawing.layer
    colors = [COLORS[(int(layer.data[0, row, col]) - 1) % len(COLORS)] for row, col in places(DARK[1:])]
    assert set(colors) <= set(LIKENESS_COLORS)
    removed = selection.kept[0]
    selection.toggle(int(removed))
    assert removed in selection.removed
    row, col = selection.found.points[removed].astype(int)
    at = layer.data[0, max(row - 3, 0), col]
    assert COLORS[(int(at) - 1) % len(COLORS)] == "#9a9a9a"
    selection.toggle(int(removed))
    assert removed in selection.kept


def test_later_tiles_keep_the_answers(controller, monkeypatch):
    tiles = described_tile(*DARK), described_tile(*BRIGHT)
    use(controller, monkeypatch, Comparing(*tiles))
    chosen = accept(controller, (8, 6))
    monkeypatch.setattr("napari_sam.plugin.proposals.search.SLICE_SECONDS", -1.0)
    monkeypatch.setattr("napari_sam.plugin.proposals.search.RARELY", 0)
    controller.finder.wanted.find_similar([chosen])
    controller.runner.run_idle(limit=3)
    selection = controller.finder.selection
    assert len(selection.found) == len(DARK)
    number = number_at(selection, DARK[1][0])
    selection.decisions.decide(number, Decision(False))
    controller.runner.run_idle()
    assert len(selection.found) == len(DARK) + len(BRIGHT)
    assert number in selection.removed
    assert selection.found.scores[number] == 0


def test_answers_in_one_plane_teach_the_others(controller, segmenter):
    controller.finder.set_where("volume")
    selection = find_similar(controller, accept(controller, (8, 6)))
    first, second = selection.found.parts[:2]
    between = len(DARK) + len(BRIGHT)
    before = second.scores.copy()
    selection.decisions.decide(between, Decision(False))
    assert first.scores[between] == 0
    assert second.scores[between] < before[between]
    assert not second.answers
    controller.undo.undo()
    np.testing.assert_allclose(second.scores, before, atol=1e-6)


def test_what_was_learned_is_saved_and_finds_the_same_in_another_image(controller, segmenter, tmp_path, messages):
    wanted = controller.finder.wanted
    assert not wanted.can_save
    wanted.save(tmp_path / "early.sam")
    assert "Nothing was learned yet" in messages.pop()
    selection = find_similar(controller, accept(controller, (8, 6)))
    controller.finder.next_doubtful()
    controller.finder.judge(False)
    path = tmp_path / "dark.sam"
    wanted.save(path)
    assert len(Query.load(path)) == 2
    wanted.save(path)
    assert len(messages) == 1  # It exists, and nobody was asked.
    wanted.save(path, overwrite=True)

    controller.finder.wanted.query = None
    controller.session.set_image(controller.viewer.add_image(random_image(1), name="another"))
    wanted.load(path)
    assert wanted.like == "learned"
    assert wanted.name == "dark.sam"
    controller.finder.find()
    controller.runner.run_idle()
    assert middles(selection, selection.kept) >= places(DARK) - {(8, 6)}
    assert not middles(selection, selection.kept) & places(BRIGHT)


def test_with_another_image_what_was_learned_is_looked_for(controller, segmenter):
    find_similar(controller, accept(controller, (8, 6)))
    controller.session.set_image(controller.viewer.add_image(random_image(1), name="another"))
    assert controller.finder.wanted.like == "learned"
    assert controller.finder.wanted.name == "1 example, 0 answers"
    controller.finder.find()
    controller.runner.run_idle()
    assert middles(controller.finder.selection, controller.finder.selection.kept) >= places(DARK)


def test_a_file_of_another_model_is_told_and_changes_nothing_and_damaged_ones_too(
    controller, segmenter, tmp_path, messages
):
    selection = find_similar(controller, accept(controller, (8, 6)))
    kept = selection.kept.tolist()
    other = tmp_path / "other.sam"
    query_of(segmenter.tiles[0].descriptors[:1], digest="another/2").save(other)
    controller.finder.wanted.load(other)
    controller.runner.run_idle()
    assert "cannot be compared" in messages.pop()
    assert selection.kept.tolist() == kept
    damaged = tmp_path / "damaged.sam"
    damaged.write_bytes(other.read_bytes()[:100])
    controller.finder.wanted.load(damaged)
    assert "damaged" in messages.pop()
    assert selection.kept.tolist() == kept


def test_without_a_selected_object_it_is_said_what_to_do(controller, segmenter, messages):
    controller.finder.wanted.set_like("selected")
    controller.finder.find()
    assert messages == [SELECT_FIRST]


def test_the_proposal_or_the_object_under_the_mouse_is_an_example(controller, segmenter):
    finder, image = controller.finder, controller.session.image
    finder.find()
    controller.runner.run_idle()
    controller.viewer.cursor.position = image.data_to_world((0, 26, 16))
    finder.actions["find_similar"]()
    controller.runner.run_idle()
    assert middles(finder.selection, finder.selection.kept) >= places(BRIGHT)
    assert not middles(finder.selection, finder.selection.kept) & places(DARK)
    finder.discard()
    accept(controller, (8, 6))
    controller.viewer.cursor.position = image.data_to_world((0, 8, 6))
    finder.actions["find_similar"]()
    controller.runner.run_idle()
    assert middles(finder.selection, finder.selection.kept) >= places(DARK[1:])
    controller.viewer.cursor.position = image.data_to_world((0, 38, 1))
    finder.actions["find_similar"]()
    assert controller.session.status == "There is no object under the mouse: point at one."


def test_what_words_name_is_found_where_the_model_reads_them(controller, monkeypatch, messages):
    image = np.zeros((40, 96), np.uint8)
    centers = [(20, 20), (20, 70)]
    rows, cols = np.ogrid[:40, :96]
    for row, col in centers:
        image[(rows - row) ** 2 + (cols - col) ** 2 <= 64] = 220
    finder = controller.finder
    controller.session.set_image(controller.viewer.add_image(image, name="discs"))
    reading = Segmenter(image, model=DiscFinder(), contrast_limits=(0, 255), store=None)
    use(controller, monkeypatch, reading)
    monkeypatch.setattr(controller.jobs, "segmenter_of", lambda _: reading)
    finder.set_where("plane")
    finder.wanted.set_words("disc")
    finder.find()
    controller.runner.run_idle()
    found = finder.selection.found
    assert len(finder.selection.kept) == len(centers)
    for number in finder.selection.kept:
        mask = found.mask(number)
        row, col = found.points[number].astype(int)
        assert image[row, col] == 220
        assert mask.pixels[row - int(mask.box.top), col - int(mask.box.left)]
    finder.accept()
    assert len(controller.objects.rows) == len(centers)
    finder.wanted.set_words("square")
    finder.find()
    controller.runner.run_idle()
    assert len(finder.selection.kept) == 0
    silent = Segmenter(image, model=FakePredictor(), store=None)
    use(controller, monkeypatch, silent)
    monkeypatch.setattr(controller.jobs, "segmenter_of", lambda _: silent)
    assert finder.wanted.word_finder is None
    finder.find()
    assert messages[-1] == NO_WORDS
    monkeypatch.setattr(controller.jobs, "segmenter_of", lambda _: reading)
    finder.wanted.set_words(" ")
    finder.find()
    assert messages[-1] == NO_TEXT
