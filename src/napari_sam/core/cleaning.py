"""Cleaning of masks before they are written: holes, small parts, rough outlines and small objects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.arguments import flag, number
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask

CUT = 0.5
# The Gaussian is cut off beyond this many sigmas.
REACH = 4.0
# Largest sigma of the smoothing in pixels; it works on a box that is larger than the mask by four sigmas.
MAX_SMOOTH = 1000.0


@dataclass(frozen=True, slots=True)
class Cleaning:
    """Options of cleaning masks, applied in this order. The default changes nothing.

    Parameters
    ----------
    keep_largest
        Leave out all parts but the largest; pixels that meet at a corner are of one part.
    fill_holes
        Fill what the mask encloses, up to this many pixels for each hole: 0 fills none, None fills all.
    smooth
        Scale in pixels of the Gaussian that rounds the border; 0 leaves it.
    minimum_size
        Parts of fewer pixels are left out; the mask may be empty then.

    Raises
    ------
    PromptError
        A number is negative or none.
    """

    keep_largest: bool = False
    fill_holes: int | None = 0
    smooth: float = 0.0
    minimum_size: int = 0

    def __post_init__(self) -> None:
        keep = flag(self.keep_largest, "keep_largest")
        object.__setattr__(self, "keep_largest", keep)
        for name, most in (("fill_holes", math.inf), ("smooth", MAX_SMOOTH), ("minimum_size", math.inf)):
            value = getattr(self, name)
            if name == "fill_holes" and value is None:
                continue
            advice = "give a number from 0 on" if most == math.inf else f"give a number from 0 to {most:g}"
            found = number(value, f"Cleaning by {name}", advice, least=0, most=most)
            object.__setattr__(self, name, int(found) if found.is_integer() and name != "smooth" else found)

    @property
    def changes_nothing(self) -> bool:
        """Whether every mask stays as it is."""
        return self == Cleaning()

    def __call__(self, mask: Mask, shape: tuple[int, int]) -> Mask:
        """Return the cleaned mask.

        Parameters
        ----------
        mask
            Any mask; an empty one stays empty.
        shape
            Rows and columns of the plane, which a smoothed mask does not leave.

        Returns
        -------
        Mask
            Tight around its pixels, with the scores that it had. Its logits are kept, so that it can be corrected.
        """
        if self.changes_nothing or mask.area == 0:
            return mask
        if self.keep_largest:
            mask = keep_largest(mask)
        if self.fill_holes != 0:
            mask = fill_holes(mask, self.fill_holes)
        if self.smooth > 0:
            mask = smooth(mask, self.smooth, shape)
        if self.minimum_size > 0:
            mask = drop_small(mask, self.minimum_size)
        return mask.tightened()


def keep_largest(mask: Mask) -> Mask:
    """Return the largest part of a mask, the first of equals; pixels that touch at a corner are connected."""
    parts, sizes = _parts(mask.pixels)
    return mask if len(sizes) < 2 else replace(mask, pixels=parts == int(np.argmax(sizes)) + 1)


def drop_small(mask: Mask, minimum_size: int) -> Mask:
    """Return a mask without its parts of fewer than `minimum_size` pixels."""
    parts, sizes = _parts(mask.pixels)
    keeps = np.concatenate([[False], sizes >= minimum_size])
    return replace(mask, pixels=keeps[parts])


def fill_holes(mask: Mask, most: int | None = None) -> Mask:
    """Return a mask with its holes of up to `most` pixels filled; all of them by default.

    A hole is background that no path of side-by-side pixels leads out of.
    """
    holes = ndimage.binary_fill_holes(mask.pixels) & ~mask.pixels
    if most is not None:
        numbers, _ = ndimage.label(holes)
        sizes = np.bincount(numbers.ravel())
        holes &= sizes[numbers] <= most
    return replace(mask, pixels=mask.pixels | holes)


def smooth(mask: Mask, sigma: float, shape: tuple[int, int]) -> Mask:
    """Return a mask whose border is rounded by a Gaussian of scale `sigma` in pixels, cut at one half.

    The plane's own border is no border of the object: beyond it the mask goes on as it ends. A mask that is too thin
    to be left with anything stays as it is.
    """
    margin = int(np.ceil(REACH * sigma))
    box = mask.box.grown(margin)
    padded = np.pad(mask.pixels, margin).astype(np.float32)
    inside = Box(*(int(edge) for edge in box.intersection(Box.of_shape(shape)).as_tuple()))
    within = padded[inside.moved(-box.top, -box.left).slices]
    # Only at the border of the plane does the mask touch the box; elsewhere its border is background.
    pixels = ndimage.gaussian_filter(within, sigma, mode="nearest", truncate=REACH) > CUT
    return replace(mask, box=inside, pixels=pixels).tightened() if pixels.any() else mask


def _parts(pixels: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    parts, count = ndimage.label(pixels, np.ones((3, 3)))
    return parts, np.bincount(parts.ravel(), minlength=count + 1)[1:]
