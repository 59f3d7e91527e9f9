"""SAM-HQ's mask decoder: SAM's, with one token more and with features of the early image encoder, for sharper borders.

Source: Ke et al. 2023 (Segment Anything in High Quality). Names of parameters are those of the official checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.sam.layers import MLP, LayerNorm2d
from napari_sam.models.sam.mask_decoder import MaskDecoder


class MaskDecoderHQ(MaskDecoder):
    """From an image embedding, its HQ features and encoded prompts to mask logits and their correction.

    Parameters
    ----------
    early_width
        Channels of the image encoder's early feature: 768, 1024 or 1280 for ViT-B, L and H, 160 for TinyViT.
    width
        Token width.
    multimask
        Number of masks for an ambiguous prompt; one more is for a clear one.
    """

    def __init__(self, *, early_width: int, width: int = 256, multimask: int = 3) -> None:
        super().__init__(width=width, multimask=multimask)
        thin = width // 8
        self.hf_token = nn.Embedding(1, width)
        self.hf_mlp = MLP(width, width, thin, 3)
        self.compress_vit_feat = _enlarging(early_width, width, thin)
        self.embedding_encoder = _enlarging(width, width // 4, thin)
        self.embedding_maskfeature = nn.Sequential(
            nn.Conv2d(thin, width // 4, 3, padding=1),
            LayerNorm2d(width // 4),
            nn.GELU(),
            nn.Conv2d(width // 4, thin, 3, padding=1),
        )

    def hq_features(self, image: Tensor, early: Tensor) -> Tensor:
        """Return the part of the HQ features that depends on the image alone.

        Parameters
        ----------
        image
            Shape (1, width, grid, grid): the image embedding.
        early
            Shape (1, grid, grid, early_width): the output of the image encoder's first block with global attention, or
            of TinyViT's first two stages.

        Returns
        -------
        torch.Tensor
            Shape (1, width / 8, 4 * grid, 4 * grid).
        """
        features: Tensor = self.embedding_encoder(image) + self.compress_vit_feat(early.permute(0, 3, 1, 2))
        return features

    def forward(  # type: ignore[override]  # Without the features there is no answer, so they cannot be optional.
        self, image: Tensor, hq_features: Tensor, image_pe: Tensor, sparse: Tensor, dense: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode n objects on one image.

        The official answers are sums: `logits[:, 0] + hq_logits` for a clear prompt, and `hq_logits` added to the one
        of `logits[:, 1:]` with the highest predicted IoU for an ambiguous one. The predicted IoUs stay those of SAM.

        Parameters
        ----------
        image
            Shape (1, width, grid, grid): the image embedding.
        hq_features
            Shape (1, width / 8, 4 * grid, 4 * grid): what the method of that name makes of the image.
        image_pe
            Shape (1, width, grid, grid): positions of its cells.
        sparse
            Shape (n, tokens, width).
        dense
            Shape (n, width, grid, grid).

        Returns
        -------
        logits : torch.Tensor
            Shape (n, 1 + multimask, 4 * grid, 4 * grid): SAM's own; the first is the answer to a clear prompt.
        hq_logits : torch.Tensor
            Shape (n, 4 * grid, 4 * grid): to be added to the mask that is to be sharpened.
        iou_prediction : torch.Tensor
            Shape (n, 1 + multimask).
        """
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight, self.hf_token.weight])
        tokens, up, logits = self._decode(outputs, image, image_pe, sparse, dense)
        # One by one on a processor: the wide layers of many would be newly allocated each time, which costs more.
        step = 1 if up.device.type == "cpu" else len(up)
        pairs = zip(torch.split(up, step), torch.split(self.hf_mlp(tokens[:, len(outputs) - 1]), step), strict=True)
        hq_logits = torch.cat([self.hq_logits(part, hq_features, weight) for part, weight in pairs])
        return logits, hq_logits, self.iou_prediction_head(tokens[:, 0])

    def hq_logits(self, up: Tensor, features: Tensor, weights: Tensor) -> Tensor:
        """Return weights @ (embedding_maskfeature(up) + features), for weights of shape (n, width / 8)."""
        *first, last = self.embedding_maskfeature
        for layer in first:
            up = layer(up)
        kernels, bias = last.parameters()
        # The last convolution is linear: weighting its kernels instead of its results leaves one channel to compute,
        # here as a map for each of the nine taps, added where it belongs.
        taps = torch.einsum("no,ockl->nklc", weights, kernels).flatten(1, 2)
        rows, cols = up.shape[-2:]
        maps = F.pad((taps @ up.flatten(2)).reshape(-1, 9, rows, cols), (1, 1, 1, 1))
        shifted = [maps[:, 3 * i + j, i : i + rows, j : j + cols] for i in range(3) for j in range(3)]
        own = torch.stack(shifted).sum(0)
        shared = (weights @ features[0].flatten(1) + (weights @ bias)[:, None]).reshape(own.shape)
        return own + shared


def _enlarging(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two transposed convolutions, each of which doubles rows and columns."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, hidden, 2, stride=2),
        LayerNorm2d(hidden),
        nn.GELU(),
        nn.ConvTranspose2d(hidden, outputs, 2, stride=2),
    )
