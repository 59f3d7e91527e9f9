"""SAM 3 (Carion et al. 2025) for single images, from the user's own file: prompts as SAM 2.1 takes them, and text."""

from napari_sam.models.sam3.predictor import Sam3Predictor

__all__ = ["Sam3Predictor"]
