"""Panel for the task One: tools, candidates, and accepting the current object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari.layers import Layer
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QButtonGroup, QCheckBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_sam.core.masks import Mask
from napari_sam.plugin.layers.factory import SIGN_COLORS
from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.widgets.buttons import Bar, Line, dot, push_button, rows_into
from napari_sam.segmenter import CANDIDATE_NAMES

if TYPE_CHECKING:
    from napari_sam.plugin.annotation.editing import DraftEditor
    from napari_sam.plugin.inference.encoder_view import EncoderView
    from napari_sam.plugin.inference.hover_search import Hover
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session

VIEW_SIDE, CANDIDATE_HEIGHT = 64, 46
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
# What to do with a tool; its tooltip says more.
STEPS = {
    "points": "Click an object.",
    "box": "Drag a box around an object.",
    "scribble": "Drag a line along an object.",
    "lasso": "Drag roughly around an object.",
    "polygon": "Outline an object; double-click to finish.",
    "ellipse": "Drag an ellipse over an object.",
}
CLICK_FIRST = "Click an object first."


class PromptPanel(QWidget):
    """Shows the current object, and buttons for what can be done with it.

    Parameters
    ----------
    session
        The current draft, and the output.
    keys
        The actions of the buttons, and their keys.
    editing
        Chooses tools and candidates.
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
        hover: Hover,
        encoder_view: EncoderView,
    ) -> None:
        super().__init__()
        self._session, self._layer_keys, self._editing = session, keys, editing
        self._hover, self._encoder_view = hover, encoder_view
        self._shown_keys: dict[str, str] = {}
        self._build_tools()
        self._build_candidates()
        self._build_actions()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        column.addWidget(self.step)
        tools = list(self.tools.values())
        rows_into(column, [tools[:3], tools[3:], [self.sign, self.hover], [self.same_object]])
        column.addLayout(self._lay_out_candidates())
        rows: list[Sequence[QWidget]] = [
            [self.scores],
            [self.accept, self.clear],
            [self.another, self.next, self.accept_all],
        ]
        rows_into(column, rows)

    def _lay_out_candidates(self) -> QGridLayout:
        """Lay out the three candidates, the confidence of each below it, and beside them what the encoder saw."""
        grid = QGridLayout()
        grid.setVerticalSpacing(2)
        for index, (button, bar) in enumerate(zip(self.candidates, self.confidences, strict=True)):
            grid.addWidget(button, 0, index)
            grid.addWidget(bar, 1, index)
            grid.setColumnStretch(index, 1)
        grid.addWidget(self.encoder_input, 0, len(self.candidates), 2, 1)
        return grid

    def _build_tools(self) -> None:
        self.step = Line()
        self.tools: dict[str, QPushButton] = {}
        for tool, (text, tip) in TOOLS.items():
            button = push_button(text, tip)
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, tool=tool: self._choose_tool(tool))
            self.tools[tool] = button
        self.sign = push_button("", "")
        self.sign.clicked.connect(lambda: self._layer_keys.run("flip_sign"))
        self.hover = QCheckBox("Preview")
        self.hover.setToolTip("Before any click, show the mask that a click would give, wherever the image is encoded.")
        self.hover.setChecked(True)
        self.hover.toggled.connect(lambda on: self._hover.set_enabled(on))

        self.same_object = QCheckBox("Same object in other planes")
        self.same_object.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.same_object.toggled.connect(lambda on: self._session.set_same_object(on))

    def _build_candidates(self) -> None:
        self.candidates: list[QPushButton] = []
        self._candidate_group = QButtonGroup(self)
        for index, name in enumerate(CANDIDATE_NAMES[1:]):
            button = push_button(name, "")
            button.setCheckable(True)
            button.setFixedHeight(CANDIDATE_HEIGHT)
            button.clicked.connect(lambda _=False, index=index: self._choose_candidate(index))
            self._candidate_group.addButton(button)
            self.candidates.append(button)
        self.confidences = [Bar() for _ in self.candidates]
        for bar in self.confidences:
            bar.setToolTip("Confidence in the mask: the IoU with the object that the model predicts.")
        self.scores = Line()
        self.encoder_input = QLabel()
        self.encoder_input.setFixedSize(VIEW_SIDE, VIEW_SIDE)
        policy = self.encoder_input.sizePolicy()
        policy.setRetainSizeWhenHidden(True)  # The buttons stay in place without the picture, too.
        self.encoder_input.setSizePolicy(policy)
        self.encoder_input.setVisible(False)
        self.encoder_input.setToolTip(
            "The encoder's input for this answer, with the layer's contrast limits, gamma and colors. If you cannot "
            "make out the object here, neither can the model."
        )

    def _build_actions(self) -> None:
        names = ("accept", "clear", "new_object", "next_object", "accept_all")
        buttons = [push_button("", "") for _ in names]
        for button, name in zip(buttons, names, strict=True):
            button.clicked.connect(lambda _=False, name=name: self._layer_keys.run(name))
        self.accept, self.clear, self.another, self.next, self.accept_all = buttons

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
        self._refresh_same_object()
        self.step.setText(self._next_step())

    def _next_step(self) -> str:
        """Return what the user can do next, in one line."""
        session, keys = self._session, self._layer_keys.keys
        if session.image is None:
            return "Drop an image on napari, or unfold Image to open one."
        if session.candidates is not None:
            return f"{spelled(keys['accept'])} accepts. Right click: not this part."
        tool = session.prompts.tool
        return "Choose a tool." if tool is None else STEPS[tool]

    def _refresh_candidates(self) -> None:
        draft, candidates = self._session.current, self._session.candidates
        # The other sizes of a reopened object are unknown, and often also which one it was.
        sizes = None if draft.is_as_accepted else candidates
        for index, button in enumerate(self.candidates):
            button.setEnabled(candidates is not None)
            mask = None if sizes is None else sizes[index]
            button.setText(_text_of(CANDIDATE_NAMES[index + 1], mask))
            button.setToolTip(self._tip_of_candidate(CANDIDATE_NAMES[index + 1], mask))
            self.confidences[index].show_share(None if mask is None else mask.iou_prediction)
        if sizes is None:
            self._candidate_group.setExclusive(False)
            for button in self.candidates:
                button.setChecked(False)
            self._candidate_group.setExclusive(True)
        else:
            self.candidates[draft.selected].setChecked(True)
        if candidates is None:
            self.scores.setText("Three masks of each click, from small to large.")
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
                self._tip_of_accept(),
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
        ):
            button.setEnabled(can)
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}." if can else why_not)
        self.next.setText(f"Next ({shown(keys['next_object'])})")
        self.accept_all.setText(f"All {pending + begun} ({shown(keys['accept_all'])})" if pending else "All")

    def _tip_of_accept(self) -> str:
        wanted = self._session.continued.wanted
        if wanted is None:
            return "Write the mask into the output, under the next free label."
        into = f"label {wanted}" if wanted else "the label that was accepted last"
        return f"Write the mask into the output, into {into} where that has no pixels in this plane."

    def _refresh_same_object(self) -> None:
        """Show whether masks of other planes go into one object, and into which."""
        session = self._session
        has_planes = session.image is not None and session.image.ndim > 2
        # An image of one plane has no use for the row, which would not fit a small screen.
        self.same_object.setVisible(has_planes)
        self.same_object.setEnabled(has_planes)
        self.same_object.setChecked(session.continued.is_on)
        key = spelled(self._layer_keys.keys["same_object"])
        self.same_object.setToolTip(
            "Accept adds a mask in another plane to the object of the selected row of the table, else to the one that "
            f"was accepted last, instead of making a new object. Key: {key}."
            if has_planes
            else "Open a stack first: this image has one plane."
            if session.image is not None
            else "Open an image first."
        )

    def _refresh_keys(self) -> None:
        """Show the keys that hold now, on the buttons and in their tooltips."""
        keys = self._layer_keys.keys
        if keys == self._shown_keys:
            return
        self._shown_keys = dict(keys)
        for button, name, text in (
            (self.accept, "accept", "Accept"),
            (self.clear, "clear", "Clear"),
            (self.another, "new_object", "Another"),
        ):
            button.setText(f"{text} ({shown(keys[name])})")
        self.sign.setToolTip(
            "Whether the next point is on the object or off it; flips the selected points while selecting. "
            f"Key: {spelled(keys['flip_sign'])}. Right click or Shift+click makes one point of the other sign."
        )

    def _tip_of_candidate(self, name: str, mask: Mask | None) -> str:
        keys = self._layer_keys.keys
        scores = (
            ""
            if mask is None
            else f"Confidence: {mask.iou_prediction:.2f} (the IoU with the object that the model predicts); "
            f"stability: {mask.stability_score:.2f} (how little it depends on the threshold). "
        )
        return (
            f"The {name} one of the three answers. {scores}The object's next answers keep the size that you choose. "
            f"Keys: {spelled(keys['cycle_candidates'])} or {spelled(keys['next_candidate'])}, back: "
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


def _text_of(name: str, mask: Mask | None) -> str:
    return f"{name}\n" if mask is None else f"{name}\n{mask.iou_prediction:.2f}"
