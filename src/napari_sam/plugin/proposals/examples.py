"""Examples: shapes that the user draws around objects to say how large those are that count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.plugin.inference.region import draw_in
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers.proposals import EXAMPLES_NAME

if TYPE_CHECKING:
    from napari.layers import Shapes

    from napari_sam.plugin.session import Session


class Examples:
    """Lets the user draw examples, in a layer of their own.

    Parameters
    ----------
    session
        The viewer and the image.

    Attributes
    ----------
    drawn
        Emitted when the shapes changed.
    """

    drawn = Signal()

    def __init__(self, session: Session) -> None:
        self._session = session
        self._layer: Shapes | None = None

    @property
    def areas(self) -> list[int]:
        """The areas of the shapes in the plane in view, in pixels."""
        image, plane = self._session.image, self._session.plane
        if image is None or plane is None or self._layer not in self._session.viewer.layers or self._layer is None:
            return []
        return [mask.area for mask in adapters.drawn_masks(self._layer, image, plane)]

    def draw(self) -> None:
        """Let the user draw ellipses."""
        layer = draw_in(self._session, EXAMPLES_NAME, "add_ellipse")
        if layer is not None and layer is not self._layer:
            self._layer = layer
            layer.events.data.connect(self._on_drawn)
        self._session.set_status("Drag an ellipse over the smallest object that counts, then over the largest.")

    def remove(self) -> None:
        """Take the layer away."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._session.viewer.layers:
            layer.events.data.disconnect(self._on_drawn)
            self._session.viewer.layers.remove(layer)

    def _on_drawn(self, event: Any = None) -> None:
        if not str(getattr(event, "action", "changed")).endswith("ing"):
            self.drawn.emit()
