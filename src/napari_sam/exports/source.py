"""ExportSource: labels with what is known of their objects and their place, as the writers of all formats read them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exports.extents import TILE, Extents, find_extents
from napari_sam.exports.orientation import Orientation
from napari_sam.images.axes.calibration import Calibration
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.dicom.series import is_dicom_image
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.journal.entries import LabelClass
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.labels.regions import Region, WritableArray, check_whole, loaded
from napari_sam.labels.storage.multiscales import DEFAULT_AXES
from napari_sam.labels.written import written_blocks

if TYPE_CHECKING:
    from napari_sam.images.volume import Volume

# Formats that are written as a whole take labels of at most this many pixels: a gigabyte of 32-bit labels.
MAX_PIXELS = 2**28


@dataclass(frozen=True, slots=True)
class Place:
    """Where labels lie in the world.

    Parameters
    ----------
    calibration
        Axes, pixel sizes and units, or None.
    georeference
        Position on the earth, or None.
    orientation
        Position in the body or on the stage, or None.
    dicom
        The files of the DICOM image, or its one file or folder; empty for other images.
    """

    calibration: Calibration | None = None
    georeference: Georeference | None = None
    orientation: Orientation | None = None
    dicom: tuple[Path, ...] = ()

    @classmethod
    def of(cls, volume: Volume, path: Path | None = None) -> Place:
        """Return the place of an image.

        Parameters
        ----------
        volume
            The image.
        path
            Its file, which may have a header that says more.
        """
        dicom = () if path is None or not is_dicom_image(path) else (path,)
        return cls(volume.calibration(), volume.georeference_of(), Orientation.of_image(volume, path), dicom)


class ExportSource:
    """Labels of an image, or of one plane of it, with their objects.

    Parameters
    ----------
    labels
        Whole numbers of the image's shape; 0 is background. Read block by block.
    place
        Where they lie.
    image
        The image, whose intensities are measured; or None.
    objects
        What a journal knows of the objects.
    chosen
        Labels to export; None for all.
    name
        Name of the image's file.
    channel_names
        Names of the channels of the image, for the table; numbers or colors when left out.
    parents
        The object that each daughter comes from by division, through time; what `objects` say when left out.
    """

    def __init__(
        self,
        labels: WritableArray,
        place: Place | None = None,
        *,
        image: Volume | None = None,
        objects: Iterable[LabelledObject] = (),
        chosen: Iterable[int] | None = None,
        name: str = "image",
        channel_names: Sequence[str] = (),
        parents: Mapping[int, int] | None = None,
    ) -> None:
        check_whole(dtype_of(labels))
        self.channel_names = tuple(channel_names)
        self.labels, self.image, self.name = labels, image, name
        self.place = place or Place()
        self.objects: Mapping[int, LabelledObject] = {found.label: found for found in objects}
        known = {label: found.parent for label, found in self.objects.items() if found.parent is not None}
        self.parents: Mapping[int, int] = known if parents is None else dict(parents)
        self._chosen = None if chosen is None else np.unique(np.array(list(chosen), np.int64))

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(int(length) for length in self.labels.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def axes(self) -> str:
        """One letter for each axis, out of "tczyx"; those that arrays of so many axes mostly have where none is named.

        Raises
        ------
        OutputError
            There are more than five axes.
        """
        if self.place.calibration is not None:
            return self.place.calibration.axes
        if self.ndim not in DEFAULT_AXES:
            raise OutputError(f"Labels of {self.ndim} axes cannot be exported: give two to five axes.")
        return DEFAULT_AXES[self.ndim]

    @property
    def plane_axes(self) -> tuple[int, int]:
        """The row and the column axis."""
        if {"y", "x"} <= set(self.axes):
            return self.axes.index("y"), self.axes.index("x")
        return self.ndim - 2, self.ndim - 1

    @property
    def other_axes(self) -> tuple[int, ...]:
        """The axes that are no axes of a plane."""
        return tuple(axis for axis in range(self.ndim) if axis not in self.plane_axes)

    @property
    def scale(self) -> tuple[float, ...] | None:
        """Step along each axis, or None."""
        return None if self.place.calibration is None else self.place.calibration.scale

    @cached_property
    def extents(self) -> Extents:
        """Where the objects lie; the labels are read once for it."""
        return find_extents(((region, self._only_chosen(block)) for region, block in self._blocks()), self.ndim)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint16, or uint32 where the labels need it.

        Raises
        ------
        LabelsError
            They need more.
        """
        if self.extents.highest >= 2**32:
            raise LabelsError(f"The label {self.extents.highest} has more than 32 bits: number the objects again.")
        return np.dtype(np.uint16 if self.extents.highest < 2**16 else np.uint32)

    def read(self, region: Region) -> NDArray[Any]:
        """Return the labels of a region, with 0 in place of objects that are not exported.

        Raises
        ------
        LabelsError
            They cannot be read.
        """
        return self._only_chosen(loaded(self.labels, region))

    def whole(self, form: str) -> NDArray[Any]:
        """Return all labels, uint16 or uint32.

        Parameters
        ----------
        form
            Name of the format, for the message.

        Raises
        ------
        LabelsError
            They do not fit in memory.
        """
        if math.prod(self.shape) > MAX_PIXELS:
            raise LabelsError(
                f"Labels of {' x '.join(map(str, self.shape))} pixels are too large for {form}: export .ome.zarr."
            )
        return self.read(tuple(slice(0, length) for length in self.shape)).astype(self.dtype)

    def blocks(self) -> Iterator[tuple[Region, NDArray[Any]]]:
        """Yield the blocks in which anything can be, with their labels; each fits in memory."""
        for region, block in self._blocks():
            yield region, self._only_chosen(block)

    def planes(self) -> Iterator[PlaneLabels]:
        """Yield the planes that can hold objects, in array order."""
        others, extents = self.other_axes, self.extents
        if not len(extents):
            return
        ranges = [range(extents.starts[:, axis].min(), extents.stops[:, axis].max()) for axis in others]
        for position in product(*ranges):
            inside = np.ones(len(extents), bool)
            for axis, at in zip(others, position, strict=True):
                inside &= (extents.starts[:, axis] <= at) & (at < extents.stops[:, axis])
            if inside.any():
                yield PlaneLabels(self, Plane.of(self.shape, position, self.plane_axes), extents.at(inside))

    def class_of(self, label: int) -> LabelClass | None:
        """Return the class of an object, or None."""
        known = self.objects.get(label)
        return None if known is None else known.label_class

    def part_of(self, label: int, plane: Plane | None = None) -> Part | None:
        """Return what a journal knows of an object in a plane, or in the plane where it was changed last; or None."""
        known = self.objects.get(label)
        if known is None:
            return None
        if plane is None:
            return known.parts[-1]
        return next((part for part in known.parts if part.plane.index == plane.index), None)

    def _blocks(self) -> Iterator[tuple[Region, NDArray[Any]]]:
        return written_blocks(self.labels)

    def _only_chosen(self, block: NDArray[Any]) -> NDArray[Any]:
        if block.dtype == np.uint64 and block.max(initial=0) > np.iinfo(np.int64).max:
            raise LabelsError(f"The label {block.max()} has more than 63 bits: number the objects again.")
        if self._chosen is not None:
            return np.where(np.isin(block, self._chosen) & (block > 0), block, 0)
        return np.maximum(block, 0) if block.dtype.kind == "i" else block


