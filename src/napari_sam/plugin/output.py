"""The Labels layers that masks go into: the next free label of each, and the way back from every write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.lazy import lazy_levels
from napari_sam.plugin import labels_layer, own_layers
from napari_sam.plugin.refine import Refinement
from napari_sam.plugin.workers import Work
from napari_sam.stores.labels import Edit, LabelStore

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image, Labels

    from napari_sam.plugin.workers import Report, Runner
    from napari_sam.stores.pyramid import LabelPyramid


@dataclass(frozen=True, slots=True, eq=False)
class Acceptance:
    """A mask that the user accepted.

    Parameters
    ----------
    plane, mask, overlap
        What to write, where, and what happens to other labels there.
    done
        Called with the layer and the write when it is done.
    failed
        Called with the reason when it cannot be.
    replaces
        The object whose place the mask takes, under its label; None for a new one.
    """

    plane: Plane
    mask: Mask
    overlap: Overlap
    done: Callable[[Labels, Edit], None]
    failed: Callable[[Exception], None]
    replaces: Refinement | None = None


class Output:
    """Writes masks into Labels layers under labels that are free, and takes them back.

    A layer is searched for its highest label once; from then on its own events keep the number up to date.

    Parameters
    ----------
    viewer
        The viewer's model.
    runner
        Runs what writes on disk.
    insert
        Adds a new layer in its place.
    notify
        Shows one sentence to the user.
    """

    def __init__(
        self, viewer: ViewerModel, runner: Runner, insert: Callable[[Labels], None], notify: Callable[[str], None]
    ) -> None:
        self._viewer, self._runner, self._insert, self._notify = viewer, runner, insert, notify
        self._highest: dict[Labels, int] = {}
        self._watched: set[Labels] = set()
        self._edits: list[tuple[Labels, list[Edit]]] = []
        self._stores: dict[Labels, LabelStore] = {}

    def watch(self, layer: Labels, highest: int | None = None) -> None:
        """Follow a layer's labels from now on; `highest` is its highest one, where that is known."""
        if layer not in self._watched:
            self._watched.add(layer)
            layer.events.paint.connect(self._on_paint)
            layer.events.data.connect(self._on_replaced)
        if highest is not None:
            self._highest.setdefault(layer, highest)

    def forget(self, layer: Labels) -> None:
        """Stop following a layer."""
        self._highest.pop(layer, None)
        self._stores.pop(layer, None)
        if layer in self._watched:
            self._watched.remove(layer)
            layer.events.paint.disconnect(self._on_paint)
            layer.events.data.disconnect(self._on_replaced)

    def close(self) -> None:
        """Stop following all layers."""
        for layer in list(self._watched):
            self.forget(layer)

    def is_searched(self, layer: Labels) -> bool:
        """Say whether the highest label of a layer is known, so that a write need not look for it."""
        return layer in self._highest or labels_layer.pyramid_of(layer) is not None

    def commit(self, image: Image, target: Labels | None, acceptance: Acceptance) -> None:
        """Write a mask under the next free label of a Labels layer, made anew where there is none.

        A layer that napari can edit is written at once; what is kept on disk is written by a job, and before any other.

        Parameters
        ----------
        image
            What the mask is of.
        target
            The layer to write into, or None.
        acceptance
            What to write, and who is told of the end.
        """
        try:
            if target is None:
                target = self._new_layer(image)
            if target is None:
                self._create(image, acceptance)
            elif labels_layer.pyramid_of(target) is None:
                labels_layer.check_target(target, image)
                acceptance.done(target, self._write(target, acceptance))
            elif acceptance.replaces is not None:
                raise LabelsError(
                    f"{target.name!r} is kept on disk, where objects cannot be replaced yet: undo, or paint over it."
                )
            else:
                labels_layer.check_target(target, image)
                self._write_on_disk(target, acceptance)
        except NapariSamError as error:
            acceptance.failed(error)

    def undo(self, done: Callable[[Edit, bool], None], failed: Callable[[Exception], None]) -> bool:
        """Take back the last write into a layer that is still there; say whether there is one.

        Parameters
        ----------
        done
            Told of the write, and whether any of it was still there.
        failed
            Told why it cannot be taken back.
        """
        while self._edits:
            layer, edits = self._edits.pop()
            edit = edits[-1]
            if layer not in self._viewer.layers:
                continue
            store = self._stores.get(layer)
            if store is not None:
                self._undo_on_disk(layer, store, edit, done, failed)
                return True
            changed = [labels_layer.revert(layer, each) for each in reversed(edits)]
            if len(edits) == 1 and self._highest.get(layer) == edit.label:
                self._highest[layer] = edit.label - 1
            done(edit, any(changed))
            return True
        return False

    def _new_layer(self, image: Image) -> Labels | None:
        layer = own_layers.make_labels(image)
        if layer is not None:
            self._insert(layer)
            self.watch(layer, 0)
        return layer

    def _write(self, layer: Labels, acceptance: Acceptance) -> Edit:
        old = acceptance.replaces
        if old is not None:
            edits = labels_layer.replace(
                layer, acceptance.plane, old.mask, acceptance.mask, old.label, acceptance.overlap
            )
            self._edits.append((layer, edits))
            return edits[-1]
        if layer not in self._highest:
            self._highest[layer] = labels_layer.find_highest(layer)
        label = self._highest[layer] + 1
        if isinstance(layer.data, np.ndarray) and label > np.iinfo(layer.data.dtype).max:
            labels_layer.widen(layer)
        edit = labels_layer.write(layer, acceptance.plane, acceptance.mask, label, acceptance.overlap)
        self._highest[layer] = edit.label
        self._edits.append((layer, [edit]))
        return edit

    def _write_on_disk(self, layer: Labels, acceptance: Acceptance) -> None:
        store = self._store_of(layer)

        def done(edit: Edit) -> None:
            self._edits.append((layer, [edit]))
            self._show(layer)
            acceptance.done(layer, edit)

        job = lambda _: store.write(acceptance.plane, acceptance.mask, None, acceptance.overlap)  # noqa: E731
        self._runner.submit_write(Work(job, done, acceptance.failed))

    def _create(self, image: Image, acceptance: Acceptance) -> None:
        """Make a pyramid on disk in a job, write the first mask into it, and show it."""
        make = own_layers.pyramid_maker(own_layers.label_path(image), image)

        def job(_: Report) -> tuple[LabelPyramid, LabelStore, Edit]:
            pyramid = make()
            store = LabelStore(pyramid)
            return pyramid, store, store.write(acceptance.plane, acceptance.mask, None, acceptance.overlap)

        def done(made: tuple[LabelPyramid, LabelStore, Edit]) -> None:
            pyramid, store, edit = made
            layer = own_layers.labels_of_pyramid(pyramid, image)
            self._insert(layer)
            self._stores[layer] = store
            self._edits.append((layer, [edit]))
            self._notify(f"The image is large, so its labels are kept on disk, in {pyramid.path}.")
            acceptance.done(layer, edit)

        self._runner.submit_write(Work(job, done, acceptance.failed))

    def _undo_on_disk(
        self,
        layer: Labels,
        store: LabelStore,
        edit: Edit,
        done: Callable[[Edit, bool], None],
        failed: Callable[[Exception], None],
    ) -> None:
        def shown(_: Any) -> None:
            self._show(layer)
            done(edit, True)

        self._runner.submit_write(Work(lambda _: store.undo(), shown, failed))

    def _store_of(self, layer: Labels) -> LabelStore:
        if layer not in self._stores:
            pyramid = labels_layer.pyramid_of(layer)
            assert pyramid is not None
            self._stores[layer] = LabelStore(pyramid)
        return self._stores[layer]

    def _show(self, layer: Labels) -> None:
        pyramid = labels_layer.pyramid_of(layer)
        if pyramid is not None and np.dtype(layer.dtype) != np.dtype(pyramid.dtype):
            layer.data = lazy_levels(pyramid.levels)  # It was given room for more labels.
        layer.refresh()

    def _on_paint(self, event: Any) -> None:
        layer = event.source
        if layer in self._highest:
            self._highest[layer] = max(self._highest[layer], int(layer.selected_label))

    def _on_replaced(self, event: Any) -> None:
        self._highest.pop(event.source, None)
