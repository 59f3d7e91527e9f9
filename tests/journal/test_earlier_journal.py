"""A journal that an earlier version wrote, before lines named the image by its pixels: earlier_journal.jsonl.

Its six steps: objects 1 (class cell), 2 (class nucleus), 3 (over parts of both) and 4 accepted, 2 made a cell,
and 1 deleted, once more after an undo. Two further objects with label 5 were undone.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.images.volume import Volume
from napari_sam.journal.discovery import about, read_header
from napari_sam.journal.image_identity import belongs_to
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

LINES = Path(__file__).with_name("earlier_journal.jsonl")
SHAPE = (24, 30)
BOXES = {1: (2, 2, 8, 9), 2: (10, 12, 15, 17), 3: (4, 6, 12, 14), 4: (16, 20, 20, 26)}


def without_corner(labels: np.ndarray, label: int, box: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = box
    corner = labels[top, left]
    labels[top:bottom, left:right] = label
    labels[top, left] = corner


def labels_after(steps: int) -> np.ndarray:
    """Return the labels after so many of the six steps."""
    labels = np.zeros(SHAPE, int)
    for label in range(1, min(steps, 4) + 1):
        without_corner(labels, label, BOXES[label])
    if steps == 6:
        labels[labels == 1] = 0
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The journal beside the labels that it is of."""
    pyramid = LabelPyramid.create(tmp_path / "labels.ome.zarr", SHAPE)
    pyramid[...] = labels_after(6)
    folder = tmp_path / "labels.ome.zarr.journal"
    folder.mkdir()
    (folder / "entries.jsonl").write_bytes(LINES.read_bytes().replace(b"\r\n", b"\n"))
    return folder


def opened(folder: Path) -> Journal:
    return Journal(folder, LabelArray(LabelPyramid.open(folder.with_suffix(""))))


def test_a_journal_of_an_earlier_version_has_all_its_objects_and_is_not_changed_by_opening(folder):
    before = (folder / "entries.jsonl").read_bytes()
    with opened(folder) as journal:
        assert not journal.trouble
        assert journal.converted_from == folder / "entries.jsonl"
        assert {one.label: one.area for one in journal.objects} == {2: 21, 3: 63, 4: 23}
        assert [one.label_class and one.label_class.name for one in journal.objects] == ["cell", None, None]
        assert [kind.name for kind in journal.classes] == ["cell", "nucleus"]
        assert (journal.next_undo.what, journal.next_undo.label) == ("delete", 1)
        assert (journal.next_redo.what, journal.next_redo.label) == ("accept", 5)
        (prompts,) = [entry.prompts for entry in journal.entries if entry.prompts is not None]
        assert prompts.points.tolist() == [[4, 4]]
    assert (folder / "entries.jsonl").read_bytes() == before


def test_the_steps_of_a_journal_of_an_earlier_version_can_be_undone_redone_and_gone_on_from(folder):
    with opened(folder) as journal:
        pyramid = journal.target.array
        for steps in range(5, -1, -1):
            journal.undo()
            np.testing.assert_array_equal(np.asarray(pyramid), labels_after(steps))
        for steps in range(1, 7):
            journal.redo()
            np.testing.assert_array_equal(np.asarray(pyramid), labels_after(steps))
        assert journal.redo().label == 5
        assert (np.asarray(pyramid)[18:22, 1:5] == 5).sum() == 15
        entry = journal.accept(Plane.of(SHAPE), Mask(Box(0, 0, 2, 2), np.ones((2, 2), bool)))
        assert entry.label == 6
    with opened(folder) as again:
        assert [one.label for one in again.objects] == [2, 3, 4, 5, 6]


def test_a_journal_of_an_earlier_version_gives_its_labels_again(folder):
    with opened(folder) as journal:
        restored = np.zeros(SHAPE, np.uint16)
        journal.restore(LabelArray(restored))
    np.testing.assert_array_equal(restored, labels_after(6))


def test_a_journal_of_an_earlier_version_belongs_to_its_image_and_to_no_other(folder, tmp_path):
    pixels = (np.arange(24 * 30) % 251).astype(np.uint8).reshape(SHAPE)
    # The digest of an image in a file was that of its path, which is another one on each machine.
    path = os.path.realpath(tmp_path / "image.tif")
    header = {**read_header(folder), "digest": hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}
    for name, values, ours in (("image.tif", pixels, True), ("other.tif", pixels + 1, False)):
        tifffile.imwrite(tmp_path / name, values)
        assert belongs_to(header, about(Volume.of(str(tmp_path / name)), tmp_path / name)) is ours, name
