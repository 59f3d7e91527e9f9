"""Find by example when the user is quick, changes his mind, or the image goes; and classes with odd names."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.proposals.playback import Comparing, described_tile, use
from tests.plugin.proposals.test_similar import BRIGHT, DARK, accept, find_similar, middles, places

from napari_sam.finding.compared_image import SimilarProgress
from napari_sam.plugin.layers.proposals import COLORS, KEPT_COLORS
from napari_sam.plugin.proposals import search as search_module
from napari_sam.plugin.proposals import selection as selections
from napari_sam.testing.plugin import labels_of


@pytest.fixture
def segmenter(controller, monkeypatch):
    return use(controller, monkeypatch, Comparing(described_tile(*DARK, *BRIGHT)))


def test_of_two_searches_in_a_row_the_second_one_counts(controller, segmenter, messages):
    dark, bright = accept(controller, (8, 6)), accept(controller, (26, 6))
    wanted, selection = controller.finder.wanted, controller.finder.selection
    wanted.find_similar([dark])
    wanted.find_similar([bright])
    controller.runner.run_idle()
    assert middles(selection, selection.kept[:4]) == places(BRIGHT)
    wanted.find_similar([bright])
    wanted.find_similar([dark])
    controller.runner.run_idle()
    assert middles(selection, selection.kept[:4]) == places(DARK)
    assert not messages


@pytest.mark.parametrize("is_ranking", [True, False])
def test_an_image_that_is_closed_in_the_middle_leaves_nothing_and_no_error(
    controller, segmenter, messages, monkeypatch, is_ranking
):
    held = []
    monkeypatch.setattr(selections, "AT_ONCE", 0)
    controller.finder.selection._apart = held.append
    selection = find_similar(controller, accept(controller, (8, 6)))
    if is_ranking:
        selection.toggle(1)
        assert held
    else:
        controller.finder.wanted.set_like("selected")
        assert controller.finder.search.is_running
    controller.viewer.layers.remove(controller.session.image)
    for work in held:
        work.done(work.job(lambda _: None))
    controller.runner.run_idle()
    assert selection.found is None
    assert not selection.is_ranking
    assert controller.finder.drawing.layer is None
    assert not messages


def test_an_undo_while_tiles_are_searched_takes_back_the_last_thing_and_the_search_goes_on(
    controller, monkeypatch, messages
):
    use(controller, monkeypatch, Comparing(described_tile(*DARK), described_tile(*BRIGHT)))
    monkeypatch.setattr(search_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(search_module, "RARELY", 0)
    chosen = accept(controller, (8, 6))
    controller.finder.wanted.find_similar([chosen])
    controller.runner.run_idle(limit=3)
    selection = controller.finder.selection
    number = int(selection.kept[-1])
    selection.toggle(number)
    assert number in selection.removed
    controller.undo.undo()
    assert number in selection.kept
    controller.undo.undo()  # The example itself.
    assert np.unique(labels_of(controller)).tolist() == [0]
    controller.runner.run_idle()
    assert len(selection.found) == len(DARK) + len(BRIGHT)
    assert middles(selection, selection.kept) >= places(DARK[1:])
    assert not messages


class OutOfOrder(Comparing):
    """Finishes the second tile first, as the workers of a cluster may."""

    def find_similar_steps(self, query, **place):
        self.asked.append(place)
        for done, numbers in ((0, []), (1, [1]), (2, [1, 0])):
            parts = [self.tiles[number] for number in numbers]
            yield SimilarProgress(2, done, place["plane"], parts, query, numbers=numbers)


def test_decisions_stay_with_their_proposals_when_tiles_are_finished_in_any_order(controller, monkeypatch):
    use(controller, monkeypatch, OutOfOrder(described_tile(*DARK), described_tile(*BRIGHT)))
    monkeypatch.setattr(search_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(search_module, "RARELY", 0)
    controller.finder.wanted.find_similar([accept(controller, (8, 6))])
    controller.runner.run_idle(limit=3)
    selection = controller.finder.selection
    assert len(selection.found) == len(BRIGHT)
    selection.decisions.decide(0, selections.Decision(True, ""))
    kept = tuple(selection.found.points[0])
    controller.runner.run_idle()
    assert len(selection.found) == len(DARK) + len(BRIGHT)
    assert tuple(selection.found.points[0]) == kept
    assert kept in {tuple(selection.found.points[number]) for number in selection.kept}


ODD = ["<b>bold</b> & more", "two\nlines", "é" * 300, "\N{MICROSCOPE}"]


@pytest.mark.parametrize("name", ODD)
def test_classes_with_odd_names_are_found_shown_and_written(controller, segmenter, name, messages):
    finder = controller.finder
    find_similar(controller, accept(controller, (8, 6), name), accept(controller, (26, 6), "plain"))
    assert [each for each, _, _ in finder.drawing.legend] == [name, "plain"]
    finder.accept()
    assert {row.label_class.name for row in controller.objects.rows} == {name, "plain"}
    assert not messages


def test_proposals_have_the_colors_of_their_classes_in_the_output_and_the_legend_counts_them(controller, segmenter):
    finder = controller.finder
    assert finder.drawing.legend == []
    selection = find_similar(controller, accept(controller, (8, 6), "dark"), accept(controller, (26, 6), "bright"))
    legend = {name: (color, count) for name, color, count in finder.drawing.legend}
    colors = {kind.name: kind.color for kind in controller.objects.journal.classes}
    drawn = finder.drawing.layer
    for name, objects in (("dark", DARK), ("bright", BRIGHT)):
        row, col = objects[2][0]
        shown = drawn.colormap.map(drawn.data[0, row, col])
        np.testing.assert_allclose(np.ravel(shown)[:3], colors[name], atol=0.01)
        assert legend[name][0] == "#" + "".join(f"{round(255 * value):02x}" for value in colors[name])
    assert sum(count for _, count in legend.values()) == len(selection.kept)
    assert legend["dark"][1] == sum(selection.similar.class_of(int(number)) == "dark" for number in selection.kept)
    finder.wanted.set_like("anything")
    controller.runner.run_idle()
    assert finder.drawing.legend == []
    edge = drawn.colormap.map(np.array([COLORS.index(KEPT_COLORS[0]) + 1]))
    assert np.allclose(np.ravel(edge)[:3] * 255, [int(KEPT_COLORS[0][at : at + 2], 16) for at in (1, 3, 5)], atol=1)
