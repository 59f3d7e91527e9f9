from __future__ import annotations

import numpy as np
import pytest
import zarr
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.tiles import TileGrid
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError
from napari_sam.images.lazy.levels import LazyLevel
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.inference.prefetch import MAX_AHEAD, View, plan_ahead
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.coverage import coverage_of
from napari_sam.plugin.objects.files import open_image, use_label_file
from napari_sam.plugin.reader import get_reader
from napari_sam.testing import HeldRunner, ImmediateRunner

COIN, OTHER_COIN = (51, 155), (124, 205)


def test_what_is_in_view_comes_first_then_what_is_coarser_then_around_then_other_planes():
    grid = TileGrid((4000, 4000), 256)
    view = View(Plane((1, 2), (7, 0, 0)), Box(1000, 1000, 1600, 1800), 0)
    plan = plan_ahead(grid, view, (20, 4000, 4000))
    seen = list(grid.tiles_over(0, view.box))
    assert {tile for _, tile in plan[: len(seen)]} == set(seen)
    middle = [abs(tile.owned.center[0] - 1300) + abs(tile.owned.center[1] - 1400) for _, tile in plan[: len(seen)]]
    assert middle[0] < 150
    assert np.mean(middle[:5]) < np.mean(middle[-5:])
    levels = [tile.level for plane, tile in plan if plane == view.plane]
    assert set(levels[len(seen) :][:5]) == {1}
    planes = [plane.index[0] for plane, _ in plan]
    assert planes == sorted(planes, key=[7, 8, 6].index)
    assert {8, 6} <= set(planes)
    assert len(set(plan)) == len(plan) <= MAX_AHEAD


@pytest.mark.parametrize("box", [Box(0, 0, 10**6, 10**6), Box(999_990, 3, 10**6, 500_000)])
def test_a_plan_for_a_huge_view_is_bounded_and_made_at_once(box):
    grid = TileGrid((10**6, 10**6), 256)
    plan = plan_ahead(grid, View(Plane((0, 1), (0, 0)), box, 0), (10**6, 10**6))
    assert 0 < len(plan) <= MAX_AHEAD


def test_a_view_beside_the_image_needs_nothing():
    grid = TileGrid((400, 400), 64)
    assert plan_ahead(grid, View(Plane((0, 1), (0, 0)), Box(500, 500, 600, 600), 0), (400, 400)) == []


@pytest.mark.parametrize("level", [-2, 0, 3])
def test_coverage_marks_the_pixels_that_ready_tiles_own(level):
    grid = TileGrid((3000, 2600), 256)
    tiles = list(grid.tiles_over(level, Box(500, 400, 900, 1100)))
    ready = tiles[::3]
    box, cells, (height, width) = coverage_of(tiles, ready)
    for tile in tiles:
        row, col = tile.owned.center
        assert cells[int((row - box.top) / height), int((col - box.left) / width)] == (tile in ready)


@pytest.fixture
def working(viewer, make_controller):
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    return controller, runner


def test_the_view_is_encoded_while_nothing_else_is_to_be_done_and_outlined(working, viewer):
    controller, runner = working
    viewer.scene.camera.zoom = 1
    controller.prefetcher.rested()
    assert runner.run_idle() >= 5
    encoder = controller.jobs.segmenter.encoder
    coverage = controller.prefetcher.coverage
    assert coverage in viewer.layers
    assert viewer.layers.index(coverage) == viewer.layers.index(viewer.layers["coins"]) + 1
    assert (coverage.data[1, 1:-1] == 1).all()
    assert (coverage.data[1:-1, -2] == 1).all()
    assert not coverage.data[2:-2, 2:-2].any()
    low, high = coverage.data_to_world((0.5, 0.5)), coverage.data_to_world(np.array(coverage.data.shape) - 1.5)
    np.testing.assert_allclose(low, -0.5, atol=0.01)
    np.testing.assert_allclose(high, np.array(encoder.volume.shape) - 0.5, atol=33)
    assert runner.run_idle() == 0


