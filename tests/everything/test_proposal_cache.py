"""ProposalCache: what was searched before is not encoded again, and what was not, or is something else, is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from tests.everything.scenes import SIZES, discs, picture, segmenter_of
from tests.similarity.scenes import SeeingFinder

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposal_cache import ProposalCache
from napari_sam.testing import BlobFinder

SHAPE = (480, 560)
CENTERS = [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260), (400, 300), (300, 500)]
LABELS = discs(SHAPE, CENTERS)
PIXELS = picture(LABELS)


@pytest.fixture
def cache(tmp_path: Path) -> ProposalCache:
    return ProposalCache(tmp_path / "proposals", 10**8)


def opened(cache: ProposalCache | None, pixels: np.ndarray = PIXELS, model: BlobFinder | None = None) -> Segmenter:
    """Return a new segmenter, as of another session."""
    segmenter = segmenter_of(pixels, model or SeeingFinder())
    segmenter.proposal_cache = cache
    return segmenter


def encoded(segmenter: Segmenter) -> int:
    return len(segmenter.encoder.predictor.encoded)


def assert_same(found: FoundObjects, other: FoundObjects) -> None:
    assert len(found) == len(other)
    for name, values in found.proposals.arrays.items():
        np.testing.assert_array_equal(values, other.proposals.arrays[name], err_msg=name)


def test_a_place_that_was_searched_encodes_nothing_in_another_session(cache: ProposalCache) -> None:
    first = opened(cache).everything(sizes=SIZES)
    again = opened(cache)
    found = again.everything(sizes=SIZES)
    assert encoded(again) == 0
    assert_same(found, first)
    assert_same(found, opened(None).everything(sizes=SIZES))


def test_finding_by_example_encodes_nothing_where_everything_was_found(cache: ProposalCache) -> None:
    query = opened(None).examples(LABELS == 1)
    opened(cache).everything(sizes=query.sizes)
    again = opened(cache)
    similar = again.find_similar(again.examples(LABELS == 1))
    assert encoded(again) == 0
    assert_same_objects(similar, opened(None).find_similar(query))


def test_a_part_that_was_searched_is_not_encoded_again_with_the_whole(cache: ProposalCache) -> None:
    part = opened(cache)
    part.everything(sizes=SIZES, box=(0, 0, 200, 200))
    whole = opened(cache)
    found = whole.everything(sizes=SIZES)
    fresh = opened(None)
    assert_same(found, fresh.everything(sizes=SIZES))
    assert encoded(whole) == encoded(fresh) - encoded(part) > 0


def test_other_pixels_another_model_and_another_place_are_not_taken_for_the_same(cache: ProposalCache) -> None:
    opened(cache).everything(sizes=SIZES)
    changed = PIXELS.copy()
    changed[40:80, 40:80] = 20  # The first disc is gone.
    found = opened(cache, changed).everything(sizes=SIZES)
    assert_same(found, opened(None, changed).everything(sizes=SIZES))
    other = opened(cache, model=BlobFinder())
    other.everything(sizes=SIZES)
    assert encoded(other) > 0
    # The same picture again farther down, where its first tile has equal pixels.
    twice = np.concatenate([PIXELS, PIXELS])
    assert_same(opened(cache, twice).everything(sizes=SIZES), opened(None, twice).everything(sizes=SIZES))


def test_a_damaged_file_is_searched_again(cache: ProposalCache) -> None:
    opened(cache).everything(sizes=SIZES)
    for file in cache.folder.iterdir():
        file.write_bytes(file.read_bytes()[:-40])
    again = opened(cache)
    assert_same(again.everything(sizes=SIZES), opened(None).everything(sizes=SIZES))
    assert encoded(again) > 0


def test_a_folder_that_cannot_be_written_stops_no_search(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    found = opened(ProposalCache(tmp_path / "file" / "proposals", 10**8)).everything(sizes=SIZES)
    assert_same(found, opened(None).everything(sizes=SIZES))


def test_those_that_were_not_used_for_longest_make_room(tmp_path: Path) -> None:
    opened(ProposalCache(tmp_path, 10**8)).everything(sizes=SIZES)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 4
    for age, file in enumerate(files):
        os.utime(file, (10**9 - age, 10**9 - age))
    left = tmp_path / f".{files[0].name}.123"  # By a process that was killed.
    left.touch()
    os.utime(left, (10**9, 10**9))
    kept = sum(file.stat().st_size for file in files[:2])
    small = ProposalCache(tmp_path, kept)
    opened(small, PIXELS[::-1]).everything(sizes=SIZES, box=(0, 0, 8, 8))
    assert small.nbytes <= kept
    assert not files[-1].exists()
    assert not left.exists()
    small.clear()
    assert small.count == 0


def test_what_is_in_view_is_searched_first() -> None:
    segmenter = opened(None)
    view = Box(300, 400, 460, 540)
    sweep = segmenter.sweep(plane=segmenter.plane(), sizes=SIZES, first=view)
    in_view = [not tile.owned.intersection(view).is_empty for tile in sweep.tiles]
    assert 0 < sum(in_view) < len(in_view)
    assert all(in_view[: sum(in_view)])
    assert not sweep.tiles[-1].owned.contains(Box(479, 559, 480, 560)), "the farthest one comes last"
    *_, last = segmenter.everything_steps(sizes=SIZES, first=view)
    assert_same_objects(last.found, opened(None).everything(sizes=SIZES))


def assert_same_objects(found: FoundObjects, other: FoundObjects) -> None:
    np.testing.assert_array_equal(found.labels(SHAPE) > 0, other.labels(SHAPE) > 0)
    assert len(found.select()) == len(other.select()) == len(CENTERS)
