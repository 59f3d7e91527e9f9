"""Every known network is recognised by its keys in every layout, and the layouts hold the same weights."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import (
    FAMILIES,
    SAM_FAMILIES,
    State,
    _network,
    detect_architecture,
    from_transformers,
)
from napari_sam.models.sam import Sam, ViTSize
from napari_sam.models.sam.prompt_encoder import NOT_A_POINT
from napari_sam.weights.registry import REGISTRY

pytestmark = pytest.mark.usefixtures("one_thread")

PATH = Path("any name.pth")
WIDTHS = {"vit_b": (768, 12, 12, [2, 5, 8, 11]), "vit_l": (1024, 24, 16, [5, 11, 17, 23])}
WIDTHS["vit_h"] = (1280, 32, 16, [7, 15, 23, 31])


def meta(family: str) -> State:
    """The keys and shapes of one of our networks."""
    return dict(_network(family).state_dict())


@pytest.fixture(scope="module")
def transformers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("transformers", reason="pip install '.[sam2]'")
        for name in ("SamModel", "SamConfig", "SamHQModel", "SamHQConfig", "Sam2VideoModel", "Sam2VideoConfig"):
            getattr(found, name)
        return found


def vision(family: str) -> dict[str, Any]:
    width, depth, heads, where = WIDTHS[family]
    return {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "global_attn_indexes": where,
        "mlp_dim": 4 * width,
    }


@pytest.mark.parametrize("prefix", ["", "sam.", "module.", "model.", "module.sam.", "_orig_mod."])
def test_trainers_prefixes_are_taken_off(prefix: str) -> None:
    family, state = detect_architecture({prefix + key: value for key, value in meta("compact").items()}, PATH)
    assert family == "compact"
    assert not any(key.endswith("num_batches_tracked") for key in state)
    assert state.keys() <= meta("compact").keys()


@pytest.mark.parametrize("family", SAM_FAMILIES)
def test_every_sam_is_recognised_by_the_official_keys(family: str) -> None:
    ours = meta(family)
    more = {"pixel_mean": torch.zeros(3), "pixel_std": torch.zeros(3)}
    if family.endswith("_t"):
        more |= {
            "image_encoder.layers.1.blocks.0.attn.attention_bias_idxs": torch.zeros(49, 49),
            "image_encoder.layers.1.blocks.0.attn.ab": torch.zeros(4, 49, 49),
        }
    found, state = detect_architecture({**ours, **more}, PATH)
    assert found == family
    assert state.keys() == {key for key in ours if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("quality", [False, True], ids=["SAM", "HQ-SAM"])
@pytest.mark.parametrize("size", list(WIDTHS))
def test_the_layout_of_transformers_becomes_the_official_one(transformers: Any, size: str, quality: bool) -> None:
    kind = "SamHQ" if quality else "Sam"
    config = getattr(transformers, f"{kind}Config")(vision_config=vision(size))
    config.mask_decoder_config.vit_dim = WIDTHS[size][0]
    with torch.device("meta"):
        theirs = getattr(transformers, f"{kind}Model")(config).state_dict()
    family = f"hq_{size}" if quality else size
    found, state = detect_architecture(dict(theirs), PATH)
    assert found == family
    assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in meta(family).items()}
    # Files hold one of the two embeddings of positions, whichever.
    for one in ("shared_image_embedding.", "prompt_encoder.shared_embedding."):
        assert (
            detect_architecture({key: value for key, value in theirs.items() if not key.startswith(one)}, PATH)[0]
            == family
        )


@torch.inference_mode()
def test_weights_of_transformers_give_the_same_masks_here(transformers: Any) -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "global_attn_indexes": [1]}
    config = transformers.SamConfig(
        vision_config={**small, "mlp_dim": 384, "image_size": 256},
        prompt_encoder_config={"image_size": 256, "image_embedding_size": 16},
    )
    theirs = transformers.SamModel(config).eval()
    for name, value in theirs.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            value.normal_(0, 0.2)
        elif value.ndim > 1:
            value.normal_(0, 1.5 / value[0].numel() ** 0.5)
    ours = Sam(ViTSize(96, 2, 3, (1,)), side=256).eval()
    ours.load_state_dict(from_transformers(theirs.state_dict()), strict=True)
    image = torch.randn(1, 3, 256, 256)
    points, labels = torch.rand(1, 1, 3, 2) * 256, torch.tensor([[[1, 0, 1]]])
    expected = theirs(pixel_values=image, input_points=points, input_labels=labels, multimask_output=True)
    coords = torch.cat([points[0], torch.zeros(1, 1, 2)], 1)
    types = torch.cat([labels[0], torch.tensor([[NOT_A_POINT]])], 1)
    logits, scores = ours(image, coords, types, None)
    assert expected.pred_masks.std() > 0.1
    scale = expected.pred_masks.abs().max()
    assert (logits[:, 1:] - expected.pred_masks[0]).abs().max() <= 1e-4 * scale
    torch.testing.assert_close(scores[:, 1:], expected.iou_scores[0], atol=1e-4, rtol=1e-4)


# SAM 2.1 and SAM 3: a few telling keys


def hiera(width: int, blocks: int, layout: str = "official") -> State:
    trunk, patches = "image_encoder.trunk", "proj"
    if layout == "transformers":
        trunk, patches = "vision_encoder.backbone", "projection"
    state = {f"{trunk}.blocks.{index}.norm1.weight": torch.zeros(1) for index in range(blocks)}
    return {**state, f"{trunk}.patch_embed.{patches}.weight": torch.zeros(width, 3, 7, 7)}


SAM2_SIZES = {"tiny": (96, 12), "small": (96, 16), "base_plus": (112, 24), "large": (144, 48)}


@pytest.mark.parametrize("layout", ["official", "transformers"])
@pytest.mark.parametrize("size", list(SAM2_SIZES))
def test_sam_2_1_is_recognised_by_its_image_encoder_and_left_as_it_is(size: str, layout: str) -> None:
    state = hiera(*SAM2_SIZES[size], layout)
    assert detect_architecture(state, PATH) == (f"sam2.1_{size}", state)


def test_sam_2_1_of_the_original_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import ModuleType

    for name in ("torchvision", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name in ("Normalize", "Resize", "ToTensor"):
        monkeypatch.setattr(sys.modules["torchvision.transforms"], name, None, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hieradet = pytest.importorskip("sam2.modeling.backbones.hieradet", reason="pip install sam2")
    trunk = hieradet.Hiera(
        embed_dim=96, num_heads=1, stages=[1, 2, 7, 2], global_att_blocks=[5, 7, 9], window_spec=[8, 4, 14, 7]
    )
    state = {f"image_encoder.trunk.{key}": value for key, value in trunk.state_dict().items()}
    assert detect_architecture(state, PATH)[0] == "sam2.1_tiny"


@pytest.mark.parametrize(
    "state",
    [hiera(96, 13), {**hiera(96, 12), "memory_encoder.out_proj.weight": torch.zeros(1)}],
    ids=["another size", "SAM 2.0"],
)
def test_another_sam_2_is_refused(state: State) -> None:
    with pytest.raises(ModelError, match=r"use a checkpoint of SAM 2\.1 \(tiny, small, base_plus, large\)\.$"):
        detect_architecture(state, PATH)


def test_sam_2_1_of_transformers(transformers: Any) -> None:
    with torch.device("meta"):
        theirs = transformers.Sam2VideoModel(transformers.Sam2VideoConfig()).state_dict()
    assert detect_architecture(dict(theirs), PATH)[0] == "sam2.1_tiny"


@pytest.mark.parametrize(
    "key",
    [
        "detector_model.detr_encoder.layers.0.weight",
        "tracker_model.no_memory_embedding",
        "detector.backbone.weight",
        "vision_encoder.backbone.embeddings.patch_embeddings.projection.weight",
    ],
)
def test_sam_3_is_recognised_and_left_as_it_is(key: str) -> None:
    state = {key: torch.zeros(1), "another": torch.zeros(1)}
    assert detect_architecture(state, PATH) == ("sam3", state)


def test_every_family_of_the_registry_is_known() -> None:
    assert {entry.family for entry in REGISTRY.values()} == set(FAMILIES)
