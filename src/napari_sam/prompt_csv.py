"""Prompts as CSV: columns of our own, or napari's of a Points or a Shapes layer; the header tells."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

import numpy as np

from napari_sam.core.object_prompts import ObjectPrompts, Point, PromptBuilder
from napari_sam.errors import PromptError

CLASS = ("class", "class_name", "category")
OBJECT, SIGN = ("object", "object_id", "object-id"), ("label", "sign", "positive")
ROW, COL = ("row", "y"), ("col", "column", "x")
BOX = ("top", "left", "bottom", "right")
PLANE = ("plane", "t", "z")
POSITIVE, NEGATIVE = ("1", "+", "true", "positive", "1.0", ""), ("0", "-", "-1", "false", "negative", "0.0", "-1.0")
ELLIPSE_CORNERS = 64
Row = Mapping[str, str]


def parse_csv(text: str, name: str) -> list[ObjectPrompts]:
    """Read the prompts of many objects.

    Parameters
    ----------
    text
        With a header. Our own columns are object, row and col (or y and x) and label for points, object, top, left,
        bottom and right for boxes, class, and plane, or z and t; what a row does not use is left empty. Without the
        column object every row is one. napari's are index, axis-0, axis-1 ..., with shape-type for shapes.
    name
        Of the file, for messages.

    Raises
    ------
    PromptError
        The columns are others, or a cell is not understood.
    """
    rows, header = _rows(text)
    axes = sorted((column for column in header if _axis(column) is not None), key=lambda column: _axis(column) or 0)
    if "shape-type" in header and len(axes) >= 2:
        return _shapes(rows, axes, name)
    points = tuple(axes[-2:]) if len(axes) >= 2 else (_first(header, ROW), _first(header, COL))
    has_boxes = all(column in header for column in BOX)
    if None in points and not has_boxes:
        raise PromptError(
            f"{name} has the columns {', '.join(header) or 'none'}: name them object,row,col,label for points, or "
            "object,top,left,bottom,right for boxes."
        )
    planes = axes[:-2] or [c for c in header if c in PLANE or c.startswith("plane-")]
    own, kind = _first(header, OBJECT), _first(header, CLASS)
    sign = next((column for column in SIGN if column in header), None)
    builders: dict[str, PromptBuilder] = {}
    for number, row in rows:
        key = row[own].strip() if own else str(len(builders) + 1)
        builder = builders.setdefault(key, PromptBuilder(key))
        try:
            if not key:
                raise PromptError("the column object is empty: give every row the number of its object")
            _add(builder, row, points, has_boxes, sign)
            builder.set_plane(_plane(row, planes))
            builder.set_class(row[kind].strip() if kind else "")
        except PromptError as error:
            raise PromptError(f"Line {number} of {name} is not understood: {error}.") from error
    return [builder.built() for builder in builders.values()]


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


def _rows(text: str) -> tuple[list[tuple[int, Row]], list[str]]:
    first = text.split("\n", 1)[0]
    reader = csv.reader(StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    header = [column.strip().lower() for column in next(reader, [])]
    rows: list[tuple[int, Row]] = []
    for cells in reader:
        if any(cell.strip() for cell in cells):
            padded = cells + [""] * (len(header) - len(cells))
            rows.append((reader.line_num, dict(zip(header, padded, strict=False))))
    return rows, header


def _add(builder: PromptBuilder, row: Row, columns: tuple[str | None, ...], has_boxes: bool, sign: str | None) -> None:
    at = [row[column].strip() for column in columns if column is not None]
    edges = [row[column].strip() for column in BOX] if has_boxes else []
    if not any(at) and not any(edges):
        raise PromptError("it holds neither a point nor a box: fill in row and col, or all four edges")
    if any(edges):
        top, left, bottom, right = (_number(edge) for edge in edges)
        builder.set_box((top, left, bottom, right))
    if any(at):
        y, x = (_number(value) for value in at)
        builder.add_point((y, x), _is_positive(row[sign]) if sign else True)


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
        kinds[key] = row["shape-type"].strip().lower()
    objects = []
    for key, kind in kinds.items():
        builder = PromptBuilder(str(int(key) + 1))
        at = np.array(corners[key])
        if kind not in ("rectangle", "ellipse", "polygon", "path", "line"):
            raise PromptError(f"{name} has a shape of the type {kind!r}: use rectangles, ellipses, polygons or paths.")
        _add_shape(builder, kind, at[:, -2:])
        builder.set_plane(tuple(round(float(value)) for value in at[0, :-2]) or None)
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


def _plane(row: Row, columns: Sequence[str]) -> tuple[int, ...] | None:
    cells = [row[column].strip() for column in columns]
    return tuple(round(_number(cell)) for cell in cells) if any(cells) else None


def _axis(column: str) -> int | None:
    head, _, number = column.partition("-")
    return int(number) if head == "axis" and number.isdigit() else None


def _first(header: Sequence[str], names: Sequence[str]) -> str | None:
    return next((column for column in names if column in header), None)


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PromptError(f"{cell.strip()!r} is no number: correct it")
    return value


def _whole_name(cell: str) -> str:
    return str(int(_number(cell)))


def _is_positive(cell: str) -> bool:
    value = cell.strip().lower()
    if value not in POSITIVE + NEGATIVE:
        raise PromptError(f"the label {cell.strip()!r} is neither 1 (on the object) nor 0 (not on it): correct it")
    return value in POSITIVE


def _short(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(float(value))
