from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from tests.embeddings.stored import MODEL, assert_holds, digest_of, file_of, files_in, filled, kept, values_of

from napari_sam.embeddings import store as embedding_disk
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError


def aged(path, numbers):
    for age, number in enumerate(numbers):
        os.utime(file_of(path, number), ns=(age * 10**9, age * 10**9))


def test_the_least_recently_used_goes_first_in_any_process(tmp_path):
    filled(tmp_path, range(10))
    size = EmbeddingStore(tmp_path).nbytes / 10
    aged(tmp_path, [3, 1, 4, 0, 5, 9, 2, 6, 8, 7])
    assert_holds(EmbeddingStore(tmp_path), [3, 4])
    EmbeddingStore(tmp_path, capacity=int(size * 10.5)).evict()
    assert EmbeddingStore(tmp_path).count == 10
    EmbeddingStore(tmp_path, capacity=int(size * 7.9)).evict()
    assert kept(EmbeddingStore(tmp_path), range(10)) == [2, 3, 4, 6, 7, 8, 9]
    EmbeddingStore(tmp_path).evict()
    assert EmbeddingStore(tmp_path).count == 7
    EmbeddingStore(tmp_path, capacity=0).evict()
    assert EmbeddingStore(tmp_path).count == 0
    assert_holds(filled(tmp_path, [1]), [1])


def test_the_capacity_is_held_and_the_folder_is_seldom_looked_through(tmp_path, monkeypatch):
    looks = []
    evict = EmbeddingStore.evict
    monkeypatch.setattr(EmbeddingStore, "evict", lambda self: (looks.append(self), evict(self)))
    size = filled(tmp_path / "one", [0]).nbytes
    capacity = 40 * size
    stores = [EmbeddingStore(tmp_path / "s", capacity=capacity) for _ in range(2)]
    for number in range(150):
        stores[number % 2].put(digest_of(number), MODEL, values_of(number))
        assert stores[0].nbytes <= capacity * 1.1
    assert stores[0].nbytes > capacity * 0.8
    assert 40 < len(looks) < 80
    assert kept(stores[0], range(140, 150)) == list(range(140, 150))


def test_many_processes_that_write_little_each_hold_the_capacity_as_well(tmp_path):
    size = filled(tmp_path / "one", [0]).nbytes
    random.seed(0)
    for number in range(150):
        filled(tmp_path / "s", [number], capacity=20 * size)
    assert EmbeddingStore(tmp_path / "s").count <= 22


def test_what_another_process_deletes_meanwhile_is_no_hindrance(tmp_path, monkeypatch):
    store = filled(tmp_path, range(10), capacity=10**9)
    store.capacity = store.nbytes // 2
    unlink = Path.unlink

    def first(self, missing_ok=False):
        unlink(self)
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", first)
    store.evict()
    assert 3 <= store.count <= 5


def test_clear_leaves_no_trace_and_the_store_goes_on(tmp_path):
    path = tmp_path / "s"
    store, other = filled(path, range(4)), EmbeddingStore(path)
    assert_holds(other, range(4))
    with store.process_lock(digest_of(7)):
        pass
    (path / f"zarr.{'1' * 32}.partial").write_bytes(b"{")
    (file_of(path, 0).parent / f"5.{'1' * 32}.partial").write_bytes(b"half")
    store.clear()
    store.clear()
    assert not path.exists()
    assert kept(other, range(4)) == []
    assert other.get(digest_of(0), MODEL) is None
    for number, now in enumerate((other, store)):
        now.put(digest_of(number), MODEL, values_of(number))
    assert_holds(EmbeddingStore(path), [0, 1])


def test_clear_leaves_alone_what_is_not_ours(tmp_path):
    path = tmp_path / "s"
    store = filled(path, range(4))
    notes = [path / "notes.txt", path / "mine/zarr.json", file_of(path, 0).parent / "5.0.txt"]
    for note in notes:
        note.parent.mkdir(exist_ok=True)
        note.write_text("mine")
    store.clear()
    assert set(files_in(path)) == {"zarr.json", *(str(note.relative_to(path)) for note in notes)}
    assert EmbeddingStore(path).count == 0
    assert_holds(filled(path, [1]), [1])


def test_a_clear_that_was_cut_off_leaves_a_store(tmp_path, monkeypatch):
    path = tmp_path / "s"
    total = len(files_in(filled(path, range(4)).path))
    for most in range(total):
        filled(path, range(4))
        unlink, left = Path.unlink, [most]

        def cut(self, missing_ok=False, unlink=unlink, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise PermissionError(13, "Permission denied")
            unlink(self, missing_ok)

        with monkeypatch.context() as context:
            context.setattr(Path, "unlink", cut)
            with pytest.raises(OutputError, match=r"cannot be deleted \(Permission denied\): check its permissions"):
                EmbeddingStore(path).clear()
        assert len(files_in(path)) == total - most
        assert_holds(filled(path, range(4)), range(4))


def test_tidy_spares_halves_that_another_process_may_be_writing(tmp_path):
    store = filled(tmp_path, [0])
    before = files_in(tmp_path)
    halves = [tmp_path / f"zarr.{'1' * 32}.partial", file_of(tmp_path, 0).parent / f"5.{'1' * 32}.partial"]
    (tmp_path / "mine").mkdir()
    for half in (*halves, tmp_path / "mine/a.partial"):
        half.write_bytes(b"half")
    with embedding_disk._writing(tmp_path):
        store.tidy()
    assert all(half.exists() for half in halves)
    for half in (*halves, tmp_path / "mine/a.partial"):
        os.utime(half, (time.time() - 3600,) * 2)
    with embedding_disk._writing(tmp_path):
        store.tidy()
    assert files_in(tmp_path) == {**before, "mine/a.partial": b"half"}


def test_tidy_deletes_what_a_killed_process_left_just_now_but_no_file_of_the_user(tmp_path):
    store = filled(tmp_path, [0])
    before = files_in(tmp_path)
    array = file_of(tmp_path, 0).parent
    mine = [tmp_path / "claims/report.docx", tmp_path / "video.mkv.partial", tmp_path / f"claims/{'b' * 40}"]
    mine += [array / "a.partial", tmp_path / "claims/empty"]
    left = [tmp_path / f"zarr.{'1' * 32}.partial", array / f"5.{'1' * 32}.partial", tmp_path / f"claims/{'a' * 40}"]
    for path in (*mine, *left):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"" if path.name.startswith(("a" * 40, "empty")) else b"text")
    for half in left[:2]:
        os.utime(half, (time.time() - 1,) * 2)
    store.tidy()
    expected = {str(path.relative_to(tmp_path)): path.read_bytes() for path in mine}
    assert files_in(tmp_path) == {**before, **expected}
    store.clear()
    assert files_in(tmp_path) == expected | {name: before[name] for name in before if name == "zarr.json"}
