"""Read and write prompts as CSV, with our columns or those of napari's Points and Shapes layers."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO

import numpy as np

from napari_sam.errors import PromptError
from napari_sam.exchange.named_planes import AMBIGUOUS, AXIS_OF
from napari_sam.exchange.object_prompts import GivenPlane, ObjectPrompts, Point, PromptBuilder, PromptBuilders
from napari_sam.files.paths import shortened

CLASS = ("class", "class_name", "category")
OBJECT, SIGN = ("object", "object_id", "object-id"), ("label", "sign", "positive")
BOX = ("top", "left", "bottom", "right")
POSITIVE, NEGATIVE = ("1", "+", "true", "positive", "1.0", ""), ("0", "-", "-1", "false", "negative", "0.0", "-1.0")
ELLIPSE_CORNERS = 64
MAX_NAME = 200
_NUMBERED = re.compile(r"(axis|plane)-(\d{1,3})", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Columns:
    """Names of the columns that hold something, as far as there are such."""

    points: tuple[str, str] | None
    has_boxes: bool
    planes: tuple[str, ...]
    is_named: bool
    rounds: bool
    own: str | None
    kind: str | None
    sign: str | None


def parse_csv(text: str, name: str, axes: tuple[str, str] = ("y", "x")) -> list[ObjectPrompts]:
    """Read the prompts of many objects.

    Parameters
    ----------
    text
        With a header, in any order of columns. Points have the columns object, row and col (or y and x) and label;
        boxes object, top, left, bottom and right. The column class is the object's class. The plane is given by
        columns that are named like the image's axes (z, t), by plane, or by plane-0, plane-1 ... in the order of the
        image's axes; all count from 0. An object may have prompts in several planes. What a row does not use is left
        empty. Without the column object every row is one object. napari's columns are index, axis-0, axis-1 ..., with
        shape-type for shapes.
    name
        Of the file, for messages.
    axes
        Names of the axes that are the rows and columns of the planes.

    Raises
    ------
    PromptError
        The columns are others, or a cell is not understood.
    """
    rows, header = _rows(text, name)
    napari_axes = _numbered(header, "axis")
    if "shape-type" in header and len(napari_axes) >= 2:
        return _shapes(rows, napari_axes, name)
    columns = _columns(header, axes, name)
    given: list[tuple[str, GivenPlane]] = []
    for at, (number, row) in enumerate(rows, start=1):
        with _told(number, name):
            key = row[columns.own].strip() if columns.own else str(at)
            given.append((_checked_name(key), _plane_of(row, columns)))
    builders = PromptBuilders(given)
    for (number, row), one in zip(rows, given, strict=True):
        with _told(number, name):
            _add_row(builders.builder(*one), row, columns)
    return builders.built()


@contextmanager
def _told(number: int, name: str) -> Iterator[None]:
    """Say on which line of a file an error is."""
    try:
        yield
    except PromptError as error:
        raise PromptError(f"Line {number} of {name} is not understood: {error}.") from error


def format_csv(objects: Sequence[ObjectPrompts]) -> str:
    """Return the points and boxes of many objects as CSV that `parse_csv` reads; polygons are left out."""
    planes = max((len(one.plane or ()) for one in objects), default=0)
    plane_columns = ["plane"] if planes == 1 else [f"plane-{i}" for i in range(planes)]
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    has_classes = any(one.class_name for one in objects)
    writer.writerow(["object", "row", "col", "label", *BOX, *plane_columns, *(["class"] if has_classes else [])])
    for one in objects:
        last = [*(one.plane or [""] * planes), *([one.class_name or ""] if has_classes else [])]
        if one.box is not None:
            writer.writerow([one.name, "", "", "", *map(_short, one.box), *last])
        for (row, col), is_positive in zip(one.points, one.labels, strict=True):
            writer.writerow([one.name, _short(row), _short(col), int(is_positive), "", "", "", "", *last])
    return out.getvalue()


def _rows(text: str, name: str) -> tuple[list[tuple[int, Row]], list[str]]:
    """Return the rows that hold something, with their line numbers, and the header."""
    lines = StringIO(text, newline="")
    first = lines.readline()
    separator = first.rstrip("\r\n").lower().removeprefix("sep=")
    # Excel may write the separator into a line of its own.
    if not (first.lower().startswith("sep=") and len(separator) == 1):
        separator = max(",;\t", key=first.count)
        lines.seek(0)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    try:
        header = [column.strip().lower() for column in next(reader, [])]
        rows = [
            (reader.line_num, _row(cells, header, reader.line_num, name))
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    except csv.Error as error:
        raise PromptError(
            f"Line {reader.line_num} of {name} is no CSV ({error}): is a quotation mark missing or left open?"
        ) from error
    return rows, header


def _row(cells: list[str], header: list[str], number: int, name: str) -> Row:
    if any(cell.strip() for cell in cells[len(header) :]):
        raise PromptError(
            f"Line {number} of {name} has {len(cells)} cells and the header {len(header)}: write numbers with a "
            "decimal point, or separate the cells by semicolons."
        )
    return dict(zip(header, cells + [""] * (len(header) - len(cells)), strict=False))


def _columns(header: Sequence[str], axes: tuple[str, str], name: str) -> _Columns:
    """Find the columns of points, boxes and planes.

    Raises
    ------
    PromptError
        There are neither points nor boxes, or two columns say the same.
    """
    napari_axes = _numbered(header, "axis")
    row, col = _first(header, ("row", axes[0])), _first(header, ("col", "column", axes[1]))
    if len(napari_axes) >= 2:
        row, col = napari_axes[-2:]
    has_boxes = all(column in header for column in BOX)
    if {"width", "height"} <= set(header) and not has_boxes and not {"bx", "by"} & set(header):
        # The points would be corners of the boxes. ImageJ, which has the columns too, calls the corners BX and BY.
        raise PromptError(
            f"{name} gives boxes by width and height: give their edges in the columns top, left, bottom and right, in "
            "pixels."
        )
    if (row is None or col is None) and not has_boxes:
        raise PromptError(
            f"{name} has the columns {shortened(', '.join(header) or 'none')}: name them object,row,col,label for "
            "points, or object,top,left,bottom,right for boxes."
        )
    if napari_axes and napari_axes != [f"axis-{number}" for number in range(len(napari_axes))]:
        raise PromptError(f"{name} has the columns {', '.join(napari_axes)}: one of the axes is missing.")
    is_of_napari = len(napari_axes) >= 2
    numbered, named = (napari_axes[:-2], []) if is_of_napari else _plane_columns(header, axes, name)
    found = _Columns(
        points=None if row is None or col is None else (row, col),
        has_boxes=has_boxes,
        planes=tuple(numbered or named),
        is_named=not numbered,
        rounds=bool(napari_axes[:-2]),
        own=_first(header, OBJECT),
        kind=_first(header, CLASS),
        sign=_first(header, SIGN),
    )
    used = (*(found.points or ()), *(BOX if has_boxes else ()), *found.planes, found.own, found.kind, found.sign)
    twice = next((column for column in used if column is not None and header.count(column) > 1), None)
    if twice is not None:
        raise PromptError(f"{name} has two columns {twice}: leave one of them out.")
    return found


def _plane_columns(header: Sequence[str], axes: tuple[str, str], name: str) -> tuple[list[str], list[str]]:
    """Return the columns that name the plane in the order of the image's axes, or else those named like its axes.

    Raises
    ------
    PromptError
        There are both.
    """
    numbered = _numbered(header, "plane") or [column for column in header if column == "plane"]
    named = [column for column in header if column in AXIS_OF and AXIS_OF[column] not in (*axes, "c")]
    if numbered and named:
        raise PromptError(
            f"{name} has the columns {numbered[0]} and {named[0]}, which both name a plane: leave one of them out."
        )
    if numbered:
        return numbered, []
    # Their numbers may start at 1, so they count only where nothing else names the plane.
    ambiguous = [] if named else [column for column in header if column in AMBIGUOUS]
    return [], [*named, *ambiguous, *(column for column in header if AXIS_OF.get(column) == "c")]


def _checked_name(name: str) -> str:
    if not name:
        raise PromptError("the column object is empty: give every row the number of its object")
    if len(name) > MAX_NAME:
        raise PromptError(f"the object's name has {len(name)} characters: give it a number")
    return name


def _plane_of(row: Row, columns: _Columns) -> GivenPlane:
    cells = {column: row[column].strip() for column in columns.planes}
    if columns.is_named:
        given = {column: _whole(cell) for column, cell in cells.items() if _is_position(column, cell)}
        return GivenPlane(named=tuple(given.items()))
    whole = _rounded if columns.rounds else _whole
    return GivenPlane(tuple(whole(cell) for cell in cells.values()) if any(cells.values()) else None)


def _add_row(builder: PromptBuilder, row: Row, columns: _Columns) -> None:
    _add_prompts(builder, row, columns)
    kind = row[columns.kind].strip() if columns.kind else ""
    if len(kind) > MAX_NAME:
        raise PromptError(f"the name of its class has {len(kind)} characters: give it a shorter one")
    builder.set_class(kind)


def _is_position(column: str, cell: str) -> bool:
    """Say whether a cell names a position along an axis; a channel may be named by a word, which does not count."""
    return bool(cell) and (AXIS_OF.get(column) != "c" or (cell.isascii() and cell.isdigit()))


def _add_prompts(builder: PromptBuilder, row: Row, columns: _Columns) -> None:
    at = [row[column].strip() for column in columns.points or ()]
    edges = [row[column].strip() for column in BOX] if columns.has_boxes else []
    if not any(at) and not any(edges):
        raise PromptError("it holds neither a point nor a box: fill in row and col, or all four edges")
    if any(edges):
        top, left, bottom, right = (_number(edge) for edge in edges)
        builder.set_box((top, left, bottom, right))
    if any(at):
        y, x = (_number(value) for value in at)
        builder.add_point((y, x), _is_positive(row[columns.sign]) if columns.sign else True)


def _shapes(rows: list[tuple[int, Row]], axes: Sequence[str], name: str) -> list[ObjectPrompts]:
    """Read napari's CSV of a Shapes layer: one row for each corner, one object for each shape."""
    corners: dict[str, list[list[float]]] = {}
    kinds: dict[str, str] = {}
    for number, row in rows:
        try:
            key = _whole_name(row.get("index", ""))
            corners.setdefault(key, []).append([_number(row[axis]) for axis in axes])
        except PromptError as error:
            raise PromptError(f"Line {number} of {name} is not understood: {error}.") from error
        if kinds.setdefault(key, kind := row["shape-type"].strip().lower()) != kind:
            raise PromptError(f"Line {number} of {name} is not understood: shape {key} has two types.")
    objects = []
    for key, kind in kinds.items():
        at = np.array(corners[key])
        if kind not in ("rectangle", "ellipse", "polygon", "path", "line"):
            raise PromptError(
                f"{name} has a shape of the type {shortened(kind)!r}: use rectangles, ellipses, polygons or paths."
            )
        planes = {tuple(round(float(value)) for value in corner) for corner in at[:, :-2]}
        if len(planes) > 1:
            raise PromptError(f"Shape {key} of {name} lies in {len(planes)} planes: draw a shape for each plane.")
        builder = PromptBuilder(str(int(key) + 1), GivenPlane(planes.pop() or None))
        _add_shape(builder, kind, at[:, -2:])
        objects.append(builder.built())
    return objects


