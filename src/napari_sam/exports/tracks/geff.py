"""GEFF: the graph of tracks that programs for cell tracking exchange."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_sam.errors import OutputError, first_line
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tracks.lineages import Lineages, refusal_of_time
from napari_sam.files.libraries import library


class Geff:
    """A graph of the Graph Exchange File Format; see `ExportFormat`."""

    name = "GEFF"
    suffixes = (".geff",)
    holds = "a node for each object and time with its label, centroid and size; tracks, divisions and lineages"
    loses = "pixels, classes and scores"
    place = "frames and pixels, with the scale, offset and unit of each axis"
    library = ("geff", "geff")

    def refusal(self, source: ExportSource) -> str | None:
        return refusal_of_time(source, self.name)

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        geff = library("geff", "geff", self.name)
        writing = library("geff.core_io", "geff", self.name)
        found = Lineages.of(source)
        values = {"t": found.times, **dict(zip(found.axes, found.centers.T, strict=True))}
        values |= {"label": found.labels, "size": found.sizes, **_tracks(found)}
        metadata = geff.GeffMetadata(
            directed=True,
            axes=[_axis(source, letter) for letter in ("t", *found.axes)],
            node_props_metadata={},
            edge_props_metadata={},
            track_node_props={"tracklet": "tracklet", "lineage": "lineage"},
        )
        try:
            writing.write_arrays(
                path,
                np.arange(len(found.labels), dtype=np.uint64),
                {name: {"values": column, "missing": None} for name, column in values.items()},
                found.edges.astype(np.uint64),
                {},
                metadata,
            )
        except (ValueError, LookupError) as error:  # Both are raised for what its checks refuse.
            raise OutputError(f"The tracks cannot be written as GEFF ({first_line(error)}): export _RES.") from error


def _tracks(found: Lineages) -> dict[str, NDArray[Any]]:
    """Return the number of each node's track, a path without a division, and that of all its relatives."""
    count, edges = len(found.labels), found.edges
    is_single = np.bincount(edges[:, 0], minlength=count)[edges[:, 0]] == 1
    return {"tracklet": _joined(edges[is_single], count), "lineage": _joined(edges, count)}


def _joined(edges: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    graph = coo_array((np.ones(len(edges), bool), tuple(edges.T)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64) if count else np.zeros(0, np.int64)


def _axis(source: ExportSource, letter: str) -> dict[str, Any]:
    """Return what the file says of an axis."""
    is_time = letter == "t"
    axis: dict[str, Any] = {"name": letter, "type": "time" if is_time else "space"}
    axis["unit"] = "frame" if is_time else "pixel"
    calibration = source.place.calibration
    if calibration is None or calibration.scale is None:
        return axis
    at = calibration.axes.index(letter)
    axis |= {"scale": float(calibration.scale[at]), "offset": float(calibration.starts[at])}
    unit = calibration.time_unit if is_time else calibration.unit
    return axis if unit is None else {**axis, "scaled_unit": unit}