def test_a_view_that_moves_on_drops_what_was_planned(working):
    controller, runner = working
    controller.prefetcher.rested()
    assert runner.run_idle(limit=1) == 1
    controller.prefetcher.moved()
    assert runner.run_idle() == 0
    controller.prefetcher.enabled = False
    controller.prefetcher.rested()
    assert runner.run_idle() == 0


def test_the_outline_can_be_deleted_or_switched_off_for_good(working, viewer):
    controller, runner = working
    controller.prefetcher.rested()
    runner.run_idle()
    viewer.layers.remove(controller.prefetcher.coverage)
    controller.prefetcher.rested()
    assert controller.prefetcher.coverage is None
    assert not controller.prefetcher.show
    assert [layer.name for layer in viewer.layers] == ["coins", "SAM preview", "SAM points"]


def test_a_plane_is_encoded_into_the_store_with_progress_and_the_next_time_it_is_known(working, tmp_path, notes):
    controller, runner = working
    controller.session.set_store(str(tmp_path / "store"))
    seen = []
    controller.prefetcher.changed.connect(lambda: seen.append(controller.prefetcher.progress))
    controller.prefetcher.start("plane")
    runner.run_idle()
    assert controller.prefetcher.progress is None
    assert "Encoded" in notes[-1]
    assert any(progress is not None and 0 < progress.done <= progress.total for progress in seen)
    assert EmbeddingStore(tmp_path / "store").count > 3
    controller.prefetcher.start("plane")
    runner.run_idle()
    assert "Encoded 0 tiles" in notes[-1]


def test_a_cancelled_run_stops_and_keeps_what_it_did(working, tmp_path):
    controller, runner = working
    controller.session.set_store(str(tmp_path / "store"))
    controller.prefetcher.moved()
    controller.prefetcher.start("plane")
    runner.run_idle(limit=1)
    controller.prefetcher.cancel()
    assert runner.run_idle() == 0
    assert controller.prefetcher.progress is None
    assert EmbeddingStore(tmp_path / "store").count >= 1


def test_a_run_that_cannot_write_says_so_and_ends(working, tmp_path, notes, monkeypatch):
    controller, runner = working
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    controller.session.set_store(str(blocked))
    assert "another folder" in notes[-1]

    def full(*_):
        raise OutputError("Embeddings cannot be written: make room.")

    controller.session.set_store(str(tmp_path / "store"))
    monkeypatch.setattr(EmbeddingStore, "put", full)
    controller.prefetcher.start("view")
    runner.run_idle()
    assert "make room" in notes[-1]
    assert controller.prefetcher.progress is None


# -- labels on disk ----------------------------------------------------------------------------------------------------


@pytest.fixture
def large(viewer, make_controller, monkeypatch, tmp_path):
    """A controller for which the coins are too large to be labelled in memory."""
    monkeypatch.setattr(own_layers, "MAX_IN_MEMORY", 1000)
    monkeypatch.setattr(own_layers, "label_folder", lambda: tmp_path / "labels")

    def make(runner=None):
        controller = make_controller(viewer, runner or ImmediateRunner())
        controller.session.set_image(viewer.layers["coins"])
        return controller

    return make


def click(controller, at):
    controller.editing.activate("points")
    controller.prompts.points.add(np.array([at], float))


def on_disk(controller):
    pyramid = labels_layer.pyramid_of(controller.session.target)
    return np.asarray(LabelPyramid.open(pyramid.path)[...])


