from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.images.volume import Volume
from napari_sam.journal.journal import Journal
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.adapters import transform_of

COIN = (51, 155)
OTHER_COIN = (125, 102)


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def coin_at(coin_labels, point):
    return coin_labels == coin_labels[point]


def click(controller, *points, sign=1):
    if controller.prompts.sign != sign:
        controller.prompts.toggle_sign()
    for point in points:
        controller.prompts.points.add(np.array([point], float))


def test_choosing_an_image_takes_up_the_points_tool(viewer, controller):
    assert viewer.layers.selection.active is controller.prompts.points
    assert controller.prompts.tool == "points"
    controller.editing.activate("box")
    assert (controller.prompts.tool, controller.prompts.shapes.mode) == ("box", "add_rectangle")


def test_a_click_shows_three_candidates_small_to_large_in_a_preview_of_the_masks_size(viewer, controller, coin_labels):
    click(controller, COIN)
    areas = [mask.area for mask in controller.session.candidates]
    assert areas == sorted(areas)
    preview = controller.preview.layers.current
    mask = controller.session.candidates[controller.session.current.selected]
    assert preview.data.shape == mask.pixels.shape
    np.testing.assert_allclose(preview.data_to_world((0, 0)), (mask.box.top, mask.box.left))
    assert viewer.layers.selection.active is controller.prompts.points
    assert iou(mask.to_array(coin_labels.shape), coin_at(coin_labels, COIN)) > 0.85


def test_cycling_shows_the_other_candidates_and_the_next_point_goes_on_from_the_chosen_one(controller):
    click(controller, COIN)
    shown = []
    for _ in range(3):
        shown.append(controller.preview.layers.current.data.sum())
        controller.editing.cycle()
    assert sorted(shown) == [mask.area for mask in controller.session.candidates]
    chosen = controller.session.candidates[0]
    controller.editing.cycle(0 - controller.session.current.selected)
    click(controller, (45, 150))
    expected = controller.jobs.segmenter.segment(points=[COIN, (45, 150)], previous=chosen)
    np.testing.assert_array_equal(controller.session.candidates.best.pixels, expected.best.pixels)


def test_accept_writes_under_the_next_free_label_and_clears_the_prompts(viewer, controller, coin_labels):
    for label, point in enumerate((COIN, OTHER_COIN), 1):
        click(controller, point)
        controller.commits.accept()
        assert len(controller.prompts.points.data) == 0
        assert controller.session.candidates is None
        assert not controller.preview.layers.current.visible
        assert iou(controller.session.target.data == label, coin_at(coin_labels, point)) > 0.85
    assert controller.session.target.data.dtype == np.uint16
    assert viewer.layers.selection.active is controller.prompts.points


def test_undo_takes_back_accepts_one_by_one_and_frees_their_labels(controller, notes):
    states = []
    for point in (COIN, OTHER_COIN):
        click(controller, point)
        controller.commits.accept()
        states.append(controller.session.target.data.copy())
    controller.undo.undo()
    np.testing.assert_array_equal(controller.session.target.data, states[0])
    click(controller, OTHER_COIN)
    controller.commits.accept()
    np.testing.assert_array_equal(controller.session.target.data, states[1])
    controller.undo.undo()
    controller.undo.undo()
    assert not controller.session.target.data.any()
    assert notes == []
    controller.undo.undo()
    assert "nothing to undo" in notes[0]


def test_undo_leaves_what_was_painted_since(controller):
    click(controller, COIN)
    controller.commits.accept()
    target = controller.session.target
    target.selected_label = 7
    target.data_setitem((np.array([51]), np.array([155])), 7)
    controller.undo.undo()
    assert np.unique(target.data).tolist() == [0, 7]


def test_an_existing_layer_keeps_its_objects_and_the_next_label_lies_above_them(viewer, controller, coins):
    data = np.zeros(coins.shape, np.uint8)
    data[40:60, 150:160] = 5
    target = viewer.add_labels(data.copy())
    controller.session.set_target(target)
    click(controller, COIN)
    controller.commits.accept()
    assert (target.data[data == 5] == 5).all()
    assert set(np.unique(target.data)) == {0, 5, 6}


def test_a_painted_label_is_not_used_again(viewer, controller, coins):
    target = viewer.add_labels(np.zeros(coins.shape, np.uint16))
    controller.session.set_target(target)
    click(controller, COIN)
    target.selected_label = 12
    target.paint((5, 5), 12)
    controller.commits.accept()
    assert target.data[COIN] == 13


