"""Predictor: the protocol of all models, with its inputs and outputs. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.arguments import shown
from napari_sam.core.prompts import TilePrompts
from napari_sam.core.tiles import Tile
from napari_sam.errors import ModelError

# A `torch.Tensor`, used only by the model that created it.
Tensor = Any


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The encoded features of one tile; their meaning depends on the predictor.

    Parameters
    ----------
    tensors
        Tensors on the predictor's device, each of shape (1, channels, rows, cols).
    """

    tensors: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The mask decoder's answer for one tile.

    Parameters
    ----------
    logits
        Shape (3, side / 4, side / 4), float32; positive inside. Over the whole tile, padding included.
    iou_prediction
        Shape (3,), float32: the decoder's estimate of each mask's IoU with the object, 0 to 1.
    features
        Shape (3, n), float32: description of each mask for `ScoringPredictor.score`, or None.
    """

    logits: NDArray[np.float32]
    iou_prediction: NDArray[np.float32]
    features: NDArray[np.float32] | None = None

    def reordered(self, order: Sequence[int]) -> Decoded:
        """Return the same answer with its masks in another order."""
        indices = list(order)
        features = None if self.features is None else self.features[indices]
        return Decoded(self.logits[indices], self.iou_prediction[indices], features)


class Predictor(Protocol):
    """A promptable model in two parts, as SAM: encode a tile once, and decode prompts on it many times.

    Attributes
    ----------
    name
        The model's name or the path of its weights.
    input_side
        Side s of the encoder's square input, in tile pixels.
    object_fraction
        Share of the tile's side at which the model segments objects best.
    object_range
        Shares of the tile's side, (minimum, maximum), at which no other level is tried.
    probe_levels
        How many levels finer and coarser than the zoom are tried for a single point; 0 for the level of the zoom alone.
    encode_is_slow
        Whether encoding takes so long that embeddings are worth keeping on disk where the user names no store.
    digest
        Hash of the weights and the precision; embeddings of different digests never mix.
    batch
        Best number of tiles for one call of `encode`, which accepts any number.
    """

    name: str
    input_side: int
    object_fraction: float
    object_range: tuple[float, float]
    probe_levels: int
    encode_is_slow: bool
    digest: str

    @property
    def batch(self) -> int: ...

    def encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode tiles of shape (n, side, side, 3), uint8 RGB, into n embeddings, rounded to half precision."""
        ...

    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object on an encoded tile into three candidates."""
        ...

    def pack(self, embedding: Embedding) -> NDArray[np.float16]:
        """Return the values of an embedding to store, shape (n,); `unpack` restores the same embedding from them."""
        ...

    def unpack(self, values: NDArray[np.float16]) -> Embedding:
        """Return the embedding of packed values."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DenseGuesses:
    """What a model guesses of all objects of one tile at once, without a prompt.

    The tile, padding included, is divided into cells of 4 x 4 tile pixels; each cell guesses the object it lies on.

    Parameters
    ----------
    center_offsets
        Shape (2, side / 4, side / 4), float32: rows and columns from the middle of the cell to the center (the mean
        position) of its object, in tile pixels. Outside objects the values mean nothing.
    radius
        Shape (side / 4, side / 4), float32: the square root of the area of the cell's object, in tile pixels. Outside
        objects the values mean nothing.
    foreground, border
        Shape (side / 4, side / 4), float32: the probability, 0 to 1, that the cell lies on an object, and that it
        touches a cell of another object or of the background. None for weights that do not predict them.
    """

    center_offsets: NDArray[np.float32]
    radius: NDArray[np.float32]
    foreground: NDArray[np.float32] | None = None
    border: NDArray[np.float32] | None = None


@runtime_checkable
class DensePredictor(Protocol):
    """A predictor that also guesses where the objects of an encoded tile are, without a prompt."""

    def dense_guesses(self, embedding: Embedding) -> DenseGuesses:
        """Return the guesses for all cells of a tile."""
        ...


