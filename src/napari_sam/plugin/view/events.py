"""ViewEvents: one signal for every event after which the image is shown differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.components import Dims
    from napari.layers import Image

Follow = Callable[..., None]


class ViewEvents:
    """Connects the events of a viewer's dims and of its image to callbacks.

    Parameters
    ----------
    dims
        The viewer's dims.
    on_plane
        Called when another plane, or the same one turned, is shown.
    on_thickness
        Called when more or fewer planes are shown as one.
    on_place
        Called when the transform of the image or the units of the world change.
    on_rendering
        Called when the image's pixels are shown differently.
    """

    def __init__(
        self, dims: Dims, on_plane: Follow, on_thickness: Follow, on_place: Follow, on_rendering: Follow
    ) -> None:
        self._on_place, self._on_rendering = on_place, on_rendering
        events = dims.events
        self._of_dims: list[tuple[Any, Follow]] = [
            *((event, on_plane) for event in (events.current_step, events.order, events.ndisplay)),
            *((event, on_thickness) for event in (events.margin_left, events.margin_right)),
            (events.units, on_place),
        ]
        self._of_image: list[tuple[Any, Follow]] = []
        for event, follow in self._of_dims:
            event.connect(follow)

    def follow(self, image: Image | None) -> None:
        """React to the events of this image, and no longer to those of the last one."""
        for event, follow in self._of_image:
            event.disconnect(follow)
        self._of_image = [] if image is None else self._events_of(image)
        for event, follow in self._of_image:
            event.connect(follow)

    def close(self) -> None:
        """Disconnect from all events."""
        self.follow(None)
        for event, follow in self._of_dims:
            event.disconnect(follow)

    def _events_of(self, image: Image) -> list[tuple[Any, Follow]]:
        events = image.events
        place = [events.scale, events.translate, events.rotate, events.shear, events.affine, events.units]
        rendering = [events.data, events.contrast_limits, events.gamma, events.colormap, events.projection_mode]
        # The transform first: prompts are sent again after the rendering changes, and must lie where the image does.
        return [
            *((event, self._on_place) for event in place),
            *((event, self._on_rendering) for event in (*rendering, events.scale, events.units)),
        ]
