"""Which plane of a followed object is named for a correction."""

from __future__ import annotations

from napari_sam.propagation.review import ReviewedPlane, expected_gains, next_plane

ACCEPTED = ReviewedPlane(100, 1.0, True)


def followed(confidence, area=100):
    return ReviewedPlane(area, confidence, False)


def test_of_planes_of_one_size_between_accepted_ones_it_is_the_least_certain():
    planes = {0: ACCEPTED, 1: followed(0.9), 2: followed(0.4), 3: followed(0.9), 4: ACCEPTED}
    assert next_plane(planes, 0, 4) == 2


def test_a_plane_amid_doubtful_ones_comes_before_a_worse_one_that_is_alone():
    run = {at: followed(0.6) for at in range(1, 10)}
    planes = {0: ACCEPTED, **run, 10: ACCEPTED, 11: followed(0.5), 12: ACCEPTED}
    assert 3 <= next_plane(planes, 0, 12) <= 7


def test_a_tiny_end_counts_less_than_a_large_middle():
    planes = {0: ACCEPTED, 1: followed(0.9), 2: followed(0.7), 3: followed(0.8), 4: ACCEPTED, 5: followed(0.3, 4)}
    assert next_plane(planes, 0, 5) == 2


def test_an_object_that_ends_doubtfully_may_go_on_and_one_at_the_end_of_the_stack_does_not():
    planes = {10: ACCEPTED, 11: followed(0.7), 9: followed(0.7)}
    assert next_plane(planes, 9, 40) == 11
    assert next_plane(planes, 0, 11) == 9
    gone = {**planes, 12: ReviewedPlane(0, 1.0, True)}
    assert next_plane(gone, 0, 40) == 9


def test_planes_without_a_confidence_are_doubtful_and_known_ones_are_never_named():
    planes = {0: ACCEPTED, 1: followed(float("nan")), 2: followed(0.5), 3: ACCEPTED}
    assert next_plane(planes, 0, 3) == 1
    assert next_plane({0: ACCEPTED}, 0, 3) is None
    assert next_plane({}, 0, 3) is None
    assert next_plane({1: followed(0.5)}, 0, 3) == 1
    assert all(gain >= 0 for gain in expected_gains(planes, 0, 3).values())
    # What lies beyond the planes that are followed through does not count.
    assert next_plane({**planes, 9: followed(0.1)}, 0, 3) == 1
