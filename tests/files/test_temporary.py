"""Unfinished files: never used by another run, removed by the next one, and only where they are provably ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exchange.label_formats import write_labels
from napari_sam.files.locks import SharedPlace
from napari_sam.files.outputs import check_output, replacing
from napari_sam.files.temporary import move_all, remove_leftovers, temporary_folder, unfinished
from napari_sam.labels.additions import adding_to
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

SHAPE = (40, 40)


def block(at, side=6):
    return Mask(Box(at, at, at + side, at + side), np.ones((side, side), bool))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(code, *arguments):
    """Run Python code that kills itself."""
    command = [sys.executable, "-c", f"import os\n{code}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


REPLACE = """
import sys
from pathlib import Path
from napari_sam.files.outputs import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.mkdir()
    (temporary / "left").write_text("left")
    os.kill(os.getpid(), 9)
"""


def test_the_leftovers_of_a_killed_run_are_not_used_and_are_removed(tmp_path):
    killed(REPLACE, tmp_path / "l.zarr")
    assert len(names_in(tmp_path)) == 2
    write_labels(tmp_path / "l.zarr", np.ones((4, 4), np.uint8))
    assert names_in(tmp_path) == ["l.zarr"]
    assert not (tmp_path / "l.zarr/left").exists()


def test_two_runs_at_once_have_files_of_their_own_and_one_does_not_replace_the_other(tmp_path):
    path = tmp_path / "a.txt"

    def write_twice():
        with replacing(path) as first:
            first.write_text("first")
            with replacing(path) as second:
                assert first != second
                second.write_text("second")

    with pytest.raises(OutputError, match="created by another program meanwhile"):
        write_twice()
    assert (names_in(tmp_path), path.read_text()) == (["a.txt"], "second")
    with replacing(path) as third:
        third.write_text("third")
    assert path.read_text() == "third"


MOVE = """
import sys
from pathlib import Path
from napari_sam.files import temporary
moved = Path.replace
def replace(path, place):
    if not path.name.startswith(temporary.OWNER) and not path.name.startswith(temporary.MOVES):
        if not int(sys.argv[2]):
            os.kill(os.getpid(), 9)
        sys.argv[2] = str(int(sys.argv[2]) - 1)
    return moved(path, place)
Path.replace = replace
from napari_sam.files.outputs import replacing
with replacing(Path(sys.argv[1])) as unfinished:
    for path in (unfinished, unfinished.with_name(f"{unfinished.name}.journal")):
        path.mkdir()
        (path / "zarr.json").write_text('{"node_type": "array", "new": 1}')
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("moment", [0, 1, 2])
@pytest.mark.parametrize("is_there", [False, True])
def test_labels_and_their_journal_come_to_their_places_together(tmp_path, moment, is_there):
    path, journal = tmp_path / "l.zarr", tmp_path / "l.zarr.journal"
    if is_there:
        for folder in (path, journal):
            folder.mkdir()
            (folder / "zarr.json").write_text('{"node_type": "array", "old": 1}')
    killed(MOVE, path, moment)
    check_output(tmp_path / "other.tif", (".tif",))
    assert names_in(tmp_path) == ["l.zarr", "l.zarr.journal"]
    assert all("new" in (folder / "zarr.json").read_text() for folder in (path, journal))


