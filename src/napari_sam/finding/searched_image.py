"""SearchedImage: find all objects of an image, and write them into its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import numpy.typing as npt

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.core.prompt_checks import checked_box, checked_mask
from napari_sam.core.tiles import Tile
from napari_sam.distributed.cluster import Cluster
from napari_sam.distributed.job import Runner
from napari_sam.distributed.proposing import Proposed, ProposingPlan, proposals_of
from napari_sam.distributed.sent_tiles import proposals_of_sent
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.errors import PromptError
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import GridOptions, checked_sizes
from napari_sam.everything.proposal_cache import ProposalCache
from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.everything.sweep import EverythingProgress, Region, RunTiles, Sweep, propose_all
from napari_sam.labeled_image import LabeledImage


class SearchedImage(LabeledImage):
    """The part of `Segmenter` that finds all objects.

    Attributes
    ----------
    encoder
        The `TileEncoder` of the image.
    cluster
        The cluster that long work is done on, or None.
    proposal_cache
        Where the proposals of tiles are kept, so that a place that was searched before is not encoded again; None, the
        default, keeps nothing. `ProposalCache.default` is that of the window and of the commands.
    """

    encoder: TileEncoder
    cluster: Cluster | None = None
    proposal_cache: ProposalCache | None = None

    def everything(
        self,
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        sizes: Sequence[float] | None = None,
        grid: GridOptions | None = None,
    ) -> FoundObjects:
        """Find all objects of a plane or of a part of it.

        Every tile of the plane is encoded, and objects are proposed where the model guesses them or, for a model that
        guesses nothing, at the points of a grid. `FoundObjects.select` says which proposals count; `accept_found`
        writes them into the labels.

        Parameters
        ----------
        plane
            The plane; see `plane`.
        box
            (top, left, bottom, right), half-open: only objects whose prompted point lies in it. By default all.
        within
            The same by a `Mask`, or by a boolean array of the plane's shape.
        sizes
            (smallest, largest) diameter of the objects, in pixels along the finer axis. They decide on how many levels
            the plane is searched, and so how long it takes. By default the sizes of a sample of the plane.
        grid
            Options of the grid of points. By default the grid is used only with models that guess nothing.

        Returns
        -------
        FoundObjects
            The proposals, with masks, scores and prompts.

        Raises
        ------
        PromptError
            The box or the mask lies outside the plane, or the sizes are not two rising numbers.
        ImageError
            There is no such plane, or it cannot be read.
        """
        *_, last = self.everything_steps(plane=plane, box=box, within=within, sizes=sizes, grid=grid)
        return last.found

    def everything_steps(
        self,
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        sizes: Sequence[float] | None = None,
        grid: GridOptions | None = None,
        first: Box | None = None,
    ) -> Iterator[EverythingProgress]:
        """Find all objects tile by tile; see `everything` for parameters and errors.

        What lies in the box `first` is searched first, and what lies around it next; by default the coarse tiles come
        first.

        Yields
        ------
        EverythingProgress
            After every tile, with what was found so far. Close the iterator to stop.
        """
        where = self.plane(plane)
        sweep = self.sweep(plane=where, box=box, within=within, sizes=sizes, grid=grid, first=first)
        return propose_all(where, sweep, self.run_on_cluster(sweep))

    @property
    def shared(self) -> SharedImage | None:
        """The image and the model as the workers of the cluster open them; None without one, or for an array."""
        return None

    def run_on_cluster(self, sweep: Sweep) -> RunTiles | None:
        """Return what proposes the objects of tiles on the workers of the cluster, for `propose_all`, or None."""
        runner = self.proposing_runner(sweep)
        if runner is not None:
            return partial(proposals_of, runner)
        # Workers cannot open an array; nor does one that went away help, which was said already.
        if self.cluster is None or not self.cluster.is_there:
            return None
        return partial(proposals_of_sent, self.cluster, sweep)

    def proposing_runner(self, sweep: Sweep, store: ProposalStore | None = None) -> Runner[Tile, Proposed] | None:
        """Return what proposes the objects of tiles on the workers of the cluster; None without a cluster.

        Parameters
        ----------
        sweep
            What is searched.
        store
            Where the workers write the proposals; they return them by default.
        """
        image = self.shared
        if image is None or self.cluster is None:
            return None
        return self.cluster.runner(ProposingPlan.of(image, sweep, store))

    def sweep(
        self,
        *,
        plane: Plane,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        sizes: Sequence[float] | None = None,
        grid: GridOptions | None = None,
        levels: Sequence[int] | None = None,
        first: Box | None = None,
    ) -> Sweep:
        """Return the tiles of a search for all objects.

        Parameters
        ----------
        plane, box, within, sizes, grid, first
            As in `everything_steps`.
        levels
            The levels to search, as `Sweep.levels` of an earlier search; chosen by `sizes` or a sample by default.

        Raises
        ------
        PromptError
            The box or the mask lies outside the plane, or the sizes are not two rising numbers.
        """
        region = replace(self._region(plane, box, within), first=first)
        checked = None if sizes is None else checked_sizes(sizes)
        return Sweep(
            self.encoder,
            plane,
            region,
            sizes=checked,
            grid=grid,
            levels=levels,
            cache=self.proposal_cache,
        )

    def accept_found(
        self,
        found: FoundObjects,
        chosen: Sequence[int] | npt.NDArray[np.intp] | None = None,
        *,
        overlap: Overlap = "keep",
        class_name: str | None = None,
    ) -> list[int | None]:
        """Write found objects into the labels; one `undo` takes all of them back.

        Parameters
        ----------
        found
            What `everything` returned.
        chosen
            Numbers of the proposals to write, best first. By default `found.select()`.
        overlap, class_name
            As in `accept_all`. Of what `find_similar` returned, each object gets its most likely class by default, if
            there is a journal.

        Returns
        -------
        list of int or None
            The label of each object; None where all its pixels belong to other labels.

        Raises
        ------
        LabelsError, OutputError
            As in `accept_all`.
        """
        numbers = [int(i) for i in (found.select() if chosen is None else chosen)]
        has_classes = class_name is None and self.journal is not None and len(numbers) > 0
        groups = found.by_class(numbers) if has_classes else {class_name: numbers}
        made, labels = self.encoder.provenance_of_found(), dict[int, int | None]()
        with nullcontext() if self.journal is None else self.journal.together():
            for name, group in groups.items():
                written = self.accept_all(
                    found.objects(group), plane=found.plane, overlap=overlap, made=made, class_name=name
                )
                labels.update(zip(group, written, strict=True))
        return [labels[i] for i in numbers]

    def _region(self, plane: Plane, box: Box | Sequence[float] | None, within: Mask | npt.ArrayLike | None) -> Region:
        """Return the checked part of a plane that is searched."""
        shape = plane.shape_in(self.shape)
        if min(shape) < 2:
            raise PromptError(
                f"A plane of {shape[0]} x {shape[1]} pixels has nothing to segment: choose other axes or another image."
            )
        whole = Box.of_shape(shape)
        return Region(checked_box(box, whole) or whole, checked_mask(within, shape))
