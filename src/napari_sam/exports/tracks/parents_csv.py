"""Read which object each daughter comes from, from a table of two columns."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

from napari_sam.errors import LabelsError, one_line
from napari_sam.exports.source import ExportSource
from napari_sam.files.paths import check_input

COLUMNS = ("child", "parent")


def read_parents(path: Path) -> dict[int, int]:
    """Return the parent of each daughter from a CSV file with the columns child and parent.

    Raises
    ------
    LabelsError
        The file is missing, has other columns, or a row holds no labels or a daughter that has another parent already.
    """
    check_input(path, "table of parents", LabelsError)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelsError(f"The table of parents {path} cannot be read ({one_line(error)}): check the path.") from error
    rows = csv.DictReader(StringIO(text), skipinitialspace=True)
    header = [(name or "").strip().lower() for name in rows.fieldnames or ()]
    if not set(COLUMNS) <= set(header):
        raise LabelsError(f"{path} has no columns child and parent: write them into its first line.")
    rows.fieldnames = header
    parents: dict[int, int] = {}
    for row in rows:
        try:
            child, parent = (int(row[name]) for name in COLUMNS)
        except (ValueError, TypeError) as error:
            raise LabelsError(
                f"Line {rows.line_num} of {path} is not understood: write the labels of a child and its parent."
            ) from error
        if parents.setdefault(child, parent) != parent:
            raise LabelsError(f"Line {rows.line_num} of {path} gives object {child} a second parent: leave one out.")
    return parents


def check_parents(parents: dict[int, int], source: ExportSource, path: Path) -> None:
    """Refuse a table that names objects which are not in the labels.

    Raises
    ------
    LabelsError
        It names one.
    """
    there = set(source.extents.labels.tolist())
    missing = next((label for pair in parents.items() for label in pair if label not in there), None)
    if missing is not None:
        raise LabelsError(f"There is no object {missing} in the labels, which {path} names: correct it there.")
