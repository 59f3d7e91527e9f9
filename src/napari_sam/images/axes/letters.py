"""Letters of the axes of an array by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from napari_sam.images.axes.attributes import names_in
from napari_sam.images.axes.names import UNKNOWN, known_letters, letter_of


def names_of_array(array: Any) -> list[str] | None:
    """Return the names of the axes of an array that has them, as those of zarr 3, xarray and tensorstore; or None."""
    names: Any = getattr(array, "dims", None)
    if not isinstance(names, tuple):
        attributes = getattr(array, "attrs", {})
        names = names_in(
            attributes if isinstance(attributes, Mapping) else {},
            getattr(getattr(array, "metadata", None), "dimension_names", None),
        ) or getattr(getattr(array, "domain", None), "labels", None)
    return [str(name) for name in names] if names else None


def named_axes(names: Sequence[Any] | None, ndim: int, kinds: Sequence[Any] | None = None) -> tuple[str | None, str]:
    """Return the letters of the axes of an array, see `letters_of`, and those of them that are guesses."""
    letters = None if names is None else letters_of(names, ndim, kinds)
    if names is None or letters is None:
        return None, ""
    known = [letter_of(name, kind) for name, kind in zip(names, kinds or (None,) * ndim, strict=True)]
    return letters, "".join(letter for letter, name in zip(letters, known, strict=True) if name == UNKNOWN)


def letters_of(names: Sequence[Any], ndim: int, kinds: Sequence[Any] | None = None) -> str | None:
    """Return one letter for each axis of an array by their names.

    Parameters
    ----------
    names
        One for each axis, in their order; unknown ones are depth or time.
    ndim
        Number of axes of the array.
    kinds
        The OME type of each axis, or None.

    Returns
    -------
    str or None
        None where the names do not fit the array, or name no rows and columns. The samples of a color are "s" where
        they are the last axis, and else "c".
    """
    if len(names) != ndim:
        return None
    letters: list[str] = []
    for name, kind in zip(names, kinds or (None,) * ndim, strict=True):
        letter = letter_of(name, kind)
        letters.append(UNKNOWN if letter in letters and letter not in "yx" else letter)
    if "s" in letters and ("c" in letters or letters[-1] != "s"):
        other = UNKNOWN if "c" in letters else "c"
        letters = [other if letter == "s" else letter for letter in letters]
    return known_letters("".join(letters))
