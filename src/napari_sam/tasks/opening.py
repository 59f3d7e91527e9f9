"""Open a Segmenter from options that can be stored, compared and sent to another process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.embeddings.encoder import default_store
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.images.opening import ArrayLike
from napari_sam.images.volume import Volume
from napari_sam.options import ImageOptions, ModelOptions
from napari_sam.segmenter import Segmenter

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor
    from napari_sam.distributed.cluster import Cluster
    from napari_sam.labels.array import WritableArray


def open_segmenter(
    image: Volume | ArrayLike | Sequence[ArrayLike] | str | Path,
    options: ImageOptions | None = None,
    model: ModelOptions | None = None,
    predictor: Predictor | None = None,
    labels: WritableArray | Path | None = None,
    *,
    journal: bool = False,
    scheduler: Cluster | None = None,
) -> Segmenter:
    """Open an image with a model.

    Parameters
    ----------
    image
        As in `Segmenter`. The options for reading it have no effect on a `Volume`, which is open already.
    options
        How the image is read and shown to the model.
    model
        Which model runs, and where its embeddings are stored.
    predictor
        The model that `model` names, where it is loaded already.
    labels, journal, scheduler
        As in `Segmenter`.

    Raises
    ------
    ImageError, ModelError, LabelsError, OutputError
        The image, the model, the labels, the journal or the store cannot be used.
    """
    options, model = options or ImageOptions(), model or ModelOptions()
    if predictor is None:
        from napari_sam.models import load_predictor

        predictor = load_predictor(model.model, model.device, model.threads, model.precision, compiled=model.compiled)
    store = _store_of(model, predictor)
    return Segmenter(
        image,
        model=predictor,
        store=store,
        labels=labels,
        journal=journal,
        scheduler=scheduler,
        **options.arguments,
    )


def _store_of(model: ModelOptions, predictor: Predictor) -> EmbeddingStore | Path | str | None:
    if model.store is not None or model.cache == "off":
        return model.store
    return EmbeddingStore.default() if model.cache == "on" else default_store(predictor)
