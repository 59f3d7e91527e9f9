"""Objects in several planes in the window: accepted into one, listed with their volume, merged and split."""

from __future__ import annotations

import numpy as np
import pytest
from tests.plugin.annotating import disc, image_of, labels_of, make_controller, propose

from napari_sam.core.geometry import Plane
from napari_sam.plugin.layers.voxel_size import VoxelSize
from napari_sam.plugin.objects.merging import ObjectMerging
from napari_sam.plugin.widgets.object_panel import ObjectPanel
from napari_sam.plugin.widgets.object_table import COLUMNS, VOLUME
from napari_sam.plugin.widgets.tasks.prompt_panel import PromptPanel


def plane(z):
    return Plane((1, 2), (z, 0, 0))


@pytest.fixture
def controller(notes):
    made = make_controller(image_of(), notes)
    yield made
    made.close()


@pytest.fixture
def panel(qapp, controller):
    made = ObjectPanel(controller.session, controller.objects, controller.class_view, controller.editing.reopen)
    made.follow_image()
    yield made
    made.close_table()


def accept(controller, z, row=20, col=20, radius=5):
    controller.viewer.dims.set_point(0, z)
    propose(controller, disc(row, col, radius), plane(z))
    controller.commits.accept()


def planes_of(controller):
    return {row.label: sorted(part.plane.index[0] for part in row.parts) for row in controller.objects.rows}


def test_masks_of_other_planes_go_into_the_object_that_was_accepted_last(controller, notes):
    accept(controller, 0)
    accept(controller, 1)
    controller.keys.press("Shift-S")
    assert controller.session.continued.is_on
    accept(controller, 2)
    assert planes_of(controller) == {1: [0], 2: [1, 2]}
    assert "label 2, in 2 planes" in controller.session.status
    accept(controller, 2, 8, 8, 3)  # There the object has pixels, so this is another one.
    accept(controller, 0, 8, 8, 3)
    assert planes_of(controller) == {1: [0], 2: [1, 2], 3: [0, 2]}
    controller.keys.press("Shift-S")
    accept(controller, 1, 8, 8, 3)
    assert planes_of(controller) == {1: [0], 2: [1, 2], 3: [0, 2], 4: [1]}
    controller.undo.undo()
    controller.undo.undo()
    assert planes_of(controller) == {1: [0], 2: [1, 2], 3: [2]}
    assert notes == []


def test_a_selected_row_is_the_object_that_goes_on_and_keeps_its_class(controller, panel):
    controller.session.class_name = "cell"
    accept(controller, 0)
    accept(controller, 0, 8, 8, 3)
    controller.session.class_name = "nucleus"
    controller.session.set_same_object(True)
    panel.table.choose([1])
    accept(controller, 1)
    assert planes_of(controller) == {1: [0, 1], 2: [0]}
    assert controller.objects.get(1).label_class.name == "cell"
    panel.table.choose([1, 2])  # Of several none is meant.
    accept(controller, 2)
    assert planes_of(controller) == {1: [0, 1, 2], 2: [0]}
    panel.table.choose([2])
    controller.objects.delete([2])
    accept(controller, 1, 8, 8, 3)
    assert planes_of(controller) == {1: [0, 1, 2], 3: [1]}
    assert controller.objects.get(3).label_class.name == "nucleus"


def test_the_switch_says_where_masks_go_and_why_it_cannot_be_used(qapp, controller, notes):
    def panel_of(made):
        panel = PromptPanel(made.session, made.keys, made.editing, made.hover, made.encoder_view)
        panel.refresh()
        return panel

    panel, session = panel_of(controller), controller.session
    assert panel.same_object.isEnabled()
    assert "Key: Shift+S." in panel.same_object.toolTip()
    panel.same_object.click()
    assert session.continued.is_on
    propose(controller, disc(20, 20, 4), plane(0))
    panel.refresh()
    assert "the label that was accepted last" in panel.accept.toolTip()
    session.continued.selected = (4,)
    panel.refresh()
    assert "into label 4 where that has no pixels" in panel.accept.toolTip()
    controller.keys.press("Shift-S")
    panel.refresh()
    assert not panel.same_object.isChecked()
    flat = make_controller(image_of(shape=(40, 48)), notes)
    other = panel_of(flat)
    assert not other.same_object.isEnabled()
    assert "one plane" in other.same_object.toolTip()
    flat.session.set_image(None)
    other.refresh()
    assert other.same_object.toolTip() == "Open an image first."
    flat.close()


def test_objects_that_are_accepted_together_go_into_one_where_they_lie_in_other_planes(controller):
    controller.session.set_same_object(True)
    for z in range(3):
        propose(controller, disc(20, 20, 4), plane(z))
        controller.session.drafts.park()
    controller.commits.accept_all()
    assert planes_of(controller) == {1: [0, 1, 2]}
    controller.undo.undo()
    assert planes_of(controller) == {}


