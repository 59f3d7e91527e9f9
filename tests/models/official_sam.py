"""The reference implementation of SAM, which needs torchvision for parts that are replaced here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch

MODULES = {
    "torchvision": (),
    "torchvision.ops": (),
    "torchvision.ops.boxes": ("batched_nms", "box_area"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("resize", "to_pil_image"),
}


@contextmanager
def official_package() -> Iterator[Any]:
    """Import `segment_anything` without torchvision; images have the encoder's size already."""
    functions = {"batched_nms": batched_nms, "box_area": box_area}
    with pytest.MonkeyPatch.context() as patch:
        for name, members in MODULES.items():
            stub = ModuleType(name)
            for member in members:
                setattr(stub, member, functions.get(member, lambda image, *_: image))
            patch.setitem(sys.modules, name, stub)
        yield pytest.importorskip("segment_anything", reason="pip install '.[test]'")


def batched_nms(boxes: torch.Tensor, scores: torch.Tensor, _: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Suppress boxes as torchvision does, all of one category; as its definition says and not as ours does it."""
    kept: list[int] = []
    areas = box_area(boxes)
    for i in scores.argsort(descending=True, stable=True).tolist():
        low, high = torch.maximum(boxes[kept, :2], boxes[i, :2]), torch.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        if not (shared / (areas[kept] + areas[i] - shared) > iou_threshold).any():
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """Return the areas of boxes (left, top, right, bottom)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
