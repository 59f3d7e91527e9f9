"""The model of `napari_sam.testing` that takes text, under the name that tests had for it."""

from napari_sam.testing import DiscFinder

__all__ = ["DiscFinder"]