def test_a_zarr_array_can_be_the_output(viewer, controller, coins, tmp_path):
    array = zarr.create_array(tmp_path / "labels.zarr", shape=coins.shape, chunks=(64, 64), dtype="uint16")
    controller.session.set_target(viewer.add_labels(array))
    click(controller, COIN)
    controller.commits.accept()
    on_disk = zarr.open_array(tmp_path / "labels.zarr", mode="r")[:]
    assert on_disk[COIN] == 1
    controller.undo.undo()
    assert not zarr.open_array(tmp_path / "labels.zarr", mode="r")[:].any()


@pytest.mark.parametrize("kind", ["shape", "place", "multiscale", "dask"])
def test_unfit_outputs_are_refused_and_nothing_is_written(viewer, controller, coins, notes, kind):
    data = np.zeros(coins.shape, np.uint16)
    if kind == "shape":
        target = viewer.add_labels(data[1:])
    elif kind == "place":
        target = viewer.add_labels(data, translate=(4, 4))
    elif kind == "multiscale":
        target = viewer.add_labels([data, data[::2, ::2]], multiscale=True)
    else:
        dask = pytest.importorskip("dask.array")
        target = viewer.add_labels(dask.from_array(data))
    controller.session.set_target(target)
    assert len(notes) == 1
    assert notes[0].endswith(".")
    assert controller.session.target is None


def test_a_negative_point_removes_what_it_hits(controller, coin_labels):
    click(controller, COIN, OTHER_COIN)
    before = controller.session.candidates.best.to_array(coin_labels.shape)
    hit = (51, 215) if before[51, 215] else tuple(np.argwhere(before)[0])
    click(controller, hit, sign=0)
    assert not controller.session.candidates.best.to_array(coin_labels.shape)[hit]


def test_boxes_ellipses_and_moved_deleted_or_flipped_prompts_change_the_answer(controller, coin_labels):
    controller.editing.activate("box")
    controller.prompts.shapes.add_rectangles(np.array([[28, 132], [28, 179], [74, 179], [74, 132]], float))
    boxed = controller.session.candidates.best.to_array(coin_labels.shape)
    assert iou(boxed, coin_at(coin_labels, COIN)) > 0.85
    controller.prompts.shapes.data = []
    assert controller.session.candidates is None
    controller.editing.activate("ellipse")
    controller.prompts.shapes.add_ellipses(np.array([[51, 155], [26, 26]], float))
    assert iou(controller.session.candidates.best.to_array(coin_labels.shape), coin_at(coin_labels, COIN)) > 0.85
    controller.editing.clear()
    click(controller, COIN)
    controller.prompts.points.data = np.array([OTHER_COIN], float)
    assert iou(controller.session.candidates.best.to_array(coin_labels.shape), coin_at(coin_labels, OTHER_COIN)) > 0.85
    click(controller, (100, 100))
    before = controller.session.candidates
    controller.prompts.points.mode = "select"
    controller.prompts.points.selected_data = {1}
    controller.prompts.toggle_sign()
    assert controller.prompts.points.features["label"].tolist() == [1, 0]
    assert controller.session.candidates is not before
    controller.prompts.points.selected_data = {0, 1}
    controller.prompts.points.remove_selected()
    assert controller.session.candidates is None


def test_only_negative_points_and_clicks_outside_are_told_and_change_nothing(controller, notes):
    click(controller, COIN, sign=0)
    assert "at least one positive point" in notes[-1]
    controller.editing.clear()
    assert controller.prompts.sign == 1
    click(controller, (-20, 10))
    assert "outside the image" in notes[-1]
    assert controller.session.candidates is None
    assert controller.session.target is None


def test_without_prompts_or_image_the_keys_explain_themselves(make_controller, controller, notes):
    controller.commits.accept()
    assert "click an object first" in notes[-1]
    empty = make_controller(ViewerModel())
    empty.editing.activate("points")
    assert "open one" in notes[-1]


def test_pixels_without_a_value_do_not_stop_a_click_beside_them(make_controller, coins, notes):
    viewer = ViewerModel()
    broken = coins.astype(np.float32)
    broken[:20, :90] = np.nan
    image = viewer.add_image(broken, contrast_limits=(0, 255))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    click(controller, COIN)
    controller.commits.accept()
    assert notes == []
    assert 1000 < np.count_nonzero(controller.session.target.data) < 6000


