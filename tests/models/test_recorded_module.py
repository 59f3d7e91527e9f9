from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.data import coins
from torch import nn

from napari_sam.core.geometry import Box
from napari_sam.core.prompts import TilePrompts
from napari_sam.models import load_predictor
from napari_sam.models.compact import recorded_module as recorded
from napari_sam.models.compact.recorded_module import MOST, OFTEN, Recorded

pytestmark = pytest.mark.usefixtures("one_thread")


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, tensor: torch.Tensor) -> tuple[torch.Tensor]:
        self.calls += 1
        return (tensor * 2 + 1,)


def test_common_shapes_are_recorded_and_the_module_is_called_no_more() -> None:
    module = Scaled()
    twice = Recorded(module)
    for number in range(OFTEN + 5):
        (made,) = twice(torch.full((3,), float(number)))
        assert made.tolist() == [number * 2 + 1] * 3
    assert twice.shapes == [((3,),)]
    assert module.calls == OFTEN
    (made,) = twice(torch.ones(4))
    assert made.tolist() == [3] * 4
    assert module.calls == OFTEN + 1


def test_there_are_never_many_recordings() -> None:
    twice = Recorded(Scaled())
    for length in range(1, MOST + 4):
        for _ in range(OFTEN):
            assert len(twice(torch.ones(length))[0]) == length
    assert len(twice.shapes) == MOST


def test_without_recordings_it_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(recorded.torch.jit, "trace")
    twice = Recorded(Scaled())
    for _ in range(OFTEN + 2):
        assert twice(torch.ones(2))[0].tolist() == [3, 3]
    assert twice.shapes == []


def test_the_decoders_answers_are_the_same_bit_by_bit() -> None:
    often, seldom = load_predictor("compact", "cpu", threads=1), load_predictor("compact", "cpu", threads=1)
    seldom._decoder = seldom._decoder._module  # type: ignore[attr-defined]
    tiles = np.stack([coins()[:256, :256], coins()[-256:, -256:]])
    tiles = np.repeat(tiles[..., None], 3, axis=3)
    embeddings = often.encode(tiles)
    rng = np.random.default_rng(3)
    for number in range(OFTEN + 12):
        box = Box(20, 30, 90 + number, 120) if number % 4 == 3 else None
        points = np.zeros((0, 2)) if box is not None else rng.uniform(0, 255, (1, 2))
        logits = rng.normal(size=(64, 64)).astype(np.float32) if number % 5 == 4 else None
        prompts = TilePrompts(points.astype(np.float32), np.ones(len(points), bool), box, logits)
        first = often.decode(embeddings[number % 2], prompts)
        second = seldom.decode(embeddings[number % 2], prompts)
        np.testing.assert_array_equal(first.logits, second.logits)
        np.testing.assert_array_equal(first.iou_prediction, second.iou_prediction)
    assert len(often._decoder.shapes) >= 1  # type: ignore[attr-defined]
