"""A CT of an abdomen that is made on the spot: organs that change from slice to slice, in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.samples.cells import MadeImage, smooth_noise, soft

SHAPE = (48, 288, 288)
SPACING_MM = (5.0, 1.25, 1.25)
NAMES = ("liver", "spleen", "right kidney", "left kidney", "stomach", "gallbladder", "aorta", "vena cava", "spine",
         "right lung", "left lung")  # fmt: skip

Array = NDArray[Any]
Point = tuple[float, float, float]


def ct(seed: int = 5) -> MadeImage:
    """Make an abdomen in the portal venous phase, from the base of the lungs to the lower poles of the kidneys.

    Returns
    -------
    MadeImage
        Image (48, 288, 288) int16 in Hounsfield units, axes from head to foot, front to back and the patient's right to
        left, spacing 5.0 x 1.25 x 1.25 mm; the truth labels the organs of `NAMES`.
    """
    rng = np.random.default_rng(seed)
    body = _Body(rng)
    for draw in (_wall, _chest, _bowel, _stomach, _liver, _spleen, _kidneys, _spine, _vessels):
        draw(body)
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), (0, 0.75, 0.75))
    image = ndimage.gaussian_filter(body.hounsfield, (0.25, 0.75, 0.75))  # The scanner's own blur.
    image += noise * (11.0 / noise.std()) * np.where(body.outside < 0, 1.0, 0.5)
    truth = body.truth
    return MadeImage(np.clip(np.rint(image), -1024, 3071).astype(np.int16), truth, dict(enumerate(NAMES, start=1)))


class _Body:
    """The volume while it is drawn, in millimetres from the top slice and from the middle of the image."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.hounsfield = np.full(SHAPE, -1000.0, np.float32)
        self.truth = np.zeros(SHAPE, np.int32)
        depth, height, width = (np.arange(n, dtype=np.float32) * s for n, s in zip(SHAPE, SPACING_MM, strict=True))
        self.z = depth[:, None, None]
        self.y = (height - height.mean())[None, :, None]
        self.x = (width - width.mean())[None, None, :]
        scale = (9.0, 24.0, 24.0)
        self.dz, self.dy, self.dx = (smooth_noise(rng, SHAPE, scale) * size for size in (4.0, 3.6, 3.6))
        self.rough = smooth_noise(rng, SHAPE, (3.0, 6.0, 6.0))
        self.fine = smooth_noise(rng, SHAPE, (1.2, 2.2, 2.2))
        self.outside = self.ellipsoid((120.0, 0.0, 0.0), (900.0, 112.0, 163.0), warp=0.5)

    def ellipsoid(
        self, centre: Point, radii: Point, warp: float = 1.0, part: tuple[slice, slice, slice] | None = None
    ) -> Array:
        """Return about how far outside an ellipsoid, bent as soft tissue is, each voxel lies: millimetres."""
        part = part or (slice(None),) * 3
        z = (self.z[part[0]] + warp * self.dz[part] - centre[0]) / radii[0]
        y = (self.y[:, part[1]] + warp * self.dy[part] - centre[1]) / radii[1]
        x = (self.x[:, :, part[2]] + warp * self.dx[part] - centre[2]) / radii[2]
        return np.asarray((np.sqrt(z * z + y * y + x * x) - 1) * min(radii), np.float32)

    def near(self, centre: Point, reach: Point) -> tuple[slice, slice, slice]:
        """Return the part of the volume around a place."""
        middle = (0.0, (SHAPE[1] - 1) / 2, (SHAPE[2] - 1) / 2)
        slices = []
        for at, around, step, zero, length in zip(centre, reach, SPACING_MM, middle, SHAPE, strict=True):
            low, high = zero + (at - around) / step, zero + (at + around) / step
            slices.append(slice(max(0, min(length, int(low))), max(0, min(length, int(high) + 2))))
        return slices[0], slices[1], slices[2]

    def blob(
        self, centre: Point, radii: Point, value: float, name: str = "", warp: float = 1.0, border: float = 0.8
    ) -> None:
        """Draw an ellipsoid of one tissue."""
        part = self.near(centre, tuple(radius + 16.0 for radius in radii))  # type: ignore[arg-type]
        self.fill(self.ellipsoid(centre, radii, warp, part), value, name, border, part)

    def fill(
        self,
        distance: Array,
        value: float | Array,
        name: str = "",
        border: float = 0.8,
        part: tuple[slice, slice, slice] | None = None,
    ) -> None:
        """Fill where a distance is below 0 with a tissue, mixed with what is there at its border."""
        part = part or (slice(None),) * 3
        touched = np.nonzero(distance < border)
        there, before = distance[touched], self.hounsfield[part][touched]
        tissue = value[touched] if isinstance(value, np.ndarray) else value
        self.hounsfield[part][touched] = before + soft(there, border) * (tissue - before)
        self.truth[part][tuple(axis[there < 0] for axis in touched)] = NAMES.index(name) + 1 if name else 0

    def tube(self, path: Sequence[tuple[Point, float]], value: float, name: str = "", flat: float = 1.0) -> None:
        """Draw a vessel along places with radii, in millimetres."""
        for (start, first), (end, last) in pairwise(path):
            steps = max(2, int(np.linalg.norm(np.subtract(end, start)) / (0.55 * min(first, last))))
            for share in np.linspace(0, 1, steps):
                radius = first + share * (last - first)
                centre = tuple(float(a + share * (b - a)) for a, b in zip(start, end, strict=True))
                part = self.near(centre, (max(radius, 2.6) + 1,) * 3)  # type: ignore[arg-type]
                radii = (max(radius, 2.6), radius, radius * flat)
                self.fill(self.ellipsoid(centre, radii, 0.0, part), value, name, 0.7, part)  # type: ignore[arg-type]


