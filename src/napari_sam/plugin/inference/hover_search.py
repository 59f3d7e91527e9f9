"""Hover: compute the mask under the cursor before any click, on tiles that are already encoded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from napari_sam.core.candidates import Candidates
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.prompts import Prompts
from napari_sam.core.tile_search import SearchStep, TileSearch
from napari_sam.errors import NapariSamError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.view import world
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from napari_sam.embeddings.round_decoder import RoundDecoder
    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.workers.runner import Runner
    from napari_sam.segmenter import Segmenter

# Screen pixels: a click within this distance takes the preview, because hands move a little while they click.
SAME_PLACE = 4.0
# Screen pixels from which on napari takes a click for a drag.
DRAGGED = 5.0


@dataclass(frozen=True, slots=True)
class CursorPosition:
    """A position of the cursor in the image.

    Parameters
    ----------
    plane
        The plane in view.
    point
        (row, col), in level-0 pixels; whole numbers are pixel centers.
    downsample
        Image pixels for each pixel of the screen.
    """

    plane: Plane
    point: tuple[float, float]
    downsample: float

    def is_near(self, other: CursorPosition, screen_pixels: float) -> bool:
        """Say whether two positions are at most so many pixels of the screen apart."""
        most = screen_pixels * max(self.downsample, other.downsample)
        return self.plane == other.plane and math.dist(self.point, other.point) <= most


@dataclass(frozen=True, slots=True, eq=False)
class HoverSearch:
    """The search that a click at a position would make, over tiles that are encoded already; build it with `at`.

    It is decoded one tile at a time, so that a newer position can take over after each.

    Parameters
    ----------
    position
        The position of the cursor.
    tiles
        The search, which leaves out tiles that are not encoded.
    decoder
        Decodes its steps.
    """

    position: CursorPosition
    tiles: TileSearch
    decoder: RoundDecoder

    @classmethod
    def at(cls, segmenter: Segmenter, position: CursorPosition, start_level: int | None = None) -> HoverSearch:
        """Return the search at a position, which begins at the level of the last preview, if there was one.

        Raises
        ------
        NapariSamError
            The position is not in the image.
        """
        encoder, plane = segmenter.encoder, position.plane
        tiles = segmenter.decoder.search(
            plane,
            Prompts.of([position.point], shape=encoder.grid(plane).shape),
            downsample=position.downsample,
            start_level=start_level,
            may_decode=lambda tile: encoder.is_ready(plane, tile),
        )
        return cls(position, tiles, segmenter.decoder)

    def decode(self, step: SearchStep) -> Candidates:
        """Decode a step, in any thread."""
        return self.decoder.decode(self.position.plane, step.tile, self.tiles.prompts, step.previous)


class HoverHost(Protocol):
    """Draws previews, and tells whether there may be one."""

    @property
    def image(self) -> Image | None:
        """The image that is segmented, or None."""
        ...

    @property
    def may_hover(self) -> bool:
        """Whether a click now would start a new object."""
        ...

    def show_hover(self, candidates: Candidates | None) -> None:
        """Draw a preview, or remove it."""
        ...


class Hover:
    """Preview the object under the cursor.

    Parameters
    ----------
    viewer
        The viewer's model, whose mouse is followed.
    jobs
        Has the segmenter that all jobs share.
    runner
        Runs the jobs of `next_work` when it has nothing more urgent.
    host
        Draws the preview, and says when there may be one.

    Attributes
    ----------
    enabled
        Whether the user wants previews.
    shown
        The candidates that are drawn now, or None.
    """

    def __init__(self, viewer: ViewerModel, jobs: Jobs, runner: Runner, host: HoverHost) -> None:
        self.viewer = viewer
        self.enabled = True
        self.shown: Candidates | None = None
        self._jobs, self._runner, self._host = jobs, runner, host
        self._search: HoverSearch | None = None
        self._shown_search: HoverSearch | None = None
        self._wanted: tuple[float, ...] | None = None
        self._searched: tuple[float, ...] | None = None
        self._missed: tuple[float, ...] | None = None
        self._level: int | None = None
        viewer.mouse_move_callbacks.append(self._on_move)
        viewer.mouse_drag_callbacks.append(self._on_press)
        viewer.events.mouse_over_canvas.connect(self._on_canvas)

    def close(self) -> None:
        """Stop following the mouse."""
        self.enabled = False
        self._search = self._wanted = None
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
        """Remove the preview: the cursor is elsewhere, or the view has changed."""
        self._search = self._wanted = self._missed = None
        if self.shown is not None:
            self.shown = None
            self._host.show_hover(None)

    def look_again(self) -> None:
        """Search again where nothing was encoded, after more tiles were; the mouse may rest there."""
        if self._missed is not None:
            self._wanted, self._missed = self._missed, None

    def move_to(self, position: Any) -> None:
        """Preview the object at a position in world coordinates, instead of any earlier position."""
        if self.enabled:
            self._wanted = tuple(position)  # Converted in `next_work`: most positions are replaced before that.
            self._runner.wake()

    def take(self, position: CursorPosition, may_improve: bool = False) -> Candidates | None:
        """Return the preview as the answer to a click, and end it; None if the click needs an answer of its own.

        Parameters
        ----------
        position
            Where the click is: the preview must be that of a position near it, and its search at its end. A search at
            a newer position may have begun: hands move while they press, and the user clicks on what is drawn.
        may_improve
            Whether tiles are being encoded: then a search that left tiles out is not at its end.
        """
        search, shown = self._shown_search, self.shown
        self._search = self._shown_search = self._wanted = self.shown = None
        if search is None or not search.position.is_near(position, SAME_PLACE):
            return None
        if search.tiles.next_step() is not None or (may_improve and search.tiles.left_out):
            return None
        return shown

    def next_work(self) -> Work | None:
        """Return the next short job: one tile for the newest position."""
        self._begin()
        search = self._search
        step = None if search is None or not self._host.may_hover else search.tiles.next_step()
        if search is None or step is None:
            if search is not None and search.tiles.found is None:
                self.leave()  # Nothing is encoded there.
                self._missed = self._searched
            return None
        return Work(
            lambda _: search.decode(step),
            lambda answer: self._on_answer(search, step, answer),
            lambda _: self._on_error(search),
        )

    def _begin(self) -> None:
        """Begin the search at the newest position, if there is one."""
        wanted, self._wanted = self._wanted, None
        image = self._host.image
        if wanted is None:
            return
        position = self._position_of(wanted)
        if position is None or image is None:
            self.leave()
            return
        if self._search is not None and self._search.position == position:
            return
        self._searched = wanted
        segmenter = self._jobs.segmenter_of(image)
        try:
            self._search = None if segmenter is None else HoverSearch.at(segmenter, position, self._level)
        except NapariSamError:
            self._search = None  # A click there will say what is wrong.

    def _position_of(self, world_position: Any) -> CursorPosition | None:
        image = self._host.image
        if image is None or not self.enabled or not self._host.may_hover:
            return None
        try:
            plane = adapters.plane_of(self.viewer, image)
        except NapariSamError:
            return None
        row, col = world.to_data(self.viewer, image, world_position)[list(plane.axes)]
        if not Box.of_shape(plane.shape_in(adapters.shape_of(image))).contains_point(row, col):
            return None
        return CursorPosition(plane, (float(row), float(col)), adapters.downsample_of(self.viewer, image, plane))

    def _on_move(self, viewer: Any, event: Any) -> None:
        self.move_to(event.position)

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Remove the preview when a press becomes a drag: the view moves, or something is drawn."""
        start = np.asarray(event.pos)
        yield
        while event.type == "mouse_move":
            if np.linalg.norm(np.asarray(event.pos) - start) > DRAGGED:
                self.leave()
            yield

    def _on_canvas(self, event: Any = None) -> None:
        if not self.viewer.mouse_over_canvas:
            self.leave()

    def _on_answer(self, search: HoverSearch, step: SearchStep, answer: Candidates) -> None:
        if search is not self._search or not self._host.may_hover:
            return
        is_other = search.tiles.tell(step, answer)
        found = search.tiles.found
        assert found is not None
        # Also where the mask stays: a click takes its scores, which depend on all tiles so far.
        self.shown, self._shown_search = (found if found.best.area else None), search
        if is_other:
            if found.best.area and found.best.tile is not None:
                self._level = found.best.tile.level
            self._host.show_hover(self.shown)

    def _on_error(self, search: HoverSearch) -> None:
        """Give up quietly: a click there will say what is wrong."""
        if search is self._search:
            self.leave()
