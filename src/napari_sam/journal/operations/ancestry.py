"""Which object comes from which by division."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from napari_sam.errors import LabelsError


def checked_parents(
    parents: Mapping[int, int | None], parent_of: Callable[[int], int | None]
) -> tuple[tuple[int, int], ...]:
    """Return (object, parent) of objects that come from others, with 0 for no parent.

    Parameters
    ----------
    parents
        The parent of each object; None for none.
    parent_of
        Returns the present parent of an object; raises LabelsError where there is no such object.

    Raises
    ------
    LabelsError
        No object is named, one is not there, or one would be its own ancestor.
    """
    if not parents:
        raise LabelsError("No object is named: name at least one with its parent.")
    for child, parent in parents.items():
        parent_of(child)
        if parent is not None:
            parent_of(parent)
        seen, ancestor = {child}, parent
        while ancestor is not None:
            if ancestor in seen:
                raise LabelsError(f"Object {child} cannot come from {parent}, which comes from it: correct its parent.")
            seen.add(ancestor)
            ancestor = parents[ancestor] if ancestor in parents else _earlier(ancestor, parent_of)
    return tuple((int(child), int(parent or 0)) for child, parent in parents.items())


def _earlier(label: int, parent_of: Callable[[int], int | None]) -> int | None:
    """Return the parent of an object, or None also where the object was deleted since."""
    try:
        return parent_of(label)
    except LabelsError:
        return None
