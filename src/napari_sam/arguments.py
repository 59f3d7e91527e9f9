"""Check and convert what callers pass, so that a wrong argument ends in one sentence and no traceback.

Numbers may be Python's, numpy's or those of a torch tensor. Text, dates, complex numbers and masked values are no
numbers here, although numpy converts some of them without a word.
"""

from __future__ import annotations

import math
import operator
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import NapariSamError, PromptError

MAX_NAME_BYTES = 255
SHOWN_CHARACTERS = 60
Error = type[NapariSamError]
T = TypeVar("T")


def shown(value: Any) -> str:
    """Return a value as it is shown in a message, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # A container may hold what cannot be shown, such as a number of 5000 digits.
        text = f"a {type(value).__name__}"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 4]} ..."


def as_numpy(value: Any) -> NDArray[Any]:
    """Return a list, numpy array, torch tensor or data frame as a numpy array; raises what the conversion raises.

    Sets and iterators are refused: they have no order, or can be read only once.
    """
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # A torch tensor, on any device, with or without gradient.
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    elif isinstance(value, (set, frozenset, dict)) or (isinstance(value, Iterable) and not hasattr(value, "__len__")):
        raise TypeError(f"a {type(value).__name__} has no order or length")
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.VisibleDeprecationWarning)
        return np.asarray(value)


def numbers(value: Any, what: str, form: str, error: Error = PromptError) -> NDArray[np.float64]:
    """Return real numbers as float64.

    Parameters
    ----------
    value
        A sequence, array or tensor.
    what, form
        The start of the message, a plural such as "Points", and the form that they should have.
    error
        Class of the error.

    Raises
    ------
    NapariSamError
        They are no real numbers, some are masked, or they are too large for double precision.
    """

    def refusal() -> NapariSamError:
        return error(f"{what} must be numbers, {form}, and these are {shown(value)}: correct them.")

    try:
        array = as_numpy(value)
        if array.dtype.kind == "O" and not any(item is None or isinstance(item, (str, bytes)) for item in array.flat):
            array = array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as cause:
        raise refusal() from cause
    if array.size and (array.dtype.kind not in "iuf" or np.ma.is_masked(array)):
        raise refusal()
    return np.asarray(array, np.float64)


def number(
    value: Any,
    what: str,
    advice: str,
    error: Error = PromptError,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
) -> float:
    """Return one finite number.

    Parameters
    ----------
    value
        A number, or an array or tensor without axes.
    what, advice
        The subject and the end of the message.
    error
        Class of the error.
    least, above, most
        What it may be: `least` or more, more than `above`, `most` or less.

    Raises
    ------
    NapariSamError
        It is no finite number, or outside these limits.
    """

    def refusal() -> NapariSamError:
        return error(f"{what} cannot be {shown(value)}: {advice}.")

    try:
        array = as_numpy(value)
        if array.ndim or array.dtype.kind not in "iufO" or isinstance(value, (str, bytes)) or np.ma.is_masked(array):
            raise refusal()
        found = float(array[()])
    except (TypeError, ValueError, OverflowError, RuntimeError) as cause:
        raise refusal() from cause
    if not (math.isfinite(found) and least <= found <= most and found > above):
        raise refusal()
    return found


def whole(
    value: Any, what: str, advice: str, error: Error = PromptError, *, least: int, most: int | None = None
) -> int:
    """Return one whole number; True and False are none, and neither is 2.0.

    Parameters
    ----------
    value, what, advice, error
        As in `number`.
    least, most
        The smallest and the largest one allowed.

    Raises
    ------
    NapariSamError
        It is no whole number, or outside these limits.
    """
    found = index_of(value)
    if found is None or found < least or (most is not None and found > most):
        raise error(f"{what} cannot be {shown(value)}: {advice}.")
    return found


def index_of(value: Any) -> int | None:
    """Return a value as a whole number, or None where it is none; arrays and tensors without axes are taken."""
    if isinstance(value, (bool, np.bool_)) or "bool" in str(getattr(value, "dtype", "")) or np.ma.is_masked(value):
        return None
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def flag(value: Any, what: str, error: Error = PromptError) -> bool:
    """Return True or False, numpy's included.

    Raises
    ------
    NapariSamError
        It is something else.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise error(f"{what} must be True or False and is {shown(value)}: correct it.")
    return bool(value)


def choice(value: Any, what: str, known: Collection[str], error: Error = PromptError) -> str:
    """Return one of some words.

    Raises
    ------
    NapariSamError
        It is another one.
    """
    if not isinstance(value, str) or value not in known:
        *most, last = known
        raise error(f"{what} cannot be {shown(value)}: use {', '.join(most)} or {last}.")
    return value


def shape_of(value: Any, what: str, error: Error, axes: int | None = None) -> tuple[int, ...]:
    """Return a shape as whole numbers from 0 on.

    Parameters
    ----------
    value
        A sequence, array or tensor.
    what
        The start of the message, such as "The shape of the image".
    error
        Class of the error.
    axes
        How many axes it must have; any number when left out.

    Raises
    ------
    NapariSamError
        It is no shape, or has another number of axes.
    """
    is_row = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    values = list(value) if is_row or getattr(value, "ndim", 0) == 1 else [None]
    found = [index_of(length) for length in values]
    if any(length is None or length < 0 for length in found) or axes not in (None, len(found)):
        numbers = "whole numbers from 0 on" if axes is None else f"{axes} whole numbers from 0 on"
        raise error(f"{what} must be {numbers} and is {shown(value)}: correct it.")
    return tuple(length for length in found if length is not None)


def path_argument(value: Any, what: str, error: Error) -> Path:
    """Return a path as one that the system can look up.

    Raises
    ------
    NapariSamError
        It is no path, is empty, holds a NUL character, or a name in it is longer than file systems allow.
    """
    try:
        path = Path(os.fspath(value)) if not isinstance(value, bytes) else None
    except TypeError:
        path = None
    if path is None:
        raise error(f"{what} must be a path and is {shown(value)}: give a text or a Path.")
    text = str(path)
    if not os.fspath(value) or "\0" in text:
        raise error(f"{what} {shown(text)} is no path: it {'holds a NUL character' if text != '.' else 'is empty'}.")
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    if longest > MAX_NAME_BYTES:
        raise error(
            f"{what} {shown(text)} holds a name of {longest} bytes, and file systems allow {MAX_NAME_BYTES}: "
            "shorten it."
        )
    return path


def each(values: Any, what: str, form: str, convert: Callable[[Any], T], error: Error = PromptError) -> list[T]:
    """Return the converted items of a sequence, array or tensor; text and sets are no sequences here.

    Raises
    ------
    NapariSamError
        It is no sequence.
    """
    if isinstance(values, (str, bytes)) or not (isinstance(values, Sequence) or getattr(values, "ndim", 0) == 1):
        raise error(f"{what} must be {form} and is {shown(values)}: correct it.")
    return [convert(item) for item in values]
