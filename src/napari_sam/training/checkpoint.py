"""The state of a training run: created, averaged, and saved so that a kill leaves the last one intact."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from napari_sam.errors import ModelError, OutputError
from napari_sam.files.outputs import replacing
from napari_sam.models.archives import check_torch_file
from napari_sam.training.config import TrainOptions
from napari_sam.training.plots import can_draw, draw_curve
from napari_sam.training.trainers import CompactTrainer, Trainer, trainer_of

STATE_FILE, CURVE_FILE, WEIGHTS_FILE, PICTURE_FILE = "state.pt", "curve.json", "weights.safetensors", "curve.png"


@dataclass
class TrainingState:
    """Everything that a run changes, and that is saved and restored.

    Parameters
    ----------
    trainer
        The network that is trained.
    averaged
        Exponential moving average of its weights.
    optimizer
        Its optimizer.
    step
        Number of steps taken.
    curve
        Figures of each step.
    """

    trainer: Trainer
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)


def fresh_state(options: TrainOptions, device: torch.device) -> TrainingState:
    """Return the state of a run before its first step: random weights, or those of `options.init`.

    Raises
    ------
    ModelError
        The weights are damaged, or of a network that cannot be trained, or a pretrained trunk is not installed.
    """
    torch.manual_seed(options.seed)
    return state_of(trainer_of(options), options, device)


def state_of(trainer: Trainer, options: TrainOptions, device: torch.device) -> TrainingState:
    """Return the state of a trainer before its first step."""
    trainer.network.to(device, torch.float32)
    if isinstance(trainer, CompactTrainer):
        trainer.head.to(device)
        trainer.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(trainer.network).requires_grad_(False)
    groups = trainer.parameter_groups()
    optimizer = torch.optim.AdamW(
        groups, lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
    )
    return TrainingState(trainer, averaged, optimizer)


@torch.no_grad()
def average_weights(state: TrainingState, decay: float) -> None:
    """Move the averaged weights towards the current ones, by a share of 1 - decay."""
    current = state.trainer.network.state_dict()
    for name, value in state.averaged.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])


def restored(state: TrainingState, folder: Path) -> TrainingState:
    """Return the state saved in a folder, loaded into `state`; unchanged if there is none.

    Raises
    ------
    ModelError
        It is of another network, or damaged.
    """
    file = folder / STATE_FILE
    if not file.exists():
        return state
    try:
        check_torch_file(file)
        saved = torch.load(file, map_location="cpu", weights_only=True)
        state.trainer.network.load_state_dict(saved["network"])
        state.averaged.load_state_dict(saved["averaged"])
        state.optimizer.load_state_dict(saved["optimizer"])
        if isinstance(state.trainer, CompactTrainer):
            state.trainer.head.load_state_dict(saved["head"])
        state.step = int(saved["step"])
        state.curve = json.loads((folder / CURVE_FILE).read_text())[: state.step]
    except Exception as error:
        raise ModelError(f"The state in {folder} is of another run or damaged: choose another folder (out).") from error
    return state


def save(state: TrainingState, folder: Path, *, with_picture: bool = True) -> None:
    """Write the state, the curve, the averaged weights and a picture of the curve; each file whole or not at all.

    Raises
    ------
    OutputError
        The disk is full or the folder cannot be written to; the older files are intact.
    """
    saved = {
        "network": state.trainer.network.state_dict(),
        "averaged": state.averaged.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "head": state.trainer.head.state_dict() if isinstance(state.trainer, CompactTrainer) else {},
        "step": state.step,
    }
    half = {
        # Running variances can exceed what half precision holds; they are few.
        key: value.detach().cpu().to(torch.float32 if "running_" in key else torch.float16).contiguous()
        for key, value in state.averaged.state_dict().items()
        if value.dtype.is_floating_point
    }
    writers: list[tuple[str, Callable[[Path], object]]] = [
        (CURVE_FILE, lambda path: path.write_text(json.dumps(state.curve))),
        (WEIGHTS_FILE, lambda path: save_file(half, path)),
        (STATE_FILE, lambda path: torch.save(saved, path)),
    ]
    if with_picture and can_draw():
        writers.append((PICTURE_FILE, lambda path: draw_curve(state.curve, path)))
    try:
        for name, write in writers:
            with replacing(folder / name) as temporary:
                write(temporary)
    except (OutputError, RuntimeError, SafetensorError) as error:
        raise OutputError(
            f"The state of step {state.step} cannot be written to {folder} ({error}): make room there and start again; "
            "the state before it is intact."
        ) from error
