"""A real napari killed at random moments, again and again in one piece of work: nothing accepted is ever lost.

NAPARI_SAM_KILLS says how many times it is killed, labels in memory and on disk in turns; every start but the first two
continues what the last one left.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.plugin.annotating import labels_of, make_controller
from tests.plugin.real_napari import KINDS, SAYS, digest, image_of, pyramid_of
from tifffile import imwrite

from napari_sam.cli.app import app
from napari_sam.journal.journal import open_journal

pytestmark = pytest.mark.usefixtures("screen")

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "4"))
# An operation takes about half a second, a start about five; what follows an entry of the journal a hundredth.
MAX_OPERATIONS, OF_AN_OPERATION, OF_A_START, AFTER_AN_ENTRY = 6, 0.7, 8.0, 0.02


@dataclass
class State:
    """How a piece of work stands: how many entries its journal has, and what stands for its labels."""

    number: int = 0
    digest: str = ""


class Work:
    """A piece of work on one image, gone on with after every kill."""

    def __init__(self, kind, folder, notes):
        self.kind, self.folder, self.notes = kind, folder, notes
        folder.mkdir()
        self.image = folder / "image.tif"
        imwrite(self.image, image_of(kind), photometric="minisblack")
        self.known, self.further = State(), 0

    @contextlib.contextmanager
    def killed(self, seed):
        """Give a napari that annotates, and kill it in the end."""
        command = [sys.executable, "-m", "tests.plugin.real_napari", str(self.folder), self.kind, str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CONFIG_HOME": str(self.folder / "config")}
        said = self.folder / "stderr.txt"
        with said.open("w") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True, cwd=ROOT
            )
            with process:
                try:
                    yield process
                finally:
                    process.kill()
        assert process.returncode == -signal.SIGKILL, f"It ended by itself:\n{said.read_text()}"

    def annotate(self, pick):
        """Annotate for a random while, and remember what the killed program said last."""
        operations = pick.randint(0, MAX_OPERATIONS)
        lines = []
        with self.killed(pick.randrange(10**6)) as process:
            while operations > sum(line.startswith(SAYS) for line in lines) and (line := process.stdout.readline()):
                lines.append(line)
            if operations and pick.random() < 0.5:
                self._wait_for_an_entry(process)
                time.sleep(pick.uniform(0, AFTER_AN_ENTRY))
            else:
                time.sleep(pick.uniform(0, OF_AN_OPERATION if operations else OF_A_START))
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        assert not any("Error" in line for line in lines), "".join(lines)  # napari prints what it survives.
        said = [json.loads(line.removeprefix(SAYS)) for line in lines if line.startswith(SAYS) and line[-1] == "\n"]
        if said and said[0]["what"] == "begin":
            assert said[0]["digest"] == self.known.digest  # The window put back what was there.
        if said:
            self.known = State(said[-1]["number"], said[-1]["digest"])
        return len(said)

    def _wait_for_an_entry(self, process):
        """Wait until something is being accepted: the journal has it, the labels and the window may not."""
        known = self._length()
        while self._length() == known and process.poll() is None:
            time.sleep(0.0005)

    def _length(self):
        return sum(path.stat().st_size for path in self.folder.parent.rglob("journal.sqlite*"))

    def check(self, out):
        """Open it again as a user does: it is as it was said to be, or one operation further, and so is the replay."""
        journal = self.journal()
        if journal is None:
            assert self.known.number == 0
            return 0
        number = journal._history.number
        self.further += number - self.known.number
        assert number - self.known.number in (0, 1)
        controller = make_controller(image_of(self.kind), self.notes, pyramid_of(self.folder, self.kind))
        try:
            self._continue(controller, journal)
            labels = labels_of(controller)
            if number > self.known.number:
                self._step_back_and_forth(controller, labels)
            assert digest(labels_of(controller)) == digest(labels)
            rows = controller.objects.rows
            assert {row.label for row in rows if row.area} == set(np.unique(labels).tolist()) - {0}
            self.known = State(controller.objects.journal.journal._history.number, digest(labels))
        finally:
            controller.close()
        app(["replay", str(journal.folder), "--image", str(self.image), "--out", str(out)], standalone_mode=False)
        np.testing.assert_array_equal(zarr.open_array(out, mode="r")[:], labels)
        return len(rows)

    def journal(self):
        """The journal, to be read, or None while nothing was begun."""
        pyramid = pyramid_of(self.folder, self.kind)
        places = Path(os.environ["NAPARI_SAM_CACHE"]).glob("journals/*") if pyramid is None else [pyramid]
        found = [place for place in places if place.with_name(f"{place.name}.journal").exists() or pyramid is None]
        return open_journal(found[0]) if found else None

    def _continue(self, controller, journal):
        look = controller.journals.look_job(controller.session.image)
        if look is not None:  # Else the controller has looked already.
            look()
        if self.kind == "memory":
            assert controller.objects.offer.count == len(journal.objects)
            controller.objects.resume()
        assert self.notes == [] or "was cut off" in self.notes.pop()
        if self.known.number == journal._history.number:
            assert digest(labels_of(controller)) == self.known.digest

    def _step_back_and_forth(self, controller, labels):
        """The operation that was under way is whole: a step back leads to what was said last."""
        there, back = controller.undo.undo, controller.undo.redo
        if self._last_entry().what != "undo":
            there, back = back, there
        back()
        if self.known.number:
            assert digest(labels_of(controller)) == self.known.digest
        else:
            assert not labels_of(controller).any()
        there()

    def _last_entry(self):
        history = self.journal()._history
        return history.entry(history.number)


def test_a_napari_that_is_killed_at_any_moment_loses_nothing_that_was_accepted(tmp_path, notes):
    pick = random.Random(11)
    works = [Work(kind, tmp_path / kind, notes) for kind in KINDS]
    for moment in range(KILLS):
        work = works[moment % 2]
        said = work.annotate(pick)
        count = work.check(tmp_path / f"again{moment}.zarr")
        sys.stderr.write(
            f"Kill {moment + 1}, {work.kind}: {said} reports, then {count} objects after {work.known.number} entries; "
            f"so far {work.further} times one operation further than the last report.\n"
        )
    assert all(work.known.number for work in works)