def test_what_cannot_be_moved_leaves_all_as_it_was(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/old").write_text("old")
    with temporary_folder(tmp_path) as folder:
        new = unfinished(folder, tmp_path / "a")
        second = new.with_name(f"{new.name}.second")
        new.mkdir()
        second.write_text("second")
        with pytest.raises(OSError, match="no"):
            move_all(folder, [(new.name, "a"), (second.name, "no/such/folder")])
        assert names_in(tmp_path / "a") == ["old"]
        assert new.is_dir()
        assert second.exists()
    assert names_in(tmp_path) == ["a"]


@pytest.mark.parametrize("make", ["notes", "image", "text"])
def test_a_folder_that_holds_anything_but_labels_is_not_replaced(tmp_path, make):
    path = tmp_path / "labels.zarr"
    if make == "image":
        zarr.open_group(path, mode="w").create_array("0", shape=(4, 4), dtype="u1")
    else:
        zarr.create_array(path, data=np.ones((4, 4), np.uint8))
        (path / ("notes.docx" if make == "notes" else "c/0/notes.txt")).write_text("mine")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for attempt in (lambda: check_output(path, (), True), lambda: write_labels(path, np.zeros((4, 4), np.uint8))):
        with pytest.raises(OutputError, match="is not replaced"):
            attempt()
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert names_in(tmp_path) == ["labels.zarr"]


def test_labels_are_replaced_whole(tmp_path):
    pyramid = LabelPyramid.create(tmp_path / "l.ome.zarr", SHAPE)
    pyramid[...] = 3
    write_labels(tmp_path / "l.ome.zarr", np.ones((4, 4), np.uint8))
    assert zarr.open_array(tmp_path / "l.ome.zarr", mode="r")[...].tolist() == [[1] * 4] * 4


def test_what_looks_like_a_leftover_and_is_not_ours_stays(tmp_path):
    mine = {
        ".napari-sam-0123456789abcdef/notes.txt": "mine",
        ".napari-sam-0123456789abcdee/owner.json": json.dumps({"mine": 1}),
        ".a-0123456789abcdef.txt": "mine",
        ".a-1.txt": "mine",
    }
    for name, text in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert {name: (tmp_path / name).read_text() for name in mine} == mine


def test_the_files_of_a_run_that_is_at_work_stay(tmp_path):
    with replacing(tmp_path / "a.txt") as first:
        first.write_text("first")
        with replacing(tmp_path / "b.txt") as second:
            second.write_text("second")
    assert names_in(tmp_path) == ["a.txt", "b.txt"]


def test_a_name_of_250_letters_has_an_unfinished_file_too(tmp_path):
    path = tmp_path / ("é" * 120 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert names_in(tmp_path) == [path.name]


@pytest.mark.parametrize("step", ["mkdir", "open"])
def test_a_run_that_was_killed_while_it_made_its_folder_leaves_nothing_after_the_next_one(tmp_path, step):
    killed(BEGIN.replace("STEP", step), tmp_path)
    (left,) = names_in(tmp_path)
    with replacing(tmp_path / "a.txt") as temporary:
        assert not (tmp_path / left).exists()
        temporary.write_text("new")
    assert names_in(tmp_path) == ["a.txt"]


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be locked elsewhere")
def test_the_folder_that_another_run_is_just_making_stays(tmp_path):
    folder = tmp_path / ".napari-sam-0123456789abcdef"
    with SharedPlace.of(tmp_path).exclusive(10):
        folder.mkdir()
        remove_leftovers(tmp_path)
        assert folder.exists()
    remove_leftovers(tmp_path)
    assert not folder.exists()


def test_what_cannot_be_removed_keeps_the_proof_of_whose_it_is(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as context, temporary_folder(tmp_path) as folder:
        (folder / "half").write_text("")
        context.setattr(Path, "unlink", refuse)
    assert folder.exists()
    remove_leftovers(tmp_path)
    assert not folder.exists()


BEGIN = """
def die(event, arguments):
    if event == "os.rename" or (event, "STEP") == ("open", "mkdir") and "owner.json" in str(arguments[0]):
        os.kill(os.getpid(), 9)
import sys
from pathlib import Path
from napari_sam.files.temporary import temporary_folder
sys.addaudithook(die)
with temporary_folder(Path(sys.argv[1])):
    pass
"""


def test_an_error_while_writing_is_not_hidden_by_the_clean_up(tmp_path):
    def write():
        with replacing(tmp_path / "a.txt"):
            for path in tmp_path.glob(".napari-sam-*"):
                (path / "owner.json").unlink()
                path.rmdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()


ADD = """
import sys
from pathlib import Path
import numpy as np
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.files.locks import SharedPlace
from napari_sam.labels.additions import adding_to
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid
labels = LabelArray(LabelPyramid.open(sys.argv[1]))
with adding_to(labels):
    for at in (10, 20):
        mask = Mask(Box(at, at, at + 6, at + 6), np.ones((6, 6), bool))
        labels.write(Plane.of((40, 40)), mask, overlap="overwrite")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_run_added_is_taken_back_at_the_next_opening(tmp_path):
    path = tmp_path / "l.ome.zarr"
    LabelArray(LabelPyramid.create(path, SHAPE)).write(Plane.of(SHAPE), block(12))
    before = np.asarray(LabelPyramid.open(path))
    killed(ADD, path)
    check_output(tmp_path / "other.tif", (".tif",))  # Another command does not take away what is needed for that.
    assert (zarr.open_array(path / "0", mode="r")[...] != before).any()
    pyramid = LabelPyramid.open(path)
    np.testing.assert_array_equal(np.asarray(pyramid), before)
    assert names_in(tmp_path) == ["l.ome.zarr"]
    assert LabelArray(pyramid).next_label == 2


HALF_NOTE = """
def die(path, text):
    path.open("w").close()
    if path.name.startswith("added.json"):
        os.kill(os.getpid(), 9)
from pathlib import Path
Path.write_text = die
"""


def test_a_run_that_was_killed_while_it_wrote_its_first_note_leaves_nothing_after_the_next_one(tmp_path):
    path = tmp_path / "l.ome.zarr"
    LabelPyramid.create(path, SHAPE)
    killed(HALF_NOTE + ADD, path)
    assert len(names_in(tmp_path)) == 2
    labels = LabelArray(LabelPyramid.open(path))
    with adding_to(labels):
        labels.write(Plane.of(SHAPE), block(0))
    assert names_in(tmp_path) == ["l.ome.zarr"]


@pytest.mark.parametrize("number", range(4))
def test_what_a_killed_run_added_is_taken_back_by_one_that_was_killed_at_it_and_the_next(tmp_path, monkeypatch, number):
    class Killed(BaseException):
        pass

    path, done = tmp_path / "l.ome.zarr", []

    def killed_at(real):
        def run(*args):
            if len(done) == number:
                raise Killed
            done.append(real(*args))

        return run

    LabelPyramid.create(path, SHAPE)
    killed(ADD, path)
    with monkeypatch.context() as context:
        for name in ("write_box", "release"):
            context.setattr(LabelPyramid, name, killed_at(getattr(LabelPyramid, name)))
        with pytest.raises(Killed):
            LabelPyramid.open(path)
    pyramid = LabelPyramid.open(path)
    assert not np.asarray(pyramid).any()
    assert names_in(tmp_path) == ["l.ome.zarr"]
    assert LabelArray(pyramid).next_label == 1


def test_what_a_run_added_is_there_when_it_ends_well_and_not_when_it_fails(tmp_path):
    path = tmp_path / "l.ome.zarr"
    labels = LabelArray(LabelPyramid.create(path, SHAPE))

    def add_twice():
        with adding_to(labels):
            labels.write(Plane.of(SHAPE), block(0))
            labels.write(Plane.of(SHAPE), block(0))

    with pytest.raises(LabelsError):
        add_twice()
    assert not np.asarray(labels.array).any()
    with adding_to(labels):
        assert labels.write(Plane.of(SHAPE), block(0)).label == 1
    assert names_in(tmp_path) == ["l.ome.zarr"]
    assert (np.asarray(LabelPyramid.open(path)) == 1).sum() == 36


def test_labels_that_were_replaced_since_are_not_touched(tmp_path):
    path = tmp_path / "l.ome.zarr"
    LabelPyramid.create(path, SHAPE)
    killed(ADD, path)
    path.rename(tmp_path / "aside.ome.zarr")
    other = LabelPyramid.create(path, SHAPE)
    other[10:30, 10:30] = 1
    assert (np.asarray(LabelPyramid.open(path))[10:30, 10:30] == 1).all()
    assert [name for name in names_in(tmp_path) if name.startswith(".")] == []


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_a_link_in_the_place_of_the_output_is_replaced_and_not_what_it_leads_to(tmp_path):
    zarr.create_array(tmp_path / "there.zarr", data=np.full((4, 4), 7, np.uint8))
    (tmp_path / "l.zarr").symlink_to("there.zarr")
    write_labels(tmp_path / "l.zarr", np.ones((4, 4), np.uint8))
    assert (zarr.open_array(tmp_path / "there.zarr", mode="r")[...] == 7).all()
    assert (zarr.open_array(tmp_path / "l.zarr", mode="r")[...] == 1).all()
