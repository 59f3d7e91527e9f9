"""The part of the widget for the object in hand: tools, candidates, accepting, and steps back and forth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGroupBox, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_sam.core.masks import Mask
from napari_sam.plugin.controller import Controller
from napari_sam.plugin.layers.factory import SIGN_COLORS
from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.widgets.buttons import dot, push_button, rows_into
from napari_sam.plugin.widgets.step_texts import StepLabel
from napari_sam.segmenter import CANDIDATE_NAMES

SEEN_SIDE = 64
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
    """Shows the object in hand, and what can be done with it.

    Parameters
    ----------
    controller
        Who does it.
    """

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._keys: dict[str, str] = {}
        self._build_tools()
        self._build_candidates()
        self._build_actions()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        tools = list(self.tools.values())
        column.addWidget(_group("Prompts", [tools[:3], tools[3:], [self.sign], [self.hover]]))
        rows: list[Sequence[QWidget]] = [
            list(self.candidates),
            [self.seen, self.scores],
            [self.accept, self.clear],
            [self.another, self.next],
            [self.accept_all],
            [self.undo, self.redo],
        ]
        column.addWidget(_group("Object", rows))
        column.addWidget(self.progress)
        column.addWidget(self.status)

    def _build_tools(self) -> None:
        controller = self._controller
        self.tools: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            button = push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, tool=tool: self._choose_tool(tool))
            self.tools[tool] = button
        self.sign = push_button("", "")
        self.sign.clicked.connect(lambda: controller.toggle_sign())
        self.hover = QCheckBox("Preview under the cursor")
        self.hover.setToolTip("Before any click, show the mask that a click would give, wherever the image is encoded.")
        self.hover.setChecked(True)
        self.hover.toggled.connect(lambda on: controller.hover.set_enabled(on))

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
        self.scores.setMinimumHeight(SEEN_SIDE)  # The buttons below stay in place without the picture, too.
        self.seen = QLabel()
        self.seen.setFixedSize(SEEN_SIDE, SEEN_SIDE)
        self.seen.setVisible(False)
        self.seen.setToolTip(
            "What the encoder saw for this answer: the layer's own contrast limits, gamma and colours. If you cannot "
            "make out the object here, neither can the model."
        )

    def _build_actions(self) -> None:
        controller = self._controller
        does: list[Callable[[], None]] = [
            controller.accept,
            controller.clear,
            controller.in_hand.begin_another,
            controller.in_hand.take_next,
            controller.accepting.accept_all,
            controller.undo,
            controller.redo,
        ]
        made = [push_button("", "") for _ in does]
        for button, act in zip(made, does, strict=True):
            button.clicked.connect(lambda _=False, act=act: act())
        self.accept, self.clear, self.another, self.next, self.accept_all, self.undo, self.redo = made
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
        self._controller.activate(tool)
        self.refresh()

    def _choose_candidate(self, index: int) -> None:
        self._controller.choose_size(index)

    # -- showing ---------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show how things stand."""
        controller = self._controller
        self._refresh_keys()
        key = shown(controller.keys.keys["flip_sign"])
        self.sign.setText(f"Points {'ON' if controller.sign == 1 else 'OFF'} the object ({key})")
        self.sign.setIcon(dot(SIGN_COLORS[controller.sign]))
        for tool, button in self.tools.items():
            button.setChecked(tool == controller.tool)
            button.setEnabled(controller.image is not None)
            button.setToolTip(TOOLS[tool][1] if controller.image is not None else "Open an image first.")
        self._refresh_candidates()
        self._refresh_actions()
        self.progress.setVisible(controller.busy or controller.warming)
        self.status.setText(controller.status)

    def _refresh_candidates(self) -> None:
        controller, candidates = self._controller, self._controller.candidates
        # Of an object that was reopened the other sizes are unknown, and often also which one it was.
        sizes = None if controller.open.now.is_as_accepted else candidates
        for index, button in enumerate(self.candidates):
            button.setEnabled(candidates is not None)
            button.setText(_described(CANDIDATE_NAMES[index + 1], None if sizes is None else sizes[index]))
        if sizes is None:
            self._candidate_group.setExclusive(False)
            for button in self.candidates:
                button.setChecked(False)
            self._candidate_group.setExclusive(True)
        else:
            self.candidates[controller.selected].setChecked(True)
        if candidates is None:
            self.scores.setText("Click an object to see three masks.")
        else:
            as_accepted = ", as it was accepted" if sizes is None else ""
            self.scores.setText(f"{controller.mask_of(controller.selected).area} px{as_accepted}")

    def _refresh_actions(self) -> None:
        """Enable what can be done; what cannot says why."""
        controller, keys = self._controller, self._controller.keys.keys
        begun, pending = controller.is_begun, len(controller.open.pending)
        for button, name, can, tip, why_not in (
            (
                self.accept,
                "accept",
                controller.candidates is not None or controller.busy,
                "Write the mask into the output, under the next free label.",
                CLICK_FIRST,
            ),
            (self.clear, "clear", begun, "Remove the prompts of this object; undo brings them back.", CLICK_FIRST),
            (
                self.another,
                "new_object",
                begun,
                "Leave this object open and begin another one; Ctrl+click on it takes it up again.",
                CLICK_FIRST,
            ),
            (self.next, "next_object", pending > 0, "Go on with an object that was left open.", "No other is open."),
            (self.accept_all, "accept_all", pending > 0, "Accept every open object.", "No other object is open."),
            (self.undo, "undo", *_told(controller.undoing.next_undo, controller.objects.kept is None)),
            (self.redo, "redo", *_told(controller.undoing.next_redo, False)),
        ):
            button.setEnabled(can)
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}." if can else why_not)
        self.next.setText(f"Next of {pending} open ({shown(keys['next_object'])})" if pending else "Next open")
        self.accept_all.setText(f"Accept all {pending + begun} ({shown(keys['accept_all'])})")
        for button in (self.next, self.accept_all):
            button.setVisible(pending > 0)

    def _refresh_keys(self) -> None:
        """Show the keys that hold now, on the buttons and in their tooltips."""
        keys = self._controller.keys.keys
        if keys == self._keys:
            return
        self._keys = dict(keys)
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

    def refresh_seen(self) -> None:
        """Show the picture of what the encoder saw last."""
        pixels = self._controller.seen.pixels
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

    def is_over(self, active: Layer | None) -> bool:
        """Say whether the Tab key is one of ours while a layer is active."""
        layers = self._controller.prompts.layers
        return "Tab" in self._controller.keys.keys.values() and active is not None and active in layers


def _told(turn: StepLabel, may_be: bool) -> tuple[bool, str, str]:
    """Return whether a step can be taken, what it does, and why not; `may_be` where nobody knows."""
    can = bool(turn.text) or may_be
    return can, turn.text or "Take the last accepted mask back.", turn.why_not


def _described(name: str, mask: Mask | None) -> str:
    if mask is None:
        return f"{name}\n\n"
    return f"{name}\nIoU {mask.iou_prediction:.2f}\nstable {mask.stability_score:.2f}"


def _group(title: str, rows: Sequence[Sequence[QWidget]]) -> QGroupBox:
    box = QGroupBox(title)
    rows_into(QVBoxLayout(box), rows)
    return box
