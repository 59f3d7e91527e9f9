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


def describe_objects(
    encoder: TileEncoder, sweep: Sweep, masks: Sequence[Mask], found: FoundObjects | None = None
) -> NDArray[np.float16]:
    """Describe objects of one plane.

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
    numpy.ndarray
        Shape (n, width), float16; see `DescriptorLayout`. The width is 0 for a model whose features cannot be compared.

    Raises
    ------
    ImageError
        A tile cannot be read.
    """
    known = [None if found is None else _known(found, mask) for mask in masks]
    by_tile: dict[Tile, list[int]] = defaultdict(list)
    for at, mask in enumerate(masks):
        if known[at] is None:
            by_tile[_tile_of(sweep, mask)].append(at)
    predictor = encoder.predictor
    for tile, numbers in by_tile.items():
        rendered = sweep.render(tile)
        (embedding,) = predictor.encode(rendered[None])
        values = described(predictor, embedding, rendered, tile, [masks[at] for at in numbers])
        for at, value in zip(numbers, values, strict=True):
            known[at] = value
    return np.stack([np.asarray(value, np.float16) for value in known])


def _known(found: FoundObjects, mask: Mask) -> NDArray[np.float16] | None:
    """Return the descriptor of the proposal that outlines the same as a mask, or None."""
    boxes, box = found.boxes, mask.box
    meets = (boxes[:, 0] < box.bottom) & (boxes[:, 2] > box.top) & (boxes[:, 1] < box.right) & (boxes[:, 3] > box.left)
    best, least = None, SAME
    for i in np.flatnonzero(meets):
        proposal = found.mask(int(i))
        union = proposal.box.union(box)
        share = iou(proposal.in_box(union), mask.in_box(union))
        if share >= least:
            best, least = int(i), share
    return None if best is None else found.proposals.descriptors[best]


def _tile_of(sweep: Sweep, mask: Mask) -> Tile:
    """Return the tile on which a search would find an object of the size of a mask."""
    shape = sweep.shape
    rows, cols = sweep.pixel_size
    diameter = 2 * math.sqrt(max(mask.area, 1) * rows * cols / math.pi)
    wanted = levels_for((diameter, diameter * 1.0001), shape)[0]
    level = min(sweep.levels, key=lambda level: (abs(level - wanted), level)) if sweep.levels else wanted
    row, col = mask.box.center
    return sweep.grid(level).tile_at(level, float(row), float(col))