def test_an_unknown_model_is_told_in_one_sentence(controller, notes, tmp_path):
    bad = tmp_path / "model.pth"
    bad.write_text("not a model")
    controller.session.set_model(str(bad), "cpu")
    click(controller, COIN)
    assert "model.pth" in notes[-1]
    controller.session.set_model("compact", "cpu")
    assert controller.session.candidates is not None


def test_deleting_layers_never_breaks_anything(viewer, controller, coins, notes):
    click(controller, COIN)
    viewer.layers.remove(controller.preview.layers.current)
    controller.editing.cycle()
    assert controller.preview.layers.current in viewer.layers
    viewer.layers.remove(controller.prompts.points)
    assert controller.session.candidates is None
    controller.editing.activate("points")
    click(controller, COIN)
    controller.commits.accept()
    viewer.layers.remove(controller.session.target)
    controller.undo.undo()
    assert "its Labels layer is gone" in notes[-1]
    click(controller, COIN)
    viewer.layers.remove("coins")
    assert controller.session.image is None
    assert controller.session.candidates is None
    controller.commits.accept()
    assert [layer.name for layer in viewer.layers] == []
    controller.session.set_image(viewer.add_image(coins, name="again"))
    click(controller, COIN)
    assert controller.session.candidates.best.area > 0


def test_the_newest_request_wins_and_an_early_accept_waits_for_it(viewer, make_controller, coin_labels):
    from napari_sam.testing import HeldRunner

    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, (10, 10))
    controller.prompts.points.data = np.array([COIN], float)
    controller.commits.accept()
    assert controller.session.target is None
    runner.release(1)
    assert iou(controller.session.target.data == 1, coin_at(coin_labels, COIN)) > 0.85
    before = controller.session.target.data.copy()
    runner.release(0)
    assert controller.session.candidates is None
    np.testing.assert_array_equal(controller.session.target.data, before)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0)])
def test_any_plane_of_a_volume_in_any_order_of_axes(make_controller, coins, order):
    volume = np.zeros((4, *coins.shape), np.uint8)
    volume[2] = coins
    volume = np.moveaxis(volume, (0, 1, 2), order)
    viewer = ViewerModel()
    scale, translate = np.array([5.0, 0.5, 0.5]), np.array([1.0, 20.0, 30.0])
    place = {"scale": np.empty(3), "translate": np.empty(3)}
    for axis, source in zip(order, range(3), strict=True):
        place["scale"][axis], place["translate"][axis] = scale[source], translate[source]
    image = viewer.add_image(volume, contrast_limits=(0, 255), **place)
    viewer.dims.order = order
    hidden = order[0]
    viewer.dims.set_point(hidden, place["translate"][hidden] + 2 * place["scale"][hidden])
    controller = make_controller(viewer)
    controller.session.set_image(image)
    point = np.empty(3)
    point[list(order)] = (2, *COIN)
    controller.prompts.points.add(point[None])
    mask = controller.session.candidates.best
    corner = np.empty(3)
    corner[list(order)] = (2, mask.box.top, mask.box.left)
    np.testing.assert_allclose(
        controller.preview.layers.current.data_to_world((0, 0, 0)),
        image.data_to_world(corner),
        err_msg="the preview lies elsewhere",
    )
    controller.commits.accept()
    section = np.moveaxis(controller.session.target.data, order, (0, 1, 2))
    assert not section[[0, 1, 3]].any()
    np.testing.assert_array_equal(section[2] == 1, mask.to_array(coins.shape))
    viewer.dims.set_point(hidden, place["translate"][hidden])
    assert controller.session.candidates is None
    controller.undo.undo()
    assert not controller.session.target.data.any()


def test_prompts_belong_to_their_plane(make_controller, coins):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([coins, coins[::-1]]))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    viewer.dims.set_point(0, 0)
    controller.prompts.points.add(np.array([[0, *COIN]], float))
    first = controller.session.candidates.best.box
    viewer.dims.set_point(0, 1)
    assert controller.session.candidates is None
    viewer.dims.set_point(0, 0)
    assert controller.session.candidates.best.box == first


def test_contrast_limits_decide_what_the_encoder_sees(viewer, controller):
    click(controller, COIN)
    before = controller.session.candidates
    viewer.layers["coins"].contrast_limits = (100, 101)
    assert controller.session.candidates is not before
    assert controller.jobs.segmenter.encoder.rendering.limits == ((100.0, 101.0),)


