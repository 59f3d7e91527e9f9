"""PropagatedImage: follow objects from the planes where they were accepted through the other planes of an image."""

from __future__ import annotations

from napari_sam.searched_image import SearchedImage


class PropagatedImage(SearchedImage):
    """The part of `Segmenter` that follows objects from plane to plane."""
