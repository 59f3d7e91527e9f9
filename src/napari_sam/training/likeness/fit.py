"""Fit the metric of kinds and the linear models of likeness to samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.likeness import FITTED, GENERAL, Traits, comparison, probability
from napari_sam.similarity.metric import KindMetric, axes_name
from napari_sam.training.likeness.samples import PlaneSample

AXES = 12
# Objects of a sample that take part in the fit of the metric.
LEAST_OBJECTS, MOST_OBJECTS = 3, 80
# A proposal with a lower IoU is no example.
LEAST_IOU = 0.6
# Added to the spread within a kind, as a share of its mean over all directions.
REGULARIZATION = 0.1
# Weights: of the differences between planes of one subset within a kind, and between kinds.
PLANES_WITHIN, PLANES_BETWEEN = 0.5, 0.3
# Comparisons drawn from each sample: in its plane, in a plane with objects of another kind, and from another plane.
ALONE, MIXED, CARRIED = 6, 3, 3
MIXED_WEIGHT = 0.6
RIDGE = 3e-4
# Columns of a comparison, counted from its end, that say how different objects are, whatever the direction.
DIFFERENCES = np.array([-11, -10, -5, -4, -3, -2, -1])
# Subsets of one kind, which never count as different.
ALIKE = ("nuclei",)


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """Comparisons of the proposals of one plane with one example."""

    values: NDArray[np.float32]
    is_like: NDArray[np.bool_]
    weight: float


def fit_likeness(
    samples: Sequence[PlaneSample], layout: DescriptorLayout, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Return the values of the file of weights.

    Parameters
    ----------
    samples
        Planes of several subsets.
    layout
        The layout of their descriptors.
    seed
        Fixes what is drawn.
    """
    metric = fit_metric(samples, layout, np.random.default_rng(seed))
    good = np.concatenate([sample.quality[sample.ious >= LEAST_IOU] for sample in samples])
    fitted = {axes_name(layout): np.concatenate([metric.offset[None], metric.axes.T])}
    fitted["usual quality"] = good.mean(0).astype(np.float32)
    for name, used in ((FITTED, metric), (GENERAL, None)):
        drawn = list(_comparisons(samples, layout, used, np.random.default_rng(seed)))
        for part, values in _logistic(drawn).items():
            fitted[f"{name} {part}"] = values
    return fitted


def fit_metric(samples: Sequence[PlaneSample], layout: DescriptorLayout, rng: np.random.Generator) -> KindMetric:
    """Return the directions in which kinds differ most, relative to how objects of one kind differ.

    This is a linear discriminant analysis with the planes of a subset, or of several of one kind, as a class.
    """
    used = np.ones(layout.width, bool)
    # The size is compared on its own.
    used[layout.slices["shape"].start] = False
    spread = np.concatenate([sample.descriptors for sample in samples]).astype(np.float64).std(0) + 1e-3
    planes, kinds = [], []
    for sample in samples:
        chosen = np.flatnonzero(sample.ious >= LEAST_IOU)
        if len(chosen) >= LEAST_OBJECTS:
            chosen = rng.choice(chosen, min(MOST_OBJECTS, len(chosen)), replace=False)
            planes.append((sample.descriptors[chosen].astype(np.float64) / spread)[:, used])
            kinds.append(_kind(sample.subset))
    names, means = np.array(kinds), np.stack([plane.mean(0) for plane in planes])
    shares = np.array([min(1.0, len(plane) / 20) for plane in planes])
    within = sum(share * np.cov(plane.T) for share, plane in zip(shares, planes, strict=True)) / shares.sum()
    repeated = [name for name in np.unique(names) if (names == name).sum() >= 3]
    within = within + PLANES_WITHIN * np.mean([np.cov(means[names == name].T) for name in repeated], axis=0)
    centers = np.stack([means[names == name].mean(0) for name in np.unique(names)])
    between = np.cov(centers.T) + PLANES_BETWEEN * np.cov(means.T)
    count = within.shape[0]
    within = within + np.eye(count) * REGULARIZATION * np.trace(within) / count
    _, vectors = scipy.linalg.eigh(between, within, subset_by_index=[count - AXES, count - 1])
    axes = np.zeros((layout.width, AXES))
    axes[used] = vectors[:, ::-1] / spread[used, None]
    offset = np.zeros(layout.width)
    offset[used] = centers.mean(0) * spread[used]
    return KindMetric(offset.astype(np.float32), axes.astype(np.float32), True)


