"""Fixtures that several test modules share, and the settings of hypothesis."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
import torch
from hypothesis import settings

from napari_sam import cli
from napari_sam.core.predictor import Predictor
from napari_sam.models import load_predictor
from napari_sam.testing import CountingArray, FakePredictor

__all__ = ["CountingArray", "FakePredictor"]

settings.register_profile("napari-sam", deadline=None, derandomize=True, database=None)
settings.load_profile("napari-sam")


class Result(NamedTuple):
    """Exit status of a command, and its output on both streams."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run the command with some arguments in this process, as a shell would."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["napari-sam", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True, scope="session")
def no_users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the cache and new labels of the tests away from the user's own folders."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NAPARI_SAM_CACHE", str(folder / "cache"))
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        yield


@pytest.fixture
def fake_predictor() -> FakePredictor:
    return FakePredictor()


@pytest.fixture
def make_predictor() -> type[FakePredictor]:
    return FakePredictor


@pytest.fixture
def counting_array() -> type[CountingArray]:
    return CountingArray


@pytest.fixture(scope="session")
def compact() -> Iterator[Predictor]:
    """The embedded model, on one thread: on a busy machine torch's threads mostly wait for each other."""
    threads = torch.get_num_threads()
    yield load_predictor("compact", "cpu", threads=1)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Do not let torch's threads wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
