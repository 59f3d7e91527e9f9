"""MergeMenu: the context menu of the table of objects: find similar ones, merge and split those that are selected."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu

if TYPE_CHECKING:
    from napari_sam.plugin.objects.merging import ObjectMerging
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.widgets.object_table import ObjectView

ONE_FIRST = "Select one object in the table first."


class MergeMenu(QMenu):
    """Opens at a right click on the table; what cannot be done says why.

    Parameters
    ----------
    session
        Tells when an object is being written.
    merging
        Merges and splits.
    table
        The table, whose selected rows are merged or split.
    """

    def __init__(self, session: Session, merging: ObjectMerging, table: ObjectView) -> None:
        super().__init__(table)
        self._session, self._merging, self._table = session, merging, table
        self.setToolTipsVisible(True)
        self.find_similar = self.addAction("Find similar")
        self.addSeparator()
        self.merge = self.addAction("Merge")
        self.addSeparator()
        self.split_regions = self.addAction("Split into connected regions")
        self.split_plane = self.addAction("Split off this plane")
        self.split_onwards = self.addAction("Split off this plane and those behind it")
        self.split_mask = self.addAction("Split off the shown mask")
        self.merge.triggered.connect(lambda: merging.merge(table.chosen))
        splits: tuple[tuple[Any, Callable[[int], None]], ...] = (
            (self.split_regions, merging.split_regions),
            (self.split_plane, merging.split_plane),
            (self.split_onwards, merging.split_onwards),
            (self.split_mask, merging.split_mask),
        )
        for action, split in splits:
            action.triggered.connect(lambda _=False, split=split: split(table.first_chosen(1)[0]))
        table.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        table.customContextMenuRequested.connect(lambda at: self.popup(table.viewport().mapToGlobal(at)))
        self.aboutToShow.connect(self.refresh)

    def refresh(self) -> None:
        """Enable what can be done with the selected rows."""
        chosen, merging = self._table.first_chosen(2), self._merging
        label = chosen[0] if len(chosen) == 1 else None
        busy = "An object is being written: wait a moment." if self._session.is_writing else ""
        for action, tip, why_not in (
            (
                self.find_similar,
                "Find what is like the selected objects; each class that they have is found.",
                "" if chosen else "Select an object in the table first.",
            ),
            (
                self.merge,
                "Make one object of the selected ones, in all planes; the first row keeps its label.",
                merging.why_not_merge(chosen),
            ),
            (
                self.split_regions,
                "Make objects of all regions that do not touch the largest one, which keeps the label.",
                "" if label is not None else ONE_FIRST,
            ),
            (
                self.split_plane,
                "Make an object of what it has in the plane in view.",
                ONE_FIRST if label is None else merging.why_not_split_plane(label),
            ),
            (
                self.split_onwards,
                "Make an object of what it has in the plane in view and in those behind it.",
                ONE_FIRST if label is None else merging.why_not_split_onwards(label),
            ),
            (
                self.split_mask,
                "Make an object of the pixels under the mask that is shown.",
                ONE_FIRST if label is None else merging.why_not_split_mask(label),
            ),
        ):
            action.setEnabled(not (busy or why_not))
            action.setToolTip(busy or why_not or tip)
