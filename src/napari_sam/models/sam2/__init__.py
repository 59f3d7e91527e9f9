"""SAM 2.1 (Ravi et al. 2024) for single images: the network is that of the transformers library, the rest is ours."""

from napari_sam.models.sam2.predictor import Sam2Predictor

__all__ = ["Sam2Predictor"]
