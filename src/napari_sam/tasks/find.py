"""Find every object that a text names, tile by tile, each object once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_sam.arguments import number, shown
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, mask_from_logits
from napari_sam.core.predictor import TextPredictor
from napari_sam.core.prompt_checks import checked_box
from napari_sam.errors import ModelError, PromptError
from napari_sam.tasks.stitching import distinct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.geometry import Plane
    from napari_sam.segmenter import Segmenter

EVERYWHERE = Box(-math.inf, -math.inf, math.inf, math.inf)


def find(
    segmenter: Segmenter,
    text: str,
    *,
    plane: Plane | int | Sequence[int] | None = None,
    box: Box | Sequence[float] | None = None,
    downsample: float = 1.0,
    threshold: float = 0.5,
) -> list[Mask]:
    """Find the objects that a short noun phrase names.

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
    if not (hasattr(segmenter, "predictor") and hasattr(segmenter, "encoder")):
        raise ModelError(f"Objects are found in the image of a Segmenter, and {shown(segmenter)} is none: make one.")
    predictor = segmenter.predictor
    if not (isinstance(predictor, TextPredictor) and predictor.finds_text):
        raise ModelError(f"The model {predictor.name} finds nothing by words: use SAM 3 (napari-sam models says how).")
    if not (isinstance(text, str) and text.strip()):
        raise PromptError("There is no text to look for: name the objects, for example nucleus.")
    downsample = number(downsample, "The downsample", "give a number above 0; 1 looks at the image as it is", above=0)
    threshold = number(threshold, "The threshold", "give a number from 0 to 1", least=0, most=1)
    where = segmenter.plane(plane)
    grid = segmenter.encoder.grid(where)
    whole = Box.of_shape(grid.shape)
    part = (checked_box(box, EVERYWHERE) or whole).intersection(whole)
    if part.is_empty:
        raise PromptError(f"The box lies outside the plane of {grid.shape[0]} x {grid.shape[1]} pixels: move it.")
    masks = []
    for tile in grid.tiles_over(grid.clamp(round(math.log2(downsample))), part):
        found = predictor.find(segmenter.encoder.embedding(where, tile), text, threshold)
        masks += [
            mask_from_logits(logits, tile, float(score))
            for logits, score in zip(found.logits, found.scores, strict=True)
        ]
    return distinct((mask for mask in masks if mask.area and not mask.box.intersection(part).is_empty), grid.shape)
