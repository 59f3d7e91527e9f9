"""Proposing: propose the objects of the tiles of a sweep, in this process or on workers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.core.tiles import Tile
from napari_sam.distributed.job import Runner
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.everything.options import GridOptions
from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import Region, Sweep


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """What became of a tile.

    Parameters
    ----------
    is_claimed
        Whether another process works on it, so that it must be looked at again.
    is_new
        Whether it was done now, and not before.
    proposals
        The proposals that are still to be written, where the worker does not see the store.
    """

    is_claimed: bool = False
    is_new: bool = False
    proposals: Proposals | None = None


def proposals_of(runner: Runner[Tile, Proposed], tiles: Iterable[Tile]) -> Iterator[tuple[Tile, Proposals]]:
    """Propose the objects of tiles on workers that return them."""
    for tile, proposed in runner.run(tiles):
        assert proposed.proposals is not None
        yield tile, proposed.proposals


class Proposing:
    """Proposes the objects of one tile after the other into a store, except on tiles that are there.

    Parameters
    ----------
    sweep
        Proposes.
    store
        Where the proposals go; None to return them.
    """

    def __init__(self, sweep: Sweep, store: ProposalStore | None) -> None:
        self._sweep, self._store = sweep, store

    def do(self, item: Tile, *, again: bool = False) -> Proposed:
        """Propose the objects of a tile, unless another process is doing so."""
        if self._store is None:
            return Proposed(is_new=True, proposals=self._sweep.proposals(item))
        if again:
            return self._propose(item, self._store)
        with self._store.claimed(item) as is_mine:
            return self._propose(item, self._store) if is_mine else Proposed(is_claimed=True)

    def _propose(self, tile: Tile, store: ProposalStore) -> Proposed:
        if store.get(tile) is not None:  # Another process may have done it since.
            return Proposed()
        store.put(tile, self._sweep.proposals(tile))
        return Proposed(is_new=True)


class OpenedByWorkers(Protocol):
    """An image with a model, as plain data, such as a `SharedImage`."""

    def open(self) -> TileEncoder:
        """Open image and model on this machine."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ProposingPlan:
    """A sweep and the store for its proposals, as every machine can open them.

    Parameters
    ----------
    image
        Image and model.
    plane, region, grid, levels
        As in `Sweep`; the pixels of the region's mask are in `packed_mask`.
    packed_mask
        The packed pixels of the mask, compressed; or None.
    folder, settings
        As in `ProposalStore`; no folder where the proposals are returned.
    """

    image: OpenedByWorkers
    plane: Plane
    region: Region
    grid: GridOptions | None
    levels: tuple[int, ...]
    packed_mask: bytes | None
    folder: Path | None
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, image: OpenedByWorkers, sweep: Sweep, store: ProposalStore | None = None) -> ProposingPlan:
        """Return the plan of a sweep that is open here; without a store, the proposals are returned."""
        region, packed = sweep.region, None
        if region.mask is not None:
            packed = zlib.compress(np.packbits(region.mask.pixels).tobytes(), 1)
            region = replace(region, mask=Mask(region.mask.box, np.zeros((0, 0), bool)))
        return cls(
            image,
            sweep.plane,
            region,
            sweep.grid_options,
            tuple(sweep.levels),
            packed,
            None if store is None else store.path.parent.absolute(),
            {} if store is None else store.settings,
        )

    def open(self) -> Proposing:
        """Open image, model and store.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        sweep = self.open_sweep()
        store = None if self.folder is None else ProposalStore(self.folder, self.settings)
        # A machine that does not see the store returns what it proposes.
        return Proposing(sweep, None if store is None or store.levels is None else store)

    def open_sweep(self) -> Sweep:
        """Open image and model alone; raises as `open`."""
        return Sweep(self.image.open(), self.plane, self._whole_region(), grid=self.grid, levels=self.levels)

    def _whole_region(self) -> Region:
        if self.packed_mask is None or self.region.mask is None:
            return self.region
        box = self.region.mask.box
        bits = np.frombuffer(zlib.decompress(self.packed_mask), np.uint8)
        rows, cols = box.pixel_shape
        pixels = np.unpackbits(bits, count=rows * cols).view(bool).reshape(rows, cols)
        return replace(self.region, mask=Mask(box, pixels))
