"""Exemplars: boxes around objects like those that are searched, in this or in another image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_sam.arguments import each, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.prompt_checks import checked_box, point_signs
from napari_sam.core.rendering import Rendering
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import PromptError
from napari_sam.images.opening import ArrayLike
from napari_sam.images.volume import Volume

FORM = "boxes, each (top, left, bottom, right)"


class EncodedImage(Protocol):
    """An image with the encoder of its tiles, as a `Segmenter`."""

    encoder: TileEncoder


class Exemplars:
    """Boxes around examples of the objects that are searched, and of what they are not.

    Parameters
    ----------
    boxes
        Each (top, left, bottom, right), half-open, in pixels of the plane.
    labels
        Shape (n,): 1 for an object like those that are searched, 0 for one unlike them. By default all are like them.
    image
        The image of the boxes, as for `Segmenter`, or a `Segmenter` of it, whose contrast then holds. By default the
        image that is searched.
    plane
        Position of their plane along the other axes of the image. By default the plane that is searched; of another
        image that has many planes one must be named.
    """

    def __init__(
        self,
        boxes: Sequence[Box | Sequence[float]],
        labels: npt.ArrayLike | None = None,
        *,
        image: EncodedImage | Volume | ArrayLike | Sequence[ArrayLike] | str | Path | None = None,
        plane: Plane | int | Sequence[int] | None = None,
    ) -> None:
        self._boxes, self._labels, self._image, self._plane = boxes, labels, image, plane

    def checked(self, encoder: TileEncoder, plane: Plane) -> PlacedExemplars:
        """Return the examples for a search in a plane of the image of an encoder.

        Raises
        ------
        PromptError
            A box lies outside its plane, no box is of an object that is searched, or the labels do not fit.
        ImageError
            The other image or its plane cannot be read.
        """
        given: Any = self._image
        other = encoder if given is None else getattr(given, "encoder", None)
        source = other.volume if isinstance(other, TileEncoder) else Volume.of(given)
        where = plane
        if self._image is not None or self._plane is not None:
            axes = plane.axes if self._image is None else source.plane_axes
            where = Plane.of(source.shape, self._plane, axes)
        whole = Box.of_shape(where.shape_in(source.shape))
        boxes = each(list(self._boxes), "The examples", FORM, lambda box: checked_box(box, whole))
        signs = np.ones(len(boxes), bool) if self._labels is None else point_signs(self._labels)
        if len(signs) != len(boxes):
            raise PromptError(f"There are {len(boxes)} examples and {len(signs)} labels: give one label for each.")
        if not signs.any():
            raise PromptError("No example shows an object that is searched: give a box around one.")
        rendering = other.rendering if isinstance(other, TileEncoder) else source.rendering()
        return PlacedExemplars(source, where, rendering, tuple(box for box in boxes if box is not None), signs)


@dataclass(frozen=True, slots=True, eq=False)
class PlacedExemplars:
    """Checked examples.

    Parameters
    ----------
    volume, plane
        Where they are.
    rendering
        The contrast of their image.
    boxes
        In level-0 pixels.
    labels
        Shape (n,), bool: which of them are like the objects that are searched.
    """

    volume: Volume
    plane: Plane
    rendering: Rendering
    boxes: tuple[Box, ...]
    labels: npt.NDArray[np.bool_]


def checked_exemplars(given: Any) -> Exemplars:
    """Return examples that may be given as boxes.

    Raises
    ------
    PromptError
        They are neither `Exemplars` nor boxes.
    """
    if isinstance(given, Exemplars):
        return given
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise PromptError(f"The examples are {shown(given)}: give {FORM}.")
    return Exemplars(list(given))
