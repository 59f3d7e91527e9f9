"""Masks that are accepted without a model, in the process of a test or in another one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from napari.components import ViewerModel

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.prompts import Prompts
from napari_sam.plugin.controller import Controller
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.segmenter import Candidates

SHAPE = (3, 40, 48)


class WritesOnly:
    """Runs writes at once and leaves out all else: no model is loaded."""

    def submit(self, job, done, failed, report):
        pass

    def submit_write(self, work):
        try:
            result = work.job(lambda _: None)
        except Exception as error:
            work.failed(error)
        else:
            work.done(result)

    def set_idle(self, source):
        pass

    def wake(self):
        pass

    def close(self):
        pass


def image_of(seed=0):
    return np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)


def disc(row, col, radius, shape=SHAPE[1:]):
    rows, cols = np.ogrid[: shape[0], : shape[1]]
    pixels = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
    return Mask(Box(0, 0, *shape), pixels, 0.8, 0.9).tightened()


def make_controller(pixels, notes, pyramid=None):
    viewer = ViewerModel()
    image = viewer.add_image(pixels, name="image", contrast_limits=(0, 255))
    controller = Controller(viewer, WritesOnly(), notes.append)
    controller.session.set_image(image)
    if pyramid is not None:
        use_label_file(controller.session, controller.preview.layers, pyramid)
    return controller


def propose(controller, mask, plane, points=((5, 5),)):
    """Let a mask be the answer to some points."""
    controller.requests.cancel()  # Nobody else answers.
    prompts = Prompts(np.array(points, float), np.ones(len(points), bool))
    controller.session.drafts.current.candidates = Candidates((mask,) * 3, 0, plane, prompts)
    controller.session.drafts.current.is_asked = False
    controller.session.drafts.current.selected = 0


def labels_of(controller):
    from napari_sam.plugin.layers import labels as labels_layer

    pyramid = labels_layer.pyramid_of(controller.session.target)
    return np.asarray(controller.session.target.data if pyramid is None else pyramid[(slice(None),) * 3]).copy()


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
