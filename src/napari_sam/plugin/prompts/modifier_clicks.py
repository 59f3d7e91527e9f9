"""Gestures: clicks in the points layer that mean the other sign, or pick an existing object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam.plugin.layers.adapters import LABEL_FEATURE

if TYPE_CHECKING:
    from napari.layers import Points

# As in napari: a press that moves farther is a drag, which pans or zooms and adds nothing.
DRAGGED = 5.0
RIGHT_BUTTON = 2


@dataclass(frozen=True, slots=True)
class Click:
    """A click that napari is about to turn into a point.

    Parameters
    ----------
    kind
        "flip" for a point of the other sign, "pick" to correct the object under it.
    sign
        Sign of a point that is added without the gesture.
    position
        World coordinates.
    """

    kind: Literal["flip", "pick"]
    sign: int
    position: tuple[float, ...]


class Gestures:
    """Watches the clicks in a points layer while its add tool is active.

    napari's own tool adds a point for any button and modifier, and reports it by several events of which the last is
    `features`: `finish` is called then.

    Parameters
    ----------
    points
        The layer.
    """

    def __init__(self, points: Points) -> None:
        self._points = points
        self._click: Click | None = None
        points.mouse_drag_callbacks.insert(0, self._on_press)

    @property
    def is_pending(self) -> bool:
        """Whether a point is being added that `finish` will change."""
        return self._click is not None

    def finish(self) -> Click | None:
        """Turn the point that was added last into what the click meant; return the click, if it was a gesture."""
        click, self._click = self._click, None
        points = self._points
        if click is None or not len(points.data):
            return None
        last = len(points.data) - 1
        if click.kind == "flip":
            signs = np.asarray(points.features[LABEL_FEATURE], int).copy()
            signs[last] = 1 - click.sign
            points.features = points.features.assign(**{LABEL_FEATURE: signs})
            points.selected_data = set()
        else:
            points.selected_data = {last}
            points.remove_selected()
        points.feature_defaults = points.feature_defaults.assign(**{LABEL_FEATURE: click.sign})
        return click

    def _on_press(self, points: Points, event: Any) -> Iterator[None]:
        self._click = None
        picks = "Control" in event.modifiers
        flips = "Shift" in event.modifiers or event.button == RIGHT_BUTTON
        if str(points.mode) != "add" or not (picks or flips):
            return
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            yield
        if np.linalg.norm(np.asarray(event.pos) - start) < DRAGGED:
            sign = int(np.asarray(points.feature_defaults[LABEL_FEATURE])[0])
            self._click = Click("pick" if picks else "flip", sign, tuple(event.position))
