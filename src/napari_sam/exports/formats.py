"""Formats: the one table of files that labels and their objects are exported to."""

from __future__ import annotations

from pathlib import Path

from napari_sam.errors import OutputError
from napari_sam.exports.format import ExportFormat
from napari_sam.exports.instances.coco import Coco, Sa1b
from napari_sam.exports.label_images.ome_zarr import OmeZarr, image_around
from napari_sam.exports.label_images.single_arrays import Tiff, ZarrArray
from napari_sam.exports.polygons.geojson import GeoJson
from napari_sam.exports.polygons.geopackage import GeoPackage
from napari_sam.exports.polygons.imagej_rois import ImagejRois
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tables.table_files import CsvTable, ParquetTable
from napari_sam.exports.tracks.ctc import CellTrackingChallenge
from napari_sam.exports.tracks.geff import Geff
from napari_sam.exports.tracks.napari_tracks import NapariTracks
from napari_sam.exports.volumes.dicom_segmentation import DicomSegmentation
from napari_sam.exports.volumes.meta_image import MetaImage
from napari_sam.exports.volumes.nifti import Nifti
from napari_sam.exports.volumes.nrrd import Nrrd

# A new format is a class with the members of `ExportFormat`, and its name here.
FORMATS: tuple[ExportFormat, ...] = (
    CsvTable(),
    ParquetTable(),
    GeoJson(),
    GeoPackage(),
    ImagejRois(),
    Coco(),
    Sa1b(),
    OmeZarr(),
    Tiff(),
    ZarrArray(),
    Nifti(),
    Nrrd(),
    MetaImage(),
    DicomSegmentation(),
    CellTrackingChallenge(),
    Geff(),
    NapariTracks(),
)
SUFFIXES = {suffix: form for form in FORMATS for suffix in form.suffixes}


def format_of(path: Path) -> ExportFormat:
    """Return the format that the ending of a name selects; of several, the longest.

    Labels in `IMAGE.ome.zarr/labels` need no ending.

    Raises
    ------
    OutputError
        The ending is unknown.
    """
    name = path.name.lower()
    if image_around(path) is not None:
        return SUFFIXES[OmeZarr.suffixes[0]]
    found = max((suffix for suffix in SUFFIXES if name.endswith(suffix)), key=len, default=None)
    if found is None:
        raise OutputError(f"{path.name} has an unknown ending: use one of {', '.join(sorted(SUFFIXES))}.")
    return SUFFIXES[found]


def suitable_formats(source: ExportSource) -> list[ExportFormat]:
    """Return the formats that can hold the labels of an image, the ones for this kind of image first."""
    suitable = [form for form in FORMATS if form.refusal(source) is None]
    first = _first_suffixes(source)
    return sorted(suitable, key=lambda form: first.index(form.suffixes[0]) if form.suffixes[0] in first else len(first))


def _first_suffixes(source: ExportSource) -> list[str]:
    """Return the formats that users of such images mostly want: of maps, of medical volumes, of microscopy."""
    on_map = source.place.georeference
    if on_map is not None and on_map.is_known:
        return [".gpkg", ".geojson", ".csv", ".tif"]
    if source.place.orientation is not None:
        return [".nii.gz", ".nrrd", ".mha", ".csv"]
    return [".csv", ".geojson", ".ome.zarr"]
