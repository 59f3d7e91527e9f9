"""Open zarr arrays and OME-Zarr images on disk, in zips and at URLs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ImageError
from napari_sam.images.axes.attributes import grid_in, map_in
from napari_sam.images.axes.letters import named_axes, names_of_array
from napari_sam.images.ome_zarr.metadata import Multiscale, ome_attributes, read_multiscale
from napari_sam.images.ome_zarr.transforms import Placement, UnsupportedTransformationError
from napari_sam.images.source import ImageSource, calibrated, checked

if TYPE_CHECKING:
    import zarr

# Versions that describe axes by coordinate systems.
NAMED_SYSTEMS = "0.6"


def open_url(url: str) -> ImageSource:
    """Open a zarr array or an OME-Zarr image at a URL."""
    if "?" in url:
        raise ImageError(f"{url} has a query, and only plain URLs are opened: leave out the ? and what follows it.")
    if url.lower().rstrip("/").endswith((".zip", ".ozx")):
        raise ImageError(f"{url} is a zip, and zips are opened from disk only: download it.")
    return open_zarr(url)


def open_zarr(where: str) -> ImageSource:
    """Open a zarr array or an OME-Zarr image in a folder, in a zip or at a URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # About unknown codecs and files that are not used.
        return _open_node(_node(where), where.rstrip("/"))


def _node(where: str) -> zarr.Group | zarr.Array[Any]:
    import zarr

    if "://" in where:
        return zarr.open(where, mode="r")
    if not where.lower().endswith((".zip", ".ozx")) or Path(where).is_dir():
        from napari_sam.images.ome_zarr.folder import RegularFilesStore

        return zarr.open(RegularFilesStore(where, read_only=True), mode="r")
    store = zarr.storage.ZipStore(where, mode="r")
    try:
        return zarr.open(store, mode="r")
    except FileNotFoundError:
        # It was zipped together with its folder.
        import zipfile

        with zipfile.ZipFile(where) as archive:
            folders = {name.split("/")[0] for name in archive.namelist()}
        if len(folders) != 1:
            raise
        return zarr.open(store, path=folders.pop(), mode="r")


def _open_node(node: zarr.Group | zarr.Array[Any], where: str) -> ImageSource:
    """Open an array, an OME-Zarr image, or the one image that a group holds."""
    import zarr

    if isinstance(node, zarr.Array):
        return checked(_open_array(node), where)
    attributes: dict[str, Any] = dict(node.attrs)
    ome = ome_attributes(attributes)
    if "bioformats2raw.layout" in ome and "0" in node:
        inner = node["0"]
        return _open_node(inner, f"{where}/0")
    if ome.get("multiscales"):
        return _open_multiscale(node, where)
    _refuse_collection(ome, where)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return checked(_open_array(member(node, names[0], where)), where)
    groups = [] if names else sorted(node.group_keys())
    if not names and not groups:
        raise ImageError(f"{where} is an empty zarr group, without arrays or images: check the path.")
    kind, listed = "groups" if groups else "arrays", ", ".join((names or groups)[:5])
    raise ImageError(f"{where} is a zarr group and not one image: give the path of one of its {kind} ({listed}).")


def _open_array(array: zarr.Array[Any]) -> ImageSource:
    """Open a single array, described by its attributes: names of axes, and steps and origin as in N5."""
    letters, guessed = named_axes(names_of_array(array), array.ndim)
    attributes = array.attrs.asdict()
    opened = ImageSource((array,), letters, georeference=map_in(attributes), guessed_axes=guessed)
    stated = grid_in(attributes, array.ndim)
    if letters is None or stated is None:
        return opened
    return calibrated(opened, *stated)


def _refuse_collection(ome: Any, where: str) -> None:
    """Refuse a plate, a well and a group of label images; the message names one of their images."""
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
        raise ImageError(f"{where} is a plate or a well without images: give the path of an image.") from None
    if where.lower().endswith((".zip", ".ozx")):
        raise ImageError(f"{where} contains many {kind}: unpack it, and give the path of one of them, such as {inner}.")
    raise ImageError(f"{where} contains many {kind}: give the path of one of them, such as {where}/{inner}.")


