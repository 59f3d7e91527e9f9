"""FindProgress: search the tiles of a plane one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.core.tiles import Tile
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import EverythingProgress, Region
from napari_sam.word_search.views import SAME_OBJECT, View, proposals_of, whole_objects

# The threshold of the search has decided already, and each object is there once.
ALL_FOUND = FilterOptions(confidence=0.0, max_overlap=SAME_OBJECT)


@dataclass(frozen=True, slots=True, eq=False)
class FindProgress(EverythingProgress):
    """Progress of a search by words or exemplars.

    Parameters
    ----------
    total, done, plane, parts
        As in `EverythingProgress`.
    cut
        Which of the proposals of each finished tile may be cut by its border.
    """

    cut: Sequence[NDArray[np.bool_]] = ()

    @property
    def found(self) -> FoundObjects:
        """What was found so far, each object once."""
        proposals = Proposals.joined(self.parts[: self.done])
        is_cut = np.concatenate([np.zeros(0, bool), *self.cut[: self.done]])
        return FoundObjects(self.plane, proposals.taken(whole_objects(proposals, is_cut)), ALL_FOUND)


RunViews = Callable[[Sequence[Tile]], Iterator[tuple[Tile, list[View]]]]


def find_on_tiles(
    plane: Plane,
    region: Region,
    tiles: Sequence[Tile],
    find: Callable[[Tile], list[View]],
    run: RunViews | None = None,
) -> Iterator[FindProgress]:
    """Find the objects of a region; yields after every tile, and once for a region without any.

    Parameters
    ----------
    plane, region
        Where; an object counts if the pixel farthest from its outline does.
    tiles
        The tiles.
    find
        Returns the objects on a tile.
    run
        Finds the objects of tiles, in any order; by default `find` on one after the other.
    """
    parts: list[Proposals] = []
    cut: list[NDArray[np.bool_]] = []
    yield FindProgress(len(tiles), 0, plane, parts, cut)
    for tile, views in ((tile, find(tile)) for tile in tiles) if run is None else run(tiles):
        proposals = proposals_of(views, tile.level)
        counts = np.flatnonzero(region.holds(proposals.points))
        parts.append(proposals.taken(counts))
        cut.append(np.array([view.is_cut for view in views], bool)[counts])
        yield FindProgress(len(tiles), len(parts), plane, parts, cut)
