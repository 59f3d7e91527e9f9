"""Otsu's threshold and watershed: objects of either brightness, apart or touching."""

from __future__ import annotations

import numpy as np
import pytest
from tests.evaluation.labelled import disk

from napari_sam.evaluation.instances import match_instances
from napari_sam.evaluation.watershed import MIN_DISTANCES, PARAMETERS, SIGMAS, WatershedParameters, watersheds

# Two that touch, and one apart.
TRUTH = np.zeros((100, 100), int)
TRUTH[disk(30, 28, 14)] = 1
TRUTH[disk(30, 55, 14) & (TRUTH == 0)] = 2
TRUTH[disk(75, 60, 12)] = 3


def by_parameters(image: np.ndarray) -> dict[WatershedParameters, np.ndarray]:
    return dict(zip(PARAMETERS, watersheds(image), strict=True))


@pytest.mark.parametrize("is_bright", [True, False])
def test_touching_discs_on_noise_are_separated(is_bright: bool) -> None:
    noise = np.random.default_rng(0).normal(0, 20, TRUTH.shape)
    image = 100 + (80 if is_bright else -80) * (TRUTH > 0) + noise
    found = by_parameters(image)
    match = match_instances(found[WatershedParameters(is_bright, 2.0, 8)], TRUTH)
    assert match.counts(0.8) == (3, 0, 0)
    opposite = match_instances(found[WatershedParameters(not is_bright, 2.0, 8)], TRUTH)
    assert opposite.counts()[0] == 0


def test_a_larger_distance_gives_fewer_objects_and_every_part_has_one() -> None:
    found = by_parameters((TRUTH > 0) * 100.0)
    counts = [found[WatershedParameters(True, 1.0, distance)].max() for distance in MIN_DISTANCES]
    assert counts == sorted(counts, reverse=True)
    image = np.zeros((60, 60))
    image[20:30, 20:30] = image[20:30, 35:41] = 100
    labels = by_parameters(image)[WatershedParameters(True, SIGMAS[0], MIN_DISTANCES[-1])]
    assert labels[25, 25] != labels[25, 38] != 0, "less than 16 pixels apart, but two parts"


@pytest.mark.parametrize("image", [np.zeros((30, 30)), np.full((5, 7), 200.0), np.ones((1, 1))])
def test_a_uniform_image_has_no_object(image: np.ndarray) -> None:
    assert not any(labels.any() for labels in watersheds(image))
