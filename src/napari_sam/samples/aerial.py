"""An aerial photograph that is made on the spot: a village between fields, at a river, on a clear morning.

The sun stands in the south-east and north is up, so shadows fall to the upper left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.samples.cells import MadeImage, smooth_noise, soft

SIDE, PIXEL_M = 1536, 0.25
WHOLE = (slice(None), slice(None))
_SUN = np.array([0.72, 0.69])  # Where the light comes from: down and to the right.
_SHADOW_LENGTH = 0.9  # Of the height of what throws it.

Array = NDArray[Any]
Colour = tuple[float, float, float]
_FIELDS: tuple[tuple[Colour, float], ...] = (  # Colour, and how much its rows show.
    ((0.36, 0.47, 0.22), 0.07),
    ((0.27, 0.40, 0.19), 0.10),
    ((0.66, 0.59, 0.36), 0.05),
    ((0.45, 0.36, 0.27), 0.09),
    ((0.52, 0.53, 0.29), 0.05),
    ((0.32, 0.44, 0.23), 0.03),
    ((0.71, 0.66, 0.46), 0.06),
    ((0.40, 0.33, 0.25), 0.12),
)
_ROOFS: tuple[Colour, ...] = (
    (0.68, 0.33, 0.23), (0.60, 0.29, 0.22), (0.74, 0.42, 0.30), (0.50, 0.27, 0.21), (0.38, 0.37, 0.38),
    (0.47, 0.45, 0.44), (0.31, 0.27, 0.26), (0.66, 0.37, 0.27),
)  # fmt: skip


def aerial(seed: int = 23) -> MadeImage:
    """Make an aerial photograph.

    Returns
    -------
    MadeImage
        Image (1536, 1536, 3) uint8 RGB, north up, pixels of 0.25 m; the truth labels the roofs, the
        fields and the river.
    """
    scene = _Scene(np.random.default_rng(seed))
    _fields(scene)
    _village_ground(scene)
    _river(scene)
    _roads(scene)
    houses = _houses(scene)
    trees = _trees(scene)
    _shadows(scene, houses, trees)
    _cars(scene)
    for house in houses:
        _draw_house(scene, house)
    for tree in trees:
        _draw_tree(scene, tree)
    return MadeImage(_as_photograph(scene), scene.truth, scene.names)


class _Scene:
    """The photograph while it is drawn: reflected light from 0 to 1, red, green and blue."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.light = np.zeros((SIDE, SIDE, 3), np.float32)
        self.truth = np.zeros((SIDE, SIDE), np.int32)
        self.names: dict[int, str] = {}
        self.y = np.arange(SIDE, dtype=np.float32)[:, None]
        self.x = np.arange(SIDE, dtype=np.float32)[None, :]
        self.grain = rng.standard_normal((SIDE, SIDE), dtype=np.float32)
        self.clumps = smooth_noise(rng, (SIDE, SIDE), 4.0)
        self.patches = smooth_noise(rng, (SIDE, SIDE), 30.0)
        self.wide = smooth_noise(rng, (SIDE, SIDE), 160.0)
        self.leaf_light = self._leaf_light()
        self.strip = np.zeros((SIDE, SIDE), np.float32)  # How far the next border of fields lies,
        self.water = np.zeros((SIDE, SIDE), np.float32)  # and the water.
        self.built = np.zeros((SIDE, SIDE), bool)  # Where no tree can grow.

    def _leaf_light(self) -> Array:
        """Return how bright the sides of small heaps are that the sun shines on from its direction."""
        heaps = self.clumps + 0.6 * smooth_noise(self.rng, (SIDE, SIDE), 7.0)
        slope = np.gradient(heaps)
        return np.asarray(-(slope[0] * _SUN[0] + slope[1] * _SUN[1]) * 1.6, np.float32)

    def new(self, name: str) -> int:
        label = len(self.names) + 1
        self.names[label] = name
        return label

    def paint(
        self, share: Array, colour: Colour, part: tuple[slice, slice] = WHOLE, texture: Array | None = None
    ) -> None:
        """Cover what is there by a colour, where `share` (2-D) says how much of each pixel, brighter by a texture."""
        touched = np.nonzero(share > 0.01)
        here = self.light[part]
        paint = np.asarray(colour, np.float32) * (1 if texture is None else 1 + texture[touched][:, None])
        before = here[touched]
        here[touched] = before + share[touched][:, None] * (paint - before)

    def grass(self, share: Array, colour: Colour) -> None:
        """Cover with grass: dry in places, trodden in others."""
        touched = np.nonzero(share > 0.01)
        patches, wide = self.patches[touched], self.wide[touched]
        texture = 0.07 * self.clumps[touched] + 0.09 * patches + 0.06 * self.grain[touched] + 0.05 * wide
        dry = np.clip(0.5 * patches + 0.3 * wide, 0, 1)[:, None] * np.array([0.10, 0.04, 0.01], np.float32)
        before = self.light[touched]
        lawn = np.asarray(colour, np.float32) * (1 + texture[:, None]) + dry
        self.light[touched] = before + share[touched][:, None] * (lawn - before)