def _add_shape(builder: PromptBuilder, kind: str, corners: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    low, high = corners.min(axis=0), corners.max(axis=0)
    if kind == "rectangle":
        # napari's whole numbers are pixel centres, and a box counts edges.
        top, left, bottom, right = (float(edge) + 0.5 for edge in (*low, *high))
        builder.set_box((top, left, bottom, right))
    elif kind == "ellipse":
        angles = np.linspace(0, 2 * np.pi, ELLIPSE_CORNERS, endpoint=False)
        around = (low + high) / 2 + np.stack([np.sin(angles), np.cos(angles)], 1) * (high - low) / 2
        builder.polygons.append(_points(around))
    elif kind == "polygon":
        builder.polygons.append(_points(corners))
    else:
        for point in _points(corners):
            builder.add_point(point, True)


def _points(values: Iterable[Iterable[float]]) -> tuple[Point, ...]:
    return tuple((float(row), float(col)) for row, col in values)


def _numbered(header: Sequence[str], name: str) -> list[str]:
    """Return the columns NAME-0, NAME-1 ... in the order of their numbers."""
    found = {
        int(match[2]): match[0] for column in header if (match := _NUMBERED.fullmatch(column)) and match[1] == name
    }
    return [found[number] for number in sorted(found)]


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((column for column in names if column in header), None)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        if _DECIMAL_COMMA.fullmatch(cell.strip()):
            raise PromptError(f"{cell.strip()!r} has a decimal comma: write numbers with a decimal point")
        raise PromptError(f"{shortened(cell.strip())!r} is no number: correct it")
    return value


def _whole(cell: str) -> int:
    value = _number(cell)
    if not value.is_integer():
        raise PromptError(f"the plane {shortened(cell)} is no whole number: planes count from 0")
    return int(value)


def _rounded(cell: str) -> int:
    """Return the plane in which napari shows a point that lies between planes."""
    return round(_number(cell))


def _whole_name(cell: str) -> str:
    return str(int(_number(cell)))


def _is_positive(cell: str) -> bool:
    value = cell.strip().lower()
    if value not in POSITIVE + NEGATIVE:
        raise PromptError(
            f"the label {shortened(cell.strip())!r} is neither 1 (on the object) nor 0 (not on it): correct it"
        )
    return value in POSITIVE


def _short(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))
