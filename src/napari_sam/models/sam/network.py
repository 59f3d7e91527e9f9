"""SAM as a whole, in its three official sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from napari_sam.models.sam.image_encoder import ImageEncoderViT
from napari_sam.models.sam.mask_decoder import MaskDecoder
from napari_sam.models.sam.prompt_encoder import PromptEncoder


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


class Sam(nn.Module):
    """The image encoder, the prompt encoder and the mask decoder, under the official names.

    Parameters
    ----------
    size
        The image encoder's size, one of `SIZES` or your own.
    side
        Side of the input, in pixels.
    """

    def __init__(self, size: ViTSize, *, side: int = 1024) -> None:
        super().__init__()
        self.image_encoder = ImageEncoderViT(
            width=size.width, depth=size.depth, heads=size.heads, global_blocks=size.global_blocks, side=side
        )
        self.prompt_encoder = PromptEncoder(side=side, grid=side // 16)
        self.mask_decoder = MaskDecoder()

    def forward(self, images: Tensor, coords: Tensor, types: Tensor, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode one image, (1, 3, side, side), and decode the prompts of n objects on it; see the parts."""
        sparse, dense = self.prompt_encoder(coords, types, masks)
        position = self.prompt_encoder.dense_position()
        logits, iou_prediction = self.mask_decoder(self.image_encoder(images), position, sparse, dense)
        return logits, iou_prediction


def size_of(state: dict[str, Tensor]) -> str | None:
    """Return which of `SIZES` a state dict with official keys is of, by its shapes; None for any other."""
    tokens = state.get("image_encoder.pos_embed")
    if tokens is None or tokens.ndim != 4:
        return None
    return next((name for name, size in SIZES.items() if size.width == tokens.shape[-1]), None)
