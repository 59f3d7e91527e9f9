"""Tables of objects: CSV and Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tables.measurements import Measuring
from napari_sam.files.libraries import library

# A text that begins with one of these is a formula to spreadsheets, which would execute it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")
HOLDS = (
    "label, class, scores, area or volume, centroid, bounding box, shape, and the mean, least and greatest intensity "
    "of every channel"
)
PLACE = "in pixels, in the unit of the image, and on the map (longitude and latitude by `--crs wgs84`)"


class CsvTable:
    """A table as text; see `ExportFormat`."""

    name = "CSV table"
    suffixes = (".csv",)
    holds = HOLDS
    loses = "outlines and pixels"
    place = PLACE
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        table = Measuring(source, options).table()
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*(_cells(column) for column in table.values()), strict=True))


class ParquetTable:
    """A table for pandas, R and databases; see `ExportFormat`."""

    name = "Parquet table"
    suffixes = (".parquet",)
    holds = HOLDS
    loses = "outlines and pixels"
    place = PLACE
    library = ("pyarrow", "pyarrow")

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        arrow = library("pyarrow", "pyarrow", "A Parquet table")
        parquet = library("pyarrow.parquet", "pyarrow", "A Parquet table")
        table = Measuring(source, options).table()
        columns = {
            name: arrow.array(column, arrow.string()) if column.dtype == object else arrow.array(column)
            for name, column in table.items()
        }
        parquet.write_table(arrow.table(columns), path)


def _cells(column: NDArray[Any]) -> list[Any]:
    if column.dtype == object:
        return [_quoted(value) for value in column]
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f":
        return ["" if np.isnan(value) else value for value in values]
    return values


def _quoted(text: str | None) -> str:
    """Return a text that no spreadsheet executes."""
    if text is None:
        return ""
    return f"'{text}" if text.startswith(FORMULA) else text