def street(y: Array | float) -> Array:
    """Return the column of the middle of the village street, by rows."""
    return np.asarray(600 + 90 * np.sin(np.asarray(y) / 330.0 + 0.4) + 0.06 * np.asarray(y), np.float32)


def main_road(x: Array | float) -> Array:
    """Return the row of the middle of the main road, by columns."""
    return np.asarray(1130 + 55 * np.sin(np.asarray(x) / 420.0) - 0.08 * np.asarray(x), np.float32)


def stream(y: Array | float) -> Array:
    """Return the column of the middle of the river, by rows."""
    y = np.asarray(y)
    return np.asarray(1270 + 75 * np.sin(y / 235.0) + 34 * np.sin(y / 92.0 + 1.0), np.float32)


def _fields(scene: _Scene) -> None:
    """Divide the land by lines into fields, each with a crop, its rows and the tracks of the tractor."""
    rng, code = scene.rng, np.zeros((SIDE, SIDE), np.int32)
    scene.strip.fill(99.0)
    bend = 5.0 * scene.wide
    for number, (down, across, offset) in enumerate(
        ((0.993, -0.12, 300), (0.999, -0.05, 760), (0.997, 0.08, 1330), (-0.05, 0.999, 330), (0.07, 0.998, 985))
    ):
        distance = down * scene.y + (across * scene.x - offset) + bend
        code += (distance > 0) * 2**number
        np.minimum(scene.strip, np.abs(distance), out=scene.strip)
    found, field = np.unique(code, return_inverse=True)
    count = len(found)
    crops = [_FIELDS[int(rng.integers(len(_FIELDS)))] if i % 3 else _FIELDS[i % len(_FIELDS)] for i in range(count)]
    colour = np.array([crop for crop, _ in crops], np.float32) * rng.uniform(0.9, 1.1, (count, 1)).astype(np.float32)
    strength = np.array([rows for _, rows in crops], np.float32)
    turn = (rng.choice([0.1, 1.62, 0.06, 1.5], count) + rng.normal(0, 0.02, count)).astype(np.float32)
    pitch = (2 * np.pi / rng.uniform(5, 9, count)).astype(np.float32)
    over = np.cos(turn)[field] * scene.y + np.sin(turn)[field] * scene.x + 0.25 * bend
    light = np.sin(over * pitch[field]) * strength[field]
    wheel = np.abs(np.remainder(over, 92, dtype=np.float32) - 46)
    light -= 0.16 * (np.abs(wheel - 4) < 1.3)
    light += 0.05 * scene.patches + 0.05 * scene.clumps + 0.05 * scene.wide + 0.035 * scene.grain
    scene.light[...] = colour[field] * (1 + light[..., None])
    scene.truth[...] = np.array([scene.new("field") for _ in found], np.int32)[field]
    scene.grass(soft(scene.strip - 6.0 - 1.5 * scene.clumps, 2.0), (0.36, 0.42, 0.22))
    scene.truth[scene.strip < 6.0] = 0


