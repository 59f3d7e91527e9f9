"""Planes given by the names of axes, such as z=3,t=1, in prompt files and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_sam.errors import PromptError

# Spellings that mean one axis and count from 0.
AXIS_OF = {"t": "t", "c": "c", "channel": "c", "z": "z", "y": "y", "x": "x"}
# Names whose numbers start at 1 in some programs (ImageJ) and at 0 in others (trackpy).
AMBIGUOUS = {"frame": "t", "time": "t", "timepoint": "t", "time_point": "t", "slice": "z", "section": "z", "depth": "z"}
# The order of axes where no image says otherwise.
USUAL_ORDER = "tczyx"


def plane_index(
    positions: Mapping[str, int],
    names: str | None,
    shape: Sequence[int],
    plane_axes: tuple[int, int],
    default: Sequence[int] | None = None,
) -> list[int]:
    """Return the index of the plane that positions along named axes select.

    Parameters
    ----------
    positions
        For each named axis the position along it, counted from 0; names as in `AXIS_OF` and `AMBIGUOUS`.
    names
        One letter for each axis of the image, "?" for one without a name, or None where the file names none.
    shape
        Length of each axis.
    plane_axes
        The axes of the plane's rows and columns.
    default
        Position along each axis that is not one of the plane's, in order, for axes that `positions` does not name.

    Returns
    -------
    list of int
        One position for each axis that is not one of the plane's, in the order of the image's axes.

    Raises
    ------
    PromptError
        The image does not name its axes or lacks one of the names, a position does not exist, an axis of several planes
        is not named, or a name does not tell whether it counts from 0.
    """
    others = [axis for axis in range(len(shape)) if axis not in plane_axes]
    names = names or "?" * len(shape)
    unnamed = [axis for axis in others if names[axis] == "?"]
    given: dict[str, int] = {}
    for name, position in positions.items():
        letter = AXIS_OF[name] if name in AXIS_OF else _letter(name, names, shape, is_unnamed=bool(unnamed))
        # Channels are shown together, so a file may name one although no plane is chosen along them.
        if letter and (letter != "c" or "c" in names):
            given[letter] = position
    unmatched = [letter for letter in given if letter not in names]
    if len(unnamed) == 1 and len(unmatched) == 1:
        # One axis without a name, and one name that none of the others has.
        names = f"{names[: unnamed[0]]}{unmatched[0]}{names[unnamed[0] + 1 :]}"
    found = dict(zip(others, default if default is not None else [None] * len(others), strict=True))
    for letter, position in given.items():
        axis = names.find(letter)
        # Programs for images of one plane count it as z = 0, t = 0.
        if axis not in others and position == 0 and not unnamed:
            continue
        _check_axis(axis, letter, names, others)
        if not 0 <= position < shape[axis]:
            raise PromptError(
                f"{letter} = {position} does not exist: along {letter} the image has the positions 0 to "
                f"{shape[axis] - 1}"
            )
        if default is not None and found[axis] != position:
            raise PromptError(f"it lies at {letter} = {position} and another plane was asked for: leave --plane out")
        found[axis] = position
    return [_position(axis, at, names, shape) for axis, at in found.items()]


def _letter(name: str, names: str, shape: Sequence[int], *, is_unnamed: bool) -> str:
    letter = AMBIGUOUS[name]
    if (shape[names.index(letter)] == 1) if letter in names else not is_unnamed:
        return ""  # There is one position that it can name.
    raise PromptError(
        f"{name!r} counts from 1 in some programs and from 0 in others: name it {letter} and count from 0"
    )


def _check_axis(axis: int, letter: str, names: str, others: Sequence[int]) -> None:
    if axis not in others and any(names[other] == "?" for other in others):
        raise PromptError(
            f"the image does not say which of its axes is {letter}: give positions in the order of its axes, as plane"
        )
    if axis not in others:
        known = ", ".join(names[other] for other in others) or "none besides the plane's own"
        raise PromptError(f"the image has no axis {letter} to choose a plane along: its axes are {known}")


def _position(axis: int, at: int | None, names: str, shape: Sequence[int]) -> int:
    if at is not None:
        return int(at)
    if shape[axis] == 1:
        return 0
    name = f"axis {axis}" if names[axis] == "?" else names[axis]
    raise PromptError(f"it does not say where along {name}, which has {shape[axis]} positions: name that one, too")
