"""Panel for the task All: where to search, filters that act at once, review, and accepting all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QButtonGroup, QComboBox, QGridLayout, QHBoxLayout, QLabel, QSlider, QVBoxLayout, QWidget
from superqt import QRangeSlider

from napari_sam.everything.options import FilterOptions
from napari_sam.plugin.inference.region import Within
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.prompts.keys import shown, spelled
from napari_sam.plugin.proposals.finder import ProposalFinder, Where
from napari_sam.plugin.proposals.wanted import NO_WORDS
from napari_sam.plugin.widgets.buttons import MIN_LETTERS, Bar, Line, push_button, rows_into, section
from napari_sam.plugin.widgets.tasks.like_row import LikeRow
from napari_sam.plugin.workers.activity import Activity

if TYPE_CHECKING:
    from napari_sam.plugin.prompts.keys import LayerKeys
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.widgets.object_panel import ObjectPanel

PLACES: dict[Where, tuple[str, str, str]] = {
    "view": ("View", "Search what the canvas shows.", "Find in view"),
    "plane": ("Plane", "Search the whole plane, in the background.", "Run on plane"),
    "volume": (
        "Volume",
        "Search all planes, in the background; the parts of one object in neighboring planes become one object.",
        "Run on volume",
    ),
}
LIMITS: dict[Within, str] = {"everywhere": "no limit", "drawn": "what I draw", "tissue": "tissue"}
# The size slider counts diameters on a logarithmic scale, from this one to the length of the image.
LEAST_DIAMETER, SIZE_STEPS = 2.0, 200
# Objects like two examples are up to so many times smaller than the one and larger than the other.
LIKE = 1.5
NO_IMAGE, FIND_FIRST, REVIEW_FIRST = (
    "There is no image yet: open one first.",
    "Find objects first.",
    "Review them first. A click on an outline removes it, too.",
)
CONFIDENCE = "Confidence"
# The name of the first filter and what it does, for any objects and for those that are like examples.
SCORES = {
    False: (CONFIDENCE, "Keep only what the model is at least this sure of. Filters at once."),
    True: ("Likeness", "Keep only what is at least this likely of the same kind. Filters at once."),
}
REVIEW = "Go from one to the next, the least certain one first."
ONE_PLANE = "This image has one plane only."


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
    objects
        The table of objects, of which the selected ones are examples.
    """

    def __init__(self, session: Session, finder: ProposalFinder, keys: LayerKeys, objects: ObjectPanel) -> None:
        self._sliders: QGridLayout | None = None
        super().__init__()
        self._session, self._finder, self._layer_keys, self._objects = session, finder, keys, objects
        self.wanted = LikeRow(finder)
        # The filters that the sliders show.
        self._shown = finder.selection.options
        objects.chosen.connect(self._on_chosen)
        objects.similar_wanted.connect(lambda: finder.wanted.find_similar(objects.chosen_rows()))
        self._activity = Activity("Finding objects", finder.cancel)
        self._most = 0.0
        self._build_search()
        self._build_filters()
        self._build_decisions()
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 0, 4, 0)
        rows_into(column, [[self.step], list(self.places.values())])
        column.addLayout(self._limit_row())
        rows_into(column, [[self.wanted], [self.search, self.cancel], [self.bar]])
        self._sliders = self._grid((CONFIDENCE, self.confidence), ("Size", self.sizes))
        column.addLayout(self._sliders)
        rows_into(column, [[self.like]])
        more = QWidget()
        more.setLayout(self._grid(("Stability", self.stability), ("Compactness", self.solidity)))
        self.more = section("More filters", "Filter by the stability and the shape of the outlines.", more)
        column.addWidget(self.more)
        rows_into(column, [[self.next, self.keep, self.remove], [self.accept, self.discard]])
        column.addStretch()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802  Qt's name.
        """Measure the sliders again in another style: a panel that is hidden would be found higher when it changes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and self._sliders is not None:
            self._sliders.invalidate()

    def _limit_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel("Only inside"))
        row.addWidget(self.within, 1)
        return row

    def _build_search(self) -> None:
        self.step, self.bar = Line(), Bar()
        self.places = {where: push_button(text, tip) for where, (text, tip, _) in PLACES.items()}
        group = QButtonGroup(self)
        for where, button in self.places.items():
            button.setCheckable(True)
            button.clicked.connect(lambda _=False, where=where: self._finder.set_where(where))
            group.addButton(button)
        self.within = QComboBox()
        self.within.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.within.setMinimumContentsLength(MIN_LETTERS)
        self.within.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.within.setToolTip(
            "Search only inside shapes that you draw, on tissue (what stands out from the background), or inside the "
            "objects of a Labels layer."
        )
        self.within.activated.connect(lambda at: self._finder.set_within(self._limits()[at][1]))
        self.search = push_button("", "")
        self.cancel = push_button("Cancel", "")
        self.search.clicked.connect(lambda: self._finder.find())
        self.cancel.clicked.connect(lambda: self._finder.cancel())

    def _build_filters(self) -> None:
        options = self._finder.selection.options
        self.values: dict[QWidget, QLabel] = {}
        self.names: dict[QWidget, QLabel] = {}
        self.confidence = self._share_slider(options.confidence, "")
        self.stability = self._share_slider(
            options.stability_score_thresh, "Keep only outlines that depend little on the threshold. Filters at once."
        )
        self.solidity = self._share_slider(
            options.min_solidity,
            "Keep only compact outlines: 100% is a full ellipse, branched and curved ones have less. Filters at once.",
        )
        self.sizes: Any = QRangeSlider(Qt.Orientation.Horizontal)  # type: ignore[no-untyped-call]
        self.sizes.setRange(0, SIZE_STEPS)
        self.sizes.setValue((0, SIZE_STEPS))
        self.sizes.setToolTip("Keep only objects of these diameters. Filters at once; the next search looks for them.")
        for slider in (self.confidence, self.stability, self.solidity, self.sizes):
            slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            slider.valueChanged.connect(self._filter)
        self.like = push_button("", "")
        self.like.clicked.connect(self._on_like)
        self._finder.examples.drawn.connect(self._on_drawn)

    @staticmethod
    def _share_slider(value: float, tip: str) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal)
        slider.setRange(0, 100)
        slider.setValue(round(100 * value))
        slider.setToolTip(tip)
        return slider

    def _grid(self, *rows: tuple[str, QWidget]) -> QGridLayout:
        """Return rows of a name, a slider and its value."""
        grid = QGridLayout()
        grid.setVerticalSpacing(4)
        for row, (text, slider) in enumerate(rows):
            value, name = QLabel(), QLabel(text)
            name.setMinimumWidth(name.fontMetrics().horizontalAdvance("Compactness "))
            value.setFixedWidth(value.fontMetrics().horizontalAdvance("8888–8888 px"))  # noqa: RUF001
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.values[slider], self.names[slider] = value, name
            for col, widget in enumerate((name, slider, value)):
                grid.addWidget(widget, row, col)
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
        self._shown = FilterOptions(
            confidence=self.confidence.value() / 100,
            stability_score_thresh=self.stability.value() / 100,
            min_solidity=self.solidity.value() / 100,
            sizes=sizes,
        )
        self._finder.filter(self._shown)
        self._refresh_values()

    def _on_like(self) -> None:
        """Take the sizes of the objects that are selected in the table, or let the user draw some."""
        areas = self._objects.chosen_areas
        if areas:
            self._take_examples(areas)
        else:
            self._finder.examples.draw()

    def _on_chosen(self) -> None:
        """Look for what is like the objects that are selected now, where that is wanted."""
        rows = self._objects.chosen_rows()
        if rows:
            self._finder.wanted.select(rows)
        self.refresh()

    def _on_drawn(self) -> None:
        self._take_examples(self._finder.examples.areas)

    def _take_examples(self, areas: Sequence[int]) -> None:
        diameters = [2 * math.sqrt(area / math.pi) for area in areas]
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
        self.wanted.refresh()
        self._refresh_search()
        self._follow_filters()
        self._refresh_values()
        self._refresh_decisions()

    def reset_choices(self) -> None:
        """Offer the layers that there are now."""
        limits = self._limits()
        self.within.clear()
        self.within.addItems([text for text, _ in limits])
        values = [value for _, value in limits]
        if self._finder.within not in values:
            self._finder.set_within("everywhere")
        self.within.setCurrentIndex(values.index(self._finder.within))

    def _limits(self) -> list[tuple[str, Within]]:
        """Return what a search can be limited to."""
        image = self._session.image
        layers = [] if image is None else [each for each in self._session.outputs if labels_layer.lies_on(each, image)]
        limits: list[tuple[str, Within]] = [(text, within) for within, text in LIMITS.items()]
        return [*limits, *((f"the labels of {layer.name}", layer) for layer in layers)]

    def _refresh_search(self) -> None:
        finder, progress, ready = self._finder, self._finder.search.progress, self._session.image is not None
        text, tip = PLACES[finder.where][2], PLACES[finder.where][1]
        for where, button in self.places.items():
            is_possible = ready and (where != "volume" or finder.has_many_planes)
            button.setEnabled(is_possible)
            button.setToolTip(PLACES[where][1] if is_possible else ONE_PLANE if ready else NO_IMAGE)
        self.within.setEnabled(ready)
        self.search.setText(text)
        self.search.setEnabled(ready and progress is None)
        self.search.setToolTip(NO_IMAGE if not ready else tip if progress is None else "A search is under way.")
        self.cancel.setEnabled(progress is not None)
        self.cancel.setToolTip("Stop; what was found stays." if progress is not None else "Nothing is searched now.")
        self.bar.show_share(None if progress is None else progress.done / max(progress.total, 1))
        # Not for the view: napari draws its whole window again for each picture of the turning wheel.
        self._activity.follow(progress if finder.is_long else None)

    def _follow_filters(self) -> None:
        """Move the sliders to filters that a search has set to what suits its scores."""
        options, is_similar = self._finder.selection.options, self._finder.selection.similar is not None
        name, tip = SCORES[is_similar]
        self.names[self.confidence].setText(name)
        self.confidence.setToolTip(tip)
        if options is self._shown:
            return
        self._shown = options
        low, high = options.sizes
        places = math.floor(self._place(low)), SIZE_STEPS if math.isinf(high) else math.ceil(self._place(high))
        shares = options.confidence, options.stability_score_thresh, options.min_solidity
        sliders: tuple[Any, ...] = self.confidence, self.stability, self.solidity, self.sizes
        for slider, value in zip(sliders, (*(round(100 * share) for share in shares), places), strict=True):
            slider.blockSignals(True)
            slider.setValue(value)
            slider.blockSignals(False)

    def _refresh_values(self) -> None:
        options = self._finder.selection.options
        low, high = options.sizes
        is_any = low == 0 and math.isinf(high)
        size = "any" if is_any else f"{low:.0f}–{'' if math.isinf(high) else f'{high:.0f} px'}"  # noqa: RUF001
        for slider, text in (
            (self.confidence, f"{options.confidence:.0%}"),
            (self.stability, f"{options.stability_score_thresh:.0%}"),
            (self.solidity, f"{options.min_solidity:.0%}"),
            (self.sizes, size),
        ):
            self.values[slider].setText(text)
        count, ready = len(self._objects.chosen_areas), self._session.image is not None
        self.like.setEnabled(ready)
        self.like.setText(
            f"Size like the selected object{'s' if count > 1 else ''}" if count else "Size like examples ..."
        )
        self.like.setToolTip(
            NO_IMAGE
            if not ready
            else "Look for objects about as large as those that are selected in the table."
            if count
            else "Draw around the smallest and the largest object that count, or select some in the table first."
        )

    def _refresh_decisions(self) -> None:
        finder, keys = self._finder, self._layer_keys.keys
        selection = finder.selection
        count, is_reviewing = len(selection.kept), selection.reviewed is not None
        for button, text, name, can, tip, why_not in (
            (self.next, "Next" if is_reviewing else "Review", "next_doubtful", count > 0, REVIEW, FIND_FIRST),
            (
                self.keep,
                "Keep",
                "keep_found",
                is_reviewing,
                "Keep it, and go to the next.",
                REVIEW_FIRST,
            ),
            (
                self.remove,
                "Remove",
                "remove_found",
                is_reviewing,
                "Remove it, and go to the next; a click brings it back.",
                REVIEW_FIRST,
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
        """Return what the user can do next, or how far the search is, in one line."""
        finder, selection, keys = self._finder, self._finder.selection, self._layer_keys.keys
        if self._session.image is None:
            return "Drop an image on napari, or unfold Image to open one."
        if finder.search.progress is not None:
            return finder.search.progress.text
        if selection.reviewed is not None:
            yes, no = shown(keys["keep_found"]), shown(keys["remove_found"])
            doubtful = "ranking ..." if selection.is_ranking else f"{selection.doubtful_count} doubtful."
            return f"{self._question} {yes} or {no}; {doubtful}"
        if selection.found is None:
            if finder.accepted_count:
                return f"{finder.accepted_count} accepted. Click missed ones in One ({spelled(keys['task_one'])})."
            if finder.within == "drawn":
                return f"Draw around what to search, then {PLACES[finder.where][2].lower()}."
            missing = NO_WORDS if finder.wanted.like == "words" and finder.wanted.word_finder is None else ""
            return missing or f"{PLACES[finder.where][2]}, then filter and accept."
        if not len(selection.kept):
            return "Nothing is kept: loosen the filters." if len(selection.found) else "Nothing was found here."
        if selection.similar is not None and selection.doubtful_count:
            return f"{selection.doubtful_count} doubtful: review them ({shown(keys['next_doubtful'])}); accept."
        return "Filter; click wrong ones away; accept."

    @property
    def _question(self) -> str:
        """What is asked about the proposal in review."""
        similar, name = self._finder.selection.similar, self._finder.selection.reviewed_class
        if similar is None or len(similar.classes) < 2:
            return "Is the white one right?"
        return f"{name or 'no class'} ({shown(self._layer_keys.keys['other_class'])}: other)?"
