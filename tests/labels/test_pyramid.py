from __future__ import annotations

import json
import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import ZstdCodec

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.files import temporary
from napari_sam.images.volume import Volume
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.storage import multiscales
from napari_sam.labels.storage.chunk_files import Staged

NO_SPACE = OSError(28, "No space left on device")


class Killed(BaseException):
    """Ends a program where no handler of errors is asked."""


@pytest.fixture
def small_levels(monkeypatch):
    """Labels of some pixels get as many levels as large ones."""
    monkeypatch.setattr(multiscales, "COARSEST_SIDE", 3)


@pytest.fixture
def fail(monkeypatch):
    """Let files no longer be written or put in place: from the n-th time on, for so many times."""
    places = [(os, "replace"), (Path, "write_bytes")]
    real = {name: getattr(owner, name) for owner, name in places}

    def failing(start: int, error: BaseException, times: int = 10**9) -> list[int]:
        count = [0]

        def counted(name):
            def call(*args):
                count[0] += 1
                if start < count[0] <= start + times:
                    raise error
                return real[name](*args)

            return call

        for owner, name in places:
            monkeypatch.setattr(owner, name, counted(name))
        return count

    def stop() -> None:
        for owner, name in places:
            monkeypatch.setattr(owner, name, real[name])

    failing.stop = stop
    return failing


