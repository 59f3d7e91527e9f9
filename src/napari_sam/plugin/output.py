"""The Labels layers that masks go into: the next free label of each, and the way back from every write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask, Overlap
from napari_sam.lazy import lazy_levels
from napari_sam.plugin import labels_layer
from napari_sam.stores.labels import Edit, LabelStore

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.plugin.workers import Report
    from napari_sam.stores.pyramid import LabelPyramid


class Output:
    """Writes masks into Labels layers under labels that are free, and takes them back.

    A layer is searched for its highest label once; from then on its own events keep the number up to date.
    """

    def __init__(self) -> None:
        self._highest: dict[Labels, int] = {}
        self._watched: set[Labels] = set()
        self._edits: list[tuple[Labels, Edit]] = []
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

    def write(self, layer: Labels, plane: Plane, mask: Mask, overlap: Overlap = "keep") -> Edit:
        """Write a mask under the next free label of a layer that napari can edit.

        Raises
        ------
        LabelsError
            The mask is empty, no pixel of it is free, or the label does not fit the layer's type.
        """
        if layer not in self._highest:
            self._highest[layer] = labels_layer.find_highest(layer)
        label = self._highest[layer] + 1
        if isinstance(layer.data, np.ndarray) and label > np.iinfo(layer.data.dtype).max:
            labels_layer.widen(layer)
        edit = labels_layer.write(layer, plane, mask, label, overlap)
        self._highest[layer] = edit.label
        self._edits.append((layer, edit))
        return edit

    def create_job(
        self, make: Callable[[], LabelPyramid], plane: Plane, mask: Mask, overlap: Overlap
    ) -> Callable[[Report], tuple[LabelPyramid, LabelStore, Edit]]:
        """Return what makes a pyramid and writes the first mask into it; `created` is told afterwards."""

        def job(_: Report) -> tuple[LabelPyramid, LabelStore, Edit]:
            pyramid = make()
            store = LabelStore(pyramid)
            return pyramid, store, store.write(plane, mask, None, overlap)

        return job

    def created(self, layer: Labels, store: LabelStore, edit: Edit) -> None:
        """Remember the layer of a pyramid that a job made, and its first write."""
        self._stores[layer] = store
        self._edits.append((layer, edit))

    def write_job(self, layer: Labels, plane: Plane, mask: Mask, overlap: Overlap) -> Callable[[Report], Edit]:
        """Return what writes a mask under the next free label of a pyramid; `written` is told afterwards."""
        store = self._store_of(layer)
        return lambda _: store.write(plane, mask, None, overlap)

    def written(self, layer: Labels, edit: Edit) -> None:
        """Show what a job wrote into a pyramid, and remember it."""
        self._edits.append((layer, edit))
        self._show(layer)

    def last_pyramid(self, layers: Any) -> Labels | None:
        """Return the layer of the last write if that went into a pyramid, which takes a job to undo; else None."""
        while self._edits and self._edits[-1][0] not in layers:
            self._edits.pop()
        layer = self._edits[-1][0] if self._edits else None
        return layer if layer is not None and layer in self._stores else None

    def undo_job(self, layer: Labels) -> Callable[[Report], Edit | None]:
        """Return what takes back the last write into a pyramid; `undone` is told afterwards."""
        self._edits.pop()
        store = self._stores[layer]
        return lambda _: store.undo()

    def undone(self, layer: Labels) -> None:
        """Show what a job took back."""
        self._show(layer)

    def undo(self, layers: Any) -> tuple[Edit, bool] | None:
        """Take back the last write into one of `layers` that napari can edit.

        Returns
        -------
        tuple or None
            The write, and whether any of it was still there; None when there is none left.
        """
        while self._edits:
            layer, edit = self._edits.pop()
            if layer in layers:
                changed = labels_layer.revert(layer, edit)
                if self._highest.get(layer) == edit.label:
                    self._highest[layer] = edit.label - 1
                return edit, changed
        return None

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
