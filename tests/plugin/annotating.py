"""Masks that are accepted without a model, in the process of a test or in another one that is killed."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.testing import WriteRunner as WritesOnly
from napari_sam.testing import plugin
from napari_sam.testing.plugin import SHAPE, disc, labels_of, propose
from napari_sam.testing.plugin import random_image as image_of

__all__ = ["SHAPE", "WritesOnly", "disc", "image_of", "labels_of", "make_controller", "propose"]


def make_controller(pixels, notes, pyramid=None):
    """Return a controller whose messages are appended to a list."""
    return plugin.make_controller(pixels, notes.append, pyramid)


def annotate(folder: Path, kind: str) -> None:
    """Accept, correct, delete and undo until the process is killed, and say what was done once it was."""
    controller = make_controller(image_of(), [], folder / "labels.ome.zarr" if kind == "pyramid" else None)
    rng = np.random.default_rng()
    controller.session.overlap = "overwrite"
    while True:
        objects = controller.objects
        known = [row.label for row in objects.rows]
        what = rng.choice(["accept", "accept", "accept", "delete", "undo", "redo"])
        if what == "delete" and known:
            objects.delete([int(rng.choice(known))])
        elif what == "undo":
            controller.undo.undo()
        elif what == "redo":
            controller.undo.redo()
        else:
            plane = Plane((1, 2), (int(rng.integers(3)), 0, 0))
            propose(controller, disc(*rng.integers(4, 36, 2), rng.integers(2, 9)), plane)
            controller.commits.accept()
        if objects.journal is None:
            continue
        sys.stdout.write(f"{objects.journal.journal._history.number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    annotate(Path(sys.argv[1]), sys.argv[2])
