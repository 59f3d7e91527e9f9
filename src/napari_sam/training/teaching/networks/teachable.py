"""Teachable networks: which of them can be taught, and their trainers."""

from __future__ import annotations

from napari_sam.errors import ModelError
from napari_sam.models.checkpoints import SAM2_FAMILIES
from napari_sam.models.compact import Compact
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.sam import build
from napari_sam.training.teaching.networks.sam2_trainer import TaughtSam2, sam2_of
from napari_sam.training.teaching.networks.trainers import TaughtCompact, TaughtSam
from napari_sam.training.trainers import TRAINABLE, Trainer


def trainer_of_weights(state: State, family: str, source: str, rank: int = 0) -> Trainer:
    """Return the trainer of a model that can be taught.

    Parameters
    ----------
    state
        Its weights; those of SAM 2 with the names of the library.
    family
        Its network.
    source
        What the user calls it.
    rank
        Of the adapters of the image encoder; 0 for none.

    Raises
    ------
    ModelError
        Its network cannot be trained here.
    """
    check_teachable(family, source, rank)
    weights = {key: value.float() for key, value in state.items()}
    if family == "compact":
        compact = Compact.matching(weights)
        compact.load_state_dict(weights)
        return TaughtCompact(compact)
    if family in SAM2_FAMILIES:
        return TaughtSam2(sam2_of(weights, family, source), rank)
    network = build(family)
    network.load_state_dict(weights)
    return TaughtSam(network, rank)


def check_teachable(family: str, source: str, rank: int = 0) -> None:
    """Refuse a network that cannot be trained here; raises ModelError."""
    if family not in (*TRAINABLE, *SAM2_FAMILIES):
        raise ModelError(
            f"{source} is a model of {family}, which cannot be taught: choose compact, MobileSAM, SAM ViT-B, L or H, "
            "or SAM 2.1."
        )
    if family == "compact" and rank:
        raise ModelError(f"All of {source} learns anyway, so it gets no adapters: leave them out, or choose a SAM.")
