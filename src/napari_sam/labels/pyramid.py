"""LabelPyramid: labels that do not fit in memory, as an OME-Zarr image on disk."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import LabelsError
from napari_sam.files.temporary import dead_folders
from napari_sam.files.zarr_writes import no_write_goes_on
from napari_sam.images.ome_zarr.metadata import with_paths
from napari_sam.labels.access import Access, exclusive_on_disk
from napari_sam.labels.additions import take_back_unfinished
from napari_sam.labels.arguments import (
    label_axes,
    label_chunks,
    label_dtype,
    label_numbers,
    label_shape,
    label_text,
    labels_path,
)
from napari_sam.labels.chunk_files import remove_metadata_leftovers
from napari_sam.labels.chunks import write
from napari_sam.labels.levels import Levels, not_written
from napari_sam.labels.multiscales import Multiscale, like, make_label_image, open_label_image
from napari_sam.labels.regions import Region, end_of, fitting, highest_in, region_of, wider

if TYPE_CHECKING:
    from napari_sam.labels.chunk_files import ZarrArray

NAMESPACE = "napari-sam"


class LabelPyramid:
    """Integer labels on disk, with coarser copies that follow every write; made by `create` and `open`.

    Indexing reads and writes level 0 with one whole number, or slice of step 1, for each axis. Before a write its box
    is noted in the store, so that `open` mends the coarser levels after a crash; see `Levels` for what a write does.

    Parameters
    ----------
    path
        The folder.
    multiscale
        What is in it, opened for writing.
    """

    def __init__(self, path: Path, multiscale: Multiscale) -> None:
        self.path = path
        self._raw: bytes | None = None
        self._take(multiscale)

    def _take(self, multiscale: Multiscale) -> None:
        self._multiscale = multiscale
        self._levels = Levels(multiscale.levels, multiscale.steps)
        self._take_notes(multiscale.node.attrs.asdict().get(NAMESPACE))

    def _take_notes(self, noted: Any) -> None:
        self._noted: dict[str, Any] = noted if isinstance(noted, dict) else {}
        highest = self._noted.get("highest_label")
        is_known = isinstance(highest, int) and 0 <= highest < end_of(self.dtype) + self.can_widen
        self._highest = highest if is_known else None

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape: Sequence[int],
        *,
        axes: str | Sequence[str] | None = None,
        spacing: Sequence[float] | None = None,
        translation: Sequence[float] | None = None,
        unit: str | None = None,
        chunks: Sequence[int] | None = None,
        dtype: DTypeLike = "uint16",
        name: str | None = None,
        source: str | None = None,
        time_unit: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> LabelPyramid:
        """Make an empty label image on disk (OME-Zarr 0.5) and open it.

        Parameters
        ----------
        path
            The folder to make.
        shape
            Length of each axis in pixels, two to five of them; levels are halved along y and x.
        axes
            One letter for each axis, of t, c, z, y and x, in any order; by default "yx", "zyx", "tzyx" or "tczyx".
        spacing, translation
            Step from one level-0 pixel to the next, negative where an axis runs backwards, and center of the first
            pixel; by default 1 and 0.
        unit
            Of the space axes, for example "micrometer".
        chunks
            By default 512 along y and x and 1 along the others.
        dtype
            Whole numbers.
        name
            By default the folder's name.
        source
            The image that the labels are for, as a path from the folder.
        time_unit
            Of the time axis, for example "second".
        attributes
            Further attributes of the group, beside those of OME-Zarr.

        Raises
        ------
        LabelsError
            The path exists or cannot be made, or an argument is wrong; nothing is left behind.
        """
        notes = {**(attributes or {}), NAMESPACE: {"highest_label": 0}}
        folder = labels_path(path)
        make_label_image(
            folder,
            label_shape(shape),
            label_axes(axes),
            label_numbers(spacing, "spacing"),
            label_numbers(translation, "translation"),
            label_text(unit, "unit"),
            label_chunks(chunks),
            label_dtype(dtype),
            label_text(name, "name"),
            label_text(source, "source"),
            notes,
            label_text(time_unit, "unit of time"),
        )
        return cls.open(folder)

    @classmethod
    def open(cls, path: str | Path) -> LabelPyramid:
        """Open labels for writing: an OME-Zarr label image (0.4 or 0.5) or a single zarr array (v2 or v3).

        Raises
        ------
        LabelsError
            The path is missing, no zarr or read-only, or does not hold whole numbers at levels that are whole steps
            through each other.
        """
        path = labels_path(path)
        try:
            exists = path.exists()
        except OSError:
            exists = False
        if not exists:
            raise LabelsError(f"There are no labels at {path}: check the path, or make them with LabelPyramid.create.")
        with exclusive_on_disk(path):
            pyramid = cls(path, cls._opened(path))
            pyramid._raw = pyramid._metadata()
            remove_metadata_leftovers(path)
            pyramid._recover()
        if next(dead_folders(path.parent), None) is not None:
            take_back_unfinished(pyramid)
        return pyramid

    @staticmethod
    def _opened(path: Path) -> Multiscale:
        multiscale = open_label_image(path)
        if not all(os.access(place, os.W_OK) for place in (path, *(path / name for name in multiscale.names))):
            raise LabelsError(
                f"{path} cannot be written to: change its permissions, or copy it to where you may write."
            )
        return multiscale

    @property
    def access(self) -> Access:
        """How the writers of these labels take turns, in this and in other programs."""
        return self

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all other writers out, after taking note of what they wrote.

        Raises
        ------
        LabelsError
            Another program had the labels locked for a minute.
        """
        with exclusive_on_disk(self.path):
            self._follow()
            with self._levels.reusing_chunks():
                yield

    def stamp(self) -> object:
        """Return what differs after any write; to be compared, with exclusive access."""
        return self._raw

    def written(self) -> object:
        """Return the stamp after a write, which `write_box` notes itself."""
        return self._raw

    @property
    def levels(self) -> tuple[ZarrArray, ...]:
        """The zarr arrays, finest first; others after `widen`."""
        return self._levels.arrays

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis of level 0."""
        return tuple(self.levels[0].shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.levels[0].dtype)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Lengths of the chunks of level 0."""
        return tuple(self.levels[0].chunks)

    @property
    def downsample_factors(self) -> tuple[tuple[int, ...], ...]:
        """How many level-0 pixels one pixel of each level stands for, along each axis."""
        factors = [(1,) * self.ndim]
        for step in self._levels.steps:
            factors.append(tuple(map(operator.mul, factors[-1], step)))
        return tuple(factors)

    def __getitem__(self, key: Any, /) -> Any:
        try:
            return self.levels[0][key]
        except Exception:
            # Says which chunk it was; anything else is raised as it came.
            self._levels.content(0, region_of(key, self.shape)[0])
            raise

    def __setitem__(self, key: Any, values: Any, /) -> None:
        self.write_box(key, values)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def highest_label(self) -> int:
        """Return a number that no label is above; without the end of the type where `can_widen` is false.

        It is kept in the store; labels that another program adds later are not known. A store without it is looked
        through once, and of that only the chunks that were ever written.

        Raises
        ------
        LabelsError
            A chunk cannot be read.
        """
        with self.exclusive():
            if self._highest is None:
                self._highest = self._levels.highest(with_end=self.can_widen)
            return self._highest

    def release(self, label: int, highest: int) -> None:
        """Take labels that were undone as free where no other was given since.

        Parameters
        ----------
        label
            The highest label that was undone.
        highest
            The highest label before.
        """
        with self.exclusive():
            if self._highest == label:
                self._highest = highest
                with suppress(OSError):
                    self._note(highest)

    def read(self, plane: Plane, box: Box) -> NDArray[Any]:
        """Return a copy of the labels of a box of a plane, shape (rows, cols); see `read_box`."""
        return plane.oriented(self.read_box(plane.slicer(box)))

    def read_box(self, key: Any) -> NDArray[Any]:
        """Return a copy of a box of level 0; a `write_box` under the same `exclusive` does not read its chunks again.

        Parameters
        ----------
        key
            As in `write_box`.

        Raises
        ------
        LabelsError
            A chunk cannot be read.
        """
        region, kept = region_of(key, self.shape)
        lengths = [at.stop - at.start for at, keep in zip(region, kept, strict=True) if keep]
        return self._levels.read_box(region).reshape(lengths)

    def write_box(self, key: Any, values: Any) -> None:
        """Write a box of level 0, and what the coarser levels show of it.

        Parameters
        ----------
        key
            A whole number or a slice of step 1 for each axis, as in numpy; `...` stands for those left out.
        values
            Whole numbers of the box's shape, or one for all of it.

        Raises
        ------
        LabelsError
            The values do not fit, or the store cannot be read or written to. The labels are then as they were, unless
            the message says otherwise: the next write puts them back first.
        """
        region, kept = region_of(key, self.shape)
        block = fitting(values, region, kept, self.dtype)
        if not block.size:
            return
        with self.exclusive():
            if block.dtype != self.dtype:  # Another program has given the labels more bits.
                block = block.astype(self.dtype)
            self._write(region, block)

    def _write(self, region: Region, block: NDArray[Any]) -> None:
        highest = None if self._highest is None else max(self._highest, highest_in(block, with_end=self.can_widen))
        self._levels.settle()
        try:
            self._note(highest, region)
        except OSError as error:
            raise not_written(error) from error
        self._levels.write(region, block)
        self._highest = highest
        with suppress(OSError):
            self._note(highest)

    def repair(self, key: Any = ...) -> None:
        """Make the coarser levels agree with level 0 in a box, by default everywhere.

        Needed only where another program changed level 0 or damaged a coarser level.

        Raises
        ------
        LabelsError
            A chunk of level 0 cannot be read, or the store cannot be written to.
        """
        with self.exclusive():
            self._levels.repair(region_of(key, self.shape)[0])

    def widen(self) -> None:
        """Give the labels 32 bits, so that more of them fit; `levels` are other arrays from then on.

        The chunks that were ever written are copied into arrays beside the old ones, and then one small file says which
        count: stopped at any moment, the store is as it was or as it is to be.

        Raises
        ------
        LabelsError
            The labels have 32 bits already or are a single array, or the disk is full; nothing has changed then.
        """
        before = self.dtype
        with self.exclusive():
            if self.dtype == before:  # Unless another program has just done it.
                self._widen()

    @property
    def can_widen(self) -> bool:
        """Whether `widen` can give the labels more bits."""
        return self.dtype.itemsize < 4 and bool(self._multiscale.names)

    def _widen(self) -> None:
        dtype = wider(self.dtype)
        node: Any = self._multiscale.node
        if not self._multiscale.names:
            raise LabelsError(
                f"A single zarr array of {self.dtype} cannot be given more bits in place: copy it into labels of "
                f"{dtype}, for example made with LabelPyramid.create."
            )
        self._levels.settle()
        names = tuple(f"{name}-{dtype}" for name in self._multiscale.names)
        before = node.attrs.asdict()
        noted = self._noted | {"replaced": True}
        try:
            arrays = tuple(self._copy(level, name, dtype) for level, name in enumerate(names))
            # A summary of the metadata, where there is one, would go on naming the old arrays.
            (self.path / ".zmetadata").unlink(missing_ok=True)
            node.update_attributes({**with_paths(before, names), NAMESPACE: noted})
            self._raw = self._metadata()
        except (LabelsError, OSError) as error:
            node.metadata.attributes.update(before)
            self._remove(names)
            raise error if isinstance(error, LabelsError) else not_written(error) from error
        self._noted = noted
        self._multiscale = replace(self._multiscale, names=names, levels=arrays)
        self._levels = Levels(arrays, self._levels.steps)
        self._tidy()

    def _copy(self, level: int, name: str, dtype: np.dtype[Any]) -> ZarrArray:
        node: Any = self._multiscale.node
        with no_write_goes_on():
            copy = like(node, name, self.levels[level], dtype)
        for written in self._levels.written(level):
            write([(copy, region, block.astype(dtype)) for region, block in written])
        return copy

    def _note(self, highest: int | None, unfinished: Region | None = None) -> None:
        """Note in the store what whoever opens it next has to know."""
        notes: dict[str, Any] = {} if highest is None else {"highest_label": highest}
        if unfinished is not None:
            notes["unfinished"] = [[at.start, at.stop] for at in unfinished]
        if notes != self._noted:
            self._multiscale.node.update_attributes({NAMESPACE: notes})
            self._noted = notes
            self._raw = self._metadata()

    def _metadata(self) -> bytes:
        """Return the file that holds the attributes, as it is on the disk."""
        name = ".zattrs" if self._multiscale.node.metadata.zarr_format == 2 else "zarr.json"
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return b""

    def _follow(self) -> None:
        """Take note of what another program has written since."""
        raw = self._metadata()
        if raw == self._raw:
            return
        notes = None if self._raw is None else _changed_notes(self._raw, raw)
        if notes is None:
            self._take(self._opened(self.path))  # The levels may be others.
        else:
            self._multiscale.node.metadata.attributes[NAMESPACE] = notes
            self._take_notes(notes)
        self._raw = raw
        if {"unfinished", "replaced"} & self._noted.keys():
            self._recover()

    def _recover(self) -> None:
        """Finish what a crash interrupted."""
        with suppress(LookupError, TypeError, ValueError):
            key = tuple(slice(int(start), int(stop)) for start, stop in self._noted["unfinished"])
            if len(key) == self.ndim:
                region = region_of(key, self.shape)[0]
                self._levels.sweep(region)
                self._levels.repair(region)
        self._tidy()

    def _tidy(self) -> None:
        """Remove levels that wider ones have replaced, and then the note of it."""
        if "replaced" in self._noted:
            end = f"-{self.dtype}"
            self._remove([name.removesuffix(end) for name in self._multiscale.names if name.endswith(end)])
        with suppress(OSError):
            self._note(self._highest)

    def _remove(self, names: Sequence[str]) -> None:
        node: Any = self._multiscale.node
        for name in names:
            with suppress(OSError, LookupError, ValueError):
                del node[name]


def _changed_notes(before: bytes, now: bytes) -> dict[str, Any] | None:
    """Return the notes in the metadata of a store, or None where anything else in these has changed."""
    try:
        old, new = json.loads(before), json.loads(now)
        notes = [(data.get("attributes", data) if isinstance(data, dict) else {}).pop(NAMESPACE) for data in (old, new)]
    except (ValueError, LookupError):
        return None
    return notes[1] if old == new and isinstance(notes[1], dict) else None


def is_label_image(path: str | Path) -> bool:
    """Say whether a folder says of itself that it is an OME-Zarr label image."""
    import zarr

    with suppress(Exception):
        attributes = dict(zarr.open_group(path, mode="r").attrs)
        ome = attributes.get("ome", attributes)
        return isinstance(ome, dict) and "image-label" in ome
    return False