def test_a_large_image_is_labelled_on_disk_and_undone_there(large, viewer, notes):
    controller = large()
    click(controller, COIN)
    area = controller.session.candidates[controller.session.current.selected].area
    controller.commits.accept()
    assert "kept on disk" in notes[-1]
    assert np.count_nonzero(on_disk(controller) == 1) == area
    assert controller.session.target in viewer.layers
    assert len(controller.prompts.points.data) == 0
    click(controller, OTHER_COIN)
    controller.commits.accept()
    assert set(np.unique(on_disk(controller))) == {0, 1, 2}
    assert controller.session.target.get_value(OTHER_COIN) == 2
    controller.undo.undo()
    assert set(np.unique(on_disk(controller))) == {0, 1}
    assert "taken back" in controller.session.status
    controller.undo.undo()
    assert not on_disk(controller).any()
    controller.undo.undo()
    assert "nothing to undo" in notes[-1]


def test_a_click_while_a_mask_is_being_written_is_the_next_objects(large):
    runner = HeldRunner()
    controller = large(runner)
    runner.release()  # the model
    click(controller, COIN)
    runner.release()
    controller.commits.accept()
    click(controller, OTHER_COIN)
    controller.commits.accept()
    assert len(runner.jobs) == 1  # only the write: what comes later waits for it
    runner.release()
    assert controller.prompts.points.data.tolist() == [list(OTHER_COIN)]
    runner.release()  # the answer for the other coin, accepted already
    runner.release()  # its write
    assert set(np.unique(on_disk(controller))) == {0, 1, 2}
    assert len(controller.prompts.points.data) == 0
    assert runner.jobs == []


def test_a_write_that_fails_is_told_and_the_prompts_and_the_mask_stay(large, notes, monkeypatch):
    controller = large()
    click(controller, COIN)
    controller.commits.accept()
    click(controller, OTHER_COIN)
    pyramid = labels_layer.pyramid_of(controller.session.target)
    kept = on_disk(controller)

    def full(*_):
        raise own_layers.LabelsError("The labels cannot be written: make room on the disk.")

    with monkeypatch.context() as patch:
        patch.setattr(type(pyramid), "__setitem__", full)
        controller.commits.accept()
    assert "make room" in notes[-1]
    assert np.array_equal(on_disk(controller), kept)
    assert controller.session.candidates is not None
    controller.commits.accept()
    assert set(np.unique(on_disk(controller))) == {0, 1, 2}


def test_a_label_file_can_be_chosen_before_the_first_mask_and_opened_again(viewer, working, tmp_path, notes):
    controller, _ = working
    path = tmp_path / "mine.ome.zarr"
    use_label_file(controller.session, controller.preview.layers, path)
    click(controller, COIN)
    controller.commits.accept()
    assert np.count_nonzero(LabelPyramid.open(path)[...]) > 500
    viewer.layers.remove(controller.session.target)
    use_label_file(controller.session, controller.preview.layers, path)
    click(controller, OTHER_COIN)
    controller.commits.accept()
    assert set(np.unique(np.asarray(LabelPyramid.open(path)[...]))) == {0, 1, 2}
    assert notes == []


def test_a_label_file_that_does_not_fit_is_told(working, tmp_path, notes):
    controller, _ = working
    LabelPyramid.create(tmp_path / "small.ome.zarr", (30, 30))
    use_label_file(controller.session, controller.preview.layers, tmp_path / "small.ome.zarr")
    assert "(30, 30)" in notes[-1]
    (tmp_path / "text.zarr").write_text("no zarr")
    use_label_file(controller.session, controller.preview.layers, tmp_path / "text.zarr")
    assert "text.zarr" in notes[-1]
    assert controller.session.target is None


@pytest.mark.parametrize("policy", ["keep", "overwrite", "empty"])
def test_the_overlap_policy_decides_on_pixels_of_other_labels(policy, viewer, working, coins, notes):
    controller, _ = working
    other = np.zeros(coins.shape, np.uint16)
    other[40:52, 140:170] = 7
    controller.session.set_target(viewer.add_labels(other))
    controller.session.overlap = policy
    click(controller, COIN)
    controller.commits.accept()
    data = controller.session.target.data
    if policy == "empty":
        assert set(np.unique(data)) == {0, 7}
        assert "other" in notes[-1]
        assert controller.session.candidates is not None
    else:
        assert (data[45, 155] == 8) == (policy == "overwrite")
        assert data[60, 155] == 8


