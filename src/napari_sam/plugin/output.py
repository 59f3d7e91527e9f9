"""The Labels layers that masks go into: the next free label of each, and the way back from every write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_sam.core.geometry import Plane
from napari_sam.core.masks import Mask
from napari_sam.plugin import labels_layer
from napari_sam.stores.labels import Edit

if TYPE_CHECKING:
    from napari.layers import Labels


class Output:
    """Writes masks into Labels layers under labels that are free, and takes them back.

    A layer is searched for its highest label once; from then on its own events keep the number up to date.
    """

    def __init__(self) -> None:
        self._highest: dict[Labels, int] = {}
        self._watched: set[Labels] = set()
        self._edits: list[tuple[Labels, Edit]] = []

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
        return layer in self._highest

    def write(self, layer: Labels, plane: Plane, mask: Mask) -> Edit:
        """Write a mask under the layer's next free label.

        Raises
        ------
        LabelsError
            The mask is empty, no pixel of it is free, or the label does not fit the layer's type.
        """
        if layer not in self._highest:
            self._highest[layer] = labels_layer.find_highest(layer)
        edit = labels_layer.write(layer, plane, mask, self._highest[layer] + 1)
        self._highest[layer] = edit.label
        self._edits.append((layer, edit))
        return edit

    def undo(self, layers: Any) -> tuple[Edit, bool] | None:
        """Take back the last write into one of `layers`.

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

    def _on_paint(self, event: Any) -> None:
        layer = event.source
        if layer in self._highest:
            self._highest[layer] = max(self._highest[layer], int(layer.selected_label))

    def _on_replaced(self, event: Any) -> None:
        self._highest.pop(event.source, None)
