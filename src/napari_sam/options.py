"""ImageOptions, ModelOptions and LabelOptions: the choices that the API, the commands and the widget share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari_sam.core.candidates import CandidateName
    from napari_sam.core.masks import Overlap

CachePolicy = Literal["off", "auto", "on"]
"""Use of the cache folder for embeddings where no store is named."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How an image is read and shown to the model.

    The names are those of the keyword arguments of `Segmenter`, which explains them.

    Parameters
    ----------
    rgb
        Whether the last axis holds colors.
    channel_axis
        Axis of an array that holds channels.
    channels
        At most three channels.
    spacing
        Pixel size along each axis without channels, in any common unit.
    nodata
        Value of pixels without data.
    axes
        Row and column axis of the planes.
    contrast_limits
        (low, high) data values that become black and white, or a pair for each channel.
    gamma
        Exponent applied after the contrast stretch.
    """

    rgb: bool | None = None
    channel_axis: int | None = None
    channels: Sequence[int] | None = None
    spacing: Sequence[float] | None = None
    nodata: float | None = None
    axes: Sequence[int] | None = None
    contrast_limits: Sequence[float] | Sequence[Sequence[float]] | None = None
    gamma: float | Sequence[float] = 1.0

    @property
    def arguments(self) -> dict[str, Any]:
        """The options as keyword arguments of `Segmenter`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def volume_arguments(self) -> dict[str, Any]:
        """The options that say how pixels are read, as arguments of `Volume.of`."""
        names = ("rgb", "channel_axis", "channels", "spacing", "nodata")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which model runs, how, and where its embeddings are stored.

    Parameters
    ----------
    model
        Name of a model, or path of a checkpoint.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision
        "auto", "float32", "bfloat16" or "tf32".
    threads
        Processor threads of the model; torch's own choice when None.
    compiled
        Compile the model first, which takes minutes and pays off for many tiles on a GPU.
    store
        Folder or URL of a store of embeddings that is read and filled.
    cache
        What happens without `store`: "off" keeps embeddings in memory only, "auto" also reads those in the cache
        folder and adds those of slow models, "on" adds those of every model.
    """

    model: str | Path = "compact"
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    compiled: bool = False
    store: str | Path | None = None
    cache: CachePolicy = "off"


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """Which masks become labels, and what happens to labels that exist.

    Parameters
    ----------
    candidate
        Name of the mask to take of each answer.
    overlap
        "keep" leaves pixels of other labels alone, "overwrite" replaces them, "empty" refuses a mask that meets any.
    append
        Add to a label image that exists.
    journal
        Keep a journal beside the labels.
    overwrite
        Replace output files that exist.
    """

    candidate: CandidateName = "best"
    overlap: Overlap = "keep"
    append: bool = False
    journal: bool = False
    overwrite: bool = False
