"""Find the weights of a network in a checkpoint by the names of its layers, also if they are nested."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, strided

State = dict[str, Tensor]

MAX_DEPTH = 32
# Components of known networks: the first part of the names of their weights.
COMPONENTS = frozenset(
    {
        "image_encoder",
        "prompt_encoder",
        "mask_decoder",
        "scorer",
        "usual_size",
        "vision_encoder",
        "shared_image_embedding",
        "sam_prompt_encoder",
        "sam_mask_decoder",
        "memory_encoder",
        "memory_attention",
        "detector",
        "detector_model",
        "tracker",
        "tracker_model",
        "tracker_neck",
    }
)
# Weights of SAM 2.1 outside its components.
SINGLES = re.compile(
    r"(no_mem_embed|no_memory_embedding|maskmem_tpos_enc|no_mem_pos_enc|no_obj_ptr|no_obj_embed_spatial|"
    r"mask_downsample|obj_ptr_proj|obj_ptr_t?pos_proj|object_pointer_proj|no_object_pointer|"
    r"memory_temporal_positional_encoding|no_memory_positional_encoding|"
    r"temporal_positional_encoding_projection_layer|occlusion_spatial_embedding_parameter)(\.|$)"
)
# Inserted into names by data-parallel training and by compiling; no known network uses them.
WRAPPERS = frozenset({"module", "_orig_mod"})
# Share of a component's names at which it counts as present.
MIN_SHARE = 0.9
# Names of averaged copies of weights.
AVERAGED = re.compile(r"(^|[._-])(ema|swa|avg|averaged?|teacher|target)([._-]|$)|ema$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class WeightSet:
    """The weights under one name of a checkpoint.

    Parameters
    ----------
    prefix
        What stands before every name, for example "model.state_dict."; empty where nothing does.
    state
        The weights under the names that remain.
    """

    prefix: str
    state: State

    @property
    def is_averaged(self) -> bool:
        """Whether these are, by their name, averages of the weights over training."""
        return bool(AVERAGED.search(self.prefix))

    @property
    def label(self) -> str:
        """The name for messages."""
        return self.prefix.removesuffix(".") or "no name"


def flattened(content: Any) -> State:
    """Return all tensors in nested dictionaries and lists, under names joined by dots."""
    return dict(_tensors(content, (), 0))


def _tensors(content: Any, path: tuple[str, ...], depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        if content.layout == strided and not content.is_quantized and content.device.type == "cpu":
            yield ".".join(path), content
        return
    if depth >= MAX_DEPTH:
        return
    if isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, (*path, str(key)), depth + 1)
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from _tensors(value, (*path, str(index)), depth + 1)


def weight_sets(state: Mapping[str, Tensor]) -> list[WeightSet]:
    """Return candidates for the weights of a known network, the likeliest first.

    The ordinary weights come before averaged copies of them, then the set with more weights, then the shorter name,
    then the earlier one of the file.

    Parameters
    ----------
    state
        Tensors under names joined by dots. What belongs to no component of a known network is left out: counters,
        weights of losses, the state of an optimizer.
    """
    found: dict[str, State] = {}
    for key, value in state.items():
        parts = key.split(".")
        for index, part in enumerate(parts):
            rest = ".".join(part for part in parts[index:] if part not in WRAPPERS)
            if part in COMPONENTS or SINGLES.match(rest):
                found.setdefault("".join(f"{name}." for name in parts[:index]), {})[rest] = value
    sets = [WeightSet(prefix, weights) for prefix, weights in found.items()]
    return sorted(sets, key=lambda one: (one.is_averaged, -len(one.state), one.prefix.count(".")))


def joined(sets: list[WeightSet]) -> WeightSet | None:
    """Return complementary sets as one, such as an encoder and a decoder under two names; or None."""
    state: State = {}
    for one in sets:
        if state.keys() & one.state.keys():
            return None
        state |= one.state
    return WeightSet("", state) if len(sets) > 1 else None


def only_part(state: Mapping[str, Tensor], networks: Iterable[Collection[str]]) -> str | None:
    """Return the only component of a network in a state dict, or None.

    Parameters
    ----------
    state
        Tensors, with or without the component's name before theirs.
    networks
        Names of the weights of networks of each kind.
    """
    ends = {".".join(parts[index:]) for parts in (key.split(".") for key in state) for index in range(len(parts))}
    best: tuple[int, str | None] = (0, None)
    for network in networks:
        for component in ("mask_decoder", "image_encoder", "prompt_encoder"):
            names = {key.removeprefix(f"{component}.") for key in network if key.startswith(f"{component}.")}
            count = len(names & ends)
            if count > best[0] and count >= MIN_SHARE * len(names):
                best = count, component.replace("_", " ")
    return best[1]
