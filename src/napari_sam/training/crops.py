"""Crops around objects of labelled images. Seed and step determine every pixel, so resumed runs repeat exactly."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import area_average
from napari_sam.errors import ImageError, ModelError
from napari_sam.evaluation.datasets import MIN_AREA, LabelledImage, objects_of, read_labels
from napari_sam.images.volume import Volume

PLANES_OF_A_VOLUME = 24
MIN_CROP = 24
# Logarithms of the largest factor by which one axis is stretched and the other shrunk, and the share of the strong one.
SLIGHT_STRETCH, STRONG_STRETCH, STRONG_SHARE = 0.2, 0.7, 0.4
MAX_LABEL = np.iinfo(np.int32).max
# Attempts to draw a crop: an object can be too thin, or be rotated out of the crop.
MAX_DRAWS = 200


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One labelled plane, rendered as for the encoder.

    Parameters
    ----------
    pixels
        Shape (rows, cols, 3), uint8.
    objects
        Shape (rows, cols), int32; 0 is background, -1 is ignored.
    values
        The labels of the objects that are large enough.
    shares
        How often each of them is drawn, as shares that sum to 1; by default all alike.
    """

    pixels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    values: NDArray[np.int32]
    shares: NDArray[np.float64] | None = None
    _levels: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False)

    @property
    def halvings(self) -> int:
        """How often the plane can be halved without becoming smaller than 8 pixels."""
        return max(0, int(np.log2(min(self.objects.shape) / 8)))

    def level(self, halvings: int) -> NDArray[np.uint8]:
        """Return the pixels averaged over squares of 2 ** halvings; computed once."""
        if halvings == 0:
            return self.pixels
        if halvings not in self._levels:
            averaged = area_average(self.pixels, 2**halvings).round().astype(np.uint8)
            self._levels[halvings] = averaged
        return self._levels[halvings]


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """One image of a batch.

    Parameters
    ----------
    pixels
        Shape (side, side, 3), uint8.
    objects
        Shape (side, side), int32: labels, 0 background.
    values
        Shape (count,), int32: labels of the prompted objects; they may repeat.
    """

    pixels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    values: NDArray[np.int32]


def load_sources(images: list[LabelledImage], rng: np.random.Generator) -> dict[str, list[Source]]:
    """Read labelled images into memory, by subset; of a volume, up to 24 planes along z that hold objects.

    Raises
    ------
    ImageError
        One of them cannot be read, or none holds an object.
    """
    sources: dict[str, list[Source]] = defaultdict(list)
    for image in images:
        volume = Volume.of(image.image)
        labels = read_labels(image, volume.shape)
        rendering = volume.rendering()
        for plane, section in _planes(labels, image.kind, rng):
            pixels = rendering(volume.read(plane, Box.of_shape(section.shape)))
            source = _source(pixels, section, image)
            if len(source.values):
                sources[image.subset].append(source)
    if not sources:
        raise ImageError(f"There is no object of {MIN_AREA} pixels or more to train on: check the labels.")
    return dict(sources)


def _planes(labels: NDArray[Any], kind: str, rng: np.random.Generator) -> list[tuple[Plane, NDArray[Any]]]:
    if kind != "volume":
        return [(Plane.of(labels.shape), labels)]
    filled = np.flatnonzero((labels != 0).any(axis=(1, 2)))
    chosen = rng.choice(filled, min(len(filled), PLANES_OF_A_VOLUME), replace=False)
    return [(Plane.of(labels.shape, int(z)), labels[z]) for z in sorted(chosen)]


def _source(pixels: NDArray[np.uint8], section: NDArray[Any], image: LabelledImage) -> Source:
    labels, ignored = objects_of(section, image)
    found, index, areas = np.unique(labels, return_inverse=True, return_counts=True)
    # Large unsigned labels do not fit into int32: the objects are then renumbered from 1.
    values = found if abs(found).max(initial=0) <= MAX_LABEL else np.where(found > 0, np.arange(len(found)) + 1, 0)
    objects = values[index].reshape(labels.shape).astype(np.int32)
    if ignored is not None:
        objects[ignored] = -1
    return Source(pixels, objects, values[(found > 0) & (areas >= MIN_AREA)].astype(np.int32))


@dataclass(frozen=True, slots=True)
class CropOptions:
    """Options of drawing crops.

    Parameters
    ----------
    side
        Side of a crop, in pixels.
    objects
        Number of prompted objects in a crop.
    smallest, largest
        Share of the crop's side that the object covers, drawn log-uniformly between them.
    augment
        Whether to change geometry and intensity at random.
    """

    side: int = 256
    objects: int = 4
    smallest: float = 0.08
    largest: float = 0.8
    augment: bool = True


def draw_crop(
    sources: dict[str, list[Source]], weights: dict[str, float], options: CropOptions, rng: np.random.Generator
) -> Crop:
    """Draw a subset by weight, one of its planes, one of its objects, and a crop around it.

    Raises
    ------
    ImageError
        None of 200 crops (`MAX_DRAWS`) showed enough of its object.
    """
    names = sorted(sources)
    share = np.array([weights.get(name, 1.0) for name in names])
    for _ in range(MAX_DRAWS):
        members = sources[names[rng.choice(len(names), p=share / share.sum())]]
        source = members[rng.integers(len(members))]
        crop = _crop(source, int(rng.choice(source.values, p=source.shares)), options, rng)
        if crop is not None:
            return crop
    raise ImageError(
        f"No crop of {options.side} x {options.side} pixels shows {MIN_AREA} pixels of an object that covers "
        f"{options.smallest:g} to {options.largest:g} of its side: raise smallest and largest, or check the labels."
    )


