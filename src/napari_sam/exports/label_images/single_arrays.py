"""Label images: TIFF, zarr and OME-Zarr, with the pixels of the objects."""

from __future__ import annotations

from pathlib import Path

from napari_sam.exchange.label_formats import write_labels
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource

PIXELS = "pixels of all objects"


class Tiff:
    """TIFF, OME-TIFF or GeoTIFF; see `ExportFormat`."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")
    holds = PIXELS
    loses = "classes and scores; the direction of axes that run backwards"
    place = "pixel sizes and units as OME-TIFF; the map as GeoTIFF"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        write_labels(path, source.whole(self.name), source.place.calibration, source.place.georeference)


class ZarrArray:
    """A single zarr array; see `ExportFormat`."""

    name = "zarr array"
    suffixes = (".zarr",)
    holds = PIXELS
    loses = "classes and scores"
    place = "names of axes, pixel sizes, units and the map"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        write_labels(path, source.whole(self.name), source.place.calibration, source.place.georeference)
