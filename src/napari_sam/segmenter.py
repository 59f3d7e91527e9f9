"""Segmenter: an image, a model, prompts in and masks out. The scripting API; the plugin and the CLI are faces of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_sam.arguments import each, index_of, number, shown, whole
from napari_sam.core.candidates import CANDIDATE_NAMES as CANDIDATE_NAMES
from napari_sam.core.candidates import AnswerCache
from napari_sam.core.candidates import CandidateName as CandidateName
from napari_sam.core.candidates import Candidates as Candidates
from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Box, Plane, plane_axes
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompt_checks import check_mask
from napari_sam.core.prompts import Prompts
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.decoding import RoundDecoder
from napari_sam.embeddings.encoder import EncodeProgress, TileEncoder, TileSweep
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import ImageError, LabelsError, PromptError
from napari_sam.files.temporary import remove_leftovers
from napari_sam.images.arguments import check_plane_axes
from napari_sam.images.axes.attributes import map_attributes
from napari_sam.images.opening import ArrayLike
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import provenance, record
from napari_sam.journal.entries import Entry, Provenance
from napari_sam.journal.journal import Journal
from napari_sam.journal.storage.object_table import ObjectView
from napari_sam.labels.array import LabelArray, WritableArray
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.segmenter_arguments import (
    check_same_shape,
    checked_journal,
    checked_labels,
    checked_model,
    checked_store,
)

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor


def model_names() -> list[str]:
    """Return the models that can be asked for by name, the default one first."""
    from napari_sam.weights.registry import REGISTRY

    return list(REGISTRY)


class Segmenter:
    """Segment objects of an image by prompts.

    Parameters
    ----------
    image
        An array of two or more axes that can be sliced (numpy, zarr, dask, tensorstore ...), the levels of a pyramid
        from fine to coarse, or the path or URL of an image (TIFF, OME-Zarr, whole-slide formats, PNG ...).
    model
        A name (see `napari-sam models`), the path of a checkpoint, or a predictor that is loaded already.
    device
        "auto" (the fastest there is), "cpu", "cuda", "cuda:1" or "mps".
    threads
        Processor threads that the model may use; torch's own choice when left out.
    precision
        "float32", "bfloat16", "tf32" or "auto", which takes bfloat16 for large models where the device multiplies it.
    labels
        Integer array of the image's shape that accepted masks are written into, a `LabelPyramid`, or the path of one
        on disk (made where there is none); a new uint16 array in memory when left out.
    rgb
        Whether the last axis of the image holds colours; the file tells, or it is guessed, when left out.
    channel_axis
        The axis of an array that holds channels; the file tells where it can.
    channels
        Which channels count, at most three; the first three when left out.
    spacing
        Size of a pixel along each axis, in any common unit; the file tells, or all are equal, when left out. The
        encoder sees square pixels.
    nodata
        The value of pixels that hold nothing; NaN and infinite pixels hold nothing anyway.
    axes
        The row and the column axis of the planes that `plane=` numbers name; left out, those that the file calls y
        and x, or else the last two.
    contrast_limits
        (low, high) data values that become black and white, or a pair for each channel; left out, what the file
        suggests, or percentiles of a few blocks of the whole image.
    gamma
        Exponent applied after the contrast stretch.
    store
        Folder or URL of a store of embeddings, which is read and filled; left out, they live in memory only.
    journal
        Whether everything that happens to the objects is kept on disk, beside the labels or else in the cache folder;
        or the folder to keep it in. Work that is there already is gone on with: new labels get its objects back.

    Raises
    ------
    ImageError, ModelError, LabelsError, OutputError
        The image, the model, the labels or the journal cannot be used.

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
        store: EmbeddingStore | Path | str | None = None,
        journal: bool | Path | str | None = None,
    ) -> None:
        self.volume = volume = Volume.of(
            image, rgb, channel_axis=channel_axis, channels=channels, spacing=spacing, nodata=nodata
        )
        self._axes = volume.plane_axes if axes is None else plane_axes(axes, volume.shape)
        self.journal: Journal | None = None
        recorded = checked_journal(journal)
        embeddings = checked_store(store)
        model = checked_model(model)
        target = checked_labels(labels)
        if isinstance(model, (str, Path)):
            from napari_sam.models import load_predictor

            model = load_predictor(model, device, threads, precision)
        if isinstance(target, Path):
            target = open_labels(target, volume)
        if target is not None:
            check_same_shape(target, volume.shape)
        self._label_store = None if target is None else LabelArray(target)
        self._recent = AnswerCache()
        self._last_plane: Plane | None = None
        self.predictor: Predictor = model
        embeddings = EmbeddingStore(embeddings) if isinstance(embeddings, (str, Path)) else embeddings
        self.encoder = TileEncoder(volume, model, lambda: volume.rendering(contrast_limits, gamma), embeddings)
        self.decoder = RoundDecoder(self.encoder)
        if recorded is not False:
            source = image if isinstance(image, (str, Path)) else None
            folder = None if recorded is True else recorded
            self.journal = record(volume, source, self._store(), folder, is_new=target is None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis of the image, without colours."""
        return self.volume.shape

    @property
    def labels(self) -> WritableArray:
        """The labels that accepted masks are written into, of the image's shape."""
        return self._store().array

    def plane(self, index: Plane | int | Sequence[int] | None = None) -> Plane:
        """Return the plane at a position along the axes that are not its own; see `Plane.of`."""
        if self.volume.axes is None and not isinstance(index, Plane):
            check_plane_axes(self.shape, self._axes, is_named=index is not None)
        return Plane.of(self.shape, index, self._axes)

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
            Shape (n, 2), (row, col) in pixels of the plane.
        labels
            Shape (n,): 1 for a point on the object, 0 for one on something else; all 1 when left out.
        box
            (top, left, bottom, right), half-open, around the object.
        mask
            A rough mask of the object: boolean, of the plane's shape.
        plane
            Position along the other axes of an nD image: a number, several, or a `Plane`.
        previous
            The earlier answer to go on from, a mask or candidates, of which the best is taken. The prompts are then
            one round. By default the best answer of the round before.
        downsample
            How many pixels of the image one pixel of the screen shows, if there is a screen; a first guess of the
            object's size for a single point.

        Returns
        -------
        Candidates
            Three masks, small to large.

        Raises
        ------
        PromptError
            The prompts are empty, contradictory or outside the image.
        ImageError
            There is no such plane, or it cannot be read.
        """
        where = self.plane(plane)
        shape = where.shape_in(self.shape)
        if min(shape) < 2:
            raise PromptError(
                f"A plane of {shape[0]} x {shape[1]} pixels has nothing to segment: choose other axes or another image."
            )
        earlier = _earlier(previous)
        if downsample is not None:
            advice = "give the number of image pixels that a screen pixel shows, above 0, or leave it out"
            downsample = number(downsample, "The downsample", advice, above=0)
        prompts = Prompts.of(points, labels, box, mask, shape=shape)
        self._last_plane = where
        if earlier is not None:
            return self._remembered(self.decoder.answer(where, prompts, earlier, downsample))
        return self._remembered(self.decoder.answer_rounds(where, prompts, downsample))

    def accept(
        self,
        mask: Mask | Candidates,
        *,
        label: int | None = None,
        plane: Plane | int | Sequence[int] | None = None,
        overlap: Overlap = "keep",
        cleaning: Cleaning | None = None,
        class_name: str | None = None,
    ) -> int:
        """Write a mask into the labels.

        With a journal, a mask under the label of one of its objects takes the place of what the object has in that
        plane; without one it is added to it.

        Parameters
        ----------
        mask
            A mask, or candidates, of which the best is taken.
        label
            Its value; the next free one when left out.
        plane
            Where to write; by default the plane of the candidates or of the last `segment`.
        overlap
            "keep" leaves pixels of other labels alone, "overwrite" takes them, "empty" refuses a mask that meets any.
        cleaning
            How the mask is tidied before.
        class_name
            The object's class, made where there is none of that name; only with a journal.

        Returns
        -------
        int
            The label.

        Raises
        ------
        LabelsError
            The mask is empty, no pixel of it is free, or the label does not fit the labels' type; or there is no
            journal that a class could be kept in.
        OutputError
            The journal cannot be written.
        """
        if not isinstance(mask, (Mask, Candidates)):
            raise LabelsError("Only a mask that segment() gave can be accepted: pass candidates, or one of them.")
        if plane is not None:
            where = self.plane(plane)
        elif isinstance(mask, Candidates):
            where = mask.plane
        else:
            where = self._last_plane or self.plane()
        chosen = mask.best if isinstance(mask, Candidates) else mask
        check_mask(chosen, LabelsError)
        label = None if label is None else _label(label)
        if not isinstance(overlap, str):
            raise LabelsError(f"The overlap must be keep, overwrite or empty and is {shown(overlap)}: correct it.")
        if not (cleaning is None or isinstance(cleaning, Cleaning)):
            raise PromptError(f"The cleaning must be a Cleaning and is {shown(cleaning)}: make one.")
        _check_class(class_name)
        clean = chosen if cleaning is None else cleaning(chosen, where.shape_in(self.shape))
        if self.journal is None and class_name is None:
            return self._store().write(where, clean, label, overlap).label
        prompts, made = self._history_of(chosen, mask)
        entry = self._journal().accept(where, clean, label, overlap, prompts=prompts, made=made, class_name=class_name)
        assert entry.label is not None
        return entry.label

    def undo(self) -> LabelEdit | Entry | None:
        """Take back the last `accept`, or with a journal the last operation, and return it; None when none is left."""
        return self._store().undo() if self.journal is None else self.journal.undo()

    def redo(self) -> Entry | None:
        """Do again what was undone last and return it; None when there is nothing.

        Raises
        ------
        LabelsError
            There is no journal, which this method and the following ones are about.
        """
        return self._journal().redo()

    @property
    def objects(self) -> ObjectView:
        """The objects of the journal that are there, by label."""
        return self._journal().objects

    def reopen(self, label: int) -> Prompts:
        """Return what an object was segmented by, or its mask, to go on from; then `accept` under the same label.

        Raises
        ------
        LabelsError
            The journal knows no such object.
        """
        found = self._journal().object(_label(label))
        self._last_plane = found.plane
        return found.prompts or Prompts.of(mask=found.mask, shape=found.plane.shape_in(self.shape))

    def delete(self, label: int) -> None:
        """Take an object out of the labels.

        Raises
        ------
        LabelsError, OutputError
            The journal knows no such object, or the labels or the journal cannot be written; nothing has changed.
        """
        self._journal().delete(_label(label))

    def classify(self, label: int, name: str | None) -> None:
        """Give an object a class, made where there is none of that name; None takes it away.

        Raises
        ------
        LabelsError, OutputError
            The journal knows no such object, or cannot be written.
        """
        _check_class(name)
        self._journal().classify(_label(label), name)

    def close(self) -> None:
        """Let other programs write to the journal."""
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> None:
        """Forget what the image looked like; call it after changing pixels in place."""
        self.encoder.refresh()
        self.decoder.forget()

    def encode(
        self,
        *,
        planes: Sequence[Plane | int | Sequence[int]] | None = None,
        levels: int | Sequence[int] = 0,
        box: Box | Sequence[float] | None = None,
    ) -> Iterator[EncodeProgress]:
        """Encode all tiles of planes ahead of time, into the store; run it again to go on where it was stopped.

        Parameters
        ----------
        planes
            Which ones, each as in `segment`; all of the volume when left out.
        levels
            Zoom steps, one or several: at level L a pixel of the encoder's input covers 2**L pixels of the image.
        box
            (top, left, bottom, right): only what lies there.

        Yields
        ------
        EncodeProgress
            After every tile.

        Raises
        ------
        ImageError, PromptError, OutputError
            There is no store, the box or a level does not fit, a tile cannot be read, or the store cannot be written
            to; what was done is kept.
        """
        store = self.encoder.store
        if store is None:
            raise ImageError("There is no store to encode into: give store=PATH when the Segmenter is made.")
        where = "a list of planes, each as in segment"
        chosen = self.planes() if planes is None else each(planes, "The planes", where, self.plane)
        if not chosen:
            raise PromptError("There is no plane to encode: name one, or leave the planes out to encode all.")
        grid = self._grid(chosen[0])
        advice = (
            "at level 0 a pixel of the encoder's input is one of the image, and here there are the levels "
            f"{grid.min_level} to {grid.max_level}"
        )
        is_row = isinstance(levels, Sequence) or getattr(levels, "ndim", 0) == 1
        given = levels if is_row else [levels]
        least, most = grid.min_level, grid.max_level
        numbers = each(
            given, "The levels", "whole numbers", lambda level: whole(level, "A level", advice, least=least, most=most)
        )
        part = None if box is None else Prompts.of(box=box, shape=grid.shape).box
        return self.encoder.encode_all(store, TileSweep(self.encoder, chosen, numbers, part))

    def planes(self) -> list[Plane]:
        """Return all planes of the volume, in order."""
        row, col = self._axes
        others = [range(length) for axis, length in enumerate(self.shape) if axis not in (row, col)]
        return [self.plane(index) for index in itertools.product(*others)]

    def _store(self) -> LabelArray:
        if self._label_store is None:
            self._label_store = LabelArray(np.zeros(self.shape, np.uint16))
        return self._label_store

    def _journal(self) -> Journal:
        if self.journal is None:
            raise LabelsError("There is no journal, which this needs: give journal=True when the Segmenter is made.")
        return self.journal

    def _history_of(self, chosen: Mask, given: Mask | Candidates) -> tuple[Prompts | None, Provenance | None]:
        """Return the prompts that a mask answers and how it was made, where this segmenter made it."""
        known = given if isinstance(given, Candidates) else None
        if known is None:
            known = next((one for one in reversed(self._recent) if one.name_of(chosen)), None)
        if known is None:
            return None, None
        return known.prompts, provenance(self.encoder, chosen, known.name_of(chosen), known.downsample)

    def _remembered(self, candidates: Candidates) -> Candidates:
        self._recent.put(id(candidates), candidates)
        return candidates

    def _grid(self, plane: Plane) -> TileGrid:
        return self.encoder.grid(plane)


def open_labels(path: Path, volume: Volume, name: str | None = None) -> LabelPyramid:
    """Open a label image on disk, or make one in the shape and place of a volume where there is none.

    Raises
    ------
    LabelsError
        The path is no zarr, or holds no labels of the volume's shape.
    """
    if path.suffix.lower() != ".zarr":
        raise LabelsError(f"Labels on disk are a zarr folder: let the name {path.name} end in .ome.zarr.")
    if not path.exists():
        remove_leftovers(path.parent)  # A killed run may have been about to put it there.
    if not path.exists():
        try:
            return _create_labels(path, volume, name)
        except LabelsError:
            if not path.exists():
                raise  # Else another program made it at the same moment.
    pyramid = LabelPyramid.open(path)
    if tuple(pyramid.shape) != volume.shape:
        raise LabelsError(
            f"{path} has shape {tuple(pyramid.shape)} and the image {volume.shape}: choose labels of its shape."
        )
    return pyramid


def _create_labels(path: Path, volume: Volume, name: str | None) -> LabelPyramid:
    return LabelPyramid.create(
        path,
        volume.shape,
        axes=volume.axes if volume.axes and set(volume.axes) <= set("tczyx") else None,
        spacing=volume.scale,
        translation=volume.origin,
        unit=volume.unit,
        time_unit=volume.time_unit,
        name=name,
        attributes=None if volume.georeference is None else map_attributes(volume.georeference),
    )


def _earlier(previous: Mask | Candidates | None) -> Mask | None:
    if isinstance(previous, Candidates):
        return previous.best
    if not (previous is None or isinstance(previous, Mask)):
        raise PromptError(f"The earlier answer must be a mask or candidates and is {shown(previous)}: correct it.")
    if previous is not None:
        check_mask(previous)
    return previous


def _label(value: int) -> int:
    label = index_of(value)
    if label is None or abs(label) > np.iinfo(np.int64).max:
        raise LabelsError(f"A label must be a whole number from 1 on and is {shown(value)}: correct it.")
    return label


def _check_class(name: str | None) -> None:
    if not (name is None or isinstance(name, str)):
        raise LabelsError(f"The name of a class must be text and is {shown(name)}: write it in quotes.")
