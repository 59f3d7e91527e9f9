"""zarr arrays and OME-Zarr images on disk, in zips and behind URLs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ImageError
from napari_sam.images.source import Opened, checked, known_letters
from napari_sam.images.units import in_one_unit, unit_name

if TYPE_CHECKING:
    import zarr


def open_url(url: str) -> Opened:
    """Open a zarr array or an OME-Zarr image behind a URL."""
    if "?" in url:
        raise ImageError(f"{url} has a query, and only plain URLs are opened: leave out the ? and what follows it.")
    if url.lower().rstrip("/").endswith((".zip", ".ozx")):
        raise ImageError(f"{url} is a zip, and those are opened from disk alone: download it.")
    return open_zarr(url)


def open_zarr(where: str) -> Opened:
    """Open a zarr array or an OME-Zarr image in a folder, in a zip or behind a URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Codecs and files that zarr does not know and that are not asked for.
        return _open_node(_node(where), where.rstrip("/"))


def _node(where: str) -> zarr.Group | zarr.Array[Any]:
    import zarr

    if "://" in where:
        return zarr.open(where, mode="r")
    if not where.lower().endswith((".zip", ".ozx")) or Path(where).is_dir():
        from napari_sam.images.zarr_folder import RegularFilesStore

        return zarr.open(RegularFilesStore(where, read_only=True), mode="r")
    store = zarr.storage.ZipStore(where, mode="r")
    try:
        return zarr.open(store, mode="r")
    except FileNotFoundError:
        # Zipped with the folder that it was in.
        import zipfile

        with zipfile.ZipFile(where) as archive:
            folders = {name.split("/")[0] for name in archive.namelist()}
        if len(folders) != 1:
            raise
        return zarr.open(store, path=folders.pop(), mode="r")


def _open_node(node: zarr.Group | zarr.Array[Any], where: str) -> Opened:
    """Open an array, an OME-Zarr image, or the one image that a group holds."""
    import zarr

    if isinstance(node, zarr.Array):
        return checked(Opened((node,)), where)
    attributes: dict[str, Any] = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in ome and "0" in node:
        inner = node["0"]
        return _open_node(inner, f"{where}/0")
    if ome.get("multiscales"):
        return _open_multiscale(node, ome, where)
    _refuse_collection(ome, where)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return checked(Opened((member(node, names[0], where),)), where)
    groups = [] if names else sorted(node.group_keys())
    if not names and not groups:
        raise ImageError(
            f"{where} is a zarr group and holds nothing, none of what an image is made of: check the path."
        )
    kind, listed = "groups" if groups else "arrays", ", ".join((names or groups)[:5])
    raise ImageError(f"{where} is a zarr group and not one image: give the path of one of its {kind} ({listed}).")


def _refuse_collection(ome: Any, where: str) -> None:
    """Refuse a plate, a well and a group of label images, with the path of one of the images that they hold."""
    plate, well, labels = (ome.get(name) for name in ("plate", "well", "labels"))
    if plate is None and well is None and not labels:
        return
    try:
        if labels:
            kind, inner = "label images", str(labels[0])
        elif plate is not None:
            kind, inner = "wells", f"{plate['wells'][0]['path']}/0"
        else:
            kind, inner = "fields", str(well["images"][0]["path"])
    except (IndexError, KeyError, TypeError):
        raise ImageError(f"{where} is a plate or a well that names no image: give the path of an image.") from None
    if where.lower().endswith((".zip", ".ozx")):
        raise ImageError(f"{where} holds many {kind}: unpack it, and give the path of one of them, such as {inner}.")
    raise ImageError(f"{where} holds many {kind}: give the path of one of them, such as {where}/{inner}.")


def _open_multiscale(node: zarr.Group, ome: dict[str, Any], where: str) -> Opened:
    """Open an OME-Zarr image by its metadata (version 0.4 or 0.5)."""
    multiscale = ome["multiscales"][0]
    datasets = multiscale["datasets"]
    finest = f"{where}/{datasets[0]['path']}"
    mend = f"mend the metadata, or give {finest}, the finest level alone"
    levels = tuple(member(node, str(dataset["path"]), where) for dataset in datasets)
    ndim = levels[0].ndim
    letters = _ome_letters(multiscale.get("axes", []), ndim)
    scales = _scales(multiscale, datasets, ndim)
    factors = None
    if scales is not None:
        factors = tuple(tuple(_rounded(a / b) for a, b in zip(scale, scales[0], strict=True)) for scale in scales)
        _check_origins(multiscale, datasets, scales, where, mend)
    spacing, unit = _ome_zarr_spacing(letters, scales, multiscale)
    channels = _channels(ome)
    opened = Opened(
        levels,
        letters,
        spacing,
        unit,
        factors,
        tuple(_window(channel) for channel in channels),
        tuple(str(channel.get("color", "FFFFFF")) for channel in channels),
        tuple(str(channel.get("label", number)) for number, channel in enumerate(channels)),
    )
    return checked(opened, where, mend)