def _wall(body: _Body) -> None:
    """Draw skin, fat under the skin, the muscles of the wall and the fat around the organs."""
    flank = 1 + 0.25 * (body.x / 163.0) ** 2
    body.fill(body.outside, -104.0 + 9 * body.fine)
    body.fill(np.abs(body.outside + 0.8) - 0.9, 20.0)
    muscle = body.outside + 15.0 * flank + 1.5 * body.rough
    body.fill(muscle, 58.0 + 5 * body.fine + 5 * np.cos(body.outside * 1.5) - 45 * np.clip(body.rough - 1.3, 0, 1))
    inner = np.maximum(muscle + 11.0, 0.85 * (body.y - 52.0 - 12 * np.abs(body.x / 60.0) ** 2 * (body.y > 0)))
    body.fill(np.asarray(inner), -98.0 + 10 * body.fine + 6 * body.rough)
    for side in (-1, 1):
        body.blob((120.0, 76.0, side * 34.0), (700.0, 20.0, 27.0), 60.0, warp=0.6)
        body.blob((262.0, 48.0, side * 34.0), (140.0, 21.0, 17.0), 62.0, warp=0.5)
    body.blob((120.0, 84.0, 0.0), (700.0, 17.0, 3.0), -80.0, warp=0.5)
    table = np.hypot(body.x / 1.6, body.y + 150.0) - 268.0
    body.fill(np.broadcast_to(np.abs(table) - 1.3, SHAPE).astype(np.float32), -420.0)
    _ribs(body)


def _ribs(body: _Body) -> None:
    """Draw ribs: arches that run down from the back to the front, each cut a piece at a time by a slice."""
    for number in range(9):
        for side in (-1, 1):
            path = []
            for turn in np.linspace(0.25, 2.35 - 0.12 * number, 14):
                y = 88.0 * np.cos(turn) - 1.0
                x = side * 139.0 * np.sin(turn)
                path.append(((-42.0 + 26.0 * number + 38.0 * turn, float(y), float(x)), 4.6))
            body.tube(path, 520.0, flat=0.8)
            body.tube([(place, 2.6) for place, _ in path], 230.0)


def _chest(body: _Body) -> None:
    """Draw what of the lungs reaches down behind and above the domes of the diaphragm, and the heart."""
    for side, name in ((-1, "right lung"), (1, "left lung")):
        part = body.near((0.0, 6.0, side * 74.0), (110.0, 96.0, 72.0))
        lung = body.ellipsoid((-30.0, 6.0, side * 74.0), (118.0, 78.0, 54.0), 0.6, part)
        dome = body.ellipsoid((112.0, -18.0, side * 66.0), (84.0 if side < 0 else 78.0, 84.0, 66.0), 0.4, part)
        texture = 16 * body.fine[part] + 12 * body.rough[part]
        body.fill(np.maximum(lung, -dome), -858.0 + texture, name, part=part)
        for _ in range(70):
            y, x = body.rng.uniform(-58, 66), side * body.rng.uniform(34, 116)
            z = body.rng.uniform(-8, 60)
            end = (z + body.rng.uniform(8, 22), y + body.rng.normal(0, 10), x + side * body.rng.uniform(-2, 12))
            _vessel_in(body, (z, y, x), end, float(body.rng.uniform(0.8, 2.1)), NAMES.index(name) + 1)
    body.blob((-14.0, -40.0, 14.0), (46.0, 42.0, 54.0), 108.0, warp=0.7)  # The heart and its chambers.
    body.blob((-14.0, -30.0, 33.0), (38.0, 20.0, 21.0), 168.0, warp=1.0)
    body.blob((-14.0, -56.0, -4.0), (38.0, 14.0, 27.0), 158.0, warp=1.0)


