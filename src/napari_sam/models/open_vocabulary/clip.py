"""CLIP (Radford et al. 2021): how well a text describes pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from napari_sam.core.finding.open_vocabulary import TextRanker
from napari_sam.models.open_vocabulary.network_file import NetworkFile, clip_sizes, text_limits
from napari_sam.models.open_vocabulary.pictures import CLIP_COLORS, normalized

# Words that describe anything: a text must describe a picture better than each of them (Kerr et al. 2023, LERF).
GENERIC = ("object", "things", "stuff", "texture")
BATCH = 32


class ClipRanker(TextRanker):
    """A `TextRanker` with the weights of transformers' `CLIPModel`, as OpenAI published them, in float32.

    Parameters
    ----------
    file
        The weights.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing, too many or of another shape.
    """

    usual_threshold = 0.5

    def __init__(self, file: NetworkFile) -> None:
        text, vision, projection = clip_sizes(file)

        def make() -> Any:
            from transformers.models.clip.configuration_clip import CLIPConfig
            from transformers.models.clip.modeling_clip import CLIPModel

            return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection))

        self.name, self._file = file.name, file
        self._network = file.network(make)
        self.picture_side: int = vision["image_size"]
        self._limits = text_limits(text)
        self._generic: Tensor | None = None

    @torch.inference_mode()
    def rank(self, pictures: Sequence[NDArray[np.uint8]], text: str) -> NDArray[np.float32]:
        """Return how well a text describes pictures; see `TextRanker`.

        The score is the least probability of the text where the network chooses between it and a word that describes
        anything.

        Raises
        ------
        PromptError
            The text is empty.
        ModelError
            The vocabulary is missing or another's.
        """
        wanted = self._text_feature(text)
        if self._generic is None:
            self._generic = torch.cat([self._text_feature(word) for word in GENERIC])
        scores = [np.zeros(0, np.float32)]
        for start in range(0, len(pictures), BATCH):
            pixels = normalized(pictures[start : start + BATCH], CLIP_COLORS, self._file.device)
            features = F.normalize(self._network.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
            better = (features @ wanted.T - features @ self._generic.T) * self._network.logit_scale.exp()
            scores.append(better.amin(dim=1).sigmoid().cpu().numpy())
        return np.concatenate(scores)

    def _text_feature(self, text: str) -> Tensor:
        numbers = self._file.words(text, **self._limits)
        return F.normalize(self._network.get_text_features(input_ids=numbers).pooler_output, dim=-1)
