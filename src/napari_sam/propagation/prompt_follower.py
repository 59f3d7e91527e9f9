"""PromptFollower: follow objects with any model, by prompts from the mask of the plane before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.following.mask_fuser import MaskFuser
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, innermost
from napari_sam.core.predictor import Embedding
from napari_sam.core.prompts import Prompts, TilePrompts
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.propagation.appearance import Appearance
from napari_sam.propagation.followed_tiles import MARGIN, encode_ahead, shared_tiles, with_margin
from napari_sam.propagation.follower import Followed, Sighting, last_passed
from napari_sam.propagation.object_window import ObjectWindow
from napari_sam.propagation.plane_stack import PlaneStack

# The box of the previous mask is extended by this share of its sides: objects move and grow.
BOX_MARGIN = 0.025
# Objects that are followed together: their windows are in memory, and the embeddings of their tiles.
AT_ONCE = 32
LOGIT_SCALE = 8.0
MOST_LOGIT = 16.0
# Planes that count as 1 in the distance to the accepted plane, and the largest one that the network is told. It has
# learned from short objects that most end farther away: discs that were found to 0.95 counted as gone after 30 planes.
DISTANCE_SCALE, MOST_DISTANCE = 16, 16
# Logarithm of the ratio of sizes up to which the accepted plane is compared without reading it again.
MOST_GROWTH = 0.1
# So many planes away, an object of which the logarithm of the extent has changed by so much is compared with a nearer
# plane: compared with the accepted one, a disc that had shrunk to half counted as gone after 600 planes.
FAR, MOST_CHANGE = 32, 0.3
# Before a plane, those where the object was found that following goes on from: its motion is seen in two.
RECENT_FOUND = 2
# Below this probability the object is not in the plane.
LEAST_PRESENCE = 0.7
# Below this confidence a mask is more likely another object than this one. At 0.25 organs of a CT are followed farther,
# but a spinal cord by 3 planes too far at both ends.
LEAST_CONFIDENCE = 0.4


@dataclass(slots=True)
class _State:
    """What is known of an object in one direction.

    Parameters
    ----------
    accepted_at
        The accepted plane that it was followed from.
    reference_at, reference_plane, reference
        The plane that it is compared with, and its mask there: the accepted one, or a nearer one; see `FAR`.
    plane, mask, tile
        The plane in which it was found last, the mask there, and the tile that it was decoded on.
    before
        The mask in the plane before that one.
    looks, reference_looks
        Its appearance there, and in the plane that it is compared with.
    template
        The window around it in that plane, with its pixels.
    trust
        Confidence of the mask in that plane; 1 for an accepted one.
    """

    accepted_at: int
    reference_at: int
    reference_plane: Plane
    reference: Mask
    plane: Plane
    mask: Mask
    before: Mask
    tile: Tile
    looks: Appearance
    reference_looks: Appearance
    template: tuple[ObjectWindow, NDArray[np.float32]] | None = None
    trust: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was seen of an object in the plane that it is followed into.

    Parameters
    ----------
    label
        The object.
    window, channels, scalars
        The input of the `MaskFuser`.
    tile
        The tile that it was decoded on.
    """

    label: int
    window: ObjectWindow
    channels: NDArray[np.float32]
    scalars: NDArray[np.float32]
    tile: Tile


