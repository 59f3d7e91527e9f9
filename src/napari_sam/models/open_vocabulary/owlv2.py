"""OWLv2 (Minderer et al. 2023): boxes of the objects that a text names."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.core.finding.open_vocabulary import Detected
from napari_sam.models.base import best_first
from napari_sam.models.open_vocabulary.network_file import NetworkFile, clip_sizes, text_limits
from napari_sam.models.open_vocabulary.pictures import CLIP_COLORS, corners, normalized, padded


class Owlv2Detector:
    """A `TextDetector` with the weights of transformers' `Owlv2ForObjectDetection`, in float32.

    Parameters
    ----------
    file
        The weights.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing, too many or of another shape.
    """

    usual_threshold = 0.2

    def __init__(self, file: NetworkFile) -> None:
        text, vision, projection = clip_sizes(file, "owlv2.")

        def make() -> Any:
            from transformers.models.owlv2.configuration_owlv2 import Owlv2Config
            from transformers.models.owlv2.modeling_owlv2 import Owlv2ForObjectDetection

            return Owlv2ForObjectDetection(
                Owlv2Config(text_config=text, vision_config=vision, projection_dim=projection)
            )

        self.name, self._file = file.name, file
        self._network = file.network(make)
        self.input_side: int = vision["image_size"]
        self._limits = text_limits(text)

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
        numbers = self._file.words(text, **self._limits)
        pixels = normalized([padded(picture, self.input_side)], CLIP_COLORS, self._file.device)
        out = self._network(input_ids=numbers, pixel_values=pixels, attention_mask=torch.ones_like(numbers))
        scores = out.logits[0, :, 0].sigmoid()
        order = best_first(scores, threshold)
        side = float(self.input_side)
        boxes = corners(out.pred_boxes[0, order], (side, side), picture.shape[:2])
        return Detected(boxes, scores[order].cpu().numpy())
