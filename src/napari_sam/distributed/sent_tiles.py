"""SentTile: a tile with the pixels under it, for workers that cannot open the image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.rendering import Rendering, render_tile
from napari_sam.core.tiles import Tile
from napari_sam.distributed.proposing import Proposed, ProposingPlan
from napari_sam.distributed.shared_image import SharedModel
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import ClusterError
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import Sweep
from napari_sam.images.volume import Volume

if TYPE_CHECKING:
    from napari_sam.distributed.cluster import Cluster

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class SentTile:
    """A tile with the pixels under it.

    Parameters
    ----------
    tile
        The tile.
    reads
        What `Volume.read_tile` returns of it, and of the same at other resolutions.
    """

    tile: Tile
    reads: Mapping[Tile, tuple[NDArray[Any], Point, Point]]

    @classmethod
    def of(cls, sweep: Sweep, tile: Tile) -> SentTile:
        """Read a tile of a search.

        Raises
        ------
        ImageError
            It cannot be read.
        """
        volume, reads = sweep.encoder.volume, dict[Tile, tuple[NDArray[Any], Point, Point]]()
        for picture in sweep.pictures(tile):
            level = volume.level_for(sweep.plane, picture)
            # Mostly of the same level: one array is sent once.
            same = next((seen for seen in reads if volume.level_for(sweep.plane, seen) == level), None)
            reads[picture] = volume.read_tile(sweep.plane, picture) if same is None else reads[same]
        return cls(tile, reads)

    def render(self, tile: Tile, rendering: Rendering) -> NDArray[np.uint8]:
        """Return what the model sees of a tile; see `Volume.render`."""
        pixels, origin, size = self.reads[tile]
        return render_tile(pixels, tile, rendering, origin, size)


@dataclass(frozen=True, slots=True)
class UnseenImage:
    """An image that only the machine of the user has.

    Parameters
    ----------
    shape, spacing
        Of its volume.
    rendering, model
        As in `SharedImage`.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    rendering: Rendering
    model: SharedModel

    @classmethod
    def of(cls, encoder: TileEncoder) -> UnseenImage:
        """Return the image of an encoder."""
        volume = encoder.volume
        return cls(volume.shape, volume.spacing, encoder.rendering, SharedModel.of(encoder.predictor))

    def open(self) -> TileEncoder:
        """Load the model, for an image of this shape without pixels.

        Raises
        ------
        ModelError
            There is no such model here, or it is another one.
        """
        blank = Volume.of(np.broadcast_to(np.uint8(0), self.shape), False, spacing=self.spacing)
        return TileEncoder(blank, self.model.load(), lambda: self.rendering)


class SentProposing:
    """Proposes the objects of one tile after the other, each from the pixels that come with it.

    Parameters
    ----------
    sweep
        Proposes.
    """

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def do(self, item: SentTile, *, again: bool = False) -> Proposed:
        """Propose the objects of a tile."""
        rendering = self._sweep.encoder.rendering
        proposals = self._sweep.proposals(item.tile, lambda tile: item.render(tile, rendering))
        return Proposed(is_new=True, proposals=proposals)


@dataclass(frozen=True, slots=True)
class SentProposingPlan:
    """A search whose tiles are sent.

    Parameters
    ----------
    search
        The search.
    """

    search: ProposingPlan

    def open(self) -> SentProposing:
        """Load the model.

        Raises
        ------
        ModelError
            There is no such model here, or it is another one.
        """
        return SentProposing(self.search.open_sweep())


def proposals_of_sent(cluster: Cluster, sweep: Sweep, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, Proposals]]:
    """Propose the objects of tiles on workers that cannot open the image; see `Sweep.run`.

    When the cluster goes away, the other tiles are searched here, and its `warn` says so.
    """
    left = dict.fromkeys(tiles)
    try:
        plan = SentProposingPlan(ProposingPlan.of(UnseenImage.of(sweep.encoder), sweep))
        runner = cluster.runner(plan, most=1)
        for sent, proposed in runner.run(SentTile.of(sweep, tile) for tile in tiles):
            assert proposed.proposals is not None
            del left[sent.tile]
            yield sent.tile, proposed.proposals
    except ClusterError as error:
        cluster.warn(f"Objects are searched on this computer from now on. {error}")
    yield from sweep.run(list(left))