@dataclass(frozen=True, slots=True, eq=False)
class PlaneLabels:
    """The labels of one plane.

    Parameters
    ----------
    source
        All labels.
    plane
        The plane.
    extents
        The objects that can have pixels in it.
    """

    source: ExportSource
    plane: Plane
    extents: Extents

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.plane.shape_in(self.source.shape)

    @property
    def position(self) -> dict[str, int]:
        """Position along each axis that is no axis of the plane, by its letter."""
        return {self.source.axes[axis]: self.plane.index[axis] for axis in self.source.other_axes}

    def read(self, top: int, left: int, bottom: int, right: int) -> NDArray[Any]:
        """Return the labels of a box, shape (rows, cols)."""
        region = [slice(at, at + 1) for at in self.plane.index]
        rows, cols = self.plane.axes
        region[rows], region[cols] = slice(top, bottom), slice(left, right)
        block = self.source.read(tuple(region)).reshape(
            (bottom - top, right - left) if rows < cols else (right - left, bottom - top)
        )
        return self.plane.oriented(block)

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Return boxes (top, left, bottom, right) that cover all objects of the plane."""
        found: set[tuple[int, int]] = set()
        axes = list(self.plane.axes)
        first, last = self.extents.starts[:, axes] // TILE, (self.extents.stops[:, axes] - 1) // TILE
        for (top, left), (bottom, right) in np.unique(np.stack([first, last], axis=1), axis=0).tolist():
            found.update(product(range(top, bottom + 1), range(left, right + 1)))
        rows, cols = self.shape
        return [
            (row * TILE, col * TILE, min((row + 1) * TILE, rows), min((col + 1) * TILE, cols))
            for row, col in sorted(found)
        ]