def test_another_image_starts_afresh(viewer, controller):
    click(controller, COIN)
    other = viewer.add_image(np.zeros((3, 40, 50), np.uint8), name="other")
    controller.session.set_image(other)
    assert controller.prompts.points.ndim == 3
    assert controller.session.candidates is None
    assert sum(isinstance(layer, type(controller.prompts.points)) for layer in viewer.layers) == 1


def test_rgb_images_and_large_masks_are_written_as_wholes(make_controller):
    from skimage.data import immunohistochemistry

    viewer = ViewerModel()
    image = viewer.add_image(immunohistochemistry(), rgb=True)
    controller = make_controller(viewer)
    controller.session.set_image(image)
    controller.prompts.points.add(np.array([[256, 256]], float))
    area = controller.session.candidates[controller.session.current.selected].area
    controller.commits.accept()
    assert np.count_nonzero(controller.session.target.data) == area
    assert controller.session.target.data.shape == (512, 512)


def test_a_turned_image_gets_turned_labels(make_controller, coins):
    viewer = ViewerModel()
    image = viewer.add_image(coins, rotate=30, scale=(2, 2), translate=(7, -3))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    click(controller, COIN)
    controller.commits.accept()
    np.testing.assert_allclose(controller.session.target.data_to_world((9, 4)), image.data_to_world((9, 4)))
    assert controller.session.target.data[COIN] == 1


def test_writing_and_undoing_in_a_layer_is_byte_equal_and_only_touches_the_box():
    rng = np.random.default_rng(0)
    data = rng.integers(0, 3, (3, 40, 50)).astype(np.uint16)
    layer = Labels(data.copy())
    labels = labels_layer.LayerLabels(layer)
    labels.note_highest(8)
    journal = Journal(None, labels)
    mask = Mask(Box(5, 6, 15, 30), rng.random((10, 24)) > 0.5)
    for plane in (Plane((1, 2), (1, 0, 0)), Plane((2, 1), (2, 0, 0))):
        assert journal.accept(plane, mask, None, "overwrite").label == 9
        labels.show()
        section = layer.data[plane.index[0]]
        section = section if plane.axes == (1, 2) else section.T
        np.testing.assert_array_equal(section == 9, mask.to_array(section.shape))
        journal.undo()
        labels.show()
        np.testing.assert_array_equal(layer.data, data)


def test_labels_of_a_large_image_are_a_pyramid_on_disk_in_its_place(monkeypatch, tmp_path):
    from napari.layers import Image

    monkeypatch.setattr(own_layers, "label_folder", lambda: tmp_path / "made")
    monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 1000)
    image = Image(np.zeros((3, 600, 700), np.uint8), name="brain.1", scale=(4, 0.5, 0.5), translate=(1, 2, 3))
    assert own_layers.make_labels(image) is None
    made = [own_layers.pyramid_maker(own_layers.label_path(image), image)() for _ in range(2)]
    first, second = (own_layers.labels_of_pyramid(pyramid, image) for pyramid in made)
    assert first.multiscale
    assert first.data[0].shape == (3, 600, 700)
    assert adapters.same_place(first, image)
    paths = [labels_layer.pyramid_of(layer).path for layer in (first, second)]
    assert [path.name for path in paths] == ["brain.1_labels.ome.zarr", "brain.1_labels_2.ome.zarr"]
    volume = Volume.of(paths[0])
    assert volume.spacing == (4, 0.5, 0.5)
    assert len(volume.levels) == 2
    assert transform_of(image)["scale"].tolist() == [4, 0.5, 0.5]


def test_accepting_before_the_answer_comes_keeps_objects_apart(viewer, make_controller, coin_labels):
    from napari_sam.testing import HeldRunner

    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, COIN)
    controller.commits.accept()
    click(controller, OTHER_COIN)
    controller.commits.accept()
    third = (127, 153)
    click(controller, third)
    while runner.jobs:
        runner.release()
    labels = controller.session.target.data
    assert np.unique(labels).tolist() == [0, 1, 2]
    for label, point in ((1, COIN), (2, OTHER_COIN)):
        assert iou(labels == label, coin_at(coin_labels, point)) > 0.85
    assert controller.prompts.points.data.tolist() == [list(third)]
    assert iou(controller.session.candidates.best.to_array(labels.shape), coin_at(coin_labels, third)) > 0.85


def test_a_prompt_that_cannot_count_is_told_once_and_the_mask_stays(controller, notes):
    click(controller, COIN)
    before = controller.session.candidates.best.box
    click(controller, (-6, 20))
    assert controller.session.candidates.best.box == before
    assert len(notes) == 1
    assert controller.session.status == notes[0]
    click(controller, (48, 150))
    assert len(notes) == 1
    controller.commits.accept()
    assert controller.session.target.data.any()
    assert len(controller.prompts.points.data) == 0