@dataclass
class PromptFollower:
    """Follows objects with any model.

    The previous mask becomes prompts for the decoder: its box with the mask, once alone and once with its innermost
    point. A small network then decides on the mask from the answers, the earlier masks, the pixels of the planes, and
    the likeness of each cell to the object in the accepted and in the previous plane. The same network says how far
    the mask can be trusted, and whether the object is there at all.

    Parameters
    ----------
    encoder
        Gives the embeddings of tiles, and knows the model.
    fuser
        Decides on masks.
    direction
        1 towards higher positions, -1 towards lower ones.
    stack
        The planes; by it, the tiles of planes to come are encoded ahead in batches, where the model gains by that.
    """

    encoder: TileEncoder
    fuser: MaskFuser
    direction: int
    stack: PlaneStack | None = None
    _features: dict[tuple[Plane, Tile], NDArray[np.float32]] = field(default_factory=dict, init=False)
    _accepted: dict[int, dict[int, tuple[Plane, Mask]]] = field(default_factory=dict, init=False)
    _states: dict[int, _State] = field(default_factory=dict, init=False)

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        """Take the accepted masks of one plane; see `Follower`."""
        for label, mask in masks.items():
            self._accepted.setdefault(label, {})[at] = plane, mask

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Return what the objects look like in a plane; see `Follower`."""
        grid = self.encoder.grid(plane)
        self._begin(labels, at)
        own = {label: self._tile_of(self._states[label], grid) for label in labels}
        boxes = {label: self._states[label].mask.box for label in labels}
        tiles = shared_tiles(grid, own, boxes, self.encoder.predictor.object_range)
        # Objects on one tile after each other, so that its embedding stays in memory, whatever the number of objects.
        ordered = sorted(labels, key=lambda label: tiles[label].key)
        found: dict[int, Followed] = {}
        for start in range(0, len(ordered), AT_ONCE):
            some = ordered[start : start + AT_ONCE]
            encode_ahead(self.encoder, self.stack, at, self.direction, plane, [tiles[label] for label in some])
            found |= self._found({label: tiles[label] for label in some}, at, plane, grid)
        return found

    def _found(self, tiles: Mapping[int, Tile], at: int, plane: Plane, grid: TileGrid) -> dict[int, Followed]:
        """Return what some objects look like in a plane, each on a tile."""
        labels = list(tiles)
        seen = [each for label in labels if (each := self._seen(label, at, plane, grid, tiles[label])) is not None]
        found = {label: _missing(self._states[label].mask) for label in labels}
        if not seen:
            return found
        fused = self.fuser.fuse(np.stack([each.channels for each in seen]), np.stack([each.scalars for each in seen]))
        for i, each in enumerate(seen):
            presence, confidence = float(fused.presence[i]), float(fused.confidence[i])
            mask = each.window.mask(fused.logits[i], confidence)
            if presence < LEAST_PRESENCE or confidence < LEAST_CONFIDENCE or mask.area == 0:
                found[each.label] = replace(found[each.label], confidence=1 - presence)
                continue
            found[each.label] = self._trusted(self._states[each.label], mask, confidence)
            self.put_right(each.label, plane, mask, each.tile)
            self._compare_from(self._states[each.label], at)
        return found

    @property
    def identity(self) -> str:
        """What the answers depend on; see `ResumableFollower`."""
        # The number counts changes of the way to follow: answers of an earlier way are not gone on with.
        return f"prompts 2 {self.encoder.predictor.digest} {self.fuser.digest} {self.direction}"

    def basis(self, label: int, at: int) -> Sequence[int]:
        """Return the accepted plane that was passed last; see `ResumableFollower`."""
        return [last_passed(self._accepted[label], at, self.direction)]

    def go_on(self, label: int, at: int, recent: Sequence[Sighting]) -> None:
        """Go on from earlier answers; see `ResumableFollower`."""
        self._states.pop(label, None)
        self._begin([label], at)
        state = self._states[label]
        for one in recent:
            if (one.at - state.accepted_at) * self.direction > 0 and one.found.mask.area:
                self.put_right(label, one.plane, one.found.mask)
                self._compare_from(state, one.at)
                state.trust = one.found.confidence

    def needed(self, label: int, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Return the last planes with the object, and those that it was compared with; see `ResumableFollower`."""
        passed = last_passed(self._accepted[label], sightings[-1].at, self.direction)
        at, (_, mask) = passed, self._accepted[label][passed]
        found = [one for one in sightings if one.found.mask.area and (one.at - passed) * self.direction > 0]
        kept = set(found[-RECENT_FOUND:])
        for one in found:
            if _is_unlike(at, mask, one.at, one.found.mask):
                at, mask = one.at, one.found.mask
                kept.add(one)
        return [one for one in found if one in kept]

    @staticmethod
    def _compare_from(state: _State, at: int) -> None:
        """Compare with the plane that was followed last from now on, if the object has changed much on a long way."""
        if _is_unlike(state.reference_at, state.reference, at, state.mask):
            state.reference_at, state.reference_plane, state.reference = at, state.plane, state.mask
            state.reference_looks, state.template = state.looks, None

    @staticmethod
    def _trusted(state: _State, mask: Mask, confidence: float) -> Followed:
        """Return a mask with its confidence in view of the planes that it was followed through.

        The network judges one plane. A mask that goes on from a bad one is seldom good, so earlier planes count, each
        half as much as the one after it; that raised the rank correlation with the true IoU from 0.68 to 0.72.
        """
        trusted = float(np.sqrt(confidence * state.trust))
        state.trust = trusted
        return Followed(replace(mask, iou_prediction=trusted), trusted)

    def put_right(self, label: int, plane: Plane, mask: Mask, tile: Tile | None = None) -> None:
        """Go on from a mask of an object in a plane, on a tile that shows it."""
        state = self._states[label]
        if state.plane != plane:
            state.before = state.mask
        state.tile = self._tile(self.encoder.grid(plane), mask.box, state.tile) if tile is None else tile
        state.mask, state.plane = mask, plane
        state.looks = Appearance.of(self._features_of(plane, state.tile), state.tile, mask)

    def last_mask(self, label: int) -> Mask:
        """Return the mask of an object in the plane in which it was found last."""
        return self._states[label].mask

    def _seen(self, label: int, at: int, plane: Plane, grid: TileGrid, tile: Tile) -> Seen | None:
        """Return what is seen of an object in a plane on a tile, or None where the plane shows nothing at all."""
        state = self._states[label]
        window = ObjectWindow.around(grid, state.mask.box)
        pixels = self._pixels(window, plane)
        if pixels.min() == pixels.max():
            return None
        embedding, features = self.encoder.embedding(plane, tile), self._features_of(plane, tile)
        answers, scores = self._answers(embedding, tile, state.mask, grid.shape)
        own, template = self._template(state, window.span, grid)
        channels = np.concatenate(
            [
                np.stack([pixels, self._pixels(window, state.plane), template]),
                np.stack([window.coverage(state.mask), window.coverage(state.before), own.coverage(state.reference)]),
                window.sampled(tile, answers, -LOGIT_SCALE).clip(-MOST_LOGIT, MOST_LOGIT) / LOGIT_SCALE,
                window.sampled(
                    tile, np.stack([looks.likeness(features) for looks in (state.looks, state.reference_looks)]), 0
                ),
            ]
        )
        distance = min(abs(at - state.accepted_at), MOST_DISTANCE) / DISTANCE_SCALE
        return Seen(label, window, channels, np.array([*scores, distance], np.float32), tile)

    def _template(self, state: _State, span: float, grid: TileGrid) -> tuple[ObjectWindow, NDArray[np.float32]]:
        """Return the window in the plane that is compared with, of about the present size, and its pixels.

        That plane may be far behind: it is read again only where the object has grown or shrunk.
        """
        if state.template is None or abs(np.log(state.template[0].span / span)) > MOST_GROWTH:
            own = ObjectWindow.around(grid, state.reference.box, span)
            state.template = own, self._pixels(own, state.reference_plane)
        return state.template

    def _answers(
        self, embedding: Embedding, tile: Tile, mask: Mask, shape: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the decoder's answers, shape (4, cells, cells), and their predicted IoUs, shape (4,).

        These are the three to the box and the mask, the best one first, and the best one to these with a point.
        """
        box, bare = _extended(mask.box, shape), Mask(mask.box, mask.pixels)
        answers, scores = [], []
        for points in (np.zeros((0, 2)), innermost(mask)):
            prompts = Prompts(points, np.ones(len(points), bool), box)
            decoded = self.encoder.predictor.decode(embedding, TilePrompts.on(tile, prompts, bare))
            order = np.argsort(-decoded.iou_prediction)[: 3 if len(points) == 0 else 1]
            answers.append(decoded.logits[order])
            scores.append(decoded.iou_prediction[order])
        return np.concatenate(answers), np.concatenate(scores)

    def _begin(self, labels: Sequence[int], at: int) -> None:
        """Begin anew with the objects whose last accepted plane was passed since they were followed last."""
        beginning: dict[int, dict[int, Mask]] = {}
        planes: dict[int, Plane] = {}
        for label in labels:
            state, last = self._states.get(label), last_passed(self._accepted[label], at, self.direction)
            if state is None or state.accepted_at != last:
                planes[last], beginning.setdefault(last, {})[label] = self._accepted[label][last]
        for last, masks in beginning.items():
            grid, boxes = self.encoder.grid(planes[last]), {label: mask.box for label, mask in masks.items()}
            own = {label: self._tile(grid, box, None) for label, box in boxes.items()}
            tiles = shared_tiles(grid, own, boxes, self.encoder.predictor.object_range)
            for label in sorted(masks, key=lambda label: tiles[label].key):
                # Nothing of the planes before it, so that answers rest on this accepted plane.
                plane, mask, tile = planes[last], masks[label], tiles[label]
                looks = Appearance.of(self._features_of(plane, tile), tile, mask)
                self._states[label] = _State(last, last, plane, mask, plane, mask, mask, tile, looks, looks)

    def _features_of(self, plane: Plane, tile: Tile) -> NDArray[np.float32]:
        """Return the features of a tile; objects of one plane often share it."""
        known = self._features.get((plane, tile))
        if known is None:
            if len(self._features) >= AT_ONCE or any(other != plane for other, _ in self._features):
                self._features.clear()
            known = self._features[plane, tile] = self.fuser.features(self.encoder.embedding(plane, tile))
        return known

    def _tile_of(self, state: _State, grid: TileGrid) -> Tile:
        return self._tile(grid, state.mask.box, state.tile)

    def _tile(self, grid: TileGrid, box: Box, tile: Tile | None) -> Tile:
        """Return the tile for an object in a box: that of the previous plane as long as it suits."""
        predictor = self.encoder.predictor
        least, most = predictor.object_range
        extent = grid.extent(box)
        # At the edge of the tile the object would be cut, and what is cut never reaches beyond the edge.
        shown = with_margin(box, MARGIN * extent, grid.shape)
        if tile is not None and tile.read.contains(shown) and least < extent / grid.span(tile.level) < most:
            return tile
        return grid.tile_at(grid.level_for(extent, predictor.object_fraction), *box.center)

    def _pixels(self, window: ObjectWindow, plane: Plane) -> NDArray[np.float32]:
        return window.pixels(self.encoder.volume, plane, self.encoder.rendering)


def _is_unlike(at: int, mask: Mask, other_at: int, other: Mask) -> bool:
    """Return whether an object in one plane says little of it in another: they lie far apart, and it has changed."""
    sizes = [max(box.height, box.width) for box in (mask.box, other.box)]
    return abs(at - other_at) > FAR and abs(float(np.log(sizes[1] / sizes[0]))) > MOST_CHANGE


def _extended(box: Box, shape: tuple[int, int]) -> Box:
    rows, cols = box.height * BOX_MARGIN, box.width * BOX_MARGIN
    return Box(box.top - rows, box.left - cols, box.bottom + rows, box.right + cols).intersection(Box.of_shape(shape))


def _missing(mask: Mask) -> Followed:
    """Return that an object is not there."""
    top, left = mask.box.top, mask.box.left
    return Followed(Mask(Box(top, left, top, left), np.zeros((0, 0), bool)), 0.5)
