"""PlaneSearch: the proposals of a plane for several examples of different sizes, of which each tile is encoded once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposing.levels import levels_for
from napari_sam.everything.similar import SimilarObjects
from napari_sam.everything.sweep import propose_all
from napari_sam.segmenter import Segmenter
from napari_sam.similarity.query import Query


class PlaneSearch:
    """Proposals of a plane.

    Parameters
    ----------
    segmenter
        Of the image.
    plane
        The plane.
    queries
        All examples that the plane will be searched for.

    Raises
    ------
    ImageError
        The plane cannot be read.
    """

    def __init__(self, segmenter: Segmenter, plane: Plane, queries: Sequence[Query]) -> None:
        self._shape = plane.shape_in(segmenter.shape)
        self._usual = tuple(segmenter.sweep(plane=plane).levels)
        levels = set(self._usual).union(*(self._levels(query) for query in queries))
        *_, last = propose_all(plane, segmenter.sweep(plane=plane, levels=sorted(levels)))
        self._all = last.found
        self._found: dict[tuple[int, ...], FoundObjects] = {}

    @property
    def everything(self) -> FoundObjects:
        """What is found without an example, at the levels of a sample of the plane."""
        return self._at(self._usual)

    def proposed(self, query: Query) -> FoundObjects:
        """Return what is proposed at the sizes around those of examples."""
        return self._at(self._levels(query))

    def similar(self, query: Query) -> SimilarObjects:
        """Return what `Segmenter.find_similar` finds, without encoding a tile."""
        return SimilarObjects.of(self.proposed(query), query)

    def _levels(self, query: Query) -> tuple[int, ...]:
        return tuple(levels_for(query.sizes, self._shape))

    def _at(self, levels: tuple[int, ...]) -> FoundObjects:
        """Return the proposals of some levels."""
        if levels not in self._found:
            proposals = self._all.proposals
            chosen = np.flatnonzero(np.isin(proposals.levels, levels))
            self._found[levels] = FoundObjects(self._all.plane, proposals.taken(chosen))
        return self._found[levels]
