"""ScoredObjects: what was found, with scores that say how well words describe each object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.suppression import ranks_by


class ScoredObjects(FoundObjects):
    """Found objects with other scores; `unranked` returns them with their own.

    Parameters
    ----------
    found
        What was found.
    scores
        Shape (n,), float32: the score of each, 0 to 1.
    filters
        Which of them `select` chooses.
    """

    def __init__(self, found: FoundObjects, scores: NDArray[np.float32], filters: FilterOptions) -> None:
        super().__init__(found.plane, found.proposals, filters)
        self.__dict__.update(found.remembered(FoundObjects))  # Costly to find, and the same.
        self._scores = scores.astype(np.float32)
        self._ranks_of_scores = ranks_by(self.boxes, -self._scores)

    @property
    def scores(self) -> NDArray[np.float32]:
        """Shape (n,), float32: how well words describe each object, 0 to 1."""
        return self._scores

    @property
    def _ranks(self) -> NDArray[np.intp]:
        return self._ranks_of_scores