def check_weights(weights: dict[str, float], subsets: list[str]) -> None:
    """Refuse weights that are 0 for all subsets.

    Raises
    ------
    ModelError
        No subset could be drawn.
    """
    if not any(weights.get(name, 1.0) > 0 for name in subsets):
        raise ModelError(f"The weights of {', '.join(sorted(subsets))} are all 0: give one of them more.")


def _crop(source: Source, value: int, options: CropOptions, rng: np.random.Generator) -> Crop | None:
    rows, cols = np.nonzero(source.objects == value)
    low, high = np.array([rows.min(), cols.min()]), np.array([rows.max() + 1, cols.max() + 1])
    extent = max(int((high - low).max()), 4)
    shape = np.array(source.objects.shape)
    wanted = extent / np.exp(rng.uniform(np.log(options.smallest), np.log(options.largest)))
    span = float(np.clip(wanted, MIN_CROP, max(shape.max() * 1.2, MIN_CROP)))
    center = (low + high) / 2 + rng.uniform(-0.5, 0.5, 2) * max(span - extent, 0)
    center = np.clip(center, np.minimum(span / 2, shape / 2), np.maximum(shape - span / 2, shape / 2))
    linear = np.eye(2) * (span / options.side)
    if options.augment:
        linear = _turned(linear, rng)
    pixels, objects = _sample(source, center, linear, options.side)
    if options.augment:
        pixels = _tint(pixels, rng)
    large = np.flatnonzero(np.bincount(objects[objects > 0]) >= MIN_AREA)
    if value not in large:
        return None
    others = rng.permutation(large[large != value])[: options.objects - 1]
    chosen = np.concatenate([[value], others]).astype(np.int32)
    return Crop(pixels, objects, np.resize(chosen, options.objects))


def _turned(linear: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Rotate and mirror a crop at random: by quarter turns, or half of the time by any angle and stretched."""
    angle = rng.integers(4) * np.pi / 2
    if rng.random() < 0.5:
        angle += rng.uniform(-np.pi / 4, np.pi / 4)
        # The strong stretch makes long thin objects, such as rods, which are rare in labelled images.
        strongest = STRONG_STRETCH if rng.random() < STRONG_SHARE else SLIGHT_STRETCH
        stretch = np.exp(rng.uniform(-strongest, strongest))
        linear = linear @ np.diag([stretch, 1 / stretch])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(turn @ linear @ np.diag([1, rng.choice([-1, 1])]))


def _sample(
    source: Source, center: NDArray[np.float64], linear: NDArray[np.float64], side: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Resample a source into an affine window; pixels outside the source are black, as in a tile.

    Parameters
    ----------
    source
        Region to search.
    center
        (row, col) of the window's middle.
    linear
        Shape (2, 2): (row, col) in the source that a step of one pixel in the window makes.
    side
        Side of the window.
    """
    step = np.sqrt(abs(np.linalg.det(linear)))
    halvings = max(0, min(int(np.log2(step)), source.halvings))
    pixels, scale = source.level(halvings), 2**halvings
    window = (np.indices((side, side)).reshape(2, -1) + 0.5) - side / 2
    at = (linear @ window + center[:, None]).astype(np.float32)
    shape = np.array(source.objects.shape)
    # grid_sample takes (x, y) from -1 to 1 over the whole of its input.
    grid = at[::-1].T / (np.array(pixels.shape[1::-1]) * scale) * 2 - 1
    seen = F.grid_sample(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float(),
        torch.from_numpy(grid.astype(np.float32)).reshape(1, side, side, 2),
        padding_mode="zeros",
        align_corners=False,
    )
    cell = np.floor(at).astype(np.int64)
    inside = ((cell >= 0) & (cell < shape[:, None])).all(0)
    row, col = np.clip(cell, 0, shape[:, None] - 1)
    objects = np.where(inside, source.objects[row, col], 0).reshape(side, side)
    rendered = seen[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8).numpy()
    return np.ascontiguousarray(rendered), objects.astype(np.int32)


def _tint(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change intensities as microscopes, scanners and cameras do: gamma, inversion, gain, noise, blur, color."""
    x = (pixels.astype(np.float32) / 255) ** np.exp(rng.uniform(-0.5, 0.5))
    if rng.random() < 0.15:
        x = 1 - x
    x = x * rng.uniform(0.6, 1.2) + rng.uniform(-0.1, 0.15)
    if rng.random() < 0.2:
        x = np.repeat(x.mean(axis=-1, keepdims=True), 3, axis=-1)
    elif rng.random() < 0.3:
        x = x * rng.uniform(0.75, 1.25, 3).astype(np.float32)
    if rng.random() < 0.2:
        sigma = rng.uniform(0.4, 1.6)
        x = gaussian_filter(x, (sigma, sigma, 0))
    if rng.random() < 0.3:
        x = x + rng.normal(0, rng.uniform(0, 0.08), (*x.shape[:2], 1))
    return np.asarray((np.clip(x, 0, 1) * 255).round(), np.uint8)
