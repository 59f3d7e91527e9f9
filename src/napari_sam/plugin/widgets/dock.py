"""The dock widget: its layout, its choices, and their connections to the parts of the plugin."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import CheckBox, ComboBox, Container, FileEdit
from napari.layers import Image
from napari.utils.notifications import show_warning
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QFileDialog, QScrollArea, QVBoxLayout, QWidget

from napari_sam.plugin.controller import Controller
from napari_sam.plugin.inference.contrast_presets import presets_for, set_limits
from napari_sam.plugin.layers.factory import is_helper
from napari_sam.plugin.objects.files import open_image
from napari_sam.plugin.settings import load_settings, save_settings
from napari_sam.plugin.view.layer_list import LayerListFilter
from napari_sam.plugin.view.tab_key import TabKey
from napari_sam.plugin.widgets.buttons import beside, narrow, push_button, rows_of, section
from napari_sam.plugin.widgets.export_menu import ExportMenu
from napari_sam.plugin.widgets.footer import Footer
from napari_sam.plugin.widgets.large_data_panel import LargeDataPanel
from napari_sam.plugin.widgets.model_panel import ModelPanel
from napari_sam.plugin.widgets.object_panel import ObjectPanel
from napari_sam.plugin.widgets.output_panel import OutputPanel
from napari_sam.plugin.widgets.tasks.cleanup_panel import CleaningPanel
from napari_sam.plugin.widgets.tasks.plane_panel import PlanePanel
from napari_sam.plugin.widgets.tasks.prompt_panel import PromptPanel
from napari_sam.plugin.widgets.tasks.proposal_panel import ProposalPanel
from napari_sam.plugin.widgets.tasks.task_tabs import TaskTabs
from napari_sam.plugin.widgets.tasks.teach_panel import TeachPanel
from napari_sam.plugin.workers.runner import LatestRunner
from napari_sam.segmenter import model_names

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_sam.plugin.session import Task

CHECKPOINT = "checkpoint file ..."
AS_SHOWN = "as the layer shows it"
DEVICES = ("auto", "cpu", "cuda", "mps")
REST_MS = 300
MAX_FOLLOWED = 1000
WIDTH = 340


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
        self._session = self.controller.session
        abandoned = weakref.ref(self.controller)
        self.destroyed.connect(lambda: _abandon(abandoned))  # napari's window closes without an event for widgets.
        self._updating = self._was_docked = False
        self._listed = LayerListFilter(self._viewer, is_helper)
        self._tab = TabKey(self._viewer, lambda: self.controller.keys.press("Tab"))
        self._build_image()
        self._build_model()
        self._build_objects()
        self._build_tasks()
        self._lay_out()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REST_MS)
        self._rest.timeout.connect(self._on_rest)
        for emitter in self._view_events():
            emitter.connect(self._on_view)
        self._session.changed.connect(self._refresh)
        self.controller.prefetcher.changed.connect(self.large.refresh)
        self.controller.finder.changed.connect(self.proposals.refresh)
        self.objects.chosen.connect(self._choose_objects)
        self.controller.encoder_view.changed.connect(self.prompts.refresh_encoder_input)
        self._session.answered.connect(self._on_answered)
        self._viewer.layers.events.inserted.connect(self.reset_choices)
        self._viewer.layers.events.removed.connect(self.reset_choices)
        self._viewer.layers.events.renamed.connect(self.reset_choices)
        self._restore_settings()
        self._choose_image()
        self._refresh()

    def _build_image(self) -> None:
        self.image = ComboBox(label="Image", choices=self._image_choices, tooltip="The image layer to segment.")
        self.compose = CheckBox(
            text="With its other visible channels",
            tooltip="The encoder sees all visible channels of the image in their colors (at most three), as you do.",
        )
        self.contrast = ComboBox(
            label="Contrast",
            choices=lambda _: [AS_SHOWN, *presets_for(self._session.image)],
            tooltip="Set the layer's contrast limits, which the encoder uses, too: the view is then encoded again.",
        )
        for choice in (self.image, self.contrast):
            narrow(choice)
        self.image.changed.connect(self._choose_image)
        self.compose.changed.connect(lambda on: self._session.set_compose(on))
        self.contrast.changed.connect(self._choose_contrast)
        self.helpers = QCheckBox("List the helper layers")
        self.helpers.setToolTip("Show the layers of prompts, previews and proposals in napari's layer list, too.")
        self.helpers.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.helpers.toggled.connect(lambda on: self._listed.set_on(not on))
        self.open_image = push_button("Open large image ...", "Open an image of any size: only what is shown is read.")
        self.open_folder = push_button("Open folder ...", "The same for an OME-Zarr or zarr folder.")
        self.open_image.clicked.connect(self._ask_image)
        self.open_folder.clicked.connect(self._ask_image_folder)

    def _build_model(self) -> None:
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
            choices=list(DEVICES),
            tooltip="Where the model runs; auto takes the fastest device there is.",
        )
        for choice in (self.model, self.device):
            narrow(choice)
        self.models = ModelPanel(self._use_model, lambda: self._session.model)
        self.checkpoint.visible = False
        for changed in (self.model.changed, self.checkpoint.changed, self.device.changed):
            changed.connect(self._choose_model)

    def _build_objects(self) -> None:
        objects = self.controller.objects
        self.outputs = OutputPanel(self._session, self.controller.preview.layers)
        self.output, self.overlap = self.outputs.output, self.outputs.overlap
        self.resume = push_button("", "Put the objects back that were accepted on this image before, with their undo.")
        self.start_over = push_button("Start over", "Begin without them. Their journal is kept under another name.")
        self.resume.clicked.connect(lambda: objects.resume())
        self.start_over.clicked.connect(lambda: objects.start_over())
        self.objects = ObjectPanel(self._session, objects, self.controller.class_view, self.controller.editing.reopen)
        self.exports = ExportMenu(self.controller.exporter, objects, lambda: self.objects.table.chosen, self)

    def _build_tasks(self) -> None:
        parts = self.controller
        self.prompts = PromptPanel(self._session, parts.keys, parts.editing, parts.hover, parts.encoder_view)
        self.proposals = ProposalPanel(self._session, parts.finder, parts.keys, self.objects)
        self.planes = PlanePanel(self._session, parts.through_planes, parts.keys)
        self.teaching = TeachPanel(self._session, parts.teacher, self.model)
        self.cleaning = CleaningPanel(lambda cleaning: parts.requests.set_cleaning(cleaning))
        self.large = LargeDataPanel(self._session, parts.prefetcher)
        self.footer = Footer(self._session, parts.keys, parts.undo)

    def _lay_out(self) -> None:
        """Make the sections: image and model, the tasks, objects."""
        self.large_section = section("Large data", "Encode ahead of your clicks, and store embeddings.", self.large)
        image = Container(widgets=[self.compose, self.contrast]).native
        self.image_section = section(
            "Image",
            "Open an image; its contrast and channels.",
            rows_of([image], [self.open_image, self.open_folder], [self.helpers], [self.large_section]),
            self.image.native,
        )
        self.model_section = section(
            "Model",
            "",
            rows_of([Container(widgets=[self.checkpoint, self.device]).native]),
            self.model.native,
        )
        self.cleaning_section = section(
            "Clean-up", "Clean masks before they are written; the preview shows the result.", self.cleaning
        )
        self.object_section = section(
            "Objects",
            "The output that objects are written into, and the colors of their classes.",
            rows_of([self.outputs.details], [self.objects.class_options]),
            beside(self.output.native, self.exports.button),
        )
        one = QWidget()
        column = QVBoxLayout(one)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.prompts)
        column.addWidget(self.cleaning_section)
        column.addStretch()
        panels: dict[Task, QWidget] = {"one": one, "all": self.proposals, "planes": self.planes, "teach": self.teaching}
        self.tasks = TaskTabs(self._session, self.controller.keys, panels)
        self._stack()

    def _stack(self) -> None:
        """Put what is always in view around the task; only what is unfolded makes the dock scroll."""
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(4, 4, 4, 0)
        column.setSpacing(2)
        earlier = rows_of([self.resume, self.start_over])
        for part in (self.image_section, self.model_section, self.models, earlier, self.tasks, self.object_section):
            column.addWidget(part)
        column.addWidget(self.objects, 1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(scroll, 1)
        outer.addWidget(self.footer)
        self.setMinimumWidth(300)

    def _restore_settings(self) -> None:
        """Restore the last choices, and save those that the user makes."""
        large, hover = self.large, self.prompts.hover
        for name, box, default in (
            ("preview", hover, True),
            ("encode_ahead", large.ahead, True),
            ("outline", large.coverage, True),
            ("helpers", self.helpers, False),
        ):
            box.setChecked(load_settings(name, default))
            box.clicked.connect(lambda on, name=name: save_settings(name, on))  # Not for changes by code.
        for name, choice in (("device", self.device), ("overlap", self.overlap), ("model", self.model)):
            value = load_settings(name, str(choice.value))
            if value in choice.choices and (name != "model" or self.models.is_ready(value)):
                choice.value = value
            choice.changed.connect(lambda value, name=name: save_settings(name, str(value)))
        self._name_model()

    # -- choices ---------------------------------------------------------------------------------------------------

    def _images(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _image_choices(self, _: Any = None) -> list[tuple[str, Image | None]]:
        return [("no image", None), *((layer.name, layer) for layer in self._images())]

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that there are now."""
        self._updating = True
        try:
            self.image.reset_choices()
            if self._session.image in self._images():
                self.image.value = self._session.image
            self.outputs.reset_choices()
            self.proposals.reset_choices()
        finally:
            self._updating = False
        if self.image.value is not self._session.image:
            self._choose_image()
        self._choose_first_image()

    def _choose_first_image(self) -> None:
        """Take the first image that comes into a viewer that had none."""
        images = self._images()
        if self.image.value is None and images:
            self.image.value = images[-1]
            # napari activates a layer after the event that it was inserted: activate the tool after that.
            QTimer.singleShot(0, self._activate_points)

    def _activate_points(self) -> None:
        if self._session.image is not None:
            self.controller.editing.activate("points")

    def _choose_image(self, _: Any = None) -> None:
        if not self._updating:
            self._session.set_image(self.image.value)
            self.contrast.reset_choices()
            self.proposals.reset_choices()
            self._choose_first_image()

    def _choose_model(self, _: Any = None) -> None:
        own = self.model.value == CHECKPOINT
        self.checkpoint.visible = own
        path = Path(str(self.checkpoint.value)) if self.checkpoint.value else None
        self.models.setVisible(False)
        if not own:
            self.models.choose(str(self.model.value))
            self._use_model(self._session.model)  # On this device, until the chosen one is there.
        elif path is not None and path.is_file():
            self._use_model(str(path))

    def _choose_contrast(self, preset: str) -> None:
        if preset != AS_SHOWN:
            self.contrast.value = AS_SHOWN  # It is done once, and the layer's own slider has the last word.
            set_limits(self._session, self._runner, preset)

    def _use_model(self, name: str) -> None:
        self._session.set_model(name, str(self.device.value))
        self._name_model()

    def _name_model(self) -> None:
        name = Path(self._session.model).name
        self.model_section.toggleButton().setToolTip(
            f"In use: {name} ({self.device.value}). Unfold to change the device."
        )

    def _ask_image(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Image")
        if name:
            open_image(self._session, Path(name))

    def _ask_image_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Image (a .zarr folder)")
        if name:
            open_image(self._session, Path(name))

    def _view_events(self) -> list[Any]:
        camera, dims = self._viewer.scene.camera.events, self._viewer.dims.events
        return [camera.zoom, camera.center, dims.current_step, dims.order, dims.ndisplay]

    def _on_view(self, _: Any = None) -> None:
        """Drop the plan for the previous view, and plan again once the view rests."""
        self.controller.prefetcher.moved()
        self._rest.start()

    def _on_rest(self) -> None:
        """Encode and draw what is in view now."""
        self.controller.prefetcher.rested()
        self.controller.finder.drawing.draw(moved=True)

    def _choose_objects(self) -> None:
        self.controller.through_planes.choice.select(self.objects.table.first_chosen(MAX_FOLLOWED))

    def _on_answered(self) -> None:
        self._rest.start()  # Not at once: the answer has just been drawn.

    # -- showing ---------------------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        self._tab.set_enabled(self.prompts.takes_tab(self._viewer.layers.selection.active))
        for panel in (self.tasks, self.prompts, self.proposals, self.planes, self.teaching, self.large, self.footer):
            panel.refresh()
        self._refresh_objects()
        shown, used = (self.image.value, self.output.value), (self._session.image, self._session.target)
        if not self._updating and any(a is not b for a, b in zip(shown, used, strict=True)):
            self.reset_choices()

    def _refresh_objects(self) -> None:
        """Show how many objects there are, and which were left."""
        self.exports.refresh()
        objects = self.controller.objects
        count, offer = len(objects.journal.rows) if objects.journal else 0, objects.offer
        self.object_section.setText(f"Objects ({count})" if count else "Objects")
        for button in (self.resume, self.start_over):
            button.setVisible(offer is not None)
        if offer is not None:
            self.resume.setText(f"Resume ({offer.count} object{'s' if offer.count > 1 else ''})")

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name.
        """Return how large it would like to be: narrow, so that the image has the room."""
        return QSize(WIDTH, super().sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Detach from the viewer when the dock is closed: napari removes the widget without closing it."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is not None:
                self._was_docked = True
            elif self._was_docked:
                self._detach()
        return bool(super().event(event))

    def _detach(self) -> None:
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.renamed):
            emitter.disconnect(self.reset_choices)
        for emitter in self._view_events():
            emitter.disconnect(self._on_view)
        self._rest.stop()
        self._tab.close()
        self._listed.close()
        self.models.close_downloads()
        for panel in (self.large, self.proposals, self.planes, self.teaching):
            panel.close_activity()
        self.controller.finder.changed.disconnect(self.proposals.refresh)
        self.controller.encoder_view.changed.disconnect(self.prompts.refresh_encoder_input)
        self._session.changed.disconnect(self._refresh)
        self.objects.close_table()
        self.controller.close()
        # Nobody else would: what Qt's connections hold of the widget is hidden from Python's garbage collector.
        self.deleteLater()


def _abandon(controller: weakref.ref[Controller]) -> None:
    abandoned = controller()
    if abandoned is not None:
        abandoned.abandon()
