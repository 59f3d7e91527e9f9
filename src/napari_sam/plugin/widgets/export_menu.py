"""The button and menu Export: what, as, and where; it remembers the last choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari.utils.notifications import show_info
from qtpy.QtGui import QAction, QActionGroup  # type: ignore[attr-defined]
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QWidget

from napari_sam.exports.exporting import Exported
from napari_sam.exports.format import ExportFormat
from napari_sam.exports.options import ExportOptions
from napari_sam.plugin.exports.exporter import Exporter, counted
from napari_sam.plugin.settings import load_settings, save_settings
from napari_sam.plugin.widgets.buttons import push_button

if TYPE_CHECKING:
    from napari_sam.plugin.objects.object_list import Objects

# What was not chosen yet.
AUTO = "auto"
# Endings of formats with polygons, whose outlines can be squared.
POLYGONS = (".geojson", ".gpkg", ".zip")


class ExportMenu:
    """Exports the objects of the output.

    Parameters
    ----------
    exporter
        Writes the files.
    objects
        The objects and their classes.
    chosen
        Returns the labels of the objects that are selected in the table.
    parent
        The parent of dialogs.

    Attributes
    ----------
    button
        Opens the menu.
    menu
        What to export, and the formats that suit the image.
    """

    def __init__(
        self, exporter: Exporter, objects: Objects, chosen: Callable[[], Sequence[int]], parent: QWidget
    ) -> None:
        self._exporter, self._objects, self._chosen, self._parent = exporter, objects, chosen, parent
        self._what: str | None = None  # The class that is exported; None for all objects.
        self._only_selected = False
        self.button: QPushButton = push_button("Export", "")
        self.menu = QMenu(self.button)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self.fill)
        self.button.setMenu(self.menu)
        self.refresh()

    def refresh(self) -> None:
        """Enable the button where there is something to export."""
        has_output, is_running = self._exporter.layer is not None, self._exporter.is_running
        self.button.setEnabled(has_output and not is_running)
        self.button.setToolTip(
            "There are no objects yet: accept one first."
            if not has_output
            else "An export is under way."
            if is_running
            else "Write the objects for other programs: a table, polygons, a label image, a volume and others."
        )

    def fill(self) -> None:
        """Offer what there is to export by now, and the formats that suit the image, the last one first."""
        self.menu.clear()
        self._add_choices()
        self.menu.addSeparator()
        # napari's style leaves out the text of a section.
        heading = self.menu.addAction("Export as")
        assert heading is not None
        heading.setEnabled(False)
        for form in self._formats():
            action = self.menu.addAction(f"{form.name} ({form.suffixes[0]}) ...")
            assert action is not None
            action.setToolTip(f"Holds {form.holds}.")
            action.triggered.connect(lambda _=False, form=form: self._ask(form))
        self.menu.addSeparator()
        squared = self.menu.addAction("Square corners of polygons")
        assert squared is not None
        squared.setCheckable(True)
        squared.setChecked(load_settings("export_squared", False))
        squared.setToolTip("Outlines that are nearly rectangular become rectangles, as roofs are.")
        squared.triggered.connect(lambda on: save_settings("export_squared", bool(on)))

    def _add_choices(self) -> None:
        """Add what can be exported: all objects, the selected ones, or those of a class."""
        count, selected = len(self._objects.rows), list(self._chosen())
        kinds = [kind.name for kind in self._objects.classes]
        if self._what not in kinds:
            self._what = None
        self._only_selected &= bool(selected)
        group = QActionGroup(self.menu)
        self._add_choice(group, f"All objects ({count})" if count else "All labels", None, False)
        if selected:
            self._add_choice(group, f"The selected objects ({len(selected)})", None, True)
        for name in kinds:
            self._add_choice(group, f"Class {name.replace('&', '&&')}", name, False)

    def _add_choice(self, group: QActionGroup, text: str, kind: str | None, only_selected: bool) -> None:
        action = QAction(text, self.menu)
        action.setCheckable(True)
        action.setChecked((self._what, self._only_selected) == (kind, only_selected))
        action.triggered.connect(lambda *_: self._choose(kind, only_selected))
        group.addAction(action)
        self.menu.addAction(action)

    def _choose(self, kind: str | None, only_selected: bool) -> None:
        self._what, self._only_selected = kind, only_selected
        self.menu.popup(self.menu.pos())  # Choosing what leads to choosing as what.

    def _formats(self) -> list[ExportFormat]:
        last = load_settings("export_format", AUTO)
        return sorted(self._exporter.formats(), key=lambda form: form.suffixes[0] != last)

    def _ask(self, form: ExportFormat) -> None:
        """Ask where, and export."""
        last = load_settings("export_folder", AUTO)
        suggested = self._exporter.suggested_path(form, None if last == AUTO else Path(last))
        endings = " ".join(f"*{suffix}" for suffix in form.suffixes)
        name, _ = QFileDialog.getSaveFileName(
            self._parent, f"Export {form.name}", str(suggested), f"{form.name} ({endings})"
        )
        if not name:
            return
        if not name.lower().endswith(form.suffixes):
            name += form.suffixes[0]
        save_settings("export_format", form.suffixes[0])
        save_settings("export_folder", str(Path(name).parent))
        self._exporter.export(Path(name), self._options(form), self._tell)
        self.refresh()

    def _options(self, form: ExportFormat) -> ExportOptions:
        labels = tuple(self._chosen()) if self._only_selected else None
        is_squared = form.suffixes[0] in POLYGONS and load_settings("export_squared", False)
        return ExportOptions(labels=labels, class_name=self._what, squared=is_squared)

    def _tell(self, exported: Exported) -> None:
        show_info(f"{counted(exported)} exported.")  # napari cuts off more; the line above Undo says where.
        self.refresh()
