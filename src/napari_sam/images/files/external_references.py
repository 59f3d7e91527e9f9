"""Files that name other files: those outside their own folder, or on the network, are followed on request only.

A file from an untrusted source could otherwise make this computer read any file, or connect to any address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.errors import ImageError
from napari_sam.images.files.local import check_sidecars, existing
from napari_sam.images.files.unsupported_formats import head_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# If it is 1, files may refer to files outside their folder or on the network.
OUTSIDE_VARIABLE = "NAPARI_SAM_ALLOW_OUTSIDE_FILES"
MAX_NESTED = 8
MAX_XML_BYTES = 64 * 2**20
# Descriptions that GDAL opens like images, and that refer to other files or the network.
DESCRIPTIONS = (
    b"<VRTDataset",
    b"<GDAL_WMS",
    b"<WMS_",
    b"<WCS_",
    b"<GDALTileIndex",
    b"<GDAL_WMTS",
    b"<OGRVRT",
    b"<Capabilities",
)
# Elements of a VRT whose text is the name of a file or dataset.
SOURCES = ("filename", "dataset", "source", "href", "url")


def may_follow_outside() -> bool:
    """Return whether an environment variable allows references to files outside the folder."""
    return os.environ.get(OUTSIDE_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def is_beside(path: Path, name: str) -> bool:
    """Return whether a name in a file stays in the folder of that file, judged by its text only."""
    if Path(name).is_absolute() and not name.startswith(("/vsi", "//")):
        return Path(os.path.normpath(name)).is_relative_to(os.path.normpath(path.parent.absolute()))
    if ":" in name or "\x00" in name or name.startswith(("/", "\\", "<", "~")):
        return False
    return ".." not in re.split(r"[/\\]", name)


def check_beside(path: Path, name: str) -> Path:
    """Return the path of a file that an image refers to.

    Raises
    ------
    ImageError
        It lies outside the image's folder or on the network, and the user did not allow that; or it is not a file.
    """
    if not is_beside(path, name) and not may_follow_outside():
        raise ImageError(
            f"{path} refers to {name[:200]!r}, which is not in its folder: if you trust the file, set the environment "
            f"variable {OUTSIDE_VARIABLE}=1, or put all of its files into one folder and correct the names."
        )
    found = path.parent / name
    if "://" not in name and not name.startswith("/vsi"):
        existing(found)
    return found


def check_raster(path: Path) -> None:
    """Refuse a raster that GDAL would follow to other folders or the network, or that would block.

    Raises
    ------
    ImageError
        A virtual raster (.vrt) or a file beside the raster refers to what lies outside the folder, or to a pipe.
    """
    check_sidecars(path)
    if may_follow_outside():
        return
    _check_description(path, MAX_NESTED)
    for name in (f"{path.name}.ovr", f"{path.name}.msk", f"{path.stem}.aux", f"{path.stem}.rrd"):
        if any(sign in head_of(path.with_name(name), 4096) for sign in DESCRIPTIONS):
            raise ImageError(f"{path.with_name(name)} is not a file of overviews: remove or rename it.")
    auxiliary = path.with_name(f"{path.name}.aux.xml")
    if auxiliary.is_file():
        for item in parsed(auxiliary).iter():
            if "OVERVIEW_FILE" in (item.get("key") or "").upper() and item.text:
                check_beside(auxiliary, item.text.strip().removeprefix(":::BASE:::"))


def parsed(path: Path) -> Element:
    """Parse a small XML file without expanding entities.

    Raises
    ------
    ImageError
        It is too large, no XML, or defines entities.
    """
    if path.stat().st_size > MAX_XML_BYTES:
        raise ImageError(f"{path} has more than {MAX_XML_BYTES // 2**20} MiB of XML: export it again.")
    return parsed_text(path.read_bytes(), path)


def parsed_text(text: str | bytes, path: Path) -> Element:
    """Parse XML without expanding entities: a few bytes of them can expand to gigabytes.

    Raises
    ------
    ImageError
        It is not XML, or defines entities.
    """
    from xml.etree import ElementTree as ET

    sign: str | bytes = b"<!ENTITY" if isinstance(text, bytes) else "<!ENTITY"
    if sign in text:  # type: ignore[operator]
        raise ImageError(f"The XML in {path} defines entities, which images do not need: export it again.")
    try:
        return ET.fromstring(text)  # noqa: S314 - entities were refused above.
    except (ET.ParseError, ValueError) as error:
        raise ImageError(f"The XML in {path} is damaged ({error}): export the file again.") from error


def _check_description(path: Path, depth: int) -> None:
    """Follow virtual rasters that refer to each other, and refuse other descriptions."""
    head = head_of(path, 4096)
    is_text = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"<", b"{")
    if not is_text and not any(sign in head for sign in DESCRIPTIONS):
        return
    if b"<VRTDataset" not in head or depth == 0:
        raise ImageError(
            f"{path} describes data on the network and contains no pixels: if you trust the file, set the environment "
            f"variable {OUTSIDE_VARIABLE}=1."
        )
    for name in _names_in(path):
        found = check_beside(path, name)
        if found != path and found.is_file():
            _check_description(found, depth - 1)


def sources_of(path: Path, depth: int = MAX_NESTED) -> Iterator[Path]:
    """Yield the files of a virtual raster; nothing for other files."""
    if depth == 0 or b"<VRTDataset" not in head_of(path, 4096):
        return
    for name in _names_in(path):
        found = path.parent / name
        if found != path and found.is_file():
            yield found
            yield from sources_of(found, depth - 1)


def _names_in(path: Path) -> Iterator[str]:
    """Yield the names of files and datasets in a virtual raster, relative to its folder or absolute."""
    for element in parsed(path).iter():
        tag = element.tag.rsplit("}", 1)[-1].lower()
        name = (element.text or "").strip()
        is_overview = "OVERVIEW_FILE" in (element.get("key") or "").upper()
        if not name or len(element) or not (is_overview or tag.endswith(SOURCES)):
            continue
        if not is_overview and element.get("relativeToVRT", element.get("relativetoVRT", "0")) != "1":
            name = _from_working_folder(name)
        yield name


def _from_working_folder(name: str) -> str:
    """Return a relative path as GDAL resolves it if the base is not stated; other names unchanged."""
    is_path = not name.startswith(("/", "<")) and ":" not in name
    return os.path.normpath(Path(name).absolute()) if is_path else name
