"""Encode the tiles that followed objects lie on, those of planes to come in the same batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_sam.core.geometry import Plane
from napari_sam.core.tiles import Tile
from napari_sam.propagation.plane_stack import PlaneStack

if TYPE_CHECKING:
    from napari_sam.embeddings.encoder import TileEncoder


def encode_ahead(
    encoder: TileEncoder, stack: PlaneStack | None, at: int, direction: int, plane: Plane, tiles: Sequence[Tile]
) -> None:
    """Encode the tiles of a plane by one call, and where batches pay, those of the next planes with them.

    Parameters
    ----------
    encoder
        Encodes them, and keeps the embeddings.
    stack
        The planes that come next, or None where they are not known.
    at, direction
        Position of the plane, and 1 or -1.
    plane, tiles
        The plane, and the tiles that objects lie on there.
    """
    batch = encoder.predictor.batch
    wanted = list(dict.fromkeys(tiles))
    places = [(plane, tile) for tile in wanted if not encoder.is_ready(plane, tile)]
    if batch == 1 or not places:
        return
    if stack is not None:
        to_come = range(at + direction, at + direction * (batch // len(wanted)), direction)
        there = [stack.at(other) for other in to_come if stack.first <= other <= stack.last]
        places += [(later, tile) for later in there for tile in wanted]
    encoder.encode_together(places)
