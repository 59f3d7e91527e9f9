"""Build networks without values, into which the weights of a checkpoint are loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class WithoutInitialization(TorchFunctionMode):
    """Skip the functions of `torch.nn.init`, which layers call when they are built."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs.get("tensor", args[0] if args else None)
        return func(*args, **kwargs)


@contextmanager
def without_values() -> Iterator[None]:
    """Build the networks in this context on the meta device: they have shapes, and take no memory.

    Random initial values are skipped. On the meta device `normal_`, which `torch.nn.Embedding` calls, imports
    torch's compiler and with it triton: that takes a second, and where Mesa renders OpenGL in software, the two
    versions of LLVM in one process end it with a segmentation fault.
    """
    with torch.device("meta"), WithoutInitialization():
        yield
