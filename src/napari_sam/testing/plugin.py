"""An annotation session without a window and without a model: masks are proposed by the test and accepted as usual."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from numpy.typing import NDArray

from napari_sam.core.candidates import Candidates
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.plugin.controller import Controller
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.testing.runners import WriteRunner

SHAPE = (3, 40, 48)


def random_image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    """Return noise, uint8: images of different seeds are different images to the journal.

    Parameters
    ----------
    seed
        Seed of the random numbers.
    shape
        Shape of the image; three planes of 40 x 48 pixels by default.
    """
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)


def disc(row: float, col: float, radius: float, shape: tuple[int, int] = (40, 48)) -> Mask:
    """Return a round mask with a predicted IoU of 0.8 and a stability of 0.9.

    Parameters
    ----------
    row, col
        Center, in pixels.
    radius
        In pixels; the mask is cut at the border of the plane.
    shape
        (rows, cols) of the plane.
    """
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    pixels = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    return Mask(Box(0, 0, *shape), pixels, 0.8, 0.9).tightened()


def make_controller(
    pixels: NDArray[Any], notify: Callable[[str], None], label_folder: Path | None = None
) -> Controller:
    """Return the controller of a new viewer model that shows one image.

    Parameters
    ----------
    pixels
        The image.
    notify
        Called with every message for the user.
    label_folder
        Folder of an OME-Zarr label pyramid, made where there is none; a Labels layer in memory by default.
    """
    viewer = ViewerModel()
    image = viewer.add_image(pixels, name="image", contrast_limits=(0, 255))
    controller = Controller(viewer, WriteRunner(), notify)
    controller.session.set_image(image)
    if label_folder is not None:
        use_label_file(controller.session, controller.preview.layers, label_folder)
    return controller


def propose(
    controller: Controller, mask: Mask, plane: Plane, points: Sequence[tuple[float, float]] = ((5, 5),)
) -> None:
    """Make a mask the answer to the current object's prompts, as if a model had given it.

    Parameters
    ----------
    controller
        A controller whose image is set.
    mask
        All three candidates.
    plane
        Plane of the mask.
    points
        Positive points (row, col) that the journal records as the prompts.
    """
    controller.requests.cancel()  # A model's answer would replace the mask.
    prompts = Prompts(np.array(points, float), np.ones(len(points), bool))
    draft = controller.session.drafts.current
    draft.candidates = Candidates((mask,) * 3, 0, plane, prompts)
    draft.is_asked = False
    draft.selected = 0


def labels_of(controller: Controller) -> NDArray[Any]:
    """Return a copy of the labels that the controller writes into, from memory or from disk."""
    target = controller.session.target
    assert target is not None
    pyramid = labels_layer.pyramid_of(target)
    return np.array(target.data if pyramid is None else pyramid[(slice(None),) * target.ndim])
