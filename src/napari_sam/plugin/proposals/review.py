"""ReviewCamera: show one proposal after the other, large enough to judge it, and the earlier view afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.plugin.layers import adapters

if TYPE_CHECKING:
    from napari_sam.core.geometry import Box, Plane
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session

# A proposal whose longer side takes a smaller share of the view is too small to be judged; it gets the second one.
LEAST_SHARE, GOOD_SHARE = 0.08, 0.15


class ReviewCamera:
    """Moves the camera of a viewer to proposals and back.

    Parameters
    ----------
    session
        The viewer and the image.
    objects
        Shows a place of the image.
    """

    def __init__(self, session: Session, objects: Objects) -> None:
        self._session, self._objects = session, objects
        self._before: tuple[tuple[float, ...], float] | None = None

    def look_at(self, plane: Plane, box: Box) -> None:
        """Show a box of a plane, magnified where it would be too small."""
        viewer, image = self._session.viewer, self._session.image
        if image is None:
            return
        camera = viewer.scene.camera
        if self._before is None:
            self._before = tuple(camera.center), float(camera.zoom)
        self._objects.look_at(plane, box)
        view = adapters.view_of(viewer, image, plane)
        share = max(box.pixel_shape) / max(min(view.pixel_shape), 1)
        if share < LEAST_SHARE:
            camera.zoom *= GOOD_SHARE / share

    def restore(self) -> None:
        """Show what was in view before the first proposal."""
        if self._before is not None:
            camera = self._session.viewer.scene.camera
            camera.center, camera.zoom = self._before
        self._before = None

    def forget(self) -> None:
        """Stay where the view is now."""
        self._before = None