def test_a_numpy_layer_gets_room_before_its_labels_run_out(viewer, working, coins):
    controller, _ = working
    full = np.zeros(coins.shape, np.uint8)
    full[300, 380] = 255
    controller.session.set_target(viewer.add_labels(full))
    click(controller, COIN)
    controller.commits.accept()
    assert controller.session.target.data.dtype == np.uint32
    assert controller.session.target.data[COIN] == 256
    assert controller.session.target.data[300, 380] == 255


def test_multiscale_labels_of_others_are_refused_with_the_mend(viewer, working, coins, notes):
    controller, _ = working
    levels = [np.zeros(coins.shape, np.uint16), np.zeros((152, 192), np.uint16)]
    controller.session.set_target(viewer.add_labels(levels, multiscale=True))
    assert "Open labels" in notes[-1]
    dask = pytest.importorskip("dask.array")
    controller.session.set_target(viewer.add_labels(dask.zeros(coins.shape, dtype=np.uint16)))
    assert "dask" in notes[-1] or "zarr" in notes[-1]
    assert controller.session.target is None


# -- what the encoder sees ---------------------------------------------------------------------------------------------


def test_channels_over_each_other_are_seen_together_in_their_colours(make_controller, coins):
    viewer = ViewerModel()
    viewer.add_image(np.stack([coins, coins[::-1]]), channel_axis=0, colormap=["green", "magenta"], name=["a", "b"])
    image = viewer.layers["a"]
    controller = make_controller(viewer)
    controller.session.set_image(image)
    controller.session.set_compose(True)
    assert [layer.name for layer in controller.session.channels] == ["a", "b"]
    click(controller, COIN)
    encoder = controller.jobs.segmenter.encoder
    plane, tile = next(iter(encoder._digests))
    tile = encoder.grid(plane).tile_at(0, *COIN)
    shown = encoder.volume.render(plane, tile, encoder.rendering)
    low, high = image.contrast_limits
    expected = np.clip((coins[tile.read.slices].astype(float) - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(shown[..., 1], expected, atol=1)
    assert not np.array_equal(shown[..., 0], shown[..., 1])
    viewer.layers["b"].visible = False
    assert [layer.name for layer in controller.session.channels] == ["a"]


def test_slices_that_stand_apart_are_seen_as_squares_of_the_world(make_controller):
    viewer = ViewerModel()
    image = viewer.add_image(np.zeros((30, 200, 200), np.uint8), scale=(4, 0.5, 0.5))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    viewer.dims.order = (1, 0, 2)
    viewer.dims.set_point(1, 50)
    plane = adapters.plane_of(viewer, image)
    volume = adapters.shown([image]).volume
    assert volume.pixel_size(plane) == (8, 1)
    assert adapters.downsample_of(viewer, image, plane) == pytest.approx(1 / (viewer.scene.camera.zoom * 0.5), rel=0.5)


# -- lazy layers -------------------------------------------------------------------------------------------------------


class Counted:
    def __init__(self, shape):
        self.shape, self.dtype, self.reads = shape, np.dtype(np.uint16), []

    def __getitem__(self, key):
        lengths = [len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=True) if isinstance(k, slice)]
        self.reads.append(int(np.prod(lengths)))
        return np.ones(lengths, np.uint16)


def test_of_a_lazy_pyramid_napari_reads_the_shown_plane_alone():
    levels = [Counted((50, 2048 >> k, 2048 >> k)) for k in range(3)]
    viewer = ViewerModel()
    viewer.add_image([LazyLevel(level) for level in levels], contrast_limits=(0, 1), multiscale=True)
    viewer.dims.set_point(0, 20)
    assert sum(level.reads != [] for level in levels) >= 1
    assert all(read <= 2048 * 2048 for level in levels for read in level.reads)


@pytest.mark.parametrize(
    "key",
    [
        (3,),
        (slice(2, 8), 4),
        (..., 5),
        (slice(None), slice(1, 30, 3), slice(None, None, -1)),
        (-1, slice(-9, None), 0),
        (np.int64(2), slice(0, 0)),
        ([1, 3, 5],),
    ],
)
def test_a_lazy_level_is_what_numpy_would_be(key):
    pixels = np.arange(10 * 40 * 30).reshape(10, 40, 30)
    lazy = LazyLevel(pixels)[key]
    np.testing.assert_array_equal(np.asarray(lazy), pixels[key])
    assert lazy.shape == pixels[key].shape
    part = LazyLevel(pixels)[2:9][1:, 5]
    np.testing.assert_array_equal(np.asarray(part[0, 3:]), pixels[2:9][1:, 5][0, 3:])


def test_an_ome_zarr_folder_is_opened_as_lazy_layers_with_scale_and_colours(tmp_path):
    group = zarr.open_group(tmp_path / "cells.ome.zarr", mode="w")
    pixels = np.random.default_rng(0).integers(0, 999, (2, 4, 60, 80)).astype(np.uint16)
    for level in range(2):
        group.create_array(str(level), data=pixels[..., :: 2**level, :: 2**level])
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space", "unit": "micrometer"} for a in "zyx")]
    datasets = [
        {"path": str(k), "coordinateTransformations": [{"type": "scale", "scale": [1, 2, 0.5 * 2**k, 0.5 * 2**k]}]}
        for k in range(2)
    ]
    channels = [
        {"label": "DNA", "color": "0000FF", "window": {"start": 10, "end": 500}},
        {"label": "actin", "color": "00FF00", "window": {"start": 0, "end": 900}},
    ]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": datasets}],
        "omero": {"channels": channels},
    }
    path = str(tmp_path / "cells.ome.zarr")
    viewer = ViewerModel()
    for data, options, kind in get_reader(path)(path):
        assert kind == "image"
        viewer.add_image(data, **options)
    dna, actin = viewer.layers
    assert (dna.name, actin.name) == ("cells DNA", "cells actin")
    assert dna.scale.tolist() == [2, 0.5, 0.5]
    assert dna.contrast_limits == [10, 500]
    assert str(dna.units[0]) == "micrometer"
    np.testing.assert_array_equal(np.asarray(actin.data[0]), pixels[1])
    assert dna.colormap.map(np.array([1.0]))[0][:3].tolist() == [0, 0, 1]
    assert isinstance(dna, type(actin))
    assert not isinstance(dna, Labels)


