"""Find all objects of an image and write them into labels; a run can be stopped, resumed and shared by processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.distributed.job import LocalRunner
from napari_sam.distributed.proposing import Proposing
from napari_sam.errors import ImageError, LabelsError, OutputError
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.linking import PlaneLinker
from napari_sam.everything.options import FilterOptions, GridOptions
from napari_sam.everything.proposal_store import STORE_VERSION, ProposalStore
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import Sweep
from napari_sam.images.opening import open_image
from napari_sam.journal.image_identity import pixel_digest
from napari_sam.journal.packing.objects import NewObject

if TYPE_CHECKING:
    from napari_sam.core.tiles import Tile
    from napari_sam.distributed.job import Runner
    from napari_sam.distributed.proposing import Proposed
    from napari_sam.exchange.label_writer import LabelWriter
    from napari_sam.images.volume import Volume
    from napari_sam.segmenter import Segmenter


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """Progress of the tiles of one plane.

    Parameters
    ----------
    total, done
        Number of tiles, and of those that are done, by this process or another one.
    encoded
        Tiles that this process has encoded.
    """

    total: int
    done: int
    encoded: int


def sweep_into(
    store: ProposalStore, sweep: Sweep, *, waits: bool = True, runner: Runner[Tile, Proposed] | None = None
) -> Iterator[SweepProgress]:
    """Propose the objects of a sweep into a store, except on tiles that are there.

    Several processes may work on one store: tiles that another one works on are looked at again at the end.

    Parameters
    ----------
    store, sweep
        As `opened_sweep` returns them.
    waits
        Whether to wait at the end for tiles that other processes work on. Without it the last progress says how many
        tiles are done, and the caller can do something else first.
    runner
        Where the tiles are done; in this process by default. See `runner_on`.

    Yields
    ------
    SweepProgress
        After every tile.

    Raises
    ------
    ImageError, OutputError
        A tile cannot be read, or the disk is full; what was proposed is kept.
    ClusterError
        The scheduler has gone away, or no worker can do it; what was proposed is kept.
    """
    store.begin(sweep.levels)
    runner = runner or LocalRunner(Proposing(sweep, store))
    tiles = sweep.tiles
    left = [tile for tile in tiles if store.get(tile) is None]
    done, encoded = len(tiles) - len(left), 0
    yield SweepProgress(len(tiles), done, encoded)
    while left:
        others: list[Tile] = []
        for tile, proposed in runner.run(left):
            if proposed.is_claimed:
                others.append(tile)
                continue
            if proposed.proposals is not None:
                store.put(tile, proposed.proposals)
            encoded += proposed.is_new
            done += 1
            yield SweepProgress(len(tiles), done, encoded)
        if len(others) == len(left):
            if not waits:
                return
            store.wait_for_others()
        left = others
    store.tidy()


def found_in(store: ProposalStore, sweep: Sweep, plane: Plane) -> FoundObjects:
    """Return the objects of a sweep that is complete.

    The tiles are joined in one order, whoever proposed them.

    Raises
    ------
    OutputError
        The proposals of a tile are missing, or their file is damaged.
    """
    parts = []
    for tile in sweep.tiles:
        part = store.get(tile)
        if part is None:
            raise OutputError(f"Proposals in {store.path} are missing or damaged: run the same command again.")
        parts.append(part)
    return FoundObjects(plane, Proposals.joined(parts))


def opened_sweep(
    folder: Path,
    segmenter: Segmenter,
    plane: Plane,
    *,
    box: Sequence[float] | None = None,
    within: str | None = None,
    sizes: Sequence[float] | None = None,
    grid: GridOptions | None = None,
    pixels: str | None = None,
) -> tuple[ProposalStore, Sweep]:
    """Return a sweep over a plane and the store for its proposals.

    The store is found by all that the proposals depend on; its levels, once chosen, stay.

    Parameters
    ----------
    folder
        Folder of all sweeps over the image.
    segmenter
        Image and model.
    plane
        The plane.
    within
        File of a mask of the plane's shape.
    box, sizes, grid
        As in `Segmenter.everything`.
    pixels
        `pixel_digest` of the image, where many planes of it are opened; read from the image by default.

    Raises
    ------
    ImageError, PromptError, OutputError
        The mask cannot be read or has another shape, the box lies outside, or the folder cannot be written.
    """
    encoder = segmenter.encoder
    mask = None if within is None else _mask_in(within, plane, segmenter.shape)
    settings: dict[str, Any] = {
        "version": STORE_VERSION,
        "pixels": pixel_digest(segmenter.volume.array) if pixels is None else pixels,
        "shape": list(segmenter.shape),
        "plane": [list(plane.axes), list(plane.index)],
        "model": encoder.predictor.digest,
        "rendering": repr(encoder.rendering),
        "channels": list(segmenter.volume.channels),
        "spacing": [float(size) for size in segmenter.volume.spacing],
        "box": None if box is None else list(box),
        "within": None if mask is None else blake2b(np.packbits(mask).tobytes()).hexdigest(),
        "sizes": None if sizes is None else list(sizes),
        "grid": None if grid is None else asdict(grid),
    }
    store = ProposalStore(folder, settings)
    sweep = segmenter.sweep(plane=plane, box=box, within=mask, sizes=sizes, grid=grid, levels=store.levels)
    return store, sweep


def written_pixels(writer: LabelWriter, plane: Plane, box: Box, label: int) -> tuple[Box, int]:
    """Return the box and number of the pixels that a label has in a box."""
    where = Plane.of(writer.target.array.shape) if writer.is_plane else plane
    mask = Mask(box, writer.target.read(where, box) == label).tightened()
    return mask.box, mask.area


def _mask_in(path: str, plane: Plane, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Read where to search: a plane's own mask, or that plane of a mask of the whole image."""
    array = open_image(path, as_labels=True).levels[0]
    size = plane.shape_in(shape)
    if tuple(array.shape) == tuple(shape):
        array = plane.oriented(np.asarray(array[plane.slicer(Box.of_shape(size))]))
    if tuple(array.shape) != size:
        raise ImageError(
            f"{path} has the shape {tuple(array.shape)} and the plane {size}: give a mask of the same size."
        )
    return np.asarray(np.asarray(array) != 0, bool)


