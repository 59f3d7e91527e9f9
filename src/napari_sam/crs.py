"""Names of coordinate reference systems: the code of one in WKT, a URN or a URL, and whether two are the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec

CODE = re.compile(r"\b(EPSG|ESRI|IGNF|OGC)[:/]+(?:[\w.]*[:/])?(CRS84|\d+)", re.IGNORECASE)
WKT = re.compile(r"\s*[A-Z][A-Z_0-9]+\s*\[", re.IGNORECASE)
AUTHORITIES = ("AUTHORITY", "ID")
COMPOUND = ("COMPD_CS", "COMPOUNDCRS", "BOUNDCRS", "SOURCECRS")
SYSTEM = re.compile(r"(PROJ|GEOG|GEOC|GEOD|ENG|LOCAL|BOUND|SOURCE|COMP)\w*", re.IGNORECASE)


def crs_code(text: str) -> str | None:
    """Return authority and code of a coordinate reference system, such as "EPSG:32633".

    Parameters
    ----------
    text
        WKT, a URN, a URL, or "AUTHORITY:CODE". Codes inside WKT that belong to a part, such as the unit or the datum,
        do not count; a compound system has its own code, or else that of its horizontal part.

    Returns
    -------
    str or None
        None where the system has no code.
    """
    if not WKT.match(text):
        found = CODE.search(text)
        return None if found is None else f"{found[1].upper()}:{found[2].upper()}"
    keyword, _, rest = text.strip().partition("[")
    inner = list(_entries(rest))
    for entry in inner:
        name, _, values = entry.partition("[")
        if name.strip().upper() in AUTHORITIES:
            authority, code, *_ = (value.strip(' "]') for value in values.split(","))
            return f"{authority.upper()}:{code}"
    if keyword.strip().upper() in COMPOUND:
        systems = [entry for entry in inner if "[" in entry and SYSTEM.fullmatch(entry.partition("[")[0].strip())]
        return crs_code(systems[0]) if systems else None
    return None


def crs_name(text: str) -> str:
    """Return what to call a coordinate reference system in a message: its code, or the name in its WKT."""
    code = crs_code(text)
    if code is not None:
        return code
    named = re.search(r'"([^"]*)"', text)
    return f"a system without a code ({named[1]})" if named and named[1] else "a system without a code"


def is_same_crs(one: str, other: str) -> bool | None:
    """Say whether two coordinate reference systems are the same; None where that cannot be told without rasterio."""
    codes = crs_code(one), crs_code(other)
    if one == other or (codes[0] is not None and codes[0] == codes[1]):
        return True
    # Both have x, the longitude, first here.
    if set(codes) == {"OGC:CRS84", "EPSG:4326"}:
        return True
    unknown = None if None in codes else False
    # GDAL would also open a file or a URL of that name.
    definitions = [text if WKT.match(text) else code for text, code in zip((one, other), codes, strict=True)]
    if None in definitions or find_spec("rasterio") is None:
        return unknown
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    try:
        return bool(CRS.from_user_input(definitions[0]) == CRS.from_user_input(definitions[1]))
    except CRSError:
        return unknown


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
