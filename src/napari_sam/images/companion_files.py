"""The other files of an image: of an OME-TIFF in several files, and of a virtual raster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from napari_sam.images.files.external_references import parsed_text, sources_of
from napari_sam.images.files.unsupported_formats import is_tiff
from napari_sam.images.tiff.ome_xml import metadata_file


def parts_of(path: Path) -> list[Path]:
    """Return the files beside an image file from which its pixels or their description are read.

    Empty for an image that cannot be read: opening it raises the error.
    """
    found: set[Path] = set()
    with suppress(Exception):  # Libraries raise different exceptions.
        if path.is_file():
            found.update(_parts_of_ome_tiff(path) if is_tiff(path) else sources_of(path))
    return sorted(found - {path})


def _parts_of_ome_tiff(path: Path) -> Iterator[Path]:
    xml = _description_of(path)
    described_in = metadata_file(path, xml)
    if described_in is not None:
        yield described_in
        xml = _description_of(described_in) if is_tiff(described_in) else described_in.read_text("utf-8")
    if "FileName" in xml:
        for element in parsed_text(xml, path).iter():
            part = path.parent / element.get("FileName", "")
            if part.is_file():
                yield part


def _description_of(path: Path) -> str:
    import tifffile

    with tifffile.TiffFile(path) as file:
        return file.pages.first.description if file.is_ome else ""
