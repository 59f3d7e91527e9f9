"""Classical baselines: flood filling and random walker from the same first click as the model's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.segmentation import flood, random_walker
from skimage.transform import resize

from napari_sam.core.geometry import Box, Plane
from napari_sam.evaluation.clicks import most_interior
from napari_sam.evaluation.datasets import LabelledImage, drawn_targets
from napari_sam.evaluation.metrics import iou_of, rounded
from napari_sam.images.volume import Volume

TOLERANCES = (3, 6, 10, 15, 20, 30, 40, 60, 80, 120)
WINDOWS = (24, 48, 96, 192, 384, 768, 1536)
BETA = 130.0
SIGMA = 1.0
WALKED_SIDE = 96


def baselines(images: list[LabelledImage], *, objects_per_subset: int = 12, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Segment the objects that `evaluate` draws by flood filling and by random walker, from their first click.

    Either method has one parameter that a click does not determine; each subset gets the value that is best for it in
    hindsight, so the figures are upper bounds.

    Parameters
    ----------
    images
        The manifest.
    objects_per_subset, seed
        As in `evaluate`, so that the objects are the same.

    Yields
    ------
    dict
        The table so far, after every object: `subsets`, each with n, flood_miou, flood_tolerance, walker_miou and
        walker_window, and `mean` over the subsets.
    """
    floods: dict[str, list[list[float]]] = defaultdict(list)
    walks: dict[str, list[list[float]]] = defaultdict(list)
    volume: Volume

    def shape_of(image: LabelledImage) -> tuple[int, ...]:
        nonlocal volume
        volume = Volume.of(image.image)
        return volume.shape

    for image, target in drawn_targets(images, shape_of, objects_per_subset, seed):
        smooth = gaussian_filter(gray_plane(volume, target.plane), SIGMA)
        seed_point = most_interior(target.truth)
        floods[image.subset].append(
            [iou_of(flooded(smooth, seed_point, tolerance), target) for tolerance in TOLERANCES]
        )
        walks[image.subset].append([iou_of(walked(smooth, seed_point, window), target) for window in WINDOWS])
        yield _table(floods, walks)


def gray_plane(volume: Volume, plane: Plane) -> NDArray[np.float64]:
    """Return a plane as the model sees it, 0 to 255, with its channels averaged."""
    pixels = volume.read(plane, Box.of_shape(plane.shape_in(volume.shape)))
    return np.asarray(volume.rendering()(pixels).mean(axis=-1), np.float64)


def flooded(image: NDArray[np.floating[Any]], seed_point: tuple[int, int], tolerance: float) -> NDArray[np.bool_]:
    """Return the connected pixels whose value differs from that at the seed by no more than a tolerance."""
    return np.asarray(flood(image, seed_point, tolerance=tolerance), bool)


def walked(image: NDArray[np.floating[Any]], seed_point: tuple[int, int], window: int) -> NDArray[np.bool_]:
    """Return the pixels from which a random walker reaches the seed before the frame of a window around it.

    Parameters
    ----------
    image
        Shape (rows, cols).
    seed_point
        (row, col).
    window
        Side of the window in pixels; the walk is computed on at most 96 x 96 cells.
    """
    answer = np.zeros(image.shape, bool)
    start = [max(0, at - window // 2) for at in seed_point]
    where = tuple(slice(a, a + window) for a in start)
    inside = image[where]
    shape = tuple(min(n, WALKED_SIDE) for n in inside.shape)
    if min(shape) < 5:
        return answer
    small = resize(inside, shape, order=1, anti_aliasing=True, preserve_range=True)
    markers = np.zeros(shape, np.uint8)
    markers[[0, -1]] = markers[:, [0, -1]] = 2
    row, col = (
        min((at - a) * n // m, n - 1) for at, a, n, m in zip(seed_point, start, shape, inside.shape, strict=True)
    )
    markers[max(row - 1, 1) : row + 2, max(col - 1, 1) : col + 2] = 1
    if np.ptp(small) == 0:
        return answer
    near = random_walker(small, markers, beta=BETA, mode="bf", return_full_prob=True)[0]
    answer[where] = resize(near, inside.shape, order=1) > 0.5
    return answer


def _table(floods: dict[str, list[list[float]]], walks: dict[str, list[list[float]]]) -> dict[str, Any]:
    subsets = {}
    for name in sorted(floods):
        flood_means, walk_means = (np.mean(results[name], axis=0) for results in (floods, walks))
        subsets[name] = {
            "n": len(floods[name]),
            "flood_miou": rounded(flood_means.max()),
            "flood_tolerance": TOLERANCES[int(flood_means.argmax())],
            "walker_miou": rounded(walk_means.max()),
            "walker_window": WINDOWS[int(walk_means.argmax())],
        }
    mean = {key: rounded(np.mean([row[key] for row in subsets.values()])) for key in ("flood_miou", "walker_miou")}
    return {"subsets": subsets, "mean": mean}
