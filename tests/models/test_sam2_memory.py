"""SAM 2's memory against the video loop of the transformers library, and its weights against the official ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from tests.models.small_sam2 import SIDE, small_sam2

from napari_sam.core.following.memory import SeenObject
from napari_sam.core.predictor import Embedding
from napari_sam.models.sam2.memory import MemoryNetwork, Sam2Memory

pytest.importorskip("transformers", reason="pip install transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

PLANES = 12

Masks = dict[int, np.ndarray]


@pytest.fixture(scope="module")
def network() -> Any:
    return small_sam2()


@pytest.fixture(scope="module")
def video() -> torch.Tensor:
    return torch.randn(PLANES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[top : top + side, left : left + side] = 1
    return mask


class Answers(NamedTuple):
    """Logits and presence of each followed plane."""

    logits: dict[int, np.ndarray]
    presence: dict[int, float]


def of_the_library(network: Any, video: torch.Tensor, objects: Sequence[Masks], *, reverse: bool) -> list[Answers]:
    """Follow objects that are accepted on the same planes by the library's own loop, and leave these planes out."""
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    session = Sam2VideoInferenceSession(video, SIDE, SIDE, dtype=torch.float32)
    planes = sorted(objects[0])
    for plane in planes:
        for number, masks in enumerate(objects):
            session.add_mask_inputs(session.obj_id_to_idx(number), plane, torch.from_numpy(masks[plane])[None, None])
        session.obj_with_new_inputs = list(range(len(objects)))
        network(session, frame_idx=plane)
    found = [Answers({}, {}) for _ in objects]
    first = planes[-1] if reverse else planes[0]
    for frame in network.propagate_in_video_iterator(session, start_frame_idx=first, reverse=reverse):
        for number, answers in enumerate(found):
            if frame.frame_idx not in planes:
                answers.logits[frame.frame_idx] = frame.pred_masks[number, 0].numpy()
                answers.presence[frame.frame_idx] = float(frame.object_score_logits[number].sigmoid())
    return found


def ours(network: Any, video: torch.Tensor, masks: Masks, *, reverse: bool) -> Answers:
    """Follow one object by our memory through the same planes."""
    encoded = embeddings_of(network, video)
    memory = Sam2Memory(MemoryNetwork(network), accepted_by(encoded, masks), planes=PLANES, reverse=reverse)
    planes = range(max(masks) - 1, -1, -1) if reverse else range(min(masks) + 1, PLANES)
    found = {at: memory.follow(at, encoded[at]) for at in planes if at not in masks}
    return Answers(
        {at: answer.logits for at, answer in found.items()}, {at: answer.presence for at, answer in found.items()}
    )


@torch.inference_mode()
def embeddings_of(network: Any, video: torch.Tensor) -> list[Embedding]:
    """What `Sam2Predictor` keeps of tiles, before it is rounded."""
    return [Embedding(tuple(network.get_image_embeddings(frame[None])[::-1])) for frame in video]


def accepted_by(encoded: Sequence[Embedding], masks: Masks) -> dict[int, Callable[[], SeenObject]]:
    def seen(at: int) -> SeenObject:
        return encoded[at], masks[at]

    return {at: partial(seen, at) for at in masks}


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("planes", [(5,), (2, 8), (0, 1, 6, 11)], ids=str)
def test_objects_are_followed_as_by_the_librarys_own_loop(network: Any, video: Any, planes: Any, reverse: bool) -> None:
    objects = [{at: square(2 * at, 3 * at + left) for at in planes} for left in (0, 10)]
    expected = of_the_library(network, video, objects, reverse=reverse)
    for masks, theirs in zip(objects, expected, strict=True):
        found = ours(network, video, masks, reverse=reverse)
        assert found.logits.keys() == theirs.logits.keys()
        for at, logits in theirs.logits.items():
            np.testing.assert_allclose(found.logits[at], logits, atol=1e-3)
            assert found.presence[at] == pytest.approx(theirs.presence[at], abs=1e-3)


