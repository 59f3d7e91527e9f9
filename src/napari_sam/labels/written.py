"""Read the blocks of labels in which anything can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.regions import Region, WritableArray, blocks, loaded
from napari_sam.labels.storage.levels import Levels


def written_blocks(labels: WritableArray) -> Iterator[tuple[Region, NDArray[Any]]]:
    """Yield regions with their labels, each small enough for memory; of zarr, only chunks that were ever written.

    Raises
    ------
    LabelsError
        The labels cannot be read.
    """
    chunked: Sequence[Any] = labels.levels[:1] if isinstance(labels, LabelPyramid) else [labels]
    if not isinstance(chunked[0], np.ndarray) and type(chunked[0]).__module__.partition(".")[0] == "zarr":
        for batch in Levels(chunked).written(0):
            yield from batch
        return
    for region in blocks(labels):
        yield region, loaded(labels, region)
