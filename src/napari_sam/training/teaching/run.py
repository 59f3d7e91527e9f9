"""Teach a model what a lesson holds: steps until the time is over, and figures on the held-back objects around them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam import __version__
from napari_sam.core.predictor import Predictor
from napari_sam.errors import NapariSamError
from napari_sam.models import predictor_of
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.device import free_threads, resolve_device
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.training.checkpoint import TrainingState, restored, save, state_of
from napari_sam.training.config import TrainOptions
from napari_sam.training.crops import Crop, CropOptions, Source, draw_crop
from napari_sam.training.teaching.displaced import check_in_place
from napari_sam.training.teaching.measuring.held_back import Figures, Held, held_back, is_better, measured
from napari_sam.training.teaching.lesson import MODEL_FILE, Lesson, TeachOptions
from napari_sam.training.teaching.regions import Region
from napari_sam.training.teaching.trainers import TaughtSam, trained_parameters, trainer_of_weights
from napari_sam.training.train import take_step
from napari_sam.weights.taught import base_file

# How much more often an object is drawn that the user corrected.
CORRECTED_WEIGHT = 3.0
# Steps whose time tells how many there can be.
TIMED = 4
LEAST_STEPS, MOST_STEPS = 20, 400
# The curve has a point after each of these shares of the steps, where measuring takes a smaller share of the time.
CHECKS, MOST_MEASURING = (0.34, 0.67), 0.4
# The weights of an earlier point of the curve are taken if the last ones are worse by more than this.
MUCH_WORSE = 0.01
# Weights at this share of the way from the base model forget less; they are taken if they are not worse by more either.
SHARE = 0.6
BEST_FILE = "best.safetensors"
# Crops that a slow image encoder sees at most; all steps draw from them.
MOST_ENCODED = 96
SAVE_SECONDS, REPORT_SECONDS = 45.0, 1.0
# How far each step moves the weights back to those of the base model, as a multiple of the learning rate.
PULL = 2.0

Report = Callable[[dict[str, Any]], None]


class StoppedError(NapariSamError):
    """Raised when the lesson was asked to stop; its state is saved."""


@dataclass
class Teaching:
    """One lesson under way.

    Parameters
    ----------
    lesson
        What is taught.
    report
        Called with the progress, whenever it changed.
    clock
        Tells the seconds that count for the time of the lesson.
    """

    lesson: Lesson
    report: Report
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.options: TeachOptions = self.lesson.options
        self.device = resolve_device(self.options.device)
        self.path, self.digest = base_file(self.options.base)
        self.family, self.weights = detect_architecture(load_weights(self.path), self.path)
        self._told = 0.0
        self._chosen: State = self.weights

    def run(self) -> bool:
        """Teach, and return whether the model became better; it is then in the lesson's folder.

        Raises
        ------
        ModelError, OutputError
            The model cannot be taught, there are too few objects, or the disk is full.
        StoppedError
            The lesson was asked to stop.
        """
        torch.set_num_threads(self.options.threads or max(1, free_threads() - 1))
        regions = self.lesson.regions()
        held = held_back(regions, self.options.seed)
        known = self.lesson.progress
        if "before" not in known:
            self._tell(phase="measuring", force=True)
            if not self.options.trust_labels:
                check_in_place(regions, self.options.seed)
            base = self._predictor(self.weights, self.digest)
            start = self.clock()
            before = measured(regions, held, base)
            rows = {"before": before.means, "rows": _rows(before), "held_back": len(before.box)}
            known = self._tell(**rows, measuring_seconds=self.clock() - start, curve=[[0, before.means]], force=True)
        before = Figures(*np.array(known["rows"], np.float64))
        state, spent = self._train(regions, held)
        self._tell(phase="measuring", step=state.step, seconds=spent, force=True)
        return self._end(before, *self._last(regions, held, state), state, spent)

    def taught(self) -> Predictor:
        """Return the model after `run`, whether it is better or not."""
        return self._predictor(self._chosen, "taught")

    # -- training ------------------------------------------------------------------------------------------------------

    def _train(self, regions: Sequence[Region], held: Held) -> tuple[TrainingState, float]:
        options = teaching_options(self.family, self.options, self.lesson.folder)
        trainer = trainer_of_weights(self.weights, self.family, self.options.base)
        state = restored(state_of(trainer, options, self.device), self.lesson.folder)
        home = self._home(state)
        known = self.lesson.progress
        spent, steps = float(known.get("seconds", 0.0)), int(known.get("steps", 0)) or None
        sources, weights = sources_of(regions, held)
        crops = CropOptions(options.side or trainer.side, options.objects, options.smallest, options.largest)
        saved = time.monotonic()
        self._tell(phase="training", steps=steps or 0, step=state.step, force=True)
        with ThreadPoolExecutor(1) as pool:
            while steps is None or state.step < steps:
                start = self.clock()
                options = replace(options, steps=steps or MOST_STEPS)
                batch = self._batch(sources, weights, options, crops, state)
                figures = take_step(state, options, batch, state.step, self.device, pool)
                _pull(state, home, options)
                state.step += 1
                state.curve.append({"step": state.step, **figures})
                spent += self.clock() - start
                is_timed = steps is None and state.step >= TIMED
                steps = self._steps(spent, state.step) if is_timed else steps
                self._tell(step=state.step, steps=steps or 0, seconds=spent, force=is_timed)
                is_due = time.monotonic() - saved > SAVE_SECONDS
                if is_due or self.lesson.must_stop:
                    save(state, self.lesson.folder, with_picture=False)
                    saved = time.monotonic()
                if self.lesson.must_stop:
                    self._tell(phase="stopped", step=state.step, seconds=spent, force=True)
                    raise StoppedError("Teaching was stopped; its state is saved: teach again to go on.")
                if steps is not None and state.step in self._checks(steps):
                    self._check(regions, held, state)
        save(state, self.lesson.folder, with_picture=False)
        return state, spent

    def _steps(self, spent: float, done: int) -> int:
        """Return how many steps there can be, from the time that the first ones took."""
        measuring = float(self.lesson.progress.get("measuring_seconds", 0.0)) * (3 + len(CHECKS))
        wanted = (self.options.minutes * 60 - measuring) * done / max(spent, 1e-3)
        return int(min(max(wanted, LEAST_STEPS), MOST_STEPS))

    def _batch(
        self,
        sources: dict[str, list[Source]],
        weights: dict[str, float],
        options: TrainOptions,
        crops: CropOptions,
        state: TrainingState,
    ) -> list[Crop]:
        """Draw the crops of a step, which depend on the seed and the step only."""
        numbers = range(state.step * options.batch, (state.step + 1) * options.batch)
        if isinstance(state.trainer, TaughtSam):
            numbers = range(numbers.start % MOST_ENCODED, numbers.start % MOST_ENCODED + options.batch)
        return [
            draw_crop(sources, weights, crops, np.random.default_rng([self.options.seed, number])) for number in numbers
        ]

    def _checks(self, steps: int) -> set[int]:
        """Return after which steps the model is measured."""
        measuring = float(self.lesson.progress.get("measuring_seconds", 0.0)) * (3 + len(CHECKS))
        is_quick = measuring < MOST_MEASURING * self.options.minutes * 60
        return {round(share * steps) for share in CHECKS} if is_quick else set()

    def _home(self, state: TrainingState) -> list[Tensor]:
        """Return the weights of the base model, of all parameters that are trained."""
        known = {id(parameter): name for name, parameter in state.trainer.network.named_parameters()}
        trained = trained_parameters(state.trainer)
        # The dense head of the first release is not among its weights: it begins at random.
        base = (self.weights.get(known.get(id(parameter), "")) for parameter in trained)
        return [
            parameter.detach().clone() if weights is None else weights.to(parameter.detach())
            for parameter, weights in zip(trained, base, strict=True)
        ]

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _check(self, regions: Sequence[Region], held: Held, state: TrainingState) -> None:
        """Add a point to the curve."""
        figures = measured(regions, held, self._predictor(state.averaged.state_dict(), "check"))
        now = self.lesson.progress
        score, best = float(figures.scores.mean()), now.get("best")
        if best is None or score > best["score"]:
            save_weights(self._plain(state.averaged.state_dict()), self.lesson.folder / BEST_FILE, family=self.family)
            best = {"score": score, "step": state.step, "rows": _rows(figures)}
        self._tell(curve=[*now["curve"], [state.step, figures.means]], best=best, force=True)

    def _last(self, regions: Sequence[Region], held: Held, state: TrainingState) -> tuple[Figures, State]:
        """Return the last weights, or those on the way to them, with their figures."""
        last = self._plain(state.averaged.state_dict())
        near = {key: torch.lerp(self.weights[key].to(value), value, SHARE) for key, value in last.items()}
        figures, others = (
            measured(regions, held, self._predictor(weights, digest))
            for weights, digest in ((last, "taught"), (near, "taught in part"))
        )
        is_enough = float(others.scores.mean()) > float(figures.scores.mean()) - MUCH_WORSE
        return (others, near) if is_enough else (figures, last)

    def _plain(self, weights: State) -> State:
        """Return weights without the tables that a network computes from others."""
        copied = {key: value.detach().cpu().clone() for key, value in weights.items()}
        return {key: value for key, value in copied.items() if key in self.weights}

    def _predictor(self, weights: State, digest: str) -> Predictor:
        copied = self._plain(weights)
        return predictor_of(copied, self.family, self.options.name, digest, self.device)

    def _end(self, before: Figures, after: Figures, weights: State, state: TrainingState, spent: float) -> bool:
        now = self.lesson.progress
        best = now.get("best")
        curve = [*now["curve"], [state.step, after.means]]
        if best is not None and best["score"] > float(after.scores.mean()) + MUCH_WORSE:
            after, weights = Figures(*np.array(best["rows"], np.float64)), load_weights(self.lesson.folder / BEST_FILE)
        self._chosen, better = weights, is_better(before, after)
        if better:
            card = self._card(before, after, state, spent)
            save_weights(weights, self.lesson.folder / MODEL_FILE, family=self.family, half=True, card=card)
        self._tell(phase="better" if better else "not better", after=after.means, curve=curve, force=True)
        return better

    def _card(self, before: Figures, after: Figures, state: TrainingState, spent: float) -> dict[str, Any]:
        return {
            "name": self.options.name,
            "base": str(self.options.base),
            "base_sha256": self.digest,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            "version": __version__,
            "images": self.lesson.images,
            "objects": sum(image["objects"] for image in self.lesson.images),
            "corrected": self.lesson.corrected,
            "held_back": len(before.box),
            "steps": state.step,
            "minutes": round(spent / 60, 1),
            "before": before.means,
            "after": after.means,
        }

    def _tell(self, *, force: bool = False, **changes: Any) -> dict[str, Any]:
        """Write the progress, at most once in a second unless something more than the step changed."""
        if not force and time.monotonic() - self._told < REPORT_SECONDS:
            return {}
        self._told = time.monotonic()
        now = self.lesson.report(**changes, process=os.getpid())
        self.report(now)
        return now


def teaching_options(family: str, options: TeachOptions, folder: Path) -> TrainOptions:
    """Return the options of the steps, which `benchmarks/teach.py` compared."""
    chosen = TrainOptions(
        out=folder,
        objects=4,
        rounds=4,
        learned_rounds=2,
        every_candidate=0.25,
        chosen_candidate=1.0,
        weight_decay=0.0,
        warmup=15,
        decay=0.7,
        average=0.97,
        box_share=0.3,
        smallest=0.06,
        largest=1.0,
        seed=options.seed,
        device=options.device,
    )
    batch, rate = (6, 5e-4) if family == "compact" else (1, 1e-4)
    return replace(chosen, batch=batch, learning_rate=rate)


def sources_of(regions: Sequence[Region], held: Held) -> tuple[dict[str, list[Source]], dict[str, float]]:
    """Return what crops are drawn from, and how often from each region, so that all objects come alike.

    Objects that were corrected come three times as often. Nothing is known where an object is that is held back.
    """
    sources, weights = {}, {}
    for number, (region, hidden) in enumerate(zip(regions, held, strict=True)):
        seen = region.without(hidden)
        if len(seen.numbers):
            shares = np.where(seen.is_corrected, CORRECTED_WEIGHT, 1.0)
            sources[str(number)] = [Source(seen.pixels, seen.objects, seen.numbers, shares / shares.sum())]
            weights[str(number)] = float(shares.sum())
    return sources, weights


@torch.no_grad()
def _pull(state: TrainingState, home: Sequence[Tensor], options: TrainOptions) -> None:
    """Move the weights back a little to those of the base model, so that it does not forget other images."""
    at = 0
    for group in state.optimizer.param_groups:
        for parameter in group["params"]:
            parameter.lerp_(home[at], min(group["lr"] * PULL, 1.0))
            at += 1


def _rows(figures: Figures) -> list[list[float]]:
    return [[round(float(value), 6) for value in values] for values in (figures.click_1, figures.click_3, figures.box)]
