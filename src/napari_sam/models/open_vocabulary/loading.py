"""Load a model that knows words by its name, or from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from napari_sam.arguments import shown
from napari_sam.core.finding.open_vocabulary import TextDetector, TextRanker
from napari_sam.errors import ModelError
from napari_sam.models.device import resolve_device
from napari_sam.models.open_vocabulary.clip import ClipRanker
from napari_sam.models.open_vocabulary.grounding_dino import GroundingDinoDetector
from napari_sam.models.open_vocabulary.network_file import NetworkFile
from napari_sam.models.open_vocabulary.owlv2 import Owlv2Detector
from napari_sam.models.recognized import State, load_recognized
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.local import verified

KnowsWords: TypeAlias = TextDetector | TextRanker

FAMILIES: dict[str, Callable[[NetworkFile], KnowsWords]] = {
    "owlv2": Owlv2Detector,
    "grounding-dino": GroundingDinoDetector,
    "clip": ClipRanker,
}
# The first part of the names of weights, in the order in which files are recognized.
BEGINNINGS = {
    "owlv2": ("owlv2.",),
    "grounding-dino": ("model.text_backbone.", "model.backbone.conv_encoder."),
    "clip": ("text_model.", "vision_model."),
}


def load_detector(detector: str | Path, device: str = "auto") -> KnowsWords:
    """Load OWLv2, Grounding DINO or CLIP from the user's own file; nothing is downloaded or executed.

    Parameters
    ----------
    detector
        "owlv2", "grounding-dino", "clip", or the path of a checkpoint with the names of the transformers library. The
        vocabulary, tokenizer.json, lies beside it.
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises
    ------
    ModelError
        The name or file is unknown, missing, damaged or of another network, a library is missing, or the device is not
        available.
    """
    where = resolve_device(device)
    if not isinstance(detector, (str, Path)):
        raise ModelError(
            f"A detector is a name or the path of a checkpoint, and {shown(detector)} is neither: give one."
        )
    entry = DETECTORS.get(str(detector))
    if entry:
        path, _ = verified(entry)
    elif os.path.exists(detector):  # noqa: PTH110  False for a name that is too long, where `Path` raises.
        path = Path(detector)
    else:
        names = ", ".join(DETECTORS)
        raise ModelError(
            f"There is no detector {shown(str(detector))}: use one of {names}, or the path of a checkpoint."
        )
    family, state = load_recognized(path, entry, _recognized)
    return FAMILIES[family](NetworkFile(state, str(detector), where))


def _recognized(state: State, path: Path) -> tuple[str, State]:
    for family, beginnings in BEGINNINGS.items():
        if all(any(key.startswith(beginning) for key in state) for beginning in beginnings):
            return family, state
    raise ModelError(
        f"The weights in {path} are not of OWLv2, Grounding DINO or CLIP with the names of the transformers library: "
        "get model.safetensors from Hugging Face (napari-sam models says where)."
    )
