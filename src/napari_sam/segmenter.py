"""Segmenter: an image, a model, prompts in and masks out. The scripting API; the plugin and the CLI are faces of it."""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np
import numpy.typing as npt

from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, mask_from_logits, touches_border
from napari_sam.core.prompts import Prompts, TilePrompts
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.encoding import EncodeProgress, Sweep, TileEncoder
from napari_sam.errors import ImageError, LabelsError, PromptError
from napari_sam.images.arguments import check_plane_axes
from napari_sam.images.array_attributes import map_attributes
from napari_sam.opening import ArrayLike
from napari_sam.recording import provenance, record
from napari_sam.stores.embedding_disk import DiskStore
from napari_sam.stores.entries import Entry, Provenance
from napari_sam.stores.journal import Journal
from napari_sam.stores.labels import Edit, WritableArray
from napari_sam.stores.objects import LabelledObject
from napari_sam.stores.pyramid import LabelPyramid
from napari_sam.stores.targets import LabelTarget
from napari_sam.temporary import remove_leftovers
from napari_sam.volume import Volume

if TYPE_CHECKING:
    from napari_sam.models.predictor import Predictor

CandidateName = Literal["best", "small", "medium", "large"]
CANDIDATE_NAMES: tuple[CandidateName, ...] = ("best", "small", "medium", "large")

ANSWERS_KEPT = 64
MAX_REFINEMENTS = 2
MOST_PIXELS_PROBED = 2**24


def model_names() -> list[str]:
    """Return the models that can be asked for by name, the default one first."""
    from napari_sam.models.registry import REGISTRY

    return list(REGISTRY)


