"""Claims keep processes apart where locks do not, and expire with the process that held them."""

from __future__ import annotations

import errno
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from napari_sam.files import claims, process_locks
from napari_sam.files.claims import expiring_claim, has_expired, honors_locks
from napari_sam.files.process_locks import remove_stale_locks, work_lock


@pytest.fixture(params=["file", "object"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a claim can be."""
    return tmp_path / "claim" if request.param == "file" else f"memory://{tmp_path.name}/claims/claim"


def test_a_claim_is_of_one_until_it_ends(place: Path | str) -> None:
    for _ in range(2):
        with expiring_claim(place) as first, expiring_claim(place) as second:
            assert (first, second) == (True, False)


def test_a_claim_of_a_process_that_was_killed_expires(place: Path | str) -> None:
    dead = ExitStack()
    assert dead.enter_context(expiring_claim(place))
    with expiring_claim(place, seconds=60) as is_mine:
        assert not is_mine
    time.sleep(0.02)
    with expiring_claim(place, seconds=0.01) as is_mine:
        assert is_mine
        dead.close()
        with expiring_claim(place, seconds=60) as again:
            assert not again, "whoever comes back does not remove the claim of another"


def test_of_several_that_take_an_expired_claim_one_gets_it(tmp_path: Path) -> None:
    place = tmp_path / "claim"
    dead = ExitStack()
    dead.enter_context(expiring_claim(place))
    stale = place.read_bytes()
    assert claims._File(place).take(stale, b"napari-sam a 1.0")
    assert not claims._File(place).take(stale, b"napari-sam b 1.0")
    assert place.read_bytes() == b"napari-sam a 1.0"
    assert [file.name for file in tmp_path.iterdir()] == ["claim"]


def test_what_is_no_claim_never_expires() -> None:
    assert has_expired(b"napari-sam 12 0.0")
    for content in (b"", b"notes", b"napari-sam x", b"\xff 0.0", f"napari-sam 12 {time.time() + 9}".encode()):
        assert not has_expired(content)


def test_a_place_where_nothing_can_be_created_stops_nobody(tmp_path: Path) -> None:
    for place in (tmp_path / "missing" / "claim", "nothing://claim"):
        with expiring_claim(place) as first, expiring_claim(place) as second:
            assert first
            assert second


MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
server:/home /home nfs4 rw,vers=4.2,local_lock=none 0 0
server:/old /home/old nfs rw,vers=3,nolock,local_lock=all 0 0
pool@tcp:/scratch /scratch lustre rw,flock 0 0
pool@tcp:/quick /quick lustre rw,localflock 0 0
s3 /bucket fuse.s3fs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "honors"),
    [("/tmp/a", True), ("/home/a", True), ("/home/old/a", False), ("/scratch/a", True), ("/quick", False),
     ("/bucket/a", False)],
)  # fmt: skip
def test_file_systems_are_known_by_how_they_are_mounted(
    folder: str, honors: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(claims, "MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(claims.sys, "platform", "linux")
    claims._honors_locks.cache_clear()
    assert honors_locks(Path(folder)) is honors
    for said in ("0", "1"):
        monkeypatch.setenv("NAPARI_SAM_CLAIMS", said)
        assert honors_locks(Path(folder)) is (said == "0")
    claims._honors_locks.cache_clear()


@pytest.fixture(params=["refuses", "is told"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no locks: the file system refuses them, or the user has said so."""
    if request.param == "is told":
        monkeypatch.setenv("NAPARI_SAM_CLAIMS", "1")
        yield
        return

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(process_locks, "try_lock", refuse)
    yield


@pytest.mark.usefixtures("no_locks")
def test_work_is_shared_where_there_are_no_locks(tmp_path: Path) -> None:
    file = tmp_path / "claims" / "0_1_2"
    with work_lock(file) as first, work_lock(file) as second:
        assert (first, second) == (True, False)
    with work_lock(file) as third:
        assert third
    assert list(file.parent.iterdir()) == []


def test_claims_that_have_expired_are_tidied_and_others_stay(tmp_path: Path) -> None:
    import re

    (tmp_path / "claims").mkdir()
    (tmp_path / "claims" / "1").write_bytes(b"napari-sam 12 0.0")
    (tmp_path / "claims" / "2").write_bytes(f"napari-sam 12 {time.time()}".encode())
    (tmp_path / "claims" / "3").write_text("notes")
    remove_stale_locks(tmp_path / "claims", re.compile(r"\d"))
    assert sorted(file.name for file in (tmp_path / "claims").iterdir()) == ["2", "3"]


def take_all(folder: Path, names: list[str]) -> None:
    for name in names:
        with expiring_claim(folder / name) as is_mine:
            if is_mine and not (folder / f"{name}.done").exists():
                with (folder / f"{name}.done").open("xb"):  # Fails if another one does the same.
                    pass


def test_no_two_processes_have_one_claim(tmp_path: Path) -> None:
    names = [str(number) for number in range(200)]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=take_all, args=(tmp_path, names)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sum(1 for _ in tmp_path.glob("*.done")) == 200