def _open_multiscale(node: zarr.Group, where: str) -> ImageSource:
    """Open an OME-Zarr image by its metadata."""
    attributes = node.attrs.asdict()
    image = read_multiscale(attributes)
    advice = f"correct the metadata, or give {where}/{image.paths[0]}, the finest level alone"
    levels = tuple(member(node, path, where) for path in image.paths)
    if image.axes is None and image.version.startswith(NAMED_SYSTEMS):
        raise ImageError(f"{where} is OME-Zarr {image.version} and names no coordinate system: {advice}.")
    placements = _placements(image, levels[0].ndim, where, advice)
    order = placements[0].order if placements else None
    letters, guessed = image.letters_of(levels[0].ndim, order, names_of_array(levels[0]))
    factors = None
    if placements is not None:
        steps = [placement.scale for placement in placements]
        factors = tuple(tuple(_rounded(a / b) for a, b in zip(scale, steps[0], strict=True)) for scale in steps)
        _check_origins(placements, where, advice)
    opened = ImageSource(
        levels,
        letters,
        factors=factors,
        georeference=map_in(attributes),
        guessed_axes=guessed,
        windows=tuple(_window(channel) for channel in image.channels),
        colors=tuple(str(channel.get("color", "FFFFFF")) for channel in image.channels),
        channel_names=tuple(str(channel.get("label", number)) for number, channel in enumerate(image.channels)),
    )
    if placements and letters:
        opened = _calibrated(opened, placements[0], image.axes)
    return checked(opened, where, advice)


def _placements(image: Multiscale, ndim: int, where: str, advice: str) -> list[Placement] | None:
    """Return the position of each level, or None where one is not stated.

    Raises
    ------
    ImageError
        A level is rotated, sheared or deformed.
    """
    placements = []
    try:
        for level in range(len(image.datasets)):
            position = image.placement_of(level, ndim)
            if position is None:
                return None
            placements.append(position)
    except UnsupportedTransformationError as error:
        called = f"OME-Zarr {image.version}" if image.version else "OME-Zarr"
        raise ImageError(
            f"{where} is {called}, and its coordinate transformations are not supported ({error}): resample the image "
            f"to a grid along its axes, or open {where}/{image.paths[0]}, which has no position."
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if image.has_systems:
            raise ImageError(
                f"{where} is OME-Zarr {image.version} whose coordinate transformations cannot be read ({error}): "
                f"{advice}."
            ) from error
        return None
    return placements if len({position.order for position in placements}) == 1 else None


def _calibrated(opened: ImageSource, position: Placement, axes: Sequence[dict[str, Any]] | None) -> ImageSource:
    """Add spacing, origin and units to an image whose axes are known; lengths in the unit of the columns."""
    units = [axes[axis].get("unit") for axis in position.order] if axes else [None] * len(position.order)
    return calibrated(opened, position.scale, position.origin, units)


def _check_origins(placements: Sequence[Placement], where: str, advice: str) -> None:
    """Refuse levels that are shifted against the finest one by more than a pixel of their own.

    Smaller shifts occur, since some writers give the center of the first pixel and others its edge.
    """
    first = placements[0]
    for number, level in enumerate(placements):
        for at, start, size, finest in zip(level.origin, first.origin, level.scale, first.scale, strict=True):
            if abs(at - start) > abs(size) * (1 + 1e-6) or size * finest < 0:
                raise ImageError(f"Level {number} of {where} is not aligned with the finest one: {advice}.")


def _rounded(factor: float) -> float:
    return float(round(factor)) if abs(factor - round(factor)) < 1e-4 else factor


def _window(channel: Mapping[str, Any]) -> tuple[float, float] | None:
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
        raise ImageError(f"The array {name!r} of the image in {where} is missing: copy the whole store again.")
    return member
