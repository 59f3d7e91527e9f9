"""The table of a Tracks layer of napari."""

from __future__ import annotations

import csv
from pathlib import Path

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tracks.lineages import Lineages, refusal_of_time


class NapariTracks:
    """A CSV table of tracks; see `ExportFormat`."""

    name = "Tracks of napari"
    suffixes = (".tracks.csv",)
    holds = "the label of each object as track_id, its centroid at each time, and the object that it comes from"
    loses = "pixels, classes and scores"
    place = "frames and pixels, as the data of a Tracks layer"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return refusal_of_time(source, "A table of tracks")

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        found = Lineages.of(source)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["track_id", "t", *found.axes, "parent"])
            for label, time, center in zip(
                found.labels.tolist(), found.times.tolist(), found.centers.tolist(), strict=True
            ):
                writer.writerow([label, time, *center, found.parents.get(label, "")])
