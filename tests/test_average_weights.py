"""The maintainers' script that averages weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from napari_sam.models.compact import Compact
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX
from napari_sam.models.safe_load import load_weights, save_weights

SCRIPT = Path(__file__).parent.parent / "tools" / "average_weights.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture
def two(tmp_path):
    files = []
    for value in (1.0, 3.0):
        state = {key: torch.full_like(tensor, value) for key, tensor in Compact(has_scorer=True).state_dict().items()}
        files.append(tmp_path / f"{value}.safetensors")
        save_weights(state, files[-1], family="compact")
    return files


def test_the_average_is_the_mean_of_the_weights_without_their_scorers(two, tmp_path):
    done = run(*two, "--out", tmp_path / "mean.safetensors")
    assert done.returncode == 0, done.stderr
    state = load_weights(tmp_path / "mean.safetensors")
    assert not any(key.startswith(SCORER_PREFIX) for key in state)
    assert all((value == 2).all() for value in state.values() if value.is_floating_point())


def test_what_is_no_checkpoint_is_refused_in_one_line(two, tmp_path):
    (tmp_path / "note.safetensors").write_bytes(b"hello")
    done = run(two[0], tmp_path / "note.safetensors", "--out", tmp_path / "mean.safetensors")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "mean.safetensors").exists()
