"""Recorded: a module whose operations are played back in one call, while other Python threads go on."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)
# Shapes are recorded once they came up so often: recording takes a quarter of a second.
OFTEN = 16
# So many kinds of shapes are recorded, and no more.
MOST = 2


class Recorded:
    """Calls a module that has no branches, by a recording where its shapes are common.

    Between any two of its operations torch takes Python's global lock. Beside a window that draws, and holds the lock
    meanwhile, that made 17 ms of work last 70 ms; played back, the lock is let go once for all of them.

    Parameters
    ----------
    module
        Takes and returns tensors; what it does hangs on nothing but their shapes.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._recordings: dict[tuple[Any, ...], Any] = {}
        self._count: Counter[tuple[Any, ...]] = Counter()
        self._works = True

    @property
    def shapes(self) -> list[tuple[Any, ...]]:
        """The shapes that there is a recording for."""
        return list(self._recordings)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return what the module makes of tensors: the same with a recording and without."""
        shapes = tuple(tuple(tensor.shape) for tensor in tensors)
        recording = self._recordings.get(shapes)
        if recording is None and self._works and len(self._recordings) < MOST and tensors[0].device.type == "cpu":
            self._count[shapes] += 1
            if self._count[shapes] >= OFTEN:
                recording = self._record(shapes, tensors)
        made: tuple[Tensor, ...] = (recording or self._module)(*tensors)
        return made

    def _record(self, shapes: tuple[Any, ...], tensors: tuple[Tensor, ...]) -> Any:
        try:
            recording = torch.jit.trace(self._module, tensors, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # torch may do without it one day: then it is as slow as before.
            _LOG.info("The decoder is not recorded: %s", error)
            self._works = False
            return None
        self._recordings[shapes] = recording
        return recording
