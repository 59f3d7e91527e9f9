"""Propagation: follow objects from their accepted planes both ways, plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self

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
    accepted, absent
        Positions of its accepted planes, and of those in which it was accepted that the object is not there.
    missing
        Number of planes in a row in which it was not found.
    has_begun, has_ended
        Whether an accepted plane was passed, and whether the object has ended since.
    """

    accepted: frozenset[int]
    absent: frozenset[int] = frozenset()
    missing: int = 0
    has_begun: bool = False
    has_ended: bool = False

    @classmethod
    def of(cls, masks: Mapping[int, Mask]) -> Self:
        """Return the way of an object with these accepted masks."""
        there = frozenset(at for at, mask in masks.items() if mask.area)
        return cls(there, frozenset(masks) - there)

    def next_known(self, at: int, direction: int) -> int | None:
        """Return the next accepted plane in a direction where the object is; None if it is absent there or none is."""
        ahead = [other for other in self.accepted | self.absent if (other - at) * direction > 0]
        nearest = min(ahead, key=lambda other: other * direction, default=None)
        return nearest if nearest in self.accepted else None


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
        The accepted masks of each object, by label and by position along the axis. An empty mask says that the object
        is not in that plane: it is not followed beyond.
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
        seen = [at for masks in self.accepted.values() for at, mask in masks.items() if mask.area]
        if not seen:
            return range(0)
        if direction > 0:
            return range(max(min(seen) + 1, self.stack.first), self.stack.last + 1)
        return range(min(max(seen) - 1, self.stack.last), self.stack.first - 1, -1)

    def _one_way(self, direction: int, positions: range, total: int) -> Iterator[PropagationStep]:
        follower = self.make_follower(direction)
        paths = {label: _Path.of(masks) for label, masks in self.accepted.items()}
        for at in sorted({at for path in paths.values() for at in path.accepted}, reverse=direction < 0):
            there = {label: self.accepted[label][at] for label, path in paths.items() if at in path.accepted}
            follower.remember(at, self.stack.at(at), there)
        for path in paths.values():
            # Of planes before the first one that is visited.
            path.has_begun = any((positions.start - at) * direction > 0 for at in path.accepted) if positions else False
        for at in positions:
            active = self._active(paths, at, direction)
            found = follower.follow(at, self.stack.at(at), active) if active else {}
            followed = {}
            for label in active:
                final = self._final(paths[label], label, at, direction, found.get(label))
                if final is not None:
                    followed[label] = final
            self._done += 1
            yield PropagationStep(at, direction, self._done, total, followed, tuple(active))
            if not any(self._goes_on(path, at, direction) for path in paths.values()):
                self._done += abs(positions.stop - at) - 1
                return

    @staticmethod
    def _goes_on(path: _Path, at: int, direction: int) -> bool:
        """Return whether an object is followed beyond a plane, or begins anew there."""
        is_followed = path.has_begun and not path.has_ended
        return is_followed or any((other - at) * direction > 0 for other in path.accepted)

    def _active(self, paths: Mapping[int, _Path], at: int, direction: int) -> list[int]:
        """Return the objects that are followed into a plane; those that are accepted there begin anew."""
        active = []
        for label, path in paths.items():
            if at in path.accepted:
                path.has_begun, path.has_ended, path.missing = True, False, 0
            elif at in path.absent:
                path.has_ended = True
            elif path.has_begun and not path.has_ended:
                active.append(label)
        return active

    def _final(self, path: _Path, label: int, at: int, direction: int, found: Followed | None) -> Followed | None:
        """Take the answer for one object; return what is final in this plane, or None."""
        is_missing = found is None or found.mask.area == 0
        path.missing = path.missing + 1 if is_missing else 0
        ahead = path.next_known(at, direction)
        # It goes on behind a gap where an accepted plane says so.
        path.has_ended = path.missing >= self.patience and ahead is None
        if ahead is None:
            return None if is_missing else found
        key = label, at
        if direction > 0:
            self._waiting[key] = None if found is None or is_missing else _Packed.of(found)
            return None
        earlier = self._waiting.pop(key, None)
        behind = path.next_known(at, 1)
        assert behind is not None
        share = (at - ahead) / (behind - ahead)
        return met(None if earlier is None else earlier.unpacked(), None if is_missing else found, share)