def _village_ground(scene: _Scene) -> None:
    """Draw the gardens on both sides of the street: lawns, beds, terraces, with hedges between them."""
    rng = scene.rng
    aside = scene.x - street(scene.y)
    garden = np.maximum(np.abs(aside) - 215 - 6 * np.sign(aside), np.abs(scene.y - 590) - 420).astype(np.float32)
    scene.grass(soft(garden, 1.5), (0.35, 0.43, 0.22))
    scene.truth[garden < 0] = 0
    plots = (np.floor((scene.y + 0.05 * aside + 20) / 118).astype(int) * 2 + (aside > 0)) % 64
    tint = (rng.normal(1, 0.035, (64, 3)) * rng.normal(1, 0.1, (64, 1))).astype(np.float32)
    inside = garden < 0
    scene.light[inside] *= tint[plots[inside]]
    border = np.minimum((scene.y + 0.05 * aside + 20) % 118, 118 - (scene.y + 0.05 * aside + 20) % 118)
    hedge = np.where((garden < 0) & (np.abs(aside) > 34), border - 3.2 - 0.8 * scene.clumps, 9.0)
    hedge = np.minimum(hedge, np.where(np.abs(scene.y - 590) < 420, np.abs(garden + 3) - 3.0 - 0.8 * scene.clumps, 9.0))
    scene.paint(soft(np.roll(hedge, (-4, -4), (0, 1)), 1.5) * 0.55, (0.06, 0.09, 0.07))
    scene.paint(soft(hedge, 1.2), (0.15, 0.22, 0.10), WHOLE, 0.22 * scene.clumps)


def _river(scene: _Scene) -> None:
    """Draw the river with its banks of reed and gravel."""
    away = np.abs(scene.x - stream(scene.y)) - 34 - 9 * np.sin(scene.y / 140) - 2.5 * scene.patches
    away = (away * 0.93).astype(np.float32)
    scene.grass(soft(away - 30 - 6 * scene.patches, 5.0), (0.29, 0.36, 0.19))
    scene.truth[away < 30] = 0
    scene.grass(soft(away - 5 - 3 * scene.clumps, 1.5), (0.46, 0.43, 0.33))
    ripple = smooth_noise(scene.rng, (SIDE, SIDE), (7.0, 2.0))
    water = 0.05 * ripple + 0.05 * scene.patches + 0.02 * scene.grain
    scene.paint(soft(away, 1.2), (0.25, 0.31, 0.26), WHOLE, water)
    scene.paint(np.clip(-away / 32.0, 0, 1), (0.115, 0.175, 0.175), WHOLE, water)
    scene.truth[away < 0] = scene.new("river")
    scene.built |= away < 6
    scene.water[...] = away


def _roads(scene: _Scene) -> None:
    """Draw the main road with its markings and the bridge, the street, the farm track, and drives to the houses."""
    along_main = scene.y - main_road(scene.x)
    slope = np.gradient(main_road(scene.x)[0])[None, :]
    off_main = (np.abs(along_main) / np.hypot(1, slope)).astype(np.float32)
    off_street = np.abs(scene.x - street(scene.y)).astype(np.float32) * 0.95
    off_street = np.where(scene.y < main_road(scene.x), off_street, np.float32(99.0))
    worn = 0.035 * scene.patches + 0.03 * scene.clumps + 0.035 * scene.grain
    track = np.abs(scene.y - 318 - 0.1 * scene.x - 12 * np.sin(scene.x / 170)).astype(np.float32)
    track = np.where(scene.x < street(scene.y) - 219, track, np.float32(99.0))
    ruts = np.abs(track - 4.5) - 2.2 - 0.8 * scene.clumps
    scene.paint(soft(ruts.astype(np.float32), 1.2), (0.58, 0.52, 0.42), WHOLE, worn)
    bridge = np.where(np.abs(scene.x - stream(main_road(scene.x))) < 62, off_main - 20.0, 9.0).astype(np.float32)
    scene.paint(soft(np.roll(bridge, (-9, -9), (0, 1)), 2.0) * 0.6, (0.04, 0.06, 0.07))
    scene.paint(soft(bridge, 1.0), (0.66, 0.65, 0.62), WHOLE, worn)
    scene.paint(soft(off_main - 17.5 - scene.clumps, 2.0), (0.50, 0.47, 0.37), WHOLE, worn)
    for distance, half, colour in ((off_street, 18.0, (0.56, 0.55, 0.53)), (off_street, 11.5, (0.42, 0.42, 0.43)),
                                   (off_main, 14.0, (0.40, 0.40, 0.415))):  # fmt: skip
        scene.paint(soft(distance - half, 0.9), colour, WHOLE, worn)
    wheels = 0.04 * (np.cos(off_main * 2 * np.pi / 7.0)) * (off_main < 12)
    scene.light *= (1 - wheels)[..., None]
    dash = ((scene.x % 48) < 20) & (np.abs(along_main) < 0.8)
    edge = np.abs(off_main - 12.3) < 0.6
    scene.paint((0.75 * (dash | edge)).astype(np.float32), (0.86, 0.86, 0.84))
    on_road = (off_main < 20) | (off_street < 16)
    scene.truth[on_road | (bridge < 0) | (track < 8)] = 0
    scene.built |= on_road | (track < 10)


