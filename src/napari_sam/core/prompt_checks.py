"""Check the parts of a prompt: signs of points, boxes, masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_sam.arguments import as_numpy, numbers, shown
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask, mask_of
from napari_sam.errors import NapariSamError, PromptError

# Pixels of a mask prompt, a byte each.
MAX_MASK_PIXELS = 2**30


def check_mask_size(box: Box) -> None:
    """Refuse a mask prompt that would not fit into memory.

    Raises
    ------
    PromptError
        The box holds more than `MAX_MASK_PIXELS`.
    """
    if not box.is_empty and box.height * box.width > MAX_MASK_PIXELS:
        raise PromptError(
            f"A mask of {box.height:.0f} x {box.width:.0f} pixels is too large for a prompt: draw it on a reduced "
            "copy of the image, or give a box."
        )


def point_signs(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return which points lie on the object, shape (n,).

    Raises
    ------
    PromptError
        They are not 0 and 1, or not one-dimensional.
    """

    def refusal() -> PromptError:
        return PromptError(
            "Point labels must be 1 (on the object) or 0 (not on it), one for each point, and these are "
            f"{shown(labels)}."
        )

    try:
        values = np.atleast_1d(as_numpy(labels))
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise refusal() from error
    if values.size == 0:
        return np.zeros(0, bool)
    if values.ndim != 1 or values.dtype.kind not in "biufO" or np.ma.is_masked(values):
        raise refusal()
    try:
        are_signs = all(value in (0, 1) for value in values.tolist())
    except TypeError as error:  # pandas' missing value is neither equal nor unequal to anything.
        raise refusal() from error
    if not are_signs:
        raise refusal()
    return values.astype(bool)


def checked_box(box: Box | Sequence[float] | None, plane: Box) -> Box | None:
    """Return the part of a box that lies in a plane.

    Raises
    ------
    PromptError
        It is not a box, is empty, or lies outside.
    """
    if box is None:
        return None
    edges = numbers(box.as_tuple() if isinstance(box, Box) else box, "A box's edges", "top, left, bottom, right")
    if edges.shape != (4,) or not np.isfinite(edges).all():
        raise PromptError(
            f"A box needs four numbers, top, left, bottom, right, and this one is {shown(edges.tolist())}."
        )
    values = edges.tolist()
    checked = Box(*values)
    if checked.height < 0 or checked.width < 0:
        raise PromptError(
            f"The box {_short(values)} is upside down: give (top, left, bottom, right), top < bottom and left < right."
        )
    if checked.is_empty:
        raise PromptError(f"The box {_short(values)} has no area: draw it around the object.")
    if not plane.contains(checked):
        inside = checked.intersection(plane)
        if inside.is_empty:
            raise PromptError(
                f"The box {_short(values)} lies outside the image of {plane.bottom:g} x {plane.right:g} pixels: "
                "put it inside."
            )
        checked = inside
    return checked


def checked_mask(mask: Mask | ArrayLike | None, shape: tuple[int, int]) -> Mask | None:
    """Return a mask prompt, given as a `Mask` or as an array of a plane of `shape`.

    Raises
    ------
    PromptError
        It is not a mask, is empty, or does not fit the plane.
    """
    if mask is None:
        return None
    if isinstance(mask, Mask):
        check_mask(mask)
        if mask.area == 0 or not Box.of_shape(shape).contains(mask.box):
            raise PromptError("The mask prompt is empty or reaches outside the image: draw it over the object.")
        return mask
    pixels = _mask_pixels(mask)
    if pixels.shape != tuple(shape):
        raise PromptError(f"The mask prompt has shape {pixels.shape} and the plane {tuple(shape)}: make them equal.")
    if not pixels.any():
        raise PromptError("The mask prompt is empty: mark at least one pixel of the object.")
    return mask_of(pixels)


def _mask_pixels(mask: ArrayLike) -> NDArray[np.bool_]:
    """Return where a mask is not zero; masked pixels are not on the object."""

    def refusal() -> PromptError:
        return PromptError(f"A mask prompt must be an array of True and False and is {shown(mask)}: correct it.")

    try:
        values = as_numpy(mask)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise refusal() from error
    if values.dtype.kind not in "biuf" or (values.dtype.kind == "f" and np.isnan(values).any()):
        raise refusal()
    return np.asarray(np.ma.filled(values, 0), bool)


def check_mask(mask: Mask, error: type[NapariSamError] = PromptError) -> None:
    """Refuse a `Mask` made by hand whose pixels do not fill its box.

    Raises
    ------
    NapariSamError
        The box has no whole edges, or the pixels are not boolean or of another shape.
    """
    if not isinstance(mask.box, Box):
        raise error(f"The box of a mask must be a Box and is {shown(mask.box)}: correct the mask.")
    edges = numbers(mask.box.as_tuple(), "The edges of a mask's box", "top, left, bottom, right", error)
    pixels = mask.pixels
    fits = (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.bool_
        and np.isfinite(edges).all()
        and (edges == np.floor(edges)).all()
        and pixels.shape == mask.box.pixel_shape
    )
    if not fits:
        raise error(
            f"The mask's pixels must be True and False and fill its box {shown(mask.box.as_tuple())}, whose edges "
            "are whole numbers: correct the mask."
        )


def _short(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
