"""zarr arrays and OME-Zarr images on disk, in zips and behind URLs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import ImageError
from napari_sam.images.axes.attributes import grid_in, map_in
from napari_sam.images.axes.letters import named_axes, names_of_array
from napari_sam.images.ome_zarr.transforms import Placement, UnsupportedTransformationError, placement
from napari_sam.images.source import ImageSource, calibrated, checked

if TYPE_CHECKING:
    import zarr

# Versions that describe axes by coordinate systems.
NAMED_SYSTEMS = "0.6"


def open_url(url: str) -> ImageSource:
    """Open a zarr array or an OME-Zarr image behind a URL."""
    if "?" in url:
        raise ImageError(f"{url} has a query, and only plain URLs are opened: leave out the ? and what follows it.")
    if url.lower().rstrip("/").endswith((".zip", ".ozx")):
        raise ImageError(f"{url} is a zip, and those are opened from disk alone: download it.")
    return open_zarr(url)


def open_zarr(where: str) -> ImageSource:
    """Open a zarr array or an OME-Zarr image in a folder, in a zip or behind a URL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Codecs and files that zarr does not know and that are not asked for.
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
        # Zipped with the folder that it was in.
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
    ome = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in ome and "0" in node:
        inner = node["0"]
        return _open_node(inner, f"{where}/0")
    if ome.get("multiscales"):
        return _open_multiscale(node, ome, where)
    _refuse_collection(ome, where)
    names = sorted(node.array_keys())
    if len(names) == 1:
        return checked(_open_array(member(node, names[0], where)), where)
    groups = [] if names else sorted(node.group_keys())
    if not names and not groups:
        raise ImageError(
            f"{where} is a zarr group and holds nothing, none of what an image is made of: check the path."
        )
    kind, listed = "groups" if groups else "arrays", ", ".join((names or groups)[:5])
    raise ImageError(f"{where} is a zarr group and not one image: give the path of one of its {kind} ({listed}).")


def _open_array(array: zarr.Array[Any]) -> ImageSource:
    """Describe a single array by its own attributes: names of its axes, and the steps and origin that N5 gives."""
    letters, guessed = named_axes(names_of_array(array), array.ndim)
    attributes = array.attrs.asdict()
    opened = ImageSource((array,), letters, georeference=map_in(attributes), guessed_axes=guessed)
    stated = grid_in(attributes, array.ndim)
    if letters is None or stated is None:
        return opened
    return calibrated(opened, *stated)


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


def _open_multiscale(node: zarr.Group, ome: dict[str, Any], where: str) -> ImageSource:
    """Open an OME-Zarr image by its metadata (version 0.1 to 0.6)."""
    multiscale = ome["multiscales"][0]
    datasets = multiscale["datasets"]
    finest = f"{where}/{datasets[0]['path']}"
    advice = f"correct the metadata, or give {finest}, the finest level alone"
    levels = tuple(member(node, str(dataset["path"]), where) for dataset in datasets)
    version = str(ome.get("version") or multiscale.get("version") or "")
    axes = _ome_axes(multiscale, datasets)
    if axes is None and version.startswith(NAMED_SYSTEMS):
        raise ImageError(f"{where} is OME-Zarr {version} and names no coordinate system: {advice}.")
    placements = _placements(multiscale, datasets, axes, levels[0].ndim, version, where, advice)
    letters, guessed = _ome_letters(levels[0], axes, version, placements[0].order if placements else None)
    factors = None
    if placements is not None:
        steps = [placement.scale for placement in placements]
        factors = tuple(tuple(_rounded(a / b) for a, b in zip(scale, steps[0], strict=True)) for scale in steps)
        _check_origins(placements, where, advice)
    channels = _channels(ome)
    opened = ImageSource(
        levels,
        letters,
        factors=factors,
        georeference=map_in(node.attrs.asdict()),
        guessed_axes=guessed,
        windows=tuple(_window(channel) for channel in channels),
        colors=tuple(str(channel.get("color", "FFFFFF")) for channel in channels),
        channel_names=tuple(str(channel.get("label", number)) for number, channel in enumerate(channels)),
    )
    if placements and letters:
        opened = _calibrated(opened, placements[0], axes)
    return checked(opened, where, advice)


