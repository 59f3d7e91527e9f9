"""Classes in the viewer: the output in their colours, a layer of their numbers, and their names."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtWidgets import QColorDialog, QInputDialog

from napari_sam.journal.semantic_labels import ClassMap
from napari_sam.plugin.layers.factory import CLASSES, is_display
from napari_sam.plugin.objects import class_view
from napari_sam.plugin.objects.class_view import CYCLE, GRAY, ClassLevel
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.testing import HeldRunner

COIN, NEIGHBOUR, THIRD = (51, 155), (56, 99), (125, 102)
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


@pytest.fixture
def viewer(coins):
    viewer = ViewerModel()
    viewer.add_image(coins, name="coins", scale=(0.5, 0.25), translate=(3, 4), units=("um", "um"))
    return viewer


def accept(controller, *points):
    for point in points:
        controller.prompts.points.add(np.array([point], float))
        controller.commits.accept()


def seen(controller, label):
    return tuple(controller.session.target.colormap.map(np.array([label], controller.session.target.dtype))[0].tolist())


def color_of(controller, name):
    return (*np.float32(next(kind.color for kind in controller.objects.classes if kind.name == name)).tolist(), 1.0)


def expect(controller, **classes):
    """Check the colours of the labels 1, 2, ...: each of a class, or grey."""
    for label, name in enumerate(classes.values(), 1):
        assert seen(controller, label) == ((*GRAY, 1.0) if name is None else color_of(controller, name)), label
    assert seen(controller, 0)[3] == 0


def expect_numbers(layer, labels, numbers):
    """Check the pixels of a layer of classes, by the numbers of the labels 0, 1, ..."""
    np.testing.assert_array_equal(np.asarray(layer.data), np.array(numbers)[np.asarray(labels)])


# -- the output in the colours of its classes --------------------------------------------------------------------------


def test_the_output_follows_what_happens_to_its_objects(controller):
    accept(controller, COIN, NEIGHBOUR)
    controller.class_view.show_colors(True)
    expect(controller, a=None, b=None)
    controller.objects.classify([1], "penny")
    expect(controller, a="penny", b=None)
    controller.objects.classify([], "dime")
    accept(controller, THIRD)
    expect(controller, a="penny", b=None, c="dime")
    controller.objects.define_class("dime", RED)
    assert seen(controller, 3) == (*RED, 1.0)
    controller.undo.undo()
    expect(controller, a="penny", b=None, c="dime")
    assert seen(controller, 3) != (*RED, 1.0)
    controller.objects.classify([1, 2], "dime")
    expect(controller, a="dime", b="dime", c="dime")
    controller.undo.undo()  # Of one action, on both objects.
    expect(controller, a="penny", b=None, c="dime")
    controller.objects.delete([3])
    expect(controller, a="penny", b=None)
    controller.undo.undo()
    expect(controller, a="penny", b=None, c="dime")


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_labels_of_any_type_have_the_colours_of_their_classes(viewer, controller, dtype):
    image = viewer.layers["coins"]
    place = {"scale": image.scale, "translate": image.translate, "units": image.units}
    layer = viewer.add_labels(np.zeros(image.data.shape, dtype), **place)
    controller.session.set_target(layer)
    controller.class_view.show_colors(True)
    accept(controller, COIN, NEIGHBOUR)
    expect(controller, a=None, b=None)
    controller.objects.classify([2], "penny")
    expect(controller, a=None, b="penny")
    controller.objects.define_class("penny", RED)
    assert seen(controller, 2) == (*RED, 1.0)
    controller.objects.classify([1], "dime")
    expect(controller, a="dime", b="penny")
    assert seen(controller, 100) == (*GRAY, 1.0)


def test_labels_that_get_too_high_for_their_type_keep_the_colours(viewer, controller, monkeypatch, notes):
    image = viewer.layers["coins"]
    labels = np.zeros(image.data.shape, np.uint16)
    labels[0, :2] = CYCLE - 1, CYCLE
    place = {"scale": image.scale, "translate": image.translate, "units": image.units}
    controller.session.set_target(viewer.add_labels(labels, **place))
    controller.class_view.show_colors(True)
    controller.objects.classify([], "penny")
    accept(controller, COIN, NEIGHBOUR)
    first, second = (int(controller.session.target.data[point]) for point in (COIN, NEIGHBOUR))
    assert (first, second) == (CYCLE + 1, CYCLE + 2)
    assert controller.session.target.dtype == np.uint32
    assert isinstance(controller.session.target.colormap, DirectLabelColormap)
    assert seen(controller, first) == color_of(controller, "penny")
    assert seen(controller, 1) == (*GRAY, 1.0)
    if importlib.util.find_spec("numba") is None:
        assert seen(controller, second) == (*GRAY, 1.0)
        assert [note for note in notes if "numba" in note] == notes[-1:]
    else:
        assert seen(controller, second) == color_of(controller, "penny")


def test_the_own_colours_come_back(viewer, controller, coins):
    accept(controller, COIN)
    controller.objects.classify([1], "penny")
    first = controller.session.target
    own = first.colormap
    view = controller.class_view
    view.show_colors(True)
    assert first.colormap is not own
    view.show_colors(False)
    assert first.colormap is own

    view.show_colors(True)
    controller.session.set_target(None)
    accept(controller, NEIGHBOUR)
    assert controller.session.target is not first
    assert first.colormap is own
    expect(controller, a=None)
    second, theirs = controller.session.target, view._own
    viewer.layers.remove(second)
    assert second.colormap is theirs
    controller.session.set_target(first)
    expect(controller, a="penny")
    view.close()
    assert first.colormap is own
    controller.objects.classify([1], "dime")
    assert first.colormap is own


def test_the_own_colours_come_back_when_the_controller_closes(controller):
    accept(controller, COIN)
    layer, own = controller.session.target, controller.session.target.colormap
    controller.class_view.show_colors(True)
    assert layer.colormap is not own
    controller.close()
    assert layer.colormap is own


def test_an_accept_that_changes_no_colour_makes_no_colormap(controller):
    accept(controller, COIN)
    controller.objects.classify([1], "penny")
    controller.class_view.show_colors(True)
    made = controller.session.target.colormap
    accept(controller, NEIGHBOUR)
    controller.objects.delete([1])
    assert controller.session.target.colormap is made


def test_only_the_selected_label_is_shown_in_its_colour(controller):
    accept(controller, COIN, NEIGHBOUR)
    controller.objects.classify([1, 2], "penny")
    layer = controller.session.target
    own = layer.colormap
    layer.selected_label, layer.show_selected_label = 2, True
    controller.class_view.show_colors(True)
    assert seen(controller, 1)[3] == 0
    assert seen(controller, 2) == color_of(controller, "penny")
    layer.selected_label = 1
    controller.class_view.show_colors(False)
    assert layer.colormap is own
    assert (seen(controller, 1)[3], seen(controller, 2)[3]) == (1, 0)


# -- the classes as a layer --------------------------------------------------------------------------------------------


def test_a_layer_of_the_classes_is_made_once_and_brought_up_to_date(viewer, controller):
    accept(controller, COIN, NEIGHBOUR, THIRD)
    controller.objects.classify([2, 3], "penny")
    view, output = controller.class_view, controller.session.target
    view.show_layer()
    layer = view.layer_of(output)
    assert layer.name == "SAM labels classes"
    assert is_display(layer)
    assert not is_display(output)
    assert layer.dtype == np.uint8
    assert viewer.layers.index(layer) == viewer.layers.index(output) + 1
    np.testing.assert_array_equal(layer.data_to_world((10, 20)), output.data_to_world((10, 20)))
    assert layer.units == output.units
    expect_numbers(layer, output.data, [0, 0, 1, 1])
    np.testing.assert_allclose(layer.get_color(1), color_of(controller, "penny"))

    controller.objects.classify([1], "dime")
    controller.objects.define_class("penny", BLUE)
    view.show_layer()
    assert [each for each in viewer.layers if isinstance(each, Labels) and CLASSES in each.metadata] == [layer]
    expect_numbers(layer, output.data, [0, 2, 1, 1])
    np.testing.assert_allclose(layer.get_color(1), (*BLUE, 1))
    assert layer.features["class"].tolist() == ["none", "penny", "dime"]

    viewer.layers.remove(layer)
    view.show_layer()
    expect_numbers(view.layer_of(output), output.data, [0, 2, 1, 1])


def test_without_classes_or_memory_there_is_one_sentence(controller, notes, monkeypatch):
    accept(controller, COIN)
    controller.class_view.show_layer()
    assert notes == ["No object has a class: give one to an object first."]
    controller.objects.classify([1], "penny")

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(class_view, "write_semantic", fail)
    controller.class_view.show_layer()
    assert len(notes) == 2
    assert "no memory" in notes[1]
    assert controller.class_view.layer_of(controller.session.target) is None


def test_the_classes_come_by_a_job_after_what_was_asked_before(viewer, make_controller):
    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    while runner.jobs:
        runner.release()
    for point in (COIN, NEIGHBOUR):
        controller.prompts.points.add(np.array([point], float))
        while runner.jobs:
            runner.release()
        controller.commits.accept()
        while runner.jobs:
            runner.release()
    controller.objects.classify([1, 2], "penny")
    while runner.jobs:
        runner.release()
    view, output = controller.class_view, controller.session.target
    view.show_layer()
    assert view.layer_of(output) is None
    runner.release()
    expect_numbers(view.layer_of(output), output.data, [0, 1, 1])

    view.show_layer()
    viewer.layers.remove(output)
    viewer.layers.remove(view.layer_of(output))
    runner.release()
    assert [each for each in viewer.layers if CLASSES in each.metadata] == []


@pytest.mark.parametrize("margin", [0, 900])
def test_classes_of_a_pyramid_are_looked_up_for_what_is_read(viewer, make_controller, coins, tmp_path, margin):
    controller = make_controller(viewer)
    controller.session.set_image(viewer.add_image(np.pad(coins, (0, margin))))
    use_label_file(controller.session, controller.preview.layers, tmp_path / "labels.ome.zarr")
    controller.class_view.show_colors(True)
    accept(controller, COIN, NEIGHBOUR)
    controller.objects.classify([2], "penny")
    expect(controller, a=None, b="penny")
    view, output = controller.class_view, controller.session.target
    view.show_layer()
    layer, pyramid = view.layer_of(output), output.metadata["napari-sam pyramid"]
    assert layer.multiscale == output.multiscale == (margin > 0)
    levels = list(layer.data) if layer.multiscale else [layer.data]
    assert len(levels) == len(pyramid.levels)
    for shown, labels in zip(levels, pyramid.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(labels[:]) == 2)
    controller.objects.classify([1], "dime")
    view.show_layer()
    assert view.layer_of(output) is layer
    at = layer.data[0] if layer.multiscale else layer.data
    np.testing.assert_array_equal(np.asarray(at), np.array([0, 2, 1])[np.asarray(pyramid[:, :])])


class Counting:
    """300 GB of labels, each the number of its row, of which it is known what was read."""

    shape, dtype, chunks = (300_000, 500_000), np.dtype(np.uint16), (512, 512)

    def __init__(self):
        self.read = 0

    def __getitem__(self, key):
        rows, cols = (range(length)[part] for length, part in zip(self.shape, key, strict=True))
        self.read += len(rows) * len(cols)
        return np.repeat(np.array(rows, np.uint16)[:, None], len(cols), 1)


def test_of_labels_of_any_size_only_what_is_shown_is_read():
    labels = Counting()
    level = class_view.lazy_levels([ClassLevel(lambda: labels, ClassMap(np.array([3, 7]), np.array([1, 300])))])
    assert (level.shape, level.chunks, level.dtype) == (labels.shape, labels.chunks, np.uint16)
    part = level[2:9][:, 100:102]
    assert labels.read == 0
    np.testing.assert_array_equal(np.asarray(part)[:, 0], [0, 1, 0, 0, 0, 300, 0])
    assert labels.read == 14


# -- names -------------------------------------------------------------------------------------------------------------


def test_a_class_is_renamed_and_one_step_takes_it_back_for_what_comes_next_too(controller, notes):
    accept(controller, COIN)
    controller.objects.classify([1], "peny")
    controller.objects.classify([], "peny")
    controller.objects.define_class("peny", renamed="penny")
    assert controller.objects.get(1).label_class.name == "penny"
    assert controller.session.class_name == "penny"
    controller.undo.undo()
    assert controller.session.class_name == "peny"
    controller.undo.redo()
    accept(controller, NEIGHBOUR)
    assert [kind.name for kind in controller.objects.classes] == ["penny"]
    controller.objects.classify([1], "dime")
    assert notes == []
    controller.objects.define_class("dime", renamed="penny")
    controller.objects.define_class("dime", renamed="")
    assert notes[0] == "There is a class 'penny' already: choose another name."
    assert "name" in notes[1]
    assert controller.objects.get(1).label_class.name == "dime"


@pytest.mark.usefixtures("screen")
def test_classes_by_the_buttons_of_a_window(open_window, coins, qtbot, monkeypatch, told):
    window = open_window(coins, name="coins")
    controller, panel = window.controller, window.widget.objects
    window.widget.object_section.expand(animate=False)
    accept_by_hand(window, COIN, NEIGHBOUR)
    output = controller.session.target
    own = output.colormap
    assert not panel.rename.isEnabled()
    assert "Choose a class" in panel.rename.toolTip()
    assert not panel.layer.isEnabled()
    assert "Give an object a class" in panel.layer.toolTip()

    controller.objects.classify([1], "peny")
    panel.table.choose([1])
    assert panel.rename.isEnabled()
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, text: (f"  {text.replace('n', 'nn')} ", True))
    panel.rename.click()
    assert panel.classes.currentText() == "penny"
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, text: (text, False))
    panel.rename.click()
    assert [kind.name for kind in controller.objects.classes] == ["penny"]
    window.widget.footer.undo.click()
    assert panel.classes.currentText() == "peny"

    panel.by_class.click()
    expect(controller, a="peny", b=None)
    monkeypatch.setattr(QColorDialog, "getColor", lambda first, *_: type(first)(0, 0, 255))
    panel.color.click()
    assert seen(controller, 1) == (*BLUE, 1.0)
    row, col = window.pixel(COIN).y(), window.pixel(COIN).x()
    window.viewer.layers["SAM points"].visible = False
    red, _, blue, _ = (int(value) for value in window.viewer.screenshot(flash=False)[row, col])
    assert blue > red + 100

    panel.layer.click()
    qtbot.waitUntil(lambda: controller.class_view.layer_of(output) is not None)
    expect_numbers(controller.class_view.layer_of(output), output.data, [0, 1, 0])
    assert controller.session.target is output
    assert window.widget.width() <= 350
    panel.by_class.click()
    assert output.colormap is own
    # Drawn each time: vispy fails to draw a table of colors if the one before it was replaced without being drawn.
    window.viewer.screenshot(flash=False)
    panel.by_class.click()
    window.viewer.screenshot(flash=False)
    window.viewer.window.remove_dock_widget(window.widget)
    assert output.colormap is own
    assert told == []


def accept_by_hand(window, *points):
    for point in points:
        window.click(point)
        window.controller.commits.accept()
        window.wait()
