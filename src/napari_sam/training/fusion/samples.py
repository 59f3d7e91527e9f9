"""Samples for the fusion network: what a follower sees of an object, and where the object is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, shift

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, mask_of
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.propagation.follower import Followed
from napari_sam.propagation.meeting import signed_distance
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.prompt_follower import PromptFollower, Seen
from napari_sam.propagation.propagation import Propagation
from napari_sam.segmenter import Segmenter

# Planes beyond its end in which an object is looked for.
PATIENCE = 3
# Of the states of a taught follower: share of the truth itself, the others are the truth with errors.
TRUE_SHARE = 0.4
# Planes in a row without any overlap after which a follower's own states say nothing new.
MOST_LOST = 4
LEAST_AREA = 25


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One object in one plane.

    Parameters
    ----------
    channels, scalars
        As `MaskFuser.fuse` takes them, of one object; the channels in half precision.
    truth
        Shape (cells, cells), float16: share of each cell that the object covers; all 0 where it is not in the plane.
    is_inside
        Shape (cells, cells), bool: which cells lie in the plane.
    subset
        Subset of its image.
    """

    channels: NDArray[np.float16]
    scalars: NDArray[np.float32]
    truth: NDArray[np.float16]
    is_inside: NDArray[np.bool_]
    subset: str


@dataclass
class SampledFollower(PromptFollower):
    """A follower that keeps what it sees as samples.

    Parameters
    ----------
    truth
        The object in each plane, shape (planes, rows, cols), bool.
    subset
        Subset of the volume.
    rng
        Random numbers for a taught follower, which goes on from the truth or from the truth with errors; None for one
        that goes on from its own masks.
    samples
        Where samples are added.
    """

    truth: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0, 0), bool))
    subset: str = ""
    rng: np.random.Generator | None = None
    samples: list[Sample] = field(default_factory=list)
    _lost: int = field(default=0, init=False)

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Follow as usual; a taught follower is put right, or a little wrong, afterwards."""
        found = super().follow(at, plane, labels)
        if self.rng is None:
            return found
        truth = mask_of(self.truth[at])
        taught = truth if truth.area == 0 or self.rng.random() < TRUE_SHARE else wronged(truth, self.rng, plane, self)
        for label in labels:
            if taught.area:
                self.put_right(label, plane, taught)
            found[label] = Followed(taught, 1.0)
        return found

    def _seen(self, label: int, at: int, plane: Plane, grid: TileGrid, tile: Tile) -> Seen | None:
        seen = super()._seen(label, at, plane, grid, tile)
        if seen is not None and self._lost < MOST_LOST:
            truth = seen.window.coverage(mask_of(self.truth[at]))
            self.samples.append(
                Sample(
                    seen.channels.astype(np.float16),
                    seen.scalars,
                    truth.astype(np.float16),
                    seen.window.is_inside(grid.shape),
                    self.subset,
                )
            )
            overlaps = bool((truth * seen.window.coverage(self.last_mask(label))).any())
            self._lost = 0 if overlaps else self._lost + 1
        return seen


def samples_of(
    segmenter: Segmenter,
    stack: PlaneStack,
    truth: NDArray[np.bool_],
    make: Callable[[int], SampledFollower],
    rng: np.random.Generator,
) -> Iterator[Sample]:
    """Yield the samples of one object that is followed from one true mask.

    Parameters
    ----------
    segmenter
        Image and model.
    stack
        The planes.
    truth
        The object, shape (planes, rows, cols), bool.
    make
        Returns a follower for a direction.
    rng
        Chooses the first plane: the largest one, or another large one.
    """
    areas = truth.sum((1, 2))
    large = np.flatnonzero(areas >= max(LEAST_AREA, 0.3 * areas.max()))
    large = large[(large >= stack.first) & (large <= stack.last)]
    if not len(large):
        return
    start = int(rng.choice(large)) if rng.random() < 0.5 else int(large[areas[large].argmax()])
    followers: list[SampledFollower] = []

    def follower(direction: int) -> SampledFollower:
        followers.append(make(direction))
        return followers[-1]

    for _ in Propagation(stack, {1: {start: mask_of(truth[start])}}, follower, PATIENCE).run():
        pass
    for each in followers:
        yield from each.samples


def wronged(mask: Mask, rng: np.random.Generator, plane: Plane, follower: PromptFollower) -> Mask:
    """Return a mask with errors as a decoder makes them: moved, larger or smaller, and with another outline."""
    shape, extent = plane.shape_in(follower.encoder.volume.shape), mask.box.extent
    box = mask.box.grown(int(extent * 0.4) + 3)
    pixels = mask.in_box(box)
    distance = signed_distance(pixels)
    noise = gaussian_filter(rng.normal(size=distance.shape), max(extent * rng.uniform(0.03, 0.15), 0.7))
    distance += noise / (noise.std() + 1e-6) * extent * rng.uniform(0, 0.06) + extent * rng.normal() * 0.04
    distance = shift(distance, rng.normal(size=2) * extent * 0.04, order=1, mode="nearest")
    inside = box.intersection(Box.of_shape(shape))
    wrong = Mask(inside, distance[inside.moved(-box.top, -box.left).slices] > 0).tightened()
    return wrong if wrong.area else mask
