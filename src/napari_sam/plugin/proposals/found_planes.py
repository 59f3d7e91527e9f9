"""FoundPlanes and SimilarPlanes: proposals of one plane or of several ones, numbered from the first to the last."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.everything.similar import SimilarObjects

if TYPE_CHECKING:
    from napari_sam.core.masks import Mask
    from napari_sam.everything.found import FoundObjects
    from napari_sam.everything.options import FilterOptions
    from napari_sam.segmenter import Segmenter
    from napari_sam.similarity.query import Query

# Makes what is looked for, in the worker, from what was found so far.
QueryMaker = Callable[["Segmenter", "FoundPlanes | None"], "Query"]
# Proposals whose likeness is this near to the least one that counts are worth a question.
DOUBT = 0.2


class Decision(NamedTuple):
    """What the user said about a proposal.

    Parameters
    ----------
    keep
        Whether it is an object.
    class_name
        Its class, where it is one of several; "" without one.
    """

    keep: bool
    class_name: str | None = None


class FoundPlanes:
    """What was found in planes, one after the other; further tiles and planes leave the earlier numbers as they are.

    Parameters
    ----------
    parts
        The proposals of each plane, in the order in which the planes were searched.

    Attributes
    ----------
    parts
        As given.
    """

    def __init__(self, parts: Sequence[FoundObjects]) -> None:
        self.parts = tuple(parts)
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self._at = {part.plane: at for at, part in enumerate(self.parts)}

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def planes(self) -> list[Plane]:
        """The planes, in the order in which they were searched."""
        return [part.plane for part in self.parts]

    @cached_property
    def boxes(self) -> NDArray[np.int64]:
        """Shape (n, 4): (top, left, bottom, right) of each proposal, half-open, in pixels."""
        return self._joined([part.boxes for part in self.parts], np.zeros((0, 4), np.int64))

    @property
    def scores(self) -> NDArray[np.float32]:
        """Shape (n,): the confidence that each proposal is an object, 0 to 1."""
        return self._joined([part.scores for part in self.parts], np.zeros(0, np.float32))

    @cached_property
    def areas(self) -> NDArray[np.int64]:
        """Shape (n,): number of pixels of each proposal."""
        return self._joined([part.areas for part in self.parts], np.zeros(0, np.int64))

    @cached_property
    def points(self) -> NDArray[np.float64]:
        """Shape (n, 2): the point (row, col) that led to each proposal."""
        return self._joined([part.proposals.points for part in self.parts], np.zeros((0, 2)))

    def part_of(self, number: int) -> tuple[FoundObjects, int]:
        """Return the plane's proposals that a number belongs to, and its number there."""
        at = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self.parts[at], number - int(self._starts[at])

    def mask(self, number: int) -> Mask:
        """Return a proposal as a mask with its scores."""
        part, at = self.part_of(number)
        return part.mask(at)

    def place_of(self, number: int) -> tuple[Plane, Box]:
        """Return the plane and the box of a proposal."""
        part, at = self.part_of(number)
        return part.plane, part.proposals.box(at)

    def on(self, plane: Plane) -> FoundObjects | None:
        """Return the proposals of a plane, or None where it was not searched."""
        at = self._at.get(plane)
        return None if at is None else self.parts[at]

    def among(self, plane: Plane, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return those of some numbers that lie in a plane, as the numbers that they have there; the order stays."""
        at = self._at[plane]
        first, last = self._starts[at : at + 2]
        return np.asarray(numbers[(numbers >= first) & (numbers < last)] - first, np.intp)

    def number(self, plane: Plane, at: int) -> int:
        """Return the number of a proposal of a plane."""
        return int(self._starts[self._at[plane]]) + at

    def select(self, options: FilterOptions | None = None) -> NDArray[np.intp]:
        """Return the numbers of the proposals that count, best first; see `FoundObjects.select`."""
        chosen = [part.select(options) + start for part, start in zip(self.parts, self._starts, strict=False)]
        if len(chosen) == 1:
            return np.asarray(chosen[0], np.intp)
        numbers: NDArray[np.intp] = self._joined(chosen, np.zeros(0, np.intp))
        return numbers[np.argsort(-self.scores[numbers], kind="stable")]

    @staticmethod
    def _joined(arrays: list[NDArray[Any]], none: NDArray[Any]) -> NDArray[Any]:
        return arrays[0] if len(arrays) == 1 else np.concatenate([none, *arrays])


class SimilarPlanes(FoundPlanes):
    """Proposals ranked by how like examples they are; an answer about one of them ranks all others anew, in all planes.

    Parameters
    ----------
    parts
        The proposals of each plane. They are not changed: other threads may use them.
    query
        The examples, and answers about proposals of other images.

    Attributes
    ----------
    query
        As given.
    """

    parts: tuple[SimilarObjects, ...]

    def __init__(self, parts: Sequence[FoundObjects], query: Query) -> None:
        super().__init__([SimilarObjects.of(part, query) for part in parts])
        self.query = query

    def copied(self) -> SimilarPlanes:
        """Return the same with the same answers, to which others can be added in another thread."""
        planes = copy.copy(self)
        planes.parts = tuple(part.copied() for part in self.parts)
        return planes

    @property
    def learned(self) -> Query:
        """The query with all answers."""
        query = self.query
        for part in self.parts:
            query = part.learned(query)
        return query

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the kinds; a single kind may be unnamed ("")."""
        return self.learned.classes

    @property
    def kinds(self) -> NDArray[np.intp]:
        """Shape (n,): the number of the most likely class of each proposal, in `classes`."""
        names = self.classes
        numbers = [np.array([names.index(name) for name in part.classes], np.intp)[part.kinds] for part in self.parts]
        return self._joined(numbers, np.zeros(0, np.intp))

    def class_of(self, number: int) -> str | None:
        """Return the name of the most likely class of a proposal; None for an unnamed one."""
        part, at = self.part_of(number)
        assert isinstance(part, SimilarObjects)
        return part.class_of(at)

    def answer(self, decisions: Mapping[int, Decision | None]) -> None:
        """Rank all proposals by what the user said about some of them; None takes back what was said."""
        for number, decision in decisions.items():
            part, at = self.part_of(number)
            assert isinstance(part, SimilarObjects)
            if decision is None:
                part.withdraw(at)
            else:
                part.answer(at, decision.keep, decision.class_name)
        if len(self.parts) > 1 and decisions:
            self._teach()

    def _teach(self) -> None:
        """Let each plane know the answers about all others."""
        answered = [part for part in self.parts if part.answers]
        everything = self.learned
        for part in self.parts:
            others = everything
            if part.answers:
                others = self.query
                for other in answered:
                    others = others if other is part else other.learned(others)
            part.teach(others)

    def doubtful(self, options: FilterOptions) -> NDArray[np.intp]:
        """Return the proposals to ask about, the least certain one first; see `SimilarObjects.doubtful`."""
        asked = [part.doubtful(options) + start for part, start in zip(self.parts, self._starts, strict=False)]
        numbers = self._joined(asked, np.zeros(0, np.intp))
        return np.asarray(numbers[np.argsort(self._doubt(numbers, options), kind="stable")], np.intp)

    def are_doubtful(self, numbers: NDArray[np.intp], options: FilterOptions) -> NDArray[np.bool_]:
        """Return which proposals are so near to the least likeness that counts that an answer says much."""
        return self._doubt(numbers, options) < DOUBT

    def _doubt(self, numbers: NDArray[np.intp], options: FilterOptions) -> NDArray[np.floating]:
        return np.asarray(np.abs(self.scores[numbers] - options.confidence))
