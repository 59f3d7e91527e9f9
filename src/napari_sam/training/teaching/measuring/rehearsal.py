"""Rehearsal: objects of images that are always there, on which a taught model must not become much worse."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.predictor import Predictor
from napari_sam.images.volume import Volume
from napari_sam.samples.cells import cells
from napari_sam.samples.image_files import ABDOMEN_CT, LANDSAT
from napari_sam.training.teaching.measuring.held_back import Figures, measured
from napari_sam.training.teaching.regions import Region

# Nuclei of the computed cells that are asked about; more would only take longer.
NUCLEI = 3
# Slices of the CT, with seeds (row, col) and the tolerance in HU around the smoothed value there: spleen and kidney;
# liver. Every outline was looked at.
ORGANS = {4: ((107, 166, 60), (110, 90, 60)), 22: ((61, 59, 45),)}
BLACK, WHITE, BLUR_CT = -120.0, 280.0, 1.5
# Fields of the satellite image, with the tolerance of each color: every outline was looked at.
FIELDS = ((96, 330, 30), (291, 146, 24), (38, 250, 16))


@cache
def rehearsal() -> tuple[Region, ...]:
    """Return the regions of the rehearsal, which come with the program: nuclei, organs in a CT, fields from above."""
    return (_nuclei(), *_organs(), _fields())


def rehearsed(predictor: Predictor) -> Figures:
    """Measure a model on the rehearsal, by clicks in the middle of objects; see `measured`."""
    regions = rehearsal()
    return measured(regions, [np.ones(len(region.numbers), bool) for region in regions], predictor, beside=0)


def _nuclei() -> Region:
    sample = cells()
    areas = np.bincount(sample.truth.ravel())
    labels = np.flatnonzero(areas >= np.median(areas[1:]))[1:]
    chosen = labels[np.linspace(0, len(labels) - 1, NUCLEI).round().astype(int)]
    low, high = np.percentile(sample.image[0], (0.5, 99.5))
    return _region(_gray(sample.image[0], float(low), float(high)), sample.truth, chosen)


def _organs() -> list[Region]:
    volume = Volume.of(ABDOMEN_CT)
    found = []
    for z, seeds in ORGANS.items():
        values = _pixels(volume, z)
        masks = [grown(values, (row, col), by, BLUR_CT) for row, col, by in seeds]
        found.append(_region(_gray(values[..., 0], BLACK, WHITE), _labels(masks)))
    return found


def _fields() -> Region:
    colors = _pixels(Volume.of(LANDSAT), None)
    masks = [grown(colors, (row, col), by, 1.0) for row, col, by in FIELDS]
    return _region(np.ascontiguousarray(colors.astype(np.uint8)), _labels(masks))


def _pixels(volume: Volume, z: int | None) -> NDArray[np.float32]:
    """Return the pixels of a plane, shape (rows, cols, channels)."""
    plane = Plane.of(volume.shape, z, volume.plane_axes)
    shape = plane.shape_in(volume.shape)
    return volume.read(plane, Box.of_shape(shape)).reshape(*shape, -1).astype(np.float32)


def grown(image: NDArray[np.float32], seed: tuple[int, int], tolerance: float, blur: float) -> NDArray[np.bool_]:
    """Return the part around a seed that looks like it.

    Parameters
    ----------
    image
        Shape (rows, cols, channels).
    seed
        (row, col).
    tolerance
        Largest difference of any channel.
    blur
        Sigma in pixels, against noise.
    """
    smooth = np.stack([ndimage.gaussian_filter(one.astype(np.float32), blur) for one in np.moveaxis(image, -1, 0)])
    near = np.abs(smooth - smooth[:, seed[0], seed[1], None, None]).max(0) < tolerance
    parts, _ = ndimage.label(ndimage.binary_opening(near))
    whole = ndimage.binary_fill_holes(parts == parts[seed])
    return np.asarray(ndimage.binary_closing(whole) | whole)


def _labels(masks: list[NDArray[np.bool_]]) -> NDArray[np.int32]:
    labels = np.zeros(masks[0].shape, np.int32)
    for number, mask in enumerate(masks, 1):
        labels[mask & (labels == 0)] = number
    return labels


def _gray(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    stretched = ((values.astype(np.float32) - low) / (high - low)).clip(0, 1) * 255
    return np.repeat(stretched.round().astype(np.uint8)[..., None], 3, axis=-1)


def _region(pixels: NDArray[np.uint8], labels: NDArray[np.int32], chosen: NDArray[np.intp] | None = None) -> Region:
    numbers = np.unique(labels[labels > 0]) if chosen is None else chosen
    return Region(pixels, labels, numbers.astype(np.int32), numbers.astype(np.int64), np.zeros(len(numbers), bool))