@dataclass(frozen=True)
class _House:
    row: float
    col: float
    length: float  # Pixels, along the ridge.
    width: float
    angle: float
    height: float
    colour: Colour
    kind: str  # gable, hip, flat
    wing: bool = False  # Of the house before it, with which it has one roof.

    def local(self, part: tuple[slice, slice]) -> tuple[Array, Array]:
        """Return where the pixels of a part lie along the ridge and across it, from the middle."""
        ys, xs = np.mgrid[part].astype(np.float32)
        ys, xs = ys - self.row, xs - self.col
        along = np.cos(self.angle) * xs + np.sin(self.angle) * ys
        across = -np.sin(self.angle) * xs + np.cos(self.angle) * ys
        return along, across

    def part(self, more: float = 8.0) -> tuple[slice, slice]:
        reach = np.hypot(self.length, self.width) / 2 + more
        return _around(self.row, self.col, reach)

    def outside(self, part: tuple[slice, slice]) -> Array:
        along, across = self.local(part)
        return np.maximum(np.abs(along) - self.length / 2, np.abs(across) - self.width / 2)


def _around(row: float, col: float, reach: float) -> tuple[slice, slice]:
    low = [int(np.clip(at - reach, 0, SIDE)) for at in (row, col)]
    high = [int(np.clip(at + reach + 1, 0, SIDE)) for at in (row, col)]
    return slice(low[0], high[0]), slice(low[1], high[1])


_FARM = (  # Row, column, length, width, direction, colour, kind.
    (1325.0, 330.0, 172.0, 82.0, 0.10, (0.64, 0.65, 0.66), "gable"),
    (1300.0, 505.0, 120.0, 70.0, 1.67, (0.45, 0.29, 0.23), "gable"),
    (1418.0, 372.0, 96.0, 60.0, 0.10, (0.60, 0.34, 0.25), "gable"),
    (1428.0, 520.0, 58.0, 44.0, 0.10, (0.68, 0.36, 0.25), "hip"),
)


def _houses(scene: _Scene) -> list[_House]:
    """Place houses along the street with their drives, terraces and sheds, and a farm by the main road."""
    houses: list[_House] = []
    for side in (-1, 1):
        for plot in range(7):
            houses += _plot(scene, plot, side)
    _farmyard(scene)
    for row, col, length, width, angle, colour, kind in _FARM:
        houses.append(_House(row, col, length, width, angle, 30.0, colour, kind))
    for house in houses:
        part = house.part()
        scene.built[part] |= house.outside(part) < 5
    return houses


def _plot(scene: _Scene, plot: int, side: int) -> list[_House]:
    """Place what stands on one plot: the house, often with a wing across it, and a shed."""
    rng = scene.rng
    row = 218.0 + 118 * plot + 4.5 * side + float(rng.normal(0, 5))
    col = float(street(row)) + side * float(rng.uniform(78, 104))
    lean = float(np.arctan(street(row + 1) - street(row)))
    angle = np.pi / 2 - lean if (plot + side) % 3 else -lean
    length, narrow = float(rng.uniform(46, 60)), float(rng.uniform(0.62, 0.78))
    colour = _ROOFS[int(rng.integers(len(_ROOFS)))]
    house = _House(row, col, length, length * narrow, angle, 26.0, colour, "hip" if rng.random() < 0.25 else "gable")
    houses = [house]
    _drive(scene, house, side)
    if rng.random() < 0.5:
        across, width = angle + np.pi / 2, 0.62 * house.width
        out = width if rng.random() < 0.5 else -width
        at = {"row": row + out * np.cos(angle), "col": col - out * np.sin(angle), "angle": across}
        houses.append(replace(house, **at, length=0.8 * house.width, width=width, height=20.0, wing=True))
    if rng.random() < 0.65:
        away = float(rng.choice([-1, 1]) * rng.uniform(6, 14))
        back = float(street(row)) + side * float(rng.uniform(158, 186))
        turned = angle + float(rng.normal(0, 0.05))
        houses.append(_House(row + away, back, 21.0, 15.0, turned, 10.0, (0.55, 0.53, 0.50), "flat"))
    return houses


