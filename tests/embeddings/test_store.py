from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_sam.embeddings import store as embedding_disk
from napari_sam.embeddings.cache import tile_digest
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError
from napari_sam.files import folders as locations

MODEL = "711730b5c66b4f0e/float32"


def digest_of(number, model=MODEL):
    return tile_digest(np.full((2, 2, 3), number, np.uint16).view(np.uint8), model)


def values_of(number, count=50):
    return np.random.default_rng(number).normal(size=count).astype(np.float16)


def filled(path, numbers, **options):
    store = EmbeddingStore(path, **options)
    for number in numbers:
        store.put(digest_of(number), MODEL, values_of(number))
    return store


def file_of(path, number):
    (file,) = path.glob(f"*/{int(digest_of(number)[:15], 16)}.0")
    return file


def files_in(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in Path(path).rglob("*") if file.is_file()}


def kept(store, numbers):
    return [number for number in numbers if store.has(digest_of(number), MODEL)]


def assert_holds(store, numbers):
    for number in numbers:
        np.testing.assert_array_equal(store.get(digest_of(number), MODEL), values_of(number))


# -- entries -----------------------------------------------------------------------------------------------------------


def test_what_was_put_is_found_by_this_store_and_the_next(tmp_path):
    store = filled(tmp_path / "deep/down", range(5))
    for now in (store, EmbeddingStore(tmp_path / "deep/down"), EmbeddingStore(tmp_path / "deep/down", read_only=True)):
        assert_holds(now, range(5))
        assert kept(now, range(10)) == [0, 1, 2, 3, 4]
        assert now.get(digest_of(5), MODEL) is None
        assert now.count == 5


@settings(max_examples=30, deadline=None)
@given(
    values=hnp.arrays(np.float16, st.integers(0, 300), elements=st.floats(width=16)),
    pixels=st.binary(max_size=4),
    model=st.text(st.characters(codec="utf-8"), max_size=90),
)
def test_any_values_of_any_model_come_back_bit_by_bit(tmp_path_factory, values, pixels, model):
    store = EmbeddingStore(tmp_path_factory.getbasetemp() / "any")
    digest = tile_digest(np.frombuffer(pixels + bytes([len(values) % 256]), np.uint8), f"{model}/{len(values)}")
    store.put(digest, model, values)
    assert store.has(digest, model)
    assert store.get(digest, model).tobytes() == values.tobytes()


def test_nothing_is_made_before_the_first_write_and_a_read_only_store_never_writes(tmp_path):
    path = tmp_path / "store"
    for read_only in (False, True):
        store = EmbeddingStore(path, capacity=10, read_only=read_only)
        assert not store.has(digest_of(1), MODEL)
        assert store.get(digest_of(1), MODEL) is None
        assert (store.nbytes, store.count, store.by_predictor()) == (0, 0, {})
        store.evict()
        store.tidy()
    store.put(digest_of(1), MODEL, values_of(1))
    with store.process_lock(digest_of(1)) as mine:
        assert mine
    assert not path.exists()

    filled(path, range(3))
    (path / f"zarr.{'0' * 32}.partial").write_bytes(b"half")
    os.utime(file_of(path, 0), ns=(10, 10))
    before = files_in(path)
    store = EmbeddingStore(path, capacity=10, read_only=True)
    assert_holds(store, range(3))
    store.put(digest_of(3), MODEL, values_of(3))
    store.evict()
    store.tidy(older_than=0)
    with pytest.raises(OutputError, match="opened to be read only"):
        store.clear()
    assert files_in(path) == before
    assert file_of(path, 0).stat().st_mtime_ns == 10


def test_putting_again_changes_nothing_and_other_values_replace(tmp_path):
    store = filled(tmp_path, range(3))
    before = files_in(tmp_path)
    filled(tmp_path, range(3))
    assert files_in(tmp_path) == before
    store.put(digest_of(0), MODEL, values_of(99))
    np.testing.assert_array_equal(store.get(digest_of(0), MODEL), values_of(99))
    assert store.count == 3


