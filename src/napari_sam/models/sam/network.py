"""SAM as a whole: in its three official sizes, with MobileSAM's image encoder, with SAM-HQ's mask decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from napari_sam.models.sam.hq import MaskDecoderHQ
from napari_sam.models.sam.image_encoder import ImageEncoderViT
from napari_sam.models.sam.mask_decoder import MaskDecoder
from napari_sam.models.sam.prompt_encoder import PromptEncoder
from napari_sam.models.sam.tiny_vit import TinyViT


@dataclass(frozen=True, slots=True)
class ViTSize:
    """Width, depth, heads and the blocks with global attention of an image encoder."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


SIZES = {
    "vit_b": ViTSize(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": ViTSize(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": ViTSize(1280, 32, 16, (7, 15, 23, 31)),
}


HQ = "hq_"
TINY = "vit_t"
TINY_EARLY_WIDTH = 160


class Sam(nn.Module):
    """The image encoder, the prompt encoder and the mask decoder, under the official names.

    Parameters
    ----------
    size
        The image encoder's size, one of `SIZES` or your own; None for MobileSAM's TinyViT.
    side
        Side of the input, in pixels.
    hq
        Whether the mask decoder is SAM-HQ's.
    """

    def __init__(self, size: ViTSize | None, *, side: int = 1024, hq: bool = False) -> None:
        super().__init__()
        self.side = side
        self.image_encoder: ImageEncoderViT | TinyViT = (
            TinyViT(classes=0)
            if size is None
            else ImageEncoderViT(
                width=size.width, depth=size.depth, heads=size.heads, global_blocks=size.global_blocks, side=side
            )
        )
        self.prompt_encoder = PromptEncoder(side=side, grid=side // 16)
        early = size.width if size else TINY_EARLY_WIDTH
        self.mask_decoder: MaskDecoder = MaskDecoderHQ(early_width=early) if hq else MaskDecoder()

    def forward(self, images: Tensor, coords: Tensor, types: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode one image, (1, 3, side, side), and decode the prompts of n objects on it; see the parts.

        With SAM-HQ's mask decoder these are SAM's own masks.
        """
        sparse, dense = self.prompt_encoder(coords, types, masks)
        position = self.prompt_encoder.dense_position()
        answer: tuple[Tensor, Tensor] = MaskDecoder.forward(
            self.mask_decoder, self.image_encoder(images), position, sparse, dense
        )
        return answer


def build(family: str) -> Sam:
    """Return the untrained network of a family: "vit_b", "vit_l", "vit_h" or "vit_t", or one of these after "hq_"."""
    size = family.removeprefix(HQ)
    return Sam(None if size == TINY else SIZES[size], hq=family.startswith(HQ))


def size_of(state: dict[str, Tensor]) -> str | None:
    """Return which of `SIZES` a state dict with official keys is of, by its shapes; None for any other."""
    tokens = state.get("image_encoder.pos_embed")
    if tokens is None or tokens.ndim != 4:
        return None
    return next((name for name, size in SIZES.items() if size.width == tokens.shape[-1]), None)
