"""Describe objects that nobody proposed, such as accepted ones, as a search would describe them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.masks import Mask, iou
from napari_sam.core.tiles import Tile
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposing.levels import levels_for
from napari_sam.everything.sweep import Sweep
from napari_sam.similarity.descriptors import described

# A proposal with at least this IoU with an object is that object, found by a search.
SAME = 0.7
# Objects are described on the levels for objects this many times smaller and larger: seldom is one proposed on others.
SIZES = 1.7


def describe_objects(
    encoder: TileEncoder, sweep: Sweep, masks: Sequence[Mask], found: FoundObjects | None = None
) -> tuple[NDArray[np.float16], NDArray[np.intp]]:
    """Describe objects of one plane, on each level on which a search for similar ones usually proposes them.

    An encoder sees the same object differently at another magnification: described on one level only, two kinds that
    were proposed on different levels were told apart by their levels (16 of 34 objects of two obvious kinds wrong).

    Parameters
    ----------
    encoder
        Encoder of the volume. Each tile with an object is encoded once.
    sweep
        A search of the plane, which says where the tiles lie.
    masks
        The objects; not empty.
    found
        What a search has found: for objects among it nothing is encoded.

    Returns
    -------
    descriptors : numpy.ndarray
        Shape (m, width), float16; see `DescriptorLayout`. The width is 0 for a model whose features cannot be compared.
    numbers : numpy.ndarray
        Shape (m,): the number of the object that each describes, in rising order; each occurs at least once.

    Raises
    ------
    ImageError
        A tile cannot be read.
    """
    known = [[] if found is None else _known(found, mask) for mask in masks]
    by_tile: dict[Tile, list[int]] = defaultdict(list)
    for at, mask in enumerate(masks):
        for tile in () if known[at] else _tiles_of(sweep, mask):
            by_tile[tile].append(at)
    searched = {tile for tile, numbers in by_tile.items() if _recall(sweep, tile, masks, numbers, known)}
    predictor = encoder.predictor
    for tile, here in by_tile.items():
        # Where an earlier search has looked and not found it on this level, it does not propose it there either.
        numbers = [at for at in here if not (known[at] and tile in searched)]
        if not numbers:
            continue
        rendered = sweep.render(tile)
        (embedding,) = predictor.encode(rendered[None])
        values = described(predictor, embedding, rendered, tile, [masks[at] for at in numbers])
        for at, value in zip(numbers, values, strict=True):
            known[at].append(value)
    counts = [len(values) for values in known]
    return np.stack([value for values in known for value in values]), np.repeat(np.arange(len(masks)), counts)


def _recall(
    sweep: Sweep, tile: Tile, masks: Sequence[Mask], numbers: Sequence[int], known: list[list[NDArray[np.float16]]]
) -> bool:
    """Add the descriptors of objects that an earlier search has proposed on a tile; return whether there was one."""
    before = sweep.known(tile)
    if before is None:
        return False
    there = FoundObjects(sweep.plane, before)
    for at in numbers:
        known[at] += _known(there, masks[at])
    return True


def _known(found: FoundObjects, mask: Mask) -> list[NDArray[np.float16]]:
    """Return the descriptors of the proposals that outline the same as a mask: of each level the best one."""
    boxes, box = found.boxes, mask.box
    meets = (boxes[:, 0] < box.bottom) & (boxes[:, 2] > box.top) & (boxes[:, 1] < box.right) & (boxes[:, 3] > box.left)
    best: dict[int, tuple[float, int]] = {}
    for i in np.flatnonzero(meets).tolist():
        proposal = found.mask(i)
        union = proposal.box.union(box)
        share = iou(proposal.in_box(union), mask.in_box(union))
        level = int(found.proposals.levels[i])
        if share >= SAME:
            best[level] = max(best.get(level, (0.0, i)), (share, i))
    return [found.proposals.descriptors[i] for _, i in best.values()]


def _tiles_of(sweep: Sweep, mask: Mask) -> list[Tile]:
    """Return the tiles on which a search would find an object of the size of a mask, one of each level."""
    rows, cols = sweep.pixel_size
    diameter = 2 * math.sqrt(max(mask.area, 1) * rows * cols / math.pi)
    row, col = mask.box.center
    levels = levels_for((diameter / SIZES, diameter * SIZES), sweep.shape)
    return [sweep.grid(level).tile_at(level, float(row), float(col)) for level in levels]
