"""SAM 3 behind the protocols Predictor, TextPredictor and ExemplarPredictor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Decoded, Embedding, Found
from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError
from napari_sam.models.base import TilePredictor, best_first, split_tiles
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.sam2.decoding import PromptDecoder, resized
from napari_sam.models.sam3.networks import SIDE, networks
from napari_sam.models.vocabulary import vocabulary_of, words

PIXEL_MEAN, PIXEL_STD = 0.5, 0.5
# The word that the network was trained with where examples come without words.
EXAMPLES_ALONE = "visual"


class Sam3Predictor(TilePredictor):
    """Encode, decode prompts and find objects by text and examples with the user's own weights of SAM 3.

    Parameters
    ----------
    state
        State dict of transformers' `Sam3VideoModel`, as facebook/sam3 is published, or of `Sam3TrackerModel` alone,
        which finds nothing by text.
    family
        "sam3".
    name, digest, device, precision
        See `TilePredictor`. Decoding and finding are in float32.
    vocabulary
        The tokenizer.json that came with the weights; by default the file of that name beside them.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing, of another shape or under other names.
    """

    input_side = SIDE
    tile_bytes = 800 * 2**20

    def __init__(
        self,
        state: State,
        family: str,
        *,
        name: str,
        digest: str,
        device: torch.device,
        precision: str = "auto",
        vocabulary: Path | None = None,
    ) -> None:
        super().__init__(name=name, digest=digest, device=device, precision=precision)
        self.family = family
        tracker, detector = networks(state, name)
        self._tracker: Any = tracker.to(device)
        self._detector: Any = None if detector is None else detector.to(device)
        self.finds_text = self.finds_exemplars = detector is not None
        self.input_side = int(tracker.config.vision_config.image_size)
        self._sizes = [tuple(size) for size in tracker.config.vision_config.backbone_feature_sizes]
        self._decode = PromptDecoder(self._tracker, self.input_side)
        self._vocabulary = vocabulary or vocabulary_of(name)

    def _encode(self, tiles: NDArray[np.uint8]) -> list[Embedding]:
        """Encode for prompts; for texts, store the backbone's output, a fifth of the features computed from it."""
        images = self._normalized(tiles, PIXEL_MEAN, PIXEL_STD)
        with self._autocast():
            encoder, decoder = self._tracker.vision_encoder, self._tracker.mask_decoder
            tokens: Tensor = encoder.backbone(images).last_hidden_state
            cells = tokens.transpose(1, 2).reshape(len(images), -1, *self._sizes[-1])
            fine, middle, coarse, *_ = encoder.neck(cells)[0]
            # The library's own shortcut adds the embedding to a level that it then discards.
            coarse = coarse + self._tracker.no_memory_embedding.reshape(1, -1, 1, 1)
            features = [coarse, decoder.conv_s1(middle), decoder.conv_s0(fine)]
        features += [cells] if self.finds_text else []
        return list(map(Embedding, split_tiles(features, len(tiles))))

    def _shapes(self) -> list[tuple[int, ...]]:
        vision = self._tracker.config.vision_config
        width = vision.fpn_hidden_size
        channels = [width, width // 4, width // 8]
        sizes = zip(channels, self._sizes[::-1], strict=True)
        shapes: list[tuple[int, ...]] = [(1, count, *size) for count, size in sizes]
        if self.finds_text:
            shapes.append((1, vision.backbone_config.hidden_size, *self._sizes[-1]))
        return shapes

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: TilePrompts) -> Decoded:
        """Decode the prompts of one object; see `Predictor` and `Sam2Predictor.decode`."""
        return self._decode(embedding.tensors[:3], prompts)

    @torch.inference_mode()
    def find(self, embedding: Embedding, text: str, threshold: float = 0.5) -> Found:
        """Find the objects that a text names; see `TextPredictor`.

        Parameters
        ----------
        embedding
            Of one tile.
        text
            A short noun phrase.
        threshold
            Least score, 0 to 1: of the object, times that of any such object being there.

        Raises
        ------
        PromptError
            The text is empty.
        ModelError
            The weights lack the part for text, or their vocabulary is missing or another's.
        """
        return self._found(embedding, text, threshold)

    @torch.inference_mode()
    def find_like(
        self,
        embedding: Embedding,
        boxes: Sequence[Box],
        labels: NDArray[np.bool_],
        text: str = "",
        threshold: float = 0.5,
    ) -> Found:
        """Find the objects that look like examples; see `ExemplarPredictor`, and `find` for scores and errors."""
        edges = np.array([box.as_tuple() for box in boxes], np.float32) / self.input_side
        top, left, bottom, right = torch.from_numpy(edges).T
        placed = torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], dim=1)
        examples = {
            "input_boxes": placed[None].to(self._device),
            "input_boxes_labels": torch.from_numpy(labels.astype(np.int64))[None].to(self._device),
        }
        return self._found(embedding, text.strip() or EXAMPLES_ALONE, threshold, **examples)

    def _found(self, embedding: Embedding, text: str, threshold: float, **examples: Tensor) -> Found:
        if not self.finds_text:
            raise ModelError(f"{self.name} lacks the part of SAM 3 for text: use the complete model.safetensors.")
        config = self._detector.config.text_config
        numbers = words(text, self._vocabulary, most=config.max_position_embeddings, known=config.vocab_size)
        levels, positions = self._detector.vision_encoder.neck(embedding.tensors[3])
        vision = SimpleNamespace(
            fpn_hidden_states=levels, fpn_position_encoding=positions, hidden_states=None, attentions=None
        )
        asked = torch.tensor([numbers], device=self._device)
        out = self._detector(vision_embeds=vision, input_ids=asked, **examples)
        scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
        order = best_first(scores, threshold)
        cells = self.input_side // 4
        boxes = out.pred_boxes[0, order][:, [1, 0, 3, 2]].clamp(0, 1) * self.input_side
        logits = resized(out.pred_masks[0, order], (cells, cells)) if len(order) else torch.zeros(0, cells, cells)
        return Found(logits.cpu().numpy(), scores[order].cpu().numpy(), boxes.cpu().numpy())
