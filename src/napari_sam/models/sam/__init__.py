"""Segment Anything (Kirillov et al. 2023), written by us under the official checkpoints' names."""

from napari_sam.models.sam.network import SIZES, Sam, ViTSize, size_of
from napari_sam.models.sam.predictor import SamPredictor

__all__ = ["SIZES", "Sam", "SamPredictor", "ViTSize", "size_of"]
