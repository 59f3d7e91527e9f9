"""The baseline of a search by example: proposals of about the color and the size of the example."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.similarity.descriptors import SHAPES
from napari_sam.similarity.query import Query

# The mean color differs by less than this, as a share of the range of colors.
MOST_COLOR = 0.15
# The logarithm (base 2) of the diameter differs by less than this: by a factor of 1.6.
MOST_SIZE = 0.7


def nearest_color(found: FoundObjects, query: Query) -> tuple[FoundObjects, NDArray[np.intp]]:
    """Find what is about as large as an example and has about its color.

    Parameters
    ----------
    found
        What was proposed. What is no object by its own score does not count.
    query
        The examples.

    Returns
    -------
    found : FoundObjects
        The proposals that have passed, with nearnesses as scores.
    chosen : numpy.ndarray
        Shape (n,): those that count, the nearest first.
    """
    proposals = found.proposals.taken(np.flatnonzero(found.scores >= FilterOptions().confidence))
    slices = query.layout.slices
    color, size = slices["inside color"], slices["shape"].start + SHAPES.index("size")
    own, examples = proposals.descriptors.astype(np.float32), query.descriptors.astype(np.float32)
    by_color = np.sqrt(((own[:, None, color] - examples[:, color]) ** 2).mean(2)) / MOST_COLOR
    by_size = np.abs(own[:, None, size] - examples[:, size]) / MOST_SIZE
    distance = np.hypot(by_color, by_size).min(1) if len(own) else np.zeros(0)
    near = FoundObjects(found.plane, replace(proposals, scores=(1 / (1 + distance)).astype(np.float32)))
    return near, near.select(FilterOptions(confidence=0.5))
