"""LabelPyramid: labels that do not fit in memory, as an OME-Zarr image on disk."""

from __future__ import annotations

import operator
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
from napari_sam.images.ome_zarr.metadata import with_paths
from napari_sam.labels.access import NAMESPACE, Access, WriterNotes, exclusive_on_disk
from napari_sam.labels.additions import take_back_unfinished
from napari_sam.labels.regions import Region, end_of, fitting, highest_in, region_of, wider
from napari_sam.labels.storage.chunk_files import remove_metadata_leftovers
from napari_sam.labels.storage.levels import Levels, not_written
from napari_sam.labels.storage.multiscales import Multiscale
from napari_sam.labels.storage.zarr_images import create_labels, existing_path, open_for_writing

if TYPE_CHECKING:
    from napari_sam.labels.storage.chunk_files import ZarrArray


class LabelPyramid:
    """Integer labels on disk, with coarser copies that follow every write; made by `create` and `open`.

    Indexing reads and writes level 0 with one whole number, or slice of step 1, for each axis. Before a write its box
    is noted in the store, so that `open` repairs the coarser levels after a crash; see `Levels` for the order.

    Parameters
    ----------
    path
        The folder.
    multiscale
        Its arrays, opened for writing.
    """

    def __init__(self, path: Path, multiscale: Multiscale) -> None:
        self.path = path
        self._take(multiscale)

    def _take(self, multiscale: Multiscale) -> None:
        self._multiscale = multiscale
        self._levels = Levels(multiscale.levels, multiscale.steps)
        self._notes = WriterNotes(self.path, multiscale.node)
        self._take_highest()

    def _take_highest(self) -> None:
        highest = self._notes.noted.get("highest_label")
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
        return cls.open(
            create_labels(
                path,
                shape,
                axes=axes,
                spacing=spacing,
                translation=translation,
                unit=unit,
                chunks=chunks,
                dtype=dtype,
                name=name,
                source=source,
                time_unit=time_unit,
                attributes={**(attributes or {}), NAMESPACE: {"highest_label": 0}},
            )
        )

    @classmethod
    def open(cls, path: str | Path) -> LabelPyramid:
        """Open labels for writing: an OME-Zarr label image (0.4 or 0.5) or a single zarr array (v2 or v3).

        Raises
        ------
        LabelsError
            The path is missing, no zarr or read-only, or does not hold whole numbers at levels that are whole steps
            through each other.
        """
        path = existing_path(path)
        with exclusive_on_disk(path):
            pyramid = cls(path, open_for_writing(path))
            pyramid._notes.read()
            remove_metadata_leftovers(path)
            pyramid._recover()
        if next(dead_folders(path.parent), None) is not None:
            take_back_unfinished(pyramid)
        return pyramid

    @property
    def access(self) -> Access:
        """Exclusive access of this and other programs to the labels."""
        return self

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other writers out, after following what they have written.

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
        """Return a value that changes with every write; compare it with exclusive access only."""
        return self._notes.raw

    def written(self) -> object:
        """Return the stamp after a write, which `write_box` notes itself."""
        return self.stamp()

    @property
    def levels(self) -> tuple[ZarrArray, ...]:
        """The zarr arrays, finest first; `widen` replaces them."""
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
        """Number of level-0 pixels per pixel of each level, along each axis."""
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
        """Return an upper bound of the labels; the end of the type does not count where `can_widen` is false.

        The bound is noted in the store, and not aware of labels that other software adds later. A store without it is
        searched once, where chunks were ever written.

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
        """Make labels free again that were taken back, unless a higher one was given since.

        Parameters
        ----------
        label
            The highest label that was taken back.
        highest
            The highest label before it was given.
        """
        with self.exclusive():
            if self._highest == label:
                self._highest = highest
                with suppress(OSError):
                    self._notes.write(highest)

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
        """Write a box of level 0, and its samples in the coarser levels.

        Parameters
        ----------
        key
            A whole number or a slice of step 1 for each axis, as in numpy; `...` stands for those left out.
        values
            Whole numbers of the box's shape, or one for all of it.

        Raises
        ------
        LabelsError
            The values do not fit, or the store cannot be read or written to. The labels are unchanged, unless the
            message says otherwise: then the next write restores them first.
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
            self._notes.write(highest, region)
        except OSError as error:
            raise not_written(error) from error
        self._levels.write(region, block)
        self._highest = highest
        with suppress(OSError):
            self._notes.write(highest)

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
        """Give the labels 32 bits, so that more of them fit; `levels` are new arrays afterwards.

        The chunks that were ever written are copied into new arrays beside the old ones, then one small file switches
        to them: a crash at any moment leaves the store in its old or its new state.

        Raises
        ------
        LabelsError
            The labels have 32 bits already or are a single array, or the disk is full; nothing has changed.
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
        try:
            arrays = self._levels.copies(node, names, dtype)
            # A summary of the metadata, where there is one, would go on naming the old arrays.
            (self.path / ".zmetadata").unlink(missing_ok=True)
            self._notes.update({"replaced": True}, with_paths(before, names))
        except (LabelsError, OSError) as error:
            node.metadata.attributes.update(before)
            self._remove(names)
            raise error if isinstance(error, LabelsError) else not_written(error) from error
        self._multiscale = replace(self._multiscale, names=names, levels=arrays)
        self._levels = Levels(arrays, self._levels.steps)
        self._tidy()

    def _follow(self) -> None:
        """Follow what other programs have written."""
        changed = self._notes.read()
        if changed == "all":
            self._take(open_for_writing(self.path))  # The levels may be others.
            self._notes.read()
        elif changed == "notes":
            self._take_highest()
        if changed and {"unfinished", "replaced"} & self._notes.noted.keys():
            self._recover()

    def _recover(self) -> None:
        """Finish a write or widening that a crash interrupted."""
        with suppress(LookupError, TypeError, ValueError):
            key = tuple(slice(int(start), int(stop)) for start, stop in self._notes.noted["unfinished"])
            if len(key) == self.ndim:
                region = region_of(key, self.shape)[0]
                self._levels.sweep(region)
                self._levels.repair(region)
        self._tidy()

    def _tidy(self) -> None:
        """Remove levels that wider ones have replaced, then the note of it."""
        if "replaced" in self._notes.noted:
            end = f"-{self.dtype}"
            self._remove([name.removesuffix(end) for name in self._multiscale.names if name.endswith(end)])
        with suppress(OSError):
            self._notes.write(self._highest)

    def _remove(self, names: Sequence[str]) -> None:
        node: Any = self._multiscale.node
        for name in names:
            with suppress(OSError, LookupError, ValueError):
                del node[name]
