"""The dock widget: layout, tooltips and signals; what happens is in the controller."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from napari.layers import Image, Labels
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QImage, QPainter, QPixmap
from qtpy.QtWidgets import (
    QButtonGroup,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_sam.core.masks import Mask, Overlap
from napari_sam.plugin.ahead import Extent
from napari_sam.plugin.canvas import TabKey
from napari_sam.plugin.cleaning_panel import CleaningPanel
from napari_sam.plugin.contrast import PRESETS
from napari_sam.plugin.controller import Controller
from napari_sam.plugin.keys import shown, spelled
from napari_sam.plugin.model_panel import ModelPanel
from napari_sam.plugin.object_panel import ObjectPanel
from napari_sam.plugin.own_layers import SIGN_COLORS
from napari_sam.plugin.section import Section
from napari_sam.plugin.workers import LatestRunner
from napari_sam.segmenter import CANDIDATE_NAMES, model_names

if TYPE_CHECKING:
    from napari.viewer import Viewer

CHECKPOINT = "checkpoint file ..."
AS_SHOWN = "as the layer shows it"
REST_MS = 300
WIDTH = 340
SEEN_SIDE = 64
OVERLAPS: dict[Overlap, tuple[str, str]] = {
    "keep": ("keep others", "they keep their pixels, the mask gets the rest"),
    "overwrite": ("overwrite", "the mask takes their pixels"),
    "empty": ("only where empty", "a mask that meets another label is not written at all"),
}
EXTENTS: dict[Extent, str] = {
    "view": "Encode all tiles in view at this zoom, into the store on disk.",
    "plane": "Encode the whole plane at this zoom, into the store on disk.",
    "volume": "Encode every plane at this zoom, beginning with this one, into the store on disk.",
}
TOOLS = {
    "points": (
        "Points",
        "Click on the object; right click or Shift+click beside it, on what is not of it; Ctrl+click on an object of "
        "the output to correct it.",
    ),
    "box": ("Box", "Draw a rectangle around the object; the last one counts. Then add points, or accept."),
    "scribble": ("Scribble", "Drag a line along the object, or (T) along what is not of it."),
    "lasso": ("Lasso", "Drag roughly around the object; the model finds the exact border."),
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
        self._keys: dict[str, str] = {}
        self._tab = TabKey(self._viewer, lambda: self.controller.keys.press("Tab"))
        self._build_form()
        self._build_prompts()
        self._build_candidates()
        self._build_large()
        self._build_status()
        self._build_objects()
        self._lay_out()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self.controller.ahead.rested)
        for emitter in self._view_events():
            emitter.connect(self._on_view)
        self.controller.changed.connect(self._refresh)
        self.controller.ahead.changed.connect(self._refresh_large)
        self.controller.seen.changed.connect(self._refresh_seen)
        self.controller.answered.connect(self._on_answered)
        self._viewer.layers.events.inserted.connect(self.reset_choices)
        self._viewer.layers.events.removed.connect(self.reset_choices)
        self._viewer.layers.events.renamed.connect(self.reset_choices)
        self._choose_image()
        self._refresh()

    # -- building --------------------------------------------------------------------------------------------------

    def _build_form(self) -> None:
        self.image = ComboBox(label="Image", choices=self._image_choices, tooltip="The image layer to segment.")
        self.contrast = ComboBox(
            label="Contrast",
            choices=[AS_SHOWN, *PRESETS],
            tooltip="The encoder sees the image in the contrast that you see. This sets the layer's contrast limits; "
            "the view is encoded anew then.",
        )
        self.contrast.changed.connect(self._choose_contrast)
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
        self.overlap = ComboBox(
            label="Overlap",
            choices=[(text, policy) for policy, (text, _) in OVERLAPS.items()],
            tooltip="Where a mask meets others: " + "; ".join(f"{text}: {tip}" for text, tip in OVERLAPS.values()),
        )
        for choice in (self.image, self.contrast, self.model, self.device, self.output, self.overlap):
            choice.native.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            choice.native.setMinimumContentsLength(8)
        self.compose = CheckBox(
            text="With its other visible channels",
            tooltip="The encoder sees all visible channels of the image in their colours (at most three), as you do.",
        )
        self.compose.changed.connect(lambda on: self.controller.set_compose(on))
        fields = [
            self.image,
            self.compose,
            self.contrast,
            self.model,
            self.checkpoint,
            self.device,
            self.output,
            self.overlap,
        ]
        self.form = Container(widgets=fields)
        self.models = ModelPanel(self._use_model, lambda: self.controller.model)
        self.checkpoint.visible = False
        self.image.changed.connect(self._choose_image)
        self.model.changed.connect(self._choose_model)
        self.checkpoint.changed.connect(self._choose_model)
        self.device.changed.connect(self._choose_model)
        self.output.changed.connect(self._choose_target)
        self.overlap.changed.connect(self._choose_overlap)
        self.open_image = _push_button("Open lazily ...", "Open an image file of any size: only what is shown is read.")
        self.open_folder = _push_button("Open folder ...", "The same for an OME-Zarr or zarr folder.")
        self.open_image.clicked.connect(self._ask_image)
        self.open_folder.clicked.connect(self._ask_image_folder)
        self.new_labels = _push_button("New labels ...", "Keep accepted masks in a new label image on disk (OME-Zarr).")
        self.open_labels = _push_button("Open labels ...", "Go on with a label image on disk (OME-Zarr or zarr).")
        self.new_labels.clicked.connect(self._ask_new_labels)
        self.open_labels.clicked.connect(self._ask_open_labels)

    def _build_prompts(self) -> None:
        self.tools: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            button = _push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, tool=tool: self._choose_tool(tool))
            self.tools[tool] = button
        self.sign = _push_button("", "")
        self.sign.clicked.connect(lambda: self.controller.toggle_sign())

        self.hover = QCheckBox("Preview under the cursor")
        self.hover.setToolTip("Before any click, show the mask that a click would give, wherever the image is encoded.")
        self.hover.setChecked(True)
        self.hover.toggled.connect(lambda on: self.controller.hover.set_enabled(on))

    def _build_candidates(self) -> None:
        self.candidates: list[QPushButton] = []
        self._candidate_group = QButtonGroup(self)
        for index, name in enumerate(CANDIDATE_NAMES[1:]):
            button = _push_button(name, "")
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, index=index: self._choose_candidate(index))
            self._candidate_group.addButton(button)
            self.candidates.append(button)
        self.scores = QLabel()
        self.seen = QLabel()
        self.seen.setFixedSize(SEEN_SIDE, SEEN_SIDE)
        self.seen.setVisible(False)
        self.seen.setToolTip(
            "What the encoder saw for this answer: the layer's own contrast limits, gamma and colours. If you cannot "
            "make out the object here, neither can the model."
        )

    def _build_large(self) -> None:
        self.extents: dict[Extent, QPushButton] = {}
        for extent, tip in EXTENTS.items():
            button = _push_button(extent.capitalize(), tip)
            button.clicked.connect(lambda _=False, extent=extent: self.controller.ahead.start(extent))
            self.extents[extent] = button
        self.cancel = _push_button("Cancel", "Stop after the tile in hand; what was encoded is kept.")
        self.cancel.clicked.connect(lambda: self.controller.ahead.cancel())
        self.ahead = QCheckBox("Encode what is in view")
        self.ahead.setToolTip("While nothing else is to be done, encode the tiles in view, then those around it.")
        self.ahead.setChecked(True)
        self.coverage = QCheckBox("Outline what is encoded")
        self.coverage.setToolTip("A thin line around the tiles in view that a click need not wait for.")
        for box in (self.ahead, self.coverage):
            box.toggled.connect(self._choose_ahead)
        self.store = FileEdit(
            label="Store",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            tooltip="Folder where embeddings are kept and found again; empty: the cache folder, for slow models and "
            "for what you encode here.",
        )
        self.store.changed.connect(self._choose_store)
        self.encoding = QLabel()
        self.encoding.setWordWrap(True)

    def _build_status(self) -> None:
        self.accept = _push_button("", "")
        self.clear = _push_button("", "")
        self.undo = _push_button("", "")
        self.redo = _push_button("", "")
        self.accept.clicked.connect(lambda: self.controller.accept())
        self.clear.clicked.connect(lambda: self.controller.clear())
        self.undo.clicked.connect(lambda: self.controller.undo())
        self.redo.clicked.connect(lambda: self.controller.redo())
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)

    def _build_objects(self) -> None:
        objects = self.controller.objects
        self.objects = ObjectPanel(objects)
        self.object_section = Section(
            "Objects", "All objects of the output: go to them, correct or delete them.", self.objects
        )
        self.cleaning = CleaningPanel(lambda cleaning: self.controller.set_cleaning(cleaning))
        self.cleaning_section = Section(
            "Clean-up", "Tidy masks before they are written, as you see them.", self.cleaning
        )
        self.resume = _push_button("", "Put the objects back that were accepted on this image before, with their undo.")
        self.anew = _push_button("Start anew", "Begin without them. Their journal is kept under another name.")
        self.resume.clicked.connect(lambda: objects.resume())
        self.anew.clicked.connect(lambda: objects.start_anew())

    def _lay_out(self) -> None:
        tools = list(self.tools.values())
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.form.native)
        column.addWidget(self.models)
        for pair in ((self.open_image, self.open_folder), (self.new_labels, self.open_labels)):
            files = QHBoxLayout()
            for button in pair:
                files.addWidget(button)
            column.addLayout(files)
        left = QHBoxLayout()
        left.addWidget(self.resume, 2)
        left.addWidget(self.anew, 1)
        column.addLayout(left)
        column.addWidget(_group("Prompts", [tools[:3], tools[3:], [self.sign], [self.hover]]))
        column.addWidget(_group("Candidates", [list(self.candidates), [self.seen, self.scores]]))
        column.addWidget(_group("Object", [[self.accept, self.clear], [self.undo, self.redo]]))
        column.addWidget(self.progress)
        column.addWidget(self.status)
        column.addWidget(self.cleaning_section)
        column.addWidget(self.object_section)
        stored = Container(widgets=[self.store]).native
        rows: list[list[QWidget]] = [
            [self.ahead],
            [self.coverage],
            [*self.extents.values(), self.cancel],
            [self.encoding],
            [stored],
        ]
        column.addWidget(_group("Encode ahead", rows))
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
        is_own = self.controller.is_own
        return [layer for layer in self._viewer.layers if isinstance(layer, Labels) and not is_own(layer)]

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
        self.models.setVisible(False)
        if not own:
            self.models.choose(str(self.model.value))
            self._use_model(self.controller.model)  # On this device, until the chosen one is there.
        elif path is not None and path.is_file():
            self.controller.set_model(str(path), str(self.device.value))

    def _choose_contrast(self, preset: str) -> None:
        if preset != AS_SHOWN:
            self.contrast.value = AS_SHOWN  # It is done once, and the layer's own slider has the last word.
            self.controller.set_contrast(preset)

    def _use_model(self, name: str) -> None:
        self.controller.set_model(name, str(self.device.value))

    def _choose_target(self, _: Any = None) -> None:
        if not self._updating:
            self.controller.set_target(self.output.value)

    def _choose_overlap(self, _: Any = None) -> None:
        self.controller.overlap = self.overlap.value

    def _choose_ahead(self, _: Any = None) -> None:
        self.controller.ahead.enabled = self.ahead.isChecked()
        self.controller.ahead.show = self.coverage.isChecked()
        self.controller.ahead.rested()

    def _choose_store(self, _: Any = None) -> None:
        path = str(self.store.value) if self.store.value else ""
        self.controller.set_store(path if path not in ("", ".") else None)

    def _ask_image(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Image")
        if name:
            self.controller.open_image(Path(name))

    def _ask_image_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Image (a .zarr folder)")
        if name:
            self.controller.open_image(Path(name))

    def _ask_new_labels(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "New label image", "labels.ome.zarr", "OME-Zarr (*.zarr)")
        if name:
            self.controller.use_label_file(Path(name if name.endswith(".zarr") else f"{name}.ome.zarr"))

    def _ask_open_labels(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Label image (a .zarr folder)")
        if name:
            self.controller.use_label_file(Path(name))

    def _view_events(self) -> list[Any]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return [camera.zoom, camera.center, dims.current_step, dims.order, dims.ndisplay]

    def _on_view(self, _: Any = None) -> None:
        """Drop what was planned for the view before, and plan anew once it rests."""
        self.controller.ahead.moved()
        self._rest.start()

    def _on_answered(self) -> None:
        self._rest.start()  # Not at once: the answer has just been drawn.

    def _choose_tool(self, tool: str) -> None:
        self.controller.activate(tool)
        self._refresh()

    def _choose_candidate(self, index: int) -> None:
        self.controller.cycle(index - self.controller.selected)

    # -- showing ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        controller = self.controller
        positive = controller.sign == 1
        self._refresh_keys()
        key = shown(controller.keys.keys["flip_sign"])
        self.sign.setText(f"Points {'ON' if positive else 'OFF'} the object ({key})")
        self.sign.setIcon(_dot(SIGN_COLORS[controller.sign]))
        for tool, tool_button in self.tools.items():
            tool_button.setChecked(tool == controller.tool)
        candidates = controller.candidates
        for index, button in enumerate(self.candidates):
            button.setEnabled(candidates is not None)
            name = CANDIDATE_NAMES[index + 1]
            button.setText(_described(name, None if candidates is None else candidates[index]))
            button.setChecked(candidates is not None and index == controller.selected)
        if candidates is None:
            self._candidate_group.setExclusive(False)
            for button in self.candidates:
                button.setChecked(False)
            self._candidate_group.setExclusive(True)
            self.scores.setText("Click an object to see three masks.")
        else:
            mask = controller.mask_of(controller.selected)
            self.scores.setText(f"{mask.area} px")
        self.accept.setEnabled(candidates is not None or controller.busy)
        self._refresh_objects()
        self._refresh_large()
        self.progress.setVisible(controller.busy or controller.warming)
        self.status.setText(controller.status)
        if self.output.value is not controller.target and not self._updating:
            self.reset_choices()

    def _refresh_objects(self) -> None:
        """Show how many objects there are, which were left, and what can be taken back or done again."""
        objects, keys = self.controller.objects, self.controller.keys.keys
        count, offer = len(objects.kept.rows) if objects.kept else 0, objects.offer
        self.object_section.set_title(f"Objects ({count})" if count else "Objects")
        for button in (self.resume, self.anew):
            button.setVisible(offer is not None)
        if offer is not None:
            self.resume.setText(f"Continue ({offer.count} object{'s' if offer.count > 1 else ''})")
        undoing = self.controller.undoing
        turns = (self.undo, "undo", undoing.next_undo), (self.redo, "redo", undoing.next_redo)
        for button, name, turn in turns:
            # Without a journal, the output knows by itself.
            button.setEnabled(bool(turn.text) or (objects.kept is None and name == "undo"))
            tip = turn.text or ("Take the last accepted mask back." if button.isEnabled() else turn.why_not)
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}." if button.isEnabled() else tip)

    def _refresh_keys(self) -> None:
        """Show the keys that hold now, on the buttons and in their tooltips."""
        keys = self.controller.keys.keys
        layers = self.controller.points, self.controller.shapes
        active = self._viewer.layers.selection.active
        self._tab.set_enabled("Tab" in keys.values() and active is not None and active in layers)
        if keys == self._keys:
            return
        self._keys = dict(keys)
        for button, name, text, tip in (
            (self.accept, "accept", "Accept", "Write the mask into the output, under the next free label."),
            (self.clear, "clear", "Clear", "Remove the prompts of this object."),
            (self.undo, "undo", "Undo", "Take the last change of an object back."),
            (self.redo, "redo", "Redo", "Do again what was taken back last."),
        ):
            button.setText(f"{text} ({shown(keys[name])})")
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}.")
        self.sign.setToolTip(
            "Whether the next point is on the object or off it; flips the selected points while selecting. "
            f"Key: {spelled(keys['flip_sign'])}. Right click or Shift+click makes one point of the other sign."
        )
        for button, name in zip(self.candidates, CANDIDATE_NAMES[1:], strict=True):
            button.setToolTip(
                f"The {name} one of the three answers, the IoU with the object that the model predicts for it, and how "
                "little it depends on the threshold (stability). The object's next answers keep the size that you "
                f"choose. Keys: {spelled(keys['cycle_candidates'])} or {spelled(keys['next_candidate'])}, back: "
                f"{spelled(keys['previous_candidate'])}."
            )

    def _refresh_seen(self) -> None:
        pixels = self.controller.seen.pixels
        self.seen.setVisible(pixels is not None)
        if pixels is None:
            self.seen.clear()
            return
        height, width, _ = pixels.shape
        picture = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        smooth = Qt.TransformationMode.SmoothTransformation
        self.seen.setPixmap(
            QPixmap.fromImage(picture).scaled(self.seen.size(), Qt.AspectRatioMode.IgnoreAspectRatio, smooth)
        )

    def _refresh_large(self) -> None:
        ahead = self.controller.ahead
        running, ready = ahead.progress is not None, self.controller.image is not None
        for extent, button in self.extents.items():
            button.setEnabled(ready and not running)
            button.setToolTip(EXTENTS[extent] if ready else "There is no image yet: open one first.")
        self.cancel.setEnabled(running)
        now = ahead.progress
        self.encoding.setText(
            "" if now is None else f"{now.done} of {now.total} tiles ({now.known} were there, {now.empty} empty)"
        )
        self.coverage.setChecked(ahead.show)

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name.
        """Return how large it would like to be: narrow, so that the image has the room."""
        return QSize(WIDTH, super().sizeHint().height())

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
        for emitter in self._view_events():
            emitter.disconnect(self._on_view)
        self._rest.stop()
        self._tab.close()
        self.models.close_downloads()
        self.controller.seen.changed.disconnect(self._refresh_seen)
        self.controller.changed.disconnect(self._refresh)
        self.objects.close_table()
        self.controller.close()


def _described(name: str, mask: Mask | None) -> str:
    if mask is None:
        return f"{name}\n\n"
    return f"{name}\nIoU {mask.iou_prediction:.2f}\nstable {mask.stability_score:.2f}"


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
