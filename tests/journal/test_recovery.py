"""Journals that something else than this program has changed: nothing in them is ever lost."""

from __future__ import annotations

import codecs
import contextlib
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.journal.former import format_line, former_log_of

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, NapariSamError, OutputError
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.storage.files import NAME
from napari_sam.journal.storage.former_log import LINES
from napari_sam.labels.array import LabelArray

SHAPE = (60, 60)
ABOUT = {"shape": list(SHAPE)}
COUNT = 4


def target():
    return LabelArray(np.zeros(SHAPE, np.uint16))


def accept(journal, number):
    box = Box(number * 10, number * 10, number * 10 + 8, number * 10 + 8)
    return journal.accept(Plane.of(SHAPE), Mask(box, np.ones((8, 8), bool)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The log of a journal with some objects, as an earlier version wrote it."""
    folder = tmp_path_factory.mktemp("written") / "a.journal"
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        for number in range(COUNT):
            accept(journal, number)
    return former_log_of(folder)


@pytest.fixture
def journal_with(tmp_path):
    def put(raw):
        folder = tmp_path / "b.journal"
        folder.mkdir(exist_ok=True)
        (folder / NAME).unlink(missing_ok=True)
        (folder / LINES).write_bytes(raw)
        return folder

    return put


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def content(folder):
    return (folder / LINES).read_bytes()


CHANGES = {
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda raw: codecs.BOM_UTF8 + raw,
    "both": lambda raw: codecs.BOM_UTF8 + raw.replace(b"\n", b"\r\n"),
    "an empty line at the end": lambda raw: raw + b"\n",
    "no newline at the end": lambda raw: raw.removesuffix(b"\n"),
    "CRLF, and no newline at the end": lambda raw: raw.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_log_whose_line_ends_were_changed_is_read_and_continued(written, journal_with, change):
    raw = change(written)
    folder = journal_with(raw)
    assert len(open_journal(folder).objects) == COUNT
    assert names_in(folder) == [LINES]
    with Journal(folder, target(), about=ABOUT) as journal:
        assert journal.converted_from == folder / LINES
        assert journal.trouble is None
        accept(journal, COUNT)
    assert content(folder) == raw
    with Journal(folder, target(), about=ABOUT) as journal:
        assert journal.trouble is journal.converted_from is None
        assert [row.label for row in journal.objects] == [1, 2, 3, 4, 5]
    assert sorted(names_in(folder)) == [LINES, NAME]


DAMAGES = {
    "UTF-16": (lambda raw: raw.decode().encode("utf-16"), "saved as UTF-16"),
    "UTF-16 without a mark": (lambda raw: raw.decode().encode("utf-16-le"), "saved as UTF-16"),
    "the last objects": (
        lambda raw: b"\n".join([*raw.split(b"\n")[:5], *[b"#" * 9] * 4, b""]),
        "Line 6 .* damaged:",
    ),
    "one in the middle": (lambda raw: raw.replace(b'"accept"', b'"eccapt"', 1), "Line 2 .* damaged and others follow"),
    "the header": (lambda raw: raw.replace(b"journal", b"jurnal", 1), "not a journal of this program"),
    "a last line that ends": (lambda raw: raw[:-20] + b"\n", "Line 9 of .* is damaged:"),
    "text at the end": (lambda raw: raw + b"my own notes", "Line 10 of .* is damaged:"),
    "the user's own lines": (lambda _: b'{"id":1,"text":"my own data"}\n' * 500, "not a journal of this program"),
    "the user's own text": (lambda _: b"nothing of yours", "not a journal of this program"),
    "a later version": (lambda _: format_line({"journal": 3}), "of version 3"),
    "a missing entry": (
        lambda raw: b"".join(raw.splitlines(keepends=True)[n] for n in (0, 3, 4)),
        "Entry 1 .* missing",
    ),
    "an entry of another program": (
        lambda _: format_line({"journal": 1}) + format_line({"n": 1, "what": "explode", "time": "2026-01-01"}),
        "Line 2 .* is not understood",
    ),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_log_that_is_damaged_is_refused_and_stays_as_it_is(written, journal_with, change, message):
    raw = change(written)
    folder = journal_with(raw)
    for reading in (lambda: open_journal(folder), lambda: Journal(folder, target(), about=ABOUT)):
        with pytest.raises(LabelsError, match=message):
            reading()
    assert content(folder) == raw
    assert names_in(folder) == [LINES]


@pytest.mark.parametrize("zeros", [0, 7])
def test_an_unfinished_last_line_of_a_log_is_left_out_and_stays_in_it(written, journal_with, zeros):
    lines = written.splitlines(keepends=True)
    raw = b"".join(lines[:-2]) + lines[-2][:-15] + b"\0" * zeros
    folder = journal_with(raw)
    for opened in (open_journal(folder), Journal(folder, target(), about=ABOUT)):
        with opened as journal:
            assert len(journal.objects) == COUNT - 1
            assert "was cut off when a program was stopped" in journal.trouble
    assert content(folder) == raw


@pytest.mark.parametrize("length", [0, 1, 5, 12, 15, 24, 40])
def test_a_journal_that_was_stopped_at_its_first_line_is_begun_again(written, journal_with, length):
    folder = journal_with(written[:length])
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, 0)
    with Journal(folder, target(), about=ABOUT) as journal:
        assert len(journal.objects) == 1


def test_cut_at_every_byte_of_its_last_entry_a_log_has_all_others(written, journal_with):
    lines = written.splitlines(keepends=True)
    start, whole = len(b"".join(lines[:-2])), len(written) - len(lines[-1]) - 1  # Its end may be missing.
    for length in range(start, len(written) + 1):
        journal = open_journal(journal_with(written[:length]))
        assert len(journal.objects) == (COUNT if length >= whole else COUNT - 1), length
        if length <= whole + 1:  # What follows is the mark, of which little is told from the beginning of an entry.
            assert (journal.trouble is not None) == (start < length < whole)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_byte_is_changed_a_log_stays_as_it_is(written, tmp_path_factory, data):
    at = data.draw(st.integers(0, len(written) - 1))
    length = data.draw(st.integers(0, 20))
    raw = written[:at] + data.draw(st.binary(max_size=8)) + written[at + length :]
    folder = tmp_path_factory.mktemp("changed")
    (folder / LINES).write_bytes(raw)
    with contextlib.suppress(NapariSamError):
        Journal(folder, target(), about=ABOUT).close()
    assert content(folder) == raw


@pytest.mark.parametrize("file", [LINES, NAME])
def test_what_is_not_a_file_is_no_journal(tmp_path, file):
    for name, make in {"folder": os.mkdir, "pipe": os.mkfifo, "link": lambda path: path.symlink_to("nowhere")}.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder / file)
        with pytest.raises(LabelsError, match="is not a file"):
            Journal(folder, target(), about=ABOUT)
        with pytest.raises(LabelsError, match="is not a file"):
            open_journal(folder)
        assert names_in(folder) == [file]


def test_a_file_of_the_user_with_the_name_of_the_lock_stays(tmp_path):
    folder = tmp_path / "c.journal"
    folder.mkdir()
    (folder / "lock").write_text("mine")
    with Journal(folder, target(), about=ABOUT) as journal:
        with pytest.raises(OutputError, match="in use"):
            Journal(folder, target(), about=ABOUT)
        accept(journal, 0)
    assert (folder / "lock").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_refused_and_the_parent_goes_on(tmp_path):
    folder = tmp_path / "d.journal"
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, 0)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                accept(journal, 1)
                os.write(writing, b"accepted")
            except OutputError as error:
                os.write(writing, str(error).encode())
            journal.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert b"parent process" in os.read(reading, 1000)
        accept(journal, 1)
        with pytest.raises(OutputError, match="in use"):  # The child has not freed it.
            Journal(folder, target(), about=ABOUT)
    assert [row.label for row in open_journal(folder).objects] == [1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_lock_ends_with_its_process_while_a_forked_child_lives(tmp_path):
    folder = tmp_path / "e.journal"
    reading, writing = os.pipe()
    waiting, freeing = os.pipe()
    parent = os.fork()
    if parent == 0:
        journal = Journal(folder, target(), about=ABOUT)
        if os.fork() == 0:
            os.write(writing, b".")
            os.read(waiting, 1)
            os._exit(0)
        os.read(reading, 1)
        os.kill(os.getpid(), 9)
        journal.close()
    os.waitpid(parent, 0)
    try:
        Journal(folder, target(), about=ABOUT).close()
    finally:
        os.write(freeing, b".")
