"""Training adds a candidate scorer to the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from skimage.draw import disk

from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.training.train import TrainOptions, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def options(tmp_path):
    """A run of one step on an image of two discs, and a scorer fitted to both."""
    labels = np.zeros((120, 140), np.uint8)
    for label, at in enumerate(((35, 40), (80, 100)), 1):
        labels[disk(at, 15, shape=labels.shape)] = label
    files = tmp_path / "image.tif", tmp_path / "labels.tif"
    tifffile.imwrite(files[0], (60 + 110 * (labels > 0)).astype(np.uint8))
    tifffile.imwrite(files[1], labels)
    return TrainOptions(
        out=tmp_path / "run", pairs=(files,), steps=1, batch=1, objects=1, rounds=1, side=64, scorer_objects=2
    )


def scorer_of(path):
    return {key: value for key, value in load_weights(path).items() if key.startswith(SCORER_PREFIX)}


def test_a_run_fits_the_scorer_after_its_last_step_and_the_weights_compare_tiles(options):
    weights = train(options)
    assert load_predictor(str(weights), "cpu", threads=1).compares_tiles


def test_a_run_that_was_stopped_before_the_scorer_adds_it_later_and_only_once(options):
    weights = train(replace(options, scorer_objects=0))
    assert not scorer_of(weights)
    train(options)
    assert scorer_of(weights)
    written = weights.read_bytes()
    train(options)
    assert weights.read_bytes() == written


def test_a_run_without_a_new_scorer_leaves_that_of_its_start_weights_as_it_is(options, tmp_path):
    start = train(options)
    weights = train(replace(options, init=start, out=tmp_path / "second", steps=2, scorer_objects=0))
    before, after = scorer_of(start), scorer_of(weights)
    assert before.keys() == after.keys()
    assert all(np.allclose(before[key], after[key], atol=2e-3) for key in before)


def test_the_scorer_of_the_start_weights_is_fitted_anew(options, tmp_path):
    start = train(options)
    state = load_weights(start)
    spoiled = {key: value * 0 if key.startswith(SCORER_PREFIX) else value for key, value in state.items()}
    save_weights(spoiled, tmp_path / "spoiled.safetensors", family="compact")
    weights = train(replace(options, init=tmp_path / "spoiled.safetensors", out=tmp_path / "second"))
    assert any(value.any() for value in scorer_of(weights).values())


def test_a_sam_has_no_scorer_to_fit(options, tmp_path):
    from napari_sam.models.sam import TINY, build

    save_weights(build(TINY).state_dict(), tmp_path / "tiny.safetensors", family=TINY)
    with pytest.raises(ModelError, match="leave scorer_objects out"):
        train(replace(options, init=tmp_path / "tiny.safetensors", side=None))
