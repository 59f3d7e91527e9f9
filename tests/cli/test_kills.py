"""Every command that writes, killed at random moments and run again: as if it had never been killed.

NAPARI_SAM_KILLS says how many times each command is killed; without it, a few of them are killed once. Half of the
kills come right before a change to a file, which is drawn from all changes of a run that nobody kills; the others come
from outside, a moment after one. A run that ends before its kill does not count, and is started anew with an earlier
one.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.data import coins
from tests.forked_cli import kill_when_reached, start

from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.weights.registry import REGISTRY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")

IS_LONG = "NAPARI_SAM_KILLS" in os.environ
KILLS = int(os.environ.get("NAPARI_SAM_KILLS", "1"))
ROWS, COLS = range(20, 280, 130), range(20, 360, 130)
# Of kills from outside: the moments after a change to a file, in seconds.
DELAYS = (0.0, 0.0, 0.0002, 0.001, 0.004, 0.015)


@dataclass(frozen=True)
class Command:
    """A command line, and what has to be there before it runs."""

    arguments: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()


BOXES = [f"--box={r},{c},{r + 40},{c + 40}" for r in ROWS for c in COLS]
SEGMENT = ("segment", "coins.tif", "--prompts", "many.csv")
LABELS = ("segment", "coins.tif", "--box", "30,130,75,180", "--out", "l.ome.zarr")
WITH_JOURNAL = ("segment", "coins.tif", "--prompts", "few.csv", "--journal", "--out", "l.ome.zarr")
FIND = ("find", "discs.tif", "disc", "--contrast", "0,255", "--store", "store")
EVERYTHING = ("everything", "discs.tif", "--contrast", "0,255", "--grid", "--points-per-side", "8", "--sizes", "30,36")
VOLUME = (EVERYTHING[0], "volume.tif", *EVERYTHING[2:])
COMMANDS = {
    "segment to TIFF": Command((*SEGMENT, "--out", "l.tif", "--json", "l.json", "--overwrite")),
    "segment to zarr": Command((*SEGMENT, "--out", "l.zarr")),
    "segment to OME-Zarr": Command((*SEGMENT, "--out", "l.ome.zarr")),
    "segment with a journal": Command((*SEGMENT, "--journal", "--out", "l.ome.zarr")),
    "segment to TIFF with a journal": Command((*SEGMENT, "--journal", "--out", "l.tif")),
    "segment over older labels": Command(
        (*SEGMENT, "--journal", "--overwrite", "--out", "l.ome.zarr"), (WITH_JOURNAL,)
    ),
    "segment --append": Command((*SEGMENT, "--append", "--out", "l.ome.zarr"), (LABELS,)),
    "segment --append of boxes": Command(
        ("segment", "coins.tif", *BOXES, "--append", "--out", "l.ome.zarr"), (LABELS,)
    ),
    "segment --append with a journal": Command(
        (*SEGMENT, "--append", "--journal", "--out", "l.ome.zarr"), (WITH_JOURNAL,)
    ),
    "find to TIFF": Command((*FIND, "--out", "l.tif", "--json", "l.json", "--overwrite")),
    "find to OME-Zarr": Command((*FIND, "--out", "l.ome.zarr")),
    "everything to OME-Zarr": Command((*EVERYTHING, "--out", "l.ome.zarr")),
    "everything to TIFF": Command((*EVERYTHING, "--out", "l.tif")),
    "everything over older labels": Command(
        (*EVERYTHING, "--out", "l.ome.zarr", "--overwrite", "--max-overlap", "0.2"),
        ((*EVERYTHING, "--out", "l.ome.zarr"),),
    ),
    "everything of a volume to OME-Zarr": Command((*VOLUME, "--out", "l.ome.zarr")),
    "everything of a volume to TIFF": Command((*VOLUME, "--out", "l.tif")),
    "everything of two images": Command((*EVERYTHING, "coins.tif", "--region", "0,0,150,200", "--out", "labels")),
    "propagate to TIFF": Command(
        ("propagate", "volume.tif", "--prompts", "planes.csv", "--contrast", "0,255", "--out", "l.tif")
    ),
    "replay to OME-Zarr": Command(
        ("replay", "l.ome.zarr", "--out", "again.ome.zarr", "--prompts", "again.csv", "--overwrite"), (WITH_JOURNAL,)
    ),
    "replay to TIFF, with classes": Command(
        ("replay", "l.ome.zarr", "--out", "again.tif", "--semantic", "classes.zarr", "--overwrite"), (WITH_JOURNAL,)
    ),
    "replay by another model": Command(
        ("replay", "l.ome.zarr", "--image", "coins.tif", "--model", "compact", "--out", "again.ome.zarr"),
        (WITH_JOURNAL,),
    ),
    "encode": Command(("encode", "coins.tif", "--store", "store", "--level", "0")),
    "convert": Command(("convert", "compact.safetensors", "c.safetensors", "--overwrite")),
    "train": Command(("train", "train.toml")),
    "evaluate": Command(
        ("evaluate", "manifest.json", "--json", "table.json", "--max-clicks", "2", "--objects-per-subset", "1")
    ),
    "demo": Command(("demo", "--out", "demo", "--no-show")),
}
# The others come to their places as one of these; all are killed where NAPARI_SAM_KILLS is set.
FEW = [
    *("segment with a journal", "segment --append", "find to TIFF", "replay to TIFF, with classes"),
    "everything to OME-Zarr",
]


# What a run says that comes second.
REFUSALS = ("exists", "meanwhile", "another program", "Another training run")


@dataclass
class Tally:
    """What the kills of one command did."""

    kills: int = 0
    left: int = 0
    wrong: list[str] = field(default_factory=list)
    remaining: list[str] = field(default_factory=list)


def log_of(folder: Path) -> Path:
    return folder.parent / f"{folder.name}.log"


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command that nobody kills; return its exit status and what it printed."""
    running = start(folder, arguments, log_of(folder))
    return running.end(), running.log.read_text()