def _vessel_in(body: _Body, start: Point, end: Point, radius: float, label: int) -> None:
    """Draw a thin vessel where the tissue of one label is, of which it remains a part."""
    for share in np.linspace(0, 1, 9):
        centre = tuple(float(a + share * (b - a)) for a, b in zip(start, end, strict=True))
        thick = radius * (1 - 0.6 * share)
        part = body.near(centre, (5.0, thick + 2, thick + 2))  # type: ignore[arg-type]
        distance = body.ellipsoid(centre, (4.0, thick, thick), 0.0, part)  # type: ignore[arg-type]
        share_of = soft(distance, 0.8) * (body.truth[part] == label)
        target = 170.0 if label == NAMES.index("liver") + 1 else 30.0
        body.hounsfield[part] += share_of * (target - body.hounsfield[part])


def _bowel(body: _Body) -> None:
    """Draw loops of bowel, some with contrast medium, some with air, in the fat of the front."""
    rng = body.rng
    for _ in range(105):
        centre = (float(rng.uniform(105, 245)), float(rng.uniform(-64, 12)), float(rng.uniform(-78, 84)))
        if centre[0] < 165 and centre[2] < 12:
            continue  # There is the liver.
        radius = float(rng.uniform(9, 15))
        radii = (radius * float(rng.uniform(0.9, 1.7)), radius, radius * float(rng.uniform(0.9, 1.6)))
        body.blob(centre, radii, 72.0)
        content = float(rng.choice([28.0, 34.0, 45.0, 190.0], p=[0.4, 0.25, 0.2, 0.15]))
        inner = (radii[0] - 3.0, radii[1] - 2.8, radii[2] - 2.8)
        body.blob(centre, inner, content)
    for side, first in ((-1, 160.0), (1, 90.0)):  # The colon, with its gas in front.
        for z in np.arange(first, 250.0, 15.0):
            place = (float(z), float(2 + 9 * np.sin(z / 21.0)), side * float(104 + 5 * np.cos(z / 17.0)))
            body.blob(place, (13.0, 18.0, 16.0), 62.0)
            body.blob(place, (10.5, 15.5, 13.5), 12.0)
            body.blob((place[0], place[1] - 5.0, place[2]), (8.5, 8.5, 11.0), -930.0, border=1.0)
    for _ in range(60):  # Vessels of the fat between the loops.
        start = (float(rng.uniform(120, 240)), float(rng.uniform(-55, 15)), float(rng.uniform(-70, 80)))
        end = (
            start[0] + float(rng.uniform(-16, 16)),
            start[1] + float(rng.normal(0, 9)),
            start[2] + float(rng.normal(0, 9)),
        )
        body.tube([(start, 2.0), (end, 1.2)], 120.0)


def _stomach(body: _Body) -> None:
    """Draw the stomach: its wall, what was eaten, and the air that lies in front of it."""
    centre, radii = (86.0, -36.0, 62.0), (62.0, 34.0, 47.0)
    body.blob(centre, radii, 78.0, "stomach")
    part = body.near(centre, (78.0, 50.0, 63.0))
    inner = body.ellipsoid(centre, (57.0, 29.0, 42.0), 1.0, part)
    body.fill(inner, (24.0 + 16 * body.rough + 10 * body.fine)[part], "stomach", 0.8, part)
    air = np.maximum(inner, body.y[:, part[1]] + 50.0)
    body.fill(np.asarray(air), -960.0, "stomach", 0.9, part)


