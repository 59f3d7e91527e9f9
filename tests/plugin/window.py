"""The window of `napari_sam.testing`, under the name that tests had for it."""

from napari_sam.testing.window import ANSWER_WITHIN, Window

__all__ = ["ANSWER_WITHIN", "Window"]
