"""SAM 3's two networks of the transformers library, which share one image encoder."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from napari_sam.models.sam2.decoding import NoPositions
from napari_sam.models.sam2.loading import filled
from napari_sam.models.sam3.geometry import without_torchvision
from napari_sam.models.sam3.keys import parts

SIDE = 1008


def configurations() -> tuple[Any, Any]:
    """Return the configurations of the tracker and of the detector; the library's defaults are the released model."""
    from transformers.models.sam3.configuration_sam3 import Sam3Config
    from transformers.models.sam3_tracker.configuration_sam3_tracker import Sam3TrackerConfig

    return Sam3TrackerConfig(attn_implementation="sdpa"), Sam3Config(attn_implementation="sdpa")


def networks(state: dict[str, Tensor], name: str) -> tuple[Any, Any | None]:
    """Create the network for prompts and, if its weights exist, the one that finds objects by text.

    Raises
    ------
    ModelError
        The transformers library is missing, or weights are missing, too many or of another shape.
    """
    answering, finding = parts(state, name)
    tracker = filled(_tracker, answering, name)
    tracker.vision_encoder.neck.position_encoding = NoPositions()
    if finding is None:
        return tracker, None
    detector = filled(_detector, finding, name)
    detector.vision_encoder.backbone = tracker.vision_encoder.backbone
    without_torchvision(detector.geometry_encoder)
    return tracker, detector


def _tracker() -> Any:
    from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel

    return Sam3TrackerModel(configurations()[0])


def _detector() -> Any:
    from transformers.models.sam3.modeling_sam3 import Sam3Model

    return Sam3Model(configurations()[1])