def test_models_never_mix(tmp_path):
    models = ["a/float32", "a/float16", "a", "b" * 200, "../../a", "vit h ✓", ""]
    for number, model in enumerate(models):
        EmbeddingStore(tmp_path).put(digest_of(0), model, values_of(number))
    for number, model in enumerate(models):
        np.testing.assert_array_equal(EmbeddingStore(tmp_path).get(digest_of(0), model), values_of(number))
        assert not EmbeddingStore(tmp_path).has(digest_of(0), model + "x")
    assert {file.parent.parent for file in tmp_path.glob("**/*.0")} == {tmp_path}
    assert EmbeddingStore(tmp_path).by_predictor()["b" * 12] == (1, file_size(tmp_path, "b" * 200))
    assert sum(count for count, _ in EmbeddingStore(tmp_path).by_predictor().values()) == len(models)


def file_size(path, model):
    for folder in path.iterdir():
        if folder.is_dir() and zarr.open_array(folder, mode="r").attrs["predictor"] == model:
            (file,) = folder.glob("*.0")
            return file.stat().st_size
    raise AssertionError(model)


def test_one_model_may_have_embeddings_of_several_lengths(tmp_path):
    first, second = EmbeddingStore(tmp_path), EmbeddingStore(tmp_path)
    for number, count in enumerate((10, 1, 0, 500, 10)):
        first.put(digest_of(number), MODEL, values_of(number, count))
        np.testing.assert_array_equal(second.get(digest_of(number), MODEL), values_of(number, count))
    assert second.by_predictor() == {MODEL[:12]: (5, first.nbytes)}


def test_digests_that_share_a_row_are_told_apart(tmp_path):
    store = filled(tmp_path, [0])
    digest = digest_of(0)
    for position in range(15, 40):
        other = digest[:position] + ("0" if digest[position] != "0" else "1") + digest[position + 1 :]
        assert store.get(other, MODEL) is None
    store.put(other, MODEL, values_of(1))
    np.testing.assert_array_equal(store.get(other, MODEL), values_of(1))
    assert store.get(digest, MODEL) is None


def test_any_zarr_reads_it(tmp_path):
    filled(tmp_path, [7])
    group = zarr.open_group(tmp_path, mode="r")
    assert group.attrs["napari-sam"] == {"kind": "embeddings", "version": 1}
    ((_, array),) = group.arrays()
    assert array.attrs.asdict() == {"predictor": MODEL, "check_digits": 25}
    row = array[int(digest_of(7)[:15], 16)]
    assert "".join(f"{int(digit):x}" for digit in row[:25]) == digest_of(7)[15:]
    np.testing.assert_array_equal(row[25:], values_of(7))
    assert np.isnan(array[0]).all()


# -- damage ------------------------------------------------------------------------------------------------------------


def damages(whole):
    yield b""
    yield b"garbage"
    yield whole[:20]
    yield whole[:-1]
    yield whole + b"more"
    yield b"\x28\xb5\x2f\xfd" + b"\xff" * 40
    yield bytes(len(whole))
    for bit in range(0, len(whole) * 8, 7):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_a_damaged_chunk_is_as_good_as_none_and_is_replaced(tmp_path):
    store = filled(tmp_path, [0, 1])
    file = file_of(tmp_path, 0)
    whole = file.read_bytes()
    for damaged in damages(whole):
        file.write_bytes(damaged)
        found = store.get(digest_of(0), MODEL)
        assert found is None or found.tobytes() == values_of(0).tobytes()
    file.write_bytes(b"")
    assert not store.has(digest_of(0), MODEL)
    store.put(digest_of(0), MODEL, values_of(0))
    assert file.read_bytes() == whole
    assert_holds(store, [0, 1])


def test_a_chunk_of_another_tile_or_of_another_length_is_none(tmp_path):
    store = filled(tmp_path, [0, 1])
    store.put(digest_of(2), MODEL, values_of(2, count=51))
    shutil.copy(file_of(tmp_path, 1), file_of(tmp_path, 0))
    assert store.get(digest_of(0), MODEL) is None
    shutil.copy(file_of(tmp_path, 2), file_of(tmp_path, 1))
    assert store.get(digest_of(1), MODEL) is None
    file_of(tmp_path, 0).unlink()
    assert store.get(digest_of(0), MODEL) is None
    assert not store.has(digest_of(0), MODEL)


