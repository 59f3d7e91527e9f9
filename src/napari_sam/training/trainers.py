"""Trainers: encoding, decoding and losses of the compact model and of SAM behind one interface."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.compact import Compact
from napari_sam.models.compact import predictor as compact
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX
from napari_sam.models.compact.image_encoder import PIXEL_MEAN, PIXEL_STD, DenseHead, ImageEncoder
from napari_sam.models.compact.prompt_encoder import NOT_A_POINT
from napari_sam.models.compact.trunk import STAGES, EfficientNetLite
from napari_sam.models.safe_load import load_weights
from napari_sam.models.sam import SIZES, TINY, Sam, build
from napari_sam.models.sam import predictor as sam
from napari_sam.training.config import TrainOptions
from napari_sam.training.losses import dense_loss, dense_targets, likeness_loss, sample_cells
from napari_sam.training.pretrained import load_imagenet
from napari_sam.training.prompts import PromptBatch

LIKENESS_CELLS = 24
TRAINABLE = ("compact", *SIZES, TINY)


class CompactTrainer:
    """Train the compact network on masks and on dense targets.

    Parameters
    ----------
    network
        The network to train.
    trunk_rate
        Learning rate of the trunk, relative to that of the rest.
    frozen_stages, frozen_norms
        Parts that are not trained; see `EfficientNetLite.freeze`. `frozen_norms` holds for the statistics of all batch
        normalizations of the image encoder.
    """

    side = compact.CompactPredictor.input_side

    def __init__(
        self, network: Compact, *, trunk_rate: float = 1.0, frozen_stages: int = 0, frozen_norms: bool = False
    ) -> None:
        self.network = network
        if network.scorer is not None:
            network.scorer.requires_grad_(False)
        encoder = network.image_encoder
        if isinstance(encoder, ImageEncoder):
            self.head = encoder.dense_head
            self._trunk: EfficientNetLite | None = encoder.trunk
            encoder.trunk.freeze(frozen_stages if trunk_rate else len(STAGES), norms=frozen_norms)
        else:  # The encoder of the first release has no such head; this one is discarded after training.
            self.head = DenseHead()
            self._trunk = None
        self._trunk_rate = trunk_rate
        self.has_frozen_norms = frozen_norms

    def train(self) -> None:
        """Switch the network to training; frozen normalizations stay in evaluation."""
        self.network.train()
        if self.has_frozen_norms:
            for module in self.network.image_encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        features: tuple[Tensor, ...] = self.network.image_encoder(self.normalized(pixels))
        return features

    @staticmethod
    def normalized(pixels: Tensor) -> Tensor:
        """Return images of shape (n, 3, side, side), uint8, as the network takes them."""
        images = (pixels.float() / 255 - PIXEL_MEAN) / PIXEL_STD
        return images.contiguous(memory_format=torch.channels_last)

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; return logits (n, masks, side/4, side/4) and predicted IoUs."""
        f16, f8, f4, pixels, centers = (repeated(feature, each) for feature in features)
        encoded = self.network.prompt_encoder(pixels, centers, prompts.coords, prompts.types, prompts.logits)
        logits, iou_prediction = self.network.mask_decoder(f16, f8, f4, encoded)
        return logits, iou_prediction

    def dense(
        self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator
    ) -> Tensor | None:
        """Return the auxiliary loss against labels of shape (n, side, side), or None for a network without one."""
        targets, labels = dense_labels(features[2], objects)
        return dense_loss(self.head(features[2]), features[4], targets) + 0.5 * self.alike(features, labels, rng)

    def alike(self, features: tuple[Tensor, ...], labels: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the loss of the likeness of cells, whose labels have the shape (n, rows, cols)."""
        drawn = [sample_cells(one, LIKENESS_CELLS, rng) for one in labels.cpu().numpy()]
        where, values = (torch.from_numpy(np.stack(part)).to(labels.device) for part in zip(*drawn, strict=True))
        return likeness_loss(features[3], labels, where, values, self.head.likeness)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters in groups, with "rate", a factor of the learning rate, for each."""
        trunk = list(self._trunk.parameters()) if self._trunk else []
        known = {id(parameter) for parameter in trunk}
        everything = {id(parameter): parameter for parameter in (*self.network.parameters(), *self.head.parameters())}
        others = [parameter for key, parameter in everything.items() if key not in known]
        return _trained((others, 1.0), (trunk, self._trunk_rate))


class SamTrainer:
    """Train a SAM.

    Parameters
    ----------
    network
        The network to train.
    frozen_encoder
        Whether only the prompt encoder and the mask decoder are trained, which a laptop can do.
    """

    # The images of a batch do not depend on each other: SAM has no batch normalization, and that of MobileSAM is fixed.
    has_frozen_norms = True

    def __init__(self, network: Sam, *, frozen_encoder: bool) -> None:
        self.network = network
        self.side = network.side
        self._frozen = frozen_encoder

    def train(self) -> None:
        """Switch the network to training; normalizations, and an encoder that is not trained, stay in evaluation."""
        self.network.train()
        if self._frozen:
            self.network.image_encoder.eval()
        for module in self.network.image_encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Encode images of shape (n, 3, side, side), uint8, into features for `decode`."""
        mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (sam.PIXEL_MEAN, sam.PIXEL_STD))
        with torch.set_grad_enabled(not self._frozen and torch.is_grad_enabled()):
            return (self.network.image_encoder((pixels.float() - mean) / std),)

    def decode(self, features: tuple[Tensor, ...], each: int, prompts: PromptBatch) -> tuple[Tensor, Tensor]:
        """Decode `each` objects of every image; return logits (n, masks, side/4, side/4) and predicted IoUs."""
        types = torch.where(prompts.types == NOT_A_POINT, -1, prompts.types)
        # As in training of SAM: the first round has no mask, the others have the last answer.
        masks = prompts.logits[:, None] if bool(prompts.logits.any()) else None
        sparse, dense = self.network.prompt_encoder(prompts.coords, types, masks)
        position = self.network.prompt_encoder.dense_position()
        logits, scores = self.network.mask_decoder(repeated(features[0], each), position, sparse, dense)
        if masks is None:
            return logits[:, 1:].float(), scores[:, 1:].float()
        return logits.float(), scores.float()

    def dense(
        self, features: tuple[Tensor, ...], objects: NDArray[np.int32], rng: np.random.Generator
    ) -> Tensor | None:
        """Return None: SAM has no auxiliary loss."""
        return None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters; see `CompactTrainer.parameter_groups`."""
        parts: list[nn.Module] = [self.network.prompt_encoder, self.network.mask_decoder]
        if not self._frozen:
            parts.append(self.network.image_encoder)
        return _trained(([parameter for part in parts for parameter in part.parameters()], 1.0))


Trainer = CompactTrainer | SamTrainer


def trainer_of(options: TrainOptions) -> Trainer:
    """Return a trainer of the weights that a run starts from, or of a new compact model.

    Parameters
    ----------
    options
        Options of the run; see `TrainOptions` for `init`, `pretrained_trunk` and what is not trained.

    Raises
    ------
    ModelError
        The file is damaged or holds weights of a network that cannot be trained, or the package with the pretrained
        trunk is not installed.
    """
    family, weights = "compact", dict[str, Tensor]()
    if options.init is not None:
        family, found = detect_architecture(load_weights(options.init), options.init)
        weights = {key: value.float() for key, value in found.items()}
    if family not in TRAINABLE:
        raise ModelError(
            f"{options.init} holds {family} weights, which cannot be trained here: start from the compact model, from "
            "SAM ViT-B, L or H, or from MobileSAM."
        )
    if family != "compact":
        if options.pretrained_trunk:
            raise ModelError(f"{options.init} holds {family} weights, which have no trunk: leave pretrained_trunk out.")
        if options.scorer_objects:
            raise ModelError(f"{options.init} holds {family} weights, which have no scorer: leave scorer_objects out.")
        sam_network = build(family)
        sam_network.load_state_dict(weights)
        return SamTrainer(sam_network, frozen_encoder=options.frozen_encoder)
    return _compact_trainer(weights, options)


def _compact_trainer(weights: dict[str, Tensor], options: TrainOptions) -> CompactTrainer:
    if options.scorer_objects:  # The scorer of other weights would misjudge those that are trained.
        weights = {key: value for key, value in weights.items() if not key.startswith(SCORER_PREFIX)}
    if options.pretrained_trunk:
        network = Compact()
        load_imagenet(network, weights)
    elif weights:
        network = Compact.matching(weights)
        network.load_state_dict(weights)
    else:
        network = Compact()
    if options.scorer_objects and not isinstance(network.image_encoder, ImageEncoder):
        raise ModelError(
            f"{options.init} holds weights of the first release, whose image encoder has no dense head to fit a scorer "
            "to: leave scorer_objects out."
        )
    if not (weights or options.pretrained_trunk):
        return CompactTrainer(network)
    return CompactTrainer(
        network,
        trunk_rate=options.trunk_rate,
        frozen_stages=options.frozen_stages,
        frozen_norms=options.frozen_norms,
    )


def _trained(*groups: tuple[list[nn.Parameter], float]) -> list[dict[str, Any]]:
    trained = [([one for one in parameters if one.requires_grad], rate) for parameters, rate in groups]
    return [{"params": parameters, "rate": rate} for parameters, rate in trained if parameters and rate]


def dense_labels(f4: Tensor, objects: NDArray[np.int32]) -> tuple[Tensor, Tensor]:
    """Return the dense targets of the finest features, and the labels of their cells, (n, rows, cols).

    Parameters
    ----------
    f4
        The features.
    objects
        Shape (n, side, side).
    """
    stride = objects.shape[-1] // f4.shape[-1]
    cells = np.ascontiguousarray(objects[:, stride // 2 :: stride, stride // 2 :: stride])
    targets = torch.from_numpy(np.stack([dense_targets(one, stride) for one in cells])).to(f4.device)
    return targets, torch.from_numpy(cells).to(f4.device)


def repeated(feature: Tensor, each: int) -> Tensor:
    """Return every image's feature `each` times in turn; its gradient is a sum, not a scatter."""
    last = feature.permute(0, 2, 3, 1)  # Convolutions are faster where the channels lie side by side.
    return last[:, None].expand(-1, each, *last.shape[1:]).flatten(0, 1).permute(0, 3, 1, 2)
