"""FoundObjects: the proposals of a plane, and which of them count under given filters."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, paste
from napari_sam.core.prompts import Prompts
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import Overlaps, ranks_by, suppressed
from napari_sam.journal.packing.objects import NewObject


class FoundObjects:
    """What everything mode found in a plane.

    Parameters
    ----------
    plane
        The plane.
    proposals
        All proposals, overlapping ones too.
    filters
        Which of them `select` chooses where it is given no filters: those of a search by words differ from those of
        everything mode.

    Attributes
    ----------
    plane, proposals, filters
        As given.
    """

    def __init__(self, plane: Plane, proposals: Proposals, filters: FilterOptions | None = None) -> None:
        self.plane, self.proposals = plane, proposals
        self.filters = filters or FilterOptions()

    def __len__(self) -> int:
        return len(self.proposals)

    @property
    def boxes(self) -> NDArray[np.int64]:
        """Shape (n, 4): (top, left, bottom, right) of each proposal, half-open, in pixels."""
        return self.proposals.boxes

    @property
    def scores(self) -> NDArray[np.float32]:
        """Shape (n,): the confidence that each proposal is an object, 0 to 1."""
        return self.proposals.scores

    @property
    def stability(self) -> NDArray[np.float32]:
        """Shape (n,): the stability score of each proposal, 0 to 1."""
        return self.proposals.stability

    @property
    def areas(self) -> NDArray[np.int64]:
        """Shape (n,): number of pixels of each proposal."""
        return self.proposals.areas

    def mask(self, i: int) -> Mask:
        """Return a proposal as a mask with its scores."""
        return self.proposals.mask(i)

    def prompts(self, i: int) -> Prompts:
        """Return the prompts that lead to a proposal: its point, and its box."""
        box = self.proposals.box(i)
        return Prompts(self.proposals.points[i : i + 1], np.ones(1, bool), box, None)

    def objects(self, chosen: Iterable[int] | NDArray[np.intp]) -> list[NewObject]:
        """Return proposals as objects to write, in the given order."""
        return [NewObject(self.mask(int(i)), self.prompts(int(i))) for i in chosen]

    def class_of(self, i: int) -> str | None:
        """Return the name of the class of a proposal; None where none is known."""
        return None

    def by_class(self, numbers: Iterable[int] | NDArray[np.intp]) -> dict[str | None, list[int]]:
        """Return proposals by their class, in their order; under None those without one."""
        groups: dict[str | None, list[int]] = {}
        for i in numbers:
            groups.setdefault(self.class_of(int(i)), []).append(int(i))
        return groups

    def select(self, options: FilterOptions | None = None) -> NDArray[np.intp]:
        """Return the numbers of the proposals that count, best first, without asking the model.

        Parameters
        ----------
        options
            The filters; `filters` when left out. They are applied before overlapping proposals are suppressed,
            so that a proposal comes back when the one that hid it is filtered out.
        """
        options = options or self.filters
        passes = self._passing(options)
        pairs = self._overlaps
        conflict = (self._shares > options.max_overlap) & passes[pairs.first] & passes[pairs.second]
        out = suppressed(self._precedence, pairs.first[conflict], pairs.second[conflict])
        kept = np.flatnonzero(passes & ~out)
        return kept[np.argsort(self._ranks[kept], kind="stable")]

    def unranked(self) -> FoundObjects:
        """Return the same proposals by their confidence, whatever they are ranked by here."""
        found = FoundObjects(self.plane, self.proposals)
        found.__dict__.update(self.remembered(FoundObjects))
        return found

    def remembered(self, kind: type[FoundObjects]) -> dict[str, Any]:
        """Return the properties of a class that were computed here, for another ranking of the same proposals."""
        return {
            name: value for name, value in self.__dict__.items() if isinstance(vars(kind).get(name), cached_property)
        }

    def labels(self, shape: tuple[int, int], chosen: NDArray[np.intp] | None = None) -> NDArray[np.uint32]:
        """Return the chosen proposals as a label image of a plane of `shape`: 1 for the first one, and so on.

        Parameters
        ----------
        shape
            Rows and columns of the plane.
        chosen
            Numbers of proposals; earlier ones keep the pixels that later ones share. By default `select()`.
        """
        out = np.zeros(shape, np.uint32)
        for label, i in enumerate(self.select() if chosen is None else chosen, 1):
            mask = self.mask(int(i))
            paste(out[mask.box.slices], mask, label)
        return out

    def _passing(self, options: FilterOptions) -> NDArray[np.bool_]:
        low, high = options.sizes
        passes = (self.scores >= options.confidence) & (self.stability >= options.stability_score_thresh)
        passes &= (self.proposals.diameters >= low) & (self.proposals.diameters <= high)
        return np.asarray(passes & (self._solidity >= options.min_solidity), bool)

    @cached_property
    def _ranks(self) -> NDArray[np.intp]:
        """Rank of each proposal by score; of equal ones by place, so that the order of tiles does not matter."""
        return ranks_by(self.boxes, -self.scores)

    @property
    def _precedence(self) -> NDArray[np.intp]:
        """Rank of each proposal among those that overlap, of which the first one stays."""
        return self._ranks

    @cached_property
    def _overlaps(self) -> Overlaps:
        return Overlaps.of(self.proposals)

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        return self._overlaps.share_of_smaller(self.areas)

    @cached_property
    def _solidity(self) -> NDArray[np.float64]:
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        ellipse = np.maximum(sides.prod(axis=1) * math.pi / 4, 1)
        return np.asarray(np.minimum(self.areas / ellipse, 1), np.float64)