def test_a_label_pyramid_that_is_opened_again_is_a_layer_to_go_on_with(viewer, working, tmp_path, coins, notes):
    controller, _ = working
    path = tmp_path / "mine.ome.zarr"
    LabelPyramid.create(path, coins.shape, spacing=(0.5, 0.5), unit="micrometer")
    ((data, options, kind),) = get_reader(str(path))(str(path))
    assert kind == "labels"
    assert options["scale"] == [0.5, 0.5]
    layer = Labels(data, **options | {"scale": [1, 1], "units": ["pixel", "pixel"]})
    viewer.add_layer(layer)
    controller.session.set_target(layer)
    click(controller, COIN)
    controller.commits.accept()
    assert np.count_nonzero(LabelPyramid.open(path)[...]) > 500
    assert notes == []


def test_what_is_no_image_has_no_reader(tmp_path):
    (tmp_path / "x.zarr").mkdir()
    assert get_reader(str(tmp_path / "x.zarr")) is None
    assert get_reader([str(tmp_path), "b"]) is None


# -- what a reviewer broke ---------------------------------------------------------------------------------------------


def test_an_output_that_is_deleted_while_it_is_written_is_gone_for_good(large, viewer):
    runner = HeldRunner()
    controller = large(runner)
    runner.release()
    click(controller, COIN)
    runner.release()
    controller.commits.accept()
    runner.release()  # made, written and shown
    first = controller.session.target
    click(controller, OTHER_COIN)
    runner.release()
    controller.commits.accept()
    viewer.layers.remove(first)
    runner.release()
    assert controller.session.target is None
    assert first not in viewer.layers
    click(controller, COIN)
    runner.release()
    controller.commits.accept()
    runner.release()
    assert controller.session.target in viewer.layers
    assert controller.session.target is not first
    viewer.layers.remove("coins")
    assert controller.session.image is None


