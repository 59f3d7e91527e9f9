"""Label images: TIFF, zarr and OME-Zarr, with the pixels of the objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_sam.exchange.label_formats import write_labels
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.files.temporary import final_name
from napari_sam.images.axes.calibration import Calibration

PIXELS = "pixels of all objects"
OME_SUFFIXES = (".ome.tif", ".ome.tiff")


class Tiff:
    """TIFF, OME-TIFF or GeoTIFF; see `ExportFormat`."""

    name = "TIFF"
    suffixes = (".tif", ".tiff", *OME_SUFFIXES)
    holds = PIXELS
    loses = "classes and scores; the direction of axes that run backwards"
    place = "pixel sizes and units as OME-TIFF; the map as GeoTIFF, unless the name ends in `.ome.tif`"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        calibration, on_map = source.place.calibration, source.place.georeference
        if final_name(path).lower().endswith(OME_SUFFIXES):
            # Pixel sizes at any rate, and no map, which is another kind of TIFF.
            known = calibration or Calibration(source.axes)
            calibration, on_map = replace(known, scale=known.scale or (1.0,) * source.ndim), None
        write_labels(path, source.whole(self.name), calibration, on_map)


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
