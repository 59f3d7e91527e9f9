"""Panel for the task All: where to search, filters that act at once, review, and accepting all."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QButtonGroup, QGridLayout, QLabel, QSlider, QVBoxLayout, QWidget
from superqt import QRangeSlider

from napari_sam.everything.options import FilterOptions
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.proposals.finder import ProposalFinder, Where
from napari_sam.plugin.widgets.buttons import Bar, Line, push_button, rows_into
from napari_sam.plugin.workers.activity import Activity

if TYPE_CHECKING:
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session

PLACES: dict[Where, tuple[str, str, str]] = {
    "view": ("View", "Search what the canvas shows.", "Find in view"),
    "region": ("Region", "Search inside what you draw, or inside the shapes of any Shapes layer.", "Find in region"),
    "plane": ("Plane", "Search the whole plane, in the background.", "Run on plane"),
}
# The size slider counts diameters on a logarithmic scale, from this one to the length of the image.
LEAST_DIAMETER, SIZE_STEPS = 2.0, 200
# Objects like two examples are up to so many times smaller than the one and larger than the other.
LIKE = 1.5
REVIEW_FIRST = "Go to a doubtful one first. A click on an outline removes it, too."
NO_IMAGE, FIND_FIRST = "There is no image yet: open one first.", "Find objects first."


class ProposalPanel(QWidget):
    """Finds objects, filters them, and accepts those that are kept.

    Parameters
    ----------
    session
        The image.
    finder
        The proposals.
    keys
        The keys of the buttons.
    examples
        Returns the areas of the objects that are selected in the table.
    """

    def __init__(
        self, session: Session, finder: ProposalFinder, keys: LayerKeys, examples: Callable[[], Sequence[int]]
    ) -> None:
        super().__init__()
        self._session, self._finder, self._layer_keys, self._examples = session, finder, keys, examples
        self._activity = Activity("Finding objects", finder.cancel)
        self._most = 0.0
        self._build_search()
        self._build_filters()
        self._build_decisions()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        rows_into(
            column, [[self.step], list(self.places.values()), [self.search, self.cancel], [self.bar], [self.progress]]
        )
        column.addLayout(self._filters())
        rows_into(column, [[self.like], [self.next, self.keep, self.remove], [self.accept, self.discard]])
        column.addStretch()

    def _build_search(self) -> None:
        self.step, self.progress, self.bar = Line(), Line(), Bar()
        self.places = {where: push_button(text, tip) for where, (text, tip, _) in PLACES.items()}
        group = QButtonGroup(self)
        for where, button in self.places.items():
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, where=where: self._finder.set_where(where))
            group.addButton(button)
        self.search = push_button("", "")
        self.cancel = push_button("Cancel", "")
        self.search.clicked.connect(lambda: self._finder.find())
        self.cancel.clicked.connect(lambda: self._finder.cancel())

    def _build_filters(self) -> None:
        options = self._finder.selection.options
        self.confidence, self.stability = QSlider(Qt.Orientation.Horizontal), QSlider(Qt.Orientation.Horizontal)
        self.sizes: Any = QRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self.confidence.setRange(0, 100)
        self.confidence.setValue(round(100 * options.confidence))
        self.confidence.setToolTip("Keep only what the model is at least this sure of. Filters at once.")
        self.stability.setRange(0, 100)
        self.stability.setValue(round(100 * options.stability_score_thresh))
        self.stability.setToolTip("Keep only outlines that depend little on the threshold. Filters at once.")
        self.sizes.setRange(0, SIZE_STEPS)
        self.sizes.setValue((0, SIZE_STEPS))
        self.sizes.setToolTip("Keep only objects of these diameters. Filters at once; the next search looks for them.")
        for slider in (self.confidence, self.stability, self.sizes):
            slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            slider.valueChanged.connect(self._filter)
        self.values = [QLabel() for _ in range(3)]
        self.like = push_button("Size like the selected objects", "")
        self.like.clicked.connect(self._take_examples)

    def _filters(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setVerticalSpacing(4)
        for row, (text, slider, value) in enumerate(
            zip(
                ("Confidence", "Stability", "Size"),
                (self.confidence, self.stability, self.sizes),
                self.values,
                strict=True,
            )
        ):
            value.setFixedWidth(value.fontMetrics().horizontalAdvance("8888–8888 px"))  # noqa: RUF001
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(QLabel(text), row, 0)
            grid.addWidget(slider, row, 1)
            grid.addWidget(value, row, 2)
        grid.setColumnStretch(1, 1)
        return grid

    def _build_decisions(self) -> None:
        finder = self._finder
        self.next, self.keep, self.remove = push_button("", ""), push_button("", ""), push_button("", "")
        self.accept, self.discard = push_button("", ""), push_button("Discard", "")
        self.next.clicked.connect(lambda: finder.next_doubtful())
        self.keep.clicked.connect(lambda: finder.judge(True))
        self.remove.clicked.connect(lambda: finder.judge(False))
        self.accept.clicked.connect(lambda: finder.accept())
        self.discard.clicked.connect(lambda: finder.discard())

    def close_activity(self) -> None:
        """Remove the progress bar from napari's activity dock."""
        self._activity.close()

    # -- choices -------------------------------------------------------------------------------------------------------

    def _filter(self, _: object = None) -> None:
        low, high = self.sizes.value()
        sizes = 0.0 if low == 0 else self._diameter(low), math.inf if high == SIZE_STEPS else self._diameter(high)
        self._finder.filter(
            FilterOptions(
                confidence=self.confidence.value() / 100,
                stability_score_thresh=self.stability.value() / 100,
                sizes=sizes,
            )
        )
        self._refresh_values()

    def _take_examples(self) -> None:
        diameters = [2 * math.sqrt(area / math.pi) for area in self._examples()]
        if diameters:
            low, high = min(diameters) / LIKE, max(diameters) * LIKE
            self.sizes.setValue((math.floor(self._place(low)), math.ceil(self._place(high))))

    def _diameter(self, place: float) -> float:
        """Return the diameter at a place of the size slider, in pixels."""
        return float(LEAST_DIAMETER * (self._most / LEAST_DIAMETER) ** (place / SIZE_STEPS))

    def _place(self, diameter: float) -> float:
        share = math.log(max(diameter, LEAST_DIAMETER) / LEAST_DIAMETER) / math.log(self._most / LEAST_DIAMETER)
        return min(share, 1.0) * SIZE_STEPS

    # -- showing -------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Show the present state."""
        image = self._session.image
        self._most = float(max((64, *(() if image is None else adapters.shape_of(image)))))
        self.step.setText(self._next_step())
        self.places[self._finder.where].setChecked(True)
        self._refresh_search()
        self._refresh_values()
        self._refresh_decisions()

    def _refresh_search(self) -> None:
        finder, progress, ready = self._finder, self._finder.search.progress, self._session.image is not None
        text, tip = PLACES[finder.where][2], PLACES[finder.where][1]
        for where, button in self.places.items():
            button.setEnabled(ready)
            button.setToolTip(PLACES[where][1] if ready else NO_IMAGE)
        self.search.setText(text)
        self.search.setEnabled(ready and progress is None)
        self.search.setToolTip(NO_IMAGE if not ready else tip if progress is None else "A search is under way.")
        self.cancel.setEnabled(progress is not None)
        self.cancel.setToolTip("Stop; what was found stays." if progress is not None else "Nothing is searched now.")
        self.bar.show_share(None if progress is None else progress.done / max(progress.total, 1))
        self.progress.setText("" if progress is None else progress.text)
        self._activity.follow(progress)

    def _refresh_values(self) -> None:
        options = self._finder.selection.options
        low, high = options.sizes
        is_any = low == 0 and math.isinf(high)
        size = "any" if is_any else f"{low:.0f}–{'' if math.isinf(high) else f'{high:.0f} px'}"  # noqa: RUF001
        texts = f"{options.confidence:.0%}", f"{options.stability_score_thresh:.0%}", size
        for label, text in zip(self.values, texts, strict=True):
            label.setText(text)
        examples = self._examples()
        self.like.setEnabled(bool(examples))
        self.like.setToolTip(
            "Look for objects about as large as those selected in the table."
            if examples
            else "Select one or two objects in the table below: the smallest and the largest that you want."
        )

    def _refresh_decisions(self) -> None:
        finder, keys = self._finder, self._layer_keys.keys
        selection = finder.selection
        count, is_reviewing = len(selection.kept), selection.reviewed is not None
        for button, text, name, can, tip, why_not in (
            (self.next, "Doubtful", "next_doubtful", count > 0, "Go to the least certain one.", FIND_FIRST),
            (
                self.keep,
                "Keep",
                "keep_found",
                is_reviewing,
                "Keep it, and go to the next.",
                "Go to a doubtful one first.",
            ),
            (
                self.remove,
                "Remove",
                "remove_found",
                is_reviewing,
                "Remove it, and go to the next; a click brings it back.",
                "Go to a doubtful one first, or click an outline on the image.",
            ),
            (
                self.accept,
                f"Accept {count}" if count else "Accept",
                "accept_found",
                count > 0 and not finder.is_accepting,
                "Write all kept proposals into the output, by one step of undo.",
                "They are being written." if finder.is_accepting else FIND_FIRST,
            ),
        ):
            button.setText(f"{text} ({shown(keys[name])})")
            button.setEnabled(can)
            button.setToolTip(f"{tip} Key: {spelled(keys[name])}." if can else why_not)
        self.discard.setEnabled(selection.found is not None)
        self.discard.setToolTip("Drop all proposals." if selection.found is not None else FIND_FIRST)

    def _next_step(self) -> str:
        """Return what the user can do next, in one line."""
        finder, selection = self._finder, self._finder.selection
        if self._session.image is None:
            return "Drop an image on napari, or unfold Image to open one."
        if finder.search.is_running:
            return "Searching; filter and click already."
        if selection.reviewed is not None:
            return f"Is the white one right? {selection.doubtful_count} are not judged yet."
        if selection.found is None:
            region = "Drag a rectangle around the region, then search it."
            return region if finder.where == "region" else f"{PLACES[finder.where][2]}, then filter and accept."
        if not len(selection.kept):
            return "Nothing is kept: loosen the filters."
        return "Filter; click an outline to remove it; accept."