def _farmyard(scene: _Scene) -> None:
    """Pave the yard of the farm and the way to it."""
    yard = (
        np.maximum(np.abs(scene.y - 1368) - 100, np.abs(scene.x - 425) - 165).astype(np.float32)
        + 14 * scene.patches
        + 3 * scene.clumps
    )
    way = np.maximum(np.abs(scene.x - 428) - 13, np.abs(scene.y - 1210) - 110).astype(np.float32) + 2 * scene.clumps
    ground = np.minimum(yard, np.where(scene.y > main_road(scene.x), way, np.float32(9.0)))
    texture = 0.06 * scene.patches + 0.05 * scene.clumps + 0.05 * scene.grain
    scene.paint(soft(ground, 4.0), (0.56, 0.53, 0.46), WHOLE, texture)
    scene.truth[ground < 0] = 0


def _drive(scene: _Scene, house: _House, side: int) -> None:
    """Draw the paved drive from the street and the terrace behind a house."""
    rng, kerb = scene.rng, float(street(house.row)) + side * 17
    row = house.row + float(rng.choice([-1, 1])) * house.width * 0.8
    low, high = sorted((kerb, house.col))
    part = (slice(int(row) - 10, int(row) + 11), slice(int(low), int(high)))
    height, width = scene.truth[part].shape
    across = np.abs(np.arange(height) - 10.0)[:, None] - 8.5 + np.zeros(width)
    grey = float(rng.uniform(0.5, 0.66))
    texture = (0.05 * scene.clumps + 0.03 * scene.grain)[part]
    scene.paint(soft(across.astype(np.float32), 1.0), (grey, grey * 0.97, grey * 0.92), part, texture)
    scene.built[part] = True
    back = house.col + side * house.length * 0.55
    part = _around(house.row, back, 15.0)
    grey = float(rng.uniform(0.55, 0.72))
    everywhere = np.ones(scene.truth[part].shape, np.float32)
    scene.paint(everywhere, (grey, grey * 0.95, grey * 0.88), part, 0.04 * scene.clumps[part])


@dataclass(frozen=True)
class _Tree:
    row: float
    col: float
    radius: float
    colour: Colour


def _trees(scene: _Scene) -> list[_Tree]:
    """Plant trees along the river, in the gardens, in a copse and along some borders of fields."""
    rng, trees = scene.rng, []
    strip, water = scene.strip, scene.water
    village = (np.abs(scene.x - street(scene.y)) < 215) & (np.abs(scene.y - 590) < 420)
    copse = np.hypot(scene.y - 150, scene.x - 1010) + 26 * scene.patches < 135
    chance = np.where((water > 10) & (water < 34), 0.85, 0.0)
    chance = np.where((strip < 8) & (scene.wide > 0.1) & ~village, 0.75, chance)
    chance = np.where(village, 0.16, chance)
    chance = np.where(copse, 1.0, chance)
    taken: list[tuple[float, float, float]] = []
    for _ in range(5200):
        row, col = rng.uniform(0, SIDE, 2)
        if rng.random() > chance[int(row), int(col)]:
            continue
        radius = float(np.clip(rng.lognormal(np.log(13), 0.32), 5, 24)) * (0.75 if village[int(row), int(col)] else 1.0)
        part = _around(row, col, radius * 0.75)
        if scene.built[part].any() or any(np.hypot(r - row, c - col) < 0.72 * (q + radius) for r, c, q in taken):
            continue
        taken.append((row, col, radius))
        green = np.array([0.19, 0.28, 0.13]) * rng.normal(1, 0.13) + np.array([0.07, 0.02, 0.0]) * rng.random() ** 2
        trees.append(_Tree(row, col, radius, (float(green[0]), float(green[1]), float(green[2]))))
    return trees


