"""Add a candidate scorer to trained weights of the compact model."""

from __future__ import annotations

from pathlib import Path

import torch

from napari_sam.errors import ModelError
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import CompactPredictor
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX, CandidateScorer
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.segmenter import Segmenter
from napari_sam.training.scorer.examples import drawn_examples
from napari_sam.training.scorer.fit import fit_scorer


def add_scorer(
    file: Path, images: list[LabelledImage], objects_per_subset: int, *, seed: int, device: torch.device
) -> None:
    """Fit a candidate scorer to the masks of a compact model, and write it into the file of its weights.

    Weights that have a scorer are left as they are, so that a run that was stopped in between can go on.

    Parameters
    ----------
    file
        Weights of a compact model; replaced when the scorer is complete.
    images
        Labelled images to click on.
    objects_per_subset
        Number of objects drawn from each subset.
    seed
        Fixes the objects, the clicks and the fit.
    device
        Device of the network.

    Raises
    ------
    ModelError
        There is no object to click on.
    ImageError
        An image cannot be read.
    OutputError
        The file cannot be written; it is unchanged then.
    """
    family, state = detect_architecture(load_weights(file), file)
    if any(key.startswith(SCORER_PREFIX) for key in state):
        return
    unfitted = {f"{SCORER_PREFIX}{key}": value for key, value in CandidateScorer().state_dict().items()}
    predictor = CompactPredictor(state | unfitted, name="training", digest="training", device=device)
    examples = list(drawn_examples(images, lambda path: Segmenter(path, model=predictor), objects_per_subset, seed))
    if not examples:
        raise ModelError("No image has an object to fit the scorer to: check the labels, or leave scorer_objects out.")
    fitted = {f"{SCORER_PREFIX}{key}": value for key, value in fit_scorer(examples, seed=seed).state_dict().items()}
    save_weights(state | fitted, file, family=family, half=True)
