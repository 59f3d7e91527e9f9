"""Propagation: follow objects from their accepted planes both ways, plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from napari_sam.core.masks import Mask
from napari_sam.journal.packing.arrays import pack_bits, unpack_bits
from napari_sam.propagation.follower import Followed, Follower
from napari_sam.propagation.meeting import met
from napari_sam.propagation.plane_stack import PlaneStack

# An object that is not found in as many planes in a row has ended.
PATIENCE = 2


@dataclass(frozen=True, slots=True)
class PropagationStep:
    """What is known after one plane of one direction.

    Parameters
    ----------
    at
        Position of the plane along the axis.
    direction
        1 towards higher positions, -1 towards lower ones.
    done, total
        Number of planes that were visited, and that are to be visited at most, in both directions together.
    followed
        The objects of the plane whose masks are final, by label. Between two accepted planes the masks are final when
        both sides have reached the plane.
    active
        Labels of the objects that are still followed in this direction.
    """

    at: int
    direction: int
    done: int
    total: int
    followed: Mapping[int, Followed]
    active: tuple[int, ...]


@dataclass(slots=True)
class _Path:
    """The way of one object in one direction.

    Parameters
    ----------
    accepted
        Positions of its accepted planes.
    missing
        Number of planes in a row in which it was not found.
    has_begun, has_ended
        Whether an accepted plane was passed, and whether the object has ended since.
    """

    accepted: frozenset[int]
    missing: int = 0
    has_begun: bool = False
    has_ended: bool = False


class _Packed(NamedTuple):
    """An answer that waits for the other side, in an eighth of its memory."""

    mask: Mask
    bits: str
    confidence: float

    @classmethod
    def of(cls, found: Followed) -> _Packed:
        mask = found.mask
        bare = Mask(mask.box, mask.pixels[:0], mask.iou_prediction, mask.stability_score)
        return cls(bare, pack_bits(mask.pixels), found.confidence)

    def unpacked(self) -> Followed:
        mask = self.mask
        pixels = unpack_bits(self.bits, mask.box.pixel_shape)
        return Followed(Mask(mask.box, pixels, mask.iou_prediction, mask.stability_score), self.confidence)


@dataclass
class Propagation:
    """Follows objects from their accepted planes through the other planes of a stack.

    Accepted planes are never changed, and all of them count: between two of them the answers of both sides meet.
    Planes are visited one after the other, first towards higher positions and then towards lower ones. The memory
    that is needed does not grow with their number, but for the planes between accepted ones.

    Parameters
    ----------
    stack
        The planes.
    accepted
        The accepted masks of each object, by label and by position along the axis.
    make_follower
        Returns a fresh follower for a direction: 1 towards higher positions, -1 towards lower ones.
    patience
        An object that is not found in as many planes in a row has ended. Beyond them it is not looked for.
    """

    stack: PlaneStack
    accepted: Mapping[int, Mapping[int, Mask]]
    make_follower: Callable[[int], Follower]
    patience: int = PATIENCE
    _waiting: dict[tuple[int, int], _Packed | None] = field(default_factory=dict, init=False)
    _done: int = field(default=0, init=False)

    def run(self) -> Iterator[PropagationStep]:
        """Yield the masks plane by plane; close the iterator to stop.

        Raises
        ------
        ImageError
            A plane cannot be read.
        """
        ways = [(direction, self._positions(direction)) for direction in (1, -1)]
        total = sum(len(positions) for _, positions in ways)
        for direction, positions in ways:
            yield from self._one_way(direction, positions, total)

    def _positions(self, direction: int) -> range:
        """Return the positions that may have to be visited in one direction."""
        seen = [at for masks in self.accepted.values() for at in masks]
        if not seen:
            return range(0)
        if direction > 0:
            return range(max(min(seen) + 1, self.stack.first), self.stack.last + 1)
        return range(min(max(seen) - 1, self.stack.last), self.stack.first - 1, -1)

    def _one_way(self, direction: int, positions: range, total: int) -> Iterator[PropagationStep]:
        follower = self.make_follower(direction)
        paths = {label: _Path(frozenset(masks)) for label, masks in self.accepted.items()}
        for at in sorted({at for masks in self.accepted.values() for at in masks}, reverse=direction < 0):
            there = {label: masks[at] for label, masks in self.accepted.items() if at in masks}
            follower.remember(at, self.stack.at(at), there)
        for path in paths.values():
            # Of planes before the first one that is visited.
            path.has_begun = any((positions.start - at) * direction > 0 for at in path.accepted) if positions else False
        for at in positions:
            active = self._active(paths, at, direction)
            found = follower.follow(at, self.stack.at(at), active) if active else {}
            followed = {}
            for label in active:
                final = self._told(paths[label], label, at, direction, found.get(label))
                if final is not None:
                    followed[label] = final
            self._done += 1
            yield PropagationStep(at, direction, self._done, total, followed, tuple(active))
            if not active and all(path.has_ended or not self._goes_on(path, at, direction) for path in paths.values()):
                self._done += abs(positions.stop - at) - 1
                return

    def _active(self, paths: Mapping[int, _Path], at: int, direction: int) -> list[int]:
        """Return the objects that are followed into a plane; those that are accepted there begin anew."""
        active = []
        for label, path in paths.items():
            if at in path.accepted:
                path.has_begun, path.has_ended, path.missing = True, False, 0
            elif path.has_begun and not path.has_ended:
                active.append(label)
        return active

    def _told(self, path: _Path, label: int, at: int, direction: int, found: Followed | None) -> Followed | None:
        """Take the answer for one object; return what is final in this plane, or None."""
        is_missing = found is None or found.mask.area == 0
        path.missing = path.missing + 1 if is_missing else 0
        is_between = any((other - at) * direction > 0 for other in path.accepted)
        # It goes on behind a gap where an accepted plane says so.
        path.has_ended = path.missing >= self.patience and not is_between
        if not is_between:
            return None if is_missing else found
        key = label, at
        if direction > 0:
            self._waiting[key] = None if found is None or is_missing else _Packed.of(found)
            return None
        earlier = self._waiting.pop(key, None)
        before, after = (max(o for o in path.accepted if o < at), min(o for o in path.accepted if o > at))
        share = (at - before) / (after - before)
        return met(None if earlier is None else earlier.unpacked(), None if is_missing else found, share)

    @staticmethod
    def _goes_on(path: _Path, at: int, direction: int) -> bool:
        """Return whether an accepted plane is still to come."""
        return any((other - at) * direction > 0 for other in path.accepted)
