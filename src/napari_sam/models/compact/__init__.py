"""The compact model that ships with the package: image encoder, prompt encoder and mask decoder, 7.0 M parameters."""

from napari_sam.models.compact.network import Compact
from napari_sam.models.compact.predictor import CompactPredictor

__all__ = ["Compact", "CompactPredictor"]
