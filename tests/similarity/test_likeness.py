"""What is like an example before anything was answered: the metric of kinds, and the comparison with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.similarity.scenes import LAYOUT, descriptors_of

from napari_sam.core.predictor import Predictor
from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.likeness import (
    FITTED,
    GENERAL,
    SIZE,
    Traits,
    comparison,
    linear_logits,
    probability,
    quality_scale,
    usual_quality,
)
from napari_sam.similarity.metric import KindMetric


def traits(kinds: list[float], sizes: list[float] | None = None) -> Traits:
    shapes = np.zeros((len(kinds), 5), np.float32)
    shapes[:, SIZE] = 4.0 if sizes is None else sizes
    points = np.repeat(np.array(kinds, np.float32)[:, None], 12, axis=1)
    return Traits(points, np.zeros_like(points), shapes, np.repeat(usual_quality()[None], len(kinds), axis=0))


def test_each_object_is_compared_with_the_example_that_is_most_like_it() -> None:
    compared, _ = comparison(traits([0, 1.2, 5], [4, 4, 6]), traits([0, 1, 5], [4, 4, 4]))
    np.testing.assert_allclose(compared[:, 0], [0, 0, 2], atol=1e-5)
    np.testing.assert_allclose(compared[:, 7], [0, 0.2, 0], atol=1e-3)


def test_the_median_distance_is_that_of_the_objects_unless_one_is_given() -> None:
    objects, example = traits([0, 1, 3]), traits([0])
    _, usual = comparison(objects, example)
    assert usual == pytest.approx((1, 0))
    alone, same = comparison(objects.taken(np.array([2])), example, usual)
    np.testing.assert_allclose(alone, comparison(objects, example)[0][2:], atol=1e-5)
    assert same == usual


@pytest.mark.parametrize("model", [FITTED, GENERAL])
def test_what_differs_more_from_the_example_in_kind_or_size_is_less_likely(model: str) -> None:
    objects = traits([0, 0.7, 3, 0, 0], [4, 4, 4, 4.8, 6])
    likely = probability(linear_logits(model, objects, comparison(objects, traits([0]))[0]))
    assert likely[0] > likely[1] > likely[2]
    assert likely[0] > likely[3] > likely[4]


@pytest.mark.parametrize("model", [FITTED, GENERAL])
def test_the_farther_the_less_likely_at_any_distance(model: str) -> None:
    objects = traits([0, *np.geomspace(0.01, 100, 60)])
    if model == GENERAL:  # Without a fitted metric the plane's own is both.
        objects = replace(objects, looks=objects.kinds)
    likely = linear_logits(model, objects, comparison(objects, traits([0]))[0])
    assert (np.diff(likely) <= 0.03).all(), "nearly the same distances may be as likely"
    assert likely[0] - likely[-1] > 2


@pytest.mark.parametrize("model", [FITTED, GENERAL])
def test_what_is_badly_outlined_is_less_likely(model: str) -> None:
    objects = traits([0, 0])
    worse = objects.quality.copy()
    worse[1, 0] = 0.05
    worse[1, 1] = np.log(0.05 / 0.95)
    worse[1, 2] = 0.2
    objects = replace(objects, quality=worse)
    good, bad = linear_logits(model, objects, comparison(objects, traits([0]))[0])
    assert good > bad


def test_the_embedded_model_has_fitted_axes_and_any_other_model_those_of_its_plane(compact: Predictor) -> None:
    layout = DescriptorLayout.of(compact)  # type: ignore[arg-type]
    metric = KindMetric.fitted(layout)
    assert metric is not None
    assert metric.is_fitted
    assert metric(np.zeros((3, layout.width), np.float16)).shape[0] == 3
    assert KindMetric.fitted(LAYOUT) is None
    descriptors = descriptors_of([0.2, 0.21, 0.8, 0.81])
    points = KindMetric.of_objects(LAYOUT, descriptors)(descriptors)
    near, far = (np.linalg.norm(points[0] - points[i]) for i in (1, 2))
    assert near < 0.1 * far


def test_looks_tell_apart_what_is_of_one_kind() -> None:
    objects, example = traits([0, 0]), traits([0])
    looks = objects.looks.copy()
    looks[1] = 2
    compared, _ = comparison(replace(objects, looks=looks), example)
    np.testing.assert_allclose(compared[:, 7], 0, atol=1e-3)
    np.testing.assert_allclose(compared[:, 10], [0, 2], atol=1e-3)


def test_the_size_is_no_kind() -> None:
    descriptors = np.concatenate([descriptors_of([0.2, 0.8], size) for size in (3, 7)])
    points = KindMetric.of_objects(LAYOUT, descriptors)(descriptors)
    np.testing.assert_allclose(points[0], points[2], atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_or_equal_objects_have_finite_places(count: int) -> None:
    descriptors = descriptors_of([0.5] * count)
    points = KindMetric.of_objects(LAYOUT, descriptors)(descriptors)
    assert len(points) == count
    assert np.isfinite(points).all()
    assert np.abs(points).sum() < 1e-3


def test_fitted_figures_fit_together() -> None:
    mean, spread = quality_scale()
    assert mean.shape == spread.shape == usual_quality().shape == (15,)
    assert (spread > 0).all()
    assert probability(np.array([-1e9, 0, 1e9])) == pytest.approx([0, 0.5, 1], abs=1e-9)
