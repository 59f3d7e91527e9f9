"""The library's video model of SAM 2, small, with random weights."""

from __future__ import annotations

from typing import Any

import torch

SIDE = 64
# With it the object score of about half of the answers is negative.
OBJECT_SCORE = -16.5


def small_sam2() -> Any:
    """Return a model for images of 64 x 64 pixels, with weights none of which is degenerate."""
    from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoModel

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[3],
        image_size=[SIDE, SIDE],
    )
    sizes = [[SIDE // stride] * 2 for stride in (4, 8, 16)]
    vision = Sam2VisionConfig(
        backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], backbone_feature_sizes=sizes
    )
    config = Sam2VideoConfig(
        vision_config=vision,
        image_size=SIDE,
        prompt_encoder_config={"image_size": SIDE},
        memory_attention_rope_feat_sizes=sizes[-1],
        memory_attention_num_layers=2,
    )
    torch.manual_seed(0)
    network = Sam2VideoModel(config).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(1)
    for name, parameter in network.named_parameters():
        if "norm" in name and name.endswith("weight"):
            continue
        is_matrix = parameter.ndim > 1 and name.endswith("weight")
        spread = 1.5 / parameter[0].numel() ** 0.5 if is_matrix else 0.5
        # So that memory changes the masks by a tenth of their scale.
        more = {"hypernetworks": 0.3, "q_proj": 3, "k_proj": 3, "memory_encoder.projection": 2, "pointer_proj": 2}
        spread *= next((factor for part, factor in more.items() if part in name), 1)
        parameter.normal_(0, spread, generator=random)
    # The object comes and goes.
    network.mask_decoder.pred_obj_score_head.proj_out.weight *= 10
    network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(OBJECT_SCORE)
    return network