def test_a_folder_in_the_place_of_a_chunk_is_no_traceback(tmp_path):
    store = filled(tmp_path, [0])
    file = file_of(tmp_path, 0)
    file.unlink()
    (file / "inside").mkdir(parents=True)
    assert store.get(digest_of(0), MODEL) is None
    with pytest.raises(OutputError, match="cannot be written"):
        store.put(digest_of(0), MODEL, values_of(0))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"node_type": "group", "zarr_format": 3}'])
def test_damaged_metadata_of_an_array_are_told_and_cleared(tmp_path, text):
    filled(tmp_path / "s", [0])
    (file_of(tmp_path / "s", 0).parent / "zarr.json").write_text(text)
    store = EmbeddingStore(tmp_path / "s")
    assert store.get(digest_of(0), MODEL) is None
    with pytest.raises(OutputError, match=r"^The embeddings in .* are damaged \(.*\): clear them, or [^\n]*$"):
        store.put(digest_of(1), MODEL, values_of(1))
    assert store.count == 1
    store.clear()
    assert not (tmp_path / "s").exists()
    store.put(digest_of(1), MODEL, values_of(1))
    assert_holds(store, [1])


# -- places that are not ours ------------------------------------------------------------------------------------------


def foreign_group(path):
    zarr.open_group(path, mode="w", attributes={"napari-sam": {"highest_label": 3}}).create_array(
        "0", shape=(4, 4), dtype="u1"
    )[:] = 1


def foreign_array(path):
    zarr.create_array(path, shape=(4, 4), dtype="u1")[:] = 1


def foreign_v2(path):
    zarr.create_array(path, shape=(4, 4), dtype="u1", zarr_format=2)[:] = 1


def photographs(path):
    path.mkdir()
    (path / "me.jpg").write_bytes(b"jpg")


def newer(path):
    zarr.open_group(path, mode="w", attributes={"napari-sam": {"kind": "embeddings", "version": 9}})


def broken(path):
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_fo')


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (foreign_group, "contains something else: choose an empty or a new folder"),
        (foreign_array, "contains something else: choose an empty or a new folder"),
        (foreign_v2, "contains something else: choose an empty or a new folder"),
        (photographs, "contains something else: choose an empty or a new folder"),
        (newer, "are of version 9 and this napari-sam reads version 1: delete them"),
        (broken, r"cannot be opened \(.*\): correct that"),
        (lambda path: path.write_text("a file"), r"cannot be opened \(Not a directory\)"),
    ],
)
def test_a_place_that_is_not_ours_is_refused_in_one_sentence_and_left_alone(tmp_path, make, words):
    store, late = EmbeddingStore(tmp_path / "s"), EmbeddingStore(tmp_path / "s")
    make(tmp_path / "s")
    before = files_in(tmp_path)
    for attempt in (
        lambda: EmbeddingStore(tmp_path / "s"),
        lambda: EmbeddingStore(tmp_path / "s", read_only=True),
        lambda: store.put(digest_of(0), MODEL, values_of(0)),
        late.clear,
    ):
        with pytest.raises(OutputError, match=words) as caught:
            attempt()
        assert "\n" not in str(caught.value)
        assert str(tmp_path / "s") in str(caught.value)
    store.tidy(older_than=0)
    store.evict()
    assert files_in(tmp_path) == before


def test_an_empty_folder_and_what_a_killed_process_left_of_a_beginning_are_ours(tmp_path):
    (tmp_path / "s/claims").mkdir(parents=True)
    (tmp_path / f"s/zarr.{'1' * 32}.partial").write_bytes(b"{")
    assert_holds(filled(tmp_path / "s", [0]), [0])


# -- full disks and closed folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")])
@pytest.mark.parametrize("method", ["open", "replace", "mkdir"])
def test_a_full_disk_or_a_closed_folder_is_one_sentence_and_leaves_nothing_behind(tmp_path, monkeypatch, method, error):
    def fail(self, *args, **kwargs):
        raise error

    for start in ([], [0, 1]):
        path = tmp_path / str(len(start))
        store = filled(path, start) if start else EmbeddingStore(path)
        before = files_in(path)
        with monkeypatch.context() as context:
            context.setattr(Path, method, fail)
            with pytest.raises(
                OutputError, match=rf"cannot be written to .* \({error.strerror}\): make room"
            ) as caught:
                store.put(digest_of(2), MODEL, values_of(2))
        assert "\n" not in str(caught.value)
        assert files_in(path) == before
        store.put(digest_of(2), MODEL, values_of(2))
        assert_holds(store, [*start, 2])


