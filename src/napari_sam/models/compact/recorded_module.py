"""Recorded: a module that runs as one traced call, which lets other Python threads run meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

_LOG = logging.getLogger(__name__)
# Uses of a shape before it is traced, since tracing takes a quarter of a second.
OFTEN = 16
# Largest number of traced shapes.
MOST = 2


class Recorded:
    """Calls a module without branches, by a traced version for frequent shapes.

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
        """Shapes with a traced version."""
        return list(self._recordings)

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the output of the module, which is the same with and without tracing."""
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
        except Exception as error:  # If a future torch cannot trace, calls only take longer.
            _LOG.info("The decoder is not recorded: %s", error)
            self._works = False
            return None
        self._recordings[shapes] = recording
        return recording
