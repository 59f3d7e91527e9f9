"""Panel for accepted objects: a table of them, and their classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal  # type: ignore[attr-defined]
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QComboBox,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_sam.plugin.layers.voxel_size import VoxelSize
from napari_sam.plugin.objects.merging import ObjectMerging
from napari_sam.plugin.widgets.buttons import push_button, rows_of
from napari_sam.plugin.widgets.merge_menu import MergeMenu
from napari_sam.plugin.widgets.object_table import ObjectModel, ObjectView

if TYPE_CHECKING:
    from napari_sam.journal.objects import LabelledObject
    from napari_sam.plugin.objects.class_view import ClassView
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session

NO_CLASS, NEXT_CLASS = "no class", "Next class"
# Updating more rows than this one by one is slower than a reset.
MAX_SYNC_OBJECTS = 20
# Of more selected objects than this, the first ones are the examples of a search.
MAX_EXAMPLES = 100
CHOOSE_FIRST = "Select an object in the table first."


class ObjectPanel(QWidget):
    """Shows the objects of the output, and buttons for what can be done with them.

    Parameters
    ----------
    session
        The class of the next object.
    objects
        The objects.
    class_view
        Shows the classes in the viewer.
    correct
        Called with the label of an object to correct.

    Attributes
    ----------
    chosen
        Emitted when other objects are selected.
    similar_wanted
        Emitted when the user looks for objects like the selected ones.
    """

    chosen = Signal()
    similar_wanted = Signal()

    def __init__(
        self, session: Session, objects: Objects, class_view: ClassView, correct: Callable[[int], None]
    ) -> None:
        super().__init__()
        self._session, self._objects, self._class_view, self._correct = session, objects, class_view, correct
        self._is_filling = False
        # The rows and the class that were given last and are not written yet, and the text in the box.
        self._given: tuple[list[int], str | None] | None = None
        self._filled = ""
        self.model = ObjectModel()
        self.table = ObjectView(self.model, objects.go_to, correct, self._delete, self)
        self.table.setToolTip(
            "Click: go there. Double-click or Return: correct. Delete: delete. Right click: find similar, merge, split."
        )
        self.menu = MergeMenu(session, ObjectMerging(session, objects), self.table)
        self.menu.find_similar.triggered.connect(lambda: self.similar_wanted.emit())
        self.reopen = push_button("Reopen", "Correct the object: its prompts come back, and accept replaces it.")
        self.delete = push_button("Delete", "Delete the selected objects from the output.")
        self.label = QLabel(NEXT_CLASS)
        # For the longer one of both texts, in the font of napari's theme, which Qt knows only once it is shown.
        self.label.setFixedWidth(round(1.25 * self.label.fontMetrics().horizontalAdvance(NEXT_CLASS)))
        self._build_classes()
        self._lay_out()
        self.reopen.clicked.connect(self._reopen)
        self.delete.clicked.connect(self._delete)
        self.color.clicked.connect(self._ask_color)
        self.rename.clicked.connect(self._ask_name)
        self.by_class.toggled.connect(lambda on: class_view.show_colors(on))
        self.layer.clicked.connect(lambda: class_view.show_layer())
        self.classes.activated.connect(self._give_class)
        line = self.classes.lineEdit()
        assert line is not None
        line.returnPressed.connect(self._give_class)
        line.editingFinished.connect(self._on_edited)
        self.table.selectionModel().selectionChanged.connect(self._refresh)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit())
        objects.changed.connect(self._on_changed)
        session.image_changed.connect(self.follow_image)
        self._on_changed(None)

    def _build_classes(self) -> None:
        self.classes = QComboBox()
        self.classes.setEditable(True)
        self.classes.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.classes.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.classes.setMinimumContentsLength(4)
        self.color = push_button("Color", "")
        self.rename = push_button("Rename", "")
        self.by_class = QCheckBox("Color by class")
        self.by_class.setToolTip("Show the output in the colors of the classes; objects that have none are gray.")
        self.by_class.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.layer = push_button("Classes as a layer", "")
        # For a place that may be folded: how the classes look.
        self.class_options = rows_of([self.color, self.rename], [self.by_class, self.layer])

    @property
    def chosen_areas(self) -> list[int]:
        """The areas of the selected objects, each on the plane where it is largest; of the first few."""
        return [max(part.area for part in row.parts) for row in self.chosen_rows(MAX_SYNC_OBJECTS)]

    def chosen_rows(self, most: int = MAX_EXAMPLES) -> list[LabelledObject]:
        """Return the first of the selected objects."""
        rows = [self._objects.get(label) for label in self.table.first_chosen(most)]
        return [row for row in rows if row is not None]

    def follow_image(self) -> None:
        """Show volumes in the unit of the image."""
        image = self._session.image
        self.model.set_voxel(VoxelSize.of_layer(image))
        self.table.show_volumes(image is not None and image.ndim > 2)

    def close_table(self) -> None:
        """Stop following the objects."""
        self._objects.changed.disconnect(self._on_changed)
        self._session.image_changed.disconnect(self.follow_image)
        self._class_view.close()

    def _lay_out(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.table, 1)
        row = QHBoxLayout()
        for widget in (self.reopen, self.delete, self.label, self.classes):
            row.addWidget(widget, int(widget is self.classes))
        column.addLayout(row)

    # -- actions -------------------------------------------------------------------------------------------------------

    def _reopen(self) -> None:
        for label in self.table.chosen[:1]:
            self._correct(label)

    def _delete(self) -> None:
        self._objects.delete(self.table.chosen)

    def _on_edited(self) -> None:
        """Give the class that was typed when the box loses focus; Qt also reports unchanged text."""
        if self.classes.currentText() != self._filled:
            self._give_class()

    def _give_class(self, _: Any = None) -> None:
        """Give the selected objects the class that was chosen or typed; Qt reports it up to three times."""
        wanted, chosen = self._wanted_class(), self.table.chosen
        if self._is_filling or self._given == (chosen, wanted):
            return
        now = {self._class_of(label) for label in chosen} or {self._class_of(None)}
        is_pending = self._given is not None and not set(self._given[0]).isdisjoint(chosen)
        if now == {wanted} and not is_pending:
            return
        self._given = (chosen, wanted) if chosen else None
        self._objects.classify(chosen, wanted)
        with self._filling():
            self._fill_classes(wanted)  # The rows of many objects have it only once it is written.

    def _wanted_class(self) -> str | None:
        name = self.classes.currentText().strip()
        return None if name in ("", NO_CLASS) else name

    def _ask_name(self) -> None:
        name = self._shown_class()
        if name is not None:
            renamed, is_given = QInputDialog.getText(self, "Rename", f"New name of the class {name}:", text=name)
            if is_given and renamed.strip() != name:
                self._objects.define_class(name, renamed=renamed.strip())

    def _ask_color(self) -> None:
        name = self._shown_class()
        known = next((kind for kind in self._objects.classes if kind.name == name), None)
        if known is None:
            return
        color = QColorDialog.getColor(QColor.fromRgbF(*known.color), self, f"Color of {name}")
        if color.isValid():
            self._objects.define_class(known.name, (color.redF(), color.greenF(), color.blueF()))

    # -- showing -------------------------------------------------------------------------------------------------------

    def _on_changed(self, labels: Sequence[int] | None) -> None:
        self._given = None
        if labels is None or len(labels) > MAX_SYNC_OBJECTS:
            chosen = self.table.chosen
            journal = self._objects.journal
            self.model.reset(None if journal is None else journal.rows.view)
            self.table.choose([label for label in chosen if self._objects.get(label)])
        else:
            for label in labels:
                self.model.update(label, self._objects.get(label))
        self._refresh()

    def _refresh(self, *_: Any) -> None:
        """Show the class of the selected objects, and enable the buttons that can be used."""
        chosen = self.table.chosen
        self._session.continued.selected = tuple(chosen[:2])
        for button, tip in (
            (self.reopen, "Correct the object: its prompts come back, and accept replaces it."),
            (self.delete, "Delete the selected objects from the output."),
        ):
            button.setEnabled(bool(chosen))
            button.setToolTip(tip if chosen else CHOOSE_FIRST)
        self.classes.setToolTip(
            "The class of the selected objects; type a new one to make it."
            if chosen
            else "The class of the objects that you accept from now on; type a new one to make it. "
            "To give one to objects that are there, select them first."
        )
        has_classes = bool(self._objects.classes)
        self.layer.setEnabled(has_classes)
        self.layer.setToolTip(
            "Add a Labels layer with the number of each pixel's class, or bring it up to date."
            if has_classes
            else "Give an object a class first."
        )
        self.label.setText("Class" if chosen else NEXT_CLASS)
        line = self.classes.lineEdit()
        if not self._is_filling and not (line is not None and line.hasFocus()):  # The user may be typing there.
            with self._filling():
                self._fill_classes(self._shown_class())

    def _fill_classes(self, shown: str | None) -> None:
        kinds = self._objects.classes
        self.classes.clear()
        self.classes.addItem(NO_CLASS)
        for kind in kinds:
            self.classes.addItem(_patch(QColor.fromRgbF(*kind.color)), kind.name)
        names = [kind.name for kind in kinds]
        if shown is not None and shown not in names:
            self.classes.addItem(shown)  # It is made with the first object of it.
        # The index, not the text alone: Qt takes an entry that fits the text for one that the user chose.
        self.classes.setCurrentIndex(self.classes.findText(shown or NO_CLASS))
        self._filled, line = self.classes.currentText(), self.classes.lineEdit()
        if line is not None:
            line.setCursorPosition(0)  # Or the first letters of a long name are out of sight.
        for button, tip in (
            (self.color, "Give the class another color."),
            (self.rename, "Give the class another name; its objects keep it."),
        ):
            button.setEnabled(shown in names)
            button.setToolTip(tip if shown in names else "Choose a class that objects have first.")

    def _shown_class(self) -> str | None:
        """Return the class of the selected objects, or that of those to come."""
        chosen = self.table.chosen
        return self._class_of(chosen[0] if chosen else None)

    def _class_of(self, label: int | None) -> str | None:
        """Return the class of an object, or without one that of those to come."""
        if label is None:
            return self._session.class_name
        row = self._objects.get(label)
        return row.label_class.name if row is not None and row.label_class is not None else None

    @contextmanager
    def _filling(self) -> Any:
        self._is_filling = True
        try:
            yield
        finally:
            self._is_filling = False

    def sizeHint(self) -> QSize:  # noqa: N802  Qt's name.
        """Return how large it would like to be."""
        return QSize(300, super().sizeHint().height())


def _patch(color: QColor) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(color)
    return QIcon(pixmap)