def _ome_letters(axes: Sequence[Any], ndim: int) -> str | None:
    """Return one letter for each axis by names and types; None where the metadata do not fit the arrays."""
    kinds = {"time": "t", "channel": "c"}
    described = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
    names = [kinds.get(str(axis.get("type")), str(axis.get("name", "")).lower()) for axis in described]
    # Longer names and those of other things, such as "angle", are unknown letters.
    return known_letters("".join(name if len(name) == 1 else "q" for name in names)) if len(names) == ndim else None


def _ome_zarr_spacing(
    letters: str | None, scales: Sequence[Sequence[float]] | None, multiscale: dict[str, Any]
) -> tuple[tuple[float, ...] | None, str | None]:
    if letters is None or scales is None:
        return None, None
    sizes = dict(zip(letters, scales[0], strict=True))
    units = {
        letter: unit_name(axis.get("unit"))
        for letter, axis in zip(letters, multiscale["axes"], strict=True)
        if isinstance(axis, dict)
    }
    space, unit = in_one_unit({letter: sizes[letter] for letter in sizes if letter in "zyx"}, units)
    sizes |= space
    return tuple(sizes[letter] for letter in letters), unit


def _scales(multiscale: dict[str, Any], datasets: Sequence[Any], ndim: int) -> list[list[float]] | None:
    """Return the size of a pixel of each level along each axis, or None where one does not say."""
    whole = _transformation(multiscale, "scale", ndim) or [1.0] * ndim
    found = [_transformation(dataset, "scale", ndim) for dataset in datasets]
    if any(scale is None or min(scale) <= 0 for scale in (whole, *found)):
        return None
    return [[a * b for a, b in zip(scale, whole, strict=True)] for scale in found if scale is not None]


def _check_origins(
    multiscale: dict[str, Any],
    datasets: Sequence[Any],
    scales: Sequence[Sequence[float]],
    where: str,
    mend: str,
) -> None:
    """Refuse levels that do not lie over each other: beside the finest by more than a pixel of their own.

    By less they may, since some writers say where the first pixel's centre is and others where its edge is.
    """
    ndim = len(scales[0])
    whole = _transformation(multiscale, "scale", ndim) or [1.0] * ndim
    origins = [_transformation(dataset, "translation", ndim) or [0.0] * ndim for dataset in datasets]
    for number, (origin, scale) in enumerate(zip(origins, scales, strict=True)):
        for at, first, size, outer in zip(origin, origins[0], scale, whole, strict=True):
            if abs(at - first) * outer > size * (1 + 1e-6):
                raise ImageError(f"Level {number} of {where} is said to lie beside the finest one: {mend}.")


def _transformation(entry: dict[str, Any], kind: str, ndim: int) -> list[float] | None:
    for transformation in entry.get("coordinateTransformations", []):
        if transformation.get("type") == kind:
            values = [float(value) for value in transformation[kind]]
            if len(values) == ndim and all(math.isfinite(value) for value in values):
                return values
    return None


def _rounded(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < 1e-4 else factor


def _channels(ome: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is said of each channel's look, or nothing: an image can be opened without it."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    listed = isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels)
    return channels if listed and channels else []


def _window(channel: dict[str, Any]) -> tuple[float, float] | None:
    try:
        low, high = float(channel["window"]["start"]), float(channel["window"]["end"])
    except (KeyError, TypeError, ValueError):
        return None
    return (low, high) if low < high else None


def member(group: zarr.Group, name: str, where: str | Path) -> zarr.Array[Any]:
    """Return an array of a group by its path.

    Raises
    ------
    ImageError
        There is no such array.
    """
    import zarr

    member = group.get(name)
    if not isinstance(member, zarr.Array):
        raise ImageError(f"{where} says that its image is {name!r}, which is no array: copy the store again, whole.")
    return member
