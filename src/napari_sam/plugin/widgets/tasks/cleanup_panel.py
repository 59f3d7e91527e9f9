"""Panel with the options of the clean-up."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QGridLayout, QLabel, QSpinBox, QWidget

from napari_sam.core.cleaning import Cleaning


class CleaningPanel(QWidget):
    """Options for `Cleaning`, all of them off at first.

    Parameters
    ----------
    chosen
        Called with the new options.
    """

    def __init__(self, chosen: Callable[[Cleaning], None]) -> None:
        super().__init__()
        self._chosen = chosen
        self.largest = QCheckBox("Largest part only")
        self.largest.setToolTip("Keep only the largest connected part of the mask.")
        self.holes = QCheckBox("Fill holes")
        self.holes.setToolTip("Fill the holes of the mask.")
        self.smooth = QDoubleSpinBox()
        self.smooth.setRange(0, 50)
        self.smooth.setSingleStep(0.5)
        self.smooth.setDecimals(1)
        self.smooth.setSpecialValueText("off")
        self.smooth.setSuffix(" px")
        self.smooth.setToolTip("Smooth the border: details smaller than about twice this disappear.")
        self.smallest = QSpinBox()
        self.smallest.setRange(0, 1_000_000)
        self.smallest.setSpecialValueText("off")
        self.smallest.setSuffix(" px")
        self.smallest.setToolTip("Remove parts of the mask with fewer pixels.")
        grid = QGridLayout(self)
        grid.setContentsMargins(4, 0, 4, 4)
        grid.addWidget(self.largest, 0, 0)
        grid.addWidget(self.holes, 0, 1)
        for row, (text, box) in enumerate((("Smooth", self.smooth), ("Smallest part", self.smallest)), start=1):
            grid.addWidget(QLabel(text), row, 0)
            grid.addWidget(box, row, 1)
            # Not at every key: each change cleans the masks again.
            box.setKeyboardTracking(False)
        self.largest.toggled.connect(self._on_changed)
        self.holes.toggled.connect(self._on_changed)
        self.smooth.valueChanged.connect(self._on_changed)
        self.smallest.valueChanged.connect(self._on_changed)

    @property
    def cleaning(self) -> Cleaning:
        """The chosen options."""
        return Cleaning(
            keep_largest=self.largest.isChecked(),
            fill_holes=None if self.holes.isChecked() else 0,
            smooth=float(self.smooth.value()),
            minimum_size=int(self.smallest.value()),
        )

    def _on_changed(self, _: object = None) -> None:
        self._chosen(self.cleaning)
