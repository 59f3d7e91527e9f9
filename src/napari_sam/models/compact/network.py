"""The whole compact network, for training and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX, SIZE_PREFIX, CandidateScorer, UsualSize
from napari_sam.models.compact.image_encoder import DenseHead, ImageEncoder
from napari_sam.models.compact.layers import ResidualBlock
from napari_sam.models.compact.mask_decoder import MaskDecoder
from napari_sam.models.compact.prompt_encoder import PromptEncoder
from napari_sam.models.compact.residual_encoder import ResidualEncoder

ENCODERS: dict[str, type[ImageEncoder] | type[ResidualEncoder]] = {
    "efficientnet_lite2": ImageEncoder,
    "residual": ResidualEncoder,
}


class Compact(nn.Module):
    """A small SAM for square tiles of 256 pixels.

    Parameters
    ----------
    width
        Token width of the prompt encoder and the mask decoder.
    encoder
        Image encoder: "efficientnet_lite2" or, for checkpoints of the first release, "residual".
    has_scorer
        Whether there is a `CandidateScorer`, which is fitted after the rest was trained.
    has_usual_size
        Whether it knows the `UsualSize` of the objects that it was taught.
    """

    def __init__(
        self,
        *,
        width: int = 128,
        encoder: str = "efficientnet_lite2",
        has_scorer: bool = False,
        has_usual_size: bool = False,
    ) -> None:
        super().__init__()
        self.image_encoder = ENCODERS[encoder](width=width)
        self.prompt_encoder = PromptEncoder(width=width)
        self.mask_decoder = MaskDecoder(width=width)
        self.scorer = CandidateScorer() if has_scorer else None
        self.usual_size = UsualSize() if has_usual_size else None

    @classmethod
    def matching(cls, state: Mapping[str, Tensor]) -> Compact:
        """Return a network with random weights that has the parts of a state dict."""
        is_residual = any(key.startswith("image_encoder.stage8.") for key in state)
        has_scorer, has_size = (any(key.startswith(one) for key in state) for one in (SCORER_PREFIX, SIZE_PREFIX))
        encoder = "residual" if is_residual else "efficientnet_lite2"
        return cls(encoder=encoder, has_scorer=has_scorer, has_usual_size=has_size)

    def forward(self, images: Tensor, coords: Tensor, types: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images and decode one object in each.

        Parameters
        ----------
        images
            Shape (n, 3, side, side), normalized.
        coords, types, mask_logits
            As in `PromptEncoder.forward`.

        Returns
        -------
        logits, iou_prediction : torch.Tensor
            As in `MaskDecoder.forward`.
        """
        f16, f8, f4, pixels, centers = self.image_encoder(images)
        prompts = self.prompt_encoder(pixels, centers, coords, types, mask_logits)
        logits, iou_prediction = self.mask_decoder(f16, f8, f4, prompts)
        return logits, iou_prediction

    @property
    def dense_head(self) -> DenseHead | None:
        """The head for foreground and border, which checkpoints of the first release do not have."""
        head: DenseHead | None = getattr(self.image_encoder, "dense_head", None)
        return head

    def fold_batch_norms(self) -> None:
        """Fold the encoder's batch normalization into its convolutions: the same results in evaluation, faster."""
        for module in self.image_encoder.modules():
            if isinstance(module, ResidualBlock):
                module.conv1, module.norm1 = _folded(module.conv1, module.norm1)
                module.conv2, module.norm2 = _folded(module.conv2, module.norm2)
            elif isinstance(module, nn.Sequential) and len(module) == 3 and isinstance(module[1], nn.BatchNorm2d):
                module[0], module[1] = _folded(module[0], module[1])


def _folded(conv: nn.Module, norm: nn.Module) -> tuple[nn.Conv2d, nn.Module]:
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm), nn.Identity()
