"""Journals that something else than this program has changed: nothing in them is ever lost."""

from __future__ import annotations

import codecs
import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, NapariSamError, OutputError
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.log import CUT, format_line
from napari_sam.labels.targets import LabelTarget

SHAPE = (60, 60)
ABOUT = {"shape": list(SHAPE)}
COUNT = 4


def target():
    return LabelTarget(np.zeros(SHAPE, np.uint16))


def accept(journal, number):
    box = Box(number * 10, number * 10, number * 10 + 8, number * 10 + 8)
    return journal.accept(Plane.of(SHAPE), Mask(box, np.ones((8, 8), bool)))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The bytes of a journal with some objects."""
    folder = tmp_path_factory.mktemp("written") / "a.journal"
    with Journal(folder, target(), about=ABOUT, durable=False) as journal:
        for number in range(COUNT):
            accept(journal, number)
    return (folder / "entries.jsonl").read_bytes()


@pytest.fixture
def journal_with(tmp_path):
    def put(raw):
        folder = tmp_path / "b.journal"
        folder.mkdir(exist_ok=True)
        (folder / "entries.jsonl").write_bytes(raw)
        return folder

    return put


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def content(folder):
    return (folder / "entries.jsonl").read_bytes()


CHANGES = {
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda raw: codecs.BOM_UTF8 + raw,
    "both": lambda raw: codecs.BOM_UTF8 + raw.replace(b"\n", b"\r\n"),
    "an empty line at the end": lambda raw: raw + b"\n",
    "no newline at the end": lambda raw: raw.removesuffix(b"\n"),
    "CRLF, and no newline at the end": lambda raw: raw.replace(b"\n", b"\r\n").removesuffix(b"\r\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_journal_whose_line_ends_were_changed_is_read_and_continued(written, journal_with, change):
    raw = change(written)
    folder = journal_with(raw)
    assert len(open_journal(folder).objects) == COUNT
    with Journal(folder, target(), about=ABOUT) as journal:
        assert journal.trouble is None
        accept(journal, COUNT)
    assert content(folder).startswith(raw)
    with Journal(folder, target(), about=ABOUT) as journal:
        assert [row.label for row in journal.objects] == [1, 2, 3, 4, 5]
    assert not (folder / CUT).exists()


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
    "a later version": (lambda _: format_line({"journal": 2}), "of version 2"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_journal_that_is_damaged_is_refused_and_stays_as_it_is(written, journal_with, change, message):
    raw = change(written)
    folder = journal_with(raw)
    for reading in (lambda: open_journal(folder), lambda: Journal(folder, target(), about=ABOUT)):
        with pytest.raises(LabelsError, match=message):
            reading()
    assert content(folder) == raw
    assert names_in(folder) == ["entries.jsonl"]


@pytest.mark.parametrize("zeros", [0, 7])
def test_an_unfinished_last_line_is_cut_off_and_a_copy_is_kept(written, journal_with, zeros):
    lines = written.splitlines(keepends=True)
    half = lines[-2][:-15] + b"\0" * zeros
    folder = journal_with(b"".join(lines[:-2]) + half)
    with Journal(folder, target(), about=ABOUT) as journal:
        assert len(journal.objects) == COUNT - 1
        assert f"moved to {CUT}" in journal.trouble
    assert content(folder) == b"".join(lines[:-2])
    assert (folder / CUT).read_bytes() == half + b"\n"


@pytest.mark.parametrize("length", [0, 1, 5, 12, 15, 24, 40])
def test_a_journal_that_was_stopped_at_its_first_line_is_begun_again(written, journal_with, length):
    folder = journal_with(written[:length])
    with Journal(folder, target(), about=ABOUT) as journal:
        accept(journal, 0)
    with Journal(folder, target(), about=ABOUT) as journal:
        assert len(journal.objects) == 1


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_whatever_byte_is_changed_no_byte_of_a_journal_is_lost(written, tmp_path_factory, data):
    at = data.draw(st.integers(0, len(written) - 1))
    length = data.draw(st.integers(0, 20))
    raw = written[:at] + data.draw(st.binary(max_size=8)) + written[at + length :]
    folder = tmp_path_factory.mktemp("changed")
    (folder / "entries.jsonl").write_bytes(raw)
    try:
        Journal(folder, target(), about=ABOUT).close()
    except NapariSamError:
        assert content(folder) == raw
        return
    copy = (folder / CUT).read_bytes().removesuffix(b"\n") if (folder / CUT).exists() else b""
    kept = content(folder)
    missing = next(n for n in range(len(raw) + 1) if kept.startswith(raw[: len(raw) - n]))
    assert raw.endswith(copy)
    # A cut mark is no loss; anything else that is missing is in the copy.
    assert missing <= len(copy) or re.search(rb'\n\["[0-9a-f]{8}",\{"written"[^\n]*$', raw)


def test_what_is_not_a_file_is_no_journal(tmp_path):
    for name, make in {"folder": os.mkdir, "pipe": os.mkfifo, "link": lambda path: path.symlink_to("nowhere")}.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder / "entries.jsonl")
        with pytest.raises(LabelsError, match="is not a file"):
            Journal(folder, target(), about=ABOUT)
        with pytest.raises(LabelsError, match="is not a file"):
            open_journal(folder)
        assert names_in(folder) == ["entries.jsonl"]


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