def test_the_table_tells_planes_and_volume(controller, panel):
    def shown():
        return [panel.model.index(0, COLUMNS.index(name)).data() for name in ("Area", "Plane", "Volume")]

    accept(controller, 0)
    area = controller.objects.get(1).area
    assert shown() == [str(area), "0", "–"]  # noqa: RUF001
    assert not panel.table.isColumnHidden(VOLUME)
    controller.session.set_same_object(True)
    accept(controller, 2)
    assert shown() == [str(2 * area), "0–2 (2)", str(2 * area)]  # noqa: RUF001
    controller.session.image.scale = (2.0, 0.5, 0.5)
    controller.session.image.units = ("micrometer",) * 3
    panel.follow_image()
    assert shown()[2] == f"{2 * area * 0.5:.4g} µm³"
    tip = panel.model.index(0, 0).data(3)
    assert f"in 2 planes, {2 * area} voxels ({2 * area * 0.5:.4g} µm³)" in tip


def test_a_volume_is_in_units_only_where_all_axes_are_of_space(controller):
    image = controller.session.image
    assert VoxelSize.of_layer(None) is VoxelSize.of_layer(image) is None
    image.scale = (3, 1, 1)
    assert VoxelSize.of_layer(image).text(10) == "30"
    image.axis_labels = ("t", "y", "x")
    assert VoxelSize.of_layer(image) is None
    image.axis_labels = ("z", "y", "x")
    image.units = ("second", "micrometer", "micrometer")
    assert VoxelSize.of_layer(image) is None


def test_selected_rows_are_merged_and_one_undo_takes_it_back(controller, panel):
    accept(controller, 0)
    accept(controller, 1)
    accept(controller, 1, 8, 8, 3)
    before = labels_of(controller)
    menu = panel.menu
    menu.refresh()
    assert not menu.merge.isEnabled()
    assert "two or more objects" in menu.merge.toolTip()
    panel.table.choose([3, 2])
    menu.refresh()
    menu.merge.trigger()
    assert planes_of(controller) == {1: [0], 2: [1]}
    assert panel.model.rowCount() == 2
    assert controller.session.status == "Objects 2, 3 are label 2 now."
    np.testing.assert_array_equal(labels_of(controller), np.where(before == 3, 2, before))
    controller.undo.undo()
    np.testing.assert_array_equal(labels_of(controller), before)
    assert panel.model.rowCount() == 3
    assert "2 objects were merged: taken back." in controller.session.status
    controller.undo.redo()
    assert planes_of(controller) == {1: [0], 2: [1]}


def test_an_object_is_split_by_the_context_menu_and_what_cannot_be_says_why(controller, panel):
    controller.session.set_same_object(True)
    for z in range(3):
        accept(controller, z)
    menu = panel.menu
    menu.refresh()
    assert all("Select one object" in action.toolTip() for action in (menu.split_plane, menu.split_regions))
    panel.table.choose([1])
    controller.viewer.dims.set_point(0, 0)
    menu.refresh()
    assert "behind the beginning" in menu.split_onwards.toolTip()
    assert "a mask is shown" in menu.split_mask.toolTip()
    controller.viewer.dims.set_point(0, 1)
    menu.refresh()
    menu.split_onwards.trigger()
    assert planes_of(controller) == {1: [0], 2: [1, 2]}
    panel.table.choose([1])
    menu.refresh()
    assert not menu.split_plane.isEnabled()
    assert "Go to a plane in which" in menu.split_plane.toolTip()
    panel.table.choose([2])
    menu.refresh()
    menu.split_plane.trigger()
    assert planes_of(controller) == {1: [0], 2: [2], 3: [1]}
    assert controller.session.status == "A part of object 2 is label 3 now."
    controller.viewer.dims.set_point(0, 0)
    propose(controller, disc(20, 17, 3), plane(0))
    panel.table.choose([1])
    menu.refresh()
    menu.split_mask.trigger()
    assert planes_of(controller) == {1: [0], 2: [2], 3: [1], 4: [0]}
    for _ in range(3):
        controller.undo.undo()
    assert planes_of(controller) == {1: [0, 1, 2]}


def test_an_object_in_one_piece_is_not_split_and_regions_are(controller, notes):
    merging = ObjectMerging(controller.session, controller.objects)
    accept(controller, 0)
    merging.split_regions(1)
    assert "in one piece" in notes[-1]
    accept(controller, 0, 8, 8, 3)
    merging.merge([1, 2])
    merging.split_regions(1)
    assert planes_of(controller) == {1: [0], 3: [0]}
    merging.merge([1, 2])  # One that is gone.
    assert planes_of(controller) == {1: [0], 3: [0]}
