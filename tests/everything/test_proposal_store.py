"""ProposalStore: what was proposed survives kills and damage, and several processes never do one tile at once."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.everything.scenes import proposals_of

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.errors import OutputError
from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.everything.proposals import Proposals

SETTINGS = {"model": "abc", "sizes": [10.0, 30.0], "plane": [[0, 1], []]}
GRID = TileGrid((400, 400), 128, overlap=0.25)
TILE, OTHER = GRID.tile(0, 1, 2), GRID.tile(-1, 0, 3)


def some(count: int = 5) -> Proposals:
    rng = np.random.default_rng(count)
    masks = []
    for i in range(count):
        pixels = rng.random((7 + i, 9)) < 0.6
        pixels[0, 0] = True
        masks.append(Mask(Box(i, 3 * i, i + 7 + i, 3 * i + 9), pixels, 0.5 + i / 100, 0.25).tightened())
    return proposals_of(masks, level=-1)


def assert_same(one: Proposals | None, other: Proposals) -> None:
    assert one is not None
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(one.arrays[name], array)
        assert one.arrays[name].dtype == array.dtype


@pytest.fixture
def store(tmp_path: Path) -> ProposalStore:
    return ProposalStore(tmp_path, SETTINGS)


def file_of(store: ProposalStore) -> Path:
    (file,) = store.path.glob("*.npz")
    return file


def test_what_was_put_is_what_one_gets_also_in_another_process(store: ProposalStore, tmp_path: Path) -> None:
    assert store.get(TILE) is None
    store.put(TILE, some())
    store.put(OTHER, some(0))
    again = ProposalStore(tmp_path, dict(reversed(SETTINGS.items())))
    assert_same(again.get(TILE), some())
    assert_same(again.get(OTHER), some(0))
    assert again.get(GRID.tile(0, 2, 1)) is None
    assert again.get(GRID.tile(1, 1, 1)) is None


def test_the_levels_of_a_sweep_that_has_begun_stay(store: ProposalStore, tmp_path: Path) -> None:
    assert store.levels is None
    store.begin([-1, 2])
    store.begin([0])
    assert store.levels == [-1, 2]
    assert ProposalStore(tmp_path, SETTINGS).levels == [-1, 2]
    (file,) = store.path.glob("*.json")
    assert json.loads(file.read_text())["model"] == "abc", "a person can see what the folder is for"


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"levels": 3}', '{"levels": ["a"]}', '{"levels": null}', "\xff"])
def test_damaged_settings_are_written_again(store: ProposalStore, text: str) -> None:
    store.begin([1])
    (file,) = store.path.glob("*.json")
    file.write_bytes(text.encode("latin-1"))
    assert store.levels is None
    store.begin([2])
    assert store.levels == [2]


@pytest.mark.parametrize("change", [{"model": "abd"}, {"sizes": [10.0, 30.5]}, {"box": [0, 0, 9, 9]}])
def test_other_settings_have_another_folder(store: ProposalStore, tmp_path: Path, change: dict) -> None:
    store.put(TILE, some())
    other = ProposalStore(tmp_path, {**SETTINGS, **change})
    assert other.path != store.path
    assert other.get(TILE) is None


def test_a_file_that_is_cut_anywhere_is_a_tile_that_was_not_done(store: ProposalStore) -> None:
    store.put(TILE, some())
    file = file_of(store)
    whole = file.read_bytes()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        assert store.get(TILE) is None, f"{length} of {len(whole)} bytes"
    file.write_bytes(whole)
    assert_same(store.get(TILE), some())


def test_a_byte_that_was_changed_never_gives_other_proposals_and_never_an_error(store: ProposalStore) -> None:
    store.put(TILE, some())
    file = file_of(store)
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    for at in range(len(whole)):
        damaged = whole.copy()
        damaged[at] ^= int(rng.integers(1, 256))
        file.write_bytes(damaged)
        found = store.get(TILE)
        if found is not None:  # Dates and attributes in a zip file say nothing about its content.
            assert_same(found, some())


FORGED = {
    "scores of another type": {"scores": np.linspace(0, 1, 5)},
    "boxes of another type": {"boxes": some().boxes.astype(np.int32)},
    "one score too many": {"scores": np.zeros(6, np.float32)},
    "boxes with three edges": {"boxes": some().boxes[:, :3]},
    "points without columns": {"points": some().points[:, :1]},
    "boxes without dimensions": {"boxes": np.int64(3)},
    "an empty box": {"boxes": some().boxes[:, [2, 1, 2, 3]]},
    "a box that is turned round": {"boxes": some().boxes[:, [2, 3, 0, 1]]},
    "boxes that are larger than the masks": {"boxes": some().boxes + np.array([0, 0, 9, 0])},
    "boxes whose areas overflow": {"boxes": np.array([[0, 0, 2**33, 2**31]] * 5), "ends": np.zeros(5, np.int64)},
    "too few bits": {"bits": some().bits[:-1]},
    "ends that fall": {"ends": some().ends[::-1]},
    "a score that is no number": {"scores": np.full(5, np.nan, np.float32)},
    "a point that is nowhere": {"points": np.full((5, 2), np.inf)},
    "areas that are not those of the masks": {"areas": some().areas + 1},
    "an array more": {"more": np.zeros(5)},
    "strings": {"scores": np.array(["a"] * 5)},
}


@pytest.mark.parametrize("name", FORGED)
def test_arrays_that_do_not_fit_together_are_a_tile_that_was_not_done(store: ProposalStore, name: str) -> None:
    store.put(TILE, some())
    np.savez_compressed(file_of(store), **{**some().arrays, **FORGED[name]})
    assert store.get(TILE) is None
    store.put(TILE, some())
    assert_same(store.get(TILE), some())


def test_a_file_without_one_of_the_arrays_is_a_tile_that_was_not_done(store: ProposalStore) -> None:
    store.put(TILE, some())
    arrays = some().arrays
    del arrays["ends"]
    np.savez_compressed(file_of(store), **arrays)
    assert store.get(TILE) is None


class Harmful:
    """What runs a command when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_nothing_is_unpickled(store: ProposalStore, tmp_path: Path) -> None:
    trace = tmp_path / "unpickled"
    store.put(TILE, some())
    file = file_of(store)
    with np.errstate(all="ignore"):
        np.savez(file, **{**some().arrays, "scores": np.array([Harmful(trace)] * 5, object)})
    assert store.get(TILE) is None
    file.write_bytes(pickle.dumps(Harmful(trace)))
    assert store.get(TILE) is None
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("scores.npy", pickle.dumps(Harmful(trace)))
    assert store.get(TILE) is None
    assert not trace.exists()


