"""HoverPreview: draw the mask under the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_sam.plugin.layers import adapters
from napari_sam.plugin.request_types import is_small

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.session import Session
    from napari_sam.segmenter import Candidates


class HoverPreview:
    """Draws hover masks fainter than answers.

    Parameters
    ----------
    session
        The image, and whether a click would begin an object.
    layers
        The layers to draw in.
    """

    def __init__(self, session: Session, layers: PreviewLayers) -> None:
        self._session, self._layers = session, layers

    @property
    def image(self) -> Image | None:
        """The image that is segmented, or None."""
        return self._session.image

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object."""
        return self._session.may_hover

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw the mask under the cursor in the size that the user chose, or hide it."""
        session, image = self._session, self._session.image
        if candidates is not None and image is not None:
            mask = candidates[self.index_in(candidates)]
            if is_small(mask):
                mask = session.cleaning(mask, candidates.plane.shape_in(adapters.shape_of(image)))
            self._layers.show_hover(image, candidates.plane, mask)
        elif session.candidates is None:
            self._layers.hide()

    def index_in(self, candidates: Candidates) -> int:
        """Return the index of the candidate to show: the size that the user chose for this object, else the best."""
        size = self._session.current.size
        return candidates.best_index if size is None else size
