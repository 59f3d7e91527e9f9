"""RemoteEncoder: encode tiles on the workers of a cluster, and decode them here."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import Embedding, Predictor
from napari_sam.distributed.shared_image import ON_THIS_COMPUTER, SharedModel
from napari_sam.errors import ClusterError, NapariSamError

if TYPE_CHECKING:
    from napari_sam.distributed.cluster import Cluster

# Tiles that are sent at once for each worker, one that it encodes and one that is on its way; and altogether, of 3 MB.
TILES_OF_A_WORKER = 2
MOST_TILES = 64
# Somebody waits for an answer: a worker that says nothing for this time is not waited for.
PATIENCE = 30.0
NumberedTile = tuple[int, NDArray[np.uint8]]


class TilePacking:
    """Encodes tiles for other machines.

    Parameters
    ----------
    predictor
        The model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def do(self, item: NumberedTile, *, again: bool = False) -> NDArray[np.float16]:
        """Return the packed embedding of a tile."""
        (embedding,) = self._predictor.encode(item[1][None])
        return self._predictor.pack(embedding)


@dataclass(frozen=True, slots=True)
class TilePackingPlan:
    """The model that encodes tiles which are sent.

    Parameters
    ----------
    model
        The model.
    """

    model: SharedModel

    def open(self) -> TilePacking:
        """Load the model.

        Raises
        ------
        ModelError
            There is no such model here, or it is another one.
        """
        return TilePacking(self.model.load())


class RemoteEncoder:
    """Encodes tiles on workers: pixels are sent as bytes, and embeddings come back packed.

    When the cluster goes away, tiles are encoded here, and its `warn` says so once.

    Parameters
    ----------
    cluster
        The cluster.
    predictor
        The model, which is loaded here, too.
    """

    def __init__(self, cluster: Cluster, predictor: Predictor) -> None:
        self._cluster, self._predictor = cluster, predictor
        self._runner = cluster.runner(TilePackingPlan(SharedModel.of(predictor)), patience=PATIENCE, most=1)
        self._is_lost = False
        self._lock = Lock()

    @property
    def batch(self) -> int:
        """Number of tiles that are best given at once: a few for each worker."""
        if self._is_lost:
            return self._predictor.batch
        return min(max(TILES_OF_A_WORKER * self._runner.workers, 1), MOST_TILES)

    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles; see `Predictor.encode`. Tiles of another side than the model's are encoded here."""
        if not self._is_lost and tiles.shape[1] == self._predictor.input_side:
            try:
                with self._lock:
                    found = {item[0]: packed for item, packed in self._runner.run(enumerate(tiles))}
                return [self._predictor.unpack(found[number]) for number in range(len(tiles))]
            except NapariSamError as error:
                if not self._is_lost:
                    self._is_lost = True
                    self._cluster.warn(f"Tiles are encoded on this computer from now on. {error}")
        return self._predictor.encode(tiles)


def encoded_on(cluster: Cluster | None, predictor: Predictor) -> Predictor:
    """Return a model that decodes here and encodes on the workers of a cluster; without one, all is done here.

    Raises
    ------
    ClusterError
        The model cannot be sent.
    """
    predictor = getattr(predictor, ON_THIS_COMPUTER, predictor)
    if cluster is None:
        return predictor
    try:
        # A copy and not a wrapper, which would hide what else the model can do.
        remote, encoder = copy.copy(predictor), RemoteEncoder(cluster, predictor)
        vars(remote).update({"encode": encoder.encode, ON_THIS_COMPUTER: predictor})
        remote.__class__ = _with_batch(type(predictor), encoder)
    except TypeError as error:
        raise ClusterError(
            f"The model {predictor.name} cannot encode on a cluster: leave out the scheduler."
        ) from error
    return remote


def _with_batch(model: type[Predictor], encoder: RemoteEncoder) -> type[Predictor]:
    """Return the class of a model whose `batch`, a property of most, is that of a remote encoder."""
    return type(model.__name__, (model,), {"batch": property(lambda _: encoder.batch)})
