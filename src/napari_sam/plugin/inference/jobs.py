"""What the worker does: build the segmenter of an image, and answer a request. It reads no layer while it runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.embeddings.encoder import default_store
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.adapters import LayerPrompts
from napari_sam.segmenter import Candidates, Segmenter

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_sam.plugin.workers.runner import Report

NO_CLEANING = Cleaning()
FREE_CORES = max(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One question to the segmenter, complete in itself: the worker reads no layer."""

    image: Image
    layers: tuple[Image, ...]
    plane: Plane
    prompts: LayerPrompts
    previous: Mask | None
    downsample: float
    cleaning: Cleaning = NO_CLEANING


@dataclass(frozen=True, slots=True, eq=False)
class CleanedCandidates:
    """Candidates, how they are tidied, and what that gives."""

    candidates: Candidates
    cleaning: Cleaning
    masks: tuple[Mask, ...]

    @classmethod
    def of(cls, candidates: Candidates, cleaning: Cleaning, shape: tuple[int, int]) -> CleanedCandidates:
        """Tidy candidates on a plane of `shape`, in any thread."""
        return cls(candidates, cleaning, tuple(cleaning(mask, shape) for mask in candidates))


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the worker found: candidates, the highest label of a target not looked through before, and tidied masks."""

    candidates: Candidates
    target: Labels | None = None
    highest: int = 0
    clean: CleanedCandidates | None = None


class Jobs:
    """Makes jobs for the runner, and keeps the segmenter that they share.

    Parameters
    ----------
    viewer
        Where several planes of an image may be seen as one; left out, each is seen alone.

    Attributes
    ----------
    model, device
        What the next job uses.
    store
        Where the user wants embeddings to be kept; None keeps those of slow models in the cache folder.
    segmenter
        The one that was used last; touched by jobs only, of which one runs at a time.
    """

    def __init__(self, viewer: ViewerModel | None = None) -> None:
        self.viewer = viewer
        self.model, self.device = "compact", "auto"
        self.store: str | None = None
        self.segmenter: Segmenter | None = None
        self._key: tuple[Any, ...] = ()
        self._image: Image | None = None

    def segmenter_of(self, image: Image) -> Segmenter | None:
        """Return the segmenter of an image if the last job used it, with the model that is asked for."""
        return self.segmenter if self._image is image and self._key[:2] == (self.model, self.device) else None

    def planes_like(self, plane: Plane) -> list[Plane]:
        """Return all planes of the last job's volume with the same rows and columns, beginning with this one."""
        assert self.segmenter is not None
        hidden = [range(n) if a not in plane.axes else (0,) for a, n in enumerate(self.segmenter.shape)]
        every = [Plane(plane.axes, index) for index in itertools.product(*hidden)]
        at = every.index(plane)
        return every[at:] + every[:at]

    def builder(self, image: Image, layers: Sequence[Image] = ()) -> Callable[[Report], Segmenter]:
        """Return what makes the segmenter of an image; all it needs is taken from the layer here.

        Parameters
        ----------
        image
            The layer that is worked on.
        layers
            The layers that show it as its channels; itself alone when empty.

        Raises
        ------
        ImageError
            The layer's pixels are no image.
        """
        shown = adapters.shown(layers or [image], self.viewer)
        model, device, store = self.model, self.device, self.store
        key = (model, device, store, *shown.key)

        def build(report: Report) -> Segmenter:
            if self.segmenter is None or self._key != key:
                known = self.segmenter if self._key[:2] == key[:2] else None
                if known is None:
                    report("Loading the model ...")
                self.segmenter = Segmenter(
                    shown.volume,
                    model=known.predictor if known else model,
                    device=device,
                    threads=FREE_CORES,
                    contrast_limits=shown.limits,
                    gamma=shown.gamma,
                    store=default_store if store is None else store,
                )
                self._key, self._image = key, image
            self.segmenter.encoder.progress = report
            return self.segmenter

        return build

    def answer(self, request: Request, target: Labels | None) -> Callable[[Report], Answer]:
        """Return what answers a request, and looks through a target whose highest label is not known yet."""
        build = self.builder(request.image, request.layers)
        shape = request.plane.shape_in(adapters.shape_of(request.image))

        def job(report: Report) -> Answer:
            prompts = request.prompts
            candidates = build(report).segment(
                points=prompts.points,
                labels=prompts.labels,
                box=prompts.box,
                mask=prompts.mask,
                plane=request.plane,
                previous=request.previous,
                downsample=request.downsample,
            )
            clean = CleanedCandidates.of(candidates, request.cleaning, shape)
            if target is None or target.multiscale:
                return Answer(candidates, clean=clean)
            return Answer(candidates, target, labels_layer.find_highest(target), clean)

        return job
