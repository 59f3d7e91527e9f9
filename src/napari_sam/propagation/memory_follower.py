"""MemoryFollower: follow objects by the memory of SAM 2, on tiles that follow them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from napari_sam.core.following.memory import MemoryPredictor
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, mask_from_logits, near_border
from napari_sam.core.prompts import coverage_on
from napari_sam.core.tile_search import MAX_REFINEMENTS
from napari_sam.errors import ModelError
from napari_sam.propagation.followed_tiles import encode_ahead
from napari_sam.propagation.follower import Followed, Sighting, last_passed

if TYPE_CHECKING:
    from napari_sam.core.following.memory import MemoryAnswer, ObjectMemory, SeenObject
    from napari_sam.core.predictor import Predictor
    from napari_sam.core.tiles import Tile, TileGrid
    from napari_sam.embeddings.encoder import TileEncoder
    from napari_sam.propagation.plane_stack import PlaneStack

# Answers before a plane that following goes on from: SAM 2 holds features of seven planes.
RECENT = 8
# Accepted planes, the closest ones, that the tile is placed to show as well.
MOST_SHOWN = 2


class MemoryFollower:
    """Follow objects by what SAM 2 remembers of them; see `Follower`.

    Accepted planes condition the others, the closest ones most, also those that are still ahead. Memory is bounded,
    whatever the number of planes.

    Parameters
    ----------
    encoder
        Encoder of the tiles of the volume, with a model that has a memory.
    planes
        Number of planes along the axis that is followed.
    reverse
        Whether it is followed towards position 0.
    stack
        The planes; by it, the tiles of planes to come are encoded ahead in batches, where the model gains by that.

    Raises
    ------
    ModelError
        The model has no memory.
    """

    def __init__(self, encoder: TileEncoder, *, planes: int, reverse: bool, stack: PlaneStack | None = None) -> None:
        self._encoder, self._stack, self._direction = encoder, stack, -1 if reverse else 1
        self._new_memory = partial(with_memory(encoder.predictor).memory, planes=planes, reverse=reverse)
        self._objects: dict[int, _RememberedObject] = {}

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        """Take the accepted masks of one plane; see `Follower`."""
        for label, mask in masks.items():
            if label not in self._objects:
                self._objects[label] = _RememberedObject(self._encoder, self._new_memory, self._direction)
            self._objects[label].accepted[at] = _Sighting(plane, mask.tightened())

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Return what the objects look like in a plane; see `Follower`."""
        for label, known in self._objects.items():
            if label not in labels and at not in known.accepted:
                known.release()
        grid = self._encoder.grid(plane)
        tiles = {label: self._objects[label].tile_in(at, grid) for label in labels}
        encode_ahead(self._encoder, self._stack, at, self._direction, plane, list(tiles.values()))
        # Objects on one tile after each other, so that its embedding stays in memory.
        ordered = sorted(labels, key=lambda label: tiles[label].key)
        return {label: self._objects[label].follow(at, plane, tiles[label]) for label in ordered}

    @property
    def identity(self) -> str:
        """What the answers depend on; see `ResumableFollower`."""
        return f"memory {self._encoder.predictor.digest} {self._direction}"

    def basis(self, label: int, at: int) -> Sequence[int]:
        """Return the accepted planes before and behind a plane; see `ResumableFollower`.

        Others condition the memory too, but less: after a correction, planes beyond its neighbors stay as they are.
        """
        accepted = self._objects[label].accepted
        ahead = [there for there in accepted if (there - at) * self._direction > 0]
        passed = last_passed(accepted, at, self._direction)
        return [passed, last_passed(ahead, at, -self._direction)] if ahead else [passed]

    def go_on(self, label: int, at: int, recent: Sequence[Sighting]) -> None:
        """Go on from earlier answers; see `ResumableFollower`."""
        self._objects[label].go_on(recent)

    def needed(self, label: int, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Return the last planes, and the last one with the object; see `ResumableFollower`."""
        found = [one for one in sightings[:-RECENT] if one.found.mask.area]
        return [*found[-1:], *sightings[-RECENT:]]


def with_memory(predictor: Predictor) -> MemoryPredictor:
    """Return a model as one that has a memory.

    Raises
    ------
    ModelError
        It has none.
    """
    if not isinstance(predictor, MemoryPredictor):
        raise ModelError(f"{predictor.name} has no memory to follow objects by: use a SAM 2.1, such as sam2.1_tiny.")
    if not predictor.has_memory:
        raise ModelError(
            f"{predictor.name} holds a SAM 2.1 for single images, without the memory that follows objects: use a "
            "checkpoint of the whole model, such as sam2.1_tiny."
        )
    return predictor


@dataclass(frozen=True, slots=True, eq=False)
class _Sighting:
    """An object in one plane: the plane, and its mask there, which is empty where the object is not."""

    plane: Plane
    mask: Mask


class _RememberedObject:
    """One object: its masks, the tile that shows it, and what the model remembers of it there."""

    def __init__(self, encoder: TileEncoder, new_memory: Callable[..., ObjectMemory], direction: int) -> None:
        self.accepted: dict[int, _Sighting] = {}
        self._encoder, self._new_memory, self._direction = encoder, new_memory, direction
        # What was found in the last planes, from which the memory is built again on another tile.
        self._recent: dict[int, _Sighting] = {}
        # The last plane where the object was found, however long ago.
        self._last_found: tuple[int, _Sighting] | None = None
        self._tile: Tile | None = None
        self._memory: ObjectMemory | None = None

    def release(self) -> None:
        """Free the memory; if the object is followed again, it is built from masks."""
        self._memory = None

    def go_on(self, recent: Sequence[Sighting]) -> None:
        """Take what was found in the planes before; the memory is built from these masks."""
        self.release()
        seen = {one.at: _Sighting(one.plane, one.found.mask) for one in recent}
        found = [one.at for one in recent if one.found.mask.area]
        self._recent, self._tile = seen, None
        self._last_found = (found[-1], seen[found[-1]]) if found else None

    def tile_in(self, at: int, grid: TileGrid) -> Tile:
        """Return the tile on which the object is looked for first in a plane."""
        _, last = self._last_known(at)
        return self._tile_for(last.mask.box, at, grid)

    def follow(self, at: int, plane: Plane, tile: Tile) -> Followed:
        """Find the object in a plane, on another tile if the given one does not show all of it."""
        grid = self._encoder.grid(plane)
        tried = {tile}
        found = self._follow_on(tile, at, plane)
        for _ in range(MAX_REFINEMENTS):
            better = self._better_tile(found.mask, tile, at, grid)
            if better in tried:
                break
            tile = better
            tried.add(tile)
            found = self._follow_on(tile, at, plane)
        self._keep(at, _Sighting(plane, found.mask))
        return found

    def _keep(self, at: int, sighting: _Sighting) -> None:
        assert self._memory is not None
        self._recent[at] = sighting
        self._recent = {p: seen for p, seen in self._recent.items() if abs(at - p) < self._memory.reach}
        if sighting.mask.area:
            self._last_found = at, sighting

    def _follow_on(self, tile: Tile, at: int, plane: Plane) -> Followed:
        if self._memory is None or tile != self._tile:
            self._memory, self._tile = self._remembered_on(tile, at), tile
        return _followed(self._memory.follow(at, self._encoder.embedding(plane, tile)), tile)

    def _remembered_on(self, tile: Tile, at: int) -> ObjectMemory:
        """Return a memory of the masks that a tile shows."""
        accepted = {p: seen for p, seen in self.accepted.items() if _is_on(tile, seen.mask)}
        if not any(seen.mask.area for seen in accepted.values()):
            # It has come far from where it was accepted: the memory needs one mask to begin with.
            position, seen = self._last_known(at)
            accepted[position] = seen
        memory = self._new_memory({p: partial(self._seen, seen, tile) for p, seen in accepted.items()})
        for position, seen in self._recent.items():
            is_near = 0 < abs(at - position) < memory.reach
            if position not in accepted and is_near and _is_on(tile, seen.mask):
                memory.recall(position, self._seen(seen, tile))
        return memory

    def _seen(self, sighting: _Sighting, tile: Tile) -> SeenObject:
        return self._encoder.embedding(sighting.plane, tile), coverage_on(tile, sighting.mask)

    def _last_known(self, at: int) -> tuple[int, _Sighting]:
        """Return the last plane before this one where the object is known, else the nearest one ahead."""
        known = [(p, seen) for p, seen in self.accepted.items() if seen.mask.area]
        if self._last_found is not None:
            known.append(self._last_found)
        return min(known, key=lambda entry: ((entry[0] - at) * self._direction > 0, abs(entry[0] - at)))

    def _tile_for(self, box: Box, at: int, grid: TileGrid) -> Tile:
        """Return the tile for an object: the present one as long as it suits."""
        tile = self._tile
        least, most = self._encoder.predictor.object_range
        if (
            tile is not None
            and tile.read.contains(box)
            and not near_border(box, tile, grid.shape)
            and least < grid.extent(box) / grid.span(tile.level) < most
        ):
            return tile
        level = grid.level_for(grid.extent(box), self._encoder.predictor.object_fraction)
        return self._placed(level, box, at, grid)

    def _better_tile(self, mask: Mask, tile: Tile, at: int, grid: TileGrid) -> Tile:
        """Return the tile that the answer on a tile asks for, which may be the same one."""
        if mask.area == 0:
            return tile
        if not near_border(mask.box, tile, grid.shape):
            return self._tile_for(mask.box, at, grid)
        # Cut by the tile: its extent is not known, so no finer one.
        level = grid.level_for(grid.extent(mask.box), self._encoder.predictor.object_fraction)
        return self._placed(max(level, tile.level), mask.box, at, grid)

    def _placed(self, level: int, box: Box, at: int, grid: TileGrid) -> Tile:
        """Return the tile of a level that shows a box, and with it the closest accepted masks if one tile can."""
        shown = box
        for _, seen in sorted(self.accepted.items(), key=lambda entry: abs(entry[0] - at))[:MOST_SHOWN]:
            both = shown.union(seen.mask.box) if seen.mask.area else shown
            if grid.tile_at(level, *both.center).owned.contains(both):
                shown = both
        return grid.tile_at(level, *shown.center)


def _is_on(tile: Tile, mask: Mask) -> bool:
    """Return whether a tile says something of an object: it shows a part of it, or the object is not in the plane."""
    return mask.area == 0 or not mask.box.intersection(tile.read).is_empty


def _followed(answer: MemoryAnswer, tile: Tile) -> Followed:
    mask = mask_from_logits(answer.logits, tile)
    # The network estimates the IoU of objects that are there.
    confidence = answer.presence * answer.iou_prediction if mask.area else 1 - answer.presence
    # Without the logits, of which every plane would keep as much as of the largest mask.
    return Followed(replace(mask, iou_prediction=confidence, low_res_logits=None), confidence)