def test_what_is_compared_shows_the_object_and_does_not_and_depends_on_the_masks(network: Any, video: Any) -> None:
    objects = [{at: square(2 * at, 3 * at + left) for at in (0, 1, 6, 11)} for left in (0, 10)]
    one, other = of_the_library(network, video, objects, reverse=True)
    both = [at for at in one.logits if min(one.presence[at], other.presence[at]) > 0.5]
    assert min(one.presence.values()) < 0.5
    assert (one.logits[min(one.presence, key=lambda at: one.presence[at])] < 0).all()
    assert max(np.abs(one.logits[at] - other.logits[at]).max() for at in both) > 0.05


def test_of_many_accepted_planes_the_closest_ones_are_asked_for(network: Any, video: Any) -> None:
    encoded = embeddings_of(network, video)
    masks = {at: square(10, 10) for at in range(0, PLANES, 2)}
    asked: list[int] = []

    def seen(at: int) -> SeenObject:
        asked.append(at)
        return encoded[at], masks[at]

    most = network.config.max_cond_frame_num
    network.config.max_cond_frame_num = 2
    try:
        memory = Sam2Memory(
            MemoryNetwork(network), {at: partial(seen, at) for at in masks}, planes=PLANES, reverse=False
        )
        memory.follow(1, encoded[1])
        assert asked == [0, 2]
        memory.follow(7, encoded[7])
        # Also those among the last six planes, as the library does it; each once.
        assert sorted(asked) == [0, 2, 4, 6, 8]
    finally:
        network.config.max_cond_frame_num = most


def test_memory_does_not_grow_with_the_number_of_planes(network: Any, video: Any) -> None:
    encoded = embeddings_of(network, video)
    count = 36
    accepted = {at: partial(lambda at: (encoded[at % PLANES], square(10, 10)), at) for at in range(0, count, 10)}
    memory = Sam2Memory(MemoryNetwork(network), accepted, planes=count, reverse=False)
    sizes = []
    network.config.max_cond_frame_num = 4
    try:
        for at in range(1, count):
            if at not in accepted:
                memory.follow(at, encoded[at % PLANES])
                sizes.append(memory.nbytes)
    finally:
        network.config.max_cond_frame_num = -1
    # 4 x 4 cells of 64 channels in bfloat16 of the last planes and the accepted ones, and pointers of 256 numbers.
    assert max(sizes) <= (memory.reach + 1 + 4) * 16 * 64 * 2 + (15 + 4) * 256 * 4
    assert max(sizes[-10:]) <= max(sizes[:-10])


def test_what_was_followed_before_is_remembered_from_its_masks(network: Any, video: Any) -> None:
    encoded = embeddings_of(network, video)
    masks = {0: square(10, 10)}

    def after(*recalled: tuple[int, np.ndarray]) -> np.ndarray:
        memory = Sam2Memory(MemoryNetwork(network), accepted_by(encoded, masks), planes=PLANES, reverse=False)
        for at, mask in recalled:
            memory.recall(at, (encoded[at], mask))
        return memory.follow(4, encoded[4]).logits

    nothing, here, there, gone = (
        after(),
        *(after((3, mask)) for mask in (square(10, 10), square(40, 40), square(0, 0, 0))),
    )
    for one, other in ((nothing, here), (here, there), (here, gone)):
        assert np.abs(one - other).max() > 0.02
    # Too long ago for the features, and for the object pointer as well.
    memory = Sam2Memory(MemoryNetwork(network), accepted_by(encoded, masks), planes=99, reverse=False)
    memory.recall(1, (encoded[1], square(40, 40)))
    fresh = Sam2Memory(MemoryNetwork(network), accepted_by(encoded, masks), planes=99, reverse=False)
    np.testing.assert_array_equal(memory.follow(20, encoded[4]).logits, fresh.follow(20, encoded[4]).logits)
