"""Segmenter: the scripting API. It takes an image and a model, and turns prompts into masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy.typing as npt

from napari_sam.arguments import each, number
from napari_sam.core.candidates import CANDIDATE_NAMES as CANDIDATE_NAMES
from napari_sam.core.candidates import AnswerCache, best_of
from napari_sam.core.candidates import CandidateName as CandidateName
from napari_sam.core.candidates import Candidates as Candidates
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.core.predictor import checked_model
from napari_sam.core.prompts import Prompts
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.encoding import encode_on
from napari_sam.distributed.remote_encoder import encoded_on
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import EncodeProgress, TileEncoder, TileSweep
from napari_sam.embeddings.round_decoder import RoundDecoder
from napari_sam.embeddings.store import EmbeddingStore, checked_store
from napari_sam.errors import ImageError, PromptError
from napari_sam.images.opening import ArrayLike
from napari_sam.images.volume import Volume
from napari_sam.labeled_image import checked_journal
from napari_sam.labeled_image import open_labels as open_labels
from napari_sam.labels.array import WritableArray
from napari_sam.labels.regions import checked_labels
from napari_sam.options import ImageOptions
from napari_sam.propagated_image import PropagatedImage

if TYPE_CHECKING:
    from distributed import Client
    from napari_sam.core.predictor import Predictor
    from napari_sam.embeddings.store import StoreChoice
    from napari_sam.exports.exporting import Exported


def model_names() -> list[str]:
    """Return the names of the models, the default one first, and those that were taught behind the others."""
    from napari_sam.weights.registry import REGISTRY
    from napari_sam.weights.taught import taught_models

    return [*REGISTRY, *(model.name for model in taught_models())]


class Segmenter(PropagatedImage):
    """Segment objects of an image by prompts, and write them into labels.

    The image may have any size and number of axes. Prompts and masks lie in one *plane* of it, whose pixels are
    numbered (row, col) from 0; whole numbers are pixel centers. Arrays are read tile by tile, as prompts need them.

    Parameters
    ----------
    image
        An array of two or more axes that can be sliced (numpy, zarr, dask, tensorstore, ...), of integers, booleans or
        floating-point numbers; the levels of a pyramid, from fine to coarse; or the path or URL of an image (TIFF,
        OME-Zarr, whole-slide formats, PNG, ...).
    model
        A name (see `napari-sam models`), the path of a checkpoint, or a loaded predictor. Weights of a named model are
        downloaded if they are missing.
    device
        "auto" (the default: the fastest available), "cpu", "cuda", "cuda:1" or "mps". Like `threads` and `precision`
        it has no effect on a loaded predictor.
    threads
        Number of processor threads for torch in the whole process. By default torch's own choice.
    precision
        "float32", "bfloat16", "tf32" or "auto" (the default), which is bfloat16 for large models where the device
        multiplies it, and else float32.
    labels
        Integer array of the image's shape, without color or channel axis, into which `accept` writes; a `LabelPyramid`;
        or the path of an OME-Zarr label image, which is created if it is missing. By default a new uint16 array in
        memory.
    rgb
        Whether the last axis of the image holds colors. By default as the file says; otherwise guessed from the shape.
    channel_axis
        Axis of the image that holds channels. By default as the file says.
    channels
        Indices of the channels that the model sees, at most three. By default the first three.
    spacing
        Size of a pixel along each axis of `shape`, in any common unit. By default as the file says, or equal for all.
        The encoder sees square pixels, so planes with elongated pixels are resampled.
    nodata
        Value of pixels without data. Pixels that are NaN or infinite never have data. Pixels without data are black to
        the model and do not count for the contrast.
    axes
        (row axis, column axis) of the planes. By default the axes that the file calls y and x, or else the last two.
    contrast_limits
        (low, high) in values of the image, which become black and white; or one such pair for each channel. By default
        those that the file suggests, 0 and 255 for 8-bit RGB, or the 0.5 and 99.5 percentiles of a sample of the whole
        image. They hold for all planes.
    gamma
        Exponent applied after the contrast stretch; one for all channels (the default is 1), or one for each.
    store
        Folder or URL of a store of embeddings, which is read and filled, so that tiles are not encoded again in a later
        session; or a function that returns the store, or None, for the loaded model. By default embeddings are kept in
        memory only.
    journal
        True to record every change of the objects on disk, beside the labels or, for labels in memory, in the cache
        folder; or the folder to record it in. Earlier work found there is continued, and new labels get its objects
        back. By default nothing is recorded, and `undo` ends with the session.
    scheduler
        Address of the scheduler of a dask.distributed cluster (tcp://HOST:PORT), its .json file, or a client of it.
        Its workers encode tiles, find objects and follow objects. They open the image from its path or URL; of an array
        tiles are sent to them, for encoding and for finding all objects. By default everything is done in this process.

    Attributes
    ----------
    volume
        The image, as a `Volume`.
    predictor
        The loaded model.
    encoder
        The `TileEncoder` of the image, with its embeddings.
    decoder
        The `RoundDecoder` that answers prompts.
    journal
        The `Journal`, or None.

    Raises
    ------
    ImageError, ModelError, LabelsError, OutputError, ClusterError
        The image, the model, the labels, the store or journal, or the scheduler cannot be used.

    Examples
    --------
    >>> from napari_sam import Segmenter
    >>> from skimage.data import coins
    >>> segmenter = Segmenter(coins())
    >>> candidates = segmenter.segment(points=[(178, 116)])
    >>> segmenter.accept(candidates.best)
    1
    >>> segmenter.labels.max()
    1
    """

    def __init__(
        self,
        image: Volume | ArrayLike | Sequence[ArrayLike] | str | Path,
        *,
        model: str | Path | Predictor = "compact",
        device: str = "auto",
        threads: int | None = None,
        precision: str = "auto",
        labels: WritableArray | Path | str | None = None,
        rgb: bool | None = None,
        channel_axis: int | None = None,
        channels: Sequence[int] | None = None,
        spacing: Sequence[float] | None = None,
        nodata: float | None = None,
        axes: Sequence[int] | None = None,
        contrast_limits: Sequence[float] | Sequence[Sequence[float]] | None = None,
        gamma: float | Sequence[float] = 1.0,
        store: EmbeddingStore | StoreChoice | Path | str | None = None,
        journal: bool | Path | str | None = None,
        scheduler: Cluster | Client | Path | str | None = None,
    ) -> None:
        volume = Volume.of(image, rgb, channel_axis=channel_axis, channels=channels, spacing=spacing, nodata=nodata)
        super().__init__(volume, axes)
        # All arguments are checked before the model is loaded, and labels and journal are made after it was.
        recorded, embeddings = checked_journal(journal), checked_store(store)
        model, target = checked_model(model), checked_labels(labels)
        if isinstance(model, (str, Path)):
            from napari_sam.models import load_predictor

            model = load_predictor(model, device, threads, precision)
        self.cluster = None if scheduler is None else Cluster.of(scheduler)
        model = encoded_on(self.cluster, model)
        self.predictor: Predictor = model
        if not (embeddings is None or isinstance(embeddings, EmbeddingStore)):
            embeddings = embeddings(model)
        self.encoder = TileEncoder(volume, model, lambda: volume.rendering(contrast_limits, gamma), embeddings)
        self.decoder = RoundDecoder(self.encoder)
        self._recent = AnswerCache()
        self._place = image if isinstance(image, (str, Path)) else None
        self._read_as = ImageOptions(rgb, channel_axis, channels, spacing, nodata)
        self._source = Path(image) if isinstance(image, (str, Path)) else None
        self._open(target, recorded, self._place)

    @property
    def shared(self) -> SharedImage | None:
        """The image and the model as the workers of the cluster open them; None without one, or for an array."""
        if self.cluster is None or self._place is None:
            return None
        return SharedImage.of(self._place, self._read_as, self.encoder)

    def segment(
        self,
        *,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        box: Box | Sequence[float] | None = None,
        mask: Mask | npt.ArrayLike | None = None,
        plane: Plane | int | Sequence[int] | None = None,
        previous: Mask | Candidates | None = None,
        downsample: float | None = None,
    ) -> Candidates:
        """Segment one object.

        The answer depends on the prompts and their order only. Up to 32 points are decoded one after the other, each
        time with the last answer fed back; of more points the rounds end at 64, 128, 256, ... points and at the last
        one (see `Prompts.steps`). Answers of earlier rounds are kept, so one more point costs one more decoding. A
        round gives the decoder at most 256 of the points that its tile sees, spread over it (see `TilePrompts.on`).

        Parameters
        ----------
        points
            Shape (n, 2), or (2,) for one point: (row, col) in pixels of the plane; whole numbers are pixel centers.
        labels
            Shape (n,): 1 for a point on the object, 0 for a point beside it. By default all are on the object.
        box
            (top, left, bottom, right) around the object, half-open, in pixel edges of the plane.
        mask
            A rough mask of the object: a `Mask`, or a boolean array of the plane's shape. Its bounding box is the box
            where none is given.
        plane
            The plane of the prompts; see `plane`.
        previous
            An earlier answer to refine; of candidates the best one is taken. All prompts are then decoded in one round.
            By default each round refines the best answer of the round before.
        downsample
            Image pixels for each pixel of the screen, above 0: a first guess of the size of an object that is prompted
            by a single point. By default models that encode quickly try levels from 8x magnified to 8x reduced, and
            the others begin at full resolution.

        Returns
        -------
        Candidates
            Three masks by rising area, each with its predicted IoU, and the index of the best one.

        Raises
        ------
        PromptError
            The prompts are missing, contradictory or outside the plane, or a single point has no data under it.
        ImageError
            There is no such plane, or it cannot be read.
        """
        where = self.plane(plane)
        shape = where.shape_in(self.shape)
        if min(shape) < 2:
            raise PromptError(
                f"A plane of {shape[0]} x {shape[1]} pixels has nothing to segment: choose other axes or another image."
            )
        earlier = best_of(previous)
        if downsample is not None:
            advice = "give the number of image pixels that a screen pixel shows, above 0, or leave it out"
            downsample = number(downsample, "The downsample", advice, above=0)
        prompts = Prompts.of(points, labels, box, mask, shape=shape)
        self._last_plane = where
        if earlier is None:
            found = self.decoder.answer_rounds(where, prompts, downsample)
        else:
            found = self.decoder.answer(where, prompts, earlier, downsample)
        self._recent.put(id(found), found)
        return found

    def refresh(self) -> None:
        """Read the image again from now on. Call it after changing pixels in place."""
        self.encoder.refresh()
        self.decoder.forget()
        self._forget_answers()

    def encode(
        self,
        *,
        planes: Sequence[Plane | int | Sequence[int]] | None = None,
        levels: int | Sequence[int] = 0,
        box: Box | Sequence[float] | None = None,
    ) -> Iterator[EncodeProgress]:
        """Encode the tiles of planes ahead of time, into the store.

        Tiles that the store holds already are skipped, so an interrupted run is resumed by calling it again.

        Parameters
        ----------
        planes
            The planes, each as in `plane`. By default all of the image.
        levels
            One level or several: at level L a pixel of the encoder's input covers 2**L pixels of the image. By default
            0, the full resolution.
        box
            (top, left, bottom, right), half-open: only tiles over this part of the planes. By default all.

        Yields
        ------
        EncodeProgress
            After every tile. Close the iterator to stop.

        Raises
        ------
        ImageError, PromptError, OutputError
            There is no store, the planes, levels or box do not exist, a tile cannot be read, or the store cannot be
            written; what was encoded is kept.
        """
        store = self.encoder.store
        if store is None:
            raise ImageError("There is no store to encode into: give store=PATH when the Segmenter is made.")
        where = "a list of planes, each as in segment"
        chosen = self.planes() if planes is None else each(planes, "The planes", where, self.plane)
        if not chosen:
            raise PromptError("There is no plane to encode: name one, or leave the planes out to encode all.")
        places = TileSweep.checked(self.encoder, chosen, levels, box)
        if self.cluster is not None and (image := self.shared) is not None:
            return encode_on(self.cluster, image, store, places)
        return self.encoder.encode_all(store, places)

    def export(
        self,
        path: str | Path,
        *,
        labels: Sequence[int] | int | None = None,
        class_name: str | None = None,
        crs: str = "auto",
        simplify: float = 0.0,
        squared: bool = False,
        overwrite: bool = False,
    ) -> Exported:
        """Write the objects to a file of another program: a table, polygons, a label image, a volume and others.

        Parameters
        ----------
        path
            The file; its ending selects the format, see the reference of formats.
        labels, class_name, crs, simplify, squared, overwrite
            As in `export_labels`. Classes need a journal.

        Returns
        -------
        Exported
            The path, the name of the format, and the number of objects.

        Raises
        ------
        LabelsError, ImageError
            The labels or the image cannot be read, or there is no such object or class.
        OutputError
            The file cannot be written, or needs a library that is missing; whatever stood there before still does.
        """
        from napari_sam.exports.exporting import export_objects
        from napari_sam.exports.options import ExportOptions

        options = ExportOptions.of(
            labels=labels, class_name=class_name, crs=crs, simplify=simplify, squared=squared, overwrite=overwrite
        )
        objects = None if self.journal is None else self.journal.objects
        return export_objects(self.labels, path, self.volume, self._source, objects, options)

    def _origin_of(self, mask: Mask, given: Mask | Candidates) -> tuple[Prompts | None, Provenance | None]:
        known = given if isinstance(given, Candidates) else None
        if known is None:
            known = next((answer for answer in reversed(self._recent) if answer.name_of(mask)), None)
        if known is None:
            return None, None
        return known.prompts, self.encoder.provenance(mask, known.name_of(mask), known.downsample)