def test_another_image_lets_go_of_an_output_that_does_not_fit(viewer, controller):
    click(controller, COIN)
    controller.commits.accept()
    first = controller.session.target
    controller.session.set_image(viewer.add_image(np.zeros((50, 60), np.uint8)))
    assert controller.session.target is None
    controller.session.set_image(viewer.layers["coins"])
    controller.session.set_target(first)
    assert controller.session.target is first


def test_masks_that_overlap_tell_how_much_of_them_was_written(viewer, controller, coins):
    data = np.zeros(coins.shape, np.uint16)
    data[:51] = 3
    controller.session.set_target(viewer.add_labels(data))
    click(controller, COIN)
    controller.commits.accept()
    assert "belongs to other labels" in controller.session.status
    assert (controller.session.target.data[:51] == 3).all()


@pytest.mark.parametrize("change", ["contrast", "model"])
def test_what_was_accepted_is_written_though_the_view_or_the_model_changes_before_its_answer(
    viewer, make_controller, coin_labels, change
):
    from napari_sam.testing import HeldRunner

    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, COIN)
    controller.commits.accept()
    if change == "contrast":
        viewer.layers["coins"].contrast_limits = (0, 300)
    else:
        controller.session.set_model("compact", "cpu")
    assert len(runner.jobs) == 1
    runner.release()
    assert iou(controller.session.target.data == 1, coin_at(coin_labels, COIN)) > 0.85
    assert not controller.session.is_busy


@pytest.fixture
def dim_stack(coins):
    """Coins on one plane between dark ones, seen as the brightest of five planes."""
    dark = np.full_like(coins, 20)
    viewer = ViewerModel()
    layer = viewer.add_image(np.stack([dark, dark, coins, dark, dark]), contrast_limits=(0, 255), projection_mode="max")
    viewer.dims.set_point(0, 1)
    return viewer, layer


def test_a_click_in_a_thick_slice_means_what_is_seen(dim_stack, make_controller):
    viewer, layer = dim_stack
    controller = make_controller(viewer)
    controller.session.set_image(layer)
    viewer.dims.thickness = (5, 0, 0)
    controller.prompts.points.add([[1, 51, 155]])
    assert 1300 < controller.session.candidates.best.area < 2000


def test_prompts_are_asked_about_anew_when_the_slice_gets_thicker_or_is_projected_otherwise(dim_stack, make_controller):
    viewer, layer = dim_stack
    controller = make_controller(viewer)
    controller.session.set_image(layer)
    controller.prompts.points.add([[1, 51, 155]])
    digests = {controller.jobs.segmenter.encoder._digests.popitem()[1]}
    for change in (
        lambda: setattr(viewer.dims, "thickness", (5, 0, 0)),
        lambda: setattr(layer, "projection_mode", "mean"),
    ):
        before = controller.session.candidates
        change()
        assert controller.session.candidates is not before
        digests.add(controller.jobs.segmenter.encoder._digests.popitem()[1])
    assert len(digests) == 3


def test_thickness_changes_nothing_where_planes_are_not_projected(dim_stack, make_controller):
    viewer, layer = dim_stack
    layer.projection_mode = "none"
    controller = make_controller(viewer)
    controller.session.set_image(layer)
    controller.prompts.points.add([[1, 51, 155]])
    before = controller.session.candidates
    viewer.dims.thickness = (5, 0, 0)
    assert controller.session.candidates is before


def test_a_viewer_that_shows_a_thick_slice_is_emptied_without_an_error(dim_stack, make_controller):
    viewer, layer = dim_stack
    controller = make_controller(viewer)
    controller.session.set_image(layer)
    viewer.dims.thickness = (5, 0, 0)
    viewer.layers.clear()  # As at the end of the window: the axes are gone before the plugin hears of the layer.
    assert controller.session.image is None


def test_members_of_earlier_versions_lead_to_the_parts_that_have_them_now(make_controller, coins):
    from napari_sam.former_names import CONTROLLER

    viewer = ViewerModel()
    controller = make_controller(viewer)
    controller.set_image(viewer.add_image(coins))
    controller.points.add(np.array([COIN], float))
    assert controller.candidates is controller.session.candidates is not None
    controller.accept()
    assert controller.target.data.max() == 1
    assert [name for name in CONTROLLER if not hasattr(controller, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = controller.nothing
