"""Contrast presets: set the limits of an image layer, which the encoder uses too."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_sam.errors import NapariSamError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.workers.runner import Work, apart

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Report, Runner

Limits = tuple[float, float]
PERCENTILES, FULL = "0.5 to 99.5 percentile", "full range"
# Windows in Hounsfield units, as radiologists use them: level 40 and width 400, -600 and 1500, 300 and 1500, 40 and 80.
WINDOWS: dict[str, Limits] = {
    "CT abdomen (soft tissue)": (-160.0, 240.0),
    "CT lung": (-1350.0, 150.0),
    "CT bone": (-450.0, 1050.0),
    "CT brain": (0.0, 80.0),
}
# Fat: a CT of anything has values below.
FAT = -100.0


def presets_for(image: Image | None) -> tuple[str, ...]:
    """Return the presets for an image: windows of a CT where its values can be Hounsfield units."""
    can_be_ct = image is not None and not image.rgb and _has_low_values(image)
    return (PERCENTILES, FULL, *WINDOWS) if can_be_ct else (PERCENTILES, FULL)


def limits_job(preset: str, image: Image, viewer: ViewerModel | None = None) -> Callable[[Report], Limits]:
    """Return what finds the limits of a preset for an image, in any thread; percentiles read a few blocks of it.

    A thick slice of a viewer is projected before.

    Raises
    ------
    ImageError
        The layer's pixels are no image.
    """
    if preset in WINDOWS:
        return lambda _: WINDOWS[preset]
    if preset == FULL:
        full = _full_range(image)
        return lambda _: full
    volume = adapters.shown([image], viewer).volume

    def percentiles(_: Report) -> Limits:
        low, high = volume.rendering().limits[0]
        return float(low), float(high)

    return percentiles


def set_limits(session: Session, runner: Runner, preset: str) -> None:
    """Give the image of a session the contrast limits of a preset, as soon as they are known."""
    image = session.image
    if image is None or image.rgb:
        session.notify("There is no gray image whose contrast could be set: colors are encoded as they are.")
        return

    def done(limits: Limits) -> None:
        if image in session.viewer.layers and limits[0] < limits[1]:
            image.contrast_limits = limits

    if preset in WINDOWS:
        done(WINDOWS[preset])
        return
    try:
        job = limits_job(preset, image, session.viewer)
    except NapariSamError as error:
        session.notify(str(error))
        return
    apart(runner)(Work(job, done, session.notify_error))


def _has_low_values(image: Image) -> bool:
    """Return whether values can lie below fat: signed whole numbers, as CTs are stored, or floats that do."""
    kind = np.dtype(image.dtype).kind
    lowest = min(image.contrast_limits_range[0], image.contrast_limits[0])
    return bool(kind == "i" or (kind == "f" and lowest <= FAT))


def _full_range(image: Image) -> Limits:
    """Return what the type of the pixels can hold; for floats, the range of the layer's slider."""
    dtype = np.dtype(image.dtype)
    if np.issubdtype(dtype, np.integer):
        return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    low, high = image.contrast_limits_range
    return float(low), float(high)
