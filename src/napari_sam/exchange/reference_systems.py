"""Compare the coordinate reference system of a GeoJSON file with that of an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from napari_sam.errors import PromptError
from napari_sam.images.axes.georeference import Georeference
from napari_sam.images.rasters.gdal import same_system

WGS84 = "EPSG:4326"
_NAMED = re.compile(r"(?:urn:ogc:def:crs:|^)([A-Za-z]\w*):(?:[\d.]*:)?(\w+)$")
_ADDRESS = re.compile(r"/def/crs/([A-Za-z]\w*)/[\d.]+/(\w+)$")
# Systems that are made of others, the horizontal one first, and what those begin with in WKT.
_OF_PARTS = ("COMPD_CS", "COMPOUNDCRS", "BOUNDCRS", "SOURCECRS")
_SYSTEM = re.compile(r"(PROJ|GEOG|GEOC|GEOD|ENG|LOCAL|BOUND|SOURCE|DERIVED)\w*\s*\[", re.IGNORECASE)
_AUTHORITY = re.compile(r'(?:AUTHORITY|ID)\["(\w+)",\s*"?(\w+)"?')


def system_of(text: str) -> str | None:
    """Return the authority and code of a reference system, such as "EPSG:32633", or None where it has none.

    Parameters
    ----------
    text
        A name of GeoJSON (`urn:ogc:def:crs:EPSG::32633`, `EPSG:32633`, the address of the OGC), or WKT. Of WKT only
        the code of the whole system counts, and not those of its parts, such as the metre.
    """
    if "[" in text:
        return _code_of_whole(text)
    match = _NAMED.search(text.strip()) or _ADDRESS.search(text.strip())
    if match is None:
        return None
    return WGS84 if match[2] == "CRS84" else f"{match[1].upper()}:{match[2]}"


def check_system(crs: Any, place: Georeference | None, name: str) -> None:
    """Refuse a GeoJSON file that is in another reference system than the image.

    Parameters
    ----------
    crs
        The member `crs` of the file: {"type": "name", "properties": {"name": ...}}; of any other form it says nothing.
    place
        Where the image lies, or None.
    name
        Of the file, for messages.

    Raises
    ------
    PromptError
        It is, or the two cannot be compared.
    """
    properties = crs.get("properties") if isinstance(crs, dict) else None
    said = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(said, str):
        return
    theirs = system_of(said)
    if place is None or place.crs is None or place.transform is None:
        # Programs for images without a map name it, too, since GeoJSON knows no pixels.
        if theirs is not None and not said.endswith("CRS84"):
            raise PromptError(f"{name} lies on a map ({said}) and the image on none: export it in pixels of the image.")
        return
    ours = system_of(place.crs)
    if (theirs == ours and ours is not None) or said.split() == place.crs.split():
        return
    are_same = None
    if theirs is None or ours is None or theirs.split(":")[0] != ours.split(":")[0]:
        are_same = same_system(theirs or said, place.crs)
    if not are_same:
        raise PromptError(
            f"{name} is in {theirs or 'another system'} and the image in {ours or 'a system without a code'}: export "
            "it in the image's reference system."
        )


def _code_of_whole(wkt: str) -> str | None:
    """Return the code of the outermost system; of a compound one without a code, that of its horizontal part."""
    keyword, _, rest = wkt.strip().partition("[")
    inner = list(_entries(rest))
    match = next((match for entry in inner if (match := _AUTHORITY.match(entry))), None)
    if match is not None:
        return f"{match[1].upper()}:{match[2]}"
    if keyword.strip().upper() not in _OF_PARTS:
        return None
    part = next((entry for entry in inner if _SYSTEM.match(entry)), None)
    return None if part is None else _code_of_whole(part)


def _entries(text: str) -> Iterator[str]:
    """Yield the entries of a bracket of WKT, up to its end."""
    depth, start, is_quoted = 0, 0, False
    for at, letter in enumerate(text):
        if letter == '"':
            is_quoted = not is_quoted
        elif is_quoted:
            continue
        elif letter == "[":
            depth += 1
        elif letter == "]" and depth == 0:
            yield text[start:at].strip()
            return
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:at].strip()
            start = at + 1
