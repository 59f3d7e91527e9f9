"""Jobs for the worker: build the segmenter of an image, and answer a request. A job reads no layer."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from napari_sam.core.geometry import Plane
from napari_sam.distributed.cluster import Cluster
from napari_sam.embeddings.encoder import default_store
from napari_sam.everything.proposal_cache import ProposalCache
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.request_types import CleanedCandidates, Prediction, PredictionRequest
from napari_sam.segmenter import Segmenter

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Report

FREE_CORES = max(1, (os.cpu_count() or 1) - 1)


class Jobs:
    """Makes jobs for the runner, and keeps the segmenter that they share.

    Parameters
    ----------
    session
        The model, its device and the store that the next job uses, and the viewer with its thick slices.

    Attributes
    ----------
    segmenter
        The segmenter of the last job; touched by jobs only, of which one runs at a time.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.segmenter: Segmenter | None = None
        self._key: tuple[Any, ...] = ()
        self._cluster: tuple[str, Cluster] | None = None
        self._image: Image | None = None

    def segmenter_of(self, image: Image) -> Segmenter | None:
        """Return the segmenter of an image if the last job used it, with the model that is asked for."""
        is_used = self._image is image and self._key[:2] == (self._session.model, self._session.device)
        return self.segmenter if is_used else None

    def planes_like(self, plane: Plane) -> list[Plane]:
        """Return all planes of the last job's volume with the same rows and columns, beginning with this one."""
        assert self.segmenter is not None
        return planes_like(plane, self.segmenter.shape)

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
        session = self._session
        shown = adapters.shown(layers or [image], session.viewer)
        model, device, store, scheduler = session.model, session.device, session.store, session.scheduler
        key = (model, device, store, scheduler, *shown.key)

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
                    scheduler=self._cluster_of(scheduler),
                )
                self.segmenter.proposal_cache = ProposalCache.default()
                self._key, self._image = key, image
            self.segmenter.encoder.progress = report
            return self.segmenter

        return build

    def _cluster_of(self, scheduler: str | None) -> Cluster | None:
        """Return the cluster of a scheduler, connected once for all images."""
        if self._cluster is not None and self._cluster[0] != scheduler:
            self._cluster[1].close()
            self._cluster = None
        if self._cluster is None and scheduler is not None:
            self._cluster = scheduler, Cluster(scheduler)
        return None if self._cluster is None else self._cluster[1]

    def answer(self, request: PredictionRequest, target: Labels | None) -> Callable[[Report], Prediction]:
        """Return what answers a request, and looks through a target whose highest label is not known yet."""
        build = self.builder(request.image, request.layers)
        shape = request.plane.shape_in(adapters.shape_of(request.image))

        def job(report: Report) -> Prediction:
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
            cleaned = CleanedCandidates.of(candidates, request.cleaning, shape)
            if target is None or target.multiscale:
                return Prediction(candidates, cleaned=cleaned)
            return Prediction(candidates, target, labels_layer.find_highest(target), cleaned)

        return job


def planes_like(plane: Plane, shape: Sequence[int]) -> list[Plane]:
    """Return all planes of an array of `shape` with the same rows and columns as one, beginning with this one."""
    hidden = [range(length) if axis not in plane.axes else (0,) for axis, length in enumerate(shape)]
    every = [Plane(plane.axes, index) for index in itertools.product(*hidden)]
    at = every.index(plane)
    return every[at:] + every[:at]
