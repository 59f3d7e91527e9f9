"""RecordedFollower: follow objects, but for the planes of which it is known what was found there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.propagation.follower import Followed, ResumableFollower, Sighting
from napari_sam.propagation.recording.answer_store import AnswerStore

DIGEST_SIZE = 16


class RecordedFollower:
    """Follows objects by another follower, and asks it only where the store has no answer; see `Follower`.

    An answer is known by what it depends on: the follower, the image, and the accepted masks that it rests on. So a
    correction in one plane asks again where that plane counts, and a run that was stopped is gone on with.

    Parameters
    ----------
    follower
        Follows the objects.
    store
        The answers, which get those of the follower.
    context
        All that the answers depend on besides the follower and the accepted masks, as plain data.
    """

    def __init__(self, follower: ResumableFollower, store: AnswerStore, context: Mapping[str, Any]) -> None:
        self._follower, self._store = follower, store
        text = json.dumps({**context, "follower": follower.identity}, sort_keys=True)
        self._context = blake2b(text.encode(), digest_size=DIGEST_SIZE).digest()
        self._digests: dict[tuple[int, int], bytes] = {}
        self._recent: dict[int, list[Sighting]] = {}
        # Objects of which the follower has not seen the last planes.
        self._behind: set[int] = set()

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        """Take the accepted masks of one plane; see `Follower`."""
        for label, mask in masks.items():
            self._digests[label, at] = _digest_of(mask)
        self._follower.remember(at, plane, masks)

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Return what the objects look like in a plane; see `Follower`."""
        keys = {label: self._key(label, at) for label in labels}
        stored = {label: self._store.get(keys[label], at) for label in labels}
        known = {label: found for label, found in stored.items() if found is not None}
        missing = [label for label in labels if label not in known]
        self._behind |= known.keys()
        for label in missing:
            if label in self._behind:
                self._follower.go_on(label, at, self._recent.get(label, []))
                self._behind.discard(label)
        if missing:
            asked = self._follower.follow(at, plane, missing)
            self._store.put((keys[label], at, answer) for label, answer in asked.items())
            known |= asked
        for label, answer in known.items():
            self._note(label, Sighting(at, plane, answer))
        return {label: known[label] for label in labels}

    def _key(self, label: int, at: int) -> bytes:
        digest = blake2b(self._context, digest_size=DIGEST_SIZE)
        for position in self._follower.basis(label, at):
            digest.update(position.to_bytes(8, "little") + self._digests[label, position])
        return digest.digest()

    def _note(self, label: int, sighting: Sighting) -> None:
        self._recent[label] = self._follower.needed(label, [*self._recent.get(label, []), sighting])


def _digest_of(mask: Mask) -> bytes:
    tight = mask.tightened()
    edges = np.array(tight.box.as_tuple(), "<i8").tobytes()
    return blake2b(edges + np.packbits(tight.pixels).tobytes(), digest_size=DIGEST_SIZE).digest()
