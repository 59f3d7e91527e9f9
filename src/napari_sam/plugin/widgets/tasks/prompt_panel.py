"""Panel for the current object: tools, candidates, accept, and undo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGroupBox, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_sam.core.masks import Mask
from napari_sam.plugin.layers.factory import SIGN_COLORS
from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.widgets.buttons import dot, push_button, rows_into
from napari_sam.segmenter import CANDIDATE_NAMES

if TYPE_CHECKING:
    from napari_sam.plugin.annotation.editing import DraftEditor
    from napari_sam.plugin.annotation.undo import UndoStack
    from napari_sam.plugin.inference.encoder_view import EncoderView
    from napari_sam.plugin.inference.hover_search import Hover
    from napari_sam.plugin.objects.step_labels import StepLabel
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session

VIEW_SIDE = 64
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
CLICK_FIRST = "Click an object first."


class PromptPanel(QWidget):
    """Shows the current object, and buttons for what can be done with it.

    Parameters
    ----------
    session
        The current draft, the status, and the output.
    keys
        The actions of the buttons, and their keys.
    editing
        Chooses tools and candidates.
    undo
        Describes the steps of the undo and redo buttons.
    hover
        Is turned on and off.
    encoder_view
        The picture beside the candidates.
    """

    def __init__(
        self,
        session: Session,
        keys: LayerKeys,
        editing: DraftEditor,
        undo: UndoStack,
        hover: Hover,
        encoder_view: EncoderView,
    ) -> None:
        super().__init__()
        self._session, self._layer_keys, self._editing = session, keys, editing
        self._undo, self._hover, self._encoder_view = undo, hover, encoder_view
        self._shown_keys: dict[str, str] = {}
        self._build_tools()
        self._build_candidates()
        self._build_actions()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        tools = list(self.tools.values())
        column.addWidget(_group("Prompts", [tools[:3], tools[3:], [self.sign], [self.hover]]))
        rows: list[Sequence[QWidget]] = [
            list(self.candidates),
            [self.encoder_input, self.scores],
            [self.accept, self.clear],
            [self.another, self.next],
            [self.accept_all],
            [self.undo, self.redo],
        ]
        column.addWidget(_group("Object", rows))
        column.addWidget(self.progress)
        column.addWidget(self.status)

    def _build_tools(self) -> None:
        self.tools: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            button = push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, tool=tool: self._choose_tool(tool))
            self.tools[tool] = button
        self.sign = push_button("", "")
        self.sign.clicked.connect(lambda: self._layer_keys.run("flip_sign"))
        self.hover = QCheckBox("Preview under the cursor")
        self.hover.setToolTip("Before any click, show the mask that a click would give, wherever the image is encoded.")
        self.hover.setChecked(True)
        self.hover.toggled.connect(lambda on: self._hover.set_enabled(on))

    def _build_candidates(self) -> None:
        self.candidates: list[QPushButton] = []
        self._candidate_group = QButtonGroup(self)
        for index, name in enumerate(CANDIDATE_NAMES[1:]):
            button = push_button(name, "")
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, index=index: self._choose_candidate(index))
            self._candidate_group.addButton(button)
            self.candidates.append(button)
        self.scores = QLabel()
        self.scores.setWordWrap(True)
        self.scores.setMinimumHeight(VIEW_SIDE)  # The buttons below stay in place without the picture, too.
        self.encoder_input = QLabel()
        self.encoder_input.setFixedSize(VIEW_SIDE, VIEW_SIDE)
        self.encoder_input.setVisible(False)
        self.encoder_input.setToolTip(
            "The encoder's input for this answer, with the layer's contrast limits, gamma and colors. If you cannot "
            "make out the object here, neither can the model."
        )

    def _build_actions(self) -> None:
        names = ("accept", "clear", "new_object", "next_object", "accept_all", "undo", "redo")
        buttons = [push_button("", "") for _ in names]
        for button, name in zip(buttons, names, strict=True):
            button.clicked.connect(lambda _=False, name=name: self._layer_keys.run(name))
        self.accept, self.clear, self.another, self.next, self.accept_all, self.undo, self.redo = buttons
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(6)
        policy = self.progress.sizePolicy()
        policy.setRetainSizeWhenHidden(True)
        self.progress.setSizePolicy(policy)

    def _choose_tool(self, tool: str) -> None:
        self._editing.activate(tool)
        self.refresh()

    def _choose_candidate(self, index: int) -> None:
        self._editing.choose_size(index)

    # -- showing ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the present state."""
        session, prompts = self._session, self._session.prompts
        self._refresh_keys()
        key = shown(self._layer_keys.keys["flip_sign"])
        self.sign.setText(f"Points {'ON' if prompts.sign == 1 else 'OFF'} the object ({key})")
        self.sign.setIcon(dot(SIGN_COLORS[prompts.sign]))
        for tool, button in self.tools.items():
            button.setChecked(tool == prompts.tool)
            button.setEnabled(session.image is not None)
            button.setToolTip(TOOLS[tool][1] if session.image is not None else "Open an image first.")
        self._refresh_candidates()
        self._refresh_actions()
        self.progress.setVisible(session.is_busy or session.is_warming)
        self.status.setText(session.status)

    def _refresh_candidates(self) -> None:
        draft, candidates = self._session.current, self._session.candidates
        # The other sizes of a reopened object are unknown, and often also which one it was.
        sizes = None if draft.is_as_accepted else candidates
        for index, button in enumerate(self.candidates):
            button.setEnabled(candidates is not None)
            button.setText(_text_of(CANDIDATE_NAMES[index + 1], None if sizes is None else sizes[index]))
        if sizes is None:
            self._candidate_group.setExclusive(False)
            for button in self.candidates:
                button.setChecked(False)
            self._candidate_group.setExclusive(True)
        else:
            self.candidates[draft.selected].setChecked(True)
        if candidates is None:
            self.scores.setText("Click an object to see three masks.")
        else:
            as_accepted = ", as it was accepted" if sizes is None else ""
            self.scores.setText(f"{self._session.mask_of(draft).area} px{as_accepted}")

    def _refresh_actions(self) -> None:
        """Enable the buttons that can be used; the tooltips of the others say why not."""
        session, keys = self._session, self._layer_keys.keys
        begun, pending = session.is_begun, len(session.drafts.pending)
        for button, name, can, tip, why_not in (
            (
                self.accept,
                "accept",
                session.candidates is not None or session.is_busy,
                "Write the mask into the output, under the next free label.",
                CLICK_FIRST,
            ),
            (self.clear, "clear", begun, "Remove the prompts of this object; undo brings them back.", CLICK_FIRST),
            (
                self.another,
                "new_object",
                begun,
                "Leave this object open and begin another one; Ctrl+click on it to return to it.",
                CLICK_FIRST,
            ),
            (self.next, "next_object", pending > 0, "Switch to an object that was left open.", "No other is open."),
            (self.accept_all, "accept_all", pending > 0, "Accept every open object.", "No other object is open."),
            (self.undo, "undo", *_tooltip_of(self._undo.next_undo, self._undo.may_have_more)),
            (self.redo, "redo", *_tooltip_of(self._undo.next_redo, False)),
        ):
            button.setEnabled(can)
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}." if can else why_not)
        self.next.setText(f"Next of {pending} open ({shown(keys['next_object'])})" if pending else "Next open")
        self.accept_all.setText(f"Accept all {pending + begun} ({shown(keys['accept_all'])})")
        for button in (self.next, self.accept_all):
            button.setVisible(pending > 0)

    def _refresh_keys(self) -> None:
        """Show the keys that hold now, on the buttons and in their tooltips."""
        keys = self._layer_keys.keys
        if keys == self._shown_keys:
            return
        self._shown_keys = dict(keys)
        for button, name, text in (
            (self.accept, "accept", "Accept"),
            (self.clear, "clear", "Clear"),
            (self.another, "new_object", "Another object"),
            (self.undo, "undo", "Undo"),
            (self.redo, "redo", "Redo"),
        ):
            button.setText(f"{text} ({shown(keys[name])})")
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

    def refresh_encoder_input(self) -> None:
        """Show the encoder's input for the last answer."""
        pixels = self._encoder_view.pixels
        self.encoder_input.setVisible(pixels is not None)
        if pixels is None:
            self.encoder_input.clear()
            return
        height, width, _ = pixels.shape
        picture = QImage(pixels.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        smooth = Qt.TransformationMode.SmoothTransformation
        self.encoder_input.setPixmap(
            QPixmap.fromImage(picture).scaled(self.encoder_input.size(), Qt.AspectRatioMode.IgnoreAspectRatio, smooth)
        )

    def takes_tab(self, active: Layer | None) -> bool:
        """Say whether the Tab key is bound to an action of the active layer."""
        layers = self._session.prompts.layers
        return "Tab" in self._layer_keys.keys.values() and active is not None and active in layers


def _tooltip_of(step: StepLabel, may_be: bool) -> tuple[bool, str, str]:
    """Return whether a step can be taken, its tooltip, and why not; with `may_be` it can without a description."""
    can = bool(step.text) or may_be
    return can, step.text or "Take the last accepted mask back.", step.why_not


def _text_of(name: str, mask: Mask | None) -> str:
    if mask is None:
        return f"{name}\n\n"
    return f"{name}\nIoU {mask.iou_prediction:.2f}\nstable {mask.stability_score:.2f}"


def _group(title: str, rows: Sequence[Sequence[QWidget]]) -> QGroupBox:
    box = QGroupBox(title)
    rows_into(QVBoxLayout(box), rows)
    return box
