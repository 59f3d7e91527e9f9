"""What is exported of a Labels layer: its pixels, and where it lies in the world, in the body and on a map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.transforms import Affine
from numpy.typing import NDArray

from napari_sam.exports.opening import open_label_file
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource, Place
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.axes.letters import letters_of
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.storage.multiscales import DEFAULT_AXES
from napari_sam.plugin.layers.factory import PYRAMID

if TYPE_CHECKING:
    from napari_sam.images.volume import Volume
    from napari_sam.journal.objects import LabelledObject

# From left, posterior and superior, as ITK counts, to right, anterior and superior.
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def source_of_layer(
    data: Any,
    attributes: Mapping[str, Any],
    *,
    image: Volume | None = None,
    channel_names: Sequence[str] = (),
    objects: Iterable[LabelledObject] = (),
    chosen: Iterable[int] | None = None,
) -> ExportSource:
    """Return what is exported of a Labels layer.

    Parameters
    ----------
    data, attributes
        Of the layer, as napari gives them to a writer.
    image, channel_names
        The image whose intensities are measured, and the names of its channels.
    objects, chosen
        As in `ExportSource`.
    """
    metadata: Mapping[str, Any] = attributes.get("metadata") or {}
    pyramid = metadata.get(PYRAMID)
    array = pyramid if isinstance(pyramid, LabelPyramid) else _finest(data, attributes)
    return ExportSource(
        array,
        place_of_layer(array, attributes),
        image=image,
        channel_names=channel_names,
        objects=objects,
        chosen=chosen,
        name=str(attributes.get("name") or "image"),
    )


def place_of_layer(array: Any, attributes: Mapping[str, Any]) -> Place:
    """Return where a layer lies.

    Parameters
    ----------
    array
        Its pixels at the finest level.
    attributes
        As napari gives them to a writer.
    """
    metadata: Mapping[str, Any] = attributes.get("metadata") or {}
    shape = tuple(int(length) for length in array.shape)
    matrix = _matrix_of(attributes, len(shape))
    orientation, axes = _orientation(metadata, matrix, shape)
    letters = axes or letters_of(attributes.get("axis_labels") or (), len(shape)) or DEFAULT_AXES.get(len(shape))
    on_map = _georeference(array, metadata)
    if on_map is not None and on_map.transform is not None and letters is not None:
        # The world of such a layer is the map, which says all of it.
        return Place(Calibration(letters) if set(letters) <= set("tczyx") else None, on_map, orientation)
    # Notes of our reader for DICOM.
    dicom = tuple(Path(file) for file in metadata.get("dicom_files") or ())
    return Place(_calibration(letters, matrix, attributes), on_map, orientation, dicom)


def _finest(data: Any, attributes: Mapping[str, Any]) -> Any:
    is_pyramid = attributes.get("multiscale") or isinstance(data, (list, tuple))
    return data[0] if is_pyramid else data


def _matrix_of(attributes: Mapping[str, Any], ndim: int) -> NDArray[np.float64]:
    """Return the matrix that takes pixels to the world, shape (ndim + 1, ndim + 1)."""
    known = {name: attributes[name] for name in ("scale", "translate", "rotate", "shear") if name in attributes}
    own = np.asarray(Affine(**known, ndim=ndim).affine_matrix, float)
    outer = attributes.get("affine")
    outer = np.eye(ndim + 1) if outer is None else np.asarray(getattr(outer, "affine_matrix", outer), float)
    found: NDArray[np.float64] = outer @ own
    return found


def _calibration(letters: str | None, matrix: NDArray[np.float64], attributes: Mapping[str, Any]) -> Calibration | None:
    if letters is None or not set(letters) <= set("tczyx"):
        return None
    linear, origin = matrix[:-1, :-1], matrix[:-1, -1]
    steps = np.diag(linear)
    if np.abs(linear - np.diag(steps)).max() > 1e-9 * np.abs(linear).max():
        steps = np.linalg.norm(linear, axis=0)
    units = [str(unit) for unit in attributes.get("units") or ["pixel"] * len(letters)]
    of_space = {unit for letter, unit in zip(letters, units, strict=True) if letter in "zyx"} - {"pixel"}
    of_time = {unit for letter, unit in zip(letters, units, strict=True) if letter == "t"} - {"pixel"}
    if not of_space and (steps == 1).all() and not origin.any():
        return Calibration(letters)
    return Calibration(
        letters,
        tuple(map(float, steps)),
        tuple(map(float, origin)),
        of_space.pop() if len(of_space) == 1 else None,
        of_time.pop() if of_time else None,
    )


def _georeference(array: Any, metadata: Mapping[str, Any]) -> Georeference | None:
    """Return the position on a map that the labels on disk, or the reader of the image, have noted."""
    noted = open_label_file(array.path)[1].georeference if isinstance(array, LabelPyramid) else None
    transform = metadata.get("transform")
    if noted is not None or not isinstance(transform, tuple) or len(transform) != 6:
        return noted
    crs = metadata.get("crs")
    return Georeference(crs if isinstance(crs, str) else None, transform)


def _orientation(
    metadata: Mapping[str, Any], matrix: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[Orientation | None, str | None]:
    """Return the position in the body that a reader has left in the metadata, and the axes where it tells them."""
    header: Any = metadata.get("header")
    affine: Any = metadata.get("affine")
    if hasattr(header, "get_sform") and hasattr(header, "get_data_shape"):
        lengths = tuple(int(length) for length in header.get_data_shape())
        if affine is None and shape == lengths[: len(shape)] and len(shape) == 3:
            # A reader that leaves the axes in the order of the file, with the affine matrix of the layer.
            return Orientation(matrix, header), "xyz"
        ras = header.get_best_affine() if affine is None else np.asarray(affine, float)
        # A reader may have turned the volume, and tells its affine matrix; other lengths are those of another volume.
        is_of_it = sorted(shape) == sorted(_backwards(lengths)) if affine is not None else shape == _backwards(lengths)
        return (Orientation(ras, header), None) if is_of_it else (None, None)
    if metadata.get("coordinate_system") == "RAS" and np.shape(affine) == (4, 4):
        return Orientation(np.asarray(affine, float)), None
    if len(shape) == 3 and {"spacing", "origin", "direction"} <= set(metadata):
        # As ITK reads volumes: planes, rows, columns, and the world in the same order.
        order = [2, 1, 0, 3]
        codes = tuple(_code(header, name) for name in ("qform_code", "sform_code"))
        return Orientation(FLIP @ matrix[np.ix_(order, order)], codes=codes if any(codes) else None), None  # type: ignore[arg-type]
    if len(shape) == 3 and np.abs(matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))).max() > 1e-9:
        order = [2, 1, 0, 3]
        return Orientation(matrix[np.ix_(order, order)], is_anatomical=False), None
    return None, None


def _backwards(lengths: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths of the axes of a file backwards, without axes of one entry after the third."""
    kept = [length for at, length in enumerate(lengths) if at < 3 or length > 1]
    return tuple(reversed(kept))


def _code(header: Any, name: str) -> int:
    try:
        return int(header[name])
    except (TypeError, ValueError, LookupError):
        return 0


def journal_path(attributes: Mapping[str, Any]) -> Path | None:
    """Return the folder of the journal that a layer notes, or None."""
    from napari_sam.plugin.objects.journals import JOURNAL

    found = (attributes.get("metadata") or {}).get(JOURNAL)
    return None if found is None else Path(str(found))
