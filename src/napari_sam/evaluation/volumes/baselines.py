"""Baselines for objects in volumes: the previous mask's box alone on each plane, and linear interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.embeddings.round_decoder import RoundDecoder
from napari_sam.propagation.follower import Followed, last_passed
from napari_sam.propagation.meeting import signed_distance


@dataclass
class BoxFollower:
    """Prompts each plane by the box of the mask in the plane before, and with nothing else; see `Follower`.

    Parameters
    ----------
    decoder
        Answers the boxes.
    direction
        1 towards higher positions, -1 towards lower ones.
    """

    decoder: RoundDecoder
    direction: int
    _accepted: dict[int, dict[int, Mask]] = field(default_factory=dict, init=False)
    _last: dict[int, tuple[int, Mask]] = field(default_factory=dict, init=False)

    def remember(self, at: int, plane: Plane, masks: Mapping[int, Mask]) -> None:
        """Take the accepted masks of one plane."""
        for label, mask in masks.items():
            self._accepted.setdefault(label, {})[at] = mask

    def follow(self, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        """Return the answers to the boxes."""
        found = {}
        for label in labels:
            accepted_at = last_passed(self._accepted[label], at, self.direction)
            last_at, mask = self._last.get(label, (accepted_at, self._accepted[label][accepted_at]))
            if (accepted_at - last_at) * self.direction > 0:
                mask = self._accepted[label][accepted_at]
            prompts = Prompts(np.zeros((0, 2)), np.zeros(0, bool), mask.box)
            answer = self.decoder.answer(plane, prompts).best
            if answer.area:
                self._last[label] = at, answer
            found[label] = Followed(answer, answer.iou_prediction)
        return found


def interpolated_masks(accepted: Mapping[int, Mask]) -> dict[int, Mask]:
    """Return the masks between accepted planes, by position: signed distances are interpolated linearly."""
    found: dict[int, Mask] = {}
    places = sorted(at for at, mask in accepted.items() if mask.area)
    for before, after in pairwise(places):
        box = accepted[before].box.union(accepted[after].box).grown(1)
        distances = [signed_distance(accepted[at].in_box(box)) for at in (before, after)]
        for at in range(before + 1, after):
            share = (at - before) / (after - before)
            pixels = (1 - share) * distances[0] + share * distances[1] > 0
            found[at] = Mask(Box(*box.as_tuple()), pixels).tightened()
    return found
