"""Pictures as the networks take them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Mean and spread of RGB, as values from 0 to 1, in the training of CLIP and OWLv2, and of networks for ImageNet.
CLIP_COLORS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_COLORS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

Colors = tuple[tuple[float, float, float], tuple[float, float, float]]


def normalized(pictures: Sequence[NDArray[np.uint8]], colors: Colors, device: torch.device) -> Tensor:
    """Return pictures of one shape (rows, cols, 3) as (n, 3, rows, cols), float32, of mean 0 and spread 1."""
    images = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    mean, spread = (torch.tensor(values, device=device).reshape(1, 3, 1, 1) for values in colors)
    return (images.float() / 255 - mean) / spread


def padded(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return a picture with black pixels below and to the right of it, so that no side is shorter than `side`."""
    rows, cols = picture.shape[:2]
    return np.pad(picture, ((0, max(side - rows, 0)), (0, max(side - cols, 0)), (0, 0)))


def corners(boxes: Tensor, scale: tuple[float, float], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return boxes by their corners, cut to a picture.

    Parameters
    ----------
    boxes
        Shape (n, 4): column and row of the center, width, height, from 0 to 1.
    scale
        Rows and columns that 1 stands for.
    shape
        Rows and columns of the picture.

    Returns
    -------
    numpy.ndarray
        Shape (n, 4): (top, left, bottom, right) in pixel edges.
    """
    col, row, width, height = boxes.double().cpu().numpy().T
    edges = np.stack([row - height / 2, col - width / 2, row + height / 2, col + width / 2], axis=1)
    return np.asarray(np.clip(edges * np.tile(scale, 2), 0, np.tile(shape, 2)), np.float64)
