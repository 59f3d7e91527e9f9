"""The dock widget: layout, tooltips and signals; what happens is in the controller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container, FileEdit
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_sam.plugin.controller import Controller
from napari_sam.plugin.own_layers import SIGN_COLORS
from napari_sam.plugin.workers import LatestRunner
from napari_sam.segmenter import CANDIDATE_NAMES, model_names

if TYPE_CHECKING:
    from napari.viewer import Viewer

CHECKPOINT = "checkpoint file ..."
TOOLS = {
    "points": ("Points", "Click on the object; T flips between points on it and points off it."),
    "box": ("Box", "Draw a rectangle around the object; the last one counts. Then add points, or accept."),
    "polygon": ("Polygon", "Outline the object roughly; press Esc or double-click to finish."),
    "ellipse": ("Ellipse", "Draw an ellipse over the object."),
}


class SamWidget(QWidget):
    """Segment objects of an image layer by clicking on them.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget is docked in.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self._viewer: Viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._runner = LatestRunner(self)
        self.controller = Controller(self._viewer, self._runner, show_warning)
        self._updating = self._was_docked = False
        self._build_form()
        self._build_prompts()
        self._build_candidates()
        self._build_status()
        self._lay_out()
        self.controller.changed.connect(self._refresh)
        self._viewer.layers.events.inserted.connect(self.reset_choices)
        self._viewer.layers.events.removed.connect(self.reset_choices)
        self._viewer.layers.events.renamed.connect(self.reset_choices)
        self._choose_image()
        self._refresh()

    # -- building --------------------------------------------------------------------------------------------------

    def _build_form(self) -> None:
        self.image = ComboBox(label="Image", choices=self._image_choices, tooltip="The image layer to segment.")
        self.model = ComboBox(
            label="Model",
            choices=[*model_names(), CHECKPOINT],
            tooltip="'compact' ships with the plugin and works offline; a checkpoint file can be used instead.",
        )
        self.checkpoint = FileEdit(
            label="File", filter="Checkpoints (*.safetensors *.pth *.pt)", tooltip="The checkpoint of your own model."
        )
        self.device = ComboBox(
            label="Device",
            choices=["auto", "cpu", "cuda", "mps"],
            tooltip="Where the model runs; auto takes the fastest device there is.",
        )
        self.output = ComboBox(
            label="Output",
            choices=self._target_choices,
            tooltip="The Labels layer that accepted masks are written into; a new one is made when none is chosen.",
        )
        for choice in (self.image, self.model, self.device, self.output):
            choice.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            choice.native.setMinimumContentsLength(8)
        self.form = Container(widgets=[self.image, self.model, self.checkpoint, self.device, self.output])
        self.checkpoint.visible = False
        self.image.changed.connect(self._choose_image)
        self.model.changed.connect(self._choose_model)
        self.checkpoint.changed.connect(self._choose_model)
        self.device.changed.connect(self._choose_model)
        self.output.changed.connect(self._choose_target)

    def _build_prompts(self) -> None:
        self.tools: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            button = _push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, tool=tool: self._choose_tool(tool))
            self.tools[tool] = button
        self.sign = _push_button(
            "", "Whether the next point is on the object or off it. Key: T. Flips selected points."
        )
        self.sign.clicked.connect(lambda: self.controller.toggle_sign())

    def _build_candidates(self) -> None:
        self.candidates: list[QPushButton] = []
        self._candidate_group = QButtonGroup(self)
        for index, name in enumerate(CANDIDATE_NAMES[1:]):
            button = _push_button(
                name, f"The {name} one of the three answers, and the IoU predicted for it. Keys: N and Shift+N."
            )
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, index=index: self._choose_candidate(index))
            self._candidate_group.addButton(button)
            self.candidates.append(button)
        self.scores = QLabel()

    def _build_status(self) -> None:
        self.accept = _push_button("Accept (C)", "Write the mask into the output under the next free label. Key: C.")
        self.clear = _push_button("Clear (⇧C)", "Remove the prompts of this object. Key: Shift+C.")
        self.undo = _push_button("Undo (^Z)", "Take back the last accepted mask. Key: Ctrl+Z.")
        self.accept.clicked.connect(lambda: self.controller.accept())
        self.clear.clicked.connect(lambda: self.controller.clear())
        self.undo.clicked.connect(lambda: self.controller.undo())
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)

    def _lay_out(self) -> None:
        tools = list(self.tools.values())
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.form.native)
        column.addWidget(_group("Prompts", [tools[:2], tools[2:], [self.sign]]))
        column.addWidget(_group("Candidates", [list(self.candidates), [self.scores]]))
        column.addWidget(_group("Object", [[self.accept], [self.clear, self.undo]]))
        column.addWidget(self.progress)
        column.addWidget(self.status)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(300)

    # -- choices ---------------------------------------------------------------------------------------------------

    def _images(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _targets(self) -> list[Labels]:
        preview = self.controller.preview
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels) and layer is not preview]

    def _image_choices(self, _: Any = None) -> list[tuple[str, Image | None]]:
        return [("no image", None), *((layer.name, layer) for layer in self._images())]

    def _target_choices(self, _: Any = None) -> list[tuple[str, Labels | None]]:
        return [("new layer", None), *((layer.name, layer) for layer in self._targets())]

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that there are now."""
        self._updating = True
        try:
            self.image.reset_choices()
            self.output.reset_choices()
            self.output.value = self.controller.target if self.controller.target in self._targets() else None
        finally:
            self._updating = False
        if self.image.value is not self.controller.image:
            self._choose_image()
        self._choose_first_image()

    def _choose_first_image(self) -> None:
        """Take the first image that comes into a viewer that had none."""
        images = self._images()
        if self.image.value is None and images:
            self.image.value = images[-1]
            # napari makes a layer active after it has told of it: take up the tool once that is done.
            QTimer.singleShot(0, self._take_up_points)

    def _take_up_points(self) -> None:
        if self.controller.image is not None:
            self.controller.activate("points")

    def _choose_image(self, _: Any = None) -> None:
        if not self._updating:
            self.controller.set_image(self.image.value)
            self._choose_first_image()

    def _choose_model(self, _: Any = None) -> None:
        own = self.model.value == CHECKPOINT
        self.checkpoint.visible = own
        path = Path(str(self.checkpoint.value)) if self.checkpoint.value else None
        if not own:
            self.controller.set_model(str(self.model.value), str(self.device.value))
        elif path is not None and path.is_file():
            self.controller.set_model(str(path), str(self.device.value))

    def _choose_target(self, _: Any = None) -> None:
        if not self._updating:
            self.controller.set_target(self.output.value)

    def _choose_tool(self, tool: str) -> None:
        self.controller.activate(tool)
        self._refresh()

    def _choose_candidate(self, index: int) -> None:
        self.controller.cycle(index - self.controller.selected)

    # -- showing ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        controller = self.controller
        positive = controller.sign == 1
        self.sign.setText("Points ON the object (T)" if positive else "Points OFF the object (T)")
        self.sign.setIcon(_dot(SIGN_COLORS[controller.sign]))
        for tool, tool_button in self.tools.items():
            tool_button.setChecked(tool == controller.tool)
        candidates = controller.candidates
        for index, button in enumerate(self.candidates):
            button.setEnabled(candidates is not None)
            name = CANDIDATE_NAMES[index + 1]
            button.setText(f"{name}\n" if candidates is None else f"{name}\n{candidates[index].iou_prediction:.2f}")
            button.setChecked(candidates is not None and index == controller.selected)
        if candidates is None:
            self._candidate_group.setExclusive(False)
            for button in self.candidates:
                button.setChecked(False)
            self._candidate_group.setExclusive(True)
            self.scores.setText("Click an object to see three masks.")
        else:
            mask = candidates[controller.selected]
            self.scores.setText(f"stability {mask.stability_score:.2f}, {mask.area} px")
        self.accept.setEnabled(candidates is not None or controller.busy)
        self.progress.setVisible(controller.busy or controller.warming)
        self.status.setText(controller.status)
        if self.output.value is not controller.target:
            self.reset_choices()

    def event(self, event: QEvent) -> bool:
        """Let go of the viewer when the dock is closed: napari takes the widget out of it, and closes nothing."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._was_docked = True
            elif self._was_docked:
                self._let_go()
        return bool(super().event(event))

    def _let_go(self) -> None:
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.renamed):
            emitter.disconnect(self.reset_choices)
        self.controller.changed.disconnect(self._refresh)
        self.controller.close()


def _dot(color: str) -> QIcon:
    pixmap = QPixmap(16, 16)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setBrush(QColor(color))
    painter.setPen(Qt.GlobalColor.white)
    painter.drawEllipse(2, 2, 12, 12)
    painter.end()
    return QIcon(pixmap)


def _push_button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def _group(title: str, rows: Sequence[Sequence[QWidget]]) -> QGroupBox:
    box = QGroupBox(title)
    column = QVBoxLayout(box)
    for row in rows:
        line = QHBoxLayout()
        for widget in row:
            line.addWidget(widget, 1)
        column.addLayout(line)
    return box
