"""LayerListFilter: keep the plugin's helper layers out of napari's layer list, so that the user's own stay in view."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from napari_sam.plugin.view.napari_private import layer_list_of

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.viewer import Viewer


class LayerListFilter:
    """Hides rows of the layer list. The layers stay what they are: in the viewer, drawn, and active if they were.

    Parameters
    ----------
    viewer
        The viewer.
    is_helper
        Says whether a layer is to be hidden.

    Attributes
    ----------
    is_on
        Whether helper layers are hidden.
    """

    def __init__(self, viewer: Viewer, is_helper: Callable[[Layer], bool]) -> None:
        self.is_on = True
        self._viewer, self._is_helper = viewer, is_helper
        self._events = [getattr(viewer.layers.events, name) for name in ("inserted", "removed", "reordered", "moved")]
        for event in self._events:
            event.connect(self._hide, position="last")  # After napari's own, which make the rows.
        self._hide()

    def set_on(self, is_on: bool) -> None:
        """Hide the helper layers, or show them."""
        self.is_on = is_on
        self._hide()

    def close(self) -> None:
        """Show all layers again."""
        for event in self._events:
            event.disconnect(self._hide)
        self.set_on(False)

    def _hide(self, _: Any = None) -> None:
        layers = list(reversed(self._viewer.layers))
        with contextlib.suppress(RuntimeError):  # Qt has destroyed the list of a window that is being closed.
            view = layer_list_of(self._viewer)
            if view is None or view.model().rowCount() != len(layers):
                return  # In the middle of a change, whose last event is still to come.
            for row, layer in enumerate(layers):
                view.setRowHidden(row, self.is_on and self._is_helper(layer))
