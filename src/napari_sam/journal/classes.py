"""Classes of objects: made by their first use, named and coloured."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from napari_sam.errors import LabelsError
from napari_sam.journal.entries import LabelClass

# Turned by the golden ratio, no two of many hues come near each other.
GOLDEN_TURN = 0.618034


def class_named(classes: Sequence[LabelClass], name: str) -> LabelClass:
    """Return the class of a name as it is, or as it would be made.

    Raises
    ------
    LabelsError
        The name is empty.
    """
    known = next((kind for kind in classes if kind.name == name), None)
    if known is not None:
        return known
    number = max((kind.number for kind in classes), default=0) + 1
    return LabelClass(number, _checked_name(name), colorsys.hsv_to_rgb(number * GOLDEN_TURN % 1, 0.7, 1.0))


def defined_class(
    classes: Sequence[LabelClass], name: str, color: Sequence[float] | None, renamed: str | None
) -> LabelClass:
    """Return the class of a name with another colour or name; see `Journal.define_class`.

    Raises
    ------
    LabelsError
        The name is empty or taken, or the colour is none.
    """
    kind = class_named(classes, name)
    if renamed is not None and renamed != name and any(other.name == renamed for other in classes):
        raise LabelsError(f"There is a class {renamed!r} already: choose another name.")
    shade = kind.color if color is None else _checked_color(color)
    return LabelClass(kind.number, _checked_name(name if renamed is None else renamed), shade)


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise LabelsError(f"A class needs a name, and {name!r} is none: give it a word.")
    return name


def _checked_color(color: Sequence[float]) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(value) for value in color)
    except (TypeError, ValueError):
        red = green = blue = -1.0
    if not all(0 <= value <= 1 for value in (red, green, blue)):
        raise LabelsError(f"A colour is (red, green, blue) from 0 to 1, and {color!r} is none: correct it.")
    return red, green, blue