def _ome_axes(multiscale: dict[str, Any], datasets: Sequence[Any]) -> list[dict[str, Any]] | None:
    """Return the axes of the coordinate system that the levels lie in; None where there are none."""
    axes = multiscale.get("axes")
    systems = multiscale.get("coordinateSystems")
    if isinstance(systems, list) and systems:
        output = datasets[0].get("coordinateTransformations", [{}])[-1].get("output")
        name = output.get("name") if isinstance(output, dict) else output
        axes = next((system for system in systems if system.get("name") == name), systems[0])["axes"]
    if not axes:
        return None
    return [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]


def _placements(
    multiscale: dict[str, Any],
    datasets: Sequence[Any],
    axes: Sequence[dict[str, Any]] | None,
    ndim: int,
    version: str,
    where: str,
    advice: str,
) -> list[Placement] | None:
    """Return the place of each level, or None where one does not say.

    Raises
    ------
    ImageError
        A level is rotated, sheared or deformed.
    """
    has_systems = bool(multiscale.get("coordinateSystems"))
    # From 0.6 on these lead to further coordinate systems, and before they were applied to all levels.
    whole = [] if has_systems else multiscale.get("coordinateTransformations") or []
    names = [str(axis.get("name")) for axis in axes or ()]
    found = []
    try:
        for dataset in datasets:
            given = dataset.get("coordinateTransformations") or []
            if not given or not (has_systems or any(one.get("type") == "scale" for one in given)):
                return None
            found.append(placement([*given, *whole], ndim, names))
    except UnsupportedTransformationError as error:
        called = f"OME-Zarr {version}" if version else "OME-Zarr"
        raise ImageError(
            f"{where} is {called}, and its coordinate transformations are not supported ({error}): resample the image "
            f"to a grid along its axes, or open {where}/{datasets[0]['path']}, which has no position."
        ) from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        if has_systems:
            raise ImageError(
                f"{where} is OME-Zarr {version} whose coordinate transformations cannot be read ({error}): {advice}."
            ) from error
        return None
    return found if len({one.order for one in found}) == 1 else None


def _ome_letters(
    array: zarr.Array[Any], axes: Sequence[dict[str, Any]] | None, version: str, order: Sequence[int] | None
) -> tuple[str | None, str]:
    """Return one letter for each axis of the arrays, None where the metadata do not fit them, and the guessed ones."""
    if axes is not None:
        if len(axes) != array.ndim:
            return None, ""
        placed = [axes[at] for at in order] if order is not None else axes
        return named_axes([axis.get("name") for axis in placed], array.ndim, [axis.get("type") for axis in placed])
    # Before 0.3 there were five axes, and always these.
    if version in ("", "0.1", "0.2") and array.ndim == 5:
        return "tczyx", ""
    return named_axes(names_of_array(array), array.ndim)


def _calibrated(opened: ImageSource, place: Placement, axes: Sequence[dict[str, Any]] | None) -> ImageSource:
    """Add spacing, origin and units to an image whose axes are known; lengths in the unit of the columns."""
    assert opened.axes is not None
    given = [axes[at].get("unit") for at in place.order] if axes else [None] * len(place.order)
    return calibrated(opened, place.scale, place.origin, given)


def _check_origins(placements: Sequence[Placement], where: str, advice: str) -> None:
    """Refuse levels that do not lie over each other: beside the finest by more than a pixel of their own.

    By less they may, since some writers say where the first pixel's centre is and others where its edge is.
    """
    first = placements[0]
    for number, level in enumerate(placements):
        for at, start, size, finest in zip(level.origin, first.origin, level.scale, first.scale, strict=True):
            if abs(at - start) > abs(size) * (1 + 1e-6) or size * finest < 0:
                raise ImageError(f"Level {number} of {where} is said to lie beside the finest one: {advice}.")


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
