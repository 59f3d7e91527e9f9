"""Compare the objects of two label images: mSA, F1, average precision and panoptic quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

# Whole numbers divided once: an IoU of 3/5 is then equal to the threshold 0.6 and not just below it.
THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
LEAST_IOU = THRESHOLDS[0]
# Share of a prediction in ignored pixels above which it is no error (Kirillov et al. 2019, Panoptic Segmentation).
MOST_IGNORED = 0.5
RECALLS = np.arange(101) / 100


@dataclass(frozen=True, slots=True, eq=False)
class InstanceMatch:
    """Which predicted objects of one plane match a true one, and how well.

    Parameters
    ----------
    objects
        Number of true objects.
    ious
        Shape (n,): IoU of each prediction with the true object that it matches, 0 for those below 0.5.
    excused
        Shape (n,), bool: predictions that count as no error where they match nothing.
    scores
        Shape (n,): the model's confidence in each prediction.
    """

    objects: int
    ious: NDArray[np.float64]
    excused: NDArray[np.bool_]
    scores: NDArray[np.float64]

    def counts(self, threshold: float = LEAST_IOU) -> tuple[int, int, int]:
        """Return the numbers of true positives, false positives and false negatives at an IoU of 0.5 or more."""
        is_match = self.ious >= threshold
        found = int(np.count_nonzero(is_match))
        return found, int(np.count_nonzero(~is_match & ~self.excused)), self.objects - found

    @property
    def accuracy(self) -> float | None:
        """Mean over the thresholds of TP / (TP + FP + FN); None where nothing is labeled and nothing counts."""
        counts = np.array([self.counts(threshold) for threshold in THRESHOLDS])
        # A labeled object counts at every threshold, and without any no prediction can match: all sums are 0, or none.
        return float(np.mean(counts[:, 0] / counts.sum(1))) if counts.any() else None


def match_instances(
    predicted: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]] | None = None,
    *,
    ignored: NDArray[np.bool_] | None = None,
    is_partial: bool = False,
) -> InstanceMatch:
    """Match predicted objects to true ones, one to one, where their IoU is at least 0.5.

    The objects of a label image share no pixel, so an object has one partner of that IoU at most. The only exception
    is an object that two others halve exactly; it gets the one with the lower label.

    Parameters
    ----------
    predicted
        Shape (rows, cols): labels from 1, 0 for background. Labels without a pixel are no predictions.
    truth
        Shape (rows, cols): labels of the objects, 0 for background.
    scores
        Shape (n,): confidence in the labels 1 to n of `predicted`; by default all are equal.
    ignored
        Shape (rows, cols), bool: pixels that are removed from all predictions. A prediction that matches nothing and
        has more than half of its pixels there is no error.
    is_partial
        Whether objects may be without a label: a prediction that meets no labeled object is no error then.
    """
    (at_truth, at_predicted, at_ignored), lengths = _runs(
        truth, predicted, np.zeros(truth.shape, bool) if ignored is None else ignored
    )
    count = int(at_predicted.max(initial=0)) + 1
    areas = _sums(at_predicted, lengths, count)
    removed = _sums(at_predicted[at_ignored], lengths[at_ignored], count)
    is_counted = (at_truth != 0) & ~at_ignored
    values, indices = np.unique(at_truth[is_counted], return_inverse=True)
    true_areas = _sums(indices, lengths[is_counted], len(values))
    table = coo_array(
        (lengths[is_counted], (indices, at_predicted[is_counted])), shape=(len(values), count), dtype=np.int64
    )
    table = table.tocsr().tocoo()  # Adds the runs of each pair.
    rows, cols = table.coords
    union = true_areas[rows] + (areas - removed)[cols] - table.data
    ious = _best_pairs(rows, cols, np.where(cols == 0, 0, table.data / union), count)
    excused = removed > MOST_IGNORED * areas
    if is_partial:
        excused |= ~np.isin(np.arange(count), cols)
    exists = areas > 0
    exists[0] = False
    confidence = np.ones(count) if scores is None else np.r_[0, scores][:count].astype(float)
    return InstanceMatch(len(values), ious[exists], excused[exists], confidence[exists])


def best_match(labels: NDArray[np.integer[Any]], areas: Mapping[int, int]) -> tuple[float, int]:
    """Return the IoU of a mask with the labeled object that it matches best, and the label of that.

    Parameters
    ----------
    labels
        Shape (n,): the labels under the pixels of the mask, 0 for background.
    areas
        The number of pixels of each labeled object.

    Returns
    -------
    iou : float
        0 without any labeled pixel.
    label : int
        0 without any.
    """
    values, shared = np.unique(labels[labels != 0], return_counts=True)
    if not len(values):
        return 0.0, 0
    ious = shared / (len(labels) + np.array([areas[value] for value in values.tolist()]) - shared)
    return float(ious.max()), int(values[ious.argmax()])


def mean_accuracy(matches: Sequence[InstanceMatch]) -> float | None:
    """Return the mSA: the mean over planes of their `accuracy`; None without any."""
    measured = [accuracy for match in matches if (accuracy := match.accuracy) is not None]
    return float(np.mean(measured)) if measured else None


def f1_score(matches: Sequence[InstanceMatch]) -> float | None:
    """Return F1 at an IoU of 0.5, over the objects of all planes together; None where nothing counts."""
    found, wrong, missed = _totals(matches)
    return 2 * found / (2 * found + wrong + missed) if found + wrong + missed else None


def panoptic_quality(matches: Sequence[InstanceMatch]) -> float | None:
    """Return the panoptic quality, over the objects of all planes together; None where nothing counts.

    It is F1 at an IoU of 0.5, times the mean IoU of the matches (Kirillov et al. 2019).
    """
    found, wrong, missed = _totals(matches)
    total = sum(float(match.ious.sum()) for match in matches)
    return 2 * total / (2 * found + wrong + missed) if found + wrong + missed else None


def average_precision(matches: Sequence[InstanceMatch]) -> float | None:
    """Return the average precision at an IoU of 0.5, as COCO defines it; None without any object.

    The predictions of all planes are ranked together. The precision at a recall is the best one at that recall or
    above, and its mean is taken over the recalls 0, 0.01 ... 1.
    """
    objects = sum(match.objects for match in matches)
    if not objects:
        return None
    is_match = np.concatenate([match.ious >= LEAST_IOU for match in matches])
    counts = is_match | ~np.concatenate([match.excused for match in matches])
    scores = np.concatenate([match.scores for match in matches])
    ranked = is_match[counts][np.argsort(-scores[counts], kind="stable")]
    found = np.cumsum(ranked)
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / objects, RECALLS)
    return float(np.append(best, 0)[at].mean())


def _totals(matches: Sequence[InstanceMatch]) -> tuple[int, int, int]:
    found, wrong, missed = np.sum([(0, 0, 0), *(match.counts() for match in matches)], axis=0).tolist()
    return found, wrong, missed


def _runs(*images: NDArray[Any]) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    """Return the values of each image in runs of pixels in which none of them changes, and the lengths of the runs.

    There are about as many runs as there are pixels on the outlines, far fewer than pixels in all.
    """
    flat = [image.ravel() for image in images]
    is_start = np.ones(flat[0].shape, bool)
    is_start[1:] = np.logical_or.reduce([values[1:] != values[:-1] for values in flat])
    starts = np.flatnonzero(is_start)
    return [values[starts] for values in flat], np.diff(starts, append=len(is_start))


def _sums(indices: NDArray[np.integer[Any]], lengths: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the number of pixels of each index from 0 to `count` - 1."""
    return np.bincount(indices, lengths, count).astype(np.int64)


def _best_pairs(
    rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]], ious: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return the IoU of each of `count` predictions (columns) with the true object (row) that it matches, or 0."""
    order = np.lexsort((cols, -ious))
    order = order[ious[order] >= LEAST_IOU]
    # Each true object keeps its best prediction. Two of them can only share one that they halve: it counts once.
    best = order[np.unique(rows[order], return_index=True)[1]]
    matched = np.zeros(count)
    matched[cols[best]] = ious[best]
    return matched
