"""What the worker does: build the segmenter of an image, and answer a request. It reads no layer while it runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.plugin import adapters, labels_layer
from napari_sam.plugin.adapters import LayerPrompts
from napari_sam.segmenter import Candidates, Segmenter

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.plugin.workers import Report

FREE_CORES = max(1, (os.cpu_count() or 1) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One question to the segmenter, complete in itself: the worker reads no layer."""

    image: Image
    plane: Plane
    prompts: LayerPrompts
    previous: Mask | None
    downsample: float


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the worker found: the candidates, and the highest label of a target that had not been looked through."""

    candidates: Candidates
    target: Labels | None = None
    highest: int = 0


class Jobs:
    """Makes jobs for the runner, and keeps the segmenter that they share.

    Attributes
    ----------
    model, device
        What the next job uses.
    segmenter
        The one that was used last; touched by jobs only, of which one runs at a time.
    """

    def __init__(self) -> None:
        self.model, self.device = "compact", "auto"
        self.segmenter: Segmenter | None = None
        self._key: tuple[Any, ...] = ()

    def builder(self, image: Image) -> Callable[[Report], Segmenter]:
        """Return what makes the segmenter of an image; all it needs is taken from the layer here.

        Raises
        ------
        ImageError
            The layer's pixels are no image.
        """
        volume = adapters.volume_of(image)
        limits = None if image.rgb else tuple(float(limit) for limit in image.contrast_limits)
        gamma = 1.0 if image.rgb else float(image.gamma)
        model, device = self.model, self.device
        key = (id(volume.array), model, device, limits, gamma)

        def build(report: Report) -> Segmenter:
            if self.segmenter is None or self._key != key:
                known = self.segmenter if self._key[1:3] == key[1:3] else None
                if known is None:
                    report("Loading the model ...")
                self.segmenter = Segmenter(
                    volume,
                    model=known.predictor if known else model,
                    device=device,
                    threads=FREE_CORES,
                    contrast_limits=limits,
                    gamma=gamma,
                )
                self._key = key
            self.segmenter.progress = report
            return self.segmenter

        return build

    def answer(self, request: Request, target: Labels | None) -> Callable[[Report], Answer]:
        """Return what answers a request, and looks through a target whose highest label is not known yet."""
        build = self.builder(request.image)

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
            if target is None or target.multiscale:
                return Answer(candidates)
            return Answer(candidates, target, labels_layer.find_highest(target))

        return job
