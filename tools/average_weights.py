"""Average the weights of several runs of the compact model, which is often better than each of them (a model soup).

Run `python tools/average_weights.py WEIGHTS... --out runs/averaged.safetensors`.
Then fit the candidate scorer to the average: `napari-sam train configs/compact_scorer.toml`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_sam.errors import NapariSamError
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX
from napari_sam.models.safe_load import load_weights, save_weights


def average(files: list[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of checkpoints of the compact model, without their scorers, which fit only their own weights.

    Parameters
    ----------
    files
        Checkpoints of the same network.

    Raises
    ------
    ModelError
        One cannot be loaded.
    """
    states = []
    for file in files:
        family, state = detect_architecture(load_weights(file), file)
        if family != "compact":
            raise SystemExit(f"{file} holds {family} weights: give checkpoints of the compact model.")
        states.append({key: value.float() for key, value in state.items() if not key.startswith(SCORER_PREFIX)})
    if any(state.keys() != states[0].keys() for state in states):
        raise SystemExit("The checkpoints have different image encoders: give those of runs from the same start.")
    return {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}


def main() -> None:
    """Average the weights that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("weights", type=Path, nargs="+", metavar="WEIGHTS", help="checkpoints of the compact model")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="checkpoint to write")
    arguments = parser.parse_args()
    try:
        save_weights(average(arguments.weights), arguments.out, family="compact")
    except NapariSamError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
