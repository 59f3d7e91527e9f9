"""Labels as a caller names them: an array, a tensor, or the path of a label image that is opened or made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.arguments import index_of, path_argument, shown
from napari_sam.errors import LabelsError
from napari_sam.files.temporary import remove_leftovers
from napari_sam.images.axes.attributes import map_attributes
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import WritableArray

if TYPE_CHECKING:
    from napari_sam.images.volume import Volume


def checked_labels(labels: Any) -> WritableArray | Path | None:
    """Return labels as an array that can be written to, or the path of one.

    A torch tensor in the computer's memory becomes a numpy array that shares its memory.

    Raises
    ------
    LabelsError
        They are no array, have masked values, or the path cannot be one.
    """
    if labels is None:
        return None
    if isinstance(labels, (str, Path)):
        return path_argument(labels, "The path of the labels", LabelsError)
    if hasattr(labels, "detach") and hasattr(labels, "cpu"):
        if labels.device.type != "cpu":
            raise LabelsError(f"The labels are a tensor on {labels.device}: pass labels.cpu().")
        try:
            labels = labels.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise LabelsError(
                f"The labels are a tensor that numpy cannot share ({shown(labels.dtype)}): pass a numpy array."
            ) from error
    if isinstance(labels, np.ma.MaskedArray):
        raise LabelsError("The labels are a masked array, whose mask cannot be kept: pass labels.filled(0).")
    is_array = all(hasattr(labels, name) for name in ("shape", "dtype", "__getitem__", "__setitem__"))
    if not is_array or hasattr(labels, "iloc"):
        raise LabelsError(f"Labels must be a numpy or zarr array and are a {type(labels).__name__}: convert them.")
    array: WritableArray = labels
    return array


def label_number(value: Any) -> int:
    """Return a label as a whole number.

    Raises
    ------
    LabelsError
        It is no whole number, or does not fit 64 bits.
    """
    label = index_of(value)
    if label is None or abs(label) > np.iinfo(np.int64).max:
        raise LabelsError(f"A label must be a whole number from 1 on and is {shown(value)}: correct it.")
    return label


def check_same_shape(labels: WritableArray, shape: tuple[int, ...]) -> None:
    """Refuse labels of another shape than the image's.

    Raises
    ------
    LabelsError
        The shapes differ.
    """
    if tuple(labels.shape) != shape:
        raise LabelsError(f"The labels have shape {tuple(labels.shape)} and the image {shape}: make them equal.")


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
