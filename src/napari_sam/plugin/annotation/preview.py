"""DraftPreview: draw the masks of drafts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_sam.plugin.drafts import Draft
    from napari_sam.plugin.inference.hover_preview import HoverPreview
    from napari_sam.plugin.inference.hover_search import Hover
    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.session import Session


class DraftPreview:
    """Draws the current draft, and pending ones beside it.

    Parameters
    ----------
    session
        The drafts.
    layers
        The layers to draw in.
    hover
        The search for a mask under the cursor, which an answer ends.
    hover_preview
        Draws that mask.
    """

    def __init__(self, session: Session, layers: PreviewLayers, hover: Hover, hover_preview: HoverPreview) -> None:
        self.layers = layers
        self._session, self._hover, self._hover_preview = session, hover, hover_preview

    def show(self) -> None:
        """Draw the selected candidate of the current draft."""
        session, candidates = self._session, self._session.candidates
        if session.image is not None and candidates is not None:
            self.layers.show(session.image, candidates.plane, session.mask_of(session.current))
        elif self._hover.shown is None:
            self.layers.hide()
        session.changed.emit()

    def show_pending(self) -> None:
        """Draw the masks of pending drafts that lie in the plane in view."""
        session, pending = self._session, self._session.drafts.pending
        if session.image is None or (not pending and self.layers.pending is None):
            return
        plane = session.plane
        if plane is None:
            return
        masks = [
            session.mask_of(draft)
            for draft in pending
            if draft.candidates is not None and draft.candidates.plane == plane
        ]
        self.layers.show_pending(session.image, plane, [mask for mask in masks if mask.area])

    def show_all(self) -> None:
        """Draw the current draft, which is another one, and pending ones; the next prompts belong to it."""
        self._hover.leave()
        self._session.prompts.begin(self._session.current.number)
        self.show()
        self.show_pending()

    def show_asked(self, draft: Draft) -> None:
        """Draw the last answer of the current draft fainter while a newer one is under way."""
        if draft is not self._session.current:
            return
        if draft.candidates is None:
            self.layers.hide()
        else:
            self.layers.fade()

    def show_answered(self, draft: Draft) -> None:
        """Draw a draft that has a new answer."""
        if draft is self._session.current:
            self.show()
        elif draft in self._session.drafts.pending:
            self.show_pending()

    def next_hovered_size(self, step: int) -> None:
        """Draw the mask under the cursor in another size, which the object under it begins with."""
        candidates = self._hover.shown
        if candidates is not None:
            self._session.current.size = (self._hover_preview.index_in(candidates) + step) % len(candidates)
            self._hover_preview.show_hover(candidates)