def _liver(body: _Body) -> None:
    """Draw the liver with its veins and the gallbladder in the bed under it."""
    part = body.near((98.0, -10.0, -45.0), (105.0, 90.0, 115.0))
    right = body.ellipsoid((98.0, -4.0, -74.0), (88.0, 76.0, 68.0), 1.0, part)
    left = body.ellipsoid((72.0, -48.0, -4.0), (46.0, 26.0, 60.0), 1.0, part)
    hollow = body.ellipsoid((118.0, 22.0, 6.0), (92.0, 52.0, 62.0), 0.8, part)
    bed = body.ellipsoid((190.0, -14.0, -38.0), (62.0, 34.0, 32.0), 0.8, part)
    distance: Array = np.maximum.reduce([np.minimum(right, left), -hollow, -bed, body.outside[part] + 26.0])
    distance = np.where(body.truth[part] == NAMES.index("right lung") + 1, np.maximum(distance, 1.0), distance)
    body.fill(distance, 112.0 + 3 * body.fine[part] + 2 * body.rough[part], "liver", part=part)
    label = NAMES.index("liver") + 1
    gate, hollow_vein = (112.0, -6.0, -34.0), (34.0, 14.0, -26.0)
    for root, count in ((gate, 15), (hollow_vein, 12)):
        for _ in range(count):
            z, y, x = body.rng.uniform(20, 165), body.rng.uniform(-55, 50), body.rng.uniform(-118, -38)
            middle = ((root[0] + z) / 2, (root[1] + y) / 2 + body.rng.normal(4, 11), (root[2] + x) / 2)
            _branch(body, root, middle, 4.6, label)
            _branch(body, middle, (z, y, x), 2.9, label)
    body.blob((148.0, -36.0, -50.0), (33.0, 15.0, 17.0), 62.0)
    body.blob((148.0, -36.0, -50.0), (31.0, 13.0, 15.0), 9.0, "gallbladder")
    body.blob((92.0, -6.0, -112.0), (11.0, 10.5, 12.0), 14.0, warp=0.5)
    body.truth[part][(body.truth[part] == 0) & (distance < -4)] = label  # A cyst is a part of its liver.


def _branch(body: _Body, start: Point, end: Point, radius: float, label: int) -> None:
    """Draw a vessel of the liver in short steps, so that no slice misses it."""
    pieces = max(2, int(np.linalg.norm(np.subtract(end, start)) / 12.0))
    places = [
        tuple(float(a + s * (b - a)) for a, b in zip(start, end, strict=True)) for s in np.linspace(0, 1, pieces + 1)
    ]
    for number, (one, two) in enumerate(pairwise(places)):
        _vessel_in(body, one, two, radius * (1 - 0.3 * number / pieces), label)  # type: ignore[arg-type]


def _spleen(body: _Body) -> None:
    """Draw the spleen under the left dome, hollow towards the stomach."""
    part = body.near((88.0, 32.0, 104.0), (72.0, 62.0, 44.0))
    whole = body.ellipsoid((88.0, 32.0, 104.0), (56.0, 47.0, 28.0), 1.0, part)
    hollow = body.ellipsoid((88.0, 6.0, 70.0), (70.0, 40.0, 29.0), 0.8, part)
    distance: Array = np.maximum.reduce([whole, -hollow, body.outside[part] + 27.0])
    body.fill(distance, 124.0 + 3 * body.fine[part] + 2 * body.rough[part], "spleen", part=part)


def _kidneys(body: _Body) -> None:
    """Draw kidneys: cortex, darker pyramids, and the fat of the sinus that opens inwards."""
    for side, top, name in ((-1, 168.0, "right kidney"), (1, 152.0, "left kidney")):
        centre = (top, 34.0, side * 68.0)
        part = body.near(centre, (75.0, 50.0, 50.0))
        around = body.ellipsoid(centre, (70.0, 42.0, 40.0), 0.8, part)
        body.fill(
            np.asarray(np.maximum(around, body.outside[part] + 30.0)), (-103.0 + 8 * body.fine)[part], "", 1.5, part
        )
        kidney = body.ellipsoid(centre, (54.0, 28.0, 25.0), 0.8, part)
        pyramids = 30.0 * np.clip(body.rough[part], -0.7, 1.0)
        value = 182.0 - np.where(kidney < -6.0, 26.0 + pyramids, 0.0) + 3 * body.fine[part]
        body.fill(kidney, np.asarray(value, np.float32), name, 0.8, part)
        sinus_at = (top, 28.0, side * 56.0)
        sinus = body.ellipsoid(sinus_at, (26.0, 7.0, 15.0), 1.0, part)
        body.fill(sinus, -70.0, "", 1.2, part)
        body.blob((top, 27.0, side * 55.0), (12.0, 3.6, 9.0), 130.0)
        body.truth[part][(kidney < -2.0) & (body.truth[part] == 0)] = NAMES.index(name) + 1


