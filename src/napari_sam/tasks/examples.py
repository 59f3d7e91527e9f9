"""Take objects of a label image as examples, by which similar ones are found elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.exports.opening import opened_source
from napari_sam.exports.options import ExportOptions
from napari_sam.similarity.query import Query

if TYPE_CHECKING:
    from napari_sam.everything.found import FoundObjects
    from napari_sam.exports.source import ExportSource
    from napari_sam.segmenter import Segmenter

# More examples say nothing new, and all are compared with every proposal.
MOST_EXAMPLES = 200


def examples_of_labels(
    segmenter: Segmenter,
    labels: str | Path | Any,
    *,
    chosen: Sequence[int] | None = None,
    class_name: str | None = None,
) -> Query:
    """Describe objects of a label image.

    An object in several planes is described in that where it is largest. Of more than 200 objects, 200 are drawn that
    are spread over all.

    Parameters
    ----------
    segmenter
        The image and the model.
    labels
        The label image, of the image's shape: an array, or a file of any kind that is read. With a journal beside it
        the examples have the classes of the objects.
    chosen
        Labels of the examples; all objects by default.
    class_name
        Name of their kind; by default the class of each object, if it has one.

    Returns
    -------
    Query
        The examples.

    Raises
    ------
    LabelsError, ImageError, ModelError
        The labels cannot be read, have another shape or none of the objects, or the model cannot compare objects.
    """
    with ExitStack() as stack:
        source = opened_source(labels, None, ExportOptions.of(labels=chosen), stack)
        if tuple(source.labels.shape) != tuple(segmenter.shape):
            raise LabelsError(
                f"The labels have the shape {tuple(source.labels.shape)} and the image {tuple(segmenter.shape)}: give "
                "labels of this image."
            )
        masks = []
        for at in _spread(len(source.extents)):
            known = source.class_of(int(source.extents.labels[at]))
            masks.append((*_largest_part(segmenter, source, at), None if known is None else known.name))
    if not masks:
        raise LabelsError("There is no object in the labels to take as an example: choose other labels.")
    return described_examples(
        segmenter, [(plane, mask, name if class_name is None else class_name) for plane, mask, name in masks]
    )


def described_examples(
    segmenter: Segmenter,
    examples: Sequence[tuple[Plane, Mask, str | None]],
    found_on: Callable[[Plane], FoundObjects | None] = lambda _: None,
) -> Query:
    """Describe objects of several planes and classes as one query.

    Parameters
    ----------
    segmenter
        The image and the model.
    examples
        The plane, the mask and the name of the class of each, at least one.
    found_on
        Returns what was found in a plane, of which nothing is encoded again.
    """
    groups: dict[tuple[Plane, str | None], list[Mask]] = {}
    for plane, mask, name in examples:
        groups.setdefault((plane, name), []).append(mask)
    return reduce(
        Query.joined,
        (
            segmenter.examples(masks, plane=plane, class_name=name, found=found_on(plane))
            for (plane, name), masks in groups.items()
        ),
    )


def _spread(count: int) -> list[int]:
    if count <= MOST_EXAMPLES:
        return list(range(count))
    return [int(at) for at in np.linspace(0, count - 1, MOST_EXAMPLES).round()]


def _largest_part(segmenter: Segmenter, source: ExportSource, at: int) -> tuple[Plane, Mask]:
    """Return the plane in which an object is largest, and its mask there."""
    extents = source.extents
    start, stop, label = extents.starts[at], extents.stops[at], int(extents.labels[at])
    axes = segmenter.planes()[0].axes
    region = tuple(slice(int(low), int(high)) for low, high in zip(start, stop, strict=True))
    pixels = source.read(region) == label
    areas = pixels.sum(axis=axes)
    best = np.unravel_index(int(areas.argmax()), areas.shape) if areas.ndim else ()
    others = [axis for axis in range(pixels.ndim) if axis not in axes]
    position = [int(start[axis]) + int(here) for axis, here in zip(others, best, strict=True)]
    plane = segmenter.plane(position)
    index: list[int | slice] = [slice(None)] * pixels.ndim
    for axis, here in zip(others, best, strict=True):
        index[axis] = int(here)
    box = Box(*chain.from_iterable([[int(edge[axis]) for axis in axes] for edge in (start, stop)]))
    return plane, Mask(box, plane.oriented(pixels[tuple(index)])).tightened()