def prepare(folder: Path, command: Command) -> None:
    folder.mkdir()
    tifffile.imwrite(folder / "coins.tif", coins())
    tifffile.imwrite(folder / "mask.tif", (coins() > 150).astype(np.uint8))
    rows, cols = np.mgrid[:200, :300] % 100 - 50
    discs = np.where(rows**2 + cols**2 <= 121, 200, 20).astype(np.uint8)
    tifffile.imwrite(folder / "discs.tif", discs)
    tifffile.imwrite(folder / "volume.tif", np.stack([discs, discs[::-1]]), photometric="minisblack")
    boxes = [(r, c) for r in ROWS for c in COLS]
    for name, some in (("many.csv", boxes), ("few.csv", boxes[::4])):
        lines = [f"{n},{r},{c},{r + 40},{c + 40},{'ab'[n % 2]}" for n, (r, c) in enumerate(some, 1)]
        (folder / name).write_text("\n".join(["object,top,left,bottom,right,class", *lines, ""]))
    (folder / "planes.csv").write_text("object,row,col,plane\n1,50,50,0\n2,150,150,1\n")
    shutil.copy(REGISTRY["compact"].path, folder / "compact.safetensors")
    (folder / "train.toml").write_text(
        'out = "trained"\npairs = [["coins.tif", "mask.tif"]]\nsteps = 4\nbatch = 1\nobjects = 1\nrounds = 1\n'
        "side = 64\nsave_every = 1\nthreads = 1\nlargest = 1.0\n"
    )
    entry = {"image": "coins.tif", "mask": "mask.tif", "subset": "coins", "kind": "semantic"}
    (folder / "manifest.json").write_text(json.dumps([entry]))
    for needed in command.needs:
        status, said = run(folder, *needed)
        assert status == 0, said


def names_in(folder: Path) -> set[str]:
    return {
        str(Path(root, name).relative_to(folder))
        for root, folders, names in os.walk(folder)
        for name in (*folders, *names)
    }


def contents_of(folder: Path) -> dict[str, object]:
    """Return the digest of every file; of journals, what their entries did."""
    found: dict[str, object] = {}
    for name in sorted(names_in(folder)):
        path = folder / name
        if path.name == "journal.sqlite":  # The time of each entry is in it.
            found[name] = [(e.what, e.label, [p.bits for p in e.patches]) for e in open_journal(path).entries]
        elif path.name in ("curve.png", "state.pt"):
            found[name] = "a file"  # The time is in the picture, and the state in another order after it was read.
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
    return found


def is_killed(folder: Path, command: Command, most: int, pick: random.Random, dies: bool) -> bool:
    """Start a command and kill it at one of its first changes to files; say whether it was still running."""
    running = start(folder, command.arguments, log_of(folder), stop_at=pick.randint(1, most), dies=dies)
    status = running.end() if dies else kill_when_reached(running, pick.choice(DELAYS))
    return status == -signal.SIGKILL


