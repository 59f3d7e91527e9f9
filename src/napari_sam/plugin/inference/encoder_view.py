"""EncoderView: show the exact encoder input behind the latest prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.tiles import Tile
    from napari_sam.plugin.drafts import Draft
    from napari_sam.plugin.inference.jobs import Jobs

# Largest side of the picture in pixels; the widget shows fewer.
VIEW_SIDE = 128


class EncoderView:
    """Renders the tile of an answer when the runner is idle.

    Parameters
    ----------
    jobs
        Keeps the segmenter that made the answer.

    Attributes
    ----------
    changed
        Emitted when there is another picture.
    pixels
        Shape (side, side, 3), uint8, or None where nothing was seen yet.
    """

    changed = Signal()

    def __init__(self, jobs: Jobs) -> None:
        self.pixels: NDArray[np.uint8] | None = None
        self._jobs = jobs
        self._wanted: tuple[Plane, Tile] | None = None
        self._shown: tuple[Plane, Tile] | None = None

    def show_answered(self, draft: Draft) -> None:
        """Show the tile of a draft's answer, as soon as the runner is idle; an accepted mask has none."""
        if draft.is_as_accepted:
            self.forget()
        tile = None if draft.candidates is None else draft.candidates.best.tile
        if draft.candidates is not None and tile is not None:
            self._wanted = draft.candidates.plane, tile

    def forget(self) -> None:
        """Show nothing: the image is another one, or it is seen otherwise."""
        self._wanted = self._shown = None
        if self.pixels is not None:
            self.pixels = None
            self.changed.emit()

    def next_work(self) -> Work | None:
        """Return the job that makes the picture, if another one is wanted."""
        wanted, self._wanted = self._wanted, None
        segmenter = self._jobs.segmenter
        if wanted is None or wanted == self._shown or segmenter is None:
            return None
        encoder = segmenter.encoder

        def render(_: object) -> NDArray[np.uint8]:
            pixels = encoder.volume.render(*wanted, encoder.rendering)
            step = max(1, pixels.shape[0] // VIEW_SIDE)
            return np.ascontiguousarray(pixels[::step, ::step])

        def done(pixels: NDArray[np.uint8]) -> None:
            self.pixels, self._shown = pixels, wanted
            self.changed.emit()

        return Work(render, done, lambda _: None)
