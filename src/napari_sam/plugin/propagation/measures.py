"""Measures of an object in a stack: number of planes, pixels, and its volume in the units of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.plugin.layers.voxel_size import VoxelSize

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.plugin.propagation.object_planes import ObjectPlanes
    from napari_sam.plugin.propagation.plane_choice import FollowedAxis


def measures_text(planes: ObjectPlanes, image: Image, axis: FollowedAxis) -> str:
    """Return the number of planes, of pixels, and the volume of an object, in one line."""
    count = len(planes.states)
    plane, pixels = ("frame", "pixels") if axis.is_time else ("plane", "voxels")
    text = f"Label {planes.label}: {count} {plane}{'s' if count != 1 else ''}, {planes.area} {pixels}"
    voxel = None if axis.is_time else VoxelSize.of_layer(image)
    return text if voxel is None else f"{text}, {voxel.text(planes.area)}"
