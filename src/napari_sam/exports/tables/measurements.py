"""Measurements: a table of objects, measured in one pass for all of them.

Objects are read in groups that lie near each other, so that memory does not grow with the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.exports.extents import Extents, compact, grouped
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.polygons.coordinates import Coordinates
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tables.shapes import Columns, shapes_in_plane, sizes_and_places
from napari_sam.exports.units import area_in_units, unit_sign

if TYPE_CHECKING:
    from napari_sam.images.volume import Volume

# A group of objects and its pixels take some hundred megabytes.
MAX_GROUP_PIXELS = 2**23
# Of the numbers of shape, which else have no unit.
LENGTHS = {"perimeter", "axis_major_length", "axis_minor_length"}
COLORS: Sequence[str] = ("red", "green", "blue", "alpha")


@dataclass(frozen=True, slots=True)
class Measuring:
    """What is measured of a source.

    Parameters
    ----------
    source
        The labels.
    options
        How map coordinates are stated.
    """

    source: ExportSource
    options: ExportOptions

    def table(self) -> Columns:
        """Return the columns of the table by their names, one row for each object and time, by time and label.

        An object in several planes of depth is one body; one at several times has a row for each time.

        Raises
        ------
        LabelsError, ImageError, OutputError
            The labels or the image cannot be read.
        """
        parts = list(self._parts())
        if not parts:
            parts = [self._measured(self.source.extents, {})]
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        times = [self.source.axes[axis] for axis in self._other_axes]
        order = np.lexsort([table["label"], *(table[name] for name in reversed(times) if name in table)])
        return {name: column[order] for name, column in table.items()}

    @property
    def _body_axes(self) -> list[int]:
        """The axes along which one object extends: those of space, in array order."""
        source = self.source
        return sorted({*source.plane_axes, *(axis for axis in source.other_axes if source.axes[axis] == "z")})

    @property
    def _other_axes(self) -> list[int]:
        """The axes of time and channels."""
        return [axis for axis in range(self.source.ndim) if axis not in self._body_axes]

    def _parts(self) -> Iterator[Columns]:
        extents, others = self.source.extents, self._other_axes
        if not len(extents):
            return
        ranges = [range(extents.starts[:, axis].min(), extents.stops[:, axis].max()) for axis in others]
        for position in product(*ranges):
            inside = np.ones(len(extents), bool)
            for axis, at in zip(others, position, strict=True):
                inside &= (extents.starts[:, axis] <= at) & (at < extents.stops[:, axis])
            there = extents.at(inside)
            for group in grouped(there, MAX_GROUP_PIXELS):
                yield self._measured(there.at(group), dict(zip(others, position, strict=True)))

    def _measured(self, extents: Extents, position: dict[int, int]) -> Columns:
        """Return the table of some objects at one position along the axes of time."""
        source, axes = self.source, self._body_axes
        low = extents.starts.min(axis=0) if len(extents) else np.zeros(source.ndim, np.int64)
        high = extents.stops.max(axis=0) if len(extents) else np.zeros(source.ndim, np.int64)
        region = tuple(
            slice(at := position[axis], at + 1) if axis in position else slice(int(low[axis]), int(high[axis]))
            for axis in range(source.ndim)
        )
        block = source.read(region)
        block = np.where(np.isin(block, extents.labels), block, 0)
        labels, numbers = compact(block.reshape([block.shape[axis] for axis in axes]))
        origin = np.array([region[axis].start for axis in axes])
        columns: Columns = {"label": labels, **self._known(labels)}
        columns |= {source.axes[axis]: np.full(len(labels), at) for axis, at in position.items()}
        columns |= self._shape(numbers, len(labels), origin)
        if source.image is not None:
            columns |= _intensities(_pixels(source.image, region, source.channel_names), numbers, len(labels))
        return columns

    def _known(self, labels: NDArray[np.int64]) -> Columns:
        """Return what the journal knows of objects."""
        if not self.source.objects:
            return {}
        names, scores = [], []
        for label in labels.tolist():
            kind, part = self.source.class_of(label), self.source.part_of(label)
            names.append(None if kind is None else kind.name)
            scores.append((math.nan, math.nan) if part is None else (part.iou_prediction, part.stability_score))
        known = np.array(scores, np.float64).reshape(-1, 2)
        return {"class": np.array(names, object), "predicted_iou": known[:, 0], "stability": known[:, 1]}

    def _shape(self, numbers: NDArray[np.intp], count: int, origin: NDArray[np.int64]) -> Columns:
        """Return size, place and shape of numbered objects."""
        letters = [self.source.axes[axis] for axis in self._body_axes]
        ndim = len(letters)
        sizes, centroids, boxes = sizes_and_places(numbers, count)
        columns: Columns = {"area_px" if ndim == 2 else "volume_px": sizes, **self._sizes(sizes, ndim)}
        centers = list((centroids + origin).T)
        columns |= {f"centroid_{letter}_px": center for letter, center in zip(letters, centers, strict=True)}
        columns |= self._places(centers)
        for at, letter in enumerate(letters):
            columns[f"bbox_{letter}_min"], columns[f"bbox_{letter}_max"] = (boxes[:, at] + origin[at]).T
        for name, values in shapes_in_plane(numbers, sizes, centroids).items() if ndim == 2 else ():
            columns[f"{name}_px" if name in LENGTHS else name] = values
        return columns

    def _sizes(self, sizes: NDArray[np.int64], ndim: int) -> Columns:
        """Return areas or volumes in the unit of the image."""
        source = self.source
        if ndim == 2:
            one = area_in_units(source, 1)
            return {} if one is None else {f"area_{one.sign}2": sizes * one.value}
        sign = unit_sign(source)
        if sign is None or source.scale is None:
            return {}
        return {f"volume_{sign}3": sizes * abs(math.prod(source.scale[axis] for axis in self._body_axes))}

    def _places(self, centers: Sequence[NDArray[np.float64]]) -> Columns:
        """Return centroids in the unit of the image, and on its map."""
        source, columns = self.source, Columns()
        sign, calibration = unit_sign(source), source.place.calibration
        if sign is not None and calibration is not None and calibration.scale is not None:
            for axis, center in zip(self._body_axes, centers, strict=True):
                at = calibration.starts[axis] + center * calibration.scale[axis]
                columns[f"centroid_{source.axes[axis]}_{sign}"] = at
        on_map = source.place.georeference
        if on_map is not None and on_map.transform is not None and len(self._body_axes) == 2:
            coordinates = Coordinates.of(source.place, self.options.crs, "image")
            if coordinates.is_on_map:
                rows, cols = (centers[self._body_axes.index(axis)] for axis in source.plane_axes)
                placed = coordinates.on_map(np.column_stack([cols, rows]) + 0.5)
                names = ("longitude", "latitude") if coordinates.is_wgs84 else ("map_x", "map_y")
                columns |= dict(zip(names, placed.T, strict=True))
        return columns


def _pixels(image: Volume, region: Sequence[slice], channel_names: Sequence[str]) -> Columns:
    """Return the pixels of each channel of an image in a region; NaN where there are none."""
    axis = image.channel_axis
    key = list(region)
    if axis is not None:
        key.insert(axis, slice(None))
    read: Any = image.array[tuple(key)]
    is_masked = isinstance(read, np.ma.MaskedArray)
    block = np.asarray(read.astype(np.float64).filled(np.nan) if is_masked else read)
    if image.nodata is not None:
        block = np.where(block == image.nodata, np.nan, block)
    if axis is None:
        return {"": block}
    channels = np.moveaxis(block, axis, 0)
    names = COLORS if image.rgb else [str(number) for number in range(len(channels))]
    if len(set(channel_names)) == len(channels):
        names = channel_names
    return {f"_{names[number]}": channel for number, channel in enumerate(channels)}


def _intensities(channels: Columns, numbers: NDArray[np.intp], count: int) -> Columns:
    """Return mean, least and greatest intensity of numbered objects in each channel."""
    columns: Columns = {}
    for name, channel in channels.items():
        values, where = channel.reshape(numbers.shape), numbers
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            where = np.where(np.isfinite(values), numbers, 0)
            values = np.where(where > 0, values, 0)
        index = np.arange(1, count + 1)
        is_known = np.bincount(where.ravel(), minlength=count + 1)[1:] > 0
        for kind, measure in (("mean", ndimage.mean), ("min", ndimage.minimum), ("max", ndimage.maximum)):
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.asarray(measure(values, where, index), np.float64) if count else np.zeros(0)
            columns[f"{kind}{name}"] = np.where(is_known, found, np.nan)
    return columns
