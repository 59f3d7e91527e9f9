from __future__ import annotations

import os
from pathlib import Path

import pytest
import zarr
from tests.embeddings.stored import MODEL, assert_holds, digest_of, file_of, files_in, filled, values_of

from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError
from napari_sam.files import folders as locations


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