class LinkedWriter(ABC):
    """Writes the objects of one plane after the other; in a volume the parts of one object get one label.

    Parameters
    ----------
    links
        Whether objects of neighboring planes are linked.
    known
        Labels of objects that go on, by the numbers that a `PlaneLinker` gives them.
    """

    def __init__(self, *, links: bool = False, known: Mapping[int, int] | None = None) -> None:
        self._linker = PlaneLinker() if links else None
        self._labels: dict[int, int] = dict(known or {})

    def write_chosen(self, found: FoundObjects, chosen: NDArray[np.intp]) -> list[tuple[int, int]]:
        """Write chosen objects of the next plane; return the proposal and the label of each one that got pixels.

        Raises
        ------
        LabelsError, OutputError
            The labels or the journal cannot be written.
        """
        numbers = np.full(len(chosen), -1) if self._linker is None else self._linker.link(found, chosen)
        known = [self._labels.get(int(number)) for number in numbers]
        objects = found.objects(chosen)
        labels = list(known)
        for at, label in enumerate(known):
            if label is not None:
                labels[at] = self._write_part(found.plane, objects[at], label)
        new = {int(chosen[at]): at for at, label in enumerate(known) if label is None}
        for name, group in found.by_class(new).items():
            places = [new[i] for i in group]
            written = self._write_new(found.plane, [objects[at] for at in places], name)
            for at, label in zip(places, written, strict=True):
                labels[at] = label
                if label is not None and self._linker is not None:
                    self._labels[int(numbers[at])] = label
        return [(int(i), label) for i, label in zip(chosen, labels, strict=True) if label is not None]

    @abstractmethod
    def _write_new(self, plane: Plane, objects: list[NewObject], class_name: str | None = None) -> Sequence[int | None]:
        """Write new objects of a class; return the label of each, or None where all its pixels belong to others."""

    @abstractmethod
    def _write_part(self, plane: Plane, part: NewObject, label: int) -> int | None:
        """Write a part of an object that has a label; None where all its pixels belong to others."""


class FoundWriter(LinkedWriter):
    """Writes what counts of each plane into a label image.

    Parameters
    ----------
    writer
        Writes into the labels and the journal.
    segmenter
        Image and model.
    options
        Which proposals count.
    links
        Whether objects of neighboring planes are linked.
    """

    def __init__(
        self, writer: LabelWriter, segmenter: Segmenter, options: FilterOptions, *, links: bool = False
    ) -> None:
        super().__init__(links=links)
        self._writer, self._options = writer, options
        self._made = segmenter.encoder.provenance_of_found()

    def write(self, found: FoundObjects) -> list[tuple[int, int]]:
        """Write the objects of the next plane; see `write_chosen`."""
        return self.write_chosen(found, found.select(self._options))

    def _write_new(self, plane: Plane, objects: list[NewObject], class_name: str | None = None) -> Sequence[int | None]:
        return self._writer.write_all(plane, objects, made=self._made, class_name=class_name)

    def _write_part(self, plane: Plane, part: NewObject, label: int) -> int | None:
        try:
            return self._writer.write(plane, part.mask, label, prompts=part.prompts, made=self._made).label
        except LabelsError:
            return None


def runs_of_planes(volume: Volume, planes: Sequence[Plane]) -> list[list[Plane]]:
    """Return planes in runs of neighbors along the axis on which objects go on from plane to plane.

    That is the axis named z or, without names, the last one that planes are numbered by; never time or channels.
    """
    names, axes = volume.axis_names, planes[0].axes
    others = [axis for axis in range(len(volume.shape)) if axis not in axes]
    if names is not None:
        others = [axis for axis in others if names[axis] not in ("t", "c")]
    if not others:
        return [[plane] for plane in planes]
    along = others[-1]
    runs: dict[tuple[int, ...], list[Plane]] = {}
    for plane in planes:
        rest = tuple(at for axis, at in enumerate(plane.index) if axis != along)
        runs.setdefault(rest, []).append(plane)
    return [sorted(run, key=lambda plane: plane.index[along]) for run in runs.values()]