def test_a_file_that_claims_to_be_huge_takes_no_memory(store: ProposalStore) -> None:
    store.put(TILE, some())
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(file_of(store), "w") as archive:
        for name in some().arrays:
            archive.writestr(f"{name}.npy", head.getvalue())
    assert store.get(TILE) is None


def test_a_disk_that_refuses_is_one_sentence_and_leaves_nothing_half_written(
    store: ProposalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(TILE, some())

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OutputError, match="make room"):
        store.put(TILE, some(3))
    assert [path.name for path in store.path.iterdir()] == [file_of(store).name]
    assert_same(store.get(TILE), some())


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="another place"):
        ProposalStore(tmp_path / "file", SETTINGS).begin([0])


def claim_and_wait(folder: Path, tile: Tile, claimed: multiprocessing.Event, ends: multiprocessing.Event) -> None:
    with ProposalStore(folder, SETTINGS).claimed(tile) as is_mine:
        assert is_mine
        claimed.set()
        ends.wait(60)


def test_a_tile_that_another_process_works_on_is_not_ours_until_it_ends(store: ProposalStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    claimed, ends = context.Event(), context.Event()
    other = context.Process(target=claim_and_wait, args=(tmp_path, TILE, claimed, ends))
    other.start()
    assert claimed.wait(60)
    with store.claimed(TILE) as is_mine:
        assert not is_mine
    with store.claimed(OTHER) as is_mine:
        assert is_mine
    other.kill()
    other.join()
    with store.claimed(TILE) as is_mine:
        assert is_mine, "a killed process holds nothing"
    store.tidy()
    assert list(store.path.iterdir()) == []


def test_tidying_removes_what_killed_processes_left_and_nothing_else(store: ProposalStore) -> None:
    store.begin([0])
    store.put(TILE, some())
    names = {file_of(store).name, "settings.json"}
    (store.path / "claims").mkdir(exist_ok=True)
    (store.path / "claims" / "0_1_2").touch()
    for name in (file_of(store).name, "settings.json"):
        (store.path / f".{name}.99999999").write_bytes(b"half")
    (store.path / ".notes.txt.7").write_text("mine")
    with store.claimed(TILE):  # Whoever holds the tile may be writing it.
        store.tidy()
        assert (store.path / f".{file_of(store).name}.99999999").exists()
    store.tidy()
    (store.path / ".notes.txt.7").unlink()
    assert {path.name for path in store.path.iterdir()} == names
