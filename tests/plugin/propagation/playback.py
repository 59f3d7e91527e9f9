"""Objects that are followed to the masks that a test says, by the propagation of the scripting API itself."""

from __future__ import annotations

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.plugin.propagation import following
from napari_sam.propagation.follower import Followed
from napari_sam.segmenter import Segmenter
from napari_sam.testing import FakePredictor
from napari_sam.testing.plugin import disc

NOTHING = Followed(Mask(Box(0, 0, 0, 0), np.zeros((0, 0), bool)), 0.9)


class PlayedBack:
    """Finds each object as a disc: (row, col, radius, confidence) by label and by position; nothing elsewhere."""

    def __init__(self, discs):
        self.discs, self.accepted = discs, {}

    @property
    def identity(self):
        """Name the discs, since others are other answers."""
        return repr(self.discs)

    def basis(self, label, at):
        """Return that answers rest on the accepted masks of the object, all of them."""
        return sorted(self.accepted[label])

    def go_on(self, label, at, recent):
        """Go on from earlier answers, which change nothing."""

    def needed(self, label, sightings):
        """Return that no earlier answer is needed."""
        return []

    def remember(self, at, plane, masks):
        """Take accepted masks, which change no answer."""
        for label in masks:
            self.accepted.setdefault(label, set()).add(at)

    def follow(self, at, plane, labels):
        """Return the discs of a plane."""
        return {label: self.found(label, at) for label in labels}

    def found(self, label, at):
        known = self.discs.get(label, {}).get(at)
        if known is None:
            return NOTHING
        *circle, confidence = known
        mask = disc(*circle)
        return Followed(Mask(mask.box, mask.pixels, confidence), confidence)


def play(controller, monkeypatch, discs, pixels):
    """Let the next runs find these discs, one plane at a time."""
    segmenter = Segmenter(pixels, model=FakePredictor(), contrast_limits=(0, 255), store=None)
    segmenter.follower = lambda stack, direction, engine="auto": PlayedBack(discs)
    monkeypatch.setattr(controller.jobs, "builder", lambda *_: lambda report: segmenter)
    monkeypatch.setattr(following, "SLICE_SECONDS", -1.0)
    return segmenter


def run(controller, planes=None):
    """Run until nothing is followed any more, or until so many planes were visited."""
    following = controller.through_planes.following
    while following.is_running and (planes is None or following.progress.done < planes):
        controller.runner.run_idle(1)
