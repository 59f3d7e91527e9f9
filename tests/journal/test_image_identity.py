"""Whose a journal is: told by the pixels of the image, and not by its name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr
from tests.journal.former import as_former, format_line

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError
from napari_sam.images.volume import Volume
from napari_sam.journal import image_identity
from napari_sam.journal.discovery import about, find_journal, image_digest, read_header, record
from napari_sam.journal.image_identity import pixel_digest
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.storage.files import NAME
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (40, 50)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))


def pixels(seed=0):
    return np.random.default_rng(seed).integers(0, 2**12, SHAPE).astype(np.uint16)


def saved(path, seed=0):
    tifffile.imwrite(path, pixels(seed))
    return path


def work_on(source, array=None, labels=None, folder=None):
    """Open the journal of an image, accept one object, and return the folder and what was there before."""
    volume = Volume.of(source if array is None else array)
    target = LabelArray(np.zeros(SHAPE, np.uint16) if labels is None else labels)
    with record(volume, source, target, folder, is_new=labels is None) as journal:
        before, trouble = len(journal.objects), journal.trouble
        at = 3 * len(journal.entries)
        journal.accept(Plane.of(SHAPE), Mask(Box(at, at, at + 3, at + 3), np.ones((3, 3), bool)))
        return journal.folder, before, trouble


def test_the_digest_is_of_the_pixels_wherever_they_are(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (5, 300, 400)).astype(np.uint16)
    on_disk = zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(1, 64, 64))
    known = pixel_digest(image)
    for same in (on_disk, image.astype(">u2"), np.asfortranarray(image), np.ma.masked_array(image)):
        assert pixel_digest(same) == known
    changed = image.copy()
    changed[3, 77, 91] += 1
    for other in (changed, image.astype(np.int16), image.reshape(5, 400, 300), image[:4]):
        assert pixel_digest(other) != known


def test_of_a_large_image_few_blocks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(image_identity, "MAX_BYTES", 1000)

    class Counting:
        shape, dtype, ndim, read = (60, 5000, 7000, 3), np.dtype(np.uint8), 4, 0

        def __getitem__(self, key):
            block = np.zeros([part.stop - part.start for part in key], np.uint8)
            Counting.read += block.size
            return block

    pixel_digest(Counting())
    assert 0 < Counting.read <= 27 * 128 * 128 * 3
    image = np.zeros((4000, 300), np.uint8)
    seen = {pixel_digest(image)}
    for row, col in ((0, 0), (1999, 150), (3999, 299)):
        image[row, col] = 1
        seen.add(pixel_digest(image))
    assert len(seen) == 4


def test_a_renamed_image_keeps_its_work_and_one_that_was_replaced_does_not_get_it(tmp_path):
    folder, before, _ = work_on(saved(tmp_path / "a.tif"))
    assert before == 0
    assert work_on(tmp_path / "a.tif")[:2] == (folder, 1)
    (tmp_path / "a.tif").rename(tmp_path / "b.tif")
    assert work_on(tmp_path / "b.tif")[:2] == (folder, 2)
    place, before, trouble = work_on(saved(tmp_path / "a.tif", seed=1))
    assert (place == folder, before) == (False, 0)
    assert "other pixels" in trouble
    assert work_on(tmp_path / "a.tif")[:2] == (place, 1)
    assert work_on(tmp_path / "b.tif")[:2] == (folder, 3)


def test_two_files_with_the_same_pixels_have_work_of_their_own(tmp_path):
    first = work_on(saved(tmp_path / "a.tif"))[0]
    shutil.copy(tmp_path / "a.tif", tmp_path / "b.tif")
    second, before, trouble = work_on(tmp_path / "b.tif")
    assert (second != first, before, trouble) == (True, 0, None)
    assert work_on(tmp_path / "a.tif")[:2] == (first, 1)
    assert work_on(tmp_path / "b.tif")[:2] == (second, 1)


@pytest.mark.parametrize("where", ["folder", "beside labels", "with an array"])
def test_a_journal_of_another_image_is_refused_and_stays_as_it_is(tmp_path, where):
    labels = LabelPyramid.create(tmp_path / "l.ome.zarr", SHAPE) if where == "beside labels" else None
    folder = None if where == "beside labels" else tmp_path / "j.journal"
    arrays = (pixels(0), pixels(1)) if where == "with an array" else (None, None)
    sources = (None, None) if where == "with an array" else (saved(tmp_path / "a.tif"), saved(tmp_path / "b.tif", 1))
    place = work_on(sources[0], arrays[0], labels, folder)[0]
    before = (place / NAME).read_bytes()
    with pytest.raises(LabelsError, match="is of another image"):
        work_on(sources[1], arrays[1], labels, folder)
    assert (place / NAME).read_bytes() == before
    assert work_on(sources[0], arrays[0], labels, folder)[1] == 1


def test_a_journal_of_an_earlier_version_still_opens_with_its_image_alone(tmp_path):
    saved(tmp_path / "a.tif")
    for source, array in ((tmp_path / "a.tif", None), (None, pixels(2))):
        volume = Volume.of(source if array is None else array)
        place = work_on(source, array)[0]
        assert read_header(place) == {"journal": 2, **about(volume, source)}
        log = as_former(place)
        first, *others = log.read_bytes().splitlines(keepends=True)
        header = {key: value for key, value in json.loads(first)[1].items() if key not in ("place", "inode", "pixels")}
        log.write_bytes(b"".join([format_line(header), *others]))
        assert work_on(source, array)[:2] == (place, 1)
    # A file that was renamed may still be given such a journal by name, and another array may not.
    (tmp_path / "a.tif").rename(tmp_path / "b.tif")
    named = find_journal(Volume.of(tmp_path / "b.tif"), tmp_path / "a.tif", None)
    assert work_on(tmp_path / "b.tif", folder=named)[1] == 2
    with pytest.raises(LabelsError, match="another image"):
        work_on(None, pixels(3), folder=place)


def test_channels_of_one_file_have_work_of_their_own(tmp_path):
    image = np.stack([pixels(0), pixels(1)])
    volumes = [Volume.of(channel) for channel in image]
    places = set()
    for volume in volumes:
        with record(volume, tmp_path / "a.tif", LabelArray(np.zeros(SHAPE, np.uint16)), is_new=True) as journal:
            places.add(journal.folder)
            assert journal.objects == []
            journal.accept(Plane.of(SHAPE), Mask(Box(0, 0, 3, 3), np.ones((3, 3), bool)))
    assert len(places) == 2


def test_opening_a_journal_to_read_needs_no_image(tmp_path):
    folder = work_on(None, pixels(4), folder=tmp_path / "j.journal")[0]
    assert len(open_journal(folder).objects) == 1
    with Journal(folder, LabelArray(np.zeros(SHAPE, np.uint16))) as journal:
        assert len(journal.objects) == 1


class Computed:
    """A large array of which every block is computed when it is read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
        value = sum(at.start * (axis + 3) + at.stop for axis, at in enumerate(key)) % 251
        return np.full([at.stop - at.start for at in key], value, np.uint8)


@pytest.mark.parametrize(
    ("shape", "pixels", "name"),
    [
        ((100_000, 100_000), "29abbf0dd6fe5f6269bc39d42bc0a863", "c226bab29ecb421854a63da9022bdfb0"),
        ((8192, 8192, 3), "a66f219f00b0fad42f6748fa5b92a4aa", "ed45162a8fb51804247a795d4f40e26a"),
        ((2, 3, 4, 9000, 9000, 5), "a17b46b9d615de7f3132df894028347a", "3fbe05bd5ac8930b274a561a61d076c6"),
    ],
)
def test_large_images_keep_the_digests_by_which_journals_on_disk_know_them(
    shape: tuple[int, ...], pixels: str, name: str
) -> None:
    assert pixel_digest(Computed(*shape)) == pixels
    assert image_digest(None, Computed(*shape), shape) == name
