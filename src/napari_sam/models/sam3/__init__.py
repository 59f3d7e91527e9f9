"""SAM 3 (Carion et al. 2025) for single images, from the user's own file: prompts as SAM 2.1 takes them, and text."""

from napari_sam.models.sam3.predictor import Sam3Predictor
from napari_sam.models.sam3.text import Found, TextPredictor

__all__ = ["Found", "Sam3Predictor", "TextPredictor"]
