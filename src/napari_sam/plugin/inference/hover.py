"""Hover: the mask under the cursor before any click, wherever the tile is encoded; the newest place wins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.tiles import Tile
from napari_sam.errors import NapariSamError
from napari_sam.plugin.inference.look import CursorPosition, Look
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.view import world
from napari_sam.plugin.workers.runner import Work
from napari_sam.segmenter import Candidates

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.workers.runner import Runner

# A click so near to where the mouse was is a click there: a hand trembles.
SAME_PLACE = 4.0
# From so many pixels of the screen on napari takes a click for a drag.
DRAGGED = 5.0


class HoverHost(Protocol):
    """What a hover preview needs of the controller."""

    @property
    def image(self) -> Image | None:
        """The image that is segmented, or None."""
        ...

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object."""
        ...

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw a preview that nobody asked for, or take it away."""
        ...


class Hover:
    """Looks at what lies under the cursor.

    Parameters
    ----------
    viewer
        The viewer's model, whose mouse is followed.
    jobs
        Keeps the segmenter that all jobs share.
    runner
        Is asked to work on.
    stage
        Draws, and says when a preview has its place.

    Attributes
    ----------
    enabled
        Whether the user wants it.
    shown
        The candidates that are drawn now, or None.
    """

    def __init__(self, viewer: ViewerModel, jobs: Jobs, runner: Runner, stage: HoverHost) -> None:
        self.viewer = viewer
        self.enabled = True
        self.shown: Candidates | None = None
        self._jobs, self._runner, self._stage = jobs, runner, stage
        self._look: Look | None = None
        self._shown_at: CursorPosition | None = None
        self._wanted: tuple[float, ...] | None = None
        self._looked: tuple[float, ...] | None = None
        self._missed: tuple[float, ...] | None = None
        self._level: int | None = None
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.events.mouse_over_canvas.connect(self._on_canvas)

    def close(self) -> None:
        """Stop following the mouse."""
        self.enabled = False
        self._look = self._wanted = None
        for callbacks, mine in (
            (self.viewer.mouse_move_callbacks, self._on_move),
            (self.viewer.mouse_drag_callbacks, self._on_press),
        ):
            if mine in callbacks:
                callbacks.remove(mine)
        self.viewer.events.mouse_over_canvas.disconnect(self._on_canvas)

    def set_enabled(self, enabled: bool) -> None:
        """Show previews from now on, or none."""
        self.enabled = enabled
        if not enabled:
            self.leave()

    def leave(self) -> None:
        """Take the preview away: the cursor is elsewhere, or the image is seen otherwise."""
        self._look = self._wanted = self._missed = None
        if self.shown is not None:
            self.shown = None
            self._stage.show_hover(None)

    def look_again(self) -> None:
        """Look once more where nothing was encoded, because more is now; the mouse may rest there."""
        if self._missed is not None:
            self._wanted, self._missed = self._missed, None

    def move_to(self, position: Any) -> None:
        """Look at a position of the world; what was looked at before is forgotten."""
        if self.enabled:
            self._wanted = tuple(position)  # What it means is found out once there is time to look.
            self._runner.wake()

    def take(self, spot: CursorPosition, may_improve: bool = False) -> Candidates | None:
        """Return, and keep no longer, the mask that is shown if a click hits the place that it was shown for.

        A click is answered anew where the look is not at its end, or with `may_improve`, where tiles that it left out
        are being encoded.
        """
        at, shown, look = self._shown_at, self.shown, self._look
        self._look = self._wanted = self.shown = None
        if at is None or not at.is_near(spot, SAME_PLACE):
            return None
        if look is not None and (look.next_step() is not None or (may_improve and look.lacks_tiles)):
            return None
        return shown

    def next_work(self) -> Work | None:
        """Return the next short job: one tile for the newest place."""
        self._begin()
        look = self._look
        step = None if look is None or not self._stage.may_hover else look.next_step()
        if look is None or step is None:
            if look is not None and look.found is None:
                self.leave()  # Nothing is encoded there.
                self._missed = self._looked
            return None
        return Work(
            lambda _: look.take_step(step),
            lambda answer: self._on_answer(look, step, answer),
            lambda _: self._on_error(look),
        )

    def _begin(self) -> None:
        """Begin to look at the newest place, if there is one."""
        position, self._wanted = self._wanted, None
        image = self._stage.image
        if position is None:
            return
        spot = self._spot(position)
        if spot is None or image is None:
            self.leave()
            return
        if self._look is not None and self._look.spot == spot:
            return
        self._looked = position
        segmenter = self._jobs.segmenter_of(image)
        try:
            self._look = None if segmenter is None else Look(segmenter, spot, self._level)
        except NapariSamError:
            self._look = None  # A click there will say what is wrong.

    def _spot(self, position: Any) -> CursorPosition | None:
        image = self._stage.image
        if image is None or not self.enabled or not self._stage.may_hover:
            return None
        try:
            plane = adapters.plane_of(self.viewer, image)
        except NapariSamError:
            return None
        row, col = world.to_data(self.viewer, image, position)[list(plane.axes)]
        if not Box.of_shape(plane.shape_in(adapters.shape_of(image))).contains_point(row, col):
            return None
        return CursorPosition(plane, (float(row), float(col)), adapters.downsample_of(self.viewer, image, plane))

    def _on_move(self, viewer: Any, event: Any) -> None:
        self.move_to(event.position)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Take the preview away when a press becomes a drag: the view moves, or something is drawn."""
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(np.asarray(event.pos) - start) > DRAGGED:
                self.leave()
            yield

    def _on_canvas(self, event: Any = None) -> None:
        if not self.viewer.mouse_over_canvas:
            self.leave()

    def _on_answer(self, look: Look, step: tuple[Tile, Mask | None], answer: Candidates) -> None:
        if look is not self._look or not self._stage.may_hover:
            return
        if look.take_in(step, answer) and look.found is not None:
            found = look.found.best
            if found.area and found.tile is not None:
                self._level = found.tile.level
            self.shown, self._shown_at = (look.found if found.area else None), look.spot
            self._stage.show_hover(self.shown)

    def _on_error(self, look: Look) -> None:
        """Give up quietly: a click there will say what is wrong."""
        if look is self._look:
            self.leave()