@pytest.mark.parametrize("change", ["compose", "store", "model", "contrast"])
def test_a_change_while_a_click_waits_does_not_lose_the_click(change, viewer, make_controller, tmp_path):
    runner = HeldRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(viewer.layers["coins"])
    runner.release()
    click(controller, COIN)
    if change == "compose":
        controller.session.set_compose(True)
    elif change == "store":
        controller.session.set_store(str(tmp_path / "s"))
    elif change == "model":
        controller.session.set_model("compact", "cpu")
    else:
        viewer.layers["coins"].contrast_limits = (10, 200)
    runner.release(-1)  # of those that wait the newest is the one that runs
    assert controller.session.candidates is not None
    assert not controller.session.is_busy


def test_the_outline_comes_back_after_a_look_in_three_dimensions(make_controller, coins):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([coins] * 3))
    runner = ImmediateRunner()
    controller = make_controller(viewer, runner)
    controller.session.set_image(image)
    runner.run_idle()
    viewer.dims.ndisplay = 3
    controller.prefetcher.rested()
    assert controller.prefetcher.coverage is None
    viewer.dims.ndisplay = 2
    controller.prefetcher.rested()
    assert controller.prefetcher.show
    assert controller.prefetcher.coverage in viewer.layers


def test_another_contrast_stops_a_bulk_run_and_says_so(working, viewer, tmp_path, notes):
    controller, runner = working
    controller.session.set_store(str(tmp_path / "store"))
    controller.prefetcher.start("plane")
    runner.run_idle(limit=1)
    viewer.layers["coins"].contrast_limits = (10, 200)
    assert controller.prefetcher.progress is None
    assert "start it again" in notes[-1]
    runner.run_idle()
    assert all(place[0].index == (0, 0) for place in controller.jobs.segmenter.encoder._digests)


def test_the_image_itself_is_never_taken_for_its_labels(make_controller, tmp_path, coins, notes):
    group = zarr.open_group(tmp_path / "scan.ome.zarr", mode="w")
    group.create_array("0", data=coins)
    axes = [{"name": name, "type": "space"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    viewer = ViewerModel()
    controller = make_controller(viewer)
    open_image(controller.session, tmp_path / "scan.ome.zarr")
    controller.session.set_image(viewer.layers[0])
    use_label_file(controller.session, controller.preview.layers, tmp_path / "scan.ome.zarr")
    assert "image" in notes[-1]
    assert controller.session.target is None
    assert np.array_equal(group["0"][...], coins)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_pyramid_of_which_napari_reads_every_plane_is_told_with_the_mend(lazy, make_controller, notes):
    levels = [zarr.create_array({}, shape=(4, 512 >> k, 512 >> k), chunks=(1, 64, 64), dtype="u1") for k in range(2)]
    viewer = ViewerModel()
    data = [LazyLevel(level) for level in levels] if lazy else levels
    image = viewer.add_image(data, multiscale=True, contrast_limits=(0, 1))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    assert any("LazyLevel" in note for note in notes) != lazy


def test_prompts_on_another_plane_are_said_to_be_there(make_controller, coins):
    viewer = ViewerModel()
    image = viewer.add_image(np.stack([coins] * 3))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    viewer.dims.set_point(0, 1)
    controller.prompts.points.add(np.array([[1, *COIN]], float))
    assert controller.session.candidates is not None
    viewer.dims.set_point(0, 2)
    assert controller.session.candidates is None
    assert "another plane" in controller.session.status
    viewer.dims.set_point(0, 1)
    assert controller.session.candidates is not None
