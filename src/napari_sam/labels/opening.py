"""Opening: the label image of an image on disk, made where there is none."""

from __future__ import annotations

from pathlib import Path

from napari_sam.errors import LabelsError
from napari_sam.files.temporary import remove_leftovers
from napari_sam.images.axes.attributes import map_attributes
from napari_sam.images.volume import Volume
from napari_sam.labels.pyramid import LabelPyramid


def open_labels(path: Path, volume: Volume, name: str | None = None) -> LabelPyramid:
    """Open a label image on disk, or create one where there is none.

    Parameters
    ----------
    path
        A folder whose name ends in .zarr.
    volume
        The image. New labels get its shape, axes, spacing, origin, units and place on the map, where it has them.
    name
        The name of new labels in their metadata; that of the folder when left out.

    Raises
    ------
    LabelsError
        The path is no zarr, or holds no labels of the volume's shape.
    """
    if path.suffix.lower() != ".zarr":
        raise LabelsError(f"Labels on disk are a zarr folder: let the name {path.name} end in .ome.zarr.")
    if not path.exists():
        remove_leftovers(path.parent)  # A killed run may have been about to put it there.
    if not path.exists():
        try:
            return _create_labels(path, volume, name)
        except LabelsError:
            if not path.exists():
                raise  # Else another program made it at the same moment.
    pyramid = LabelPyramid.open(path)
    if tuple(pyramid.shape) != volume.shape:
        raise LabelsError(
            f"{path} has shape {tuple(pyramid.shape)} and the image {volume.shape}: choose labels of its shape."
        )
    return pyramid


def _create_labels(path: Path, volume: Volume, name: str | None) -> LabelPyramid:
    return LabelPyramid.create(
        path,
        volume.shape,
        axes=volume.axes if volume.axes and set(volume.axes) <= set("tczyx") else None,
        spacing=volume.scale,
        translation=volume.origin,
        unit=volume.unit,
        time_unit=volume.time_unit,
        name=name,
        attributes=None if volume.georeference is None else map_attributes(volume.georeference),
    )
