"""The four sizes of SAM 2.1 (Ravi et al. 2024, appendix), as configurations of the transformers library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SIDE = 1024
# Accepted planes that memory attends to, the closest ones. Each costs as much as a plane that was followed.
MOST_ACCEPTED = 4


@dataclass(frozen=True, slots=True)
class HieraSize:
    """The size of an image encoder (Hiera, Ryali et al. 2023).

    Parameters
    ----------
    width, heads
        Channels and attention heads of the first stage; both double from stage to stage.
    blocks
        Blocks of each stage.
    whole
        Which blocks, counted through, attend to the whole image and not within windows.
    windows
        Side of the windows of each stage, in tokens.
    background
        Side of the coarse embedding of positions that is spread over the image.
    """

    width: int
    heads: int
    blocks: tuple[int, ...]
    whole: tuple[int, ...]
    windows: tuple[int, ...] = (8, 4, 14, 7)
    background: int = 7


SIZES = {
    "sam2.1_tiny": HieraSize(96, 1, (1, 2, 7, 2), (5, 7, 9)),
    "sam2.1_small": HieraSize(96, 1, (1, 2, 11, 2), (7, 10, 13)),
    "sam2.1_base_plus": HieraSize(112, 2, (2, 3, 16, 3), (12, 16, 20), background=14),
    "sam2.1_large": HieraSize(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


def network_of(size: HieraSize) -> Any:
    """Return an untrained network of a size: a `Sam2Model` of transformers."""
    from transformers.models.sam2.configuration_sam2 import Sam2Config, Sam2HieraDetConfig, Sam2VisionConfig
    from transformers.models.sam2.modeling_sam2 import Sam2Model

    widths = [size.width * 2**stage for stage in range(len(size.blocks))]
    backbone = Sam2HieraDetConfig(
        hidden_size=size.width,
        num_attention_heads=size.heads,
        blocks_per_stage=list(size.blocks),
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[size.heads * 2**stage for stage in range(len(size.blocks))],
        window_size_per_stage=list(size.windows),
        global_attention_blocks=list(size.whole),
        window_positional_embedding_background_size=[size.background, size.background],
    )
    vision = Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=widths[::-1])
    return Sam2Model(Sam2Config(vision_config=vision, attn_implementation="sdpa"))


def memory_network() -> Any:
    """Return an untrained `Sam2VideoModel` of transformers without its image encoder; it is the same in all sizes."""
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoModel

    network = Sam2VideoModel(Sam2VideoConfig(max_cond_frame_num=MOST_ACCEPTED, attn_implementation="sdpa"))
    del network.vision_encoder
    return network
