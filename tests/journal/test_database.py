"""The file of a journal: untrusted, cut off, copied, moved, converted, locked and shared by threads."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import zlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.journal.former import as_former, former_log_of

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, NapariSamError, OutputError
from napari_sam.journal.discovery import read_header
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.storage import files
from napari_sam.journal.storage.files import NAME, UNFINISHED, log_of
from napari_sam.journal.storage.former_log import LINES
from napari_sam.labels.array import LabelArray

SHAPE = (80, 80)
ABOUT = {"image": "a.tif", "shape": list(SHAPE)}
COUNT = 4
POSIX_ONLY = pytest.mark.skipif(sys.platform == "win32", reason="this is of POSIX")


def target():
    return LabelArray(np.zeros(SHAPE, np.uint16))


def accept(journal, number):
    top, left = (10 * at for at in divmod(number, 8))
    mask = Mask(Box(top, left, top + 8, left + 8), np.ones((8, 8), bool), 0.9, 0.8)
    return journal.accept(Plane.of(SHAPE), mask, class_name="cell" if number % 2 else None)


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def labels_of(journal):
    return [row.label for row in journal.objects]


@pytest.fixture
def folder(tmp_path):
    """A journal with some objects."""
    folder = tmp_path / "a.journal"
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        for number in range(COUNT):
            accept(journal, number)
    return folder


@contextlib.contextmanager
def database_of(folder):
    with closing(sqlite3.connect(folder / NAME)) as connection, connection:
        connection.execute("PRAGMA writable_schema=ON")
        yield connection


def read_everything(folder):
    """Do what the program does with a journal: everything is right, or one sentence says what is not."""
    read_header(folder)
    with open_journal(folder) as journal:
        for row in journal.objects:
            assert (row.mask, row.prompts, row.area, row.box) is not None
        for entry in journal.entries:
            assert entry.mask is not None
        _ = journal.objects[len(journal.objects) // 2], journal.entries[-1]
        _ = journal.classes, journal.next_undo, journal.next_redo, journal.redoes_several
    labels = target()
    with Journal(folder, labels, about=ABOUT, durable=False) as journal:
        journal.restore()
        accept(journal, 20)
        while journal.undo():
            pass
        while journal.redo():
            pass


# Whatever somebody has put into the file


def run_sql(*statements):
    def change(folder):
        with database_of(folder) as connection:
            for statement in statements:
                connection.execute(statement)

    return change


def write_bytes(at, values):
    def change(folder):
        with (folder / NAME).open("rb+") as file:
            file.seek(at)
            file.write(values)

    return change


TAMPERED = {
    "a trigger": (
        run_sql("CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM objects; END"),
        "not those of a journal",
    ),
    "a view": (run_sql("CREATE VIEW v AS SELECT * FROM entries"), "not those of a journal"),
    "a view for a table": (
        run_sql("DROP TABLE classes", "CREATE VIEW classes AS SELECT 1 AS number, 'x' AS name, 0 AS red"),
        "not those of a journal",
    ),
    "a virtual table": (run_sql("CREATE VIRTUAL TABLE v USING fts5(x)"), "not those of a journal"),
    "one more column": (run_sql("ALTER TABLE objects ADD COLUMN x"), "not those of a journal"),
    "a missing index": (run_sql("DROP INDEX entries_by_state"), "not those of a journal"),
    "another program's database": (run_sql("PRAGMA application_id=7"), "database of another program"),
    "a newer version": (run_sql("PRAGMA user_version=3"), "of version 3, and this program reads versions 1 to 2"),
    "no state": (run_sql("DELETE FROM state"), "state is not understood"),
    "a state of text": (run_sql("UPDATE state SET number = 'many'"), "state is not understood"),
    "a state below zero": (run_sql("UPDATE state SET done = -1"), "state is not understood"),
    "pending text": (run_sql("UPDATE state SET pending = '{'"), "state is not understood"),
    "pending nests": (run_sql(f"UPDATE state SET pending = '{'[' * 100_000}'"), "state is not understood"),
    "fewer objects than it says": (run_sql("UPDATE state SET objects = 9"), "fewer objects"),
    "no image": (run_sql("DELETE FROM about"), "which image it is of"),
    "an image that is a list": (run_sql("UPDATE about SET content = '[]'"), "which image it is of"),
    "an image of nests": (run_sql(f"UPDATE about SET content = '{'[' * 100_000}'"), "which image it is of"),
    "a shape of text": (run_sql("""UPDATE about SET content = '{"shape": ["x"]}'"""), "which image it is of"),
    "an entry that was changed": (run_sql("UPDATE entries SET content = replace(content, '2', '3')"), "checksum"),
    "an entry that is a blob": (run_sql("UPDATE entries SET content = x'00ff'"), "not understood"),
    "an object that was changed": (run_sql("UPDATE objects SET content = replace(content, '2', '3')"), "checksum"),
    "an object that is a blob": (run_sql("UPDATE objects SET content = x'00ff'"), "checksum"),
    "a class of text": (run_sql("UPDATE classes SET red = 'x'"), "class is not understood"),
    "a way back of text": (run_sql("UPDATE entries SET back = 'x'"), "way back"),
    "a way back of nests": (run_sql(f"UPDATE entries SET back = '{'[' * 100_000}'"), "way back"),
    "missing entries": (run_sql("DELETE FROM entries"), "is missing"),
    "another beginning": (write_bytes(0, b"Something else "), "not a journal of this program"),
    "a page size of nothing": (write_bytes(16, b"\0\0"), "damaged"),
    "pages of zeros": (write_bytes(4096, b"\0" * 8192), "damaged"),
    "nothing": (lambda folder: (folder / NAME).write_bytes(b""), "not a journal of this program"),
    "half of it": (lambda folder: os.truncate(folder / NAME, (folder / NAME).stat().st_size // 2), "damaged"),
}


@pytest.mark.parametrize(("change", "message"), TAMPERED.values(), ids=TAMPERED)
def test_a_file_that_was_damaged_or_made_to_deceive_ends_in_a_sentence(folder, change, message):
    change(folder)
    with pytest.raises(LabelsError, match=message) as raised:
        read_everything(folder)
    assert str(raised.value).count("\n") == 0
    assert str(raised.value).endswith(".")


def forged(folder, **changes):
    """Change an entry with a checksum that fits."""
    with database_of(folder) as connection:
        (content,) = connection.execute("SELECT content FROM entries WHERE n = 1").fetchone()
        text = json.dumps({**json.loads(content), **changes})
        connection.execute("UPDATE entries SET content = ?, crc = ? WHERE n = 1", (text, zlib.crc32(text.encode())))


def test_a_mask_that_would_fill_the_memory_is_refused(folder):
    import base64

    bomb = base64.b85encode(zlib.compress(bytes(2**24), 9)).decode()
    for side, bits in ((2**14, bomb * 2), (2**40, bomb), (100, bomb)):
        forged(folder, mask={"box": [0, 0, side, side], "bits": bits})
        with pytest.raises(LabelsError, match="damaged"):
            _ = open_journal(folder).objects[0].mask


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_are_changed_no_error_is_without_a_sentence(folder, tmp_path_factory, data):
    raw = (folder / NAME).read_bytes()
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 6))):
        # Most of the file is free space.
        at = data.draw(st.one_of(st.integers(0, 100), st.integers(0, len(raw) - 1)))
        changed[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    copy = tmp_path_factory.mktemp("changed")
    (copy / NAME).write_bytes(changed)
    with contextlib.suppress(NapariSamError):
        read_everything(copy)


# Copies, moves, and ends of programs


def killed_copy(folder, copy):
    """Copy a journal that is open, as it is on the disk when its program is killed."""
    shutil.copytree(folder, copy)
    return copy


def test_cut_at_any_byte_of_its_log_a_journal_has_the_entries_before(folder, tmp_path):
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        accept(journal, COUNT)
        accept(journal, COUNT + 1)
        copy = killed_copy(folder, tmp_path / "killed.journal")
    log = log_of(copy / NAME)
    raw, before = log.read_bytes(), COUNT
    for length in sorted({*range(0, len(raw), 997), *range(32, len(raw), 4096 + 24), len(raw)}):
        log.write_bytes(raw[:length])
        with open_journal(copy) as journal:
            count = len(journal.objects)
            assert labels_of(journal) == list(range(1, count + 1)) == [entry.label for entry in journal.entries]
            assert count >= before
            before = count
    assert before == COUNT + 2


def test_a_journal_that_was_moved_with_its_log_is_gone_on_with(folder, tmp_path):
    labels = target()
    with Journal(folder, labels, about=ABOUT, durable=False) as journal:
        accept(journal, COUNT)
        copy = killed_copy(folder, tmp_path / "killed.journal")
    moved = copy.rename(tmp_path / "other name.journal")
    assert read_header(moved) == {"journal": 2, **ABOUT}
    with Journal(moved, labels, about=ABOUT) as journal:
        assert labels_of(journal) == [1, 2, 3, 4, 5]
        assert journal.undo().label == 5
    assert names_in(moved) == [NAME]
    assert labels_of(open_journal(moved)) == [1, 2, 3, 4]


@pytest.fixture
def public(tmp_path, monkeypatch):
    """A folder that every user can reach, and another one for what they write."""
    with tempfile.TemporaryDirectory() as name:
        for path in (Path(name), Path(name, "temporary")):
            path.mkdir(exist_ok=True)
            path.chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(path))
        yield Path(name)
        monkeypatch.undo()


@contextlib.contextmanager
def read_only(folder):
    """Take all rights to change a folder away, also from root."""
    user = os.geteuid()
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        folder.chmod(0o755)


@POSIX_ONLY
@pytest.mark.parametrize("was_killed", [False, True])
def test_in_a_folder_that_is_read_only_a_journal_is_read_and_not_written(folder, public, was_killed):
    place = public / "a.journal"
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        accept(journal, COUNT)
        if was_killed:
            killed_copy(folder, place)
    if not was_killed:
        shutil.copytree(folder, place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    assert (log_of(place / NAME).name in before) == was_killed
    with read_only(place):
        with open_journal(place) as opened:
            assert labels_of(opened) == [1, 2, 3, 4, 5]
        assert read_header(place) == {"journal": 2, **ABOUT}
        with pytest.raises(OutputError, match="cannot be written"):
            Journal(place, target(), about=ABOUT)
    gc.collect()
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert names_in(public / "temporary") == []


def test_where_a_file_system_has_no_locks_a_journal_is_written_all_the_same(folder, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert not files.has_locks(folder / NAME)
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, COUNT)
        assert labels_of(open_journal(folder)) == [1, 2, 3, 4, 5]
    assert labels_of(open_journal(folder)) == [1, 2, 3, 4, 5]
    assert names_in(folder) == [NAME]


def test_a_journal_that_is_opened_and_closed_stays_as_it_is(folder):
    before = (folder / NAME).read_bytes()
    with Journal(folder, target(), about=ABOUT) as journal:
        assert len(journal.entries) == COUNT
    assert (folder / NAME).read_bytes() == before


def test_a_closed_journal_is_still_read_and_not_written(folder):
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, COUNT)
    assert labels_of(journal) == [1, 2, 3, 4, 5]
    assert journal.objects[4].mask.area == 64
    with pytest.raises(OutputError, match="open it for writing"):
        journal.undo()


# Logs of earlier versions


def test_a_log_is_converted_once_and_one_that_an_earlier_version_went_on_with_is_told(folder):
    log = as_former(folder)
    raw = log.read_bytes()
    with Journal(folder, target(), about=ABOUT) as journal:
        assert journal.converted_from == log
        accept(journal, COUNT)
    with Journal(folder, target(), about=ABOUT) as journal:
        assert journal.converted_from is journal.trouble is None
        assert labels_of(journal) == [1, 2, 3, 4, 5]
    assert log.read_bytes() == raw
    log.write_bytes(raw + raw.splitlines(keepends=True)[-1])
    for reading in (lambda: Journal(folder, target(), about=ABOUT), lambda: open_journal(folder)):
        with reading() as journal:
            assert "An earlier version has written to" in journal.trouble
            assert labels_of(journal) == [1, 2, 3, 4, 5]


CONVERT = """
import os, signal, sys
import numpy as np
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray

