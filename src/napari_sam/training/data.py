"""Labelled images as crops around objects, drawn so that step and seed fix every pixel: a resumed run goes on alike."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import area_average
from napari_sam.errors import ImageError
from napari_sam.evaluation import MIN_AREA, LabelledImage, objects_of, read_labels
from napari_sam.volume import Volume

PLANES_OF_A_VOLUME = 24
MIN_CROP = 24


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """One labelled plane, rendered as the encoder would see it.

    Parameters
    ----------
    pixels
        Shape (rows, cols, 3), uint8.
    objects
        Shape (rows, cols), int32; 0 is background, -1 counts as nothing.
    values
        The labels of the objects that are large enough.
    """

    pixels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    values: NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class Crop:
    """What one image of a batch shows.

    Parameters
    ----------
    pixels
        Shape (side, side, 3), uint8.
    objects
        Shape (side, side), int32: labels, 0 background.
    values
        Shape (count,), int32: the labels of the objects that are asked for; they may repeat.
    """

    pixels: NDArray[np.uint8]
    objects: NDArray[np.int32]
    values: NDArray[np.int32]


def read_split(path: Path) -> frozenset[str]:
    """Return the images that a split file keeps out of training: {"kept_out": [paths as the manifest has them]}.

    Raises
    ------
    ImageError
        The file is missing or has another form.
    """
    try:
        return frozenset(str(name) for name in json.loads(path.read_text())["kept_out"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ImageError(f"The split {path} cannot be used ({error}): it must hold a list named kept_out.") from error


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
    objects, ignored = objects_of(section, image)
    values, areas = np.unique(objects, return_counts=True)
    if ignored is not None:
        objects[ignored] = -1
    large = values[(values > 0) & (areas >= MIN_AREA)]
    return Source(pixels, objects.astype(np.int32), large.astype(np.int32))


@dataclass(frozen=True, slots=True)
class CropOptions:
    """How crops are drawn.

    Parameters
    ----------
    side
        Side of a crop, in pixels.
    objects
        How many objects of a crop are asked for.
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
    """Draw a subset by weight, one of its planes, one of its objects, and a crop around it."""
    names = sorted(sources)
    share = np.array([weights.get(name, 1.0) for name in names])
    while True:
        members = sources[names[rng.choice(len(names), p=share / share.sum())]]
        source = members[rng.integers(len(members))]
        crop = _crop(source, int(rng.choice(source.values)), options, rng)
        if crop is not None:
            return crop


def _crop(source: Source, value: int, options: CropOptions, rng: np.random.Generator) -> Crop | None:
    rows, cols = np.nonzero(source.objects == value)
    low, high = np.array([rows.min(), cols.min()]), np.array([rows.max() + 1, cols.max() + 1])
    extent = max(int((high - low).max()), 4)
    shape = np.array(source.objects.shape)
    wanted = extent / np.exp(rng.uniform(np.log(options.smallest), np.log(options.largest)))
    span = int(np.clip(wanted, MIN_CROP, max(shape.max() * 1.2, MIN_CROP)))
    center = (low + high) / 2 + rng.uniform(-0.5, 0.5, 2) * max(span - extent, 0)
    start = np.clip((center - span / 2).astype(int), 0, np.maximum(shape - span, 0))
    where = tuple(slice(int(a), int(a) + span) for a in start)
    pixels, objects = _fit(source.pixels[where], source.objects[where], span, options.side)
    if options.augment:
        pixels, objects = _turn(pixels, objects, rng)
        pixels = _tint(pixels, rng)
    seen, areas = np.unique(objects, return_counts=True)
    large = seen[(seen > 0) & (areas >= MIN_AREA)]
    if value not in large:
        return None
    others = rng.permutation(large[large != value])[: options.objects - 1]
    chosen = np.concatenate([[value], others]).astype(np.int32)
    return Crop(np.ascontiguousarray(pixels), np.ascontiguousarray(objects), np.resize(chosen, options.objects))


def _fit(
    pixels: NDArray[np.uint8], objects: NDArray[np.int32], span: int, side: int
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Scale a crop of `span` pixels to `side`; what the image does not fill is black, as in a tile."""
    scale = side / span
    rows, cols = (max(1, round(n * scale)) for n in objects.shape)
    if scale <= 0.5:
        pixels = area_average(pixels, int(1 / scale)).round().astype(np.uint8)
    scaled = resize(pixels, (rows, cols), order=1, preserve_range=True, anti_aliasing=False).round().astype(np.uint8)
    at = [
        np.minimum(((np.arange(n) + 0.5) / n * m).astype(int), m - 1)
        for n, m in zip((rows, cols), objects.shape, strict=True)
    ]
    out, labels = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.int32)
    rows, cols = min(rows, side), min(cols, side)
    out[:rows, :cols] = scaled[:rows, :cols]
    labels[:rows, :cols] = objects[np.ix_(*at)][:rows, :cols]
    return out, labels


def _turn(
    pixels: NDArray[np.uint8], objects: NDArray[np.int32], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    pixels, objects = np.rot90(pixels, turns), np.rot90(objects, turns)
    return (pixels[::-1], objects[::-1]) if flip else (pixels, objects)


def _tint(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change intensities as microscopes, scanners and cameras do: gamma, inversion, gain, noise, blur, colour."""
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
