"""The table of objects and the journal in a real window, by mouse, keys and buttons."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from tests.plugin.annotating import disc

from napari_sam.core.geometry import Box, Plane
from napari_sam.journal.entries import Entry, LabelClass, now
from napari_sam.journal.objects import LabelledObject, Part
from napari_sam.journal.storage.database import Database
from napari_sam.journal.storage.object_rows import to_content
from napari_sam.journal.storage.object_table import ObjectTable
from napari_sam.plugin.widgets.object_table import COLUMNS, ObjectModel, ObjectView
from napari_sam.testing.window import flush

COIN, NEIGHBOUR, THIRD = (51, 155), (56, 99), (125, 102)
CTRL, SHIFT = Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.ShiftModifier


def rows_of(model):
    return [[model.index(row, column).data() for column in range(len(COLUMNS))] for row in range(model.rowCount())]


class Table:
    """Objects in a database, as a journal has them."""

    def __init__(self):
        self.database = Database(None)
        self.rows = ObjectTable(self.database, lambda number: Entry(number, "accept", now()))
        with self.database.transaction() as connection:
            for number, name in enumerate("ab", 1):
                self.rows.put_class(connection, number, (name, 1.0, 0.0, 0.0))

    @property
    def view(self):
        return self.rows.view()

    def put(self, *objects):
        with self.database.transaction() as connection:
            for found in objects:
                self.rows.put(connection, found.label, to_content(found))
            self._count(connection)

    def remove(self, label):
        with self.database.transaction() as connection:
            self.rows.put(connection, label, None)
            self._count(connection)

    @staticmethod
    def _count(connection):
        connection.execute("UPDATE state SET objects = (SELECT count(*) FROM objects)")


def some_object(label, area=10, plane=0, name=None):
    part = Part(Plane((1, 2), (plane, 0, 0)), Box(0, 0, 5, 5), area, label, 0.5, 0.5, None, label)
    kind = None if name is None else LabelClass(1 + "ab".index(name), name, (1.0, 0.0, 0.0))
    return LabelledObject(label, (part,), now(), now(), kind)


@pytest.mark.parametrize("column", range(len(COLUMNS)))
@pytest.mark.parametrize("order", [Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder])
def test_rows_that_come_change_and_go_stay_in_order(qapp, column, order):
    rng = np.random.default_rng(0)
    model, table = ObjectModel(), Table()
    model.sort(column, order)
    model.reset(table.view)
    for _ in range(60):
        label = int(rng.integers(1, 40))
        if rng.random() < 0.3 and table.view.get(label):
            table.remove(label)
        else:
            table.put(some_object(label, int(rng.integers(9)), int(rng.integers(3)), "ab"[int(rng.integers(2))]))
        if rng.random() < 0.1:
            model.reset(table.view)
        else:
            model.update(label, table.view.get(label))
        again = ObjectModel()
        again.sort(column, order)
        again.reset(table.view)
        assert rows_of(model) == rows_of(again)


def test_changes_that_are_told_late_are_shown_in_the_end(qapp):
    rng = np.random.default_rng(1)
    model, table = ObjectModel(), Table()
    model.reset(table.view)
    for _ in range(60):
        labels = sorted({int(label) for label in rng.integers(1, 40, 4)})
        for label in labels:
            if table.view.get(label) and rng.random() < 0.5:
                table.remove(label)
            else:
                table.put(some_object(label))
        rows_of(model)
        for label in labels:
            model.update(label, table.view.get(label))
        assert [row[0] for row in rows_of(model)] == [str(label) for label in table.view.labels()]


def test_of_many_objects_only_those_in_view_are_read(qapp):
    model, table = ObjectModel(), Table()
    table.put(*(some_object(label) for label in range(1, 1001)))
    read = []
    page = ObjectTable.page
    table.rows.page = lambda *given: read.append(found := page(table.rows, *given)) or found
    model.reset(table.view)
    assert (model.rowCount(), read) == (1000, [])
    assert model.index(700, 0).data() == "701"
    assert model.index(720, 0).data() == "721"
    assert sum(map(len, read)) <= 128


@pytest.mark.usefixtures("screen")
def test_of_ten_thousand_objects_only_the_rows_in_view_are_asked_for_what_they_show(qtbot, monkeypatch):
    model, table = ObjectModel(), Table()
    picked, asked, counts = [], set(), []
    data = ObjectModel.data

    def recorded(self, index, role=Qt.ItemDataRole.DisplayRole):
        asked.add(index.row())
        return data(self, index, role)

    monkeypatch.setattr(ObjectModel, "data", recorded)
    view = ObjectView(model, picked.append, picked.append, lambda: None)
    qtbot.addWidget(view)
    view.show()
    table.put(*(some_object(label, area=label % 97) for label in range(1, 10_001)))
    changed = some_object(5000, 1000)
    for act in (
        lambda: model.reset(table.view),
        lambda: view.sortByColumn(2, Qt.SortOrder.DescendingOrder),
        lambda: (table.put(changed), model.update(5000, changed)),
        lambda: view.choose([7777]),
    ):
        asked.clear()
        act()
        flush()
        counts.append(len(asked))
    assert [model.index(0, column).data() for column in (0, 2)] == ["5000", "1000"]
    assert view.chosen == [7777]
    assert 0 < max(counts) < 100, counts


@pytest.mark.usefixtures("screen")
def test_accept_go_to_reopen_correct_undo_and_redo(open_window, coins, coin_labels, told):
    window = open_window(coins, name="coins")
    widget, controller = window.widget, window.controller
    widget.object_section.expand(animate=False)
    states = []
    for point in (COIN, NEIGHBOUR, THIRD):
        window.click(point)
        window.key(Qt.Key.Key_C)
        states.append(controller.session.target.data.copy())
    labels = controller.session.target.data
    panel = widget.objects
    assert [row[0] for row in rows_of(panel.model)] == ["1", "2", "3"]
    assert [int(row[2]) for row in rows_of(panel.model)] == np.bincount(labels.ravel())[1:].tolist()
    assert widget.object_section.text() == "Objects (3)"

    view, table = panel.table.viewport(), panel.table
    spot = table.visualRect(panel.model.index(1, 0)).center()
    QTest.mouseClick(view, Qt.MouseButton.LeftButton, pos=spot)
    np.testing.assert_allclose(window.viewer.scene.camera.center[-2:], NEIGHBOUR, atol=15)
    assert panel.reopen.isEnabled()
    QTest.mouseDClick(view, Qt.MouseButton.LeftButton, pos=spot)
    window.wait()
    assert controller.session.current.replaces.label == 2
    np.testing.assert_allclose(controller.prompts.points.data, [NEIGHBOUR], atol=1)
    window.press((90, 99), modifier=SHIFT)
    assert controller.prompts.points.features["label"].tolist() == [1, 0]
    corrected = controller.session.candidates[controller.session.current.selected]
    window.key(Qt.Key.Key_C)
    states.append(labels.copy())
    np.testing.assert_array_equal(labels == 2, corrected.to_array(coins.shape) & (states[-2] != 1) & (states[-2] != 3))
    assert [row[0] for row in rows_of(panel.model)] == ["1", "2", "3"]

    panel.table.choose([3])
    QTest.keyClick(panel.table, Qt.Key.Key_Delete)
    states.append(labels.copy())
    assert 3 not in labels
    panel.table.choose([1])
    panel.classes.setCurrentText("penny")
    QTest.keyClick(panel.classes.lineEdit(), Qt.Key.Key_Return)
    assert rows_of(panel.model)[0][1] == "penny"
    states.append(labels.copy())

    window.canvas.setFocus()
    for state in states[-2::-1]:
        window.key(Qt.Key.Key_Z, CTRL)
        np.testing.assert_array_equal(labels, state)
    widget.footer.undo.click()
    assert not labels.any()
    assert panel.model.rowCount() == 0
    assert not widget.footer.undo.isEnabled()
    assert "nothing" in widget.footer.undo.toolTip()
    for state in states[:-1]:
        window.key(Qt.Key.Key_Z, CTRL | SHIFT)
        np.testing.assert_array_equal(labels, state)
    widget.footer.redo.click()
    np.testing.assert_array_equal(labels, states[-1])
    assert not widget.footer.redo.isEnabled()
    assert told == []


@pytest.mark.usefixtures("screen")
def test_ctrl_click_takes_up_an_object_with_its_prompts(open_window, coins):
    window = open_window(coins, name="coins")
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    window.press((48, 150), modifier=CTRL)
    window.qtbot.waitUntil(lambda: window.controller.session.current.replaces is not None)
    np.testing.assert_allclose(window.controller.prompts.points.data, [COIN], atol=1)


@pytest.mark.usefixtures("screen")
def test_work_that_was_left_is_offered_on_a_button(open_window, coins, qtbot):
    window = open_window(coins, name="coins")
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    before = window.controller.session.target.data.copy()
    assert not window.widget.resume.isVisibleTo(window.widget)
    window.viewer.window.remove_dock_widget(window.widget)
    again = open_window(coins, name="coins")
    qtbot.waitUntil(lambda: again.widget.resume.isVisibleTo(again.widget))
    assert again.widget.resume.text() == "Resume (1 object)"
    again.widget.resume.click()
    qtbot.waitUntil(lambda: again.controller.session.target is not None)
    np.testing.assert_array_equal(again.controller.session.target.data, before)
    assert not again.widget.resume.isVisibleTo(again.widget)
    assert again.widget.objects.model.rowCount() == 1


@pytest.mark.usefixtures("screen")
def test_clean_up_changes_what_is_seen_and_what_is_written(open_window, coins, qtbot):
    window = open_window(coins, name="coins")
    widget, controller = window.widget, window.controller
    window.click(COIN)
    widget.cleaning_section.expand(animate=False)
    raw = controller.preview.layers.current.data.copy()
    widget.cleaning.smooth.setValue(4.0)
    qtbot.waitUntil(lambda: not np.array_equal(controller.preview.layers.current.data, raw))
    seen = controller.session.mask_of(controller.session.current)
    assert f"{seen.area} px" in widget.prompts.scores.text()
    window.key(Qt.Key.Key_C)
    np.testing.assert_array_equal(controller.session.target.data == 1, seen.to_array(coins.shape))


@pytest.mark.usefixtures("screen")
def test_the_widget_stays_narrow_with_all_sections_open(open_window, coins):
    window = open_window(coins, name="coins")
    window.widget.object_section.expand(animate=False)
    window.widget.cleaning_section.expand(animate=False)
    flush()
    assert window.widget.width() <= 350
    assert window.widget.mapTo(window.widget, QPoint(0, 0)).x() == 0


@pytest.fixture
def six_objects(open_window, coins, told):
    """A window with six accepted objects."""
    from napari_sam.core.prompts import Prompts
    from napari_sam.segmenter import Candidates

    window = open_window(coins, name="coins")
    controller, plane = window.controller, Plane((0, 1), (0, 0))
    window.qtbot.waitUntil(lambda: not controller.session.is_warming)
    for number in range(6):
        mask = disc(20 + 40 * number, 40 + 50 * number, 9, coins.shape)
        controller.session.drafts.current.candidates = Candidates(
            (mask,) * 3, 0, plane, Prompts(np.array([[5.0, 5]]), np.ones(1, bool))
        )
        controller.commits.accept()
        window.qtbot.waitUntil(lambda count=number + 1: len(controller.objects.rows) == count)
    window.widget.object_section.expand(animate=False)
    return window


def classes_of(window):
    rows = sorted(window.controller.objects.rows, key=lambda row: row.label)
    return [row.label_class and row.label_class.name for row in rows]


def forget_object(window):
    flush()
    kept = window.controller.objects.journal
    window.qtbot.waitUntil(lambda: not kept.is_busy)


@pytest.mark.parametrize("by", ["typing and Return", "typing and going elsewhere", "choosing"])
def test_a_class_of_many_rows_stays_after_the_next_click(screen, six_objects, by):
    window, panel = six_objects, six_objects.widget.objects
    if by == "choosing":
        panel.table.choose([6])
        window.controller.objects.classify([6], "cell")
        forget_object(window)
    panel.table.choose([1, 2, 3, 4, 5])
    line = panel.classes.lineEdit()
    if by == "choosing":
        panel.classes.setCurrentText("cell")
        panel.classes.activated.emit(panel.classes.currentIndex())
    else:
        line.setFocus()
        line.selectAll()
        QTest.keyClicks(line, "cell")
        if by == "typing and Return":
            QTest.keyClick(line, Qt.Key.Key_Return)
        else:
            line.editingFinished.emit()
    line.editingFinished.emit()  # As Qt does when the box loses the focus to the next click.
    panel.table.choose([6])
    line.editingFinished.emit()
    forget_object(window)
    assert classes_of(window)[:5] == ["cell"] * 5
    window.controller.undo.undo()
    forget_object(window)
    assert classes_of(window)[:5] == [None] * 5
    panel.table.choose([1, 2, 3, 4, 5])
    assert panel.classes.currentText() == "no class"
    window.controller.undo.undo()
    forget_object(window)
    assert len(classes_of(window)) == (6 if by == "choosing" else 5)


def test_a_class_that_is_changed_before_the_first_one_is_written_wins(screen, six_objects):
    window, panel = six_objects, six_objects.widget.objects
    panel.table.choose([1, 2, 3, 4, 5])
    for name in ("cell", "vessel", "no class"):
        panel.classes.setCurrentText(name)
        panel._give_class()
    forget_object(window)
    assert classes_of(window) == [None] * 6
