"""Random annotation sessions, compared after each step with simple models: labels, objects, classes and prompts.

`NAPARI_SAM_STEPS=20000 NAPARI_SAM_SEED=7` takes that many steps, and others.
"""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.plugin.annotation.stateful.machine import COUNTS, Annotating
from tests.plugin.annotation.stateful.site import KINDS

from napari_sam.labels.storage import multiscales

STEPS = 56
WANTED = int(os.environ.get("NAPARI_SAM_STEPS", "0"))
EXAMPLES = WANTED // (STEPS * len(KINDS)) or 3
SEED = int(os.environ.get("NAPARI_SAM_SEED", "0"))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_a_simple_reference(kind, make_predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(multiscales, "COARSEST_SIDE", 16)
    numbers = itertools.count()
    predictor = make_predictor()

    def make():
        set_cache = lambda folder: monkeypatch.setenv("NAPARI_SAM_CACHE", str(folder))  # noqa: E731
        return Annotating(kind, tmp_path / str(next(numbers)), predictor, set_cache)

    # Other operations for each kind, and the same ones at every run.
    make = seed(SEED + KINDS.index(kind))(make)
    phases = [Phase.generate, Phase.shrink] if os.environ.get("NAPARI_SAM_SHRINK") else [Phase.generate]
    run_state_machine_as_test(
        make,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, phases=phases),
    )
    COUNTS[f"runs of {kind}"] += 1


def test_every_kind_of_operation_was_among_them():
    runs = [COUNTS.pop(f"runs of {kind}", 0) for kind in KINDS]
    if not all(runs):
        pytest.skip("The tests above were not all run.")
    assert COUNTS.total() >= 1000, COUNTS
    assert len(COUNTS) >= 45, COUNTS
