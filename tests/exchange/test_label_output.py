"""LabelOutput: labels that are checked before any work, and in their place only after all of it."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, OutputError, PromptError
from napari_sam.exchange import label_output
from napari_sam.exchange.label_formats import LABEL_SUFFIXES, LABEL_WRITERS, PYRAMID_SUFFIX
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.images.volume import Volume
from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.options import LabelOptions

SHAPE = (3, 60, 70)
PLANE = Plane.of(SHAPE, 1)
ENDINGS = [*LABEL_WRITERS, PYRAMID_SUFFIX]


@pytest.fixture
def volume():
    return Volume.of(np.zeros(SHAPE, np.uint8))


def square(at, side=8):
    return Mask(Box(at, at, at + side, at + side), np.ones((side, side), bool), 0.9, 0.8)


def write_and_fail(output, volume, at):
    with output.open(volume) as writer:
        writer.write(PLANE, square(at))
        raise KeyError


def read(path):
    if path.name.endswith(PYRAMID_SUFFIX):
        return np.asarray(LabelPyramid.open(path)[...])
    return zarr.open_array(path, mode="r")[...] if path.suffix == ".zarr" else tifffile.imread(path)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("plane", [None, PLANE])
def test_labels_of_every_ending_are_in_their_place_after_the_block_and_not_before(tmp_path, volume, ending, plane):
    path = tmp_path / f"labels{ending}"
    with LabelOutput(path, LabelOptions()).open(volume, plane) as writer:
        first, second = (writer.write(PLANE, square(at), label) for at, label in ((5, None), (30, 70_000)))
        assert not path.exists()
    assert (first.label, first.area, first.box) == (1, 64, Box(5, 5, 13, 13))
    assert second.label == 70_000
    labels = read(path)
    is_plane = plane is not None and ending != PYRAMID_SUFFIX
    assert labels.shape == (SHAPE[1:] if is_plane else SHAPE)
    found = labels if is_plane else labels[1]
    assert (found[5, 5], found[12, 12], found[13, 13], found[30, 30]) == (1, 1, 0, 70_000)
    assert np.count_nonzero(labels) == 128
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", [".tif", ".ome.zarr"])
def test_labels_and_their_journal_come_to_their_places_together(tmp_path, volume, ending):
    path = tmp_path / f"labels{ending}"
    output = LabelOutput(path, LabelOptions(journal=True), can_extend=True)
    assert output.journal == tmp_path / f"labels{ending}.journal"
    with pytest.raises(KeyError):
        write_and_fail(output, volume, 5)
    assert names_in(tmp_path) == []
    with output.open(volume, source="stack.tif") as writer:
        writer.write(PLANE, square(5), class_name="cell")
        assert not path.exists()
        assert not output.journal.exists()
    assert names_in(tmp_path) == [path.name, f"{path.name}.journal"]
    journal = open_journal(path)
    assert [(found.label, found.label_class.name) for found in journal.objects] == [(1, "cell")]
    assert journal.about["image"] == "stack.tif"


@pytest.mark.parametrize("has_journal", [False, True])
def test_labels_that_are_added_to_lose_all_of_a_failed_run_unless_a_journal_holds_it(tmp_path, volume, has_journal):
    path, options = tmp_path / "labels.ome.zarr", LabelOptions(append=True, journal=has_journal)
    first = LabelOutput(path, options, can_extend=True)
    assert not first.extends
    with first.open(volume) as writer:
        writer.write(PLANE, square(5))
    second = LabelOutput(path, options, can_extend=True)
    assert second.extends
    with pytest.raises(KeyError):
        write_and_fail(second, volume, 30)
    assert np.unique(read(path)).tolist() == ([0, 1, 2] if has_journal else [0, 1])
    with LabelOutput(path, options, can_extend=True).open(volume) as writer:
        assert writer.write(PLANE, square(45)).label == (3 if has_journal else 2)


def test_a_new_journal_without_an_object_is_not_left_beside_labels_that_exist(tmp_path, volume):
    path = tmp_path / "labels.ome.zarr"
    with LabelOutput(path, LabelOptions()).open(volume) as writer:
        writer.write(PLANE, square(5))
    output = LabelOutput(path, LabelOptions(append=True, journal=True), can_extend=True)
    with output.open(volume) as writer, pytest.raises(LabelsError):
        writer.write(PLANE, square(5))
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("name", "options", "can_extend", "error", "words"),
    [
        ("l.png", LabelOptions(), True, OutputError, "unknown ending"),
        ("l.tif", LabelOptions(append=True), True, PromptError, "--append goes with"),
        ("taken.tif", LabelOptions(), True, OutputError, "exists already"),
        ("taken.ome.zarr", LabelOptions(), True, OutputError, "--append to add to it"),
        ("taken.ome.zarr", LabelOptions(), False, OutputError, r"another name, or pass --overwrite\."),
        ("recorded.tif", LabelOptions(), True, OutputError, "--journal --overwrite"),
        ("recorded.tif", LabelOptions(overwrite=True), False, OutputError, "journal of its own"),
        ("recorded.tif", LabelOptions(journal=True, overwrite=True), True, OutputError, "is not a journal"),
        ("image.ome.zarr", LabelOptions(append=True), True, OutputError, "holds no labels"),
    ],
)
def test_outputs_are_refused_before_any_work(tmp_path, volume, name, options, can_extend, error, words):
    (tmp_path / "taken.tif").write_bytes(b"mine")
    LabelPyramid.create(tmp_path / "taken.ome.zarr", SHAPE)
    (tmp_path / "recorded.tif.journal").mkdir()
    (tmp_path / "recorded.tif.journal" / "diary.txt").write_text("mine")
    zarr.create_array(tmp_path / "image.ome.zarr", data=np.zeros(SHAPE, np.uint8))
    before = names_in(tmp_path)
    with pytest.raises(error, match=words):
        LabelOutput(tmp_path / name, options, can_extend=can_extend)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("ending", LABEL_SUFFIXES)
def test_labels_too_large_for_memory_name_the_ending_that_has_no_limit(tmp_path, volume, monkeypatch, ending):
    monkeypatch.setattr(label_output, "MAX_PIXELS", 60 * 70)
    output = LabelOutput(tmp_path / f"labels{ending}", LabelOptions())
    with pytest.raises(LabelsError, match=PYRAMID_SUFFIX), output.open(volume):
        pytest.fail("the block was entered")
    with output.open(volume, PLANE) as writer:
        writer.write(PLANE, square(5))
    assert names_in(tmp_path) == [f"labels{ending}"]


def test_an_image_that_is_not_known_needs_its_shape_only(tmp_path):
    for name in ("labels.tif", "labels.ome.zarr"):
        with LabelOutput(tmp_path / name, LabelOptions()).open(None, shape=SHAPE) as writer:
            writer.write(PLANE, square(5))
        assert read(tmp_path / name).shape == SHAPE
