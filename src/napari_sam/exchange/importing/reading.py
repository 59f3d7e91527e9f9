"""Read the objects of a file of any format."""

from __future__ import annotations

from pathlib import Path

from napari_sam.errors import PromptError
from napari_sam.exchange.importing.coco import is_coco, parsed, read_coco
from napari_sam.exchange.importing.imagej import read_rois
from napari_sam.exchange.importing.imported_object import ImportedObject
from napari_sam.exchange.importing.label_images import read_label_image
from napari_sam.exchange.importing.polygon_files import read_geojson, read_geopackage
from napari_sam.files.paths import check_input, read_text, shortened
from napari_sam.images.files.inner_names import split_name
from napari_sam.images.volume import Volume

VECTORS = (".gpkg", ".shp", ".fgb")
JSON = (".json", ".geojson")


def read_objects_of(
    path: str | Path, volume: Volume, image: str | None = None, axes: tuple[int, int] | None = None
) -> tuple[list[ImportedObject], int]:
    """Read objects as masks in the planes of an image.

    Parameters
    ----------
    path
        COCO or SA-1B (.json), GeoJSON (.geojson, .json), GeoPackage (.gpkg), ImageJ ROIs (.roi, .zip), or a label image
        of any format that is read.
    volume
        The image.
    image
        Name of its file, which COCO files name; or None.
    axes
        Row and column axis of the planes; by default those of the image.

    Returns
    -------
    objects : list of ImportedObject
    left_out : int
        Number of entries of the file that are no areas, or lie outside the image.

    Raises
    ------
    PromptError
        The file is missing, damaged, of another image or of no known format, or holds no object of the image.
    """
    rows, cols = volume.plane_axes if axes is None else axes
    shape = volume.shape[rows], volume.shape[cols]
    file, _ = split_name(path)
    check_input(file, "file of objects", PromptError)
    if "://" not in str(path) and not file.exists():
        raise PromptError(f"There is no file {shortened(file)}: check the path.")
    suffix = file.suffix.lower()
    left_out = 0
    if suffix in JSON:
        data = parsed(read_text(file, "file of objects", PromptError), file)
        if is_coco(data):
            found = read_coco(data, file, image, shape)
            left_out = 0
        else:
            found, left_out = read_geojson(data, file, volume.georeference_of(), shape)
    elif suffix in VECTORS:
        found, left_out = read_geopackage(file, volume.georeference_of(), shape)
    elif suffix == ".roi" or (suffix == ".zip" and not file.name.lower().endswith((".zarr.zip", ".ome.zip"))):
        found, left_out = read_rois(file, shape)
    else:
        found = read_label_image(path, volume.shape, (rows, cols))
    if not found:
        raise PromptError(
            f"{shortened(file)} holds no object that lies in the image: check that it is of this image, and in its "
            "pixels or in a reference system that it names."
        )
    return found, left_out