def test_a_disk_that_takes_half_of_a_chunk_keeps_the_old_one(tmp_path):
    resource = pytest.importorskip("resource")
    store = filled(tmp_path, range(3))
    before = files_in(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, limits[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            store.put(digest_of(0), MODEL, values_of(99))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files_in(tmp_path) == before
    assert_holds(store, range(3))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_read_and_not_written(tmp_path):
    path = tmp_path / "s"
    filled(path, [0])
    folders = [path, file_of(path, 0).parent]
    for folder in folders:
        folder.chmod(0o500)
    try:
        store = EmbeddingStore(path, capacity=1)
        assert_holds(store, [0])
        store.evict()
        with pytest.raises(OutputError, match="Permission denied"):
            store.put(digest_of(1), MODEL, values_of(1))
        with pytest.raises(OutputError, match="check its permissions"):
            store.clear()
        assert_holds(store, [0])
    finally:
        for folder in folders:
            folder.chmod(0o700)


def test_a_disk_without_hard_links_will_do(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    assert_holds(filled(tmp_path, range(3)), range(3))


def test_a_file_time_that_cannot_be_set_is_no_hindrance(tmp_path, monkeypatch):
    store = filled(tmp_path, [0])

    def fail(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", fail)
    assert_holds(store, [0])


# -- room --------------------------------------------------------------------------------------------------------------


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


# -- clearing ----------------------------------------------------------------------------------------------------------


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


# -- URLs --------------------------------------------------------------------------------------------------------------


def test_any_file_system_of_fsspec_will_do(tmp_path):
    fsspec = pytest.importorskip("fsspec")
    url = f"memory://{tmp_path.name}/store"
    store = EmbeddingStore(url, capacity=1)
    assert not store.has(digest_of(0), MODEL)
    assert store.get(digest_of(0), MODEL) is None
    filled(url, range(3), capacity=1)
    for now in (store, EmbeddingStore(url), EmbeddingStore(url, read_only=True)):
        assert_holds(now, range(3))
        assert kept(now, range(5)) == [0, 1, 2]
        with now.process_lock(digest_of(0)) as mine:
            assert mine
    store.evict()
    store.tidy()
    fsspec.filesystem("memory").pipe(f"{url}/{file_of(filled(tmp_path, [1]).path, 1).relative_to(tmp_path)}", b"x")
    assert store.get(digest_of(1), MODEL) is None
    for attempt in (store.clear, lambda: store.nbytes, lambda: store.count, store.by_predictor):
        with pytest.raises(OutputError, match="not a folder on this computer"):
            attempt()
    for foreign, make in (
        ("group", zarr.open_group),
        ("array", lambda where: zarr.create_array(where, data=np.ones(3))),
    ):
        make(f"memory://{tmp_path.name}/{foreign}")
        with pytest.raises(OutputError, match="contains something else"):
            EmbeddingStore(f"memory://{tmp_path.name}/{foreign}")
    with pytest.raises(OutputError, match=r"cannot be opened \([^\n]*\): correct that, or choose another folder\.$"):
        EmbeddingStore("nonsense://somewhere")


def test_a_url_of_a_file_is_a_folder(tmp_path):
    store = filled((tmp_path / "with space").as_uri(), [0])
    assert store.path == tmp_path / "with space"
    assert store.count == 1


# -- several processes, and kills --------------------------------------------------------------------------------------


def encode_all(store, numbers, log):
    """Write what is not there as the encoder does, and what another process has in hand at the end."""
    left = numbers
    while left:
        in_other_hands = []
        for number in left:
            if store.has(digest_of(number), MODEL):
                continue
            with store.process_lock(digest_of(number)) as mine:
                if not mine:
                    in_other_hands.append(number)
                elif not store.has(digest_of(number), MODEL):
                    os.write(log, b"%d\n" % number)
                    store.put(digest_of(number), MODEL, values_of(number))
        left = in_other_hands


def encode_all_on_a_slow_disk(store, numbers, log):
    """Half of the time a file is written and not yet in its place."""
    replace = Path.replace
    Path.replace = lambda self, target: (time.sleep(0.002), replace(self, target))[1]
    encode_all(store, numbers, log)


def put_all(store, numbers, log):
    for number in numbers:
        store.put(digest_of(number), MODEL, values_of(number))


def put_into_many(store, numbers, log):
    for folder in range(10):
        put_all(EmbeddingStore(store.path.with_name(str(folder))), numbers, log)
        time.sleep(0.05 - time.time() % 0.05)


def say(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def nurse():
    """Fork a process for each line of the input, which says what it is to do, or wait for one."""
    for line in sys.stdin:
        what, *about = json.loads(line)
        if what == "wait":
            say(os.waitstatus_to_exitcode(os.waitpid(about[0], 0)[1]))
            continue
        child = os.fork()
        if child:
            say(child)
            continue
        try:
            path, log, numbers = about
            globals()[what](EmbeddingStore(path), numbers, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)


class Nursery:
    """Makes processes in a few milliseconds each, by forking one that has imported everything and runs no thread."""

    def __init__(self):
        command = [sys.executable, __file__]
        self._parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, *question):
        self._parent.stdin.write(json.dumps(question) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def start(self, job, path, log, numbers):
        return self._ask(job, str(path), str(log), list(numbers))

    def wait(self, process):
        """Return how a process ended: 0 where all went well, -9 where it was killed."""
        return self._ask("wait", process)

    def close(self):
        self._parent.communicate()


@pytest.fixture(scope="module")
def nursery():
    if not hasattr(os, "fork"):
        pytest.skip("processes are forked here")
    nursery = Nursery()
    yield nursery
    nursery.close()


def lines_in(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_for_lines(log, count):
    late = time.monotonic() + 30
    while len(lines_in(log)) < count:
        assert time.monotonic() < late, "the process writes nothing"
        time.sleep(0.0002)


def test_killed_at_random_moments_and_started_again_the_store_is_the_same_byte_by_byte(tmp_path, nursery):
    """A third of the kills hit the first milliseconds, when the group is made, the others a tile in hand."""
    whole, path, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    filled(whole, range(300))
    chance = random.Random(0)
    killed, has_halves = 0, False
    for run in range(1000):
        there, written = set(kept(EmbeddingStore(path), range(300))), len(lines_in(log))
        process = nursery.start("encode_all_on_a_slow_disk", path, log, range(300))
        if killed < 24:
            if run % 3:
                wait_for_lines(log, written + chance.randrange(1, 9))
            time.sleep(chance.uniform(0, 0.015 if run % 3 == 0 else 0.005))
            os.kill(process, signal.SIGKILL)
        status = nursery.wait(process)
        assert status in (0, -signal.SIGKILL)
        assert not there & set(lines_in(log)[written:])
        has_halves |= any(name.endswith(".partial") for name in files_in(path))
        EmbeddingStore(path).tidy()
        if status == 0:
            break
        killed += 1
    assert killed >= 20
    assert 300 <= len(lines_in(log)) <= 300 + killed
    assert set(lines_in(log)) == set(range(300))
    assert has_halves, "no kill hit a file that was being written"
    assert files_in(path) == files_in(whole)
    assert sorted(path.rglob("*/")) == sorted(path / folder.relative_to(whole) for folder in whole.rglob("*/"))
    assert_holds(EmbeddingStore(path), range(300))


def test_two_processes_share_the_work_and_write_no_tile_twice(tmp_path, nursery):
    path, log = tmp_path / "s", tmp_path / "log"
    orders = [list(range(150)), list(range(149, -1, -1)), random.Random(1).sample(range(150), 150)]
    processes = [nursery.start("encode_all", path, log, order) for order in orders]
    assert [nursery.wait(process) for process in processes] == [0, 0, 0]
    assert sorted(lines_in(log)) == list(range(150))
    EmbeddingStore(path).tidy()
    assert files_in(path) == files_in(filled(tmp_path / "whole", range(150)).path)


def test_processes_may_begin_a_store_and_write_the_same_tiles_at_the_same_moment(tmp_path, nursery):
    processes = [nursery.start("put_into_many", tmp_path / "s/0", tmp_path / "log", range(8)) for _ in range(4)]
    assert [nursery.wait(process) for process in processes] == [0] * 4
    whole = files_in(filled(tmp_path / "whole", range(8)).path)
    for folder in range(10):
        assert files_in(tmp_path / f"s/{folder}") == whole


def test_a_claim_is_free_again_when_its_process_is_killed(tmp_path, nursery):
    store, log = EmbeddingStore(tmp_path / "s"), tmp_path / "log"
    process = nursery.start("claim_and_wait", tmp_path / "s", log, [0])
    wait_for_lines(log, 1)
    with store.process_lock(digest_of(0)) as mine:
        assert not mine
    store.tidy()
    with store.process_lock(digest_of(0)) as mine:
        assert not mine
    os.kill(process, signal.SIGKILL)
    assert nursery.wait(process) == -signal.SIGKILL
    with store.process_lock(digest_of(0)) as mine:
        assert mine
        with store.process_lock(digest_of(0)) as again, store.process_lock(digest_of(1)) as another:
            assert not again
            assert another
    store.wait_for_others()
    with store.process_lock(digest_of(0)) as mine:
        assert mine


def claim_and_wait(store, numbers, log):
    with store.process_lock(digest_of(numbers[0])):
        os.write(log, b"0\n")
        time.sleep(60)


def test_where_no_claim_can_be_made_everybody_may_work(tmp_path):
    store = filled(tmp_path, [0])
    (tmp_path / "claims").write_text("a file")
    with store.process_lock(digest_of(0)) as mine, store.process_lock(digest_of(0)) as again:
        assert mine
        assert again


# -- where it is -------------------------------------------------------------------------------------------------------


def test_the_cache_is_where_the_variable_says_and_else_where_the_platform_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.delenv("NAPARI_SAM_CACHE_SIZE", raising=False)
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "c"))
    store = EmbeddingStore.default()
    assert (store.path, store.capacity) == (tmp_path / "c/embeddings", 20 * 10**9)
    monkeypatch.setenv("NAPARI_SAM_CACHE_SIZE", "1.5 MB")
    assert EmbeddingStore.default().capacity == 1_500_000
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NAPARI_SAM_CACHE", "~/here")
    assert locations.cache_folder() == tmp_path / "here"
    for nothing in ("", None):
        monkeypatch.setenv("NAPARI_SAM_CACHE", "")
        if nothing is None:
            monkeypatch.delenv("NAPARI_SAM_CACHE")
        assert locations.cache_folder().name == "napari-sam"
        assert locations.cache_folder().is_absolute()
    monkeypatch.setenv("NAPARI_SAM_CACHE", "s3://bucket/cache")
    with pytest.raises(
        OutputError, match=r"NAPARI_SAM_CACHE is 's3://bucket/cache', which is not a folder on this computer: set it"
    ):
        EmbeddingStore.default()


@pytest.mark.parametrize(
    ("text", "size"),
    [("20GB", 20 * 10**9), (" 20 gb ", 20 * 10**9), ("500M", 5 * 10**8), ("1.5 TiB", 3 * 2**39), ("0", 0), ("7B", 7),
     ("1000000", 10**6), ("2k", 2000), ("1Ki", 1024)],
)  # fmt: skip
def test_sizes_are_read_as_people_write_them(text, size):
    assert locations.parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["much", "", "-1", "1e9", "20 XB", "GB", "1,5 GB", "nan", "iB", "1iB", "9" * 400, "1 \u212aB"]
)
def test_sizes_that_are_none_are_one_sentence(text, monkeypatch):
    with pytest.raises(OutputError, match="is not understood: write it like 20GB or 500MB") as caught:
        locations.parse_size(text)
    assert "\n" not in str(caught.value)
    if text:
        monkeypatch.setenv("NAPARI_SAM_CACHE_SIZE", text)
        with pytest.raises(OutputError, match="is not understood"):
            EmbeddingStore.default()


if __name__ == "__main__":
    nurse()
