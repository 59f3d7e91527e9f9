"""Panel for the output: the Labels layer that accepted masks are written into, and how they meet others there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_sam.core.masks import Overlap
from napari_sam.plugin.objects.files import use_label_file
from napari_sam.plugin.widgets.buttons import narrow, push_button, rows_of

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.session import Session

OVERLAPS: dict[Overlap, tuple[str, str]] = {
    "keep": ("keep others", "they keep their pixels, the mask gets the rest"),
    "overwrite": ("overwrite", "the mask takes their pixels"),
    "empty": ("only where empty", "a mask that meets another label is not written at all"),
}


class OutputPanel:
    """Chooses the output of a session.

    Parameters
    ----------
    session
        The output, and the Labels layers that can be one.
    previews
        The layers that stay above an output that is opened.

    Attributes
    ----------
    output
        The choice of the layer, for a place that is always in view.
    details
        Everything else.
    """

    def __init__(self, session: Session, previews: PreviewLayers) -> None:
        self._session, self._previews, self._is_updating = session, previews, False
        self.output = ComboBox(
            label="Output",
            choices=self.choices,
            tooltip="The Labels layer that accepted masks are written into; a new one is made when none is chosen.",
        )
        self.overlap = ComboBox(
            label="Overlap",
            choices=[(text, policy) for policy, (text, _) in OVERLAPS.items()],
            tooltip="Where a mask meets others: " + "; ".join(f"{text}: {tip}" for text, tip in OVERLAPS.values()),
        )
        for choice in (self.output, self.overlap):
            narrow(choice)
        # It stands beside the number of objects and Export, which would push it out of the dock.
        self.output.native.setMinimumContentsLength(3)
        self.output.changed.connect(self._choose_target)
        self.overlap.changed.connect(self._choose_overlap)
        self.new_labels = push_button("New labels ...", "Write into a new label image on disk (OME-Zarr).")
        self.open_labels = push_button("Open labels ...", "Add to a label image on disk (OME-Zarr or zarr).")
        self.new_labels.clicked.connect(self._ask_new_labels)
        self.open_labels.clicked.connect(self._ask_open_labels)
        self.details: QWidget = rows_of([Container(widgets=[self.overlap]).native], [self.new_labels, self.open_labels])

    def choices(self, _: Any = None) -> list[tuple[str, Labels | None]]:
        """Return the layers that can be the output, by name."""
        return [("new layer", None), *((layer.name, layer) for layer in self._session.outputs)]

    def reset_choices(self) -> None:
        """Offer the layers that there are now."""
        self._is_updating = True
        try:
            self.output.reset_choices()
            self.output.value = self._session.target if self._session.target in self._session.outputs else None
        finally:
            self._is_updating = False

    def _choose_target(self, _: Any = None) -> None:
        if not self._is_updating:
            self._session.set_target(self.output.value)

    def _choose_overlap(self, _: Any = None) -> None:
        self._session.overlap = self.overlap.value

    def _ask_new_labels(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self.output.native, "New label image", "labels.ome.zarr", "OME-Zarr (*.zarr)"
        )
        if name:
            self._use(Path(name if name.endswith(".zarr") else f"{name}.ome.zarr"))

    def _ask_open_labels(self) -> None:
        name = QFileDialog.getExistingDirectory(self.output.native, "Label image (a .zarr folder)")
        if name:
            self._use(Path(name))

    def _use(self, path: Path) -> None:
        use_label_file(self._session, self._previews, path)
