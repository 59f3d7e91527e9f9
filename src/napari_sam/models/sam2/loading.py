"""Networks of the transformers library, filled from a state dict; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from napari_sam.errors import ModelError, first_line
from napari_sam.models.empty_networks import WithoutInitialization


def filled(make: Callable[[], Any], state: Mapping[str, Tensor], name: str) -> Any:
    """Create a network with given weights, which are neither copied nor changed.

    Parameters
    ----------
    make
        Returns the untrained network.
    state
        Its weights, exactly.
    name
        What the user calls the model, for messages.

    Raises
    ------
    ModelError
        The library is missing or too old or too new, or weights are missing, too many or of another shape.
    """
    try:
        with Weightless():
            network = make()
    except (ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "torchvision" not in str(error):
            raise
        raise ModelError(
            f"{name} needs a package that cannot be imported ({first_line(error)}): pip install transformers, "
            "and, where torchvision is installed, the one that is made for this torch."
        ) from error
    _compare({key: value.shape for key, value in network.state_dict().items()}, state, name)
    network.load_state_dict(dict(state), assign=True)
    return network.eval().requires_grad_(False)


class Weightless(WithoutInitialization):
    """Create uninitialized tensors, which layers make for their weights, on the meta device and leave them so.

    Tensors that are computed, such as tables of positions, keep their values.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return super().__torch_function__(func, types, args, kwargs)


def _compare(expected: Mapping[str, torch.Size], state: Mapping[str, Tensor], name: str) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    reshaped = sorted(key for key in expected.keys() & state.keys() if state[key].shape != expected[key])
    found = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for keys, what in ((missing, "missing"), (extra, "too many"), (reshaped, "of another shape"))
        if keys
    ]
    if found:
        raise ModelError(
            f"The weights of {name} differ from those of its network, {' and '.join(found)}: use a complete checkpoint."
        )