def sampled(labels: np.ndarray, factors: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Take every n-th pixel."""
    return labels[np.ix_(*(np.arange(length) * n for length, n in zip(shape, factors, strict=True)))]


def assert_agrees(pyramid: LabelPyramid, labels: np.ndarray) -> None:
    for level, factors in zip(pyramid.levels, pyramid.downsample_factors, strict=True):
        np.testing.assert_array_equal(level[...], sampled(labels, factors, level.shape))


def assert_consistent(pyramid: LabelPyramid) -> None:
    assert_agrees(pyramid, pyramid.levels[0][...])


def files_in(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def chunk_files(path: Path) -> set[str]:
    return {name for name in files_in(path) if not name.endswith("zarr.json")}


def foreign(path: Path, shape, steps, *, zarr_format=3, dtype="uint16", up=True, scales=True, **options) -> np.ndarray:
    """Make a label image with levels as other programs do, holding random labels; return level 0."""
    labels = np.random.default_rng(1).integers(0, 5, shape).astype(dtype)
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    datasets, level, total = [], labels, np.ones(len(shape))
    for number in range(len(steps) + 1):
        if number:
            total = total * steps[number - 1]
            lengths = [
                (n + f - 1) // f if up else max(n // f, 1) for n, f in zip(level.shape, steps[number - 1], strict=True)
            ]
            level = level[tuple(slice(None, None, f) for f in steps[number - 1])][tuple(map(slice, lengths))]
        group.create_array(f"s{number}", data=level, chunks=tuple(min(3, n) for n in level.shape), **options)
        scale = [{"type": "scale", "scale": total.tolist()}] if scales else []
        datasets.append({"path": f"s{number}", "coordinateTransformations": scale})
    axes = [{"name": name, "type": "space"} for name in "zyx"[-len(shape) :]]
    multiscale = {"axes": axes, "datasets": datasets}
    if zarr_format == 3:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "image-label": {}}
    else:
        group.attrs["multiscales"] = [multiscale | {"version": "0.4"}]
        group.attrs["image-label"] = {"version": "0.4"}
    return labels


def solid(top: int, left: int, bottom: int, right: int) -> Mask:
    return Mask(Box(top, left, bottom, right), np.ones((bottom - top, right - left), bool))


@st.composite
def writes(draw, shape):
    axes = draw(st.permutations(range(len(shape))))[:2]
    others = [draw(st.integers(0, n - 1)) for axis, n in enumerate(shape) if axis not in axes]
    plane = Plane.of(shape, others, axes)
    rows, cols = plane.shape_in(shape)
    top, left = draw(st.integers(0, rows - 1)), draw(st.integers(0, cols - 1))
    box = Box(top, left, draw(st.integers(top + 1, rows)), draw(st.integers(left + 1, cols)))
    pixels = np.random.default_rng(draw(st.integers(0, 99))).random(box.pixel_shape) < 0.8
    return plane, Mask(box, pixels), draw(st.sampled_from([None, 1, 3])), draw(st.sampled_from(["keep", "overwrite"]))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_after_any_writes_and_undos_every_level_is_every_nth_pixel_of_the_reference(small_levels, tmp_path, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 15), min_size=2, max_size=3)))
    shutil.rmtree(tmp_path / "labels.zarr", ignore_errors=True)
    chunks = tuple(data.draw(st.integers(1, 5)) for _ in shape)
    pyramid = LabelPyramid.create(tmp_path / "labels.zarr", shape, chunks=chunks)
    store, reference = LabelArray(pyramid), LabelArray(np.zeros(shape, np.uint16))
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()) or not reference.array.any():
            write = data.draw(writes(shape))
            assert store.next_label > reference.array.max()
            try:
                label = reference.write(*write).label
            except LabelsError:
                with pytest.raises(LabelsError):
                    store.write(*write)
            else:
                store.write(write[0], write[1], label, write[3])
        else:
            reference.undo()
            store.undo()
        assert_agrees(pyramid, reference.array)
    again = LabelPyramid.open(tmp_path / "labels.zarr")
    assert_agrees(again, reference.array)
    assert again.highest_label() >= reference.array.max()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_pyramids_of_other_programs_are_written_at_every_level(tmp_path, data):
    ndim = data.draw(st.integers(2, 3))
    shape = tuple(data.draw(st.integers(4, 13)) for _ in range(ndim))
    steps = [tuple(data.draw(st.integers(1, 3)) for _ in shape) for _ in range(data.draw(st.integers(0, 2)))]
    options = data.draw(
        st.sampled_from([{}, {"zarr_format": 2}, {"compressors": None}, {"compressors": ZstdCodec(checksum=True)}])
    )
    labels = foreign(tmp_path / "other.zarr", shape, steps, up=data.draw(st.booleans()), **options)
    pyramid = LabelPyramid.open(tmp_path / "other.zarr")
    assert_agrees(pyramid, labels)
    for _ in range(data.draw(st.integers(1, 4))):
        key = []
        for n in shape:
            start = data.draw(st.integers(0, n - 1))
            key.append(data.draw(st.sampled_from([start, start - n, slice(start, None), slice(start, start + 3)])))
        values = np.random.default_rng(0).integers(0, 9, labels[tuple(key)].shape)
        pyramid[tuple(key)] = labels[tuple(key)] = values
        np.testing.assert_array_equal(pyramid[tuple(key)], labels[tuple(key)])
        assert_agrees(pyramid, labels)
    assert_agrees(LabelPyramid.open(tmp_path / "other.zarr"), labels)


def test_a_new_label_image_says_what_ome_zarr_wants_and_any_reader_finds_it(tmp_path):
    path = tmp_path / "cells.zarr"
    pyramid = LabelPyramid.create(
        path,
        (7, 1400, 1025),
        axes="zyx",
        spacing=(2, 0.5, 0.25),
        translation=(10, 20, 30),
        unit="micrometer",
        source="../image.zarr",
    )
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    assert ome["image-label"] == {"source": {"image": "../image.zarr"}}
    (multiscale,) = ome["multiscales"]
    assert multiscale["name"] == "cells"
    assert multiscale["axes"] == [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    assert [level.shape for level in pyramid.levels] == [(7, 1400, 1025), (7, 700, 513), (7, 350, 257)]
    assert pyramid.downsample_factors == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
    for level, factors, dataset in zip(pyramid.levels, pyramid.downsample_factors, multiscale["datasets"], strict=True):
        assert dataset["path"] == level.path
        scale, translation = dataset["coordinateTransformations"]
        at = np.array([3, 100, 120])
        world = np.array(scale["scale"]) * at + translation["translation"]
        np.testing.assert_allclose(world, np.array([2, 0.5, 0.25]) * at * factors + [10, 20, 30])
        assert level.metadata.dimension_names == ("z", "y", "x")
    pyramid[3, 100:110, 1020:] = 4
    assert tuple(Volume.of(path).shape) == (7, 1400, 1025)
    assert Volume.of(path).read(Plane.of((7, 1400, 1025), 3), Box(99, 1019, 111, 1025)).sum() == 4 * 10 * 5


@pytest.mark.parametrize(
    ("ndim", "axes", "types"),
    [
        (2, "yx", ["space"] * 2),
        (3, "zyx", ["space"] * 3),
        (4, "tzyx", ["time"] + ["space"] * 3),
        (5, "tczyx", ["time", "channel"] + ["space"] * 3),
    ],
)
def test_axes_have_sensible_names_where_none_are_given(tmp_path, ndim, axes, types):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (2,) * (ndim - 2) + (30, 20))
    described = pyramid._multiscale.node.attrs["ome"]["multiscales"][0]["axes"]
    assert ["".join(axis["name"] for axis in described), [axis["type"] for axis in described]] == [axes, types]
    assert pyramid.chunks == (1,) * (ndim - 2) + (30, 20)
    assert (pyramid.ndim, pyramid.shape, pyramid.dtype) == (ndim, (2,) * (ndim - 2) + (30, 20), np.uint16)
    assert not np.asarray(pyramid).any()


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        ((5,), {}, "two to five axes"),
        ((2,) * 6, {}, "two to five axes"),
        ((0, 5), {}, "length 1 or more"),
        ((5, 5), {"axes": "xyz"}, "one letter for each"),
        ((5, 5), {"axes": "yy"}, "no axes"),
        ((5, 5), {"axes": "tx"}, "no axes"),
        ((5, 5, 5), {"axes": "tcy"}, "two or three of z, y and x"),
        ((5, 5), {"axes": "qx"}, "no axes"),
        ((5, 5), {"spacing": (1, 0)}, "is 0 along an axis"),
        ((5, 5), {"spacing": (1, np.nan)}, "one number for each"),
        ((5, 5), {"spacing": "ab"}, "one number for each"),
        ((5, 5), {"translation": (1, 2, 3)}, "one number for each"),
        ((5, 5), {"chunks": (5,)}, "one length above 0 for each"),
        ((5, 5), {"chunks": (0, 5)}, "one length above 0 for each"),
        ((5, 5), {"dtype": "float32"}, r"whole numbers.*astype"),
        ((5, 5), {"dtype": bool}, r"whole numbers.*astype"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(tmp_path, shape, arguments, words):
    with pytest.raises(LabelsError, match=words):
        LabelPyramid.create(tmp_path / "l.zarr", shape, **arguments)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_never_replaced(tmp_path):
    LabelPyramid.create(tmp_path / "l.zarr", (5, 5))[1, 1] = 3
    before = files_in(tmp_path)
    with pytest.raises(LabelsError, match="exists already: open it, or choose another name"):
        LabelPyramid.create(tmp_path / "l.zarr", (5, 5))
    assert files_in(tmp_path) == before


def test_a_full_disk_leaves_nothing_of_labels_that_could_not_be_made(tmp_path, fail):
    for start in range(3):
        fail(start, NO_SPACE)
        with pytest.raises(LabelsError, match=r"No space left.*choose a folder"):
            LabelPyramid.create(tmp_path / "l.zarr", (1500, 1500))
        assert not list(tmp_path.iterdir())
    fail.stop()
    (tmp_path / "file").write_text("")
    with pytest.raises(LabelsError, match="cannot be made"):
        LabelPyramid.create(tmp_path / "file" / "l.zarr", (5, 5))


def test_writes_that_go_on_after_one_failed_have_ended_when_labels_that_were_not_made_are_removed(
    tmp_path, monkeypatch, fail
):
    # zarr writes the metadata of a new array and of its group at once: the first fails, and the other takes longer.
    real, has_failed, is_removed, events = os.link, threading.Event(), threading.Event(), []
    fail(2, NO_SPACE)
    refusing, remove = os.replace, temporary._remove

    def replace(*args):
        try:
            return refusing(*args)
        except OSError:
            has_failed.set()
            raise

    def link(*args, **kwargs):
        assert has_failed.wait(60)
        is_removed.wait(0.3)  # It never comes, unless folders are removed too early.
        events.append("written")
        return real(*args, **kwargs)

    def removed(folder):
        remove(folder)
        events.append("removed")
        is_removed.set()

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(temporary, "_remove", removed)
    with pytest.raises(LabelsError, match="No space left"):
        LabelPyramid.create(tmp_path / "l.zarr", (1500, 1500))
    assert events == ["written", "removed"]
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_a_killed_process_was_writing_are_removed_and_no_file_of_the_user(tmp_path):
    path = tmp_path / "l.ome.zarr"
    LabelPyramid.create(path, (5, 5))
    before, half = files_in(path), path / f"zarr.{'0123456789abcdef' * 2}.partial"
    half.write_text("{")
    (path / "zarr.notes.partial").write_text("mine")
    LabelPyramid.open(path)
    assert not half.exists()
    (path / "zarr.notes.partial").unlink()
    assert files_in(path) == before


def make_text(path):
    path.write_text("no zarr")


def make_bad_group(attributes, **arrays):
    def make(path):
        group = zarr.open_group(path, mode="w", attributes=attributes)
        for name, options in arrays.items():
            group.create_array(name, **({"shape": (8, 8), "dtype": "uint16"} | options))

    return make


def levels_named(*names):
    return {"ome": {"multiscales": [{"datasets": [{"path": name} for name in names]}]}}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "no labels at .* check the path"),
        (lambda path: path.mkdir(), "no zarr array or group"),
        (make_text, "no zarr array or group"),
        (lambda path: zarr.create_array(path, shape=(8, 8), dtype="float32"), r"whole numbers.*float32"),
        (make_bad_group({}, cells={}), r"name no label image.*it holds cells"),
        (make_bad_group({"ome": 5}), "name no label image"),
        (make_bad_group({"multiscales": "x"}), "name no label image"),
        (make_bad_group(levels_named()), "name no label image"),
        (make_bad_group(levels_named("0", "1"), **{"0": {}}), "name no label image"),
        (make_bad_group(levels_named("../outside")), "name no label image"),
        (make_bad_group(levels_named("0"), **{"0": {"dtype": "float64"}}), r"whole numbers.*float64"),
        (make_bad_group(levels_named("0"), **{"0/deep": {}}), "groups where its levels should be arrays"),
        (make_bad_group(levels_named("0", "1"), **{"0": {}, "1": {"shape": (6, 6)}}), "no whole steps"),
        (make_bad_group(levels_named("0", "1"), **{"0": {}, "1": {"shape": (4, 4, 1)}}), "no whole steps"),
        (make_bad_group(levels_named("0", "1"), **{"0": {}, "1": {"shape": (4, 4), "dtype": "u4"}}), "no whole steps"),
    ],
)
def test_what_is_no_label_image_is_refused_in_one_sentence(tmp_path, make, words):
    make(tmp_path / "l.zarr")
    with pytest.raises(LabelsError, match=words) as error:
        LabelPyramid.open(tmp_path / "l.zarr")
    assert "\n" not in str(error.value)


def test_truncated_metadata_are_refused_in_one_sentence(tmp_path):
    LabelPyramid.create(tmp_path / "l.zarr", (600, 600))
    for name in ("zarr.json", "1/zarr.json"):
        whole = (tmp_path / "l.zarr" / name).read_bytes()
        (tmp_path / "l.zarr" / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(LabelsError) as error:
            LabelPyramid.open(tmp_path / "l.zarr")
        assert "\n" not in str(error.value)
        (tmp_path / "l.zarr" / name).write_bytes(whole)
    LabelPyramid.open(tmp_path / "l.zarr")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_single_array_is_a_pyramid_of_one_level(tmp_path, zarr_format):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(9, 9), chunks=(4, 4), dtype="u1", zarr_format=zarr_format)
    array[:3, :3] = 7
    store = LabelArray(LabelPyramid.open(tmp_path / "a.zarr"))
    assert store.write(Plane.of((9, 9)), solid(4, 4, 9, 9)).label == 8
    np.testing.assert_array_equal(np.unique(zarr.open_array(tmp_path / "a.zarr", mode="r")[...]), [0, 7, 8])
    assert LabelPyramid.open(tmp_path / "a.zarr").highest_label() == 8


def test_numbers_of_either_byte_order_are_written(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(9, 9), chunks=(4, 4), dtype=">u2")[:, 3:] = 258
    pyramid = LabelPyramid.open(tmp_path / "a.zarr")
    assert pyramid.highest_label() == 258
    pyramid[2:7, 2:7] = 515
    labels = zarr.open_array(tmp_path / "a.zarr", mode="r")[...]
    assert [np.count_nonzero(labels == label) for label in (258, 515)] == [34, 25]


def test_the_scale_decides_where_lengths_leave_a_choice_of_steps(tmp_path):
    """9 pixels of which 3 are left may be every third, or every fourth rounded up."""
    labels = foreign(tmp_path / "a.zarr", (9, 9), [(4, 3)])
    assert LabelPyramid.open(tmp_path / "a.zarr").downsample_factors == ((1, 1), (4, 3))
    assert_agrees(LabelPyramid.open(tmp_path / "a.zarr"), labels)
    foreign(tmp_path / "a.zarr", (9, 9), [(3, 3)], scales=False)
    assert LabelPyramid.open(tmp_path / "a.zarr").downsample_factors == ((1, 1), (3, 3))


def test_shards_are_written_as_wholes(tmp_path):
    labels = foreign(tmp_path / "a.zarr", (12, 12), [(2, 2)], shards=(6, 6))
    pyramid = LabelPyramid.open(tmp_path / "a.zarr")
    pyramid[2:9, 5:7] = labels[2:9, 5:7] = 9
    assert_agrees(pyramid, labels)
    assert pyramid.highest_label() == 9


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_to_write_is_refused(tmp_path):
    path = tmp_path / "l.zarr"
    LabelPyramid.create(path, (5, 5))
    path.chmod(0o500)
    try:
        with pytest.raises(LabelsError, match=r"cannot be written to: change its permissions"):
            LabelPyramid.open(path)
    finally:
        path.chmod(0o700)


def test_a_read_only_folder_is_refused_when_opened_and_a_read_only_store_when_written(tmp_path, monkeypatch, fail):
    path = tmp_path / "l.zarr"
    pyramid = LabelPyramid.create(path, (1100, 1100))
    before = files_in(path)
    with monkeypatch.context() as context:
        context.setattr(os, "access", lambda place, mode: Path(place) != path / "1")
        with pytest.raises(LabelsError, match=r"cannot be written to: change its permissions"):
            LabelPyramid.open(path)
    fail(0, PermissionError(13, "Permission denied"))
    with pytest.raises(LabelsError, match=r"Permission denied.*as they were.*check its permissions"):
        pyramid[:600, :600] = 1
    assert files_in(path) == before


def test_indexing_takes_whole_numbers_and_slices_and_refuses_the_rest(tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (4, 6, 8))
    pyramid[-1, ..., 2] = 5
    assert np.argwhere(pyramid[...]).tolist() == [[3, row, 2] for row in range(6)]
    pyramid[0] = np.arange(48).reshape(6, 8)
    np.testing.assert_array_equal(pyramid[0, 2:4, ::3], np.arange(48).reshape(6, 8)[2:4, ::3])
    before = pyramid[...]
    pyramid[0, 3:3] = 1
    for key in ((0, slice(None, None, 2)), (4, 0, 0), (0, 0, 0, 0), ([0, 1], 0, 0), (0.5,), (slice("a"),), (..., ...)):
        with pytest.raises(LabelsError, match="names no box"):
            pyramid[key] = 1
    for values, words in (
        (np.ones((6, 8)), "whole numbers"),
        (np.ones(3, int), "do not fill a box of shape"),
        (70000, "do not fit into uint16"),
        (-1, "do not fit into uint16"),
    ):
        with pytest.raises(LabelsError, match=words):
            pyramid[0] = values
    np.testing.assert_array_equal(pyramid[...], before)


def test_a_write_touches_as_few_files_and_bytes_of_a_large_image_as_of_a_small_one(tmp_path):
    """A disc of 500 pixels across the corner of chunks of all levels but the last, of 2000 and of 100000 pixels."""
    rows, cols = np.mgrid[:500, :500]
    disc = (rows - 250) ** 2 + (cols - 250) ** 2 < 249**2
    touched = []
    for side, corner in ((2000, 1024), (100_000, 65536)):
        pyramid = LabelPyramid.create(tmp_path / f"{side}.zarr", (side, side))
        store, box = LabelArray(pyramid), Box(corner - 250, corner - 250, corner + 250, corner + 250)
        tracemalloc.start()
        try:
            store.write(Plane.of(pyramid.shape), Mask(box, disc))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 50 * 2**20
        touched.append(len(chunk_files(tmp_path / f"{side}.zarr")) / len(pyramid.levels))
        assert len(chunk_files(tmp_path / f"{side}.zarr")) <= 4 * len(pyramid.levels)
        for level, factors in zip(pyramid.levels, pyramid.downsample_factors, strict=True):
            low, high = (-(-int(edge) // factors[0]) for edge in (box.top, box.bottom))
            first = low * factors[0] - int(box.top)
            np.testing.assert_array_equal(level[low:high, low:high] > 0, disc[first :: factors[0], first :: factors[0]])
        store.undo()
        assert not chunk_files(tmp_path / f"{side}.zarr")
    assert touched[0] <= 4
    assert touched[1] <= 4


def test_the_highest_label_of_our_own_labels_is_known_without_reading_them(tmp_path):
    path = tmp_path / "l.zarr"
    store = LabelArray(LabelPyramid.create(path, (100_000, 100_000)))
    for at in (0, 50, 100):
        store.write(Plane.of((100_000, 100_000)), solid(at, at, at + 9, at + 9))
    for name in chunk_files(path):
        (path / name).write_bytes(b"broken")
    assert LabelPyramid.open(path).highest_label() == 3
    assert LabelArray(LabelPyramid.open(path)).next_label == 4


def test_of_other_labels_only_chunks_that_exist_are_searched(tmp_path):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(10**6, 10**6), chunks=(100, 100), dtype="uint32")
    array[123_456, 654_321] = 77
    array[999_999, 999_999] = 76
    pyramid = LabelPyramid.open(tmp_path / "a.zarr")
    assert pyramid.highest_label() == 77
    assert zarr.open_array(tmp_path / "a.zarr", mode="r").attrs.asdict() == {}
    pyramid[0, 0] = 78
    assert LabelPyramid.open(tmp_path / "a.zarr").highest_label() == 78


@pytest.mark.parametrize(
    "note", [5, {"highest_label": "many"}, {"unfinished": [[0]]}, {"unfinished": 3}, {"replaced": [""]}]
)
def test_notes_that_make_no_sense_are_no_hindrance(tmp_path, note):
    labels = foreign(tmp_path / "a.zarr", (9, 9), [(2, 2)])
    zarr.open_group(tmp_path / "a.zarr").attrs["napari-sam"] = note
    pyramid = LabelPyramid.open(tmp_path / "a.zarr")
    assert pyramid.highest_label() == 4
    assert_agrees(pyramid, labels)


@pytest.mark.parametrize("times", [1, 10**9])
def test_a_full_disk_is_one_sentence_and_the_levels_agree(small_levels, tmp_path, fail, times):
    shape, plane = (7, 8), Plane.of((7, 8))
    for start in range(100):
        path = tmp_path / f"{start}.zarr"
        store = LabelArray(LabelPyramid.create(path, shape, chunks=(4, 4)))
        store.write(plane, solid(1, 1, 6, 6))
        before = store.array[...]
        files = fail(start, NO_SPACE, times)
        try:
            store.write(plane, solid(3, 2, 7, 8), overlap="overwrite")
        except LabelsError as error:
            message = str(error)
        else:
            message = ""
        total = files[0]
        fail.stop()
        if not message:
            assert total <= start + 2
            break
        assert "No space left" in message
        assert "make space" in message
        assert "\n" not in message
        # Half written is what was refused a rename, never what had no space.
        assert "as they were" in message or (
            times > 1 and start > 1 + sum(level.nchunks for level in store.array.levels)
        )
        if "as they were" in message:
            np.testing.assert_array_equal(store.array[...], before)
            assert_consistent(store.array)
        shutil.copytree(path, tmp_path / "copy.zarr")
        assert_consistent(LabelPyramid.open(tmp_path / "copy.zarr"))
        shutil.rmtree(tmp_path / "copy.zarr")
        store.write(plane, solid(0, 0, 1, 1), label=9)
        before[0, 0] = 9
        assert_agrees(store.array, before)
    assert start > 5


def test_while_the_disk_stays_full_the_next_write_says_so(small_levels, tmp_path, fail):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (12, 12), chunks=(4, 4))
    pyramid[...] = 1
    before = pyramid[...]
    finest, *coarse = (level.nchunks for level in pyramid.levels)
    fail(3, NO_SPACE)
    with pytest.raises(LabelsError, match="as they were"):
        pyramid[...] = 2
    fail(1 + finest + 2 * sum(coarse) + 1, NO_SPACE)
    with pytest.raises(LabelsError, match="half written, which the next write repairs first"):
        pyramid[...] = 2
    with pytest.raises(LabelsError, match="still takes no labels: make space"):
        pyramid[0, 0] = 3
    fail.stop()
    pyramid[0, 0] = before[0, 0] = 3
    assert_agrees(pyramid, before)


def test_a_crash_in_the_middle_of_a_write_is_mended_when_the_labels_are_opened(
    small_levels, tmp_path, fail, monkeypatch
):
    for start in range(100):
        path = tmp_path / f"{start}.zarr"
        pyramid = LabelPyramid.create(path, (7, 7), chunks=(4, 4))
        pyramid[2:6, 2:6] = 1
        before = pyramid[...]
        finest, *coarse = (level.nchunks for level in pyramid.levels)
        fail(start, Killed())
        monkeypatch.setattr(Staged, "discard", lambda chunk: None)
        try:
            pyramid[...] = 2
        except Killed:
            fail.stop()
        else:
            fail.stop()
            break
        again = LabelPyramid.open(path)
        assert_consistent(again)
        assert not list((path / "0").rglob("*.partial"))
        assert set(np.unique(again[...])) <= {0, 1, 2}
        assert again.highest_label() in (1, 2)
        # The note, all chunks beside their places, those of coarse levels in them: level 0 is untouched by then.
        if start <= 1 + finest + 2 * sum(coarse):
            np.testing.assert_array_equal(again[...], before)
        assert "unfinished" not in json.loads((path / "zarr.json").read_text())["attributes"]["napari-sam"]
    assert start > 10


def test_a_damaged_chunk_of_level_0_is_named_and_nothing_changes(small_levels, tmp_path):
    path = tmp_path / "l.zarr"
    pyramid = LabelPyramid.create(path, (12, 12), chunks=(4, 4))
    pyramid[...] = 1
    sound = (path / "0/c/1/1").read_bytes()
    too_short, too_long = (imagecodecs.zstd_encode(np.ones(n, np.uint16)) for n in (15, 10**6))
    for garbage in (b"garbage", b"", sound[:-3], too_short, too_long):
        (path / "0/c/1/1").write_bytes(garbage)
        before = files_in(path)
        store = LabelArray(pyramid)
        with pytest.raises(LabelsError, match=r"0/c/1/1 cannot be read .*put that file back from a copy, or delete it"):
            store.write(Plane.of((12, 12)), solid(0, 0, 8, 8), overlap="overwrite")
        with pytest.raises(LabelsError, match=r"0/c/1/1 cannot be read"):
            pyramid[:8, :8] = 2
        after = files_in(path)
        assert {name for name in before if before[name] != after[name]} <= {"zarr.json"}
    (path / "0/c/1/1").unlink()
    pyramid[:8, :8] = 2
    pyramid.repair()
    assert_consistent(pyramid)


@pytest.mark.parametrize("chunk", ["1/c/0/0", "1/c/1/1", "2/c/0/0"])
def test_a_damaged_chunk_of_a_coarser_level_is_made_anew(small_levels, tmp_path, chunk):
    labels = np.random.default_rng(0).integers(1, 9, (13, 13)).astype(np.uint16)
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (13, 13), chunks=(4, 4))
    pyramid[...] = labels
    (tmp_path / "l.zarr" / chunk).write_bytes(b"garbage")
    pyramid.repair((0, 0))
    pyramid[12, 12] = labels[12, 12] = 99
    pyramid[8, 8] = labels[8, 8] = 98
    assert_agrees(pyramid, labels)


def test_repair_follows_what_another_program_wrote_into_level_0(small_levels, tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (3, 12, 12), chunks=(1, 4, 4))
    pyramid.levels[0][1, :, :5] = 6
    pyramid.repair((0, ...))
    assert not pyramid.levels[1][...].any()
    pyramid.repair((1, slice(0, 4), slice(0, 4)))
    assert np.count_nonzero(pyramid.levels[1][...]) == 4
    pyramid.repair()
    assert_consistent(pyramid)


def test_the_label_that_does_not_fit_widens_the_labels_first(small_levels, tmp_path):
    path, plane = tmp_path / "l.zarr", Plane.of((12, 12))
    pyramid = LabelPyramid.create(path, (12, 12), chunks=(4, 4), dtype="uint8", axes="yx", spacing=(2, 2))
    store = LabelArray(pyramid)
    store.write(plane, solid(0, 0, 3, 3), label=255)
    with pytest.raises(LabelsError, match="does not fit into uint8"):
        store.write(plane, solid(4, 4, 5, 5), label=300)
    with pytest.raises(LabelsError, match="belongs to other objects"):
        store.write(plane, solid(0, 0, 2, 2))
    assert pyramid.dtype == np.uint8
    assert store.write(plane, solid(1, 1, 8, 8)).label == 256
    assert store.array is pyramid
    assert pyramid.dtype == np.uint32
    assert not [name for name in files_in(path) if name.startswith(("0/", "1/", "2/"))]
    for now in (pyramid, LabelPyramid.open(path)):
        assert set(np.unique(now[...])) == {0, 255, 256}
        assert_consistent(now)
        assert now.highest_label() == 256
    dataset = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"][1]
    assert dataset["coordinateTransformations"][0]["scale"] == [4, 4]
    assert Volume.of(path).array[0, 0] == 255
    store.undo()
    store.undo()
    assert not pyramid[...].any()
    with pytest.raises(LabelsError, match="as wide as labels get"):
        pyramid.widen()


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_labels_of_other_programs_are_widened_too(tmp_path, zarr_format):
    labels = foreign(tmp_path / "a.zarr", (9, 13, 9), [(1, 2, 2)], zarr_format=zarr_format, dtype="int8")
    zarr.consolidate_metadata(tmp_path / "a.zarr", zarr_format=zarr_format)
    pyramid = LabelPyramid.open(tmp_path / "a.zarr")
    pyramid.widen()
    assert pyramid.dtype == np.int32
    pyramid[2, 3:5, 3:5] = labels.astype(np.int32)[2, 3:5, 3:5] + 1000
    expected = labels.astype(np.int32)
    expected[2, 3:5, 3:5] += 1000
    assert_agrees(LabelPyramid.open(tmp_path / "a.zarr"), expected)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert sorted(group.array_keys()) == ["s0-int32", "s1-int32"]
    np.testing.assert_array_equal(group["s0-int32"][...], expected)


def test_what_a_failed_write_left_is_put_back_before_labels_are_widened(small_levels, tmp_path, fail):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", (7, 7), chunks=(4, 4), dtype="uint8")
    pyramid[...] = 1
    fail(2 + sum(level.nchunks for level in pyramid.levels), NO_SPACE)
    with pytest.raises(LabelsError, match="half written"):
        pyramid[...] = 2
    fail.stop()
    pyramid.widen()
    assert_agrees(pyramid, np.ones((7, 7), np.uint32))


def test_a_single_array_is_not_widened(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", shape=(17, 16), dtype="u1")[:16] = np.arange(256).reshape(16, 16)
    store = LabelArray(LabelPyramid.open(tmp_path / "a.zarr"))
    with pytest.raises(LabelsError, match=r"cannot be given more bits.*copy it into labels of uint32"):
        store.write(Plane.of((17, 16)), solid(16, 2, 17, 5))


def widened_until(path, fail, start, error):
    pyramid = LabelPyramid.open(path)
    fail(start, error)
    try:
        pyramid.widen()
    finally:
        fail.stop()
    return pyramid


def test_stopped_at_any_moment_widening_leaves_the_old_labels_or_the_new(small_levels, tmp_path, fail, monkeypatch):
    labels = np.random.default_rng(0).integers(0, 200, (7, 7)).astype(np.uint8)
    for start in range(100):
        path = tmp_path / f"{start}.zarr"
        LabelPyramid.create(path, (7, 7), chunks=(4, 4), dtype="uint8")[...] = labels
        try:
            widened_until(path, fail, start, Killed())
        except Killed:
            again = LabelPyramid.open(path)
        else:
            break
        assert_agrees(again, labels)
        if again.dtype == np.uint8:
            again.widen()
        assert again.dtype == np.uint32
        assert_agrees(LabelPyramid.open(path), labels)
    assert start > 10

    path = tmp_path / "last.zarr"
    LabelPyramid.create(path, (7, 7), chunks=(4, 4), dtype="uint8")[...] = labels

    def killed(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(shutil, "rmtree", killed)
        pyramid = LabelPyramid.open(path)
        with pytest.raises(Killed):
            pyramid.widen()
    again = LabelPyramid.open(path)
    assert again.dtype == np.uint32
    assert_agrees(again, labels.astype(np.uint32))
    assert sorted(file.name for file in path.iterdir()) == sorted(
        ["zarr.json", *(level.path for level in again.levels)]
    )


def test_a_disk_too_full_for_wider_labels_leaves_them_as_they_were(small_levels, tmp_path, fail):
    path = tmp_path / "l.zarr"
    labels = np.random.default_rng(0).integers(0, 200, (7, 7)).astype(np.uint8)
    LabelPyramid.create(path, (7, 7), chunks=(4, 4), dtype="uint8")[...] = labels
    before = files_in(path)
    pyramid = LabelPyramid.open(path)
    for start in range(100):
        fail(start, NO_SPACE)
        try:
            pyramid.widen()
        except LabelsError as error:
            message = str(error)
        else:
            break
        finally:
            fail.stop()
        assert "No space left" in message
        assert "as they were: make space" in message
        assert files_in(path) == before
        pyramid[0, 0] = 7
        pyramid[0, 0] = labels[0, 0]
        assert_agrees(LabelPyramid.open(path), labels)
    assert start > 10
    assert pyramid.dtype == np.uint32
    assert_agrees(LabelPyramid.open(path), labels)
