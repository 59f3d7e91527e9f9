"""A stained lymph node of 309 GB that takes no memory: its tiles are computed when they are read.

Every nucleus has a site in a lattice, and all its properties are a hash of that site. So a pixel has the same value
whichever region it is read with, and the coarse levels show the nuclei of the fine ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.samples.noise import smooth_noise, soft

SHAPE = (36, 65_536, 65_536)
SPACING_UM = (1.0, 0.325, 0.325)
LEVELS = 8
TILE = 256
_CELL, _LAYER = 40.0, 11.0  # Spacing of the lattice, in pixels and in planes.
_RADIUS = 17.5
_FADED = 5  # From this level on nuclei are no larger than pixels, so only their density is drawn.
_MAP_STEP = 64
_BACKGROUND, _FULL = 118.0, 2300.0

Array = NDArray[np.float32]


def slide_levels() -> list[SlideLevel]:
    """Return the levels of the slide, each (36, 65536 / 2**level, 65536 / 2**level) uint16, computed when read."""
    return [SlideLevel(level) for level in range(LEVELS)]


class SlideLevel:
    """One level of the slide: an array that computes its tiles when they are read, and caches the last 512.

    Parameters
    ----------
    level
        Pyramid level; each one has half as many rows and columns as the level before.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.shape = (SHAPE[0], SHAPE[1] >> level, SHAPE[2] >> level)
        self.dtype = np.dtype(np.uint16)
        self.ndim = 3
        self.chunks = (1, min(TILE, self.shape[1]), min(TILE, self.shape[2]))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Compute a region; `key` holds integers and slices."""
        parts = key if isinstance(key, tuple) else (key,)
        parts = (*parts, *(slice(None),) * (3 - len(parts)))
        ranges = [
            range(length)[part] if isinstance(part, slice) else range(length)[int(part) : int(part) + 1 or None]
            for part, length in zip(parts, self.shape, strict=True)
        ]
        planes = [self._window(plane, ranges[1], ranges[2]) for plane in ranges[0]]
        read = np.stack(planes) if planes else np.zeros([len(one) for one in ranges], self.dtype)
        return read[tuple(slice(None) if isinstance(part, slice) else 0 for part in parts)]

    def _window(self, plane: int, rows: range, cols: range) -> NDArray[np.uint16]:
        """Return a window of a plane, assembled from tiles."""
        if not rows or not cols:
            return np.zeros((len(rows), len(cols)), np.uint16)
        top, left = min(rows[0], rows[-1]), min(cols[0], cols[-1])
        bottom, right = max(rows[0], rows[-1]) + 1, max(cols[0], cols[-1]) + 1
        window = np.empty((bottom - top, right - left), np.uint16)
        for row in range(top // TILE * TILE, bottom, TILE):
            for col in range(left // TILE * TILE, right, TILE):
                tile = _tile(self.level, plane, row, col)
                low, first = max(row, top), max(col, left)
                part = tile[low - row : bottom - row, first - col : right - col]
                window[low - top : low - top + part.shape[0], first - left : first - left + part.shape[1]] = part
        return window[:: abs(rows.step), :: abs(cols.step)][:: np.sign(rows.step), :: np.sign(cols.step)]


def slide_truth(plane: int, top: int, left: int, height: int, width: int) -> NDArray[np.int64]:
    """Return the labels of the nuclei in a window of the finest level; 0 is background.

    Parameters
    ----------
    plane, top, left, height, width
        The window, in pixels of the finest level.
    """
    truth = np.zeros((height, width), np.int64)
    nearest = np.full((height, width), 1.0, np.float32)
    rows, cols = np.arange(top, top + height), np.arange(left, left + width)
    nuclei = _nuclei(plane, top, left, height, width)
    for index in range(len(nuclei.row)):
        one = nuclei.part(slice(index, index + 1))
        near = np.ix_(np.abs(rows - one.row) < 1.5 * _RADIUS, np.abs(cols - one.col) < 1.5 * _RADIUS)
        depth = one.depth(rows[near[0]][None].astype(np.float32), cols[near[1]][None].astype(np.float32))[0]
        truth[near] = np.where(depth < nearest[near], index + 1, truth[near])
        nearest[near] = np.minimum(nearest[near], depth)
    return truth


@lru_cache(maxsize=512)
def _tile(level: int, plane: int, row: int, col: int) -> NDArray[np.uint16]:
    """Compute a tile of 128 KiB: its light, camera noise and rounding."""
    side = 2**level
    light = _map_light(level, row, col)
    if level < _FADED:
        light *= 0.33  # Out of focus, above and below.
        light += _nuclear_light(level, plane, row, col)
    rng = np.random.default_rng((plane, row, col, level))
    if level >= _FADED:  # Nuclei of a pixel each.
        light *= np.maximum(1 + 0.62 / 2 ** (level - _FADED) * rng.standard_normal(light.shape, dtype=np.float32), 0.1)
    signal = light * _FULL
    noise = rng.standard_normal((TILE, TILE), dtype=np.float32) * np.sqrt(2.5 * signal + 60.0) / side**0.8
    made = np.asarray(np.clip(_BACKGROUND + signal + noise, 0, 65535), np.uint16)
    made.flags.writeable = False
    return made


@dataclass(frozen=True)
class _Nuclei:
    """Nuclei that a plane cuts, one in each row of the arrays; places and radii in pixels of the finest level."""

    row: Array
    col: Array
    long: Array
    short: Array
    angle: Array
    bend: Array
    brightness: Array

    def part(self, some: slice) -> _Nuclei:
        return _Nuclei(*(getattr(self, field.name)[some] for field in fields(self)))

    def depth(self, rows: Array, cols: Array) -> Array:
        """Return the distance of pixels (N, H, 1) and (N, 1, W) from the centers; it is 1 on the border."""
        cos, sin = np.cos(self.angle)[:, None, None], np.sin(self.angle)[:, None, None]
        ys, xs = rows - self.row[:, None, None], cols - self.col[:, None, None]
        along, across = cos * xs + sin * ys, cos * ys - sin * xs
        along = along + self.bend[:, None, None] * across * across
        return np.asarray(np.hypot(along / self.long[:, None, None], across / self.short[:, None, None]), np.float32)


def _nuclei(plane: int, top: float, left: float, height: float, width: float) -> _Nuclei:
    """Return the nuclei in a window that a plane of the stack cuts."""
    reach = 1.4 * _RADIUS
    rows = np.arange(int((top - reach) // _CELL), int((top + height + reach) // _CELL) + 1)
    cols = np.arange(int((left - reach) // _CELL), int((left + width + reach) // _CELL) + 1)
    found = []
    for layer in {int(plane // _LAYER) + step for step in (-1, 0, 1)}:
        ys, xs = np.meshgrid(rows, cols, indexing="ij")
        draws = _draws(layer, ys.ravel(), xs.ravel())
        row = (ys.ravel() + 0.5 * (layer % 2) + 0.14 + 0.72 * draws[0]) * _CELL
        col = (xs.ravel() + 0.5 * (layer % 2) + 0.14 + 0.72 * draws[1]) * _CELL
        off = np.abs((layer + 0.2 + 0.6 * draws[2]) * _LAYER - plane) / (0.62 * _LAYER)
        there = (draws[3] < _map_at("density", row, col)) & (off < 1)
        cut = np.sqrt(1 - np.minimum(off, 1) ** 2)
        size = _RADIUS * (0.72 + 0.38 * draws[4]) * (0.45 + 0.55 * cut)
        size *= 0.86 + 0.3 * _map_at("size", row, col)
        shade = (0.30 + 0.75 * draws[5] ** 1.5) * (0.25 + 0.75 * cut)
        made = (row, col, size, size * (0.62 + 0.33 * draws[6]), np.pi * draws[7], 0.03 * (draws[8] - 0.5), shade)
        found.append([np.asarray(values[there], np.float32) for values in made])
    return _Nuclei(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _draws(layer: int, rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[np.float32]:
    """Return nine numbers from 0 to 1 for each site of the lattice, by a hash of the site (splitmix64)."""
    with np.errstate(over="ignore"):
        state = (rows.astype(np.int64) * 0x1F123BB5 + cols.astype(np.int64) * 0x5BD1E995 + layer * 0x27D4EB2F).view(
            np.uint64
        )
        drawn = np.empty((9, len(state)), np.float32)
        for number in range(9):
            state = state + np.uint64(0x9E3779B97F4A7C15)
            mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            drawn[number] = (mixed >> np.uint64(40)).astype(np.float32) / 2**24
    return drawn


def _nuclear_light(level: int, plane: int, row: int, col: int) -> Array:
    """Return the light of the nuclei in a tile: brighter where chromatin is thicker, soft at the border."""
    step = 2**level
    nuclei = _nuclei(plane, row * step, col * step, TILE * step, TILE * step)
    half = int(np.ceil(1.25 * _RADIUS / step)) + 1
    canvas = np.zeros((TILE + 4 * half + 4) ** 2, np.float32)
    width = TILE + 4 * half + 4
    around = np.arange(-half, half + 1)
    for some in range(0, len(nuclei.row), 4096):
        part = nuclei.part(slice(some, some + 4096))
        rows = np.floor(part.row / step).astype(np.int64)[:, None, None] + around[None, :, None]
        cols = np.floor(part.col / step).astype(np.int64)[:, None, None] + around[None, None, :]
        middle = (step - 1) / 2
        depth = part.depth((rows * step + middle).astype(np.float32), (cols * step + middle).astype(np.float32))
        border = max(1.6, 0.6 * step)
        light = soft((depth - 1) * part.short[:, None, None], border)
        light *= np.sqrt(np.maximum(1.12 - 0.7 * np.minimum(depth, 1) ** 2, 0)) * part.brightness[:, None, None]
        place = (rows - row + 2 * half + 2) * width + (cols - col + 2 * half + 2)
        inside = (rows - row >= -2 * half - 2) & (rows - row < TILE + 2 * half + 2)
        inside = inside & (cols - col >= -2 * half - 2) & (cols - col < TILE + 2 * half + 2)
        canvas += np.bincount(place[inside], light[inside], canvas.size).astype(np.float32)
    edge = 2 * half + 2
    tile = canvas.reshape(width, width)[edge : edge + TILE, edge : edge + TILE]
    return np.asarray(tile * (1 + 0.20 * _texture()[level][np.ix_(*_wrapped(level, row, col))]), np.float32)


def _wrapped(level: int, row: int, col: int) -> tuple[NDArray[Any], NDArray[Any]]:
    side = len(_texture()[level])
    return np.arange(row, row + TILE) % side, np.arange(col, col + TILE) % side


@lru_cache(maxsize=1)
def _texture() -> list[Array]:
    """Return the texture of the chromatin; each level averages 2 x 2 pixels of the one before."""
    rng = np.random.default_rng(3)
    grain = ndimage.gaussian_filter(rng.standard_normal((1024, 1024), dtype=np.float32), 1.7, mode="wrap")
    grain += 0.8 * ndimage.gaussian_filter(rng.standard_normal((1024, 1024), dtype=np.float32), 3.4, mode="wrap") * 2
    levels = [grain / grain.std()]
    while len(levels) < LEVELS:
        levels.append(levels[-1].reshape(len(levels[-1]) // 2, 2, -1, 2).mean((1, 3)))
    return levels


def _map_light(level: int, row: int, col: int) -> Array:
    """Return the mean light of a tile, from the density of its nuclei."""
    step = 2**level
    rows = (np.arange(row, row + TILE, dtype=np.float32)[:, None] + 0.5) * step
    cols = (np.arange(col, col + TILE, dtype=np.float32)[None, :] + 0.5) * step
    rows, cols = np.broadcast_arrays(rows, cols)
    return np.asarray(0.235 * _map_at("density", rows, cols) + 0.006, np.float32)


def _map_at(name: str, rows: NDArray[Any], cols: NDArray[Any]) -> Array:
    """Interpolate a map at pixels of the finest level."""
    places = np.stack([np.asarray(rows, np.float32), np.asarray(cols, np.float32)]) / _MAP_STEP - 0.5
    return np.asarray(ndimage.map_coordinates(_maps()[name], places, order=1, mode="constant"), np.float32)


@lru_cache(maxsize=1)
def _maps() -> dict[str, Array]:
    """Return the density and size of nuclei across the lymph node, one pixel for 64 x 64."""
    rng = np.random.default_rng(17)
    side = SHAPE[1] // _MAP_STEP
    ys, xs = np.mgrid[:side, :side].astype(np.float32) / side - 0.5
    bulge = 0.045 * smooth_noise(rng, (side, side), 130) + 0.008 * smooth_noise(rng, (side, side), 22)
    hilum = 0.22 * np.exp(-(((ys - 0.42) / 0.16) ** 2 + ((xs - 0.02) / 0.12) ** 2))
    rim = np.hypot(ys / 0.95, xs * 1.12) - 0.455 + bulge + hilum
    tissue = soft(rim * side, 3.0)
    density = 0.60 + 0.06 * smooth_noise(rng, (side, side), 40) + 0.035 * smooth_noise(rng, (side, side), 9)
    size = np.full((side, side), 0.4, np.float32)
    cords = np.abs(smooth_noise(rng, (side, side), 12))  # The medulla: cords of cells with sinuses in between.
    medulla = soft((np.hypot((ys - 0.12) / 1.25, xs) - 0.175 + 0.5 * bulge) * side, 22.0)
    density = density * (1 - medulla) + medulla * (0.22 + 0.42 * soft((cords - 0.62) * 20, 4.0))
    ragged = smooth_noise(rng, (side, side), 12)
    for row, col, radius in _follicles(rng, rim):
        part = _near(row, col, 1.4 * radius + 0.02, side)
        away = np.hypot(ys[part] - row, (xs[part] - col) * float(rng.uniform(0.85, 1.2))) * side
        away = away + 50 * bulge[part] + 2.4 * ragged[part]
        mantle = soft(away - radius * side, 5.0)
        centre = soft(away + 2 * ragged[part] - 0.62 * radius * side, 5.0)
        density[part] += mantle * (0.92 - density[part])
        density[part] += centre * (0.50 + 0.12 * (xs[part] - col) / radius - density[part])
        size[part] += centre * (0.95 - size[part])
    sinus = soft(np.abs(rim * side + 9.0 + ragged) - 2.0 - ragged, 1.6)  # Under the capsule.
    density *= 1 - 0.7 * sinus
    for _ in range(70):  # Vessels: empty.
        row, col = rng.uniform(-0.4, 0.4, 2)
        radius, stretch = float(rng.uniform(2.0, 6.5)), float(rng.uniform(0.5, 1.0))
        part = _near(row, col, 0.02, side)
        away = np.hypot((ys[part] - row) * stretch, xs[part] - col) * side + ragged[part]
        density[part] *= 1 - 0.95 * soft(away - radius, 1.2)
    return {"density": np.asarray(np.clip(density, 0, 1) * tissue, np.float32), "size": np.asarray(size, np.float32)}


def _near(row: float, col: float, reach: float, side: int) -> tuple[slice, slice]:
    """Return the part of a map around a point, in fractions of its side from the center."""
    low = [max(0, int((at + 0.5 - reach) * side)) for at in (row, col)]
    high = [max(0, int((at + 0.5 + reach) * side) + 1) for at in (row, col)]
    return slice(low[0], high[0]), slice(low[1], high[1])


def _follicles(rng: np.random.Generator, rim: Array) -> Sequence[tuple[float, float, float]]:
    """Place follicles in the cortex, near the rim, without overlap."""
    side = len(rim)
    placed: list[tuple[float, float, float]] = []
    for _ in range(4000):
        row, col = rng.uniform(-0.48, 0.48, 2)
        radius = float(rng.uniform(0.022, 0.048))
        depth = -float(rim[int((row + 0.5) * side), int((col + 0.5) * side)])
        near = any(np.hypot(r - row, c - col) < 1.12 * (q + radius) for r, c, q in placed)
        if radius + 0.018 < depth < 0.12 and not near and len(placed) < 34:
            placed.append((float(row), float(col), radius))
    return placed
