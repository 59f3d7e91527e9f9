"""The mask decoder: SAM's two-way transformer at stride 16, then up to stride 4 with the encoder's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.models.compact.layers import ChannelLayerNorm, ResidualBlock, enlarge
from napari_sam.models.compact.prompt_encoder import EncodedPrompts
from napari_sam.models.sam.transformer import Attention

HEADS = 4
SHAPE_FIGURES = 5


class TwoWayBlock(nn.Module):
    """Tokens attend to themselves and to the image, then the image to the tokens (Kirillov et al. 2023, appendix A)."""

    def __init__(self, width: int, hidden: int = 512) -> None:
        super().__init__()
        self.self_attention = Attention(width, HEADS)
        self.token_to_image = Attention(width, HEADS)
        self.image_to_token = Attention(width, HEADS)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        q = tokens + token_pe
        tokens = self.norms[0](tokens + self.self_attention(q, q, tokens))
        tokens = self.norms[1](tokens + self.token_to_image(tokens + token_pe, image + image_pe, image))
        tokens = self.norms[2](tokens + self.mlp(tokens))
        image = self.norms[3](image + self.image_to_token(image + image_pe, tokens + token_pe, tokens))
        return tokens, image


class MaskDecoder(nn.Module):
    """Three candidate masks and their predicted IoUs.

    Parameters
    ----------
    width
        Token width.
    candidates
        Number of masks.
    """

    def __init__(self, *, width: int = 128, candidates: int = 3) -> None:
        super().__init__()
        self.output_tokens = nn.Embedding(candidates + 1, width)
        self.blocks = nn.ModuleList(TwoWayBlock(width) for _ in range(2))
        self.final_attention = Attention(width, HEADS)
        self.final_norm = nn.LayerNorm(width)
        self.top8 = nn.Conv2d(width, 64, 1)
        self.out8 = ResidualBlock(64, norm=ChannelLayerNorm)
        self.top4 = nn.Conv2d(64, 32, 1)
        self.out4 = ResidualBlock(32, norm=ChannelLayerNorm)
        self.hypernetworks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 32)) for _ in range(candidates)
        )
        self.bias = nn.Linear(width, candidates)
        self.iou_head = nn.Sequential(
            nn.Linear(2 * width + 64 + SHAPE_FIGURES, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 1),
        )

    def forward(self, f16: Tensor, f8: Tensor, f4: Tensor, prompts: EncodedPrompts) -> tuple[Tensor, Tensor]:
        """Decode n objects.

        Parameters
        ----------
        f16, f8, f4
            The image encoder's features of each object's tile; the first dimension is n, or 1 for one common tile.
        prompts
            The encoded prompts of the n objects.

        Returns
        -------
        logits : torch.Tensor
            Shape (n, candidates, side/4, side/4), float32.
        iou_prediction : torch.Tensor
            Shape (n, candidates), float32.
        """
        logits, iou_prediction, _ = self.described(f16, f8, f4, prompts)
        return logits, iou_prediction

    def described(self, f16: Tensor, f8: Tensor, f4: Tensor, prompts: EncodedPrompts) -> tuple[Tensor, Tensor, Tensor]:
        """Decode n objects as `forward` does, and describe each mask for the `CandidateScorer`.

        Returns
        -------
        logits, iou_prediction : torch.Tensor
            As in `forward`.
        features : torch.Tensor
            Shape (n, candidates, width), float32: what the predicted IoU is computed from.
        """
        n, rows = prompts.tokens.shape[0], f16.shape[-1]
        outputs = self.output_tokens.weight[None].expand(n, -1, -1)
        token_pe = tokens = torch.cat([outputs, prompts.tokens], 1)
        image = (f16 + prompts.dense16).flatten(2).transpose(1, 2)
        image_pe = prompts.position16
        for block in self.blocks:
            tokens, image = block(tokens, image, token_pe, image_pe)
        tokens = self.final_norm(tokens + self.final_attention(tokens + token_pe, image + image_pe, image))

        x = image.transpose(1, 2).reshape(n, -1, rows, rows)
        x = self.out8(f8 + enlarge(self.top8(x)))
        x = self.out4(f4 + prompts.dense4 + enlarge(self.top4(x)))
        weights = torch.stack([head(tokens[:, i + 1]) for i, head in enumerate(self.hypernetworks)], 1)
        logits = torch.einsum("nmc,nchw->nmhw", weights, x) + self.bias(tokens[:, 0])[..., None, None]
        logits = logits.float()
        features = self._features(logits.detach(), x.detach(), tokens)
        iou_prediction: Tensor = self.iou_head[-1](features)[..., 0].float().sigmoid()
        return logits, iou_prediction, features.float()

    def _features(self, logits: Tensor, x: Tensor, tokens: Tensor) -> Tensor:
        """Describe each candidate by its token, the features inside and around it, and its outline."""
        count = logits.shape[1]
        share = logits.sigmoid()
        near = F.avg_pool2d(share, 9, stride=1, padding=4) * (1 - share)
        inside, around = (
            torch.einsum("nmhw,nchw->nmc", part, x.float()) / (part.sum((2, 3))[..., None] + 1.0)
            for part in (share, near)
        )
        cells = logits.shape[-2] * logits.shape[-1]
        area = (logits > 0).sum((2, 3)).float()
        larger, smaller = ((logits > level).sum((2, 3)).float() for level in (-1.0, 1.0))
        border = torch.cat([share[..., 0, :], share[..., -1, :], share[..., 0], share[..., -1]], -1).mean(-1)
        figures = torch.stack(
            [
                torch.log((area + 1) / cells),
                (smaller + 1) / (larger + 1),
                (share * (1 - share)).sum((2, 3)) / (area + 1),
                (share * (logits > 0)).sum((2, 3)) / (area + 1),
                border,
            ],
            -1,
        )
        own = tokens[:, 1 : count + 1]
        common = tokens[:, :1].expand_as(own)
        described: Tensor = self.iou_head[:-1](torch.cat([common, own, inside, around, figures], -1).to(tokens.dtype))
        return described
