"""Cultured cells in two fluorescent stains, computed, with the label of each nucleus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.samples.noise import smooth_noise, soft

CELLS_SIDE, CELLS_PIXEL_UM = 768, 0.325
_CAMERA_OFFSET = 104.0  # Counts of a camera in the dark.
_SEED = 11


@dataclass(frozen=True)
class CellImage:
    """A computed image of cells and its ground truth.

    Attributes
    ----------
    image
        Nuclei and cytoplasm, shape (2, 768, 768), uint16; pixels of 0.325 micrometers.
    truth
        Labels of the nuclei, shape (768, 768), int32; 0 is background.
    """

    image: NDArray[np.uint16]
    truth: NDArray[np.int32]


def cells() -> CellImage:
    """Compute cultured cells in a nuclear and a cytoplasmic stain; the pixels are the same at every call."""
    rng = np.random.default_rng(_SEED)
    shape = (CELLS_SIDE, CELLS_SIDE)
    nearest = np.full(shape, np.inf, np.float32)
    truth = np.zeros(shape, np.int32)
    stain = np.zeros(shape, np.float32)
    for label, nucleus in enumerate(_place_nuclei(rng), start=1):
        _draw_nucleus(rng, label, nucleus, nearest, truth, stain)
    ys, xs = np.mgrid[:CELLS_SIDE, :CELLS_SIDE].astype(np.float32) / CELLS_SIDE
    lamp = 1.0 - 0.45 * ((ys - 0.42) ** 2 + (xs - 0.55) ** 2)
    haze = 0.10 * ndimage.gaussian_filter(stain, 28) + 0.03 * (1 + 0.5 * smooth_noise(rng, shape, 130))
    nuclei = ndimage.gaussian_filter(stain, 1.3) + haze
    cytoplasm = ndimage.gaussian_filter(_cytoplasm(rng, truth), 1.2)
    cytoplasm += 0.15 * ndimage.gaussian_filter(cytoplasm, 25) + 0.02
    image = np.stack([_as_camera(rng, nuclei * lamp, 2600.0, 0.45), _as_camera(rng, cytoplasm * lamp, 1500.0, 0.3)])
    return CellImage(image, truth)


@dataclass(frozen=True)
class _Nucleus:
    row: float
    col: float
    long: float
    short: float
    angle: float
    brightness: float
    dividing: bool


def _place_nuclei(rng: np.random.Generator) -> list[_Nucleus]:
    """Scatter nuclei in clusters, so that some touch and none overlap much."""
    crowding = smooth_noise(rng, (CELLS_SIDE, CELLS_SIDE), 110)
    placed: list[_Nucleus] = []
    for _ in range(1500):
        row, col = rng.uniform(-8, CELLS_SIDE + 8, 2)
        at = crowding[int(np.clip(row, 0, CELLS_SIDE - 1)), int(np.clip(col, 0, CELLS_SIDE - 1))]
        if at < rng.normal(0.35, 0.5) or len(placed) > 150:
            continue
        long = float(np.clip(rng.lognormal(np.log(21), 0.17), 13, 33))
        short = long * float(rng.uniform(0.62, 0.93))
        dividing = bool(rng.random() < 0.02)
        if dividing:
            long, short = 15.0, 6.5
        reach = 0.88 * (long + short) / 2
        if any(np.hypot(one.row - row, one.col - col) < reach + 0.88 * (one.long + one.short) / 2 for one in placed):
            continue
        brightness = 1.0 if dividing else float(rng.lognormal(np.log(0.5), 0.38))
        placed.append(_Nucleus(row, col, long, short, rng.uniform(0, np.pi), brightness, dividing))
    return placed


def _draw_nucleus(
    rng: np.random.Generator,
    label: int,
    nucleus: _Nucleus,
    nearest: NDArray[Any],
    truth: NDArray[np.int32],
    stain: NDArray[Any],
) -> None:
    """Add one nucleus; where two meet, a pixel belongs to the one whose center is nearer."""
    reach = int(nucleus.long * 1.3) + 3
    top, left = max(0, int(nucleus.row) - reach), max(0, int(nucleus.col) - reach)
    bottom, right = int(nucleus.row) + reach, int(nucleus.col) + reach
    part = (slice(top, bottom), slice(left, right))
    height, width = truth[part].shape
    if min(height, width) == 0:
        return
    ys, xs = np.mgrid[top : top + height, left : left + width].astype(np.float32)
    ys, xs = ys - nucleus.row, xs - nucleus.col
    along = np.cos(nucleus.angle) * xs + np.sin(nucleus.angle) * ys
    across = -np.sin(nucleus.angle) * xs + np.cos(nucleus.angle) * ys
    along = along + rng.uniform(-0.012, 0.012) * across**2  # Some are bent.
    turn = np.arctan2(across, along)
    wave = sum(rng.normal(0, 0.05 / order) * np.cos(order * turn + rng.uniform(0, 6)) for order in (2, 3, 4, 5))
    depth = np.hypot(along / nucleus.long, across / nucleus.short) / (1 + wave)
    mine = (depth < 1) & (depth < nearest[part])
    truth[part][mine] = label
    nearest[part] = np.minimum(nearest[part], depth)
    chromatin = 1 + (0.1 if nucleus.dividing else 0.17) * smooth_noise(rng, (height, width), 3.2)
    if not nucleus.dividing:
        for _ in range(rng.integers(1, 4)):  # Nucleoli take no stain.
            away, direction = rng.uniform(0, 0.5), rng.uniform(0, 2 * np.pi)
            spot = np.hypot(
                along - away * nucleus.long * np.cos(direction), across - away * nucleus.short * np.sin(direction)
            )
            chromatin -= 0.38 * np.exp(-((spot / rng.uniform(2.2, 3.8)) ** 2))
    dome = np.sqrt(np.clip(1.15 - 0.75 * depth**2, 0, None))  # Nuclei are thicker in the middle.
    inside = soft((depth - 1) * nucleus.short, 1.2)
    stain[part] += nucleus.brightness * inside * dome * np.clip(chromatin, 0.2, None)


def _cytoplasm(rng: np.random.Generator, truth: NDArray[np.int32]) -> NDArray[Any]:
    """Return the cytoplasmic stain: bright beside the nuclei, fading to ragged borders, with fibers."""
    away, nearest = ndimage.distance_transform_edt(truth == 0, return_indices=True)
    owner = truth[tuple(nearest)]
    count = int(truth.max()) + 1
    reach = rng.uniform(22, 46, count).astype(np.float32)[owner]
    brightness = rng.lognormal(np.log(0.42), 0.35, count).astype(np.float32)[owner]
    ragged = away + 5.0 * smooth_noise(rng, truth.shape, 9) + 7.0 * smooth_noise(rng, truth.shape, 24)
    body = soft(ragged - reach, 7.0) * (0.35 + 0.65 * np.exp(-away / 14.0))
    direction = rng.integers(0, 4, count)[owner]
    fibers = np.zeros(truth.shape, np.float32)
    for turn in range(4):
        noise = smooth_noise(rng, truth.shape, (1.3, 7.0))
        drawn = (noise, _sheared(noise, 0.8), noise.T, _sheared(noise.T, -0.8))[turn]
        fibers += np.where(direction == turn, drawn, 0)
    seam = ndimage.gaussian_filter((ndimage.morphological_gradient(owner, 3) > 0).astype(np.float32), 1.5)
    grain = 1 + 0.13 * fibers + 0.16 * smooth_noise(rng, truth.shape, 2.5)
    stain = brightness * body * np.clip(grain, 0.15, None) * (1 - 0.55 * np.clip(seam * 2, 0, 1))
    return np.asarray(np.where(truth > 0, 0.42, 1.0) * stain, np.float32)


def _sheared(values: NDArray[Any], slope: float) -> NDArray[Any]:
    """Shift each row by `slope` columns more than the one before, wrapping around."""
    rows, cols = np.indices(values.shape)
    return np.asarray(values[rows, (cols + (slope * rows).astype(int)) % values.shape[1]])


def _as_camera(rng: np.random.Generator, light: NDArray[Any], full: float, gain: float) -> NDArray[np.uint16]:
    """Add the shot noise, read noise and offset of a camera."""
    electrons = rng.poisson(np.clip(light, 0, None) * full * gain) / gain
    read = electrons + rng.normal(_CAMERA_OFFSET, 5.0, light.shape)
    return np.asarray(np.clip(read, 0, 65535), np.uint16)
