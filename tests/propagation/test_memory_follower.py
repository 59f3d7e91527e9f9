"""MemoryFollower with a model that remembers where an object was, in place of a network."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy import ndimage

from napari_sam.core.following.memory import MemoryAnswer, SeenObject
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, iou
from napari_sam.core.predictor import Embedding
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import ModelError
from napari_sam.images.volume import Volume
from napari_sam.propagation.memory_follower import MemoryFollower
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.testing import CountingArray, FakePredictor

SIDE, CELL, REACH = 64, 4, 3
BRIGHT, DARK = 200, 40


class OverlapMemory:
    """Remembers the last place of an object on a tile, and finds the bright region that lies there."""

    reach = REACH

    def __init__(self, accepted: Mapping[int, Callable[[], SeenObject]], reverse: bool) -> None:
        self.accepted, self.reverse = accepted, reverse
        self.places: dict[int, np.ndarray] = {}
        self.recalled: list[int] = []

    def recall(self, at: int, seen: SeenObject) -> None:
        self.recalled.append(at)
        self.places[at] = seen[1] > 0.5

    def follow(self, at: int, embedding: Embedding) -> MemoryAnswer:
        known = {**{position: seen()[1] > 0.5 for position, seen in self.accepted.items()}, **self.places}
        assert any(place.any() for place in known.values()), "a memory of nothing"
        behind = {p: place for p, place in known.items() if (p > at if self.reverse else p < at) and place.any()}
        last = min(behind or known, key=lambda position: abs(position - at))
        regions, _ = ndimage.label(embedding.tensors[0][0].float().mean(0).numpy() > (BRIGHT + DARK) / 2)
        numbers = np.unique(regions[ndimage.binary_dilation(known[last], iterations=4)])
        found = np.isin(regions, numbers[numbers > 0])
        self.places[at] = found
        cells = found.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean((1, 3))
        return MemoryAnswer((16 * (cells - 0.5)).astype(np.float32), 0.8, 0.9 if found.any() else 0.25)


class RememberingPredictor(FakePredictor):
    """The fake model with a memory for each object and tile, which it notes."""

    has_memory = True

    def __init__(self) -> None:
        super().__init__()
        self.memories: list[OverlapMemory] = []

    def memory(self, accepted: Mapping[int, Callable[[], SeenObject]], *, planes: int, reverse: bool) -> OverlapMemory:
        self.memories.append(OverlapMemory(accepted, reverse))
        return self.memories[-1]


class Scene:
    """A volume of noise with one bright disc that moves and grows; `there` says in which planes it is."""

    def __init__(self, planes: int, side: int, disc: Callable[[int], tuple[float, float, float]], there=None) -> None:
        rows, cols = np.mgrid[:side, :side]
        self.truth = np.zeros((planes, side, side), bool)
        for at in range(planes) if there is None else there:
            row, col, radius = disc(at)
            self.truth[at] = (rows - row) ** 2 + (cols - col) ** 2 < radius**2
        noise = np.random.default_rng(0).integers(0, 30, self.truth.shape)
        self.array = CountingArray(np.where(self.truth, BRIGHT, DARK).astype(np.uint8) + noise.astype(np.uint8))
        self.volume = Volume.of(self.array)
        self.predictor = RememberingPredictor()
        self.encoder = TileEncoder(self.volume, self.predictor, lambda: self.volume.rendering((0, 255)))

    def plane(self, at: int) -> Plane:
        return Plane.of(self.truth.shape, at)

    def mask(self, at: int) -> Mask:
        return Mask(Box.of_shape(self.truth.shape[1:]), self.truth[at])

    def follower(self, accepted, direction: int = 1) -> MemoryFollower:
        follower = MemoryFollower(self.encoder, planes=len(self.truth), reverse=direction < 0)
        for at in accepted:
            follower.remember(at, self.plane(at), {7: self.mask(at)})
        return follower

    def iou(self, at: int, mask: Mask) -> float:
        return iou(mask.to_array(self.truth.shape[1:]), self.truth[at])


@pytest.mark.parametrize("direction", [1, -1])
def test_a_tile_follows_an_object_over_tiles_and_levels_and_each_is_encoded_once(direction):
    order = range(40) if direction == 1 else range(39, -1, -1)
    scene = Scene(40, 256, lambda at: (50 + 4 * order.index(at), 60 + 3.5 * order.index(at), 9 + order.index(at)))
    follower = scene.follower([order[0]], direction)
    tiles = set()
    for at in order[1:]:
        found = follower.follow(at, scene.plane(at), [7])[7]
        assert scene.iou(at, found.mask) > 0.8
        assert found.mask.iou_prediction == found.confidence == pytest.approx(0.8 * 0.9)
        tiles.add(found.mask.tile)
    assert len({tile.level for tile in tiles}) >= 2
    assert len(tiles) >= 5
    encoded = [tile.tobytes() for tile in scene.predictor.encoded]
    assert len(set(encoded)) == len(encoded)
    # A new tile is remembered from the last planes, and not from all.
    assert all(len(memory.recalled) <= REACH for memory in scene.predictor.memories)
    assert sum(len(memory.recalled) >= REACH - 1 for memory in scene.predictor.memories) >= 3


def test_a_tile_stays_while_it_shows_all_of_the_object():
    scene = Scene(12, 256, lambda at: (120 + at, 120, 12))
    follower = scene.follower([0])
    tiles = {follower.follow(at, scene.plane(at), [7])[7].mask.tile for at in range(1, 12)}
    assert len(tiles) == len(scene.predictor.memories) == 1
    assert len(scene.predictor.encoded) == 12


def test_accepted_planes_ahead_and_behind_are_in_the_memory_and_those_on_other_tiles_are_not():
    scene = Scene(30, 256, lambda at: (30 + 7 * at, 128, 8))
    follower = scene.follower([0, 3, 29])
    follower.follow(1, scene.plane(1), [7])
    assert set(scene.predictor.memories[0].accepted) == {0, 3}


def test_an_object_that_is_not_in_a_plane_is_empty_and_found_again_behind_the_gap():
    scene = Scene(10, 128, lambda at: (60, 60, 10), there=[0, 1, 2, 6, 7, 8, 9])
    follower = scene.follower([0])
    found = {at: follower.follow(at, scene.plane(at), [7])[7] for at in range(1, 10)}
    for at in (3, 4, 5):
        assert found[at].mask.area == 0
        assert found[at].mask.iou_prediction == found[at].confidence == pytest.approx(0.75)
    assert min(scene.iou(at, found[at].mask) for at in (1, 2, 6, 7, 8, 9)) > 0.8


def test_a_memory_begins_anew_from_a_corrected_plane_that_it_meets():
    # In plane 4 the object jumps to where the tile does not reach: only the user can know.
    scene = Scene(9, 256, lambda at: (40, 40, 8) if at < 4 else (200, 200, 8))
    follower = scene.follower([0, 4])
    found = {at: follower.follow(at, scene.plane(at), [7])[7] for at in (1, 2, 3, 5, 6, 7, 8)}
    assert min(scene.iou(at, one.mask) for at, one in found.items()) > 0.8


def test_of_followed_planes_only_the_last_masks_are_held():
    scene = Scene(30, 128, lambda at: (40 + at, 60, 10))
    follower = scene.follower([0])
    pixels = [weakref.ref(follower.follow(at, scene.plane(at), [7])[7].mask.pixels) for at in range(1, 30)]
    assert sum(array() is not None for array in pixels) <= REACH + 1


def test_the_memory_of_an_object_that_has_ended_is_freed():
    scene = Scene(6, 128, lambda at: (60, 60, 10))
    follower = scene.follower([0])
    follower.remember(0, scene.plane(0), {8: scene.mask(0)})
    follower.follow(1, scene.plane(1), [7, 8])
    memories = [weakref.ref(memory) for memory in scene.predictor.memories]
    scene.predictor.memories.clear()
    assert all(memory() is not None for memory in memories)
    follower.follow(2, scene.plane(2), [7])
    assert sum(memory() is not None for memory in memories) == 1


def test_many_objects_of_a_plane_share_its_encoded_tiles():
    scene = Scene(3, 128, lambda at: (60, 60, 10))
    follower = MemoryFollower(scene.encoder, planes=3, reverse=False)
    follower.remember(0, scene.plane(0), {label: scene.mask(0) for label in range(1, 201)})
    for at in (1, 2):
        assert len(follower.follow(at, scene.plane(at), range(1, 201))) == 200
    assert len(scene.predictor.encoded) == 3


def test_where_batches_pay_the_tiles_of_planes_to_come_are_encoded_with_those_of_the_plane():
    scene = Scene(9, 128, lambda at: (60, 60, 10))
    scene.predictor.batch = 4
    calls: list[int] = []
    encode = scene.predictor.encode
    scene.predictor.encode = lambda tiles: calls.append(len(tiles)) or encode(tiles)
    stack = PlaneStack.of(scene.truth.shape, scene.plane(0), 0)
    follower = MemoryFollower(scene.encoder, planes=9, reverse=False, stack=stack)
    follower.remember(0, scene.plane(0), {7: scene.mask(0)})
    for at in range(1, 9):
        assert scene.iou(at, follower.follow(at, scene.plane(at), [7])[7].mask) > 0.8
    assert sorted(calls) == [1, 4, 4]


def test_a_model_without_memory_is_refused_in_one_sentence():
    scene = Scene(2, 64, lambda at: (30, 30, 10))
    scene.predictor.has_memory = False
    with pytest.raises(ModelError, match="single images"):
        MemoryFollower(scene.encoder, planes=2, reverse=False)
    scene.encoder.predictor = FakePredictor()
    with pytest.raises(ModelError, match="fake has no memory"):
        MemoryFollower(scene.encoder, planes=2, reverse=False)
