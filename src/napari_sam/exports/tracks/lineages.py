"""Lineages: where each object is at each time, and which objects come from which."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tables.measurements import Measuring

SPACE = "zyx"


def refusal_of_time(source: ExportSource, form: str) -> str | None:
    """Return why labels hold no tracks, or None."""
    if "t" not in source.axes:
        return (
            f"{form} follows objects through time, and the labels have no time axis: name the axes of their image, "
            "for example by saving it as OME-TIFF."
        )
    if not set(source.axes) <= {"t", *SPACE}:
        return f"{form} has the axes time, z, y and x, and the labels {source.axes}: export one channel."
    return None


@dataclass(frozen=True, slots=False, eq=False)
class Lineages:
    """Objects at each time, by label and time.

    Parameters
    ----------
    axes
        Letters of the axes of space.
    labels, times, sizes
        Shape (n,): the object, the frame, and the number of its pixels there.
    centers
        Shape (n, axes): centroid in pixels, whole numbers being pixel centers.
    parents
        The object that each daughter comes from.
    """

    axes: str
    labels: NDArray[np.int64]
    times: NDArray[np.int64]
    sizes: NDArray[np.int64]
    centers: NDArray[np.float64]
    parents: dict[int, int]

    @classmethod
    def of(cls, source: ExportSource) -> Self:
        """Return the objects of labels with a time axis.

        Raises
        ------
        LabelsError
            The labels cannot be read, or an object comes from one that does not begin before it.
        """
        plain = copy.copy(source)
        plain.image = None  # Intensities are not asked for.
        table = Measuring(plain, ExportOptions()).table()
        axes = "".join(letter for letter in SPACE if letter in source.axes)
        sizes = table["area_px" if "area_px" in table else "volume_px"]
        centers = np.stack([table[f"centroid_{letter}_px"] for letter in axes], axis=1)
        times = table.get("t", np.zeros(0, np.int64))
        order = np.lexsort((times, table["label"]))
        there = set(table["label"].tolist())
        parents = {child: parent for child, parent in source.parents.items() if {child, parent} <= there}
        found = cls(axes, table["label"][order], times[order], sizes[order], centers[order], parents)
        found._check()
        return found

    @cached_property
    def spans(self) -> dict[int, tuple[int, int]]:
        """The half-open range of rows of each object."""
        labels, starts = np.unique(self.labels, return_index=True)
        stops = np.append(starts[1:], len(self.labels))
        return dict(zip(labels.tolist(), zip(starts.tolist(), stops[: len(labels)].tolist(), strict=True), strict=True))

    def times_of(self, label: int) -> NDArray[np.int64]:
        """Return the times at which an object is there, ascending."""
        return self.times[slice(*self.spans[label])]

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Pairs of rows, shape (m, 2): each object with itself at its next time, and mothers with their daughters."""
        rows = np.flatnonzero(self.labels[1:] == self.labels[:-1])
        divisions = [
            (self.spans[parent][0] + self._before(parent, child) - 1, self.spans[child][0])
            for child, parent in sorted(self.parents.items())
        ]
        return np.concatenate([np.stack([rows, rows + 1], axis=1), np.array(divisions, np.int64).reshape(-1, 2)])

    def _before(self, parent: int, child: int) -> int:
        """Return at how many times a mother is there before its daughter."""
        return int(np.searchsorted(self.times_of(parent), self.times_of(child)[0]))

    def _check(self) -> None:
        for child, parent in self.parents.items():
            if self._before(parent, child) == 0:
                raise LabelsError(
                    f"The object {child} cannot come from {parent}, which does not begin before it: correct its parent."
                )
