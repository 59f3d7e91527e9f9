"""The menu Export in a real window: what, as, where; and what it remembers."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

from napari_sam.plugin.settings import load_settings

pytestmark = pytest.mark.usefixtures("screen")
COIN, NEIGHBOR = (51, 155), (56, 99)


@pytest.fixture
def window(open_window, coins):
    window = open_window(coins, name="coins")
    for place in (COIN, NEIGHBOR):
        window.click(place)
        window.key(Qt.Key.Key_C)
    return window


def actions(window):
    menu = window.widget.exports.menu
    window.widget.exports.fill()
    return {action.text().removesuffix(" ..."): action for action in menu.actions() if not action.isSeparator()}


def answer(monkeypatch, path):
    """Answer the file dialog, and return what it was asked with."""
    asked = []

    def choose(parent, title, suggested, kinds):
        asked.append((title, suggested, kinds))
        return str(path), kinds

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    return asked


def test_the_button_waits_for_the_first_object(open_window, coins):
    window = open_window(coins, name="coins")
    assert not window.widget.exports.button.isEnabled()
    assert "accept one first" in window.widget.exports.button.toolTip()
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    assert window.widget.exports.button.isEnabled()


def test_a_table_is_written_with_two_choices(window, tmp_path, monkeypatch, told):
    path = tmp_path / "coins.csv"
    asked = answer(monkeypatch, tmp_path / "coins")
    actions(window)["CSV table (.csv)"].trigger()
    assert "under way" in window.widget.exports.button.toolTip()
    window.wait_until(path.exists)
    window.wait_until(window.widget.exports.button.isEnabled)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = window.controller.session.target.data
    assert [int(row["area_px"]) for row in rows] == [np.count_nonzero(labels == label) for label in (1, 2)]
    assert all(float(row["min"]) <= float(row["mean"]) <= float(row["max"]) for row in rows)
    assert asked[0][0] == "Export CSV table"
    assert asked[0][2] == "CSV table (*.csv)"
    assert load_settings("export_folder", "") == str(tmp_path)


def test_only_the_selected_objects_are_exported_and_the_last_format_comes_first(window, tmp_path, monkeypatch):
    answer(monkeypatch, tmp_path / "some.geojson")
    window.widget.objects.table.choose([2])
    found = actions(window)
    assert found["All objects (2)"].isChecked()
    found["The selected objects (1)"].trigger()
    actions(window)["GeoJSON (.geojson)"].trigger()
    window.wait_until((tmp_path / "some.geojson").exists)
    assert '"object": 2' in (tmp_path / "some.geojson").read_text()
    assert '"object": 1,' not in (tmp_path / "some.geojson").read_text()
    formats = [text for text in actions(window) if "(." in text]
    assert formats[0] == "GeoJSON (.geojson)"


def test_a_refused_export_is_told(window, tmp_path, monkeypatch):
    answer(monkeypatch, tmp_path / "there.csv")
    (tmp_path / "there.csv").mkdir()
    actions(window)["CSV table (.csv)"].trigger()
    window.wait_until(lambda: "is a folder" in window.controller.session.status)
    assert window.widget.exports.button.isEnabled()
