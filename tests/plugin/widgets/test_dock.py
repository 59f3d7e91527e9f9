"""The real widget in a real window: mouse and keys as Qt delivers them, and a picture that is looked at."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt, QThreadPool
from qtpy.QtWidgets import QScrollArea

from napari_sam.plugin.objects.files import open_image
from napari_sam.plugin.widgets.dock import CHECKPOINT
from napari_sam.plugin.workers.runner import LatestRunner
from napari_sam.testing import TIMEOUT
from napari_sam.testing.window import Window, flush

pytestmark = pytest.mark.usefixtures("screen")

COIN, NEIGHBOUR = (51, 155), (56, 99)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def test_click_accept_box_negative_point_and_undo(open_window, coins, coin_labels, told):
    window = open_window(coins, name="coins")
    controller = window.controller
    assert "nothing to undo" in window.widget.footer.undo.toolTip()
    assert not window.widget.footer.undo.isEnabled()

    window.click(COIN)
    assert controller.preview.layers.current.visible
    window.key(Qt.Key.Key_C)
    labels = controller.session.target.data
    assert iou(labels == 1, coin_labels == coin_labels[COIN]) >= 0.8
    assert len(controller.prompts.points.data) == 0

    window.widget.prompts.tools["box"].click()
    window.drag((36, 78), (77, 122))
    assert controller.prompts.shapes.shape_type == ["rectangle"]
    window.widget.prompts.accept.click()
    assert iou(labels == 2, coin_labels == coin_labels[NEIGHBOUR]) >= 0.8

    window.widget.prompts.tools["box"].click()
    window.drag((92, 78), (148, 180))
    window.widget.prompts.tools["points"].click()
    both = controller.session.candidates.best.to_array(coins.shape)
    hit = (127, 153) if both[127, 153] else (125, 102)
    assert both[hit]
    window.key(Qt.Key.Key_T)
    assert "OFF" in window.widget.prompts.sign.text()
    window.click(hit)
    assert controller.prompts.points.features["label"].tolist() == [0]
    fewer = controller.session.candidates.best.to_array(coins.shape)
    assert np.count_nonzero(fewer) < 0.95 * np.count_nonzero(both)
    window.key(Qt.Key.Key_C, Qt.KeyboardModifier.ShiftModifier)
    assert len(controller.prompts.points.data) == len(controller.prompts.shapes.data) == 0

    for left in ((1, 1), (0, 1), (0, 0)):  # The prompts that were cleared come back, and go one by one.
        window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
        assert (len(controller.prompts.points.data), len(controller.prompts.shapes.data)) == left
    assert np.unique(labels).tolist() == [0, 1, 2]
    window.key(Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert np.unique(labels).tolist() == [0, 1]
    window.widget.footer.undo.click()
    assert not labels.any()
    assert told == []


def test_a_cell_under_the_microscope(open_window):
    from skimage.data import cell
    from skimage.filters import gaussian, threshold_otsu
    from skimage.measure import label

    image = cell()
    bright = label(gaussian(image, 2) > threshold_otsu(gaussian(image, 2)))
    reference = bright == np.argmax(np.bincount(bright.ravel())[1:]) + 1
    window = open_window(image, name="cell")
    rows, cols = np.nonzero(reference)
    window.widget.prompts.tools["box"].click()
    window.drag((rows.min() - 3, cols.min() - 3), (rows.max() + 3, cols.max() + 3))
    window.key(Qt.Key.Key_C)
    assert iou(window.controller.session.target.data == 1, reference) >= 0.8


def test_the_picture_shows_the_image_the_mask_and_the_widget(open_window, coins):
    window = open_window(coins, name="coins")
    before = window.viewer.screenshot(canvas_only=True, flash=False)
    assert before[..., :3].std() > 10
    window.click(COIN)
    flush()
    after = window.viewer.screenshot(canvas_only=True, flash=False)
    spot = window.pixel((45, 150))
    red, _, blue = after[spot.y(), spot.x(), :3].astype(int)
    assert red > blue + 60
    whole = window.viewer.screenshot(canvas_only=False, flash=False)
    assert whole.shape[1] > after.shape[1] + 200


def test_candidates_are_buttons_with_their_scores_and_n_cycles_them(open_window, coins):
    window = open_window(coins, name="coins")
    widget, controller = window.widget, window.controller
    assert not any(button.isEnabled() for button in widget.prompts.candidates)
    window.click(COIN)
    for button, mask in zip(widget.prompts.candidates, controller.session.candidates, strict=True):
        assert f"{mask.iou_prediction:.2f}" in button.text()
    widget.prompts.candidates[0].click()
    assert controller.session.current.selected == 0
    assert f"{controller.session.candidates[0].area} px" in widget.prompts.scores.text()
    window.key(Qt.Key.Key_N)
    assert controller.session.current.selected == 1
    assert widget.prompts.candidates[1].isChecked()
    window.key(Qt.Key.Key_N, Qt.KeyboardModifier.ShiftModifier)
    assert controller.session.current.selected == 0


def test_layers_come_and_go_in_the_choices_and_the_preview_is_no_output(open_window, coins):
    window = open_window(coins, name="coins")
    widget, viewer = window.widget, window.viewer
    window.click(COIN)
    assert [name for name, _ in widget.outputs.choices()] == ["new layer"]
    other = viewer.add_image(coins[::-1], name="other")
    mine = viewer.add_labels(np.zeros(coins.shape, np.uint32), name="mine")
    assert widget.image.value is viewer.layers["coins"]
    widget.output.value = mine
    assert window.controller.session.target is mine
    mine.name = "renamed"
    assert "renamed" in [name for name, _ in widget.outputs.choices()]
    assert widget.output.value is mine
    viewer.layers.remove(mine)
    assert widget.output.value is None
    viewer.layers.remove("coins")
    assert widget.image.value is other
    assert window.controller.session.image is other


def test_a_widget_opened_before_any_image_takes_the_first_one(make_napari_viewer, qtbot, coins):
    viewer = make_napari_viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    assert widget.controller.session.image is None
    image = viewer.add_image(coins)
    assert widget.controller.session.image is image


def test_a_bad_checkpoint_is_told_and_the_compact_model_still_works(open_window, coins, told, tmp_path):
    bad = tmp_path / "weights.safetensors"
    bad.write_text("nothing of the kind")
    window = open_window(coins, name="coins")
    window.widget.model_section.expand(animate=False)
    window.widget.model.value = CHECKPOINT
    assert window.widget.checkpoint.visible
    window.widget.checkpoint.value = bad
    window.click(COIN)
    assert len(told) == 1
    assert "weights.safetensors" in told[0]
    window.widget.model.value = "compact"
    window.wait()
    assert window.controller.session.candidates is not None


def test_an_unfit_output_is_told_and_the_choice_goes_back(open_window, coins, told):
    window = open_window(coins, name="coins")
    small = window.viewer.add_labels(np.zeros((5, 5), np.uint8))
    window.widget.output.value = small
    assert "choose labels of the image's shape" in told[0]
    assert window.widget.output.value is None


@pytest.mark.parametrize("how", ["dock", "viewer"])
def test_closing_in_mid_work_leaves_nothing_behind(open_window, coins, how):
    window = open_window(coins, name="coins")
    viewer, widget = window.viewer, window.widget
    window.controller.prompts.points.add(np.array([COIN], float))
    assert window.controller.session.is_busy
    if how == "viewer":
        viewer.close()
        return
    viewer.window.remove_dock_widget(widget)
    flush()
    viewer.add_image(coins, name="after")
    viewer.layers.remove("coins")
    assert QThreadPool.globalInstance().waitForDone(1000 * TIMEOUT)
    flush()
    assert "SAM preview" not in viewer.layers


def test_two_widgets_in_two_viewers_do_not_mix(open_window, coins):
    first, second = open_window(coins, name="a"), open_window(coins, name="b")
    first.controller.prompts.points.add(np.array([COIN], float))
    second.controller.prompts.points.add(np.array([NEIGHBOUR], float))
    first.wait()
    second.wait()
    first.controller.commits.accept()
    assert first.controller.session.target.data[COIN] == 1
    assert second.controller.session.target is None
    assert second.controller.session.candidates.best.to_array(coins.shape)[NEIGHBOUR]


def test_the_runner_works_elsewhere_and_skips_all_but_the_newest(qtbot):
    runner = LatestRunner()
    gate, threads, results, reports = threading.Event(), [], [], []

    def job(value):
        def run(report):
            threads.append(threading.current_thread())
            report(f"job {value}")
            gate.wait(TIMEOUT)
            if value == 3:
                raise ValueError(value)
            return value

        return run

    for value in range(4):
        runner.submit(job(value), results.append, results.append, reports.append)
    assert runner.busy
    gate.set()
    qtbot.waitUntil(lambda: len(results) == 2)
    assert results[0] == 0
    assert isinstance(results[1], ValueError)
    assert all(thread is not threading.main_thread() for thread in threads)
    qtbot.waitUntil(lambda: reports[-1] == "job 3")
    runner.close()
    runner.submit(job(9), results.append, results.append, reports.append)
    assert not runner.busy
    assert len(threads) == 2


def test_what_was_chosen_last_is_what_the_next_widget_begins_with(open_window, coins):
    first = open_window(coins, name="coins").widget
    first.prompts.hover.click()
    first.large.coverage.click()
    first.overlap.value = "overwrite"
    first.model.value = "sam3"  # Not on this machine.
    again = open_window(coins, name="coins").widget
    assert not again.prompts.hover.isChecked()
    assert not again.controller.hover.enabled
    assert not again.large.coverage.isChecked()
    assert again.controller.session.overlap == "overwrite"
    assert again.model.value == "compact"
    assert "compact" in again.model_section.toggleButton().toolTip()


def test_a_deleted_outline_is_back_with_the_next_widget(open_window, coins):
    window = open_window(coins, name="coins")
    window.qtbot.waitUntil(lambda: "SAM coverage" in window.viewer.layers)
    window.viewer.layers.remove("SAM coverage")
    assert not window.widget.large.coverage.isChecked()
    assert open_window(coins, name="coins").widget.large.coverage.isChecked()


def test_sample_images_open(make_napari_viewer):
    viewer = make_napari_viewer()
    viewer.open_sample("napari-sam", "coins")
    viewer.open_sample("napari-sam", "tissue")
    assert [layer.data.shape for layer in viewer.layers] == [(303, 384), (512, 512, 3)]


def test_the_widget_stands_in_the_plugins_and_the_segment_menu(make_napari_viewer):
    from napari._app_model import get_app_model

    make_napari_viewer()
    menus = get_app_model().menus
    titles = [getattr(item.command, "title", "") for item in menus.get_menu("napari/layers/segment")]
    assert any("Segment Anything" in title for title in titles)


def test_a_widget_opened_before_its_image_has_the_points_tool_in_hand(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    viewer.open_sample("napari-sam", "coins")
    window = Window(qtbot, viewer, widget)
    window.wait_until(widget.prompts.tools["points"].isChecked)
    window.wait_until(viewer.window._qt_window.windowHandle().isExposed)
    flush()
    window.click(COIN)
    assert window.controller.session.candidates is not None


def test_closing_the_dock_by_its_button_and_opening_it_again_leaves_one_of_everything(open_window, coins):
    window = open_window(coins, name="coins")
    window.click(COIN)
    window.key(Qt.Key.Key_C)
    window.widget.parent().title.close_button.click()
    flush()
    assert [layer.name for layer in window.viewer.layers] == ["coins", "SAM labels"]
    _, again = window.viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    flush()
    names = [layer.name for layer in window.viewer.layers if layer.name != "SAM coverage"]
    assert names == ["coins", "SAM labels", "SAM preview", "SAM points"]
    window.widget, window.controller = again, again.controller
    window.click(NEIGHBOUR)
    assert again.controller.session.candidates is not None


def test_long_layer_names_do_not_push_buttons_out_of_the_widget(open_window, coins):
    window = open_window(coins, name="a name that a microscope gives " * 4)
    flush()
    widget = window.widget
    for button in (
        *widget.prompts.candidates,
        *widget.prompts.tools.values(),
        widget.prompts.accept,
        widget.footer.undo,
    ):
        right = button.mapTo(widget, QPoint(button.width(), 0)).x()
        assert right <= widget.width() < 350


def test_nothing_is_cut_off_with_all_sections_unfolded(open_window, coins):
    window = open_window(coins, name="coins")
    window.click(COIN)
    window.widget.controller.editing.new_object()
    widget = window.widget
    for section in (widget.model_section, widget.object_section, widget.cleaning_section, widget.large_section):
        section.expand(animate=False)
    widget.object_section.setText("Objects (12345)")  # As many as a large field has.
    flush()
    scroll = widget.findChild(QScrollArea)
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()
    assert widget.width() < 350


def test_t_flips_the_sign_with_any_tool_in_hand(open_window, coins):
    window = open_window(coins, name="coins")
    window.widget.prompts.tools["box"].click()
    window.key(Qt.Key.Key_T)
    assert window.controller.prompts.sign == 0
    assert window.controller.prompts.tool == "box"


def test_the_widget_shows_what_the_encoder_saw_for_the_answer(open_window, coins):
    window = open_window(coins, name="coins")
    controller, shown = window.controller, window.widget.prompts.encoder_input
    assert shown.pixmap().isNull()
    window.click(COIN)
    window.qtbot.waitUntil(lambda: not shown.pixmap().isNull())
    tile = controller.session.candidates.best.tile
    encoder = controller.jobs.segmenter.encoder
    np.testing.assert_array_equal(
        controller.encoder_view.pixels,
        encoder.volume.render(controller.session.candidates.plane, tile, encoder.rendering)[::2, ::2],
    )
    before = controller.encoder_view.pixels.mean()
    controller.session.image.contrast_limits = (0, 600)
    window.wait()
    window.qtbot.waitUntil(
        lambda: controller.encoder_view.pixels is not None and controller.encoder_view.pixels.mean() < before / 1.5
    )


@pytest.mark.parametrize("how", ["in the dock", "by the button"])
def test_a_run_over_many_tiles_stands_in_the_activity_dock_and_is_cancelled_there_too(open_window, told, how):
    from napari.utils.progress import progress as every

    image = np.tile(np.arange(256, dtype=np.uint8), (4000, 16))
    window = open_window(image, name="large", contrast_limits=(0, 255))
    widget, ahead = window.widget, window.controller.prefetcher
    window.qtbot.waitUntil(lambda: not window.controller.session.is_warming)
    window.viewer.scene.camera.zoom *= 8
    widget.large.extents["plane"].click()
    window.qtbot.waitUntil(lambda: ahead.progress is not None and ahead.progress.done > 0)
    (bar,) = [each for each in every._all_instances if each.desc.startswith("Encoding tiles")]
    assert bar.total == ahead.progress.total
    bar.cancel() if how == "in the dock" else widget.large.cancel.click()
    window.qtbot.waitUntil(lambda: ahead.progress is None)
    assert not [each for each in every._all_instances if each.desc.startswith("Encoding tiles")]
    assert not widget.large.cancel.isEnabled()
    assert told == []


def test_a_bar_in_the_activity_dock_is_one_although_napari_lets_events_in_while_it_makes_it(qapp, monkeypatch):
    from napari_sam.embeddings.encoder import EncodeProgress
    from napari_sam.plugin.workers import activity

    made = []

    class Bar:
        is_canceled, n, total = False, 0, 0

        def __init__(self, total, desc):
            made.append(self)
            self.is_open = True
            shown.follow(EncodeProgress(9, 3))  # The next progress comes in the middle of it.

        def update(self, more):
            self.n += more

        def close(self):
            self.is_open = False

    monkeypatch.setattr(activity, "cancelable_progress", Bar)
    shown = activity.Activity("Encoding tiles", lambda: None)
    shown.follow(EncodeProgress(9, 1))
    assert [(bar.n, bar.total, bar.is_open) for bar in made] == [(3, 9, True)]
    shown.close()
    assert not made[0].is_open


def test_open_lazily_chooses_what_it_opened(screen, open_window, coins, tmp_path, told, monkeypatch):
    from tifffile import imwrite

    imwrite(tmp_path / "other.tif", coins[:100], photometric="minisblack")
    window = open_window(coins, name="coins")
    monkeypatch.setattr(
        "napari_sam.plugin.widgets.dock.QFileDialog.getOpenFileName", lambda *_: (str(tmp_path / "other.tif"), "")
    )
    window.widget.open_image.click()
    opened = window.viewer.layers["other"]
    assert window.controller.session.image is opened
    assert window.widget.image.value is opened
    window.widget.image.value = window.viewer.layers["coins"]
    assert window.controller.session.image is window.viewer.layers["coins"]
    window.viewer.layers.remove("coins")
    window.qtbot.waitUntil(lambda: window.controller.session.image is opened)
    assert window.widget.image.value is opened


def test_labels_that_are_opened_lazily_become_the_output(make_controller, coins, tmp_path, notes):
    from napari.components import ViewerModel

    from napari_sam.labels.pyramid import LabelPyramid

    LabelPyramid.create(tmp_path / "mine.ome.zarr", coins.shape)
    viewer = ViewerModel()
    controller = make_controller(viewer)
    image = viewer.add_image(coins, contrast_limits=(0, 255))
    controller.session.set_image(image)
    open_image(controller.session, tmp_path / "mine.ome.zarr")
    assert controller.session.image is image
    assert controller.session.target is viewer.layers[-1] or controller.session.target in viewer.layers
    assert controller.session.target.name.startswith("mine")


def test_why_a_download_failed_stays_readable_in_the_panel(screen, open_window, coins, monkeypatch, tmp_path):
    from napari_sam.errors import ModelError

    def fetch(entry, progress=None):
        raise ModelError("The server of vit_b does not answer: check the connection, then try again.")

    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr("napari_sam.weights.local.fetch", fetch)
    warned = []
    monkeypatch.setattr("napari_sam.plugin.widgets.model_panel.show_warning", warned.append)
    window = open_window(coins, name="coins")
    panel = window.widget.models
    window.widget.model.value = "vit_b"
    panel.button.click()
    window.qtbot.waitUntil(lambda: panel.download.name is None and bool(warned))
    assert "does not answer" in panel.text.text()
    assert "compact is used" in panel.text.text()
