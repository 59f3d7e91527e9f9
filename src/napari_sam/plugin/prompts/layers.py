"""PromptLayers: the layers of points and shapes, the active tool, and the sign of the next prompt."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from psygnal import Signal

from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.adapters import LABEL_FEATURE, OBJECT_FEATURE, numbers_of, signs_of
from napari_sam.plugin.prompts.modifier_clicks import Gestures
from napari_sam.plugin.prompts.state import DrawnShape, PromptState
from napari_sam.plugin.view import world

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_sam.core.geometry import Plane
    from napari_sam.core.prompts import Prompts

MODE_OF_TOOL = {
    "points": "add",
    "box": "add_rectangle",
    "scribble": "add_path",
    "lasso": "add_polygon_lasso",
    "polygon": "add_polygon",
    "ellipse": "add_ellipse",
}


class PromptLayers:
    """Makes the two layers where they are missing, and emits signals for changes in them.

    Parameters
    ----------
    viewer
        The viewer's model.

    Attributes
    ----------
    prompted
        Emitted when the prompts changed.
    changed
        Emitted when the tool or the sign may have.
    selected
        Emitted with the number of a pending draft, when the user selected a prompt of it.
    picked
        Emitted with the world position of a click that picks an existing object.
    layer_added
        Emitted with a new layer, before it is in the viewer.
    layer_removed
        Emitted with a layer that was deleted.
    points, shapes
        The layers, or None where there is none.
    number
        The number of the draft that the next prompt belongs to.
    """

    prompted = Signal()
    changed = Signal()
    selected = Signal(int)
    picked = Signal(object)
    layer_added = Signal(object)
    layer_removed = Signal(object)

    def __init__(self, viewer: ViewerModel) -> None:
        self.points: Points | None = None
        self.shapes: Shapes | None = None
        self.number = 1
        self._viewer = viewer
        self._gestures: Gestures | None = None
        self._is_quiet = False
        viewer.layers.selection.events.active.connect(self._on_tool)

    @property
    def layers(self) -> list[Points | Shapes]:
        """The layers that exist."""
        return [layer for layer in (self.points, self.shapes) if layer is not None]

    def count_of(self, number: int) -> int:
        """Return how many prompts a draft has, on any plane."""
        return sum(int(np.count_nonzero(numbers_of(layer) == number)) for layer in self.layers)

    @property
    def tool(self) -> str | None:
        """The active tool, by the active layer and its mode, or None."""
        active = self._viewer.layers.selection.active
        if active is None or active not in self.layers:
            return None
        return next((tool for tool, mode in MODE_OF_TOOL.items() if mode == str(active.mode)), None)

    @property
    def sign(self) -> int:
        """Whether the next point is on the object (1) or off it (0)."""
        return next((int(np.asarray(layer.feature_defaults[LABEL_FEATURE])[0]) for layer in self.layers), 1)

    def activate(self, tool: str, image: Image) -> None:
        """Activate a tool, one of `MODE_OF_TOOL`, on an image."""
        layer = self._points_layer(image) if tool == "points" else self._shapes_layer(image)
        with self._quiet():
            self._set_defaults(self.sign)  # Of a selected point, it may be known to its own layer only.
        self._viewer.layers.selection.active = layer
        layer.mode = MODE_OF_TOOL[tool]

    def toggle_sign(self) -> None:
        """Flip the selected points or scribbles while selecting, else the sign of the next one."""
        active = self._viewer.layers.selection.active
        selecting = [layer for layer in self.layers if str(layer.mode) == "select" and layer.selected_data]
        if selecting:
            self._flip_selected(active if active in selecting else selecting[0])
        elif self.layers:
            sign = 1 - self.sign
            if self.points is not None:
                self.points.selected_data = set()
            self._set_defaults(sign)
        self.changed.emit()

    def begin(self, number: int) -> None:
        """Let the next prompts belong to a draft, the first one on the object."""
        self.number = number
        with self._quiet():
            for layer in self.layers:
                layer.selected_data = set()
            self._set_defaults(1)

    def remove(self, number: int) -> None:
        """Remove the prompts of a draft without a signal."""
        sign = self.sign  # What is selected to be removed has one of its own.
        with self._quiet():
            for layer in self.layers:
                gone = set(np.flatnonzero(numbers_of(layer) == number).tolist())
                if gone:
                    layer.selected_data = gone
                    layer.remove_selected()
            self._set_defaults(sign)

    @property
    def drawn(self) -> PromptState:
        """All prompts, of all drafts."""
        points, shapes = self.points, self.shapes
        made: list[DrawnShape] = []
        if shapes is not None:
            rows = zip(shapes.data, shapes.shape_type, signs_of(shapes), numbers_of(shapes), strict=True)
            made = [
                DrawnShape(np.array(vertices, float), str(kind), int(sign), int(number))
                for vertices, kind, sign, number in rows
            ]
        if points is None:
            return PromptState(np.zeros((0, 0)), np.zeros(0, np.int64), np.zeros(0, np.int64), tuple(made))
        return PromptState(
            np.array(points.data, float), signs_of(points).copy(), numbers_of(points).copy(), tuple(made)
        )

    def put_back(self, drawn: PromptState, image: Image) -> None:
        """Replace all prompts, without a signal."""
        now, sign = self.drawn, self.sign
        with self._quiet():
            if not now.has_same_points(drawn):
                points = self._points_layer(image)
                points.selected_data = set()
                points.data = drawn.points.reshape(-1, points.ndim)
                points.features = {LABEL_FEATURE: drawn.signs, OBJECT_FEATURE: drawn.numbers}
            if not now.has_same_shapes(drawn):
                self._put_shapes_back(self._shapes_layer(image), drawn.shapes)
            self._set_defaults(sign)

    def put(self, prompts: Prompts, image: Image, plane: Plane) -> None:
        """Draw the points and the box of a draft that has none yet, without a signal."""
        with self._quiet():
            points = self._points_layer(image)
            if len(prompts.points):
                points.add(_positions(points, image, plane, prompts.points))
                signs = signs_of(points).copy()
                signs[-len(prompts.points) :] = prompts.labels
                points.features = points.features.assign(**{LABEL_FEATURE: signs})
                points.selected_data = set()
            box = prompts.box
            if box is not None and (prompts.mask is None or box != prompts.mask.box):
                shapes = self._shapes_layer(image)
                top, left, bottom, right = (edge - 0.5 for edge in box.as_tuple())
                corners = np.array([[top, left], [top, right], [bottom, right], [bottom, left]])
                shapes.add_rectangles(_positions(shapes, image, plane, corners))
                shapes.selected_data = set()
            self._set_defaults(1)
            self._viewer.layers.selection.active = points

    def follow(self, image: Image) -> None:
        """Let the layers lie where the image does, in the units of the world; prompts stay on their pixels."""
        with self._quiet():
            for layer in self.layers:
                own_layers.place_on(layer, image, self._viewer.dims.units)

    def forget(self, layer: Any) -> bool:
        """Forget a layer that was deleted; say whether it was one of the two."""
        self.layer_removed.emit(layer)
        if layer is self.points:
            self.points = self._gestures = None
        elif layer is self.shapes:
            self.shapes = None
        else:
            return False
        return True

    def close(self) -> None:
        """Stop following the viewer."""
        self._is_quiet = True
        self._viewer.layers.selection.events.active.disconnect(self._on_tool)

    def _flip_selected(self, layer: Points | Shapes) -> None:
        signs, chosen, sign = signs_of(layer).copy(), sorted(layer.selected_data), self.sign
        signs[chosen] = 1 - signs[chosen]
        if isinstance(layer, Points):
            layer.features = layer.features.assign(**{LABEL_FEATURE: signs})
            layer.feature_defaults = {LABEL_FEATURE: sign, OBJECT_FEATURE: self.number}
            return
        with self._quiet():
            layer.features = layer.features.assign(**{LABEL_FEATURE: signs})
            layer.edge_color = [own_layers.SHAPE_COLORS[int(sign)] for sign in signs]
            self._keep_number(layer)
        self.prompted.emit()

    def _keep_number(self, layer: Points | Shapes) -> None:
        """Let the next prompt belong to the current draft: with other features napari takes over their last row."""
        defaults = layer.feature_defaults
        if int(np.asarray(defaults[OBJECT_FEATURE])[0]) != self.number:
            layer.feature_defaults = defaults.assign(**{OBJECT_FEATURE: self.number})

    def _put_shapes_back(self, layer: Shapes, shapes: tuple[DrawnShape, ...]) -> None:
        layer.selected_data = set(range(len(layer.data)))
        layer.remove_selected()
        if shapes:
            layer.add(
                [shape.vertices for shape in shapes],
                shape_type=[shape.kind for shape in shapes],
                edge_color=[own_layers.SHAPE_COLORS[shape.sign] for shape in shapes],
            )
            signs, numbers = [shape.sign for shape in shapes], [shape.number for shape in shapes]
            layer.features = {LABEL_FEATURE: np.array(signs), OBJECT_FEATURE: np.array(numbers)}
            layer.selected_data = set()

    def _set_defaults(self, sign: int) -> None:
        """Give the next point and the next shape a sign and the number of the draft."""
        for layer in self.layers:
            layer.feature_defaults = {LABEL_FEATURE: sign, OBJECT_FEATURE: self.number}
        if self.shapes is not None:
            self.shapes.selected_data = set()  # Or it would be colored, too.
            self.shapes.current_edge_color = own_layers.SHAPE_COLORS[sign]

    def _points_layer(self, image: Image) -> Points:
        if self.points is None:
            self.points = points = own_layers.make_points(image, self._viewer.dims.units)
            points.events.features.connect(self._on_features)
            points.events.feature_defaults.connect(self._on_defaults)
            self._gestures = Gestures(points)
            self._set_defaults(1)
            self._add(points)
        return self.points

    def _shapes_layer(self, image: Image) -> Shapes:
        if self.shapes is None:
            self.shapes = own_layers.make_shapes(image, self._viewer.dims.units)
            self._set_defaults(self.sign)
            self._add(self.shapes)
        return self.shapes

    def _add(self, layer: Points | Shapes) -> None:
        layer.events.data.connect(self._on_data)
        layer.events.mode.connect(self._on_tool)
        self.layer_added.emit(layer)
        self._viewer.add_layer(layer)

    def _on_data(self, event: Any = None) -> None:
        action = str(getattr(event, "action", "changed"))
        is_gesture = self._gestures is not None and self._gestures.is_pending
        if not self._is_quiet and not action.endswith("ing") and not is_gesture:
            self.prompted.emit()

    def _on_features(self, event: Any = None) -> None:
        if self._is_quiet:
            return
        with self._quiet():
            click = self._gestures.finish() if self._gestures else None
            for layer in self.layers:
                self._keep_number(layer)
        if click is not None and click.kind == "pick":
            self.picked.emit(click.position)
        else:
            self.prompted.emit()
        self.changed.emit()

    def _on_defaults(self, event: Any = None) -> None:
        """Follow napari, which gives the next point the features of one that is selected."""
        number = int(np.asarray(event.source.feature_defaults[OBJECT_FEATURE])[0])
        if number != self.number and not self._is_quiet:
            self.selected.emit(number)
        self.changed.emit()

    def _on_tool(self, event: Any = None) -> None:
        self.changed.emit()

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        before, self._is_quiet = self._is_quiet, True
        try:
            yield
        finally:
            self._is_quiet = before


def _positions(layer: Points | Shapes, image: Image, plane: Plane, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places (row, col) in a plane of an image as a layer counts, shape (n, image.ndim)."""
    places = np.tile(np.array(plane.index, float), (len(at), 1))
    places[:, list(plane.axes)] = at
    return world.moved(image, layer, places)
