"""Find every object that a text names in the image of a Segmenter, as a list of masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.arguments import shown
from napari_sam.core.masks import Mask
from napari_sam.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.geometry import Box, Plane
    from napari_sam.segmenter import Segmenter


def find(
    segmenter: Segmenter,
    text: str,
    *,
    plane: Plane | int | Sequence[int] | None = None,
    box: Box | Sequence[float] | None = None,
    downsample: float = 1.0,
    threshold: float = 0.5,
) -> list[Mask]:
    """Find the objects that a short noun phrase names; `Segmenter.find` can do more.

    Parameters
    ----------
    segmenter
        Image and model; the model must take text (SAM 3).
    text
        Short noun phrase, for example "nucleus".
    plane
        Position along the other axes of an nD image, as in `Segmenter.segment`.
    box
        (top, left, bottom, right), half-open, in pixels of the plane, to search only there. By default the whole plane.
    downsample
        Image pixels along each axis for one pixel of the encoder, above 0. Objects whose side is a twentieth to a half
        of 1008 times that are found best.
    threshold
        Minimum score, 0 to 1.

    Returns
    -------
    list of Mask
        One mask for each object, by falling score, which is its `iou_prediction`. Of an object seen from several tiles
        the view that is not cut.

    Raises
    ------
    ModelError
        The model takes no text.
    PromptError
        The text is empty, or the box lies outside the image.
    """
    if not (hasattr(segmenter, "find") and hasattr(segmenter, "encoder")):
        raise ModelError(f"Objects are found in the image of a Segmenter, and {shown(segmenter)} is none: make one.")
    found = segmenter.find(text, plane=plane, box=box, downsample=downsample, threshold=threshold)
    return [found.mask(i) for i in range(len(found))]
