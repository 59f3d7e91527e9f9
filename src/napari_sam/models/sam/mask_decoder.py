"""SAM's mask decoder: three masks for an ambiguous prompt, one for a clear one, and their predicted IoUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.models.sam.layers import MLP, LayerNorm2d
from napari_sam.models.sam.transformer import TwoWayTransformer


class MaskDecoder(nn.Module):
    """From an image embedding and encoded prompts to mask logits.

    Parameters
    ----------
    width
        Token width.
    multimask
        Number of masks for an ambiguous prompt; one more is for a clear one.
    """

    def __init__(self, *, width: int = 256, multimask: int = 3) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width=width)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(multimask + 1, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(width, width // 4, 2, stride=2),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.ConvTranspose2d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(multimask + 1))
        self.iou_prediction_head = MLP(width, width, multimask + 1, 3)

    def forward(self, image: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Decode n objects on one image.

        Parameters
        ----------
        image
            Shape (1, width, grid, grid): the image embedding.
        image_pe
            Shape (1, width, grid, grid): positions of its cells.
        sparse
            Shape (n, tokens, width).
        dense
            Shape (n, width, grid, grid).

        Returns
        -------
        logits : torch.Tensor
            Shape (n, 1 + multimask, 4 * grid, 4 * grid); the first is the answer to a clear prompt.
        iou_prediction : torch.Tensor
            Shape (n, 1 + multimask).
        """
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        tokens, _, logits = self._decode(outputs, image, image_pe, sparse, dense)
        return logits, self.iou_prediction_head(tokens[:, 0])

    def _decode(
        self, outputs: Tensor, image: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the tokens, those of `outputs` first, the image as it was upscaled, and the logits of all masks."""
        n = len(sparse)
        tokens, cells = self.transformer(
            image + dense, image_pe, torch.cat([outputs[None].expand(n, -1, -1), sparse], 1)
        )
        up = self.output_upscaling(cells.transpose(1, 2).reshape(n, -1, *image.shape[-2:]))
        weights = torch.stack([mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        return tokens, up, (weights @ up.flatten(2)).reshape(n, -1, *up.shape[-2:])
