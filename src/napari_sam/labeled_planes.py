"""LabeledPlanes: the planes of an image, with its labels and their journal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from napari_sam.core.geometry import Box, Plane, plane_axes
from napari_sam.core.prompt_checks import checked_box
from napari_sam.errors import LabelsError
from napari_sam.images.arguments import check_plane_axes
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import record
from napari_sam.journal.journal import Journal
from napari_sam.journal.storage.complete_areas import CompleteArea, complete_areas, write_complete_areas
from napari_sam.journal.storage.object_table import ObjectView
from napari_sam.labels.array import LabelArray, WritableArray
from napari_sam.labels.opening import open_labels
from napari_sam.labels.regions import check_same_shape


class LabeledPlanes:
    """The part of `LabeledImage` that opens labels and their journal, and names the planes.

    Parameters
    ----------
    volume
        The image.
    axes
        (row axis, column axis) of the planes; those of the volume by default.

    Attributes
    ----------
    volume
        The image.
    journal
        The journal, or None.
    """

    def __init__(self, volume: Volume, axes: Sequence[int] | None = None) -> None:
        self.volume = volume
        self.journal: Journal | None = None
        self._axes = volume.plane_axes if axes is None else plane_axes(axes, volume.shape)
        self._label_store: LabelArray | None = None
        self._last_plane: Plane | None = None

    def _open(self, labels: WritableArray | Path | None, journal: bool | Path, source: str | Path | None) -> None:
        """Open the labels and the journal.

        Parameters
        ----------
        labels
            An array, or the path of labels that are created if they are missing; None for new labels in memory.
        journal
            Whether a journal is kept, or its folder.
        source
            Path or URL of the image, or None for an array.

        Raises
        ------
        LabelsError, OutputError
            The labels have another shape, or they or the journal cannot be opened.
        """
        if isinstance(labels, Path):
            labels = open_labels(labels, self.volume)
        if labels is not None:
            check_same_shape(labels, self.shape)
            self._label_store = LabelArray(labels)
        if journal is not False:
            folder = None if journal is True else journal
            self.journal = record(self.volume, source, self._store(), folder, is_new=labels is None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis of the image, in array order, without the color or channel axis."""
        return self.volume.shape

    @property
    def labels(self) -> WritableArray:
        """The labels that `accept` writes into: integers of shape `shape`, 0 where there is no object."""
        return self._store().array

    def plane(self, index: Plane | int | Sequence[int] | None = None) -> Plane:
        """Return a plane of the image.

        Parameters
        ----------
        index
            Position along each axis that is not an axis of the planes, in array order; negative positions count from
            the end. May be left out where these axes have length 1. A `Plane` is checked and returned.

        Raises
        ------
        ImageError
            There is no such plane, or the image has many planes and none is named.
        """
        if self.volume.axes is None and not isinstance(index, Plane):
            check_plane_axes(self.shape, self._axes, is_named=index is not None)
        return Plane.of(self.shape, index, self._axes)

    def _plane_or_last(self, index: Plane | int | Sequence[int] | None) -> Plane:
        """Return a plane, see `plane`; by default that of the last call of `segment`."""
        return self._last_plane or self.plane() if index is None else self.plane(index)

    def planes(self) -> list[Plane]:
        """Return all planes of the image, in array order."""
        others = [range(length) for axis, length in enumerate(self.shape) if axis not in self._axes]
        return [self.plane(index) for index in itertools.product(*others)]

    @property
    def objects(self) -> ObjectView:
        """The objects in the labels, by rising label. Raises LabelsError where there is no journal."""
        return self._journal().objects

    @property
    def complete_areas(self) -> list[CompleteArea]:
        """The areas that were marked as complete; none without a journal on disk."""
        has_file = self.journal is not None and self.journal.is_on_disk
        return complete_areas(self._journal().folder) if has_file else []

    def mark_complete(
        self,
        box: Box | Sequence[float] | None = None,
        *,
        plane: Plane | int | Sequence[int] | None = None,
        is_complete: bool = True,
    ) -> None:
        """Mark a region in which every object is accepted: to `teach`, what has no label there is background.

        The journal keeps it, also for later sessions.

        Parameters
        ----------
        box
            (top, left, bottom, right) of the region, half-open; by default the whole plane.
        plane
            The plane; see `plane`. By default that of the last call of `segment`.
        is_complete
            False forgets all marks in the plane that meet the region.

        Raises
        ------
        PromptError
            The box has no area, or lies outside the plane.
        ImageError
            There is no such plane.
        LabelsError, OutputError
            There is no journal on disk, or it cannot be written to.
        """
        where = self._plane_or_last(plane)
        whole = Box.of_shape(where.shape_in(self.shape))
        area = CompleteArea(where, checked_box(box, whole) or whole)
        folder = self._journal().folder
        kept = complete_areas(folder)
        if not is_complete:
            kept = [one for one in kept if one.plane != where or one.box.intersection(area.box).is_empty]
        write_complete_areas(folder, [*kept, area] if is_complete else kept)

    def close(self) -> None:
        """Close the journal, so that other programs can write to it. A `with` block does so at its end."""
        if self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _store(self) -> LabelArray:
        if self._label_store is None:
            self._label_store = LabelArray(np.zeros(self.shape, np.uint16))
        return self._label_store

    def _journal(self) -> Journal:
        if self.journal is None:
            raise LabelsError("There is no journal, which this needs: give journal=True when the Segmenter is made.")
        return self.journal
