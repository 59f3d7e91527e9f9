from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.labels import additions
from napari_sam.labels.additions import EditLog, adding_to, edits_in
from napari_sam.labels.array import LabelArray
from napari_sam.labels.edit import LabelEdit
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (40, 40)
PLANE = Plane.of(SHAPE)


def block(at: int) -> Mask:
    return Mask(Box(at, at, at + 6, at + 6), np.ones((6, 6), bool))


def edit(number: int) -> LabelEdit:
    pixels = np.full((2, 6, 6), number, np.uint16)
    return LabelEdit(PLANE, Box(4, 5, 10, 11), pixels[0], pixels[1] + 1, number, number)


class Stopped(Exception):
    """What a user does to a run."""


def test_labels_that_others_were_given_meanwhile_stay_in_use_when_a_run_fails(tmp_path):
    mine = LabelArray(LabelPyramid.create(tmp_path / "a.ome.zarr", SHAPE))
    other = LabelArray(LabelPyramid.open(tmp_path / "a.ome.zarr"))

    def run():
        with adding_to(mine):
            assert mine.write(PLANE, block(0)).label == 1
            assert other.write(PLANE, block(10)).label == 2
            assert mine.write(PLANE, block(20)).label == 3
            raise Stopped

    with pytest.raises(Stopped):
        run()
    assert np.unique(np.asarray(mine.array)).tolist() == [0, 2]
    assert [mine.next_label, other.next_label] == [3, 3]


def test_an_object_that_was_overwritten_in_the_same_run_is_taken_back_too(tmp_path):
    labels = LabelArray(LabelPyramid.create(tmp_path / "a.ome.zarr", SHAPE))
    labels.write(PLANE, block(3))
    before = np.asarray(labels.array)

    def run():
        with adding_to(labels):
            for at in (0, 2, 4):
                labels.write(PLANE, block(at), overlap="overwrite")
            raise Stopped

    with pytest.raises(Stopped):
        run()
    np.testing.assert_array_equal(np.asarray(labels.array), before)
    assert labels.next_label == 2


@pytest.mark.parametrize("cut", [1, 5, 9, 40])
def test_an_edit_that_was_cut_off_by_a_kill_is_not_taken_for_one(tmp_path, cut):
    path = tmp_path / "log"
    with path.open("wb", buffering=0) as file:
        log = EditLog(file)
        for number in range(3):
            log.append(edit(number))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [each.label for each in edits_in(path, SHAPE)] == [0, 1]
    assert edits_in(path, (5, 5)) == edits_in(tmp_path / "none", SHAPE) == []


def test_what_the_disk_of_the_log_refuses_is_not_written_and_what_follows_is(tmp_path, monkeypatch):
    labels = LabelArray(LabelPyramid.create(tmp_path / "a.ome.zarr", SHAPE))
    refused = []

    class Full(EditLog):
        def append(self, edit):
            if edit.label != 2 or refused:
                return super().append(edit)
            refused.append(edit)
            self._file = Half(self._file)
            try:
                return super().append(edit)
            finally:
                self._file = self._file.file

    class Half:
        """A file on a disk that is full after a few more bytes."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            return self.file.write(data[:20])

    monkeypatch.setattr(additions, "EditLog", Full)

    def run():
        with adding_to(labels):
            labels.write(PLANE, block(0))
            before = np.asarray(labels.array)
            with pytest.raises(LabelsError, match=r"labels are not written.*make space on the disk"):
                labels.write(PLANE, block(10))
            np.testing.assert_array_equal(np.asarray(labels.array), before)
            assert labels.write(PLANE, block(20)).label == 2
            raise Stopped

    with pytest.raises(Stopped):
        run()
    assert refused
    assert not np.asarray(labels.array).any()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