@runtime_checkable
class WindowPredictor(Predictor, DensePredictor, Protocol):
    """A predictor that encodes tiles of several times its input side, and decodes many objects on windows of one.

    A small object needs little of its tile: on a window a decoding costs a fraction of one on the whole tile, and
    large tiles overlap less than small ones. So a whole plane is segmented in a quarter of the time.

    Attributes
    ----------
    sweep_side
        Side of the tiles to encode, in tile pixels.
    window_side
        Side of a window, in tile pixels. Objects of up to half of it are decoded as well as on a whole tile.
    guesses_foreground
        Whether the loaded weights guess foreground, without which `dense_guesses` says nothing of where objects are.
    """

    sweep_side: int
    window_side: int
    guesses_foreground: bool

    def window_origins(self, points: NDArray[np.floating[Any]], side: int) -> NDArray[np.intp]:
        """Return the first row and column of the window around each point (row, col) of a tile, shape (n, 2).

        `side` is that of the tile, in tile pixels.
        """
        ...

    def decode_windows(
        self, embedding: Embedding, origins: NDArray[np.intp], prompts: Sequence[TilePrompts]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode the prompts of n objects, each on a window of a tile of `sweep_side` or of twice as much.

        Parameters
        ----------
        embedding
            The encoded tile.
        origins
            Shape (n, 2): first row and column of each window, as `window_origins` returns them.
        prompts
            The prompts of each object, in (row, col) of its window.

        Returns
        -------
        logits : numpy.ndarray
            Shape (n, 3, window_side / 4, window_side / 4), float32; positive inside.
        iou_prediction : numpy.ndarray
            Shape (n, 3), float32, 0 to 1.
        """
        ...


@runtime_checkable
class FeaturePredictor(Predictor, Protocol):
    """A predictor whose features can be compared: alike where the image looks alike.

    Attributes
    ----------
    feature_strides
        (channels, stride in tile pixels) of each map of features, the coarsest one first.
    """

    @property
    def feature_strides(self) -> Sequence[tuple[int, int]]: ...

    def features(self, embedding: Embedding) -> list[NDArray[np.float32]]:
        """Return the maps of features of a tile, each of shape (channels, side / stride, side / stride)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class PointAnswer:
    """The masks for one of several points that pass a threshold.

    Parameters
    ----------
    index
        Number of the point.
    logits, iou_prediction
        Shapes (n, side / 4, side / 4) and (n,), float32, as those of `Decoded`.
    """

    index: int
    logits: NDArray[np.float32]
    iou_prediction: NDArray[np.float32]


@runtime_checkable
class PointsPredictor(Protocol):
    """A predictor that decodes many lone points of a tile, and only those to the end that promise a good mask."""

    def decode_points(
        self, embedding: Embedding, points: NDArray[np.floating[Any]], least_iou: float
    ) -> Iterator[PointAnswer]:
        """Decode points, each as the only prompt of an object.

        Parameters
        ----------
        embedding
            The encoded tile.
        points
            Shape (n, 2): (row, col) in tile pixels.
        least_iou
            Lowest predicted IoU of the masks that are wanted.

        Yields
        ------
        PointAnswer
            The answer for each point of which at least one mask passes, in the order of the points.
        """
        ...


@runtime_checkable
class ScoringPredictor(Protocol):
    """A predictor that compares the answers of several tiles to the same prompts.

    A decoder sees one tile. Whether a mask is a whole object or a part of one shows where finer and coarser tiles
    answer the same.

    Attributes
    ----------
    compares_tiles
        Whether the loaded weights can do so.
    """

    compares_tiles: bool

    def score(self, answers: Sequence[tuple[Tile, Decoded]]) -> NDArray[np.float32]:
        """Estimate the IoU of each mask with the object.

        Parameters
        ----------
        answers
            Tiles of one plane, each with its answer to the same prompts; each answer has `features`.

        Returns
        -------
        numpy.ndarray
            Shape (tiles, 3), float32, 0 to 1.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The objects that a text names on one tile, in order of falling score.

    Parameters
    ----------
    logits
        Shape (n, side / 4, side / 4), float32; positive inside. Over the whole tile, padding included.
    scores
        Shape (n,), float32: the model's score of each, 0 to 1.
    boxes
        Shape (n, 4), float32: (top, left, bottom, right) in tile pixel edges.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]


@runtime_checkable
class TextPredictor(Protocol):
    """A predictor that also finds every object that a text names on an encoded tile.

    Attributes
    ----------
    finds_text
        Whether the loaded weights can do so.
    """

    finds_text: bool

    def find(self, embedding: Embedding, text: str, threshold: float = 0.5) -> Found:
        """Find the objects that a short noun phrase names, each with a score above the threshold."""
        ...


def checked_model(model: Any) -> str | Path | Predictor:
    """Return a model as a name, a path or a loaded predictor.

    Raises
    ------
    ModelError
        It is none of these.
    """
    if isinstance(model, (str, Path)):
        return model
    missing = [name for name in ("encode", "decode", "input_side", "digest") if not hasattr(model, name)]
    if missing or isinstance(model, type):
        raise ModelError(
            f"The model cannot be {shown(model)}: give a name (see napari-sam models), the path of a checkpoint, or "
            "what load_predictor returned."
        )
    predictor: Predictor = model
    return predictor
