"""The registry: what it promises of each model, where files are kept, and how they come there and are verified."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_sam.errors import ModelError
from napari_sam.files.folders import models_folder
from napari_sam.models import load_predictor
from napari_sam.segmenter import model_names
from napari_sam.testing import TIMEOUT
from napari_sam.weights import local as storage
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.download import record_of, sha256_of
from napari_sam.weights.registry import DEFAULT_MODEL, REGISTRY, ModelEntry

pytestmark = pytest.mark.usefixtures("one_thread")

ELSEWHERE = [entry for entry in REGISTRY.values() if not entry.shipped]


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder of models, and no way to the internet."""
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("NAPARI_SAM_OFFLINE", raising=False)
    monkeypatch.setattr(storage, "download", _no_internet)
    return tmp_path / "models"


def _no_internet(*args: Any, **options: Any) -> None:
    raise AssertionError("A test wanted to download.")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(ModelError) as caught:
        call()
    message = str(caught.value)
    assert not re.search(r"[.!?]\s+[A-Z]|\n", message), f"more than one sentence: {message}"
    assert message.endswith(".")
    return message


# What it promises


def test_the_default_comes_first_and_is_shipped() -> None:
    assert model_names() == list(REGISTRY)
    assert model_names()[0] == DEFAULT_MODEL
    assert [entry.name for entry in REGISTRY.values() if entry.shipped] == [DEFAULT_MODEL]


@pytest.mark.parametrize("entry", ELSEWHERE, ids=lambda entry: entry.name)
def test_an_entry_says_where_it_comes_from_and_is_a_safe_file_name(entry: ModelEntry) -> None:
    assert re.fullmatch(r"[a-z0-9_.]+", entry.name)
    assert re.fullmatch(rf"{re.escape(entry.name)}\.(pth|pt|safetensors)", entry.file)
    assert entry.licence
    assert entry.summary.endswith(".")
    for url in filter(None, (entry.source, entry.homepage)):
        assert urlsplit(url).scheme == "https"
    assert bool(entry.source) != bool(entry.by_hand)
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)


def test_no_two_entries_share_a_file_or_a_source() -> None:
    assert len({entry.file for entry in REGISTRY.values()}) == len(REGISTRY)
    sources = [entry.source for entry in REGISTRY.values() if entry.source]
    assert len(set(sources)) == len(sources)


def test_the_documentation_lists_every_model_with_its_licence() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "models.md").read_text()
    rows = {row.split("|")[1].strip(): row for row in page.splitlines() if row.startswith("| `")}
    entries = {**REGISTRY, **DETECTORS}
    assert list(rows) == [f"`{name}`" for name in entries]
    assert all(entries[name.strip("`")].licence in row for name, row in rows.items())


def test_finding_and_fetching_needs_no_torch() -> None:
    code = "import json, sys, napari_sam.weights.local; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=TIMEOUT)
    assert not {"torch", "zarr", "napari"} & set(json.loads(found.stdout))


# Where files are


def test_the_folder_of_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    assert models_folder() == folder
    monkeypatch.delenv("NAPARI_SAM_MODELS")
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    assert models_folder() == tmp_path / "cache" / "models"
    monkeypatch.delenv("NAPARI_SAM_CACHE")
    assert models_folder().parts[-2:] == ("napari-sam", "models")
    monkeypatch.setenv("NAPARI_SAM_MODELS", "~/models")
    assert models_folder() == Path.home() / "models"
    monkeypatch.setenv("NAPARI_SAM_MODELS", "s3://bucket/models")
    assert "NAPARI_SAM_MODELS" in refusal(models_folder)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_a_file_put_there_by_hand_is_found_in_any_format(folder: Path, suffix: str) -> None:
    assert REGISTRY["vit_b_lm"].path == folder / "vit_b_lm.pt"
    folder.mkdir()
    (folder / f"vit_b_lm{suffix}").touch()
    assert REGISTRY["vit_b_lm"].path == folder / f"vit_b_lm{suffix}"


# Fetching