stop_at, seen = int(sys.argv[2]), 0

def count(event, given):
    global seen
    if event in ("os.rename", "os.remove", "sqlite3.connect") or (event == "open" and str(given[0]).endswith(".new")):
        seen += 1
        if seen == stop_at:
            os.kill(os.getpid(), signal.SIGKILL)

target = LabelArray(np.zeros((80, 80), np.uint16))
sys.addaudithook(count)
Journal(sys.argv[1], target, about={"image": "a.tif", "shape": [80, 80]}).close()
"""


@POSIX_ONLY
def test_a_conversion_that_is_killed_at_any_moment_has_not_happened_or_is_whole(folder):
    log = as_former(folder)
    raw, endings = log.read_bytes(), []
    for stop_at in range(1, 20):
        (folder / NAME).unlink(missing_ok=True)
        done = subprocess.run([sys.executable, "-c", CONVERT, str(folder), str(stop_at)], check=False)
        assert log.read_bytes() == raw
        endings.append((done.returncode, (folder / NAME).exists()))
        assert labels_of(open_journal(folder)) == [1, 2, 3, 4]
        with Journal(folder, target(), about=ABOUT) as journal:
            assert labels_of(journal) == [1, 2, 3, 4]
            assert not list(folder.glob(f"{UNFINISHED}*"))
        if done.returncode == 0:
            break
    assert endings[-1] == (0, True)
    assert {has for code, has in endings if code == -signal.SIGKILL} == {True, False}


# Processes and threads

OPEN = """
import sys
import numpy as np
from napari_sam.errors import OutputError
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.labels.array import LabelArray

