"""Find where a plane shows something at all: the tissue of a slide, or the cells of a field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage
from skimage.filters import gaussian, threshold_otsu

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, mask_of
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import PromptError

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.segmenter import Segmenter

# Side of the picture of the whole plane in which the threshold is sought; and how far it is blurred and grown there.
SIDE, BLUR, MARGIN = 1024, 2.0, 4
# Less contrast than this, of 255, is noise.
LEAST_CONTRAST = 12.0
TOO_LARGE = 2**30


def tissue_of(segmenter: Segmenter, plane: Plane) -> Mask:
    """Return where a plane differs from its background, by Otsu's threshold in a coarse picture of it.

    The background is what the plane's edge shows mostly, so it may be bright or dark. Holes are filled, and some margin
    is added. The mask of a plane that shows nothing is empty.

    Raises
    ------
    PromptError
        The plane is too large for a mask in memory.
    ImageError
        It cannot be read.
    """
    volume, shape = segmenter.volume, plane.shape_in(segmenter.shape)
    if shape[0] * shape[1] > TOO_LARGE:
        raise PromptError("The plane is too large to tell its tissue from the background: draw around the tissue.")
    grid = TileGrid(shape, SIDE, volume.pixel_size(plane))
    tile = grid.tile(max(grid.max_level, 0), 0, 0)
    rows, cols = (
        np.minimum((np.arange(length) / step).astype(np.intp), SIDE - 1)
        for length, step in zip(shape, tile.step, strict=True)
    )
    picture = volume.render(plane, tile, segmenter.encoder.rendering)[: rows[-1] + 1, : cols[-1] + 1].astype(np.float32)
    edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    away = gaussian(np.abs(picture - np.median(edge, axis=0)).max(axis=-1), BLUR, preserve_range=True)
    if np.ptp(away) < LEAST_CONTRAST:
        return Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool))
    found = ndimage.binary_dilation(ndimage.binary_fill_holes(away > threshold_otsu(away)), iterations=MARGIN)
    return mask_of(found[np.ix_(rows, cols)])
