"""The two parts of a SAM 3 file: one for prompts, and one that finds objects by text."""

from __future__ import annotations

import re

from torch import Tensor

from napari_sam.errors import ModelError
from napari_sam.models.sam2.keys import VIDEO, with_both_positions

State = dict[str, Tensor]

DETECTOR, TRACKER, TRACKER_NECK = "detector_model.", "tracker_model.", "tracker_neck."
BACKBONE, NECK = "vision_encoder.backbone.", "vision_encoder.neck."
OFFICIAL = ("detector.", "tracker.")
# Tables computed from the network's size, which some versions of the library store.
DERIVED = re.compile(r".*\.(position_ids|rotary_emb\..*)")


def parts(state: State, name: str) -> tuple[State, State | None]:
    """Split a state dict into those of the library's `Sam3TrackerModel` and `Sam3Model`.

    Parameters
    ----------
    state
        With the names of the library's model for videos, which has both parts, or of its tracker alone.
    name
        What the user calls the model, for messages.

    Returns
    -------
    tracker : dict
        In float32, without the parts for videos.
    detector : dict or None
        In float32, with the tracker's tensors where both have the same; None where the file has none.

    Raises
    ------
    ModelError
        The file has other names or lacks the tracker.
    """
    if any(key.startswith(OFFICIAL) for key in state):
        raise ModelError(
            f"{name} is a SAM 3 with Meta's original names of weights, which are not supported: "
            "use model.safetensors of facebook/sam3 on Hugging Face, which holds the same weights."
        )
    state = {key: value.float() for key, value in state.items() if not DERIVED.fullmatch(key)}
    tracker = _inside(state, TRACKER)
    detector = _inside(state, DETECTOR)
    if not tracker and not detector:
        tracker = state
    if not any(key.startswith("prompt_encoder.") for key in tracker):
        raise ModelError(
            f"{name} lacks the part of SAM 3 for prompts: use the complete model.safetensors of facebook/sam3."
        )
    shared = {key: value for key, value in detector.items() if key.startswith(BACKBONE)}
    neck = {NECK + key: value for key, value in _inside(state, TRACKER_NECK).items()}
    tracker = {key: value for key, value in tracker.items() if not VIDEO.match(key)}
    return with_both_positions({**shared, **neck, **tracker}), detector or None


def _inside(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
