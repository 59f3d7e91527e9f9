"""`napari-sam propagate`: what it writes, what it refuses, and that a run that was killed is gone on with."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.cli.checks import Run, assert_one_sentence
from tests.forked_cli import start

from napari_sam.core.geometry import Plane
from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.propagation.follower import Followed
from napari_sam.propagation.prompt_follower import PromptFollower

pytestmark = pytest.mark.usefixtures("one_predictor")

PLANES = 7
# Centers of two discs in the middle plane; the first one moves to the right by 2 pixels a plane.
FIRST, SECOND = (40, 40), (90, 100)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Planes of 128 x 144 pixels with two bright discs and noise, and prompts for both in the middle plane."""
    rows, cols = np.mgrid[:128, :144]
    planes = np.random.default_rng(0).integers(20, 60, (PLANES, 128, 144)).astype(np.uint8)
    for at, plane in enumerate(planes):
        plane[(rows - FIRST[0]) ** 2 + (cols - FIRST[1] - 2 * (at - 3)) ** 2 < 14**2] += 150
        plane[(rows - SECOND[0]) ** 2 + (cols - SECOND[1]) ** 2 < 18**2] += 120
    tifffile.imwrite(tmp_path / "stack.tif", planes, metadata={"axes": "ZYX"}, imagej=True)
    lines = [f"{n},{row},{col},3" for n, (row, col) in ((5, FIRST), (8, SECOND))]
    (tmp_path / "p.csv").write_text("\n".join(["object,row,col,z", *lines, ""]))
    return tmp_path / "stack.tif"


def areas(labels: np.ndarray, label: int) -> list[int]:
    return [int(np.count_nonzero(plane == label)) for plane in labels]


def test_prompted_objects_are_followed_through_all_planes_into_labels_with_a_journal(
    run: Run, stack: Path, tmp_path: Path
) -> None:
    out, told = tmp_path / "l.ome.zarr", tmp_path / "o.json"
    result = run("propagate", stack, "--prompts", tmp_path / "p.csv", "--out", out, "--axis", "z", "--json", told)
    assert (result.code, result.err) == (0, "")
    assert "2 object(s)" in result.out
    labels = np.asarray(LabelPyramid.open(out))
    for label, radius in ((5, 14), (8, 18)):
        assert all(0.7 < area / (np.pi * radius**2) < 1.3 for area in areas(labels, label))
    assert labels[0, FIRST[0], FIRST[1] - 18] == 5 != labels[6, FIRST[0], FIRST[1] - 18]
    rows = {row["label"]: row for row in json.loads(told.read_text())["objects"]}
    assert [row["object"] for row in rows.values()] == ["5", "8"]
    for row in rows.values():
        assert row["prompted"] == [{"plane": [3], "area": areas(labels, row["label"])[3]}]
        assert [one["plane"] for one in row["followed"]] == [0, 1, 2, 4, 5, 6]
        assert all(0 <= one["confidence"] <= 1 and one["area"] > 0 for one in row["followed"])
        assert row["correct_next"] in {one["plane"] for one in row["followed"]}
    with open_journal(out.with_name("l.ome.zarr.journal")) as journal:
        parts = journal.object(5).parts
    assert {part.plane.position for part in parts if not (part.made and part.made.is_propagated)} == {(3,)}
    assert len(parts) == PLANES


