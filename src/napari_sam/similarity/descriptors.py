"""Descriptors: what the image encoder sees inside an object, at its border and around it; and its color and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import binary_erosion

from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Embedding, FeaturePredictor, Predictor
from napari_sam.core.prompts import coverage
from napari_sam.core.tiles import Tile
from napari_sam.similarity.regions import inside_of, ring_around

# Side of the cells in which regions are counted, in tile pixels: that of the finest features.
CELL = 4
# The surroundings reach as far as this share of the object's size, within these numbers of cells.
REACH, LEAST_REACH, MOST_REACH = 0.3, 2, 8
# Features of coarser cells do not tell the border of an object from its inside.
COARSEST_BORDER = 8
COLORS = {"inside color": 3, "color spread": 3, "texture": 3, "border color": 3, "around color": 3}
SHAPES = ("size", "elongation", "ellipse", "roughness", "extent")
# Shapes are measured on at most about so many pixels along the longer side.
MOST_PIXELS = 96
# Cells, and the weight of each.
_Weights = tuple[NDArray[np.intp], NDArray[np.float32]]
LARGEST = np.float32(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True)
class DescriptorLayout:
    """Where each group of values lies in a descriptor.

    Parameters
    ----------
    maps
        (channels, stride in tile pixels) of each map of features.
    widths
        Number of values of each group, by its name, in their order.
    """

    maps: tuple[tuple[int, int], ...]
    widths: Mapping[str, int]

    @classmethod
    def of(cls, predictor: FeaturePredictor) -> Self:
        """Return the layout of the descriptors of a model."""
        return cls.of_maps(tuple(predictor.feature_strides))

    @classmethod
    def of_maps(cls, maps: tuple[tuple[int, int], ...]) -> Self:
        """Return the layout for (channels, stride in tile pixels) of each map of features."""
        several = len(maps) > 1
        coarsest = max(stride for _, stride in maps)
        fine = [(channels, stride) for channels, stride in maps if stride <= COARSEST_BORDER]
        widths = {f"inside {stride}": channels for channels, stride in maps}
        widths |= {f"border {stride}": channels for channels, stride in fine}
        widths |= {f"around {stride}": channels for channels, stride in maps if not (several and stride == coarsest)}
        widths |= {f"spread {stride}": channels for channels, stride in fine if stride <= CELL}
        return cls(maps, {**widths, **COLORS, "shape": len(SHAPES)})

    @property
    def width(self) -> int:
        """Number of values of a descriptor."""
        return sum(self.widths.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Where each group lies."""
        ends = np.cumsum(list(self.widths.values())).tolist()
        return {name: slice(end - width, end) for (name, width), end in zip(self.widths.items(), ends, strict=True)}


def described(
    predictor: Predictor,
    embedding: Embedding,
    rendered: NDArray[np.uint8],
    tile: Tile,
    masks: Sequence[Mask],
) -> NDArray[np.float16]:
    """Describe objects of one tile.

    Parameters
    ----------
    predictor
        The model.
    embedding
        The encoded tile.
    rendered
        Shape (side, side, 3), uint8: the pixels of the tile.
    tile
        The tile.
    masks
        Objects that the tile reads at least a part of.

    Returns
    -------
    numpy.ndarray
        Shape (n, width), float16: the groups of `DescriptorLayout`, one after the other. Shape (n, 0) for a model whose
        features cannot be compared.
    """
    if not isinstance(predictor, FeaturePredictor):
        return np.zeros((len(masks), 0), np.float16)
    layout = DescriptorLayout.of(predictor)
    regions = _Regions.of(tile, masks)
    groups: dict[str, NDArray[np.float32]] = {}
    for values, (_, stride) in zip(predictor.features(embedding), layout.maps, strict=True):
        for region in ("inside", "border", "around"):
            if f"{region} {stride}" in layout.widths:
                groups[f"{region} {stride}"] = regions.means(region, values)
        if f"spread {stride}" in layout.widths:
            groups[f"spread {stride}"] = regions.spreads("inside", values)
    groups |= _colors(regions, rendered)
    groups["shape"] = np.array([_shape(mask, tile) for mask in masks], np.float32).reshape(-1, len(SHAPES))
    joined = np.concatenate([groups[name] for name in layout.widths], axis=1)
    return np.asarray(joined.clip(-LARGEST, LARGEST), np.float16)


