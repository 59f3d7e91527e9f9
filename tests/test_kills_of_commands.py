"""Every command that writes, killed at random moments and run again: as if it had never been killed.

NAPARI_SAM_KILLS says how many times each command is killed; without it, a few of them are killed once. A run is killed
at a random moment, or right after files appear that were not there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.data import coins

from napari_sam.models.registry import REGISTRY
from napari_sam.stores.journal import open_journal
from napari_sam.stores.pyramid import LabelPyramid
from tests.forked_cli import start

KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "1"))
ROWS, COLS = range(20, 280, 130), range(20, 360, 130)
# The others come to their places as one of these; all are killed where NAPARI_SAM_KILLS is set.
FEW = ["segment with a journal", "segment --append"]


@dataclass(frozen=True)
class Command:
    """A command line, and what has to be there before it runs."""

    arguments: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()
    ignored: tuple[str, ...] = ()


BOXES = [f"--box={r},{c},{r + 40},{c + 40}" for r in ROWS for c in COLS]
SEGMENT = ("segment", "coins.tif", "--prompts", "many.csv")
LABELS = ("segment", "coins.tif", "--box", "30,130,75,180", "--out", "l.ome.zarr")
WITH_JOURNAL = ("segment", "coins.tif", "--prompts", "few.csv", "--journal", "--out", "l.ome.zarr")
COMMANDS = {
    "segment to TIFF": Command((*SEGMENT, "--out", "l.tif", "--json", "l.json", "--overwrite")),
    "segment to zarr": Command((*SEGMENT, "--out", "l.zarr")),
    "segment to OME-Zarr": Command((*SEGMENT, "--out", "l.ome.zarr")),
    "segment with a journal": Command((*SEGMENT, "--journal", "--out", "l.ome.zarr"), ignored=("time",)),
    "segment to TIFF with a journal": Command((*SEGMENT, "--journal", "--out", "l.tif"), ignored=("time",)),
    "segment over older labels": Command(
        (*SEGMENT, "--journal", "--overwrite", "--out", "l.ome.zarr"), (WITH_JOURNAL,), ignored=("time",)
    ),
    "segment --append": Command((*SEGMENT, "--append", "--out", "l.ome.zarr"), (LABELS,)),
    "segment --append of boxes": Command(
        ("segment", "coins.tif", *BOXES, "--append", "--out", "l.ome.zarr"),
        (LABELS,),
    ),
    "segment --append with a journal": Command(
        (*SEGMENT, "--append", "--journal", "--out", "l.ome.zarr"), (WITH_JOURNAL,), ignored=("time",)
    ),
    "replay": Command(
        ("replay", "l.ome.zarr", "--out", "again.ome.zarr", "--prompts", "again.csv", "--overwrite"), (WITH_JOURNAL,)
    ),
    "encode": Command(("encode", "coins.tif", "--store", "store", "--level", "-2")),
    "convert": Command(("convert", "compact.safetensors", "c.safetensors", "--overwrite")),
    "train": Command(("train", "train.toml")),
}


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stderr: str


def run(folder: Path, *arguments: str) -> Done:
    return ended(start(folder, arguments, log_of(folder)), log_of(folder))


def ended(process, log):
    process.join()
    return Done(process.exitcode, log.read_text())


def log_of(folder):
    return folder.parent / f"{folder.name}.log"


def prepare(folder: Path, command: Command) -> None:
    folder.mkdir()
    tifffile.imwrite(folder / "coins.tif", coins())
    boxes = [(r, c) for r in ROWS for c in COLS]
    for name, some in (("many.csv", boxes), ("few.csv", boxes[::4])):
        lines = [f"{n},{r},{c},{r + 40},{c + 40}" for n, (r, c) in enumerate(some, 1)]
        (folder / name).write_text("\n".join(["object,top,left,bottom,right", *lines, ""]))
    if command.arguments[0] == "convert":
        shutil.copy(REGISTRY["compact"].path, folder / "compact.safetensors")
    if command.arguments[0] == "train":
        tifffile.imwrite(folder / "labels.tif", (coins() > 150).astype(np.uint8))
        (folder / "train.toml").write_text(
            'out = "trained"\npairs = [["coins.tif", "labels.tif"]]\nsteps = 4\nbatch = 1\nobjects = 1\nrounds = 1\n'
            "save_every = 1\nthreads = 1\nlargest = 1.0\n"
        )
    for needed in command.needs:
        done = run(folder, *needed)
        assert done.returncode == 0, done.stderr


def files_in(folder: Path, ignored: tuple[str, ...]) -> dict[str, object]:
    """Return the digest of every file; of journals, what their entries did."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "entries.jsonl" and "time" in ignored:
            journal = open_journal(path)
            found[name] = [(e.what, e.label, [p.bits for p in e.patches]) for e in journal.entries]
        elif path.name == "entries.jsonl.cut":
            continue  # The copy of a line that was cut off stays on purpose.
        elif path.name in ("curve.png", "state.pt"):
            found[name] = "a file"  # The time is in the picture, and the state in another order after it was read.
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "a folder"
    return found


