"""Detect the network of a checkpoint by its keys and shapes, whatever the name of the file.

The official key names are ours too; the layout of the transformers library is turned into them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from napari_sam.errors import ModelError
from napari_sam.models.empty_networks import without_values
from napari_sam.models.nested_checkpoints import State, WeightSet, joined, only_part, weight_sets

_LOG = logging.getLogger(__name__)

SAM_FAMILIES = ("vit_t", "vit_b", "vit_l", "vit_h", "hq_vit_t", "hq_vit_b", "hq_vit_l", "hq_vit_h")
SAM2_FAMILIES = ("sam2.1_tiny", "sam2.1_small", "sam2.1_base_plus", "sam2.1_large")
FAMILIES = ("compact", *SAM_FAMILIES, *SAM2_FAMILIES, "sam3")
KNOWN = "SAM (ViT-B, ViT-L, ViT-H), MobileSAM, HQ-SAM, SAM 2.1, SAM 3 or the compact model"

# Not weights: counters of batches, and SAM's pixel statistics.
NOT_WEIGHTS = re.compile(r"(.*\.)?(num_batches_tracked|pixel_mean|pixel_std)")
# Ignored if the network lacks them: tables computed from weights, and TinyViT's classifier from its training.
OPTIONAL = re.compile(r".*\.(attention_bias_idxs|ab)|image_encoder\.(norm_)?head\..*")

# Width of the first blocks and number of blocks of SAM 2's image encoder.
_HIERAS = {(96, 12): "sam2.1_tiny", (96, 16): "sam2.1_small", (112, 24): "sam2.1_base_plus", (144, 48): "sam2.1_large"}

# From the names of transformers to the official ones, in this order. Its two position embeddings are the same.
_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (
            r"^(shared_image_embedding|prompt_encoder\.shared_embedding)\.positional_embedding$",
            "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        ),
        (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
        (r"^vision_encoder\.patch_embed\.projection\.", "image_encoder.patch_embed.proj."),
        (r"^vision_encoder\.neck\.conv1\.", "image_encoder.neck.0."),
        (r"^vision_encoder\.neck\.layer_norm1\.", "image_encoder.neck.1."),
        (r"^vision_encoder\.neck\.conv2\.", "image_encoder.neck.2."),
        (r"^vision_encoder\.neck\.layer_norm2\.", "image_encoder.neck.3."),
        (r"^vision_encoder\.", "image_encoder."),
        (r"\.point_embed\.(\d)", r".point_embeddings.\1"),
        (r"\.mask_embed\.conv1\.", ".mask_downscaling.0."),
        (r"\.mask_embed\.layer_norm1\.", ".mask_downscaling.1."),
        (r"\.mask_embed\.conv2\.", ".mask_downscaling.3."),
        (r"\.mask_embed\.layer_norm2\.", ".mask_downscaling.4."),
        (r"\.mask_embed\.conv3\.", ".mask_downscaling.6."),
        (r"\.upscale_conv1\.", ".output_upscaling.0."),
        (r"\.upscale_layer_norm\.", ".output_upscaling.1."),
        (r"\.upscale_conv2\.", ".output_upscaling.3."),
        (r"\.hq_token\.", ".hf_token."),
        (r"\.hq_mask_mlp\.", ".hf_mlp."),
        (r"\.compress_vit_conv1\.", ".compress_vit_feat.0."),
        (r"\.compress_vit_norm\.", ".compress_vit_feat.1."),
        (r"\.compress_vit_conv2\.", ".compress_vit_feat.3."),
        (r"\.encoder_conv1\.", ".embedding_encoder.0."),
        (r"\.encoder_norm\.", ".embedding_encoder.1."),
        (r"\.encoder_conv2\.", ".embedding_encoder.3."),
        (r"\.mask_conv1\.", ".embedding_maskfeature.0."),
        (r"\.mask_norm\.", ".embedding_maskfeature.1."),
        (r"\.mask_conv2\.", ".embedding_maskfeature.3."),
        (r"(mlps\.\d|_head|hf_mlp)\.layers\.0\.", r"\1.layers.1."),
        (r"\.proj_in\.", ".layers.0."),
        (r"(mlps\.\d|_head|hf_mlp)\.proj_out\.", r"\1.layers.2."),
        (r"\.layer_norm_final_attn\.", ".norm_final_attn."),
        (r"\.layer_norm(\d)\.", r".norm\1."),
    )
)


def detect_architecture(state: State, path: Path) -> tuple[str, State]:
    """Detect the network of a state dict.

    Parameters
    ----------
    state
        The state dict: with the official keys or those of transformers. Other names may stand before every key, as
        trainers save it, and other tensors beside the weights. Of several copies of the weights the first complete
        one is taken, averaged ones last (see `weight_sets`); a log message says which.
    path
        Where it came from, for the message.

    Returns
    -------
    family : str
        One of `FAMILIES`.
    state : dict
        The state dict with the network's own keys; for SAM 2.1 and SAM 3 with the keys of the file.

    Raises
    ------
    ModelError
        It is of another architecture, or of a known one with parts missing or of another shape.
    """
    family, found = _chosen(state, path)
    is_whole = family == "sam3" and not found.prefix
    return family, state if is_whole else found.state


def weights_in(state: State, path: Path) -> State:
    """Return the weights of a known network among other tensors; otherwise the likeliest part.

    Parameters
    ----------
    state, path
        As in `detect_architecture`.
    """
    try:
        _, found = _chosen(state, path, as_they_are=True)
    except ModelError:
        return next((found.state for found in weight_sets(state)), {})
    return found.state


def _chosen(state: State, path: Path, *, as_they_are: bool = False) -> tuple[str, WeightSet]:
    """Return the family and the weights, with the network's own keys or with those of the file.

    SAM 2.1 and SAM 3, whose tensors are compared later, count only where no complete SAM is found.
    """
    sets = weight_sets(state)
    both = joined(sets)
    found: list[tuple[int, str, WeightSet]] = []
    refusal: ModelError | None = None
    for one in [*sets, *([both] if both else [])]:
        try:
            family, weights = _recognised(one.state, path)
        except ModelError as error:
            refusal = refusal or error
            continue
        rank = 2 if family == "sam3" else 1 if family.startswith("sam2") else 0
        found.append((rank, family, one if as_they_are else WeightSet(one.prefix, weights)))
    if not found:
        raise refusal or _unknown(state, path)
    _, family, chosen = min(found, key=lambda entry: entry[0])
    copies = [one.label for _, other, one in found if other == family and len(one.state) == len(chosen.state)]
    if len(copies) > 1:
        _LOG.warning(
            "%s holds %d copies of the weights (%s): those under %s are used.",
            path,
            len(copies),
            ", ".join(copies),
            chosen.label,
        )
    return family, chosen


def _recognised(state: State, path: Path) -> tuple[str, State]:
    """Detect the network of a state dict whose names begin with those of components."""
    family = _later_family(state, path)
    if family is not None:
        return family, state
    if any(key.startswith("vision_encoder.") for key in state):
        state = from_transformers(state)
    found = _sam_family(state)
    family = found or "compact"
    expected = {
        key: value.shape
        for key, value in _network(family, state).state_dict().items()
        if not NOT_WEIGHTS.fullmatch(key)
    }
    state = {
        key: value
        for key, value in state.items()
        if key in expected or not (NOT_WEIGHTS.fullmatch(key) or OPTIONAL.fullmatch(key))
    }
    if found is None and len(expected.keys() & state.keys()) < len(expected) // 2:
        raise _unknown(state, path)
    missing = {key.split(".")[0] for key in expected.keys() - state.keys()}
    if missing and not missing & {key.split(".")[0] for key in state}:
        raise _unknown(state, path)
    _compare(expected, state, family, path)
    return family, state


def _unknown(state: Mapping[str, torch.Tensor], path: Path) -> ModelError:
    networks = [_network(family).state_dict() for family in ("compact", "vit_t", "vit_b")]
    part = only_part(state, [{key for key in network if not NOT_WEIGHTS.fullmatch(key)} for network in networks])
    if part is not None:
        return ModelError(
            f"{path} contains only the {part} of a network: use a checkpoint of all of it, with its image encoder, "
            "prompt encoder and mask decoder."
        )
    return ModelError(
        f"The weights in {path} are of an architecture that napari-sam does not know: use a checkpoint of {KNOWN}."
    )


def from_transformers(state: State) -> State:
    """Return a state dict of SamModel or SamHQModel of transformers with the official keys."""
    renamed = {}
    for key, value in state.items():
        official = key
        for pattern, name in _RENAMES:
            official = pattern.sub(name, official)
        renamed[official] = value
    return renamed


def _sam_family(state: State) -> str | None:
    """Return the likely one of `SAM_FAMILIES` for a state dict with official keys."""
    from napari_sam.models.sam.network import SIZES

    quality = "hq_" if "mask_decoder.hf_token.weight" in state else ""
    if "image_encoder.patch_embed.seq.0.c.weight" in state:
        return f"{quality}vit_t"
    positions = state.get("image_encoder.pos_embed")
    if positions is None or positions.ndim != 4:
        return None
    size = next((name for name in ("vit_b", "vit_l", "vit_h") if SIZES[name].width == positions.shape[-1]), None)
    return size and f"{quality}{size}"


def _later_family(state: State, path: Path) -> str | None:
    """Return the family of a SAM 2.1 or SAM 3; their predictors check the rest.

    Raises
    ------
    ModelError
        It is a SAM 2 of another version or size.
    """
    if any(key.startswith(("detector_model.", "tracker_model.", "detector.", "tracker.")) for key in state):
        return "sam3"
    if "vision_encoder.backbone.embeddings.patch_embeddings.projection.weight" in state:
        return "sam3"
    for patches, blocks in (
        ("image_encoder.trunk.patch_embed.proj.weight", r"image_encoder\.trunk\.blocks\.(\d+)\."),
        ("vision_encoder.backbone.patch_embed.projection.weight", r"vision_encoder\.backbone\.blocks\.(\d+)\."),
    ):
        if patches in state:
            numbers = {match[1] for key in state if (match := re.match(blocks, key))}
            family = _HIERAS.get((state[patches].shape[0], len(numbers)))
            spatial = any("no_obj_embed_spatial" in key or "occlusion_spatial" in key for key in state)
            memory = any(key.startswith("memory_encoder.") for key in state)
            if family is None or (memory and not spatial):
                raise ModelError(
                    f"The weights in {path} are of a SAM 2 that napari-sam does not know: use a checkpoint of SAM 2.1 "
                    "(tiny, small, base_plus, large)."
                )
            return family
    return None


def _network(family: str, state: State | None = None) -> nn.Module:
    """Return the network of a family without values; the compact one with the parts of the state dict."""
    from napari_sam.models.compact import Compact
    from napari_sam.models.sam.network import build

    with without_values():
        return Compact.matching(state or {}) if family == "compact" else build(family)


def _compare(expected: dict[str, torch.Size], state: State, family: str, path: Path) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    reshaped = sorted(key for key in expected.keys() & state.keys() if state[key].shape != expected[key])
    if not missing and not extra and not reshaped:
        return
    found = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for keys, what in ((missing, "missing"), (extra, "too many"), (reshaped, "of another shape"))
        if keys
    ]
    if reshaped:
        shapes = [" x ".join(map(str, shape)) for shape in (state[reshaped[0]].shape, expected[reshaped[0]])]
        found[-1] += f", the first with {shapes[0] or 'one number'} instead of {shapes[1] or 'one number'}"
    kind = "the compact model" if family == "compact" else f"SAM {family}"
    raise ModelError(
        f"The weights in {path} look like {kind} and differ in their entries, {' and '.join(found)}: "
        f"use a complete checkpoint of {KNOWN}."
    )
