"""VolumeView: show the labels in napari's 3-D view, and the planes again as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from psygnal import Signal

from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.adapters import shape_of
from napari_sam.plugin.view import world

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.propagation.object_planes import ObjectPlanes
    from napari_sam.plugin.session import Session

# From above and from the side, so that the planes are seen one over the other.
ANGLES = (-20.0, 30.0, 60.0)
# The object takes this share of the view, unless that magnifies it more than so many times.
SHARE, MOST_ZOOM = 0.7, 20.0


class VolumeView:
    """Switches a viewer between planes and the labels in 3-D.

    Parameters
    ----------
    session
        The viewer and the image.
    objects
        The output.

    Attributes
    ----------
    changed
        Emitted when the viewer shows planes instead of a volume, or the other way round.
    """

    changed = Signal()

    def __init__(self, session: Session, objects: Objects) -> None:
        self._session, self._objects = session, objects
        self._hidden: list[Layer] = []
        self._before: tuple[Any, ...] | None = None
        session.viewer.dims.events.ndisplay.connect(self._on_ndisplay)

    @property
    def is_on(self) -> bool:
        """Whether the viewer shows three dimensions."""
        return int(self._session.viewer.dims.ndisplay) == 3

    def toggle(self, axis: int, planes: ObjectPlanes | None = None) -> None:
        """Show the labels in 3-D, or the planes again.

        Parameters
        ----------
        axis
            The axis of the image that is the depth.
        planes
            The object that is in the middle of the view; all of the volume is without one.
        """
        if self.is_on:
            self.leave()
            return
        self._enter(axis)
        if planes is not None and self._before is not None:
            self._look_at(planes)

    def leave(self) -> None:
        """Show planes again, as they were."""
        if self.is_on:
            self._session.viewer.dims.ndisplay = 2

    def close(self) -> None:
        """Show planes again, and stop following the viewer."""
        if self._before is not None:
            self.leave()
        self._session.viewer.dims.events.ndisplay.disconnect(self._on_ndisplay)

    def _enter(self, axis: int) -> None:
        viewer, image, journal = self._session.viewer, self._session.image, self._objects.journal
        if image is None or journal is None:
            return
        camera, dims = viewer.scene.camera, viewer.dims
        self._before = tuple(camera.center), float(camera.zoom), tuple(camera.angles), tuple(dims.order)
        depth = axis + dims.ndim - image.ndim
        shown = (depth, *(at for at in dims.displayed if at != depth))[-3:]
        # An image would cover the objects, and its volume is slow to draw; previews are of one plane.
        self._hidden = [
            layer
            for layer in viewer.layers
            if layer.visible and layer is not journal.layer and (own_layers.is_helper(layer) or layer in self._images())
        ]
        for layer in self._hidden:
            layer.visible = False
        journal.layer.visible = True
        dims.order = (*(at for at in range(dims.ndim) if at not in shown), *shown)
        dims.ndisplay = 3
        viewer.reset_view()
        camera.angles = ANGLES

    def _look_at(self, planes: ObjectPlanes) -> None:
        """Put an object into the middle of the view, and magnify it."""
        viewer, image, corners = self._session.viewer, self._session.image, planes.corners
        if image is None or corners is None:
            return
        low, high = (world.to_world(viewer, image, corner) for corner in corners)
        first, last = (world.to_world(viewer, image, at) for at in (np.zeros(image.ndim), shape_of(image)))
        shown = [at - (viewer.dims.ndim - image.ndim) for at in viewer.dims.displayed]
        share = float(np.linalg.norm((high - low)[shown]) / np.linalg.norm((last - first)[shown]))
        camera = viewer.scene.camera
        camera.center = tuple(((low + high) / 2)[shown])
        camera.zoom *= MOST_ZOOM if share <= SHARE / MOST_ZOOM else SHARE / share

    def _images(self) -> list[Layer]:
        return [layer for layer in self._session.viewer.layers if isinstance(layer, Image)]

    def _on_ndisplay(self, event: Any = None) -> None:
        """Restore the planes, whoever switched back."""
        if not self.is_on and self._before is not None:
            self._restore(*self._before)
        self.changed.emit()

    def _restore(self, center: Any, zoom: float, angles: Any, order: Any) -> None:
        self._before = None
        viewer = self._session.viewer
        viewer.dims.order = order
        camera = viewer.scene.camera
        camera.center, camera.zoom, camera.angles = center, zoom, angles
        hidden, self._hidden = self._hidden, []
        for layer in hidden:
            layer.visible = True
