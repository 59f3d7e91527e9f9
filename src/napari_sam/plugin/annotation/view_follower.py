"""ViewFollower: keep requests and previews in step with the plane, the position and the rendering of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from psygnal import Signal

from napari_sam.plugin.view.events import ViewEvents

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam.plugin.annotation.preview import DraftPreview
    from napari_sam.plugin.inference.encoder_view import EncoderView
    from napari_sam.plugin.inference.hover_search import Hover
    from napari_sam.plugin.inference.prefetch import Prefetcher
    from napari_sam.plugin.inference.requests import PredictionRequests
    from napari_sam.plugin.session import Session


class ViewFollower:
    """Reacts to events of the viewer's dims and of the image.

    Parameters
    ----------
    session
        The viewer, the image and the drafts.
    hover, prefetcher, encoder_view, requests
        What depends on the view, and starts again when it changes.
    preview
        Draws the drafts again where they lie now.

    Attributes
    ----------
    renewed
        Emitted when the encoder or its input changed and there are no prompts to ask about again.
    moved, placed, outdated
        Emitted when another plane is shown, when the image lies elsewhere, and when the encoder or its input changed.
    """

    renewed = Signal()
    moved = Signal()
    placed = Signal()
    outdated = Signal()

    def __init__(
        self,
        session: Session,
        hover: Hover,
        prefetcher: Prefetcher,
        encoder_view: EncoderView,
        requests: PredictionRequests,
        preview: DraftPreview,
    ) -> None:
        self._session, self._hover, self._prefetcher = session, hover, prefetcher
        self._encoder_view, self._requests, self._preview = encoder_view, requests, preview
        dims = session.viewer.dims
        self._events = ViewEvents(dims, self.on_plane, self.on_thickness, self.on_place, self.on_rendering)

    def follow(self, image: Image | None) -> None:
        """React to the events of this image, and no longer to those of the last one."""
        self._events.follow(image)

    def close(self) -> None:
        """Stop reacting to events."""
        self._events.close()

    def on_tool(self, event: Any = None) -> None:
        """Follow the tool that the user takes: one of the prompts belongs to a task in which objects are clicked."""
        session = self._session
        if not session.may_hover:
            self._hover.leave()
        if session.prompts.tool is not None and session.task == "all":
            session.set_task("one")
        session.changed.emit()

    def on_plane(self, event: Any = None) -> None:
        """Ask about the prompts on another plane."""
        self._prefetcher.moved()
        self._hover.leave()
        if self._preview.layers.pending is not None:  # No layer is made here: napari moves its dims while it closes.
            self._preview.show_pending()
        self.moved.emit()
        if self._session.prompts.layers:
            self._session.current.downsample = None
            self._requests.request()

    def on_thickness(self, event: Any = None) -> None:
        """Encode again if more or fewer planes are shown as one."""
        session = self._session
        modes = {str(layer.projection_mode) for layer in session.channels}
        if session.image in session.viewer.layers and modes - {"none"}:
            self.on_rendering()

    def on_place(self, event: Any = None) -> None:
        """Move the layers of the plugin to where the image lies, in the units of the world."""
        image = self._session.image
        if image is not None:
            self._hover.leave()
            self._session.prompts.follow(image)
            self._preview.layers.follow(image)
            self._prefetcher.place()
            self._preview.show()
            self._preview.show_pending()
            self._prefetcher.redraw()
            self.placed.emit()

    def on_rendering(self, event: Any = None) -> None:
        """Encode again, because the image's pixels are shown differently."""
        if self._prefetcher.progress is not None:
            self._session.notify("Encoding was stopped because the image is shown differently now: start it again.")
        self.on_encoder()

    def on_encoder(self) -> None:
        """Ask about the same prompts again, because the encoder or its input changed; without any, warm up."""
        session = self._session
        self.outdated.emit()
        self._prefetcher.cancel()
        self._prefetcher.moved()
        self._hover.leave()
        self._encoder_view.forget()
        if session.must_wait:
            return
        if session.is_begun:
            self._requests.cancel()
            session.current.answered = session.current.chosen = None
            self._requests.request()
        else:
            self.renewed.emit()
            self._requests.warm_up()