def kill_once(folder: Path, command: Command, seconds: float, pick: random.Random) -> bool:
    """Start a command and kill it: at any time, or a moment after it wrote something; say whether it was running."""
    before = names_in(folder)
    process = start(folder, command.arguments, log_of(folder))
    changes, wanted = 0, pick.randint(1, MOST_CHANGES.get(command, 8))
    if pick.random() < 0.2:
        time.sleep(pick.uniform(0, seconds))
    else:
        while process.is_alive() and changes < wanted:
            now = names_in(folder)
            changes, before = changes + (now != before), now
        if changes < wanted:
            MOST_CHANGES[command] = max(changes - 1, 1)  # So often is enough; the next one is killed earlier.
        time.sleep(pick.choice([0, 0, 0.001, 0.01]))
    process.kill()
    process.join()
    assert process.exitcode in (0, -9), f"It ended by itself:\n{log_of(folder).read_text()}"
    return process.exitcode == -9


def names_in(folder: Path) -> set[str]:
    return {
        str(Path(root, name).relative_to(folder))
        for root, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """What each command leaves that nobody kills, how long it takes, and a folder to begin in."""
    known = {}

    def of(name):
        if name not in known:
            base = tmp_path_factory.mktemp("commands")
            prepare(base / "begin", COMMANDS[name])
            shutil.copytree(base / "begin", base / "whole")
            start = time.monotonic()
            done = run(base / "whole", *COMMANDS[name].arguments)
            assert done.returncode == 0, done.stderr
            known[name] = base, time.monotonic() - start
        return known[name]

    return of


@pytest.mark.parametrize("name", COMMANDS if "NAPARI_SAM_KILLS" in os.environ else FEW)
def test_a_command_that_was_killed_and_runs_again_leaves_what_one_run_leaves(finished, name):
    command, pick = COMMANDS[name], random.Random(name)
    base, seconds = finished(name)
    whole = files_in(base / "whole", command.ignored)
    for number in range(KILLS):
        folder = base / f"killed{number}"
        shutil.copytree(base / "begin", folder)
        times = 0
        while times < pick.choice([1, 1, 2]):
            if not kill_once(folder, command, seconds, pick):
                break  # It had ended before.
            times += 1
        left = sorted(names_in(folder) - names_in(base / "begin"))
        # It may have been killed when all was done: then a second run has nothing to add, or is refused.
        has_ended = whole.items() <= files_in(folder, command.ignored).items()
        done = run(folder, *command.arguments)
        assert done.returncode == 0 or has_ended, (done.stderr, left)
        now = files_in(folder, command.ignored)
        assert {k: v for k, v in now.items() if whole.get(k) != v} == {}, (times, done.stderr)
        assert whole.keys() == now.keys()
        sys.stderr.write(f"{name}: killed {times} times; it had left {len(left)} files.\n")
        shutil.rmtree(folder)


MOST_CHANGES: dict[Command, int] = {}
WRITERS = ["segment --append", "segment to TIFF", "segment to OME-Zarr", "encode", "convert", "replay"]


@pytest.mark.parametrize("name", WRITERS if "NAPARI_SAM_KILLS" in os.environ else WRITERS[:1])
def test_two_runs_of_a_command_at_the_same_time_lose_and_double_nothing(finished, name):
    command = COMMANDS[name]
    base, _ = finished(name)
    folder = base / "two"
    shutil.copytree(base / "begin", folder)
    logs = [base / f"two{number}.log" for number in range(2)]
    both = [start(folder, command.arguments, log) for log in logs]
    done = [ended(process, log) for process, log in zip(both, logs, strict=True)]
    said, codes = [each.stderr for each in done], [each.returncode for each in done]
    if name == "segment --append":
        # Whoever comes second finds every place taken, or both find a part: no object is there twice.
        assert 0 in codes or all("belong" in text for text in said), said
        labels = np.asarray(LabelPyramid.open(folder / "l.ome.zarr"))
        alone = np.asarray(LabelPyramid.open(base / "whole" / "l.ome.zarr"))
        np.testing.assert_array_equal(labels > 0, alone > 0)
        assert len(np.unique(labels)) == len(np.unique(alone))
    else:
        assert 0 in codes, said
        assert all(code == 0 or "exists" in text or "meanwhile" in text for code, text in zip(codes, said, strict=True))
        assert files_in(folder, ()) == files_in(base / "whole", ())
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    shutil.rmtree(folder)


def test_work_of_the_user_beside_the_output_of_a_killed_run_stays(tmp_path):
    mine = {
        ".napari-sam-notes": "mine",
        ".l-0123456789abcdef.tif": "mine",
        ".napari-sam-0123456789abcdef/notes": "mine",
    }
    mine |= {".napari-sam-0123456789abcdee/owner.json": json.dumps({"owner": "somebody else"})}
    for name, text in mine.items():
        path = tmp_path / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    tifffile.imwrite(tmp_path / "work/coins.tif", coins())
    done = run(tmp_path / "work", "segment", "coins.tif", "--point", "51,155", "--out", "l.tif")
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "work" / name).read_text() for name in mine} == mine
