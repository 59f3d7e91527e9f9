from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.embeddings.stored import MODEL, assert_holds, digest_of, file_of, files_in, filled, kept, values_of

from napari_sam.embeddings.cache import tile_digest
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import OutputError


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
    with pytest.raises(OutputError, match="opened read-only"):
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