def _spine(body: _Body) -> None:
    """Draw vertebrae with their canal and processes, and the discs between them."""
    height, back = 32.0, 47.0
    part = body.near((120.0, 68.0, 0.0), (200.0, 44.0, 56.0))
    x, arch = body.x[:, :, part[2]], body.y[:, part[1]] - back
    dx, dy, fine, rough = body.dx[part], body.dy[part], body.fine[part], body.rough[part]
    phase = (body.z + 9.0) % height

    def bone(distance: Array, value: float | Array, where: Array | None = None, name: str = "spine") -> None:
        distance = (
            np.broadcast_to(distance, fine.shape) if where is None else np.where(where, distance, np.float32(9.0))
        )
        body.fill(distance, value, name, part=part)

    waist = 1 - 0.07 * np.cos((phase / height - 0.4) * 2 * np.pi)
    round_body = (np.sqrt((x / (22.5 * waist)) ** 2 + (arch / (16.5 * waist)) ** 2) - 1) * 16.0 + 0.25 * dx
    disc = np.broadcast_to(phase > 26.0, fine.shape)
    bone(round_body, np.where(disc, 84.0, 470.0).astype(np.float32))
    bone(round_body + 2.4, np.where(disc, 80.0, 205.0 + 38 * fine + 18 * rough).astype(np.float32))
    for side in (-1, 1):
        process = (np.hypot((x - side * 32.0) / 18.0, (arch - 19.0 - 0.12 * np.abs(x)) / 4.2) - 1) * 4.0
        bone(process + 0.3 * dy, 400.0, (phase > 7.0) & (phase < 20.0))
        joint = (np.hypot((x - side * 15.0) / 7.0, (arch - 25.0) / 8.0) - 1) * 7.0
        bone(joint + 0.3 * dx, 430.0 + 60 * fine)
    spinous = (np.hypot(x / 4.0, (arch - 42.0) / 15.0) - 1) * 4.0
    bone(spinous + 0.2 * dx, 360.0, phase < 22.0)
    canal = (np.hypot(x / 10.5, (arch - 23.0) / 9.0) - 1) * 9.0
    bone(canal, 18.0, name="")
    bone(canal + 3.4, 38.0, name="")


def _vessels(body: _Body) -> None:
    """Draw the aorta, the vena cava, the portal and renal vessels, and the pancreas along the splenic vein."""
    aorta = [
        ((z, 20.0 + 3 * np.sin(z / 60), 11.0 + 3 * np.cos(z / 70)), 11.0 - z / 90) for z in np.arange(-5.0, 246.0, 20.0)
    ]
    cava = [
        ((z, 18.0 - 4 * np.cos(z / 80), -21.0 + 2 * np.sin(z / 50)), 11.5 - z / 160)
        for z in np.arange(-5.0, 246.0, 20.0)
    ]
    for x, y, z in ((-14, -14, 128), (2, -19, 122), (18, -18, 116), (34, -12, 110), (52, -2, 104), (68, 8, 98)):
        body.blob((float(z), float(y), float(x)), (13.0, 10.0, 13.0), 88.0)
    body.tube(
        [
            ((112.0, -6.0, -34.0), 6.5),
            ((124.0, -6.0, -8.0), 6.5),
            ((112.0, -2.0, 36.0), 4.5),
            ((98.0, 16.0, 78.0), 4.0),
        ],
        168.0,
    )
    body.tube([((124.0, -6.0, -4.0), 5.5), ((180.0, -14.0, 0.0), 5.0), ((240.0, -18.0, 2.0), 4.0)], 165.0)
    body.tube([((130.0, 8.0, 11.0), 4.0), ((180.0, -8.0, 13.0), 3.6), ((240.0, -14.0, 14.0), 3.0)], 175.0)
    for depth, way in ((168.0, -1.0), (154.0, 1.0)):
        body.tube([((depth, 18.0, way * 12.0), 4.2), ((depth, 24.0, way * 52.0), 3.8)], 160.0)
    body.tube([(place, radius + 0.9) for place, radius in aorta], 120.0)
    body.tube(aorta, 172.0, "aorta")
    body.tube(cava, 146.0, "vena cava", 1.15)
