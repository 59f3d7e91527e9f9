"""Sizes: how large the objects are that a model is taught, which tells what a first click means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_sam.training.teaching.measuring.held_back import Held
from napari_sam.training.teaching.regions import Region

# What is added to the standard deviation of the logarithms of the areas: few objects tell little of it.
LEAST_SPREAD = 0.5


def usual_log_area(regions: Sequence[Region], hidden: Held) -> Tensor | None:
    """Return the median of the logarithms of the areas in pixels, and their spread; None for very large objects.

    Parameters
    ----------
    regions
        With all their objects.
    hidden
        Which of them are not learned from, and so do not count.
    """
    if any(region.step > 1 for region in regions):
        return None  # Their pixels are not those that will be clicked.
    areas = [
        np.log(np.count_nonzero(region.objects == number) + 1)
        for region, own in zip(regions, hidden, strict=True)
        for number in region.numbers[~own]
    ]
    return torch.tensor([float(np.median(areas)), float(np.std(areas)) + LEAST_SPREAD])
