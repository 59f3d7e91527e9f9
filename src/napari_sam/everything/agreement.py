"""What speaks for a proposal besides its own score: shape, contrast, and the proposals that it shares pixels with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_sam.everything.proposals import Proposals
from napari_sam.everything.suppression import Overlaps
from napari_sam.similarity.descriptors import DescriptorLayout

# Of two proposals with a higher IoU than this, both outline the same.
SAME = 0.5
# A proposal lies inside a larger one if more than this share of it does.
INSIDE = 0.6
# Of a larger share, one of two objects is left out; see `FilterOptions.max_overlap`.
RIVAL = 0.35


def quality_of(proposals: Proposals, layout: DescriptorLayout, overlaps: Overlaps) -> NDArray[np.float32]:
    """Return what speaks for or against the outline of each proposal, whatever its kind.

    Returns
    -------
    numpy.ndarray
        Shape (n, 15), float32: score, its logit, stability, elongation, ellipse, roughness, extent, size in tile
        pixels, contrast to the surroundings, and six figures of how it agrees with the others.
    """
    slices, descriptors = layout.slices, proposals.descriptors.astype(np.float32)
    shapes = descriptors[:, slices["shape"]]
    contrast = np.abs(descriptors[:, slices["inside color"]] - descriptors[:, slices["around color"]]).mean(1)
    share = np.clip(proposals.scores, 0.01, 0.99)
    own = [proposals.scores, np.log(share / (1 - share)), proposals.stability, *shapes[:, 1:].T]
    own += [shapes[:, 0] - proposals.levels, contrast]
    return np.concatenate([np.stack(own, axis=1), agreement(proposals, overlaps)], axis=1).astype(np.float32)


def agreement(proposals: Proposals, overlaps: Overlaps) -> NDArray[np.float64]:
    """Return how each proposal agrees with those that share pixels with it, shape (n, 6).

    The columns are: the highest IoU with another one; the logarithm of the summed scores of those that outline the
    same; the largest share that a better one covers; how much better the best rival is; the share that smaller ones
    inside it fill; and how surely it lies inside a larger one.
    """
    count, areas, scores = len(proposals), proposals.areas, proposals.scores.astype(np.float64)
    shared = np.concatenate([overlaps.shared, overlaps.shared])
    one = np.concatenate([overlaps.first, overlaps.second])
    other = np.concatenate([overlaps.second, overlaps.first])
    iou = shared / (areas[one] + areas[other] - shared)
    covered = shared / areas[one]
    is_other = iou < SAME

    def largest(values: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.zeros(count)
        np.maximum.at(found, one, values)
        return found

    is_inner = is_other & (areas[other] < areas[one]) & (shared > INSIDE * areas[other])
    filled = np.bincount(one, np.where(is_inner, shared, 0) * scores[other], count) / areas
    columns = [
        largest(iou),
        np.log1p(np.bincount(one, iou * ~is_other * scores[other], count)),
        largest(np.where(is_other & (scores[other] > scores[one]), covered, 0)),
        largest(np.where(is_other & (covered > RIVAL), scores[other], 0)) - scores,
        np.minimum(filled, 2),
        largest(np.where(is_other & (areas[other] > areas[one]), covered * scores[other], 0)),
    ]
    return np.stack(columns, axis=1)
