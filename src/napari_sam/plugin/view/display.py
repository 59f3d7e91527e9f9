"""DisplayedImage: the pixels of image layers at all levels, with their contrast, colors and projection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from napari_sam.images.arguments import MAX_CHANNELS
from napari_sam.images.lazy.levels import Stacked
from napari_sam.images.projection import Mode, Projection, slab_planes
from napari_sam.images.volume import Volume
from napari_sam.plugin.view import world
from napari_sam.plugin.view.napari_private import thick_slice_of

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Layer


def shape_of(layer: Image) -> tuple[int, ...]:
    """Return the length of every axis of an image layer in level-0 pixels, without colors."""
    shape = tuple(layer.data[0].shape if layer.multiscale else layer.data.shape)
    return shape[:-1] if layer.rgb else shape


def channels_with(viewer: ViewerModel, image: Image) -> list[Image]:
    """Return the visible image layers that are channels of one image, including the given one.

    At most three, from the bottom up; an RGB image stands alone.
    """
    if image.rgb:
        return [image]
    from napari.layers import Image as ImageLayer

    others = [
        layer
        for layer in viewer.layers
        if isinstance(layer, ImageLayer)
        and layer is not image
        and not layer.rgb
        and layer.visible
        and shape_of(layer) == shape_of(image)
        and _level_shapes(layer) == _level_shapes(image)
        and world.same_place(layer, image)
    ]
    chosen = [image, *others[: MAX_CHANNELS - 1]]
    return [layer for layer in viewer.layers if layer in chosen]


def reads_hidden_planes(layer: Image) -> bool:
    """Say whether napari reads all planes of what a layer shows: it does of a pyramid of plain zarr or tensorstore."""
    if not layer.multiscale or layer.ndim < 3:
        return False
    kinds = {type(level).__module__.split(".")[0] for level in layer.data}
    return bool(kinds & {"zarr", "tensorstore"})


def _level_shapes(layer: Image) -> list[tuple[int, ...]]:
    return [tuple(level.shape) for level in (layer.data if layer.multiscale else [layer.data])]


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedImage:
    """An image as the viewer shows it: its pixels, and how they are stretched.

    Parameters
    ----------
    volume
        The pixels of one layer, or of several as channels in their colors.
    limits
        Contrast limits, a pair for each channel; None for colors as they are.
    gamma
        One for each channel.
    """

    volume: Volume
    limits: tuple[tuple[float, float], ...] | None
    gamma: tuple[float, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that differs between images that are displayed differently."""
        volume = self.volume
        arrays = getattr(volume.array, "arrays", (volume.array,))
        return (*map(id, arrays), volume.spacing, volume.colors, volume.projection, self.limits, self.gamma)


def shown(layers: Sequence[Image], viewer: ViewerModel | None = None) -> DisplayedImage:
    """Return what one image layer, or several as channels, show; of multiscale ones all levels.

    Parameters
    ----------
    layers
        The layers.
    viewer
        Where several planes may be seen as one; left out, each is seen alone.

    Raises
    ------
    ImageError
        The pixels are no image.
    """
    first = layers[0]
    sizes = np.abs(np.asarray(first.scale, float)) * _unit_lengths(first)
    spacing = [float(size) for size in sizes]
    levels = [list(layer.data) if layer.multiscale else [layer.data] for layer in layers]
    if len(layers) == 1:
        volume = Volume.of(levels[0], rgb=bool(first.rgb), spacing=spacing)
    else:
        stacked = [Stacked(level) for level in zip(*levels, strict=True)]
        colors = tuple(_color(layer) for layer in layers)
        volume = replace(Volume.of(stacked, rgb=False, channel_axis=0, spacing=spacing), colors=colors)
    projection = None if viewer is None else projection_of(viewer, layers)
    if projection is not None:
        volume = volume.projected(projection)
    if first.rgb:
        return DisplayedImage(volume, None, (1.0,))
    limits = tuple((float(layer.contrast_limits[0]), float(layer.contrast_limits[1])) for layer in layers)
    return DisplayedImage(volume, limits, tuple(float(layer.gamma) for layer in layers))


def projection_of(viewer: ViewerModel, layers: Sequence[Image]) -> Projection | None:
    """Return how layers of one place show a thick slice; None where they show one plane."""
    modes = tuple(cast(Mode, str(layer.projection_mode)) for layer in layers)
    if not set(modes) - {"none"} or viewer.dims.ndisplay != 2 or viewer.dims.ndim < layers[0].ndim:
        return None  # While its layers are removed, a viewer has fewer axes than the layers had.
    first, shape = layers[0], shape_of(layers[0])
    point, left, right = _slab_of(viewer, first)
    hidden = [axis - (viewer.dims.ndim - first.ndim) for axis in viewer.dims.not_displayed]
    hidden = [axis for axis in hidden if axis >= 0]
    if not left[hidden].any() and not right[hidden].any():
        return None
    before, after = np.zeros(first.ndim), np.zeros(first.ndim)
    for axis in hidden:
        at = min(max(round(point[axis]), 0), shape[axis] - 1)
        # A fraction that only comes from the arithmetic must not make each plane another image.
        before[axis] = round(left[axis] - point[axis] + at, 6)
        after[axis] = round(right[axis] + point[axis] - at, 6)
        span = slab_planes(point[axis], left[axis], right[axis], shape[axis])
        if slab_planes(at, before[axis], after[axis], shape[axis]) != span:
            before[axis], after[axis] = at - span[0], span[-1] - at
    return Projection(modes[:1] if len(set(modes)) == 1 else modes, tuple(before.tolist()), tuple(after.tolist()))


def _slab_of(viewer: ViewerModel, layer: Image) -> NDArray[np.float64]:
    """Return where a thick slice lies in the data of a layer: its middle, and how far it reaches before and after it.

    napari's own numbers, where it tells them: at halves its rounding depends on the last digit.
    """
    center = np.asarray(viewer.dims.point, float)
    margins = [-np.asarray(viewer.dims.margin_left), np.asarray(viewer.dims.margin_right)]
    middle, low, high = (world.to_data(viewer, layer, center + margin) for margin in (0 * center, *margins))
    found = np.array([middle, middle - low, high - middle])
    of_napari = thick_slice_of(layer)
    if of_napari is not None and of_napari.shape == found.shape:
        hidden = ~np.isnan(of_napari)
        if np.allclose(of_napari[hidden], found[hidden], atol=1e-6):
            found[hidden] = of_napari[hidden]
    point, left, right = found
    flipped = (left < 0) | (right < 0)
    return np.array([point, np.where(flipped, -right, left), np.where(flipped, -left, right)])


def _color(layer: Image) -> tuple[float, float, float]:
    """Return the color of a layer's brightest pixels."""
    red, green, blue = np.asarray(layer.colormap.map(np.array([1.0])), float)[0, :3]
    return float(red), float(green), float(blue)


def _unit_lengths(layer: Layer) -> NDArray[np.float64]:
    """Return how long the unit of each axis is, in base units; all alike where some are of another kind."""
    bases = [(1 * unit).to_base_units() for unit in layer.units]
    if len({str(base.units) for base in bases}) > 1:
        return np.ones(len(bases))
    return np.array([float(base.magnitude) for base in bases])
