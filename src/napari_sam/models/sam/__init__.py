"""Segment Anything (Kirillov et al. 2023), written by us under the official checkpoints' names."""

from napari_sam.models.sam.network import SIZES, TINY, Sam, ViTSize, build, size_of
from napari_sam.models.sam.predictor import SamPredictor

__all__ = ["SIZES", "TINY", "Sam", "SamPredictor", "ViTSize", "build", "size_of"]