@dataclass(frozen=True, slots=True, eq=False)
class Candidates(Sequence[Mask]):
    """The three answers to one set of prompts, ordered small to large.

    Parameters
    ----------
    masks
        Three masks by rising area; each carries its `iou_prediction` and `stability_score`.
    best_index
        Which of them has the highest predicted IoU.
    plane
        The plane that they lie in.
    prompts
        What they answer, where that is known.
    downsample
        How many pixels of the image one pixel of the screen showed, if there was a screen.
    """

    masks: tuple[Mask, ...]
    best_index: int
    plane: Plane
    prompts: Prompts | None = None
    downsample: float | None = None

    @overload
    def __getitem__(self, index: int) -> Mask: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Mask, ...]: ...

    def __getitem__(self, index: int | slice) -> Mask | tuple[Mask, ...]:
        return self.masks[index]

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def best(self) -> Mask:
        """The mask with the highest predicted IoU."""
        return self.masks[self.best_index]

    def named(self, name: CandidateName) -> Mask:
        """Return the candidate called "best", "small", "medium" or "large"."""
        if name not in CANDIDATE_NAMES:
            raise PromptError(f"There is no candidate called {name!r}: use {', '.join(CANDIDATE_NAMES)}.")
        return self.best if name == "best" else self.masks[CANDIDATE_NAMES.index(name) - 1]

    def name_of(self, mask: Mask) -> CandidateName | None:
        """Return what one of the masks is called, "best" for the best one, or None for another mask."""
        if mask is self.best:
            return "best"
        return next((CANDIDATE_NAMES[i + 1] for i, known in enumerate(self.masks) if known is mask), None)


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
        store: DiskStore | Path | str | None = None,
        journal: bool | Path | str | None = None,
    ) -> None:
        self.volume = volume = Volume.of(
            image, rgb, channel_axis=channel_axis, channels=channels, spacing=spacing, nodata=nodata
        )
        if axes is None:
            self._axes: tuple[int, ...] = volume.plane_axes
        else:
            self._axes = tuple(axes) if isinstance(axes, (Sequence, np.ndarray)) else (axes,)
        if isinstance(labels, (str, Path)):
            labels = open_labels(Path(labels), volume)
        if labels is not None and not hasattr(labels, "shape"):
            raise LabelsError(f"Labels must be a numpy or zarr array and are a {type(labels).__name__}: convert them.")
        if labels is not None and tuple(labels.shape) != self.volume.shape:
            raise LabelsError(
                f"The labels have shape {tuple(labels.shape)} and the image {self.volume.shape}: make them equal."
            )
        self._label_store = None if labels is None else LabelTarget(labels)
        self._answers: OrderedDict[tuple[object, ...], Candidates] = OrderedDict()
        self._recent: deque[Candidates] = deque(maxlen=ANSWERS_KEPT)
        self._last_plane: Plane | None = None
        if isinstance(model, (str, Path)):
            from napari_sam.models import load_predictor

            model = load_predictor(model, device, threads, precision)
        self.predictor: Predictor = model
        kept = store if store is None or isinstance(store, DiskStore) else DiskStore(store)
        self.encoder = TileEncoder(volume, model, lambda: volume.rendering(contrast_limits, gamma), kept)
        self.journal: Journal | None = None
        if journal is not None and journal is not False:
            source = image if isinstance(image, (str, Path)) else None
            folder = None if journal is True else Path(journal)
            self.journal = record(volume, source, self._store(), folder, is_new=labels is None)

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
        if isinstance(index, Plane):
            return index
        if self.volume.axes is None:
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
        previous: Mask | None = None,
        downsample: float | None = None,
    ) -> Candidates:
        """Segment one object.

        The answer depends on the prompts and their order only: several points are decoded one after the other, each
        time with the last answer fed back, and what was decoded before is remembered.

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
            The earlier answer to go on from; by default the best one for the points before the last.
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
        prompts = Prompts.of(points, labels, box, mask, shape=shape)
        self._last_plane = where
        if previous is not None:
            return self._remembered(self._answer(where, prompts, previous, downsample))
        candidates: Candidates | None = None
        for step in prompts.steps():
            key = (where, step.key, downsample)
            known = self._answers.get(key)
            candidates = known or self._answer(where, step, candidates.best if candidates else None, downsample)
            self._answers[key] = candidates
            self._answers.move_to_end(key)
            if len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
        assert candidates is not None
        return self._remembered(candidates)

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
        clean = chosen if cleaning is None else cleaning(chosen, where.shape_in(self.shape))
        if self.journal is None and class_name is None:
            return self._store().write(where, clean, label, overlap).label
        prompts, made = self._history_of(chosen, mask)
        entry = self._journal().accept(where, clean, label, overlap, prompts=prompts, made=made, class_name=class_name)
        assert entry.label is not None
        return entry.label

    def undo(self) -> Edit | Entry | None:
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
    def objects(self) -> list[LabelledObject]:
        """The objects of the journal that are there, by label."""
        return self._journal().objects

    def reopen(self, label: int) -> Prompts:
        """Return what an object was segmented by, or its mask, to go on from; then `accept` under the same label.

        Raises
        ------
        LabelsError
            The journal knows no such object.
        """
        found = self._journal().object(label)
        self._last_plane = found.plane
        return found.prompts or Prompts.of(mask=found.mask, shape=found.plane.shape_in(self.shape))

    def delete(self, label: int) -> None:
        """Take an object out of the labels.

        Raises
        ------
        LabelsError, OutputError
            The journal knows no such object, or the labels or the journal cannot be written; nothing has changed.
        """
        self._journal().delete(label)

    def classify(self, label: int, name: str | None) -> None:
        """Give an object a class, made where there is none of that name; None takes it away.

        Raises
        ------
        LabelsError, OutputError
            The journal knows no such object, or cannot be written.
        """
        self._journal().classify(label, name)

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
        self._answers.clear()

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
        chosen = self.planes() if planes is None else [self.plane(plane) for plane in planes]
        grid = self._grid(chosen[0])
        numbers = [levels] if isinstance(levels, int) else list(levels)
        for level in numbers:
            if not grid.min_level <= level <= grid.max_level:
                raise PromptError(
                    f"There is no level {level}: at level 0 a pixel of the encoder's input is one of the image, and "
                    f"here there are the levels {grid.min_level} to {grid.max_level}."
                )
        whole = None if box is None else Prompts.of(box=box, shape=grid.shape).box
        return self.encoder.encode_all(store, Sweep(self.encoder, chosen, numbers, whole))

    def planes(self) -> list[Plane]:
        """Return all planes of the volume, in order."""
        row, col = (axis % len(self.shape) for axis in self._axes)
        others = [range(length) for axis, length in enumerate(self.shape) if axis not in (row, col)]
        return [self.plane(index) for index in itertools.product(*others)]

    def _store(self) -> LabelTarget:
        if self._label_store is None:
            self._label_store = LabelTarget(np.zeros(self.shape, np.uint16))
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
        self._recent.append(candidates)
        return candidates

    def _grid(self, plane: Plane) -> TileGrid:
        return self.encoder.grid(plane)

    def _answer(self, plane: Plane, prompts: Prompts, previous: Mask | None, downsample: float | None) -> Candidates:
        """Decode one round of prompts at the level that suits the object."""
        grid = self._grid(plane)
        if previous is None and prompts.box is None and prompts.bounds.extent < 2:
            found = self._probe(plane, grid, prompts, downsample)
        else:
            bounds = _bounds(prompts, previous)
            found = self.decode_on(plane, self.tile_for(grid, bounds, previous), prompts, previous)
        return replace(self._refine(plane, grid, prompts, found), prompts=prompts, downsample=downsample)

    def tile_for(self, grid: TileGrid, bounds: Box, previous: Mask | None) -> Tile:
        """Return the tile for an object inside `bounds`: the one of the last answer as long as that suits."""
        tile = previous.tile if previous else None
        least, most = self.predictor.object_range
        if tile and tile.read.contains(bounds) and least < grid.extent(bounds) / grid.span(tile.level) < most:
            return tile
        return grid.tile_at(grid.level_for(grid.extent(bounds), self.predictor.object_fraction), *bounds.center)

    def _probe(self, plane: Plane, grid: TileGrid, prompts: Prompts, downsample: float | None) -> Candidates:
        """Decode a single point, which says nothing of size, at several levels and return the best answer."""
        reach = self.predictor.probe_reach
        if downsample is None and reach:
            reach += 1  # A script has no zoom to guess from.
        middle = round(math.log2(downsample or 1))
        levels = range(middle - reach, middle + reach + 1)
        center = prompts.bounds.center
        tiles = [grid.tile_at(level, *center) for level in sorted({grid.clamp(level) for level in levels})]
        # Without coarser levels in the data, a view of all of a huge image asks for more than a click should read.
        tiles = [tile for tile in tiles if self.volume.pixels_for(plane, tile) <= MOST_PIXELS_PROBED] or tiles[:1]
        self.volume.read_ahead(plane, [tile for tile in tiles if not self.encoder.is_ready(plane, tile)])
        self._check_value(plane, tiles[0], prompts)
        answers = [self.decode_on(plane, tile, prompts, None) for tile in tiles]
        return max(answers, key=lambda answer: answer.best.iou_prediction if answer.best.area else -1.0)

    def _check_value(self, plane: Plane, tile: Tile, prompts: Prompts) -> None:
        """Refuse a lone point where the image holds nothing.

        Raises
        ------
        PromptError
            It does.
        """
        if not self.volume.may_hold_nothing:
            return
        point = prompts.positive[0]
        pixels, origin, size = self.volume.read_tile(plane, tile)
        at = [int((p + 0.5 - start) / step) for p, start, step in zip(point, origin, size, strict=True)]
        row, col = (min(max(i, 0), n - 1) for i, n in zip(at, pixels.shape, strict=False))
        if not np.isfinite(pixels[row, col]).any():
            raise PromptError(f"The image holds no data at ({point[0]:g}, {point[1]:g}): click where it does.")

    def _refine(self, plane: Plane, grid: TileGrid, prompts: Prompts, found: Candidates) -> Candidates:
        """Decode again where the mask's own extent asks for another level, with that mask as prompt."""
        seen = {found.best.tile}
        for _ in range(MAX_REFINEMENTS):
            mask = found.best
            assert mask.tile is not None
            if mask.area == 0:
                break
            bounds = _bounds(prompts, mask)
            if touches_border(mask, grid.shape):
                tile = grid.tile_at(grid.clamp(mask.tile.level + 1), *bounds.center)
            else:
                tile = self.tile_for(grid, bounds, mask)
            if tile in seen:
                break
            seen.add(tile)
            found = self.decode_on(plane, tile, prompts, mask)
        return found

    def decode_on(self, plane: Plane, tile: Tile, prompts: Prompts, previous: Mask | None) -> Candidates:
        """Decode one round of prompts on one tile, wherever that lies; the better level is `segment`'s to find."""
        decoded = self.predictor.decode(self.encoder.embedding(plane, tile), TilePrompts.on(tile, prompts, previous))
        masks = [
            mask_from_logits(logits, tile, float(iou))
            for logits, iou in zip(decoded.logits, decoded.iou_prediction, strict=True)
        ]
        order = sorted(range(len(masks)), key=lambda i: masks[i].area)
        best = int(np.argmax(decoded.iou_prediction))
        return Candidates(tuple(masks[i] for i in order), order.index(best), plane)


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


def _bounds(prompts: Prompts, mask: Mask | None) -> Box:
    return prompts.bounds if mask is None or mask.area == 0 else prompts.bounds.union(mask.box)
