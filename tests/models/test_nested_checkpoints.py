"""Weights of a known network are found however a trainer wrapped them, and what is not whole is called by its name."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import _network, detect_architecture
from napari_sam.models.compact import Compact
from napari_sam.models.nested_checkpoints import flattened, weight_sets
from napari_sam.models.safe_load import load_weights

State = dict[str, torch.Tensor]
PATH = Path("some.pth")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return Compact().state_dict()


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def by_component(state: State) -> dict[str, State]:
    """Return a dictionary of dictionaries, as of a trainer that saves each component by itself."""
    parts: dict[str, State] = {}
    for key, value in state.items():
        component, _, rest = key.partition(".")
        parts.setdefault(component, {})[rest] = value
    return parts


def averaged(state: State) -> State:
    """Return what torch.optim.swa_utils.AveragedModel saves."""
    return {"n_averaged": torch.tensor(3), **prefixed("module.", state)}


def optimizer(state: State) -> dict[str, Any]:
    names = list(state)[:5]
    return {
        "state": {index: {"exp_avg": state[name], "step": torch.tensor(5.0)} for index, name in enumerate(names)},
        "param_groups": [{"lr": 1e-3, "params": list(range(len(names)))}],
    }


def split_in_two(state: State) -> dict[str, Any]:
    encoder = {key: value for key, value in state.items() if key.startswith("image_encoder.")}
    return {"encoder": encoder, "rest": {key: state[key] for key in state.keys() - encoder.keys()}}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "flat": lambda state: state,
    "net": lambda state: {"net": state, "epoch": 3},
    "weights": lambda state: {"weights": OrderedDict(state)},
    "four levels": lambda state: {"a": {"b": {"c": {"d": state}}}},
    "list": lambda state: {"models": [state]},
    "tuple": lambda state: (5, {"state": state}),
    "prefix": lambda state: prefixed("net.", state),
    "long prefix": lambda state: prefixed("trainer.model.sam.module.", state),
    "lightning": lambda state: {
        "state_dict": prefixed("model.", state) | {"loss.weight": torch.ones(1), "metric.total": torch.ones(2)},
        "optimizer_states": [optimizer(state)],
        "hyper_parameters": {"lr": 1e-3},
    },
    "averaged": averaged,
    "averaged inside": lambda state: {"swa": averaged(state)},
    "compiled": lambda state: {"model": prefixed("_orig_mod.", state)},
    "wrapped components": lambda state: {
        key.replace("image_encoder.", "image_encoder.module.", 1): value for key, value in state.items()
    },
    "loss beside": lambda state: {**prefixed("model.", state), "loss.weight": torch.ones(1)},
    "loss beside, no prefix": lambda state: {**state, "criterion.weight": torch.ones(1), "n_averaged": torch.tensor(1)},
    "by component": by_component,
    "by component, inside": lambda state: {"model": by_component(state), "step": 7},
    "in two": split_in_two,
    "ema alone": lambda state: {"ema_state_dict": state},
    "optimizer by name": lambda state: {
        "model": state,
        "optimizer": {key: {"exp_avg": value, "exp_avg_sq": value} for key, value in state.items()},
    },
    "called like a component": lambda state: {"detector": state, "tracker": {"lr": 1}},
}


@pytest.mark.parametrize("kind", list(WRAPPED))
def test_weights_are_found_in_any_wrapping(tmp_path: Path, state: State, kind: str) -> None:
    path = tmp_path / "some.pth"
    torch.save(WRAPPED[kind](state), path)
    family, found = detect_architecture(load_weights(path), path)
    assert family == "compact"
    expected = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("family", ["vit_t", "vit_b", "hq_vit_b"])
@pytest.mark.parametrize("kind", ["lightning", "by component", "loss beside, no prefix", "wrapped components"])
def test_a_wrapped_sam_is_found_too(family: str, kind: str) -> None:
    ours = dict(_network(family).state_dict())
    flat: State = {}
    for key, value in _walk(WRAPPED[kind](ours)):
        flat[key] = value
    assert detect_architecture(flat, PATH)[0] == family


def _walk(content: Any, path: str = "") -> list[tuple[str, torch.Tensor]]:
    """Flatten as `flattened` does; that leaves out the tensors without memory of these tests."""
    if isinstance(content, torch.Tensor):
        return [(path.removesuffix("."), content)]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [pair for key, value in items for pair in _walk(value, f"{path}{key}.")]


@given(parts=st.lists(st.sampled_from(["model", "module", "a-b", "0", "state_dict", "détecteur", "net"]), max_size=6))
@settings(max_examples=30)
def test_the_prefix_may_be_any(parts: list[str]) -> None:
    prefix = "".join(f"{part}." for part in parts)
    ((found),) = weight_sets({f"{prefix}mask_decoder.x": torch.zeros(1), "step": torch.zeros(1)})
    assert found.prefix == prefix
    assert list(found.state) == ["mask_decoder.x"]


@pytest.mark.parametrize("order", [("model", "model_ema"), ("ema", "net"), ("teacher", "student")])
def test_of_several_copies_the_ordinary_weights_are_taken_and_it_is_said_which(
    state: State, order: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    ordinary = next(name for name in order if name in ("model", "net", "student"))
    other = {key: value + 1 for key, value in state.items()}
    content = {name: state if name == ordinary else other for name in order}
    with caplog.at_level(logging.WARNING):
        _, found = detect_architecture(flattened(content), PATH)
    assert torch.equal(found["mask_decoder.bias.weight"], state["mask_decoder.bias.weight"])
    assert f"those under {ordinary} are used" in caplog.text


def test_a_whole_averaged_copy_is_better_than_ordinary_weights_with_parts_missing(state: State) -> None:
    part = {key: value for key, value in state.items() if key.startswith("mask_decoder.")}
    _, found = detect_architecture(flattened({"model": part, "ema": state}), PATH)
    assert "image_encoder.center_proj.weight" in found


@pytest.mark.parametrize("family", ["compact", "vit_t", "vit_b", "hq_vit_b"])
@pytest.mark.parametrize("component", ["mask_decoder", "image_encoder"])
@pytest.mark.parametrize("keeps_name", [True, False], ids=["under its name", "bare"])
def test_a_component_alone_is_called_that(family: str, component: str, keeps_name: bool) -> None:
    start = f"{component}."
    part = {
        key if keeps_name else key.removeprefix(start): value
        for key, value in _network(family).state_dict().items()
        if key.startswith(start)
    }
    for wrapped in (part, prefixed("model.", part)):
        with pytest.raises(ModelError, match=f"contains only the {component.replace('_', ' ')} of a network: use"):
            detect_architecture(wrapped, PATH)


def test_a_tensor_of_another_size_is_named_with_both_sizes(state: State) -> None:
    spoiled = {**state, "mask_decoder.bias.weight": torch.zeros(4, 128)}
    shape = " x ".join(map(str, state["mask_decoder.bias.weight"].shape))
    with pytest.raises(
        ModelError, match=rf"of another shape \(mask_decoder\.bias\.weight\).*4 x 128 instead of {shape}"
    ):
        detect_architecture(prefixed("net.", spoiled), PATH)


def test_other_tensors_than_plain_ones_are_no_weights(state: State, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "meta": torch.zeros(3, device="meta"),
    }
    torch.save({"model": state, **odd}, path)
    assert detect_architecture(load_weights(path), path)[0] == "compact"
    torch.save(odd, path)
    with pytest.raises(ModelError, match="not a dictionary of tensors"):
        load_weights(path)


def test_very_deep_nesting_is_no_checkpoint(tmp_path: Path) -> None:
    content: Any = {"weight": torch.zeros(1)}
    for _ in range(200):
        content = {"a": content}
    torch.save(content, tmp_path / "deep.pth")
    with pytest.raises(ModelError, match="not a dictionary of tensors"):
        load_weights(tmp_path / "deep.pth")