print(len(open_journal(sys.argv[1]).objects))
try:
    Journal(sys.argv[1], LabelArray(np.zeros((80, 80), np.uint16))).close()
except OutputError as error:
    print(error)
"""


def test_a_second_process_is_refused_and_may_read(folder):
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, COUNT)
        done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True)
        count, refusal = done.stdout.splitlines()
        assert count == "5"
        assert "in use by another program" in refusal
        accept(journal, COUNT + 1)
    done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["6"]


def test_a_reader_follows_a_writer_that_comes_later(folder):
    with open_journal(folder) as reader:
        assert labels_of(reader) == [1, 2, 3, 4]
        with Journal(folder, target(), about=ABOUT) as journal:
            accept(journal, COUNT)
            assert labels_of(reader) in ([1, 2, 3, 4], [1, 2, 3, 4, 5])
            for number in range(COUNT + 1, 40):
                accept(journal, number)
            journal.close()
            found = labels_of(reader)
            assert found == list(range(1, len(found) + 1))
            assert [reader.object(label).mask.area for label in found] == [64] * len(found)


def test_threads_write_and_read_one_journal(folder):
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        numbers, failed = iter(range(COUNT, 60)), []
        turn = threading.Lock()

        def write():
            try:
                while True:
                    with turn:
                        number = next(numbers, None)
                    if number is None:
                        return
                    accept(journal, number)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        seen = 0
        while any(thread.is_alive() for thread in threads):
            rows = list(journal.objects)
            assert [row.label for row in rows] == list(range(1, len(rows) + 1))
            assert len(rows) >= seen
            assert journal.next_undo is not None
            seen = len(rows)
        for thread in threads:
            thread.join()
        assert not failed
        assert labels_of(journal) == list(range(1, 61))
        assert [entry.number for entry in journal.entries] == list(range(1, 61))
    with open_journal(folder) as again:
        assert [row.area for row in again.objects] == [64] * 60


# In memory


def test_a_journal_without_a_folder_undoes_and_redoes_in_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labels = target()
    with Journal(None, labels, about=ABOUT) as journal:
        for number in range(COUNT):
            accept(journal, number)
        before = labels.array.copy()
        journal.delete(2)
        assert labels_of(journal) == [1, 3, 4]
        assert journal.undo().label == 2
        assert np.array_equal(labels.array, before)
        assert [kind.name for kind in journal.classes] == ["cell"]
        journal.flush()
        with pytest.raises(LabelsError, match="in memory"):
            _ = journal.folder
    assert labels_of(journal) == [1, 2, 3, 4]
    assert names_in(tmp_path) == []


# Views


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_views_are_sliced_like_lists(folder, data):
    with open_journal(folder) as journal:
        start, stop = (data.draw(st.none() | st.integers(-6, 6)) for _ in range(2))
        step = data.draw(st.sampled_from([None, 1, -1, 2, -2]))
        for view in (journal.objects, journal.objects.ordered("area", True), journal.objects.of_class(1)):
            assert view[start:stop:step] == list(view)[start:stop:step]
        assert journal.entries[start:stop:step] == list(journal.entries)[start:stop:step]


def test_objects_are_ordered_and_filtered_by_the_database(tmp_path):
    rng = np.random.default_rng(0)
    with Journal(tmp_path / "a.journal", target(), durable=False) as journal:
        for number in range(40):
            top, left = (10 * at for at in divmod(number, 8))
            pixels = np.ones((int(rng.integers(1, 8)), 8), bool)
            score = float("nan") if number % 7 == 0 else float(rng.random())
            mask = Mask(Box(top, left, top + len(pixels), left + 8), pixels, score, 0.5)
            journal.accept(Plane.of(SHAPE), mask, class_name=(None, "b", "a")[number % 3])
        rows = list(journal.objects)
        keys = {
            "label": lambda row: row.label,
            "class": lambda row: row.label_class.name if row.label_class else "",
            "area": lambda row: row.area,
            "iou": lambda row: -1.0 if np.isnan(row.iou_prediction) else row.iou_prediction,
            "changed": lambda row: row.changed,
        }
        for order, key in keys.items():
            for descending in (False, True):
                expected = sorted(rows, key=lambda row, key=key: (key(row), row.label), reverse=descending)
                view = journal.objects.ordered(order, descending)
                assert [row.label for row in view] == [row.label for row in expected]
                assert view.labels().tolist() == [row.label for row in expected]
                assert view[11].label == expected[11].label
        some = journal.objects.of_class(2)
        assert [row.label for row in some] == [
            row.label for row in rows if row.label_class and row.label_class.number == 2
        ]
        assert len(some) == 13
        assert some.get(3).label == 3
        assert some.get(1) is some.get(2) is some.get(99) is None


def test_the_former_log_of_a_journal_gives_the_same_journal(folder, tmp_path):
    """The helper of these tests is right."""
    (tmp_path / "b.journal").mkdir()
    (tmp_path / "b.journal" / LINES).write_bytes(former_log_of(folder))
    first, second = open_journal(folder), open_journal(tmp_path / "b.journal")
    assert list(first.entries) == list(second.entries)
    assert list(first.objects) == list(second.objects)
