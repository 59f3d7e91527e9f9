"""NIfTI: volumes with the affine matrix and the header of the image they are of."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.orientation import Orientation
from napari_sam.exports.source import ExportSource, Place
from napari_sam.exports.volumes.turned import turn_between, turned
from napari_sam.files.libraries import library
from napari_sam.images.axes.calibration import Calibration

# The axes of a file, the one whose pixels follow one another first.
FILE_AXES = "xyztc"
# The first format counts pixels along an axis by 16 bits.
MAX_LENGTH = 2**15 - 1
SCANNER, ALIGNED = 1, 2
COMPRESSION_LEVEL = 4


class Nifti:
    """NIfTI, compressed or not; see `ExportFormat`."""

    name = "NIfTI"
    suffixes = (".nii.gz", ".nii")
    holds = "pixels of all objects"
    loses = "classes and scores"
    place = "affine matrix, sform, qform and header of a NIfTI image; of other images pixel sizes, origin and units"
    library = ("nibabel", "nibabel")

    def refusal(self, source: ExportSource) -> str | None:
        return refusal_of_axes(source, "NIfTI")

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        dtype = label_dtype(source.extents.highest)
        source = _on_the_grid_of_its_file(source)
        header = _header(source, dtype)
        with ExitStack() as stack:
            file = stack.enter_context(path.open("wb"))
            stream: IO[bytes] = file
            if path.suffix.lower() == ".gz":
                compressed = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, file, mtime=0)
                stream = cast(IO[bytes], stack.enter_context(compressed))
            header.write_to(stream)
            for plane in planes_in_file_order(source):
                stream.write(plane.astype(dtype.newbyteorder(header.endianness)).tobytes())


def _on_the_grid_of_its_file(source: ExportSource) -> ExportSource:
    """Return labels with the axes of the NIfTI file of their image, where a reader has turned that."""
    orientation = source.place.orientation
    if orientation is None or orientation.header is None or source.axes != "zyx":
        return source
    lengths = tuple(int(length) for length in orientation.header.get_data_shape()[:3])
    file = np.asarray(orientation.header.get_best_affine(), float)
    turn = turn_between(orientation.ras, source.shape[::-1], file, lengths)
    if turn is None or turn.is_none:
        return source
    # Only its pixels are written, with the header of the image.
    place = Place(Calibration("zyx"), orientation=replace(orientation, ras=file))
    return ExportSource(turned(source, turn), place)


def refusal_of_axes(source: ExportSource, form: str) -> str | None:
    """Return why labels are no volume, or None."""
    if set(source.axes) <= set(FILE_AXES):
        return None
    return f"{form} has the axes x, y, z and time, and the labels {source.axes}: export .ome.zarr."


def label_dtype(highest: int) -> np.dtype[Any]:
    """Return the smallest type of labels that medical programs read.

    Raises
    ------
    LabelsError
        They need more than 32 bits.
    """
    for dtype in (np.uint8, np.uint16, np.int32):
        if highest <= np.iinfo(dtype).max:
            return np.dtype(dtype)
    if highest > np.iinfo(np.uint32).max:
        raise LabelsError(f"The label {highest} has more than 32 bits: number the objects again.")
    return np.dtype(np.uint32)


def file_shape(source: ExportSource) -> tuple[int, ...]:
    """Return the lengths of the axes of a file: x, y and z, and time and channels where there are any."""
    lengths = dict(zip(source.axes, source.shape, strict=True))
    count = max([3, *(FILE_AXES.index(letter) + 1 for letter in lengths)])
    return tuple(lengths.get(letter, 1) for letter in FILE_AXES[:count])


def planes_in_file_order(source: ExportSource) -> Any:
    """Yield the labels of each plane, shape (y, x), in the order of the file."""
    lengths = dict(zip(source.axes, source.shape, strict=True))
    leading = [letter for letter in reversed(FILE_AXES) if letter in lengths and letter not in "yx"]
    for position in product(*(range(lengths[letter]) for letter in leading)):
        at = dict(zip(leading, position, strict=True))
        region = tuple(
            slice(at[letter], at[letter] + 1) if letter in at else slice(0, lengths[letter]) for letter in source.axes
        )
        order = [source.axes.index(letter) for letter in (*leading, *(each for each in "yx" if each in lengths))]
        yield source.read(region).transpose(order).reshape(lengths.get("y", 1), lengths.get("x", 1))


def _header(source: ExportSource, dtype: np.dtype[Any]) -> Any:
    nibabel = library("nibabel", "nibabel", "NIfTI")
    shape = file_shape(source)
    kind = nibabel.Nifti1Header if max(shape) <= MAX_LENGTH else nibabel.Nifti2Header
    orientation = source.place.orientation
    is_of_file = orientation is not None and orientation.is_of_header
    if orientation is not None and orientation.header is not None:
        header = kind.from_header(orientation.header)
        header.extensions.clear()  # Of the image, such as its history.
        for name in ("cal_min", "cal_max"):  # The contrast of the image.
            header[name] = 0
    else:
        header = kind()
        header.set_xyzt_units("mm", "sec")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_slope_inter(1, 0)
    header["vox_offset"] = 0  # nibabel finds it.
    if not is_of_file:
        _set_place(header, orientation or Orientation.of_calibration(source.place.calibration), source)
    return header


def _set_place(header: Any, orientation: Orientation, source: ExportSource) -> None:
    code = SCANNER if orientation.is_anatomical else ALIGNED
    qform_code, sform_code = orientation.codes or (code, code)
    header.set_sform(orientation.ras, sform_code)
    sizes = np.linalg.norm(orientation.ras[:3, :3], axis=0)
    if _is_orthogonal(orientation.ras[:3, :3] / sizes):
        header.set_qform(orientation.ras, qform_code)
    else:  # Quaternions know no shear.
        header.set_qform(None, 0)
    steps = [float(size) for size in sizes]
    if "t" in source.axes and source.scale is not None:
        steps.append(abs(source.scale[source.axes.index("t")]))
    zooms = [*header.get_zooms()]
    zooms[: len(steps)] = steps
    header.set_zooms(zooms)


def _is_orthogonal(directions: NDArray[np.float64]) -> bool:
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-6))
