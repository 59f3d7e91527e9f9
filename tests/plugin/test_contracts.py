"""What the plugin relies on in napari and Qt that they do not promise: a failure names what of ours must change.

`make test-oldest` runs this with the oldest napari that pyproject.toml allows.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels, Points, Shapes
from qtpy.QtCore import QEvent, QObject, QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

import napari_sam.plugin
from napari_sam.core.geometry import Box, Plane
from napari_sam.labels.edit import LabelEdit
from napari_sam.plugin.inference import hover_search as hover
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.labels import LayerLabels
from napari_sam.plugin.prompts import keys
from napari_sam.plugin.prompts import modifier_clicks as gestures
from napari_sam.plugin.view import canvas_hint, napari_private
from napari_sam.plugin.view.napari_private import canvas_of
from napari_sam.plugin.view.tab_key import TabKey

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
PLAIN = Qt.KeyboardModifier.NoModifier
SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
# Each private name of napari's and pint's that the plugin touches. Another one wants a contract below, and a way
# without it.
PRIVATE = {
    "_qt_viewer",
    "_slice_input",
    "_data_slice",
    "_slice",
    "_data_to_texture",
    "_accumulate_updated_slice",
    "_partial_labels_refresh",
}
DRAW = "change napari_private.draw_box"


def private_names(tree):
    """The private attributes that a module takes from anything but self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
            found.add(str(getattr(node.args[1], "value", "")))
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def own_names(tree):
    """The names that a module defines, and the attributes that it gives to self."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def test_one_module_touches_private_names_of_napari_and_each_has_a_contract_here():
    paths = sorted(Path(napari_sam.plugin.__file__).parent.rglob("*.py"))
    trees = {path: ast.parse(path.read_text("utf-8")) for path in paths}
    ours = set().union(*map(own_names, trees.values()))
    assert not PRIVATE & ours, "give ours another name, or it hides that of napari"
    private = trees.pop(Path(napari_private.__file__))
    assert private_names(private) == PRIVATE, "write a contract, and a way without it, or take the contract out"
    touched = {path.name: private_names(tree) - ours for path, tree in trees.items()}
    assert not any(touched.values()), "move it to view/napari_private.py"


PARTS_ABOVE = {"controller.py", "dock.py", "demo.py"}


def test_no_part_of_the_plugin_takes_or_holds_the_controller():
    folder = Path(napari_sam.plugin.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        if path.name in PARTS_ABOVE:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = {getattr(node, "arg", None), getattr(node, "attr", None), getattr(node, "id", None)}
            assert not {"controller", "_controller", "Controller"} & names, f"{path.name}:{node.lineno}"


def test_the_controller_only_builds_and_connects_the_parts():
    text = (Path(napari_sam.plugin.__file__).parent / "controller.py").read_text("utf-8")
    assert len(text.splitlines()) < 250


# -- Labels layers: a box is drawn without the rest of the plane -------------------------------------------------------

STACK, PLANE, BOX = (3, 40, 48), Plane((1, 2), (1, 0, 0)), Box(4, 6, 14, 20)


@pytest.fixture
def stack():
    """A stack of 32-bit labels in a viewer, its plane 1 in view."""
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros(STACK, np.uint32))
    viewer.dims.set_point(0, 1)
    return layer


def written(layer):
    """Write into the data of a layer, and tell it nothing."""
    layer.data[1][BOX.slices] = 7


def test_slice_input_displayed_names_the_axes_that_are_in_view(stack):
    assert tuple(stack._slice_input.displayed) == (1, 2), DRAW


def test_data_slice_point_holds_the_index_of_the_plane_that_is_in_view(stack):
    assert round(stack._data_slice.point[0]) == 1, DRAW


def test_slice_image_raw_shares_the_memory_of_a_numpy_arrays_plane(stack):
    written(stack)
    np.testing.assert_array_equal(stack._slice.image.raw, stack.data[1], DRAW)


def test_slice_image_view_is_what_data_to_texture_makes_of_the_raw_labels(stack):
    written(stack)
    stack.refresh()
    image = stack._slice.image
    assert image.view.any(), DRAW
    np.testing.assert_array_equal(image.view, stack.colormap._data_to_texture(image.raw), DRAW)


def test_partial_labels_refresh_sends_the_accumulated_boxes_to_the_canvas_and_no_more(stack):
    sent, whole = [], []
    stack.events.labels_update.connect(lambda event: sent.append((tuple(event.offset), event.data.shape)))
    stack.events.set_data.connect(lambda event: whole.append(event))
    stack._accumulate_updated_slice((slice(1, 2), slice(4, 8), slice(6, 9)))
    stack._accumulate_updated_slice((slice(1, 2), slice(10, 14), slice(6, 20)))
    stack._partial_labels_refresh()
    assert sent == [((4, 6), (10, 14))], DRAW
    assert whole == [], DRAW


def test_a_box_that_is_drawn_by_the_private_way_looks_as_after_a_refresh(stack):
    target, whole = LayerLabels(stack), []
    stack.events.set_data.connect(lambda event: whole.append(event))
    target.apply(LabelEdit(PLANE, BOX, *np.full((2, *BOX.pixel_shape), 7, np.uint32)))
    target.show()
    assert whole == [], f"all of the plane was drawn anew: {DRAW}"
    drawn = stack._slice.image.view.copy()
    stack.refresh()
    assert drawn.any(), DRAW
    np.testing.assert_array_equal(drawn, stack._slice.image.view, DRAW)


class Without:
    """A layer without some of its names, and a colormap without them, too."""

    def __init__(self, whole, *missing):
        self.__dict__.update(whole=whole, missing=missing)

    def __getattr__(self, name):
        if name in self.missing:
            raise AttributeError(name)
        value = getattr(self.whole, name)
        return Without(value, *self.missing) if name in ("colormap", "_slice") else value


@pytest.mark.parametrize("name", sorted(PRIVATE - {"_qt_viewer"}))
def test_without_a_private_name_a_written_box_is_drawn_by_a_public_refresh(stack, name):
    whole = []
    target = LayerLabels(Without(stack, name))
    stack.events.set_data.connect(lambda event: whole.append(event))
    target.apply(LabelEdit(PLANE, BOX, *np.full((2, *BOX.pixel_shape), 7, np.uint32)))
    target.show()
    assert len(whole) == 1
    image = stack._slice.image
    np.testing.assert_array_equal(image.view, stack.colormap._data_to_texture(image.raw))
    assert image.view.any()


def test_nothing_that_goes_wrong_in_a_private_call_reaches_the_user(stack, monkeypatch):
    def fail(self):
        raise RuntimeError

    monkeypatch.setattr(Labels, "_partial_labels_refresh", fail)
    assert napari_private.draw_box(stack, PLANE, BOX) is False


def test_refresh_without_thumbnail_highlight_and_extent_shows_what_was_drawn_into_the_data(stack):
    written(stack)
    stack.refresh(thumbnail=False, highlight=False, extent=False)
    assert stack._slice.image.view.any(), "change own_layers.show_hover"


def test_data_setitem_is_an_event_paint_and_can_be_undone(stack):
    painted = []
    stack.events.paint.connect(lambda event: painted.append(event.source))
    stack.data_setitem((np.array([1]), np.array([5]), np.array([6])), np.array([7], np.uint32))
    assert painted == [stack], "change output.Output.watch: strokes of the brush are not seen"
    stack.undo()
    assert not stack.data.any(), "change labels_layer._set"


def test_another_array_is_an_event_data(stack):
    replaced = []
    stack.events.data.connect(lambda event: replaced.append(event.source))
    stack.data = np.ones(STACK, np.uint32)
    assert replaced == [stack], "change output.Output.watch: other labels in the layer are not seen"


def test_the_units_of_a_layer_are_of_pint_and_know_their_registry_and_their_length():
    layer = Labels(np.zeros((2, 2), np.uint8), units=("um", "pixel"))
    micrometre, pixel = ((1 * unit).to_base_units() for unit in layer.units)
    assert (str(micrometre.units), str(pixel.units)) == ("meter", "pixel"), "change adapters._unit_lengths"
    assert micrometre.magnitude == pytest.approx(1e-6), "change adapters._unit_lengths"


# -- Points and shapes: the order of events, features and selection ----------------------------------------------------


@pytest.fixture
def points():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((40, 48), np.uint8), contrast_limits=(0, 1))
    layer = own_layers.make_points(image)
    viewer.add_layer(layer)
    return layer


def test_a_new_point_is_told_as_added_when_it_has_its_features_and_then_as_features(points):
    told = []
    points.events.data.connect(lambda event: told.append((str(event.action), len(points.data), len(points.features))))
    points.events.features.connect(lambda event: told.append("features"))
    points.add([[5.0, 5.0]])
    assert told[-2:] == [("added", 1, 1), "features"], "change prompt_layers.PromptLayers._on_features"
    assert [entry[0] for entry in told[:-2]] == ["adding"], "change prompt_layers.PromptLayers._on_data"


def test_points_that_go_or_are_replaced_are_told_in_the_past_tense_at_the_end(points):
    told = []
    points.add([[5.0, 5.0], [8.0, 9.0]])
    points.events.data.connect(lambda event: told.append(str(event.action)))
    points.selected_data = {0}
    points.remove_selected()
    assert told == ["removing", "removed"], "change prompt_layers.PromptLayers._on_data"
    points.data = np.zeros((0, 2))
    assert told[-1] in ("removed", "changed"), "change prompt_layers.PromptLayers._on_data"


def test_a_new_point_gets_the_default_features(points):
    points.feature_defaults = {"label": 0, "object": 3}
    points.add([[5.0, 5.0]])
    new = points.features.iloc[-1]
    assert (new["label"], new["object"]) == (0, 3), "change prompt_layers.PromptLayers._set_defaults"


def test_selecting_a_point_makes_its_features_the_defaults_and_tells(points):
    points.add([[5.0, 5.0], [8.0, 9.0]])
    points.features = {"label": np.array([1, 0]), "object": np.array([1, 2])}
    told = []
    points.events.feature_defaults.connect(lambda event: told.append(event.source))
    points.selected_data = {1}
    sign, number = (int(np.asarray(points.feature_defaults[name])[0]) for name in ("label", "object"))
    assert (sign, number) == (0, 2), "change prompt_layers.PromptLayers._on_defaults and toggle_sign"
    assert points in told, "change prompt_layers.PromptLayers._on_defaults"


def test_other_default_features_leave_the_points_that_are_not_selected_alone(points):
    points.add([[5.0, 5.0]])
    points.selected_data = set()
    points.feature_defaults = {"label": 0, "object": 3}
    assert points.features["label"].tolist() == [1], "change prompt_layers.PromptLayers._set_defaults"


def test_features_that_are_assigned_colour_the_points_by_the_cycle_of_signs(points):
    points.add([[5.0, 5.0], [8.0, 9.0]])
    points.features = points.features.assign(label=np.array([1, 0]))
    assert (points.face_color[0] != points.face_color[1]).any(), "change own_layers.make_points"


def test_the_color_of_the_next_shape_colours_none_while_none_is_selected():
    shapes = own_layers.make_shapes(ViewerModel().add_image(np.zeros((40, 48), np.uint8), contrast_limits=(0, 1)))
    shapes.add_rectangles(np.array([[[2, 2], [2, 9], [9, 9], [9, 2]]], float))
    before = shapes.edge_color.copy()
    shapes.selected_data = set()
    shapes.current_edge_color = own_layers.SHAPE_COLORS[0]
    np.testing.assert_array_equal(shapes.edge_color, before, "change prompt_layers.PromptLayers._set_defaults")


def test_signs_fit_the_shapes_in_every_event_though_napari_takes_features_away_later():
    shapes = own_layers.make_shapes(ViewerModel().add_image(np.zeros((40, 48), np.uint8), contrast_limits=(0, 1)))
    square = np.array([[2, 2], [2, 9], [9, 9], [9, 2]], float)
    shapes.add_rectangles(np.array([square, square + 10, square + 20]))
    lengths = []
    shapes.events.data.connect(lambda event: lengths.append((len(adapters.signs_of(shapes)), len(shapes.data))))
    shapes.selected_data = {0, 2}
    shapes.remove_selected()
    assert lengths
    assert all(signs_there == there for signs_there, there in lengths), "change adapters.signs_of"


@pytest.mark.parametrize("kind", [Points, Shapes])
def test_a_key_is_bound_to_a_function_bound_anew_and_given_back(kind):
    layer, pressed = kind(ndim=2), []
    layer.bind_key("C", keys._bound(lambda: pressed.append(1)), overwrite=True)
    layer.bind_key("C", keys._bound(lambda: pressed.append(2)), overwrite=True)
    (bound,) = layer.keymap.values()
    bound(layer)
    assert pressed == [2], "change keys.LayerKeys.bind"
    layer.bind_key("C", None, overwrite=True)
    assert not any(layer.keymap.values()), "change keys.LayerKeys._on_changed"


def test_what_is_no_key_is_refused_or_unknown():
    for name in ("no key at all", "", "None"):
        assert keys._valid(name, "F9") == "F9", "change keys._valid"
    for name in ("C", "Shift-C", "Control-Shift-Z", "F5", "Tab"):
        assert keys._valid(name, "F9") == name, "change keys._valid"


# -- The preferences ---------------------------------------------------------------------------------------------------


@pytest.fixture
def preferences(monkeypatch, tmp_path):
    """Kept away from the user's own."""
    import napari.settings

    monkeypatch.setattr(napari.settings, "_PLUGIN_SETTINGS", {})
    monkeypatch.setattr(napari.settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    return napari.settings


def test_get_plugin_settings_gives_the_manifests_configurations_by_name_with_events(preferences):
    page = preferences.get_plugin_settings(keys.PLUGIN).keys
    assert {action.name: getattr(page, action.name) for action in keys.ACTIONS} == {
        action.name: action.default for action in keys.ACTIONS
    }, "change keys.settings_page"
    told = []
    layer_keys = keys.LayerKeys({action.name: lambda: None for action in keys.ACTIONS}, lambda: told.append(1))
    page.accept = "Shift-A"
    assert told, "change keys.LayerKeys.__init__"
    layer_keys.close()
    page.accept = "Shift-B"
    assert len(told) == 1, "change keys.LayerKeys.close"


@pytest.mark.parametrize("how", ["gone", "broken", "empty"])
def test_without_a_page_of_preferences_the_default_keys_work(preferences, monkeypatch, points, how):
    def fail(name):
        raise RuntimeError(name)

    if how == "gone":
        monkeypatch.delattr(preferences, "get_plugin_settings")
    else:
        monkeypatch.setattr(preferences, "get_plugin_settings", fail if how == "broken" else lambda name: object())
    pressed = []
    does = {action.name: lambda name=action.name: pressed.append(name) for action in keys.ACTIONS}
    layer_keys = keys.LayerKeys(does, lambda: None)
    layer_keys.bind(points)
    layer_keys.press("C")
    layer_keys.close()
    assert keys.settings_page(keys.SECTION) is None
    assert pressed == ["accept"]


# -- The window --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def viewer(qapp):
    if sys.platform == "linux" and not os.environ.get("DISPLAY"):
        pytest.skip("needs a screen: run the tests with `make test`, or under xvfb-run")
    viewer = napari.Viewer(show=True)
    viewer.window.resize(1000, 700)
    QTest.qWaitForWindowExposed(viewer.window._qt_window)
    yield viewer
    viewer.close()
    QApplication.processEvents()


@pytest.fixture
def image(viewer):
    """The only layer of the window, all of it in view."""
    image = viewer.add_image(np.zeros((300, 400), np.uint8), contrast_limits=(0, 1))
    viewer.reset_view()
    yield image
    viewer.layers.clear()
    QApplication.processEvents()


@pytest.fixture
def tool(viewer, image, qtbot):
    """A points layer with its tool in hand, the mouse in the middle of the canvas."""
    layer = own_layers.make_points(image)
    viewer.add_layer(layer)
    layer.mode = "add"
    canvas = canvas_of(viewer)
    QTest.mouseMove(canvas, middle(canvas))
    qtbot.waitUntil(lambda: viewer.mouse_over_canvas)
    return layer


def middle(canvas):
    return QPoint(canvas.width() // 2, canvas.height() // 2)


def drag(canvas, by, button=LEFT, modifier=PLAIN):
    start = middle(canvas)
    QTest.mousePress(canvas, button, modifier, start)
    if by:
        QTest.mouseMove(canvas, start + QPoint(by, 0))
        QTest.qWait(30)  # napari throttles moves.
    QTest.mouseRelease(canvas, button, modifier, start + QPoint(by, 0))
    QApplication.processEvents()


def test_the_canvas_of_the_private_qt_viewer_is_the_widget_that_shows_the_image(viewer):
    canvas = canvas_of(viewer)
    assert isinstance(canvas, QWidget), "change napari_private.canvas_of"
    assert canvas.isVisible(), "change napari_private.canvas_of"
    assert viewer.window._qt_window.isAncestorOf(canvas), "change napari_private.canvas_of"


def test_an_event_filter_of_the_canvas_gets_the_tab_key_once_and_gives_it_back(viewer):
    pressed = []
    tab = TabKey(viewer, lambda: pressed.append(1))
    tab.set_enabled(True)
    QTest.keyClick(canvas_of(viewer), Qt.Key.Key_Tab)
    assert pressed == [1], "change tab_key.TabKey"
    tab.close()
    QTest.keyClick(canvas_of(viewer), Qt.Key.Key_Tab)
    assert pressed == [1], "change tab_key.TabKey.close"


@pytest.mark.parametrize(
    "window",
    [
        SimpleNamespace(),
        SimpleNamespace(_qt_viewer=SimpleNamespace()),
        SimpleNamespace(_qt_viewer=SimpleNamespace(canvas=SimpleNamespace(native=object()))),
    ],
)
def test_without_the_private_canvas_there_is_no_tab_key_and_no_error(qapp, window):
    somewhere = SimpleNamespace(window=window)
    assert canvas_of(somewhere) is None
    tab = TabKey(somewhere, lambda: None)
    tab.set_enabled(True)
    tab.close()


def test_mouse_drag_callbacks_that_are_first_in_the_list_are_called_first_as_generators_of_a_press(viewer, tool):
    told = []

    def watch(layer, event):
        told.append((event.type, event.button, len(layer.data), len(event.pos), len(event.position)))
        yield
        while event.type == "mouse_move":
            told.append(event.type)
            yield
        told.append((event.type, len(layer.data)))

    tool.mouse_drag_callbacks.insert(0, watch)
    drag(canvas_of(viewer), 2)
    assert told[0] == ("mouse_press", 1, 0, 2, 2), "change gestures.Gestures._on_press"
    assert set(told[1:-1]) <= {"mouse_move"}, "change gestures.Gestures._on_press"
    assert told[-1] == ("mouse_release", 0), "change gestures.Gestures: the point is there before the gesture is known"
    assert len(tool.data) == 1, "change gestures.Gestures: napari adds points otherwise"


@pytest.mark.parametrize(
    ("button", "modifier", "seen"), [(LEFT, SHIFT, "Shift"), (LEFT, CONTROL, "Control"), (RIGHT, PLAIN, "")]
)
def test_any_button_and_modifier_adds_a_point_and_the_event_names_it(viewer, tool, button, modifier, seen):
    told = []
    tool.mouse_drag_callbacks.insert(0, lambda layer, event: told.append((event.button, tuple(event.modifiers))))
    drag(canvas_of(viewer), 0, button, modifier)
    assert told == [(gestures.RIGHT_BUTTON if button == RIGHT else 1, (seen,) if seen else ())], (
        "change gestures.Gestures._on_press"
    )
    assert len(tool.data) == 1, "change gestures.Gestures: there is no point to turn into what the click meant"


@pytest.mark.parametrize(("by", "count"), [(4, 1), (5, 0)])
def test_a_press_that_moves_five_pixels_is_a_drag_and_adds_no_point(viewer, tool, by, count):
    assert gestures.DRAGGED == hover.DRAGGED == 5
    drag(canvas_of(viewer), by)
    assert len(tool.data) == count, "change gestures.DRAGGED and hover.DRAGGED"


def test_the_viewers_own_callbacks_get_moves_and_presses_in_world_coordinates(viewer, tool, qtbot):
    moved, pressed = [], []

    def on_move(model, event):
        moved.append(event.position)

    def on_press(model, event):
        pressed.append(event.position)

    viewer.mouse_move_callbacks.append(on_move)
    viewer.mouse_drag_callbacks.append(on_press)
    try:
        QTest.mouseMove(canvas_of(viewer), middle(canvas_of(viewer)) + QPoint(9, 9))
        qtbot.waitUntil(lambda: bool(moved))
        drag(canvas_of(viewer), 0)
    finally:
        viewer.mouse_move_callbacks.remove(on_move)
        viewer.mouse_drag_callbacks.remove(on_press)
    np.testing.assert_allclose(pressed[-1], viewer.scene.camera.center[-2:], atol=2, err_msg="change hover.Hover")
    np.testing.assert_allclose(pressed[-1], tool.data[-1], err_msg="change gestures.Gestures._on_press")


def test_leaving_the_canvas_is_an_event_of_mouse_over_canvas(viewer, tool):
    told = []
    viewer.events.mouse_over_canvas.connect(lambda event: told.append(viewer.mouse_over_canvas))
    QApplication.sendEvent(canvas_of(viewer), QEvent(QEvent.Type.Leave))
    assert told == [False], "change hover.Hover.__init__"


def test_the_canvas_has_a_text_that_is_borrowed_and_given_back(viewer, image):
    overlay = viewer.canvas.overlays.text
    overlay.text, overlay.visible = "mine", False
    hint = canvas_hint.CanvasHint(viewer)
    hint.show("+")
    assert (overlay.text, overlay.visible) == ("+", True), "change canvas_hint.CanvasHint"
    hint.restore()
    assert (overlay.text, overlay.visible) == ("mine", False), "change canvas_hint.CanvasHint"


def test_corner_pixels_are_inclusive_in_pixels_of_the_level_that_is_shown(viewer, qtbot):
    levels = [np.zeros((4096, 4096), np.uint8), np.zeros((1024, 1024), np.uint8)]
    layer = viewer.add_image(levels, multiscale=True, contrast_limits=(0, 1))
    try:
        viewer.reset_view()
        qtbot.waitUntil(lambda: layer.data_level == 1)
        assert layer.corner_pixels.tolist() == [[0, 0], [1023, 1023]], "change adapters.view_of"
        assert layer.downsample_factors[1].tolist() == [4, 4], "change adapters.view_of"
    finally:
        viewer.layers.clear()


def test_the_camera_of_the_scene_zooms_in_screen_pixels_for_a_unit_of_the_world(viewer, image):
    viewer.scene.camera.zoom = 0.5
    assert adapters.downsample_of(viewer, image, Plane((0, 1), (0, 0))) == 2, "change adapters.downsample_of"


def test_a_docked_widget_gets_a_proxy_of_the_viewer_that_wraps_the_viewer_itself(viewer):
    from napari.utils._proxies import PublicOnlyProxy

    assert PublicOnlyProxy(viewer).__wrapped__ is viewer, "change widget.SamWidget.__init__"
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    try:
        assert type(widget).__name__ == "SamWidget", "change napari.yaml"
        assert type(widget._viewer) is napari.Viewer, "change widget.SamWidget.__init__"
    finally:
        viewer.window.remove_dock_widget(widget)


def test_closing_a_dock_takes_the_widget_out_of_its_parent_and_tells_it_so(viewer):
    class Watch(QObject):
        parents = None

        def eventFilter(self, watched, event):
            if event.type() == QEvent.Type.ParentChange:
                self.parents.append(watched.parent())
            return False

    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    watch = Watch()
    watch.parents = []
    widget.installEventFilter(watch)
    viewer.window.remove_dock_widget(widget)
    assert watch.parents[-1:] == [None], "change widget.SamWidget.event"
    assert widget.controller.hover._on_move not in viewer.mouse_move_callbacks, "change widget.SamWidget.event"
    assert not widget._viewer.layers, "the widget let go of a viewer that has layers of its"


def test_cancelable_progress_stands_in_the_activity_dock_counts_and_can_be_cancelled(viewer):
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
    from napari.utils import cancelable_progress

    def shown():
        bars = viewer.window._qt_window.findChildren(QtLabeledProgressBar)
        return [bar for bar in bars if "Downloading vit_b" in bar.description_label.text()]

    before = len(shown())
    bar = cancelable_progress(total=0, desc="Downloading vit_b")
    try:
        assert len(shown()) == before + 1, "change downloads.Download.start"
        bar.total = 100
        bar.update(30)
        assert (bar.total, bar.n, bar.is_canceled) == (100, 30, False), "change downloads.Download._on_report"
        bar.cancel()
        assert bar.is_canceled, "change downloads.Download._on_report"
    finally:
        bar.close()


def test_the_world_counts_in_units_of_its_own_and_tools_take_them_for_those_of_their_layer():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((4, 5)), scale=(2, 2), units=("um", "um"))
    viewer.add_image(np.zeros((4, 5)), units=("nm", "nm"))
    assert [str(unit) for unit in viewer.dims.units] == ["nanometer", "nanometer"], "change world.to_world"
    assert image.world_to_data((2, 4)).tolist() == [1, 2], "napari converts units by now: change world.transform_in"
    viewer.add_image(np.zeros((4, 5)), units=("pixel", "pixel"))
    assert viewer.dims.units is None, "change world.factors"


def test_a_layer_tells_which_slice_of_its_data_it_shows():
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((9, 4, 5)), scale=(2, 1, 1), projection_mode="max")
    viewer.dims.set_point(0, 6)
    viewer.dims.margin_left, viewer.dims.margin_right = (2, 0, 0), (4, 0, 0)
    middle, left, right = np.asarray(image._data_slice.as_array())
    assert (middle[0], left[0], right[0]) == (3, 1, 2), "change display._slab_of"
    assert np.isnan(middle[1:]).all(), "change display._slab_of"


def test_show_warning_keeps_the_sentence_as_a_notification(viewer):
    from napari.utils.notifications import notification_manager, show_warning

    count = len(notification_manager.records)
    show_warning("Click an object first.")
    (new,) = list(notification_manager.records)[count:]
    assert new.message == "Click an object first.", "change widget.SamWidget: messages by another way"


def test_a_worker_of_superqt_waits_until_it_is_started_and_returns_in_the_gui_thread(qtbot):
    from superqt.utils import create_worker

    done = []
    worker = create_worker(lambda: 7, _start_thread=False)
    worker.returned.connect(done.append)
    assert not worker.is_running, "change downloads.Download.start"
    worker.start()
    qtbot.waitUntil(lambda: done == [7])
