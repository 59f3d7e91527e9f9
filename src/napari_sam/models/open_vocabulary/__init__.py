"""Networks of the transformers library that know words, from the user's own files: OWLv2, Grounding DINO and CLIP."""

from napari_sam.models.open_vocabulary.loading import load_detector

__all__ = ["load_detector"]