def _colors(regions: _Regions, rendered: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    count = regions.cells
    blocks = rendered.reshape(count, CELL, count, CELL, 3).astype(np.float32) / 255
    mean, spread = blocks.mean((1, 3)).transpose(2, 0, 1), blocks.std((1, 3)).transpose(2, 0, 1)
    return {
        "inside color": regions.means("inside", mean),
        "color spread": regions.spreads("inside", mean),
        "texture": regions.means("inside", spread),
        "border color": regions.means("border", mean),
        "around color": regions.means("around", mean),
    }


class _Regions:
    """The inside, the border and the surroundings of objects, as weights of the cells of a tile."""

    def __init__(self, cells: int, weights: Mapping[str, sparse.csr_array]) -> None:
        self.cells, self._weights = cells, weights

    @classmethod
    def of(cls, tile: Tile, masks: Sequence[Mask]) -> Self:
        count = tile.side // CELL
        parts: dict[str, list[tuple[NDArray[np.intp], NDArray[np.float32]]]] = {
            "inside": [],
            "border": [],
            "around": [],
        }
        for mask in masks:
            at, regions = _regions(tile, mask, count)
            for (_, found), region in zip(parts.items(), regions, strict=True):
                weights = region / max(float(region.sum()), 1e-6)
                found.append((at[weights > 0], weights[weights > 0]))
        return cls(count, {name: _matrix(found, count**2) for name, found in parts.items()})

    def means(self, region: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the means of values of shape (channels, n, n) over a region, shape (objects, channels)."""
        return self._summed(region, values.reshape(len(values), -1).T, values.shape[-1])

    def spreads(self, region: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the standard deviations of values over a region, shape (objects, channels)."""
        flat = values.reshape(len(values), -1).T
        mean, square = (self._summed(region, each, values.shape[-1]) for each in (flat, flat**2))
        return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)), np.float32)

    def _summed(self, region: str, flat: NDArray[np.float32], side: int) -> NDArray[np.float32]:
        weights = self._weights[region]
        if side != self.cells:
            rows, cols = np.divmod(weights.indices.astype(np.int64), self.cells)
            coarse = rows * side // self.cells * side + cols * side // self.cells
            weights = sparse.csr_array((weights.data, coarse, weights.indptr), shape=(weights.shape[0], side**2))
        return np.asarray(weights @ flat, np.float32)


def _matrix(parts: Sequence[_Weights], cells: int) -> sparse.csr_array:
    ends = np.cumsum([0, *(len(at) for at, _ in parts)])
    at = np.concatenate([np.zeros(0, np.intp), *(at for at, _ in parts)])
    weights = np.concatenate([np.zeros(0, np.float32), *(weights for _, weights in parts)])
    return sparse.csr_array((weights, at, ends), shape=(len(parts), cells))


def _regions(
    tile: Tile, mask: Mask, count: int
) -> tuple[NDArray[np.intp], tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]]:
    """Return cells around an object, and how much each belongs to its inside, its border and its surroundings."""
    height, width = (CELL * step for step in tile.step)
    size = np.sqrt(max(mask.area / (height * width), 1.0))
    reach = int(np.clip(round(REACH * size), LEAST_REACH, MOST_REACH))
    near = mask.box.grown(1.0)
    first = [
        min(max(int((edge - start) // step) - reach, 0), count - 1)
        for edge, start, step in ((near.top, tile.read.top, height), (near.left, tile.read.left, width))
    ]
    last = [
        max(min(int((edge - start) // step) + reach + 1, count), low + 1)
        for edge, start, step, low in (
            (near.bottom, tile.read.top, height, first[0]),
            (near.right, tile.read.left, width, first[1]),
        )
    ]
    rows, cols = (np.arange(low, high) for low, high in zip(first, last, strict=True))
    covered = coverage(
        mask, tile.read.top + (rows + 0.5) * height, tile.read.left + (cols + 0.5) * width, (height, width)
    )
    inside = inside_of(covered)
    around = ring_around(inside, reach, covered == 0)
    border = inside & ~binary_erosion(inside)
    weights = (np.where(inside, np.maximum(covered, 1e-3), 0), border, around)
    return np.add.outer(rows * count, cols), tuple(each.astype(np.float32) for each in weights)  # type: ignore[return-value]


def _shape(mask: Mask, tile: Tile) -> tuple[float, ...]:
    """Return the logarithms of size in units, elongation, area of the moments' ellipse, and outline; and the extent."""
    thinned = max(1, max(mask.pixels.shape) // MOST_PIXELS)
    pixels = mask.pixels[::thinned, ::thinned]
    step = np.array(tile.step) / thinned
    at = np.argwhere(pixels) / step
    moments = np.cov(at.T) + np.eye(2) / 12 if len(at) > 1 else np.eye(2) / 12
    short, long = np.maximum(np.linalg.eigvalsh(moments), 1e-6)
    area = max(len(at), 1) / float(step.prod())
    padded = np.pad(pixels, 1).view(np.int8)
    outline = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    return (
        float(np.log2(max(mask.area, 1) / float(np.prod(tile.step))) / 2 + tile.level),
        float(np.log2(long / short) / 2),
        float(np.log2(4 * np.pi * np.sqrt(short * long) / area)),
        float(np.log2(max(outline, 1) / np.sqrt(max(len(at), 1)))),
        len(at) / max(pixels.size, 1),
    )
