"""Panel for large data: encode tiles ahead of clicks, and choose the store of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import Container, FileEdit
from qtpy.QtWidgets import QCheckBox, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from napari_sam.plugin.inference.prefetch import Extent
from napari_sam.plugin.widgets.buttons import push_button, rows_into
from napari_sam.plugin.workers.activity import Activity

if TYPE_CHECKING:
    from napari_sam.plugin.inference.prefetch import Prefetcher
    from napari_sam.plugin.session import Session

EXTENTS: dict[Extent, str] = {
    "view": "Encode all tiles in view at this zoom, into the store on disk.",
    "plane": "Encode the whole plane at this zoom, into the store on disk.",
    "volume": "Encode every plane at this zoom, beginning with this one, into the store on disk.",
}


class LargeDataPanel(QWidget):
    """Starts and stops encoding.

    Parameters
    ----------
    session
        The image, and the store of embeddings.
    prefetcher
        Encodes.
    """

    def __init__(self, session: Session, prefetcher: Prefetcher) -> None:
        super().__init__()
        self._session, self._prefetcher = session, prefetcher
        self._activity = Activity("Encoding tiles", lambda: prefetcher.cancel())
        self.extents: dict[Extent, QPushButton] = {}
        for extent, tip in EXTENTS.items():
            button = push_button(extent.capitalize(), tip)
            button.clicked.connect(lambda _=False, extent=extent: prefetcher.start(extent))
            self.extents[extent] = button
        self.cancel = push_button("Cancel", "Stop after the current tile; what was encoded is kept.")
        self.cancel.clicked.connect(lambda: prefetcher.cancel())
        self.ahead = QCheckBox("Encode what is in view")
        self.ahead.setToolTip("While nothing else is to be done, encode the tiles in view, then those around it.")
        self.ahead.setChecked(True)
        self.coverage = QCheckBox("Outline what is encoded")
        self.coverage.setToolTip("A thin line around the tiles in view that a click need not wait for.")
        self.coverage.setChecked(True)
        for box in (self.ahead, self.coverage):
            box.toggled.connect(self._choose)
        self.store = FileEdit(
            label="Store",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            tooltip="Folder where embeddings are kept and found again; empty: the cache folder, for slow models and "
            "for what you encode here.",
        )
        self.store.changed.connect(self._choose_store)
        self.cluster = _cluster_edit()
        self.cluster.editingFinished.connect(lambda: session.set_scheduler(self.cluster.text().strip() or None))
        self.encoding = QLabel()
        self.encoding.setWordWrap(True)
        stored = Container(widgets=[self.store]).native
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 4)
        buttons = [*self.extents.values(), self.cancel]
        rows_into(column, [[self.ahead], [self.coverage], buttons, [self.encoding], [stored], [self.cluster]])

    def refresh(self) -> None:
        """Show the progress."""
        progress = self._prefetcher.progress
        running, ready = progress is not None, self._session.image is not None
        for extent, button in self.extents.items():
            button.setEnabled(ready and not running)
            why_not = "This is under way: cancel it first." if ready else "There is no image yet: open one first."
            button.setToolTip(EXTENTS[extent] if button.isEnabled() else why_not)
        self.cancel.setEnabled(running)
        self.cancel.setToolTip(
            "Stop after the current tile; what was encoded is kept." if running else "Nothing is being encoded here."
        )
        self._activity.follow(progress)
        self.encoding.setText(
            ""
            if progress is None
            else f"{progress.done} of {progress.total} tiles ({progress.known} were there, {progress.empty} empty)"
        )
        self.encoding.setVisible(progress is not None)
        self.coverage.setChecked(self._prefetcher.show)

    def close_activity(self) -> None:
        """Remove the progress bar from napari's activity dock."""
        self._activity.close()

    def _choose(self, _: Any = None) -> None:
        self._prefetcher.enabled, self._prefetcher.show = self.ahead.isChecked(), self.coverage.isChecked()
        self._prefetcher.rested()

    def _choose_store(self, _: Any = None) -> None:
        path = str(self.store.value) if self.store.value else ""
        self._session.set_store(path if path not in ("", ".") else None)


def _cluster_edit() -> QLineEdit:
    edit = QLineEdit()
    edit.setPlaceholderText("Cluster, such as tcp://gpubox:8786")
    edit.setToolTip("Address of a dask scheduler whose workers encode what is in view; empty: this computer encodes.")
    return edit
