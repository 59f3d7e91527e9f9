"""Grounding DINO (Liu et al. 2023): boxes of the objects that a text names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.finding.open_vocabulary import Detected
from napari_sam.models.base import best_first
from napari_sam.models.open_vocabulary.network_file import HEAD, NetworkFile
from napari_sam.models.open_vocabulary.pictures import IMAGENET_COLORS, corners, normalized, padded

BACKBONE = "model.backbone.conv_encoder.model."
SWIN, TEXTS = f"{BACKBONE}swin.", "model.text_backbone."
# BERT's number of the end of a text.
END = 102
# Smaller pictures have fewer cells than the network has queries, 900.
LEAST_SIDE = 256
# Level of the first of the maps of Swin's stages that the network uses.
FIRST_MAP = 2
# From the names of Swin in published files to those of the library, in this order.
RENAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^(embeddings|encoder|layernorm)\.", r"swin.\1."),
        (r"\.attention\.self\.query\.", ".attention.q_proj."),
        (r"\.attention\.self\.key\.", ".attention.k_proj."),
        (r"\.attention\.self\.value\.", ".attention.v_proj."),
        (
            r"\.attention\.self\.relative_position_bias_table$",
            ".attention.relative_position_bias.relative_position_bias_table",
        ),
        (r"\.attention\.output\.dense\.", ".attention.o_proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
)


class GroundingDinoDetector:
    """A `TextDetector` with the weights of transformers' `GroundingDinoForObjectDetection`, in float32.

    Parameters
    ----------
    file
        The weights.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing, too many or of another shape.
    """

    input_side = 800
    usual_threshold = 0.35

    def __init__(self, file: NetworkFile) -> None:
        file = NetworkFile(with_library_names(file.state), file.name, file.device, file.vocabulary)
        sizes = configuration(file)

        def make() -> Any:
            from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
            from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoForObjectDetection

            return GroundingDinoForObjectDetection(GroundingDinoConfig(**sizes))

        self.name, self._file = file.name, file
        self._network = file.network(make, with_shared_heads)
        self._limits = {
            "most": min(self._network.config.max_text_len, sizes["text_config"]["max_position_embeddings"]),
            "known": sizes["text_config"]["vocab_size"],
            "last": END,
        }

    @torch.inference_mode()
    def detect(self, picture: NDArray[np.uint8], text: str, threshold: float) -> Detected:
        """Detect the objects that a text names; see `TextDetector`.

        Raises
        ------
        PromptError
            The text is empty.
        ModelError
            The vocabulary is missing or another's.
        """
        # The network was trained on phrases in small letters, each of which ends with a full stop.
        phrase = text.strip().rstrip(".").lower()
        numbers = self._file.words(f"{phrase}." if phrase else "", **self._limits)
        seen = padded(picture, LEAST_SIDE)
        pixels = normalized([seen], IMAGENET_COLORS, self._file.device)
        out = self._network(pixel_values=pixels, input_ids=numbers)
        scores = out.logits[0].sigmoid().amax(dim=-1)
        order = best_first(scores, threshold)
        boxes = corners(out.pred_boxes[0, order], seen.shape[:2], picture.shape[:2])
        return Detected(boxes, scores[order].cpu().numpy())


def with_library_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the library's names of Swin's layers in place of those of published files."""
    renamed = {}
    for key, value in state.items():
        name = key
        if key.startswith(BACKBONE):
            name = key.removeprefix(BACKBONE)
            for pattern, replacement in RENAMES:
                name = pattern.sub(replacement, name)
            name = BACKBONE + name
        renamed[name] = value
    return renamed


def with_shared_heads(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with all heads for boxes: those of one set of weights are published once."""
    heads = {key: value for key, value in state.items() if key.startswith("bbox_embed.")}
    shared = {
        key.removeprefix("bbox_embed.0."): value for key, value in heads.items() if key.startswith("bbox_embed.0.")
    }
    layers = len({key.split(".")[3] for key in state if key.startswith("model.decoder.layers.")})
    for layer in range(layers):
        for key, value in shared.items():
            heads.setdefault(f"bbox_embed.{layer}.{key}", value)
    return {**{f"model.decoder.{key}": value for key, value in heads.items()}, **heads, **state}


def configuration(file: NetworkFile) -> dict[str, Any]:
    """Return the configuration of the network with given weights.

    Raises
    ------
    ModelError
        A part is missing.
    """
    stages = file.count(rf"{re.escape(SWIN)}encoder\.layers\.(\d+)\.")
    first = [f"{SWIN}encoder.layers.{stage}.blocks.0." for stage in range(stages)]
    table = ".relative_position_bias.relative_position_bias_table"
    windows = file.shape(f"{SWIN}encoder.layers.0.blocks.0.attention{table}")[0]
    swin = {
        "model_type": "swin",
        "embed_dim": file.shape(f"{SWIN}embeddings.patch_embeddings.projection.weight")[0],
        "depths": [
            file.count(rf"{re.escape(SWIN)}encoder\.layers\.{stage}\.blocks\.(\d+)\.") for stage in range(stages)
        ],
        "num_heads": [file.shape(f"{block}attention{table}")[1] for block in first],
        "window_size": (round(windows**0.5) + 1) // 2,
        "out_indices": list(range(FIRST_MAP, stages + 1)),
    }
    vocabulary, width = file.shape(f"{TEXTS}embeddings.word_embeddings.weight")
    bert = {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": file.count(rf"{re.escape(TEXTS)}encoder\.layer\.(\d+)\."),
        "num_attention_heads": max(width // HEAD, 1),
        "intermediate_size": file.shape(f"{TEXTS}encoder.layer.0.intermediate.dense.weight")[0],
        "max_position_embeddings": file.shape(f"{TEXTS}embeddings.position_embeddings.weight")[0],
    }
    queries, d_model = file.shape("model.query_position_embeddings.weight")
    return {
        "backbone_config": swin,
        "text_config": bert,
        "d_model": d_model,
        "num_queries": queries,
        "num_feature_levels": file.shape("model.level_embed")[0],
        "encoder_layers": file.count(r"model\.encoder\.layers\.(\d+)\."),
        "decoder_layers": file.count(r"model\.decoder\.layers\.(\d+)\."),
        "encoder_ffn_dim": file.shape("model.encoder.layers.0.deformable_layer.fc1.weight")[0],
        "decoder_ffn_dim": file.shape("model.decoder.layers.0.fc1.weight")[0],
    }
