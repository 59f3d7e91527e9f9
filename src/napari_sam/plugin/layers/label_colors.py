"""The colors of new labels: none near black, none like the preview, and others for the next labels."""

from __future__ import annotations

import functools

import numpy as np
from napari.utils.colormaps import CyclicLabelColormap
from skimage.color import hsv2rgb

COUNT = 48
# The hues run from green over blue and red to orange; the preview's yellow lies between.
FIRST_HUE, HUES = 0.22, 0.86
SATURATIONS, VALUES = (0.85, 0.55, 0.7), (1.0, 0.8)
# Multiples of it spread evenly over the hues, however many there are, and the next one is always far away.
GOLDEN = (5**0.5 - 1) / 2


@functools.cache
def label_colors() -> CyclicLabelColormap:
    """Return the colors, which begin again after 48 labels; napari's own include some that hardly differ from black."""
    numbers = np.arange(COUNT)
    hues = (FIRST_HUE + HUES * (numbers * GOLDEN % 1)) % 1
    saturations, values = np.resize(SATURATIONS, COUNT), np.resize(VALUES, COUNT)
    rgb = hsv2rgb(np.stack([hues, saturations, values], axis=1))
    colors = np.concatenate([np.zeros((1, 4)), np.column_stack([rgb, np.ones(COUNT)])])
    # Values that a byte can hold: the graphics card rounds others in another way than the processor.
    return CyclicLabelColormap(colors=np.round(255 * colors).astype(np.float32) / 255)