def test_labels_of_a_tiff_are_those_of_an_ome_zarr(run: Run, stack: Path, tmp_path: Path) -> None:
    arguments = ("propagate", stack, "--prompts", tmp_path / "p.csv", "--planes", "2:5")
    for name in ("l.tif", "l.ome.zarr"):
        assert run(*arguments, "--out", tmp_path / name).code == 0
    labels = tifffile.imread(tmp_path / "l.tif")
    np.testing.assert_array_equal(labels, np.asarray(LabelPyramid.open(tmp_path / "l.ome.zarr")))
    assert [area > 0 for area in areas(labels, 5)] == [False, False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--axis", "q"), "no axis called"),
        (("--axis", "1"), "lies in the planes"),
        (("--planes", "1-2"), "write A:B"),
        (("--planes", "5:2"), "end before they begin"),
        (("--planes", "0:99"), "0 to 6"),
        (("--engine", "memory"), "has no memory"),
        (("--prompts", "none.csv"), "There is no prompt file"),
        (("--out", "l.png"), "l.png"),
        (("--out", "l.ome.zarr", "--axis", "q"), "no axis called"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_and_leaves_nothing(
    run: Run, stack: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    given = {"--prompts": tmp_path / "p.csv", "--out": tmp_path / "l.tif"}
    pairs = zip(arguments[::2], arguments[1::2], strict=True)
    given |= {name: tmp_path / value if "." in value else value for name, value in pairs}
    result = run("propagate", stack, *(part for pair in given.items() for part in pair))
    assert result.code == 1
    assert message in assert_one_sentence(result.err)
    assert sorted(tmp_path.iterdir()) == before


def test_labels_that_exist_are_gone_on_with_only_where_that_is_asked_for(run: Run, stack: Path, tmp_path: Path) -> None:
    out = tmp_path / "l.ome.zarr"
    arguments = ("propagate", stack, "--prompts", tmp_path / "p.csv", "--out", out)
    assert run(*arguments).code == 0
    labels = np.asarray(LabelPyramid.open(out))
    assert "exists" in assert_one_sentence(run(*arguments).err)
    assert run(*arguments, "--resume").code == 0
    np.testing.assert_array_equal(np.asarray(LabelPyramid.open(out)), labels)
    (tmp_path / "l.tif").write_bytes(b"")
    refused = run(*arguments[:-1], tmp_path / "l.tif", "--resume")
    assert ".ome.zarr" in assert_one_sentence(refused.err)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX")
def test_a_run_that_is_killed_in_the_middle_is_gone_on_with(stack: Path, tmp_path: Path) -> None:
    arguments = ("propagate", str(stack), "--prompts", str(tmp_path / "p.csv"), "--resume", "--out")
    whole = start(tmp_path, (*arguments, str(tmp_path / "whole.ome.zarr")), tmp_path / "whole.log")
    assert whole.end() == 0, whole.log.read_text()
    changes = int(whole.changes.read_text())
    out = tmp_path / "l.ome.zarr"
    killed = start(tmp_path, (*arguments, str(out)), tmp_path / "l.log", stop_at=changes * 3 // 4, dies=True)
    assert killed.end() == -signal.SIGKILL
    assert 0 < np.count_nonzero(np.asarray(LabelPyramid.open(out)).any(axis=(1, 2))) < PLANES
    resumed = start(tmp_path, (*arguments, str(out)), tmp_path / "l.log")
    assert resumed.end() == 0, resumed.log.read_text()
    found, expected = (np.asarray(LabelPyramid.open(at)) for at in (out, tmp_path / "whole.ome.zarr"))
    np.testing.assert_array_equal(found, expected)


def test_a_plane_that_is_added_to_the_prompts_is_a_correction_and_only_its_neighbors_are_followed_again(
    run: Run, stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int]] = []
    follow = PromptFollower.follow

    def counted(self: PromptFollower, at: int, plane: Plane, labels: Sequence[int]) -> dict[int, Followed]:
        asked.extend((self.direction, at, label) for label in labels)
        return follow(self, at, plane, labels)

    monkeypatch.setattr(PromptFollower, "follow", counted)
    out, told = tmp_path / "l.ome.zarr", tmp_path / "o.json"
    arguments = ("propagate", stack, "--prompts", tmp_path / "p.csv", "--out", out, "--json", told)
    assert run(*arguments).code == 0
    assert {at for _, at, _ in asked} == {0, 1, 2, 4, 5, 6}
    asked.clear()
    assert run(*arguments, "--resume").code == 0
    assert asked == []
    with (tmp_path / "p.csv").open("a") as file:
        file.write(f"5,{FIRST[0]},{FIRST[1] + 4},5\n")
    assert run(*arguments, "--resume").code == 0
    # Forward from plane 5, and back from it; what was found forward from plane 3 is known.
    assert sorted(asked) == [(-1, 4, 5), (1, 6, 5)]
    rows = {row["label"]: row for row in json.loads(told.read_text())["objects"]}
    assert [one["plane"] for one in rows[5]["followed"]] == [0, 1, 2, 4, 6]
    assert [one["plane"] for one in rows[8]["followed"]] == [0, 1, 2, 4, 5, 6]


def test_a_file_beside_the_labels_that_is_not_ours_is_left_alone(run: Run, stack: Path, tmp_path: Path) -> None:
    other = tmp_path / "l.ome.zarr.followed"
    other.write_text("my notes")
    result = run("propagate", stack, "--prompts", tmp_path / "p.csv", "--out", tmp_path / "l.ome.zarr")
    assert "of another program" in assert_one_sentence(result.err)
    assert other.read_text() == "my notes"
    assert not (tmp_path / "l.ome.zarr").exists()
