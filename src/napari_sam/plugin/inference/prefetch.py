"""Prefetcher: encode the tiles in view and around it ahead of clicks, and whole planes on demand."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from psygnal import Signal

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.embeddings.encoder import EncodeProgress, TileEncoder, TileKey, TileSweep
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import NapariSamError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.coverage import coverage_of, make_coverage, show_coverage
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari.layers import Labels, Layer

    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Report, Runner

Extent = Literal["view", "plane", "volume"]

# Most tiles of a plan: as many as the memory for embeddings holds, with room for the tiles of clicks.
MAX_AHEAD = 240
COARSER = 2
# Length of a slice of bulk work: a click waits no longer than that and one tile.
SLICE_SECONDS = 0.05
REDRAW_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class View:
    """A view of a plane: its box, and the level whose pixels are about as large as the screen's."""

    plane: Plane
    box: Box
    level: int


def plan_ahead(grid: TileGrid, view: View, shape: tuple[int, ...]) -> list[TileKey]:
    """Return the tiles that the user will most likely need, most likely first.

    Those in view at the level of the screen, from its middle outwards; the coarser ones over it, that a click on
    something large needs; those around the view; and the view on the planes before and after.

    Parameters
    ----------
    grid
        The tiles of the plane.
    view
        The view.
    shape
        Shape of the volume.
    """
    level = grid.clamp(view.level)
    seen = _from_the_middle(grid, level, view.box)
    order: list[TileKey] = [(view.plane, tile) for tile in seen]
    for coarser in range(level + 1, min(level + COARSER, grid.max_level) + 1):
        order += [(view.plane, tile) for tile in _from_the_middle(grid, coarser, view.box)]
    around = _from_the_middle(grid, level, view.box.grown(max(grid.spans(level)) / 2))
    order += [(view.plane, tile) for tile in around if tile not in seen]
    for neighbour in _neighbours(view.plane, shape):
        order += [(neighbour, tile) for tile in seen]
    return order[:MAX_AHEAD]


def _from_the_middle(grid: TileGrid, level: int, box: Box) -> list[Tile]:
    row, col = box.center
    inside = box.intersection(Box.of_shape(grid.shape))
    if inside.is_empty:
        return []
    first, last = grid.corners(level, inside)
    if (last.row - first.row + 1) * (last.col - first.col + 1) > MAX_AHEAD:
        # Far more than will be encoded: only what lies around the middle.
        height, width = (span * math.sqrt(MAX_AHEAD) / 4 for span in grid.spans(level))
        inside = Box(row - height, col - width, row + height, col + width).intersection(inside)
    tiles = grid.tiles_over(level, inside)
    return sorted(tiles, key=lambda tile: math.dist(tile.owned.center, (row, col)))


def _neighbours(plane: Plane, shape: tuple[int, ...]) -> Iterator[Plane]:
    """Yield the planes after and before along the last hidden axis with more than one plane."""
    hidden = [axis for axis in range(len(shape)) if axis not in plane.axes and shape[axis] > 1]
    for step in (1, -1):
        if hidden and 0 <= plane.index[hidden[-1]] + step < shape[hidden[-1]]:
            index = list(plane.index)
            index[hidden[-1]] += step
            yield replace(plane, index=tuple(index))


