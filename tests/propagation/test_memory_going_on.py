"""The memory engine with a small SAM 2 of random weights: going on after a run that was stopped, or a correction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from tests.models.small_sam2 import SIDE, small_sam2

from napari_sam.core.following.memory import MemoryAnswer, SeenObject
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Embedding
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.images.volume import Volume
from napari_sam.models.sam2.memory import MemoryNetwork, Sam2Memory
from napari_sam.propagation.memory_follower import MemoryFollower
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.propagation import Propagation
from napari_sam.propagation.recording.answer_store import AnswerStore
from napari_sam.propagation.recording.recorded_follower import RecordedFollower
from napari_sam.testing import FakePredictor

pytest.importorskip("transformers", reason="pip install transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

PLANES, LABEL = 12, 7


class NotedMemory(Sam2Memory):
    """Notes the logits of each plane, in the order in which the planes were asked for."""

    def __init__(self, logits: dict[int, np.ndarray], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._noted = logits

    def follow(self, at: int, embedding: Embedding) -> MemoryAnswer:
        answer = super().follow(at, embedding)
        self._noted[at] = answer.logits
        return answer


class SmallSam2(FakePredictor):
    """Encodes by the small network, and remembers by it."""

    has_memory = True
    object_range = (0.01, 1.0)  # One tile all along.

    def __init__(self, network: Any) -> None:
        super().__init__()
        self._network, self.logits = network, {}

    @torch.inference_mode()
    def encode(self, tiles: np.ndarray) -> list[Embedding]:
        pixels = torch.from_numpy(tiles).permute(0, 3, 1, 2).float() / 64 - 2
        return [Embedding(tuple(self._network.get_image_embeddings(one[None])[::-1])) for one in pixels]

    def memory(self, accepted: Mapping[int, Callable[[], SeenObject]], *, planes: int, reverse: bool) -> Sam2Memory:
        return NotedMemory(self.logits, MemoryNetwork(self._network), accepted, planes=planes, reverse=reverse)


class Run:
    """Propagations of one object through a volume of noise, with one store of answers."""

    def __init__(self, network: Any) -> None:
        pixels = np.random.default_rng(2).integers(0, 255, (PLANES, SIDE, SIDE), np.uint8)
        self.volume = Volume.of(pixels)
        self.predictor = SmallSam2(network)
        self.encoder = TileEncoder(self.volume, self.predictor, lambda: self.volume.rendering((0, 255)))
        self.stack = PlaneStack.of(pixels.shape, Plane.of(pixels.shape, 0), 0)
        self.store = AnswerStore()

    def follow(self, accepted: Mapping[int, Mask], planes: int | None = None) -> dict[tuple[int, int], np.ndarray]:
        """Follow the object as far as a number of planes; return the logits that the network gave, by plane."""
        self.predictor.logits.clear()

        def follower(direction: int) -> RecordedFollower:
            memory = MemoryFollower(self.encoder, planes=PLANES, reverse=direction < 0)
            return RecordedFollower(memory, self.store, {})

        # Patient, since the object comes and goes.
        steps = Propagation(self.stack, {LABEL: accepted}, follower, patience=PLANES).run()
        self.found = {}
        for step in steps:
            if LABEL in step.followed:
                self.found[step.at] = step.followed[LABEL].mask.to_array((SIDE, SIDE))
            if planes is not None and step.done >= planes:
                steps.close()
                break
        return dict(self.predictor.logits)


@pytest.fixture(scope="module")
def network() -> Any:
    return small_sam2()


def square(top: int, left: int) -> Mask:
    return Mask(Box(top, left, top + 20, left + 20), np.ones((20, 20), bool))


def test_a_run_that_was_stopped_asks_only_for_the_planes_left_and_remembers_those_before(network: Any) -> None:
    accepted, stopped = {0: square(10, 10)}, 5
    run, whole, anew = Run(network), Run(network), Run(network)
    run.follow(accepted, planes=stopped)
    before = run.found
    rest = run.follow(accepted)
    assert min(rest) == stopped + 1
    for at, mask in before.items():
        np.testing.assert_array_equal(run.found[at], mask)
    expected = whole.follow(accepted)
    first = stopped + 1
    assert set(rest) == {at for at in expected if at >= first}
    # Masks are remembered in place of logits, so the answer is not the same; without them it would be farther off.
    memory = MemoryFollower(anew.encoder, planes=PLANES, reverse=False)
    memory.remember(0, anew.stack.at(0), {LABEL: accepted[0]})
    memory.follow(first, anew.stack.at(first), [LABEL])
    forgetful = anew.predictor.logits[first]
    assert np.abs(rest[first] - expected[first]).mean() < np.abs(forgetful - expected[first]).mean() / 2


def test_after_a_correction_only_the_planes_up_to_the_next_accepted_ones_are_asked_for(network: Any) -> None:
    accepted = {0: square(10, 10), 8: square(30, 30)}
    run = Run(network)
    run.follow(accepted)
    before = run.found
    corrected = accepted | {4: square(20, 12)}
    asked = run.follow(corrected)
    # Between the correction and its neighbors, which have another accepted plane at one side now.
    assert set(asked) == {1, 2, 3, 5, 6, 7}
    assert not {0, 4, 8} & set(run.found), "accepted planes are not changed"
    for at in range(9, PLANES):
        if at in before:
            np.testing.assert_array_equal(run.found[at], before[at])
    assert run.follow(corrected) == {}


def test_what_was_found_before_a_stop_stays_however_often_a_run_is_stopped(network: Any) -> None:
    accepted = {0: square(10, 10)}
    run = Run(network)
    found: dict[int, np.ndarray] = {}
    asked: list[int] = []
    for planes in (1, 2, 4, None):
        asked += run.follow(accepted, planes=planes)
        for at, mask in found.items():
            np.testing.assert_array_equal(run.found[at], mask)
        found = run.found
    assert asked == list(range(1, PLANES)), "each plane is asked for once"
