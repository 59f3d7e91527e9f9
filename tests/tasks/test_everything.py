"""Runs over all tiles of a plane: stopped, resumed, shared, and the same in the end."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.everything.scenes import SIZES, assert_each_is_found_once, discs, picture, segmenter_of

from napari_sam import Segmenter
from napari_sam.errors import ImageError, NapariSamError
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import GridOptions
from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.tasks.everything import found_in, opened_sweep, sweep_into
from napari_sam.testing import BlobFinder

SHAPE = (480, 560)
LABELS = discs(SHAPE, [(60, 60), (168, 168), (168, 300), (312, 168), (400, 500), (240, 420)])


class Run:
    """A run over one image with a folder of its own or of another one."""

    def __init__(self, folder: Path, segmenter: Segmenter | None = None, **options: Any) -> None:
        self.segmenter = segmenter or segmenter_of(picture(LABELS))
        self.plane = self.segmenter.plane()
        self.store, self.sweep = opened_sweep(folder, self.segmenter, self.plane, **{"sizes": SIZES, **options})

    @property
    def found(self) -> FoundObjects:
        return found_in(self.store, self.sweep, self.plane)


def assert_equal(one: FoundObjects, other: FoundObjects) -> None:
    for name, array in one.proposals.arrays.items():
        np.testing.assert_array_equal(array, other.proposals.arrays[name])


@pytest.fixture
def whole(tmp_path: Path) -> FoundObjects:
    """What a run finds that nobody stops."""
    run = Run(tmp_path / "whole")
    *_, last = sweep_into(run.store, run.sweep)
    assert (last.done, last.encoded) == (last.total, last.total)
    assert_each_is_found_once(run.found, LABELS)
    return run.found


def test_a_run_finds_what_the_segmenter_finds(whole: FoundObjects) -> None:
    assert_equal(whole, segmenter_of(picture(LABELS)).everything(sizes=SIZES))


@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_run_that_was_stopped_encodes_only_what_is_left(tmp_path: Path, whole: FoundObjects, after: int) -> None:
    run = Run(tmp_path / "run")
    steps = sweep_into(run.store, run.sweep)
    list(itertools.islice(steps, after + 1))
    steps.close()
    again = Run(tmp_path / "run")
    first, *_, last = sweep_into(again.store, again.sweep)
    assert (first.done, first.encoded) == (after, 0)
    assert (last.done, last.encoded) == (last.total, last.total - after)
    assert_equal(again.found, whole)
    third = Run(tmp_path / "run")
    assert [(step.done, step.encoded) for step in sweep_into(third.store, third.sweep)] == [(last.total, 0)]


def test_two_runs_that_take_turns_share_the_tiles_and_find_the_same(tmp_path: Path, whole: FoundObjects) -> None:
    runs = [Run(tmp_path / "run") for _ in range(2)]
    steps = [sweep_into(run.store, run.sweep) for run in runs]
    last = [next(each) for each in steps]
    for turn in itertools.cycle((0, 1)):
        # A turn is one tile: those that the other one has done take no time.
        before = last[turn].encoded
        for step in steps[turn]:
            last[turn] = step
            if step.encoded > before:
                break
        if all(step.done == step.total for step in last):
            break
    assert {step.done for step in last} == {last[0].total}
    assert sum(step.encoded for step in last) == last[0].total, "no tile twice"
    assert min(step.encoded for step in last) > 1, "both worked"
    for run in runs:
        assert_equal(run.found, whole)


def test_a_tile_that_another_process_works_on_comes_last(
    tmp_path: Path, whole: FoundObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    tile = run.sweep.tiles[0]
    other = run.store.claimed(tile)
    assert other.__enter__()
    waited = []

    def released(_: ProposalStore) -> None:
        waited.append(True)
        if len(waited) == 3:  # The other one was killed: its tile is not done.
            other.__exit__(None, None, None)

    monkeypatch.setattr(ProposalStore, "wait_for_others", released)
    *_, before, last = sweep_into(run.store, run.sweep)
    assert len(waited) == 3
    assert before.done == last.total - 1
    assert last.encoded == last.total
    assert_equal(run.found, whole)


def test_without_waiting_a_run_ends_when_only_tiles_of_others_are_left(tmp_path: Path, whole: FoundObjects) -> None:
    run = Run(tmp_path / "run")
    with run.store.claimed(run.sweep.tiles[2]):
        *_, last = sweep_into(run.store, run.sweep, waits=False)
        assert (last.done, last.total) == (last.total - 1, len(run.sweep.tiles))
    *_, last = sweep_into(run.store, run.sweep, waits=False)
    assert (last.done, last.encoded) == (last.total, 1)
    assert_equal(run.found, whole)


def test_tiles_are_shared_by_claims_where_there_are_no_locks(
    tmp_path: Path, whole: FoundObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SAM_CLAIMS", "1")
    run = Run(tmp_path / "run")
    run.store.begin(run.sweep.levels)
    with run.store.claimed(run.sweep.tiles[2]) as is_mine:
        assert is_mine
        *_, last = sweep_into(run.store, run.sweep, waits=False)
        assert last.done == last.total - 1
    *_, last = sweep_into(run.store, run.sweep, waits=False)
    assert (last.done, last.encoded) == (last.total, 1)
    assert_equal(run.found, whole)
    assert not (run.store.path / "claims").exists(), "nothing is left of the claims"


def test_a_tile_that_cannot_be_read_ends_the_run_and_keeps_the_others(
    tmp_path: Path, whole: FoundObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    render, bad = run.segmenter.volume.render, run.sweep.tiles[4]

    def broken(plane, tile, rendering):
        if tile == bad:
            raise ImageError("The disk is gone: connect it.")
        return render(plane, tile, rendering)

    monkeypatch.setattr(type(run.segmenter.volume), "render", lambda _, *given: broken(*given))
    with pytest.raises(ImageError, match="disk"):
        list(sweep_into(run.store, run.sweep))
    monkeypatch.undo()
    again = Run(tmp_path / "run")
    assert next(iter(sweep_into(again.store, again.sweep))).done == 4
    list(sweep_into(again.store, again.sweep))
    assert_equal(again.found, whole)


CHANGES = {
    "pixels": {"segmenter": lambda: segmenter_of(picture(LABELS) + 1)},
    "contrast": {"segmenter": lambda: segmenter_of(picture(LABELS), contrast_limits=(0, 200))},
    "spacing": {"segmenter": lambda: segmenter_of(picture(LABELS), spacing=(2.0, 1.0))},
    "box": {"box": (0, 0, 200, 200)},
    "sizes": {"sizes": (10, 30)},
    "grid": {"grid": GridOptions(points_per_side=4)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_whatever_the_proposals_depend_on_makes_another_store(tmp_path: Path, name: str) -> None:
    change = {key: value() if callable(value) else value for key, value in CHANGES[name].items()}
    here, there = Run(tmp_path), Run(tmp_path, **change)
    assert here.store.path != there.store.path
    assert Run(tmp_path, **{**change, **({"segmenter": CHANGES[name]["segmenter"]()} if "segmenter" in change else {})}
               ).store.path == there.store.path  # fmt: skip


def test_another_model_makes_another_store(tmp_path: Path) -> None:
    other = BlobFinder()
    other.digest = "fake-blobs/2"
    there = Run(tmp_path, segmenter_of(picture(LABELS), other))
    assert Run(tmp_path).store.path != there.store.path


def test_the_levels_that_a_sample_chose_stay_for_all_runs(tmp_path: Path) -> None:
    model = BlobFinder()
    first = Run(tmp_path, segmenter_of(picture(LABELS), model), sizes=None)
    list(sweep_into(first.store, first.sweep))
    model.encoded.clear()
    again = Run(tmp_path, segmenter_of(picture(LABELS), model), sizes=None)
    assert again.sweep.levels == first.sweep.levels
    list(sweep_into(again.store, again.sweep))
    assert model.encoded == []


def test_a_mask_of_the_image_or_of_one_plane_restricts_the_run(tmp_path: Path) -> None:
    volume = segmenter_of(np.stack([picture(LABELS)] * 2))
    within = np.zeros((2, *SHAPE), np.uint8)
    within[1, 150:190, 150:190] = 9
    tifffile.imwrite(tmp_path / "volume.tif", within, photometric="minisblack")
    tifffile.imwrite(tmp_path / "plane.tif", within[1], photometric="minisblack")
    paths = []
    for name in ("volume.tif", "plane.tif"):
        store, sweep = opened_sweep(tmp_path / "run", volume, volume.plane(1), within=str(tmp_path / name), sizes=SIZES)
        list(sweep_into(store, sweep))
        assert_each_is_found_once(found_in(store, sweep, volume.plane(1)), np.where(LABELS == 2, 1, 0))
        paths.append(store.path)
    assert paths[0] == paths[1], "the same pixels are the same search"


def test_a_mask_that_marks_nothing_in_one_plane_of_a_volume_says_so(tmp_path: Path) -> None:
    volume = segmenter_of(np.stack([picture(LABELS)] * 2))
    within = np.zeros((2, *SHAPE), np.uint8)
    within[1, 150:190, 150:190] = 9
    tifffile.imwrite(tmp_path / "volume.tif", within, photometric="minisblack")
    with pytest.raises(NapariSamError, match="empty"):
        opened_sweep(tmp_path / "run", volume, volume.plane(0), within=str(tmp_path / "volume.tif"))
