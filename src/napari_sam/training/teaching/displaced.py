"""Displaced objects: masks whose outlines lie beside the edges of the image, which teach a model the wrong thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, gaussian_filter

from napari_sam.errors import ModelError
from napari_sam.training.teaching.regions import Region

# Objects that are looked at; of more, so many are drawn.
MOST = 60
# Places to which an outline is moved for comparison: at these shares of the object's extent, in so many directions.
SHARES, DIRECTIONS = (0.35, 0.5, 0.65, 0.8), 12
# An outline may be drawn this share of the extent too far inside or outside.
SLACK = 0.05
# Edges are looked for at this share of the extent, and of an outline so much must lie inside the region.
BLUR, LEAST_INSIDE = 0.03, 0.6
# An object is in its place if the edge under its outline is clearer than at so many of the other places. Of 30 objects
# of each of nine kinds of images 3 to 27 % were not; where every second mask was shifted it was 30 to 48 %.
CLEARER, FEW, FEW_SHARE = 0.9, 3, 0.3
NAMED = 5


class DisplacedError(ModelError):
    """Raised where too many masks lie beside the edges of the image."""


def edge_rank(pixels: NDArray[np.uint8], mask: NDArray[np.bool_]) -> float:
    """Return at which share of other places the edge under the outline of a mask would be less clear.

    An edge is clear where the image changes across it everywhere in the same sense.

    Parameters
    ----------
    pixels
        Shape (rows, cols, 3).
    mask
        Shape (rows, cols), not empty.

    Returns
    -------
    float
        0 to 1; for a mask that was put down anywhere, 0.5 on average; NaN where there is no other place.
    """
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    extent = max(int(np.ptp(rows)), int(np.ptp(cols))) + 1
    reach = int(max(SHARES) * extent) + 4
    near = (slice(max(rows[0] - reach, 0), rows[-1] + reach + 1), slice(max(cols[0] - reach, 0), cols[-1] + reach + 1))
    inside, sigma = mask[near], max(1.0, BLUR * extent)
    slopes = _slopes(pixels[near].astype(np.float32), sigma)
    outline = np.argwhere(inside & ~binary_erosion(inside, border_value=1))
    normals = _slopes(inside.astype(np.float32)[..., None], sigma)[0][:, outline[:, 0], outline[:, 1]]
    normals /= np.hypot(*normals) + 1e-6
    slack = max(1, int(SLACK * extent))
    here = [_clearness(slopes, outline, normals, (r, c)) for r in (-slack, 0, slack) for c in (-slack, 0, slack)]
    there = np.array(
        [
            _clearness(slopes, outline, normals, (round(share * extent * np.sin(a)), round(share * extent * np.cos(a))))
            for share in SHARES
            for a in np.linspace(0, 2 * np.pi, DIRECTIONS, endpoint=False)
        ]
    )
    there = there[np.isfinite(there)]
    return float((np.nanmax(here) > there).mean()) if len(there) and np.isfinite(here).any() else float("nan")


def _slopes(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return the slopes of each channel downwards and to the right, shape (channels, 2, rows, cols)."""
    channels = np.moveaxis(image, -1, 0)
    return np.stack([[gaussian_filter(one, sigma, order=order) for order in ((1, 0), (0, 1))] for one in channels])


def _clearness(
    slopes: NDArray[np.float32], outline: NDArray[np.intp], normals: NDArray[np.float32], moved: tuple[int, int]
) -> float:
    """Return how much the image changes across an outline that is moved; NaN where too little of it is in the image."""
    at = outline + moved
    is_inside = ((at >= 0) & (at < slopes.shape[2:])).all(axis=1)
    if is_inside.mean() < LEAST_INSIDE:
        return float("nan")
    rows, cols = at[is_inside].T
    across = (slopes[:, :, rows, cols] * normals[:, is_inside]).sum(axis=1).mean(axis=1)
    return float(np.sqrt((across**2).sum()))


def displaced_labels(regions: Sequence[Region], seed: int) -> tuple[list[int], int]:
    """Return the labels of objects whose outlines lie beside edges, and how many objects were looked at."""
    places = [(number, at) for number, region in enumerate(regions) for at in range(len(region.numbers))]
    drawn = sorted(np.random.default_rng(seed).permutation(len(places))[:MOST].tolist())
    found, count = [], 0
    for number, at in (places[one] for one in drawn):
        region = regions[number]
        rank = edge_rank(region.pixels, region.objects == region.numbers[at])
        if np.isfinite(rank):
            count += 1
            if rank < CLEARER:
                found.append(int(region.labels[at]))
    return found, count


def check_in_place(regions: Sequence[Region], seed: int) -> None:
    """Refuse objects of which many are displaced, as after a registration that went wrong.

    The objects that are held back are displaced as often, so the figures on them would say little about it.

    Raises
    ------
    DisplacedError
        Too many are displaced; the message names some.
    """
    found, count = displaced_labels(regions, seed)
    if len(found) >= FEW and len(found) >= FEW_SHARE * count:
        names = ", ".join(map(str, found[:NAMED])) + (" ..." if len(found) > NAMED else "")
        raise DisplacedError(
            f"The outlines of {len(found)} of {count} objects lie beside the edges of the image (labels {names}): "
            "correct or delete those that are shifted, then teach again."
        )
