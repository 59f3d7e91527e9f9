"""Following: follow objects through the planes of stacks, each object by a worker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from napari_sam.core.masks import Mask
from napari_sam.distributed.job import Runner
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.propagation.follower import Followed, ResumableFollower
from napari_sam.propagation.memory_follower import MemoryFollower
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.prompt_follower import PromptFollower
from napari_sam.propagation.propagation import Propagation, PropagationStep

# The accepted masks of objects, by label and by position along the axis of a stack.
Accepted = Mapping[int, Mapping[int, Mask]]


@dataclass(frozen=True, slots=True, eq=False)
class FollowedObject:
    """An object to follow.

    Parameters
    ----------
    number
        Number of the stack.
    stack
        The planes.
    label
        Label of the object.
    accepted
        Its accepted masks, by position along the axis.
    """

    number: int
    stack: PlaneStack
    label: int
    accepted: Mapping[int, Mask]


class Following:
    """Follows one object after the other.

    Parameters
    ----------
    encoder
        Encoder of the image.
    patience, engine
        As in `Segmenter.propagate`.
    """

    def __init__(self, encoder: TileEncoder, patience: int, engine: str) -> None:
        self._encoder, self._patience, self._engine = encoder, patience, engine

    def do(self, item: FollowedObject, *, again: bool = False) -> list[PropagationStep]:
        """Follow an object through its stack."""
        make_follower = partial(follower_of, self._encoder, item.stack, engine=self._engine)
        steps = Propagation(item.stack, {item.label: item.accepted}, make_follower, self._patience).run()
        return [replace(step, followed=_bare(step.followed)) for step in steps]


@dataclass(frozen=True, slots=True)
class FollowingPlan:
    """An image whose objects are followed.

    Parameters
    ----------
    image
        The image with its model.
    patience, engine
        As in `Segmenter.propagate`.
    """

    image: SharedImage
    patience: int
    engine: str

    def open(self) -> Following:
        """Open image and model.

        Raises
        ------
        ImageError, ModelError
            There is no such image or model here, or it is another one.
        """
        return Following(self.image.open(), self.patience, self.engine)


def follower_of(encoder: TileEncoder, stack: PlaneStack, direction: int, engine: str) -> ResumableFollower:
    """Return what follows objects through a stack: 1 towards higher positions, -1 towards lower ones.

    Raises
    ------
    ModelError
        The engine is "memory", and the model has none.
    """
    if engine == "memory" or (engine == "auto" and getattr(encoder.predictor, "has_memory", False)):
        planes = encoder.volume.shape[stack.axis]
        return MemoryFollower(encoder, planes=planes, reverse=direction < 0, stack=stack)
    from napari_sam.models.fusion import load_fuser

    return PromptFollower(encoder, load_fuser(getattr(encoder.predictor, "device", "cpu")), direction, stack)


def followed_on(
    runner: Runner[FollowedObject, list[PropagationStep]], stacks: Sequence[tuple[PlaneStack, Accepted]]
) -> Iterator[tuple[int, list[PropagationStep]]]:
    """Follow the objects of several stacks on workers.

    Yields
    ------
    number : int
        Number of a stack.
    steps : list of PropagationStep
        What was found of all its objects, plane by plane; after the last one of them was followed.
    """
    left = [len(accepted) for _, accepted in stacks]
    found: list[dict[int, list[PropagationStep]]] = [{} for _ in stacks]
    jobs = (
        FollowedObject(number, stack, label, masks)
        for number, (stack, accepted) in enumerate(stacks)
        for label, masks in accepted.items()
    )
    for job, steps in runner.run(jobs):
        found[job.number][job.label] = steps
        left[job.number] -= 1
        if not left[job.number]:
            yield job.number, _together(found[job.number], stacks[job.number][1])
            found[job.number].clear()


def _together(found: Mapping[int, Sequence[PropagationStep]], order: Accepted) -> list[PropagationStep]:
    """Return the steps of several objects as those of one propagation."""
    planes: dict[tuple[int, int], list[PropagationStep]] = {}
    for label in order:
        for step in found[label]:
            planes.setdefault((-step.direction, step.at * step.direction), []).append(step)
    steps = []
    for done, key in enumerate(sorted(planes), 1):
        parts = planes[key]
        followed = {label: one for part in parts for label, one in part.followed.items()}
        active = tuple(label for part in parts for label in part.active)
        steps.append(PropagationStep(parts[0].at, parts[0].direction, done, len(planes), followed, active))
    return steps


def _bare(followed: Mapping[int, Followed]) -> dict[int, Followed]:
    """Return what was followed without the logits, which are many times as large as the masks."""
    return {
        label: replace(found, mask=replace(found.mask, low_res_logits=None, tile=None))
        for label, found in followed.items()
    }
