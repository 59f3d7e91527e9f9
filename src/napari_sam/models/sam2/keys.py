"""Names of SAM 2.1's weights: from the official checkpoints to the library's models for images and for videos."""

from __future__ import annotations

import re

import torch
from torch import Tensor

State = dict[str, Tensor]

# Weights for tracking in videos only, in either layout.
VIDEO = re.compile(
    r"(memory_attention|memory_encoder|mask_downsample|object_pointer_proj|obj_ptr_t?pos_proj|obj_ptr_proj|"
    r"temporal_positional_encoding_projection_layer|memory_temporal_positional_encoding|maskmem_tpos_enc|"
    r"no_memory_positional_encoding|no_mem_pos_enc|no_object_pointer|no_obj_ptr|"
    r"occlusion_spatial_embedding_parameter|no_obj_embed_spatial)(\.|$)"
)
# What follows an object lacks in checkpoints for images only: without one of these it cannot.
MEMORY = (
    "memory_attention.",
    "memory_encoder.",
    "mask_downsample.",
    "object_pointer_proj.",
    "memory_temporal_positional_encoding",
    "no_object_pointer",
)
# Positions of prompts and of image cells have the same encoding: the library stores the matrix twice.
POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
# A box's corners are points too: not the object, the object, top left, bottom right.
POINT_KINDS = 4

_RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
        (r"\.pe_layer\.positional_encoding_gaussian_matrix$", ".shared_embedding.positional_embedding"),
        (r"\.mask_downscaling\.0\.", ".mask_embed.conv1."),
        (r"\.mask_downscaling\.1\.", ".mask_embed.layer_norm1."),
        (r"\.mask_downscaling\.3\.", ".mask_embed.conv2."),
        (r"\.mask_downscaling\.4\.", ".mask_embed.layer_norm2."),
        (r"\.mask_downscaling\.6\.", ".mask_embed.conv3."),
        (r"\.output_upscaling\.0\.", ".upscale_conv1."),
        (r"\.output_upscaling\.1\.", ".upscale_layer_norm."),
        (r"\.output_upscaling\.3\.", ".upscale_conv2."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"(mlps\.\d|_head|pointer_proj)\.layers\.0\.", r"\1.proj_in."),
        (r"(mlps\.\d|_head|pointer_proj)\.layers\.1\.", r"\1.layers.0."),
        (r"(mlps\.\d|_head|pointer_proj)\.layers\.2\.", r"\1.proj_out."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"\.out_proj\.", ".o_proj."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        (r"\.norm(\d)\.", r".layer_norm\1."),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        (r"^memory_(attention|encoder\.fuser\.layers\.\d+)\.norm\.", r"memory_\1.layer_norm."),
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"(memory_fuser\.layers\.\d+)\.gamma$", r"\1.scale"),
        (r"(memory_fuser\.layers\.\d+)\.dwconv\.", r"\1.depthwise_conv."),
        (r"(memory_fuser\.layers\.\d+)\.pwconv(\d)\.", r"\1.pointwise_conv\2."),
        # Of its mask encoder each layer has a convolution, a normalization and a function without weights.
        (r"(mask_downsampler)\.encoder\.12\.", r"\1.final_conv."),
        *((rf"(mask_downsampler)\.encoder\.{3 * i}\.", rf"\1.layers.{i}.conv.") for i in range(4)),
        *((rf"(mask_downsampler)\.encoder\.{3 * i + 1}\.", rf"\1.layers.{i}.layer_norm.") for i in range(4)),
    )
)


def for_videos(state: State) -> State:
    """Return a state dict of SAM 2.1 with the names of the library's models for images and for videos.

    Parameters
    ----------
    state
        With the official names, or with those of the library's models for images or for videos.

    Returns
    -------
    dict
        In float32, with the parts for videos as far as there are any.
    """
    state = {key: value.float() for key, value in state.items()}
    if any(key.startswith("image_encoder.") for key in state):
        state = _from_official(state)
    return with_both_positions(state)


def for_images(state: State) -> State:
    """Return what `for_videos` returns without the parts for videos."""
    return {key: value for key, value in for_videos(state).items() if not VIDEO.match(key)}


def for_memory(state: State) -> State | None:
    """Return the weights that follow objects, without the image encoder; None if the checkpoint lacks them.

    Parameters
    ----------
    state
        What `for_videos` returns.
    """
    if not all(any(key.startswith(part) for key in state) for part in MEMORY):
        return None
    return {key: value for key, value in state.items() if not key.startswith("vision_encoder.")}


def with_both_positions(state: State) -> State:
    """Add the missing one of the two equal position encodings as a copy of the other."""
    known = next((state[key] for key in POSITIONS if key in state), None)
    return state if known is None else {**dict.fromkeys(POSITIONS, known), **state}


def _from_official(state: State) -> State:
    points = [f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(POINT_KINDS)]
    renamed = {_renamed(key): value for key, value in state.items() if key not in points}
    if all(key in state for key in points):
        renamed["prompt_encoder.point_embed.weight"] = torch.cat([state[key] for key in points])
    return renamed


def _renamed(key: str) -> str:
    for pattern, name in _RENAMES:
        key = pattern.sub(name, key)
    return key
