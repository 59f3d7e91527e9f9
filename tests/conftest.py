"""Fakes that several test modules share, handed out as fixtures because tests are not importable modules."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from scipy import ndimage

from napari_sam import cli
from napari_sam.core.predictor import Decoded, Embedding, Predictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.models import load_predictor

settings.register_profile("napari-sam", deadline=None, derandomize=True, database=None)
settings.load_profile("napari-sam")

SIDE = 64


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


class FakePredictor:
    """Finds the evenly bright region under the prompts; likes regions of about a third of the tile.

    What it was asked is kept in `encoded` (tiles) and `decoded` (prompts).
    """

    name = "fake"
    input_side = SIDE
    object_fraction = 1 / 3
    object_range = (0.1, 0.75)
    probe_levels = 2
    batch = 1
    digest = "fake/1"

    def __init__(self) -> None:
        self.encoded: list[np.ndarray] = []
        self.decoded: list[TilePrompts] = []

    def encode(self, tiles: np.ndarray) -> list[Embedding]:
        self.encoded += list(tiles)
        return [Embedding((torch.from_numpy(tile.copy()).permute(2, 0, 1)[None],)) for tile in tiles]

    def pack(self, embedding: Embedding) -> np.ndarray:
        return embedding.tensors[0].numpy().astype(np.float16).ravel()

    def unpack(self, values: np.ndarray) -> Embedding:
        return Embedding((torch.from_numpy(values.astype(np.uint8)).reshape(1, 3, SIDE, SIDE),))

    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        self.decoded.append(prompts)
        cells = embedding.tensors[0][0].float().mean(0).reshape(SIDE // 4, 4, SIDE // 4, 4).mean((1, 3)).numpy()
        region = self._region(cells, prompts)
        nested = ndimage.binary_erosion(region), region, ndimage.binary_dilation(region)
        logits = np.stack([np.where(blob, 4, -4) for blob in nested]).astype(np.float32)
        at = self._cells(prompts)[~prompts.labels]
        logits[:, at[:, 0], at[:, 1]] = -50
        if prompts.mask_logits is not None:  # Never enough to turn a sign, always enough to be seen.
            logits += prompts.mask_logits * np.float32(0.01)
        rows, cols = region.any(axis=1).sum(), region.any(axis=0).sum()
        fit = 1 - abs(max(rows, cols) * 4 / SIDE - self.object_fraction)
        # Neither the first nor in the order of area, so that sorting and choosing have something to do.
        order = [2, 1, 0]
        return Decoded(logits[order], np.array([0.8 * fit, fit, 0.9 * fit], np.float32))

    def _region(self, cells: np.ndarray, prompts: TilePrompts) -> np.ndarray:
        allowed = np.ones(cells.shape, bool)
        if prompts.box is not None:
            centers = (np.arange(len(cells)) + 0.5) * 4
            inside_rows = (centers >= prompts.box.top) & (centers < prompts.box.bottom)
            inside_cols = (centers >= prompts.box.left) & (centers < prompts.box.right)
            allowed &= np.outer(inside_rows, inside_cols)
        region = np.zeros(cells.shape, bool)
        for row, col in self._cells(prompts)[prompts.labels]:
            parts, _ = ndimage.label(allowed & (np.abs(cells - cells[row, col]) < 60))
            region |= (parts == parts[row, col]) & (parts > 0)
        if not prompts.labels.any():
            region |= allowed & (cells > cells[allowed].mean() if allowed.any() else False)
        return region

    def _cells(self, prompts: TilePrompts) -> np.ndarray:
        return (np.clip(prompts.points + 0.5, 0, SIDE - 1) // 4).astype(int)


class CountingArray:
    """A numpy array, or a field of discs too large to exist, that remembers which blocks were read."""

    def __init__(self, pixels: np.ndarray | None = None, shape: tuple[int, ...] = ()) -> None:
        self._pixels = pixels
        self.shape = shape if pixels is None else pixels.shape
        self.dtype = np.dtype(np.uint8) if pixels is None else pixels.dtype
        self.reads: list[tuple[int, ...]] = []

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        lengths = [len(range(*k.indices(n))) for k, n in zip(key, self.shape, strict=False) if isinstance(k, slice)]
        self.reads.append(tuple(lengths))
        if self._pixels is not None:
            return self._pixels[key]
        # Discs of radius 11 on a lattice of 100 pixels.
        rows, cols = (np.arange(*k.indices(n)) % 100 - 50 for k, n in zip(key[-2:], self.shape[-2:], strict=True))
        return np.where(rows[:, None] ** 2 + cols[None] ** 2 <= 121, 200, 20).astype(np.uint8)

    @property
    def pixels_read(self) -> int:
        return sum(int(np.prod(lengths)) for lengths in self.reads)


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
