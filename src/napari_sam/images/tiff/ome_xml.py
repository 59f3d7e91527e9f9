"""The OME-XML of a TIFF: checked before planes are read, since tifffile does not validate its numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ImageError
from napari_sam.images.files.external_references import check_beside, parsed_text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Fewest bytes of a page: its directory alone has about ten entries of 12 bytes.
MIN_PAGE_BYTES = 60
MAX_ANNOTATED = 10**6
MODULO = (("Start", "0"), ("End", "0"), ("Step", "1"))


def check_ome(path: Path, xml: str, samples: int) -> None:
    """Refuse OME metadata that contradict the files, and images with missing files.

    Parameters
    ----------
    path
        The TIFF.
    xml
        Its OME-XML.
    samples
        How many samples its first page has for each pixel.

    Raises
    ------
    ImageError
        The metadata declare more planes than the files can hold, or planes in files that are missing, outside the
        folder of this one, or no TIFF.
    """
    try:
        root = parsed_text(xml, path)
    except ImageError:
        if "<!ENTITY" in xml:
            raise
        return  # Damaged metadata are ignored, and the pages are read without them.
    _check_annotations(path, root)
    for image in _children(root, "Image"):
        for pixels in _children(image, "Pixels"):
            _check_planes(path, root, pixels, samples)


def metadata_file(path: Path, xml: str) -> Path | None:
    """Return the file with the metadata of the whole image, if this one is only a part of it.

    Raises
    ------
    ImageError
        That file lies outside the folder, or is missing.
    """
    if "BinaryOnly" not in xml:
        return None
    part = next(iter(_children(parsed_text(xml, path), "BinaryOnly")), None)
    name = "" if part is None else part.get("MetadataFile", "")
    if not name:
        return None
    found = check_beside(path, name)
    if not found.is_file():
        raise ImageError(f"{path} is part of an image whose metadata are in {name}: copy that file, too.")
    return found


def ome_channels(xml: str, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return colors ("RRGGBB") and names of the channels of the first image.

    Parameters
    ----------
    xml
        The OME-XML.
    count
        How many channels the pixels have; with another number, nothing is returned. So it is with colors that are
        missing or all the same, as programs write them that know none.
    """
    try:
        root = parsed_text(xml, Path("the file"))
        pixels = next(child for image in _children(root, "Image") for child in _children(image, "Pixels"))
    except (ImageError, StopIteration):
        return (), ()
    channels = list(_children(pixels, "Channel"))
    if len(channels) != count:
        return (), ()
    names = tuple(channel.get("Name", f"channel {number}") for number, channel in enumerate(channels))
    try:
        colors = tuple(f"{(int(channel.attrib['Color']) & 0xFFFFFFFF) >> 8:06X}" for channel in channels)
    except (KeyError, ValueError):
        colors = ()
    return (colors if len(set(colors)) > 1 else ()), names


def _children(element: Element, tag: str) -> Iterator[Element]:
    return (child for child in element if child.tag.rsplit("}", 1)[-1] == tag)


def _check_planes(path: Path, root: Element, pixels: Element, samples: int) -> None:
    sizes = [_whole(path, pixels.get(f"Size{axis}", "1")) for axis in "ZCT"]
    wanted = [math.prod(sizes) // max(samples, 1)]
    for data in _children(pixels, "TiffData"):
        wanted.append(_whole(path, data.get("PlaneCount", data.get("NumPlanes", "0"))))
        wanted += [_whole(path, data.get(f"First{axis}", "0")) for axis in "ZCT"]
    capacity = max(path.stat().st_size, 1) + sum(_companions(path, root, pixels).values())
    if max(wanted) * MIN_PAGE_BYTES > capacity:
        raise ImageError(
            f"{path} has {max(wanted)} planes by its metadata, and its files are too small for them: they are "
            "incomplete, or the metadata are damaged; export the image again."
        )


def _companions(path: Path, root: Element, pixels: Element) -> dict[str, int]:
    """Return the names and sizes of the other files with planes."""
    parts = [part for data in _children(pixels, "TiffData") for part in itertools.islice(_children(data, "UUID"), 1)]
    named = {part.get("FileName", ""): part.text for part in parts}
    own = root.get("UUID")
    others = [
        name for name, uuid in named.items() if name and name.lower() != path.name.lower() and (not own or uuid != own)
    ]
    # A renamed file with all planes still contains its old name.
    is_renamed = len(named) == 1 and not (path.parent / "".join(others)).is_file()
    return {} if is_renamed else {name: _size_of_companion(path, name) for name in others}


def _size_of_companion(path: Path, name: str) -> int:
    import tifffile

    found = check_beside(path, name)
    if not found.is_file():
        raise ImageError(f"{path} has planes in {name}, which is missing: copy it beside it, under that name.")
    try:
        with tifffile.TiffFile(found) as other:
            is_whole = other.pages.first.dtype is not None
    except Exception:  # tifffile raises different exceptions for damaged files.
        is_whole = False
    if not is_whole:
        raise ImageError(f"{path} has planes in {name}, which is damaged: copy it again.")
    return found.stat().st_size


def _check_annotations(path: Path, root: Element) -> None:
    """Refuse modulo annotations of huge length, which tifffile would expand to an array."""
    for along in root.iter():
        if "ModuloAlong" not in str(along.tag) or "Start" not in along.attrib:
            continue
        try:
            start, end, step = (float(along.get(name, default)) for name, default in MODULO)
        except ValueError as error:
            raise ImageError(f"The OME metadata of {path} are damaged ({error}): export the image again.") from error
        if not step or not abs(end - start) / abs(step) < MAX_ANNOTATED:
            raise ImageError(f"The OME metadata of {path} divide an axis into too many parts: export the image again.")


def _whole(path: Path, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ImageError(f"The OME metadata of {path} are damaged ({error}): export the image again.") from error
