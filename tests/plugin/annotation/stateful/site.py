"""Where a session works: an image, the kind of its labels, and a runner that can hold writes back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from napari_sam.testing import ImmediateRunner

# Labels are made by the controller (2-D, a stack), given by the user and nearly full, a zarr array, or a pyramid.
KINDS = ("flat", "stack", "full", "zarr", "pyramid", "full pyramid")
HIGHEST = 252  # Highest label of the nearly full labels of 8 bits.


class Runner(ImmediateRunner):
    """Run everything at once; while it is held, writes wait in their order."""

    def __init__(self):
        super().__init__()
        self.held = False
        self.waiting = []

    def submit_write(self, work):
        if self.held:
            self.waiting.append(work)
        else:
            super().submit_write(work)

    def release(self):
        self.held = False
        while self.waiting:
            super().submit_write(self.waiting.pop(0))
        self.run_idle()


@dataclass(eq=False)
class Site:
    """An image and the place of its labels."""

    kind: str
    number: int
    folder: object
    scaled: bool
    layer: object = None
    is_given: bool = False

    @property
    def shape(self):
        return (72, 96) if self.kind == "flat" else (3, 48, 64)

    @property
    def scale(self):
        return np.array([2, 0.5, 0.5][-len(self.shape) :]) if self.scaled else np.ones(len(self.shape))

    @property
    def path(self):
        return self.folder / f"labels{self.number}.{'ome.zarr' if 'pyramid' in self.kind else 'zarr'}"

    def add_image(self, viewer):
        rng = np.random.default_rng(self.number)
        pixels = np.full(self.shape, 20, np.uint8)
        rows, cols = np.ogrid[: self.shape[-2], : self.shape[-1]]
        for plane in pixels.reshape(-1, *self.shape[-2:]):
            for _ in range(7):
                row, col = rng.integers(4, self.shape[-2] - 4), rng.integers(4, self.shape[-1] - 4)
                plane[(rows - row) ** 2 + (cols - col) ** 2 <= rng.integers(3, 11) ** 2] = rng.integers(90, 250)
        self.layer = viewer.add_image(pixels, name=f"image {self.number}", contrast_limits=(0, 255), scale=self.scale)

    def given(self):
        """Return what the user's labels hold."""
        labels = np.zeros(self.shape, np.uint8)
        labels[1, 30:40, 20:30] = HIGHEST
        labels[1, 36:46, 26:34] = 7
        labels[0, 2:5, 2:5] = 3
        return labels