def killed(begin: Path, folder: Path, command: Command, changes: int, pick: random.Random) -> int:
    """Kill a command once or twice in a copy of a folder; return how many times."""
    dies, most = pick.random() < 0.5, changes
    while True:
        shutil.copytree(begin, folder)
        if is_killed(folder, command, most, pick, dies):
            break
        assert most > 1 or not dies, "A command that changes nothing cannot be killed at a change."
        shutil.rmtree(folder)
        dies, most = True, max(most // 2, 1)
    # The second time all may be done by the first run, or it ends before.
    return 1 + (pick.random() < 0.3 and is_killed(folder, command, changes, pick, pick.random() < 0.5))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder to begin a command in, what it leaves that nobody kills, and how many changes to files it makes."""
    known = {}

    def of(name):
        if name not in known:
            base = tmp_path_factory.mktemp("commands")
            prepare(base / "begin", COMMANDS[name])
            # The first run fills the cache, so that the second one changes no more than one that is killed.
            for folder in ("first", "whole"):
                shutil.copytree(base / "begin", base / folder)
                status, said = run(base / folder, *COMMANDS[name].arguments)
                assert status == 0, said
            assert contents_of(base / "first") == contents_of(base / "whole"), "Two runs differ that nobody killed."
            known[name] = base, int((base / "whole.changes").read_text())
        return known[name]

    return of


@pytest.mark.parametrize("name", COMMANDS if IS_LONG else FEW)
def test_a_command_that_was_killed_and_runs_again_leaves_what_one_run_leaves(finished, name):
    command, pick, tally = COMMANDS[name], random.Random(name), Tally()
    base, changes = finished(name)
    whole = contents_of(base / "whole")
    for number in range(KILLS):
        folder = base / f"killed{number}"
        tally.kills += killed(base / "begin", folder, command, changes, pick)
        tally.left = max(tally.left, len(names_in(folder) - names_in(base / "whole")))
        # It may have been killed when all was done: then the next run has nothing to add, or is refused.
        had_ended = whole.items() <= contents_of(folder).items()
        status, said = run(folder, *command.arguments)
        now = contents_of(folder)
        if status != 0 and not had_ended:
            tally.wrong.append(f"run {number}: {said}")
        tally.wrong += [f"run {number}: {at}" for at in sorted(whole) if now.get(at) != whole[at]]
        tally.remaining += [f"run {number}: {at}" for at in sorted(now.keys() - whole.keys())]
        shutil.rmtree(folder)
    sys.stderr.write(
        f"| {name} | {changes} | {tally.kills} | {len(tally.wrong)} | {tally.left} | {len(tally.remaining)} |\n"
    )
    assert not tally.wrong, "\n".join(tally.wrong)
    assert not tally.remaining, "\n".join(tally.remaining)
    assert tally.kills >= KILLS


@pytest.mark.parametrize("name", COMMANDS if IS_LONG else ["segment --append", "everything to OME-Zarr"])
def test_two_runs_of_a_command_at_the_same_time_lose_and_double_nothing(finished, name):
    command = COMMANDS[name]
    base, _ = finished(name)
    folder, whole = base / "two", base / "whole"
    shutil.copytree(base / "begin", folder)
    both = [start(folder, command.arguments, base / f"two{number}.log") for number in range(2)]
    statuses = [running.end() for running in both]
    said = [running.log.read_text() for running in both]
    if "--append" in command.arguments:
        # Whoever comes second finds every place taken, or both find a part: no object is there twice.
        assert 0 in statuses or all("belong" in text for text in said), said
        labels, alone = (np.asarray(LabelPyramid.open(at / "l.ome.zarr")) for at in (folder, whole))
        np.testing.assert_array_equal(labels > 0, alone > 0)
        assert len(np.unique(labels)) == len(np.unique(alone))
        assert names_in(folder) == names_in(whole)
        for journal in folder.glob("*.journal"):
            numbers = [entry.label for entry in open_journal(journal).entries]
            assert sorted(numbers) == sorted(set(numbers))
            assert len(numbers) == len(open_journal(whole / journal.name).entries)
    else:
        assert 0 in statuses, said
        refused = [text for status, text in zip(statuses, said, strict=True) if status != 0]
        assert all(
            any(word in text for word in ("exists", "meanwhile", "another program", "Another training run"))
            for text in refused
        ), said
        assert contents_of(folder) == contents_of(whole)
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
    status, said = run(tmp_path / "work", "segment", "coins.tif", "--point", "51,155", "--out", "l.tif")
    assert status == 0, said
    assert {name: (tmp_path / "work" / name).read_text() for name in mine} == mine
