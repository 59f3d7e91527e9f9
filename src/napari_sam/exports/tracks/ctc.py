"""The folder of results of the Cell Tracking Challenge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.exports.extents import compact
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.exports.tracks.lineages import Lineages, refusal_of_time

# The masks have 16 bits.
MAX_LABEL = 2**16 - 1


@dataclass(frozen=True, slots=True)
class _Track:
    """A line of the table: an object in frames without a gap.

    Parameters
    ----------
    number
        Its label in the masks.
    label
        Its label here, which several tracks have where the object is away for a time, or divides and lives on.
    first, last
        Frames.
    parent
        Number of the track it comes from, 0 for none.
    """

    number: int
    label: int
    first: int
    last: int
    parent: int


class CellTrackingChallenge:
    """Masks of each frame, and the table of tracks; see `ExportFormat`."""

    name = "Cell Tracking Challenge"
    suffixes = ("_res",)
    holds = "pixels of all objects frame by frame (`mask000.tif`), and their tracks with parents (`res_track.txt`)"
    loses = "classes and scores; an object that is away for some frames gets another label, with itself as parent"
    place = "pixels"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return refusal_of_time(source, "The Cell Tracking Challenge")

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        import tifffile

        tracks = _tracks_of(Lineages.of(source))
        highest = max((track.number for track in tracks), default=0)
        if highest > MAX_LABEL:
            raise LabelsError(f"The Cell Tracking Challenge has labels up to {MAX_LABEL}, and {highest} is needed.")
        path.mkdir()
        lines = (f"{track.number} {track.first} {track.last} {track.parent}\n" for track in tracks)
        (path / "res_track.txt").write_text("".join(lines), encoding="ascii")
        digits = max(3, len(str(source.shape[source.axes.index("t")] - 1)))
        for time, frame in _frames(source):
            labels, places = compact(frame)
            numbers = {track.label: track.number for track in tracks if track.first <= time <= track.last}
            table = np.array([0, *(numbers[label] for label in labels.tolist())], np.uint16)
            tifffile.imwrite(path / f"mask{time:0{digits}d}.tif", table[places], compression="zlib")


def _frames(source: ExportSource) -> Iterator[tuple[int, NDArray[np.integer]]]:
    """Yield the labels of each frame, with rows and columns last."""
    axis = source.axes.index("t")
    letters = source.axes.replace("t", "")
    order = [letters.index(letter) for letter in "zyx" if letter in letters]
    for time in range(source.shape[axis]):
        region = tuple(
            slice(time, time + 1) if at == axis else slice(0, length) for at, length in enumerate(source.shape)
        )
        yield time, source.read(region).squeeze(axis).transpose(order)


def _tracks_of(found: Lineages) -> list[_Track]:
    """Return the tracks by number; each ends before those begin that come from it."""
    births: dict[int, list[int]] = {}
    for child, parent in found.parents.items():
        births.setdefault(parent, []).append(int(found.times_of(child)[0]))
    parts: dict[int, list[NDArray[np.int64]]] = {}
    for label in found.spans:
        times = found.times_of(label)
        is_new = np.append(False, np.diff(times) > 1)
        cuts = np.searchsorted(times, births.get(label, []))
        is_new[cuts[cuts < len(times)]] = True
        parts[label] = np.split(times, np.flatnonzero(is_new))
    tracks: dict[int, list[_Track]] = {}
    free = max(parts, default=0) + 1
    for label, pieces in parts.items():
        before = 0
        for number, times in enumerate(pieces):
            own = free if number else label
            free += bool(number)
            tracks.setdefault(label, []).append(_Track(own, label, int(times[0]), int(times[-1]), before))
            before = own
    for child, parent in found.parents.items():
        first = tracks[child][0]
        mother = [each for each in tracks[parent] if each.last < first.first][-1]
        tracks[child][0] = replace(first, parent=mother.number)
    return sorted((track for same in tracks.values() for track in same), key=lambda track: track.number)
