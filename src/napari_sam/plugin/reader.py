"""Open OME-Zarr and whole-slide files as lazy layers, which read only what is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ImageError, LabelsError
from napari_sam.images.formats.readable import is_without_library
from napari_sam.images.lazy.levels import LazyArray, lazy_levels
from napari_sam.images.opening import ImageSource, open_image
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.storage.zarr_images import is_label_image
from napari_sam.plugin.layers.factory import PYRAMID
from napari_sam.plugin.layers.map_layers import (
    MAX_BANDS,
    ComposedColors,
    map_metadata,
    natural_bands,
    place_on_map,
    valid_limits,
)
from napari_sam.plugin.layers.names import name_of

LayerTuple = tuple[Any, dict[str, Any], str]


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerTuple]] | None:
    """Return the reader of an image file or store, or None where it cannot be read; napari asks."""
    if not isinstance(path, str):
        return None
    try:
        layers = read_layers(path)
    except ImageError as error:
        if not Path(path).is_file() or not is_without_library(Path(path)):
            return None
        sentence = str(error)

        def refuse(_: str | Sequence[str]) -> list[LayerTuple]:
            raise ImageError(sentence)  # napari shows it: it names the library to install.

        return refuse
    return lambda _: layers


def read_layers(path: str) -> list[LayerTuple]:
    """Open an image file or store as napari layers; label images on disk as layers that can be written into.

    Raises
    ------
    ImageError
        It is no image.
    """
    opened = open_image(path)
    name = name_of(Path(path.rstrip("/")).name)
    if is_label_image(path):
        with contextlib.suppress(LabelsError):  # Read-only labels are shown as any image.
            return [_labels_of(LabelPyramid.open(path), opened, name)]
    return layers_of(opened, name)


def _labels_of(pyramid: LabelPyramid, opened: ImageSource, name: str) -> LayerTuple:
    """Return a label pyramid as a layer that accepted masks can be written into."""
    metadata = {**_metadata_of(opened), PYRAMID: pyramid}
    options: dict[str, Any] = {"name": name, "multiscale": len(pyramid.levels) > 1, "metadata": metadata}
    if opened.axes is not None:
        options |= _place_of(opened, range(len(opened.axes)))
    return lazy_levels(pyramid.levels), options, "labels"


def _place_of(opened: ImageSource, axes: Sequence[int]) -> dict[str, Any]:
    """Return the names of some axes, and their scale, position and units where the file tells them."""
    assert opened.axes is not None
    named = {"axis_labels": [opened.axes[axis] for axis in axes]}
    place = opened.georeference
    if place is not None and place.transform is not None and "".join(named["axis_labels"]).endswith("yx"):
        return named | place_on_map(place, len(axes))
    if opened.spacing is None:
        return named
    space = opened.unit if opened.unit and _is_unit(opened.unit) else "pixel"
    origin = opened.origin or (0.0,) * len(opened.axes)
    return named | {
        "scale": [opened.spacing[axis] for axis in axes],
        "translate": [origin[axis] for axis in axes],
        "units": [space if opened.axes[axis] in "zyx" else "pixel" for axis in axes],
    }


def _is_unit(name: str) -> bool:
    """Whether napari takes the name of a unit, of which files have any."""
    import pint

    try:
        registry: Any = pint.get_application_registry()  # type: ignore[no-untyped-call]
        return bool(registry.Unit(name).is_compatible_with("meter"))
    except Exception:  # The parser of pint raises what Python's own does.
        return False


def layers_of(opened: ImageSource, name: str) -> list[LayerTuple]:
    """Return an opened image as napari layers: one, or one for each channel."""
    levels = [LazyArray(level) for level in opened.levels]
    ndim = levels[0].ndim
    letters = opened.axes or ""
    rgb = letters.endswith("s")
    channel = letters.find("c")
    kept = [axis for axis in range(ndim) if axis != channel and not (rgb and axis == ndim - 1)]
    options: dict[str, Any] = {"multiscale": len(levels) > 1, "metadata": _metadata_of(opened)}
    if opened.axes is not None:
        options |= _place_of(opened, kept)
    if channel < 0 or rgb:
        limits = {} if rgb else {"contrast_limits": _limits(levels[-1], opened.windows[:1], opened)}
        return [(_data(levels), {**options, **limits, "rgb": rgb, "name": name}, "image")]
    if letters == "yxc" and _is_on_map(opened) and levels[0].shape[channel] >= 3:
        return _map_layers(opened, levels, options, name)
    return _channel_layers(opened, levels, options, name, channel)


def _map_layers(opened: ImageSource, levels: list[LazyArray], options: dict[str, Any], name: str) -> list[LayerTuple]:
    """Return the bands of a map: three of them in natural colors, and a hidden layer for each of a few."""
    count = levels[0].shape[-1]
    bands = natural_bands(count, opened.shown_channels)
    limits = [valid_limits(levels[-1][..., band], opened.nodata) for band in bands]
    colors = [LazyArray(ComposedColors(level, bands, limits)) for level in opened.levels]
    shown = (_data(colors), {**options, "rgb": True, "name": name}, "image")
    hidden = _channel_layers(opened, levels, options, name, 2) if count <= MAX_BANDS else []
    return [
        *((data, {**each, "visible": False, "blending": "translucent"}, kind) for data, each, kind in hidden),
        shown,
    ]


def _channel_layers(
    opened: ImageSource, levels: list[LazyArray], options: dict[str, Any], name: str, channel: int
) -> list[LayerTuple]:
    """Return a layer for each channel."""
    found: list[LayerTuple] = []
    for number in range(levels[0].shape[channel]):
        part = [level[(*(slice(None),) * channel, number)] for level in levels]
        named = opened.channel_names[number] if number < len(opened.channel_names) else f"channel {number}"
        one = {**options, "name": f"{name} {named}", "blending": "additive"}
        one["contrast_limits"] = _limits(part[-1], opened.windows[number : number + 1], opened)
        if number < len(opened.colors):
            one["colormap"] = f"#{opened.colors[number].lstrip('#')[:6]}"
        found.append((_data(part), one, "image"))
    return found


def _data(levels: list[LazyArray]) -> LazyArray | list[LazyArray]:
    return levels if len(levels) > 1 else levels[0]


def _is_on_map(opened: ImageSource) -> bool:
    return opened.georeference is not None and opened.georeference.transform is not None


def _metadata_of(opened: ImageSource) -> dict[str, Any]:
    """Return what labels take over for the writers of other plugins: header, affine, position on the map."""
    place, anatomy = opened.georeference, opened.anatomy
    in_body = {} if anatomy is None else {"affine": anatomy.ras, "coordinate_system": "RAS"}
    return {**in_body, **opened.metadata, **({} if place is None else map_metadata(place))}


def _limits(
    coarse: LazyArray, windows: Sequence[tuple[float, float] | None], opened: ImageSource
) -> tuple[float, float]:
    """Return the file's own contrast limits, or the range of a middle plane of the coarsest level.

    Of a map they are percentiles of the pixels with a value: clouds and borders would leave the rest black.
    """
    if (
        not (windows and windows[0] is not None)
        and coarse.ndim == 2
        and (_is_on_map(opened) or opened.nodata is not None)
    ):
        return valid_limits(coarse, opened.nodata)
    if windows and windows[0] is not None and windows[0][0] < windows[0][1]:
        return windows[0]
    middle = [length // 2 for length in coarse.shape[:-2]]
    spread = [slice(max((n - 1024) // 2, 0), max((n - 1024) // 2, 0) + 1024) for n in coarse.shape[-2:]]
    seen = np.asarray(coarse[(*middle, *spread)])
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1)
