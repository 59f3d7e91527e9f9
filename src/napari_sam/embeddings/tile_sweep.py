"""TileSweep: the tiles of a run over many, created one by one, and the progress of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from napari_sam.arguments import each, whole
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import Tile, TileGrid

TileKey = tuple[Plane, Tile]


class HasGrids(Protocol):
    """Whatever knows the tiles of its planes, such as a `TileEncoder`."""

    def grid(self, plane: Plane) -> TileGrid:
        """Return the tiles of a plane."""
        ...


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Progress of a run over many tiles.

    Parameters
    ----------
    total, done
        Number of tiles of the run, and of finished ones.
    encoded, known, empty
        Finished tiles that were encoded, found in the store, or skipped because all pixels are equal.
    """

    total: int
    done: int = 0
    encoded: int = 0
    known: int = 0
    empty: int = 0


class TileSweep:
    """The tiles that own a box of some planes at some levels, created one by one.

    Parameters
    ----------
    encoder
        Encoder of the volume, for the tiles of its planes.
    planes
        Planes, in the order of encoding.
    levels
        Levels; of each plane the coarse ones come first.
    box
        Box to cover; by default whole planes.
    """

    def __init__(
        self, encoder: HasGrids, planes: Sequence[Plane], levels: Sequence[int], box: Box | None = None
    ) -> None:
        self._encoder, self._planes, self._levels, self._box = encoder, planes, levels, box

    @classmethod
    def checked(cls, encoder: HasGrids, planes: Sequence[Plane], levels: Any, box: Any) -> TileSweep:
        """Return the sweep over levels and a box that a caller named.

        Parameters
        ----------
        encoder, planes
            As for the class; one plane at least.
        levels
            A level, or a sequence of them.
        box
            (top, left, bottom, right), or None.

        Raises
        ------
        PromptError
            The planes have no such level, or the box is none or lies outside.
        """
        grid = encoder.grid(planes[0])
        least, most = grid.min_level, grid.max_level
        advice = (
            "at level 0 a pixel of the encoder's input is one of the image, and here there are the levels "
            f"{least} to {most}"
        )
        is_row = isinstance(levels, Sequence) or getattr(levels, "ndim", 0) == 1
        numbers = each(
            levels if is_row else [levels],
            "The levels",
            "whole numbers",
            lambda level: whole(level, "A level", advice, least=least, most=most),
        )
        return cls(encoder, planes, numbers, None if box is None else Prompts.of(box=box, shape=grid.shape).box)

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """Number of tiles; for huge shapes it exceeds the range of `len`."""
        return sum(
            (last.row - first.row + 1) * (last.col - first.col + 1)
            for plane in self._planes
            for first, last in self._corners(plane)
        )

    def __iter__(self) -> Iterator[TileKey]:
        for plane in self._planes:
            grid = self._encoder.grid(plane)
            for first, last in self._corners(plane):
                for row in range(first.row, last.row + 1):
                    for col in range(first.col, last.col + 1):
                        yield plane, grid.tile(first.level, row, col)

    def _corners(self, plane: Plane) -> Iterator[tuple[Tile, Tile]]:
        """Yield the first and the last tile of each level."""
        grid = self._encoder.grid(plane)
        whole = Box.of_shape(grid.shape)
        inside = whole if self._box is None else self._box.intersection(whole)
        if inside.is_empty:
            return
        for level in sorted({grid.clamp(level) for level in self._levels}, reverse=True):
            yield grid.corners(level, inside)
