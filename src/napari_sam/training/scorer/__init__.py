"""Fit the compact model's `CandidateScorer`, after the rest of the network was trained."""

from napari_sam.training.scorer.weights import add_scorer as add_scorer