class Prefetcher:
    """Encodes while the runner is idle, and outlines the tiles that are ready.

    Parameters
    ----------
    session
        The viewer and its image.
    jobs
        Keeps the segmenter that all jobs share.
    runner
        Asks for the next job when it is idle.

    Attributes
    ----------
    changed
        Emitted when `progress` changed.
    encoded
        Emitted when a tile was encoded.
    enabled
        Whether the view is encoded ahead.
    progress
        How far a bulk run is, or None when there is none.
    coverage
        The layer that outlines what is ready, or None.
    """

    changed = Signal()
    encoded = Signal()

    def __init__(self, session: Session, jobs: Jobs, runner: Runner) -> None:
        self.enabled = True
        self.show = True
        self.progress: EncodeProgress | None = None
        self.coverage: Labels | None = None
        self._session, self._jobs, self._runner = session, jobs, runner
        self._plan: list[TileKey] = []
        self._view: View | None = None
        self._bulk: Iterator[EncodeProgress] | None = None
        self._drawn = 0.0

    def moved(self) -> None:
        """Drop the plan, because the view moves."""
        self._plan = []

    def rested(self) -> None:
        """Plan the tiles to encode for the present view."""
        encoder = self._encoder()
        self._plan = []
        self._view = None
        view = self._current_view()
        if encoder is None or view is None:
            self._remove_coverage()
            return
        self._view = view
        self.redraw()  # First: a new layer emits the same events as a view that moves.
        if self.enabled:
            plan = plan_ahead(encoder.grid(view.plane), view, encoder.volume.shape)
            self._plan = [place for place in plan if not encoder.is_ready(*place)]
        self._runner.wake()

    def start(self, extent: Extent) -> None:
        """Encode all of the view, of the plane or of the volume at the level of the screen, into the store on disk."""
        encoder = self._encoder()
        view = self._current_view()
        if encoder is None or view is None:
            self._session.notify("There is nothing to encode yet: choose an image and wait until the model is loaded.")
            return
        self.cancel()
        try:
            store = encoder.store
            if store is None or store.read_only:
                store = EmbeddingStore.default()
        except NapariSamError as error:
            self._session.notify(str(error))
            return
        planes = self._jobs.planes_like(view.plane) if extent == "volume" else [view.plane]
        places = TileSweep(encoder, planes, [view.level], view.box if extent == "view" else None)
        self.progress = EncodeProgress(len(places))
        self._bulk = encoder.encode_all(store, places)
        self.changed.emit()
        self._runner.wake()

    def cancel(self) -> None:
        """Stop a bulk run after the current tile; what was encoded stays in the store."""
        self._bulk = self.progress = None
        self.changed.emit()

    def close(self) -> None:
        """Stop everything and take the coverage away."""
        self.moved()
        self._bulk = self.progress = None
        self._remove_coverage()

    def place(self) -> None:
        """Move the coverage to where the image lies."""
        if self.coverage is not None and self._session.image is not None:
            own_layers.place_on(self.coverage, self._session.image)

    def forget(self, layer: Layer) -> None:
        """Show no coverage once the user deleted its layer."""
        if layer is self.coverage:
            self.coverage, self.show = None, False
            self.changed.emit()

    @property
    def is_encoding(self) -> bool:
        """Whether tiles of the view wait to be encoded."""
        return bool(self._plan)

    def next_work(self) -> Work | None:
        """Return the next short job, or None when there is nothing to do."""
        encoder = self._encoder()
        if encoder is None:
            return None
        while self._plan:
            # One at a time, so that a click need not wait for more; but as many as the workers of a cluster take.
            count = 1 if self._session.scheduler is None else encoder.predictor.batch
            places, self._plan = self._plan[:count], self._plan[count:]
            places = [place for place in places if not encoder.is_ready(*place)]
            if places:
                return Work(partial(_encode, encoder, places), self._on_tile, self._on_plan_error)
        if self._bulk is not None:
            bulk = self._bulk
            return Work(_slice_of(bulk), lambda now: self._on_slice(bulk, now), lambda e: self._on_bulk_error(bulk, e))
        return None

    def redraw(self, *, soon: bool = False) -> None:
        """Outline the tiles in view that are ready; with `soon`, at most a few times a second."""
        if soon and self._plan and time.monotonic() - self._drawn < REDRAW_SECONDS:
            return
        encoder, view = self._encoder(), self._view
        image = self._session.image
        if encoder is None or view is None or image is None or not self.show:
            self._remove_coverage()
            return
        self._drawn = time.monotonic()
        grid = encoder.grid(view.plane)
        level = grid.clamp(view.level)
        tiles = _from_the_middle(grid, level, view.box.grown(max(grid.spans(level)) / 2))
        ready = [tile for tile in tiles if encoder.is_ready(view.plane, tile)]
        if self.coverage is None:
            self.coverage = make_coverage(image)
            own_layers.insert_above(self._session.viewer, self.coverage, image)
        show_coverage(self.coverage, image, view.plane, coverage_of(tiles, ready))

    def _remove_coverage(self) -> None:
        layer, self.coverage = self.coverage, None  # First, or its removal would be taken for the user's.
        if layer is not None and layer in self._session.viewer.layers:
            self._session.viewer.layers.remove(layer)

    def _current_view(self) -> View | None:
        viewer, image, plane = self._session.viewer, self._session.image, self._session.plane
        if image is None or plane is None:
            return None
        box = adapters.view_of(viewer, image, plane)
        level = round(math.log2(adapters.downsample_of(viewer, image, plane)))
        return View(plane, box, level)

    def _encoder(self) -> TileEncoder | None:
        image = self._session.image
        segmenter = None if image is None or self._session.is_closed else self._jobs.segmenter_of(image)
        return None if segmenter is None else segmenter.encoder

    def _on_tile(self, _: None) -> None:
        self.redraw(soon=True)
        self.encoded.emit()

    def _on_plan_error(self, error: Exception) -> None:
        """Stop without a message: a click there reports the error."""
        self._plan = []

    def _on_slice(self, bulk: Iterator[EncodeProgress], now: EncodeProgress | None) -> None:
        if bulk is not self._bulk:
            return
        if now is None:
            done, self._bulk, self.progress = self.progress, None, None
            if done is not None:
                self._session.notify(f"Encoded {done.encoded} tiles; {done.known} were there, {done.empty} are empty.")
        else:
            self.progress = now
        self.changed.emit()
        self.encoded.emit()

    def _on_bulk_error(self, bulk: Iterator[EncodeProgress], error: Exception) -> None:
        if bulk is self._bulk:
            self.cancel()
            self._session.notify(str(error))


def _encode(encoder: TileEncoder, places: Sequence[TileKey], _: Report) -> None:
    encoder.encode_together(places)


def _slice_of(bulk: Iterator[EncodeProgress]) -> Callable[[Report], EncodeProgress | None]:
    """Return a job that goes on with a bulk run for a moment: its progress, or None at its end."""

    def job(_: Report) -> EncodeProgress | None:
        start = time.monotonic()
        now = next(bulk, None)
        while now is not None and time.monotonic() - start < SLICE_SECONDS:
            after = next(bulk, None)
            if after is None:
                break  # The next slice will find the end, too.
            now = after
        return now

    return job