def test_a_missing_file_is_downloaded_from_its_source(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(storage, "download", lambda url, path, **options: asked.append((url, path, options["sha256"])))
    entry = REGISTRY["vit_b"]
    assert storage.fetch(entry) == folder / "vit_b.pth"
    assert asked == [(entry.source, folder / "vit_b.pth", entry.sha256)]


def test_a_kept_hash_is_asked_of_the_file_when_it_is_fetched_again(folder: Path) -> None:
    folder.mkdir()
    record_of(folder / "vit_b_lm.pt").write_text("0123  vit_b_lm.pt\n")
    assert storage.expected_sha256(REGISTRY["vit_b_lm"]) == "0123"


@pytest.mark.parametrize("entry", ELSEWHERE, ids=lambda entry: entry.name)
def test_offline_or_by_hand_it_says_what_to_put_where(
    entry: ModelEntry, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    monkeypatch.setenv("NAPARI_SAM_OFFLINE", "1")
    message = refusal(lambda: storage.fetch(entry))
    assert str(folder / entry.file) in message
    assert (entry.source or entry.by_hand) in message


# Loading by name


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """The compact weights as if they had been downloaded; return the file."""
    entry = ModelEntry("other", "compact", "other.safetensors", "none", "Tests.", source="https://example.org/other")
    monkeypatch.setitem(REGISTRY, "other", entry)
    folder.mkdir()
    save_file(load_file(REGISTRY["compact"].path), entry.path)
    record_of(entry.path).write_text(f"{sha256_of(entry.path)}  {entry.file}\n")
    return entry.path


def test_a_fetched_model_loads_by_its_name(fetched: Path) -> None:
    predictor = load_predictor("other", "cpu")
    assert predictor.name == "other"
    assert predictor.digest.startswith(sha256_of(fetched))


def test_a_model_is_fetched_on_first_use_and_shows_how_far_it_is(
    fetched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = fetched.read_bytes()
    fetched.unlink()

    def download(url: str, path: Path, *, progress: Callable[[int, int], None], **options: Any) -> None:
        path.write_bytes(content)
        progress(len(content), len(content))

    monkeypatch.setattr(storage, "download", download)
    seen: list[tuple[int, int | None]] = []
    load_predictor("other", "cpu", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(len(content), len(content))]


def test_a_fetched_file_that_was_altered_is_called_damaged(fetched: Path) -> None:
    content = fetched.read_bytes()
    fetched.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = refusal(lambda: load_predictor("other", "cpu"))
    assert "damaged" in message
    assert f"delete that file, or {record_of(fetched)}" in message
    record_of(fetched).unlink()
    assert load_predictor("other", "cpu").name == "other"


def test_a_published_hash_holds_for_the_published_file_alone(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "other", replace(REGISTRY["other"], sha256="0" * 64))
    assert "damaged" in refusal(lambda: load_predictor("other", "cpu"))
    record_of(fetched).unlink()
    torch.save(load_file(fetched), fetched.with_suffix(".pth"))
    fetched.unlink()
    assert load_predictor("other", "cpu").name == "other"


def test_a_file_of_another_model_under_this_name(fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "other", replace(REGISTRY["other"], family="vit_b"))
    message = refusal(lambda: load_predictor("other", "cpu"))
    assert "compact" in message
    assert "vit_b" in message


@pytest.mark.parametrize("name", ["sam2.1_tiny", "sam3"])
def test_a_family_without_its_packages_is_refused_before_it_is_fetched(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_sam.models.find_spec", lambda name: None)
    assert "pip install transformers" in refusal(lambda: load_predictor(name, "cpu"))
    monkeypatch.setattr("napari_sam.models.find_spec", importlib.util.find_spec)


# Without a home folder


def test_a_user_without_a_home_folder_is_told_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NAPARI_SAM_MODELS", "NAPARI_SAM_CACHE"):
        monkeypatch.delenv(variable, raising=False)
    # What older versions of platformdirs return where nothing says who the user is; newer ones raise.
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: "~/.cache/napari-sam")
    with pytest.raises(ModelError, match="set NAPARI_SAM_MODELS to a folder"):
        models_folder()


def test_a_folder_of_models_that_cannot_exist_holds_no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / ("a" * 300)))
    assert REGISTRY["vit_b"].path.name == "vit_b.pth"
    assert not REGISTRY["vit_b"].is_here