def _shadows(scene: _Scene, houses: list[_House], trees: list[_Tree]) -> None:
    """Darken the ground behind what stands on it: shadows are blue, for the sky still lights them."""
    shade = np.zeros((SIDE, SIDE), np.float32)
    for house in houses:
        length = house.height * _SHADOW_LENGTH
        part = house.part(length + 6)
        for share in np.linspace(0.1, 1, 9):
            moved = replace(house, row=house.row - _SUN[0] * length * share, col=house.col - _SUN[1] * length * share)
            if house.kind != "flat" and share > 0.8:
                moved = replace(moved, width=house.width * 0.5)
            shade[part] = np.maximum(shade[part], soft(moved.outside(part), 1.0))
    for tree in trees:
        length = 1.15 * tree.radius * _SHADOW_LENGTH
        row, col = tree.row - _SUN[0] * length, tree.col - _SUN[1] * length
        part = _around(row, col, tree.radius + 5)
        ys, xs = np.mgrid[part].astype(np.float32)
        distance = np.hypot(ys - row, xs - col) - tree.radius + 1.6 * scene.clumps[part]
        shade[part] = np.maximum(shade[part], soft(distance, 1.6))
    dark = 1 - shade[..., None] * np.array([0.66, 0.62, 0.54], np.float32)
    scene.light *= dark


def _cars(scene: _Scene) -> None:
    """Put a few cars on the roads and drives, each with its windows and its shadow."""
    rng = scene.rng
    colours = ((0.85, 0.85, 0.86), (0.15, 0.16, 0.18), (0.55, 0.12, 0.11), (0.62, 0.64, 0.66), (0.16, 0.24, 0.42))
    places = [
        (float(main_road(x)) + lane, x, 0.0) for x, lane in ((180.0, 6.5), (760.0, -6.5), (955.0, 6.5), (1400.0, -6.5))
    ]
    places += [(y, float(street(y)) + lane, np.pi / 2) for y, lane in ((300.0, 9.0), (640.0, -9.0), (845.0, 9.0))]
    for row, col, angle in places:
        car = _House(
            row, col, 18.0, 7.4, angle + rng.normal(0, 0.03), 6.0, colours[int(rng.integers(len(colours)))], "flat"
        )
        part = car.part(10)
        shadow = replace(car, row=row - 2.6, col=col - 2.6)
        scene.paint(0.7 * soft(shadow.outside(part), 1.0), (0.06, 0.06, 0.08), part)
        scene.paint(soft(car.outside(part), 0.8), car.colour, part)
        along, across = car.local(part)
        glass = (np.abs(np.abs(along) - 4.2) < 1.2) & (np.abs(across) < 2.9)
        scene.paint((0.8 * glass).astype(np.float32), (0.07, 0.08, 0.10), part)


def _draw_house(scene: _Scene, house: _House) -> None:
    """Draw a roof: each side as bright as the sun falls on it, with its tiles, ridge, gutter and what stands on it."""
    rng, part = scene.rng, house.part()
    along, across = house.local(part)
    outside = house.outside(part)
    normal = np.array([np.cos(house.angle), -np.sin(house.angle)])  # Of the side where `across` is positive: row, col.
    facing = float(normal @ _SUN)
    if house.kind == "flat":
        light = np.full(outside.shape, 1.0, np.float32)
    else:
        light = np.where(across > 0, 0.86 + 0.34 * facing, 0.86 - 0.34 * facing).astype(np.float32)
    if house.kind == "hip":
        end = np.abs(along) - (house.length - house.width) / 2 > np.abs(across)
        ends = float(np.array([np.sin(house.angle), np.cos(house.angle)]) @ _SUN)
        light = np.where(end, 0.86 + 0.34 * ends * np.sign(along), light).astype(np.float32)
    tiles = 0.05 * np.sin(across * 2.4) if house.length < 90 else 0.07 * np.sin(along * 1.3)
    stains = 0.05 * scene.clumps[part] + 0.05 * scene.patches[part] + 0.03 * scene.grain[part]
    gutter = -0.22 * np.clip(1 - np.abs(outside + 1.2) / 1.2, 0, 1)
    ridge = 0.12 * np.clip(1 - np.abs(across) / 1.3, 0, 1) if house.kind == "gable" else np.zeros_like(tiles)
    scene.paint(soft(outside, 0.8), house.colour, part, light * (1 + tiles + stains + gutter + ridge) - 1)
    label = len(scene.names) if house.wing else scene.new("roof")
    scene.truth[part][outside < 0] = label
    if house.kind == "gable" and house.length > 40:
        _on_the_roof(scene, house, part, facing, rng)