def _comparisons(
    samples: Sequence[PlaneSample],
    layout: DescriptorLayout,
    metric: KindMetric | None,
    rng: np.random.Generator,
) -> Iterator[_Comparison]:
    """Draw examples, and compare proposals with them: in the plane, mixed with another kind, and carried over."""
    counts = Counter(sample.subset for sample in samples)
    for sample in samples:
        good = np.flatnonzero(sample.ious >= LEAST_IOU)
        if not len(good):
            continue
        # Each subset counts by the square root of its planes.
        share = counts[sample.subset] ** -0.5
        for at in rng.choice(good, min(ALONE, len(good)), replace=False):
            yield from _compared(sample, sample, at, layout, metric, share / ALONE)
        others = [other for other in samples if _kind(other.subset) != _kind(sample.subset)]
        for other in rng.choice(np.array(others, object), MIXED if others else 0):
            mixed = _mixed(sample, other, int(rng.uniform(0.3, 2) * len(sample.ious)) + 5, rng)
            yield from _compared(mixed, sample, rng.choice(good), layout, metric, share * MIXED_WEIGHT / MIXED)
        same = [other for other in samples if other.subset == sample.subset and other is not sample]
        same = [other for other in same if (other.ious >= LEAST_IOU).any()]
        for other in rng.choice(np.array(same, object), CARRIED if same else 0):
            at = rng.choice(np.flatnonzero(other.ious >= LEAST_IOU))
            yield from _compared(sample, other, at, layout, metric, share * MIXED_WEIGHT / CARRIED, is_own=False)


def _compared(
    sample: PlaneSample,
    origin: PlaneSample,
    at: int,
    layout: DescriptorLayout,
    metric: KindMetric | None,
    weight: float,
    *,
    is_own: bool = True,
) -> Iterator[_Comparison]:
    """Compare the proposals of a plane with an example of the same, unless not `is_own`, or of another one."""
    example = origin.descriptors[[at]]
    looks = KindMetric.of_objects(layout, np.concatenate([sample.descriptors, example]))
    kinds, shape = metric or looks, layout.slices["shape"]
    objects, examples = (
        Traits(kinds(values), looks(values), values[:, shape].astype(np.float32), quality)
        for values, quality in ((sample.descriptors, sample.quality), (example, origin.quality[[at]]))
    )
    counts = sample.counts.copy()
    if is_own:
        counts &= sample.objects != origin.objects[at]
    if counts.sum() >= 2:
        values = np.concatenate([objects.quality, comparison(objects, examples)[0]], axis=1)
        yield _Comparison(values[counts], sample.ious[counts] >= 0.5, weight * min(1.0, counts.sum() / 20))


def _mixed(sample: PlaneSample, other: PlaneSample, count: int, rng: np.random.Generator) -> PlaneSample:
    """Return a plane with proposals of another kind among its own."""
    added = rng.choice(len(other.ious), min(count, len(other.ious)), replace=False)
    return PlaneSample(
        sample.subset,
        np.concatenate([sample.descriptors, other.descriptors[added]]),
        np.concatenate([sample.quality, other.quality[added]]),
        np.concatenate([sample.ious, np.zeros(len(added))]),
        np.concatenate([sample.objects, np.full(len(added), -1)]),
        np.concatenate([sample.counts, np.ones(len(added), bool)]),
    )


def _logistic(drawn: Sequence[_Comparison]) -> dict[str, NDArray[np.float32]]:
    """Return the linear model of comparisons, by logistic regression; what is farther is never likelier."""
    values = np.concatenate([each.values for each in drawn]).astype(np.float64)
    target = np.concatenate([each.is_like for each in drawn]).astype(np.float64)
    weight = np.concatenate([np.full(len(each.is_like), each.weight / len(each.is_like)) for each in drawn])
    mean, spread = values.mean(0), values.std(0) + 1e-6
    scaled = np.column_stack([np.clip((values - mean) / spread, -6, 6), np.ones(len(values))])
    used = np.ones(scaled.shape[1], bool)
    factor = _newton(scaled, target, weight / weight.sum())
    columns = len(used) - 1 + DIFFERENCES
    while (rising := columns[factor[columns] > 0]).size:
        # They depend on each other, so that one could rise only where another falls.
        used[rising] = False
        factor = np.zeros(len(used))
        factor[used] = _newton(scaled[:, used], target, weight / weight.sum())
    parts = {"mean": mean, "spread": spread, "factor": factor[:-1], "bias": factor[-1:]}
    return {name: part.astype(np.float32) for name, part in parts.items()}


def _newton(
    scaled: NDArray[np.float64], target: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the factors of a logistic regression, whose last column is constant."""
    factor = np.zeros(scaled.shape[1])
    penalty = np.full(len(factor), RIDGE)
    penalty[-1] = 0
    for _ in range(50):
        likely = probability(scaled @ factor)
        gradient = scaled.T @ (weight * (likely - target)) + penalty * factor
        hessian = (scaled * (weight * likely * (1 - likely))[:, None]).T @ scaled + np.diag(penalty + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        factor -= step
        if np.abs(step).max() < 1e-8:
            break
    return factor


def _kind(subset: str) -> str:
    return next((name for name in ALIKE if name in subset), subset)
