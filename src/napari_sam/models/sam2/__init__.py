"""SAM 2.1 (Ravi et al. 2024) for images and for following objects, with the networks of the transformers library."""

from napari_sam.models.sam2.predictor import Sam2Predictor

__all__ = ["Sam2Predictor"]