def _on_the_roof(
    scene: _Scene, house: _House, part: tuple[slice, slice], facing: float, rng: np.random.Generator
) -> None:
    """Draw a chimney with its shadow, skylights, and on some roofs solar panels on the sunny side."""
    along, across = house.local(part)
    sunny = 1.0 if facing > 0 else -1.0
    if house.length < 90:
        place = float(rng.uniform(-0.3, 0.3)) * house.length
        for (da, dc), size, colour in (
            ((-2.5, -2.5 * sunny), 2.6, (0.10, 0.08, 0.08)),
            ((0, 0), 2.2, (0.55, 0.42, 0.36)),
        ):
            block = np.maximum(np.abs(along - place - da), np.abs(across - 3 * sunny - dc)) - size
            scene.paint(0.85 * soft(block, 0.7), colour, part)
    if rng.random() < 0.4:
        half = house.length * float(rng.uniform(0.2, 0.36))
        panel = np.maximum(np.abs(along) - half, np.abs(across - sunny * house.width * 0.27) - house.width * 0.15)
        lines = ((along % 6.4) < 0.8) | (((across * 1.0) % 8.0) < 0.7)
        scene.paint(0.92 * soft(panel, 0.6), (0.09, 0.11, 0.19), part)
        scene.paint(0.35 * (lines & (panel < 0)).astype(np.float32), (0.45, 0.48, 0.55), part)
    else:
        for place in (-0.24, 0.2):
            window = np.maximum(
                np.abs(along - place * house.length) - 2.4, np.abs(across - sunny * house.width * 0.25) - 3.2
            )
            scene.paint(0.8 * soft(window, 0.7), (0.22, 0.26, 0.31), part)


def _draw_tree(scene: _Scene, tree: _Tree) -> None:
    """Draw a crown as a heap of leaves: bright towards the sun, dark away from it and between its branches."""
    part = _around(tree.row, tree.col, tree.radius + 5)
    ys, xs = np.mgrid[part].astype(np.float32)
    ys, xs = (ys - tree.row) / tree.radius, (xs - tree.col) / tree.radius
    away = np.hypot(ys, xs)
    leaves = scene.clumps[part]
    outside = (away - 1) * tree.radius + 2.0 * leaves
    height = np.sqrt(np.clip(1.1 - away**2, 0, None))
    sun = 0.62 * (ys * _SUN[0] + xs * _SUN[1]) + 0.5 * height
    ruffle = scene.leaf_light[part]
    light = 0.62 + 0.75 * sun + 0.30 * ruffle + 0.07 * scene.grain[part]
    scene.paint(soft(outside, 1.1), tree.colour, part, np.clip(light, 0.25, 2.2).astype(np.float32) - 1)
    scene.truth[part][outside < 0] = 0


def _as_photograph(scene: _Scene) -> NDArray[np.uint8]:
    """Return what a camera makes of the light: a little haze and blur, noise, the curve of a display."""
    light = scene.light * 0.93 + np.array([0.018, 0.024, 0.034], np.float32)
    light *= (1 + 0.035 * scene.wide)[..., None]
    blurred = ndimage.gaussian_filter(light, (0.62, 0.62, 0))
    blurred += 0.008 * scene.rng.standard_normal(blurred.shape, dtype=np.float32)
    curve = np.clip(blurred, 0, 1) ** 0.92
    return np.asarray(curve * 255 + 0.5, np.uint8)
