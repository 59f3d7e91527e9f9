"""Teach a model what a lesson holds: steps until the time is over, and figures on the held-back objects around them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_sam import __version__
from napari_sam.core.predictor import Predictor
from napari_sam.errors import NapariSamError
from napari_sam.models import predictor_of
from napari_sam.models.checkpoints import SAM2_FAMILIES, detect_architecture
from napari_sam.models.compact.candidate_scorer import SCORER_PREFIX, SIZE_PREFIX
from napari_sam.models.device import free_threads, resolve_device
from napari_sam.models.nested_checkpoints import State
from napari_sam.models.safe_load import load_weights, save_weights
from napari_sam.models.sam2.keys import for_videos
from napari_sam.training.checkpoint import TrainingState, restored, save, state_of
from napari_sam.training.config import TrainOptions
from napari_sam.training.crops import Crop, CropOptions, Source, draw_crop
from napari_sam.training.teaching.displaced import check_in_place
from napari_sam.training.teaching.lesson import MODEL_FILE, Lesson, TeachOptions
from napari_sam.training.teaching.measuring.alone import found_alone
from napari_sam.training.teaching.measuring.choice import Choice, choose, sized
from napari_sam.training.teaching.measuring.held_back import (
    Figures,
    Held,
    either,
    held_back,
    is_better,
    measured,
    watched,
)
from napari_sam.training.teaching.measuring.rehearsal import rehearsed
from napari_sam.training.teaching.measuring.sizes import usual_log_area
from napari_sam.training.teaching.networks.adapters import ADDED, merged
from napari_sam.training.teaching.networks.teachable import trainer_of_weights
from napari_sam.training.teaching.networks.trainers import TaughtSam, trained_parameters
from napari_sam.training.teaching.regions import Region
from napari_sam.training.teaching.steps import pull, sources_of, teaching_options
from napari_sam.training.train import take_step
from napari_sam.weights.taught import base_file

# Steps whose time tells how many there can be.
TIMED = 4
LEAST_STEPS, MOST_STEPS = 20, 400
# The curve has a point after each of these shares of the steps, where measuring takes a smaller share of the time.
CHECKS, MOST_MEASURING = (0.2, 0.4, 0.6, 0.8), 0.5
# It ends early where the watched objects gained less than this at so many points of the curve, one after the other.
LEAST_PROGRESS, PATIENCE = 0.003, 2
# The weights of an earlier point of the curve are taken if the watched objects are worse by more than this at the end.
MUCH_WORSE = 0.01
# How often the held-back objects are measured after the training, and other images: see `choose`.
LAST_MEASURES, REHEARSALS = 5, 3
BEST_FILE = "best.safetensors"
# Crops that a slow image encoder sees at most; all steps draw from them.
MOST_ENCODED = 96
SAVE_SECONDS, REPORT_SECONDS = 45.0, 1.0
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
        if self.family in SAM2_FAMILIES:
            self.weights = for_videos(self.weights)
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
        watch = watched(regions, held, self.options.seed)
        if "before" not in self.lesson.progress:
            self._tell(phase="measuring", force=True)
            if not self.options.trust_labels:
                check_in_place(regions, self.options.seed)
            self._measure_base(regions, held, watch)
        before = Figures(*np.array(self.lesson.progress["rows"], np.float64))
        state, spent = self._train(regions, held, watch)
        self._tell(phase="measuring", step=state.step, seconds=spent, force=True)
        last = self._best_of(regions, watch, self._plain(state.averaged.state_dict()))
        others = float(self.lesson.progress["before"]["others"])
        measures: tuple[Callable[[State, str], Figures], Callable[[State, str], float]] = (
            lambda weights, name: measured(regions, held, self._predictor(weights, name)),
            lambda weights, name: rehearsed(self._predictor(weights, name)).score,
        )
        choice = choose(self.weights, last, others, *measures)
        choice = sized(choice, self._usual_size(regions, either(held, watch)), others, *measures)
        return self._end(before, choice, self._alone(regions, held, choice.weights, "taught"), state, spent)

    def taught(self) -> Predictor:
        """Return the model after `run`, whether it is better or not."""
        return self._predictor(self._chosen, "taught")

    # -- training ------------------------------------------------------------------------------------------------------

    def _train(self, regions: Sequence[Region], held: Held, watch: Held) -> tuple[TrainingState, float]:
        options = teaching_options(self.family, self.options, self.lesson.folder)
        rank = self.options.rank if self.options.train == "adapters" else 0
        trainer = trainer_of_weights(self.weights, self.family, self.options.base, rank)
        state = restored(state_of(trainer, options, self.device), self.lesson.folder)
        home = self._home(state)
        known = self.lesson.progress
        spent, steps = float(known.get("seconds", 0.0)), int(known.get("steps", 0)) or None
        sources, weights = sources_of(regions, either(held, watch))
        crops = CropOptions(options.side or trainer.side, options.objects, options.smallest, options.largest)
        saved = time.monotonic()
        self._tell(phase="training", steps=steps or 0, step=state.step, force=True)
        with ThreadPoolExecutor(1) as pool:
            while steps is None or state.step < steps:
                start = self.clock()
                options = replace(options, steps=steps or MOST_STEPS)
                batch = self._batch(sources, weights, options, crops, state)
                figures = take_step(state, options, batch, state.step, self.device, pool)
                pull(state, home, options)
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
                if steps in (None, state.step) or state.step not in self._checks(steps):
                    continue
                self._check(regions, held, watch, state)
                steps = state.step if self._is_stalled else steps
        save(state, self.lesson.folder, with_picture=False)
        self._tell(step=state.step, steps=steps, seconds=spent, force=True)
        return state, spent

    def _steps(self, spent: float, done: int) -> int:
        """Return how many steps there can be, from the time that the first ones took."""
        wanted = (self.options.minutes * 60 - self._measuring(len(CHECKS))) * done / max(spent, 1e-3)
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
        if isinstance(state.trainer, TaughtSam) and state.trainer.sees_crops_once:
            numbers = range(numbers.start % MOST_ENCODED, numbers.start % MOST_ENCODED + options.batch)
        return [
            draw_crop(sources, weights, crops, np.random.default_rng([self.options.seed, number])) for number in numbers
        ]

    def _checks(self, steps: int) -> set[int]:
        """Return after which steps the model is measured."""
        is_quick = self._measuring(len(CHECKS)) < MOST_MEASURING * self.options.minutes * 60
        return {round(share * steps) for share in CHECKS} if is_quick else set()

    def _measuring(self, checks: int) -> float:
        """Return how many seconds all measurements take, with so many of them on the way."""
        now = self.lesson.progress
        return float(now["measuring_seconds"]) * (LAST_MEASURES + checks) + float(now["others_seconds"]) * REHEARSALS

    @property
    def _is_stalled(self) -> bool:
        """Whether the watched objects no longer gain."""
        scores = [score for _, score in self.lesson.progress.get("watched", [])]
        return len(scores) > PATIENCE and max(scores[-PATIENCE:]) < max(scores[:-PATIENCE]) + LEAST_PROGRESS

    def _home(self, state: TrainingState) -> list[Tensor]:
        """Return the weights of the base model, of all parameters that are trained."""
        known = {id(parameter): name for name, parameter in state.trainer.network.named_parameters()}
        trained = trained_parameters(state.trainer)
        # The dense head of the first release is not among its weights: it begins at random. So does the one half of
        # an adapter, and the other at 0.
        base = (
            torch.zeros_like(parameter) if name.endswith(f"{ADDED}.up") else self.weights.get(name)
            for parameter in trained
            for name in (known.get(id(parameter), ""),)
        )
        return [
            parameter.detach().clone() if weights is None else weights.to(parameter.detach())
            for parameter, weights in zip(trained, base, strict=True)
        ]

    # -- measuring -----------------------------------------------------------------------------------------------------

    def _measure_base(self, regions: Sequence[Region], held: Held, watch: Held) -> None:
        """Measure the base model on all that later models are compared on."""
        base = self._predictor(self.weights, self.digest)
        times = [self.clock()]
        before, score = self._of_both(regions, held, watch, base)
        times.append(self.clock())
        others = round(rehearsed(base).score, 4)
        times.append(self.clock())
        seconds = {"measuring_seconds": times[1] - times[0], "others_seconds": times[2] - times[1]}
        alone = self._alone(regions, held, self.weights, self.digest)
        self._tell(
            before={**before.means, **alone, "others": others},
            rows=before.rows,
            held_back=len(before.box),
            curve=[[0, before.means]],
            watched=[] if score is None else [[0, score]],
            **seconds,
            force=True,
        )

    @staticmethod
    def _of_both(
        regions: Sequence[Region], held: Held, watch: Held, predictor: Predictor
    ) -> tuple[Figures, float | None]:
        """Return the figures of the held-back objects, and the score of those that are watched."""
        both = either(held, watch)
        figures = measured(regions, both, predictor)
        is_held = np.concatenate([own[one] for own, one in zip(held, both, strict=True)])
        return figures.of(is_held), None if is_held.all() else figures.of(~is_held).score

    def _alone(self, regions: Sequence[Region], held: Held, weights: State, digest: str) -> dict[str, Any]:
        """Return what a model finds alone, unless that takes minutes: SAM is asked at many points for it."""
        if self.family != "compact" and self.device.type == "cpu":
            return {}
        alone = found_alone(regions, held, self._predictor(weights, digest))
        return {"everything": alone.value, "everything_measure": alone.measure}

    def _check(self, regions: Sequence[Region], held: Held, watch: Held, state: TrainingState) -> None:
        """Add a point to the curve."""
        figures, score = self._of_both(regions, held, watch, self._predictor(state.averaged.state_dict(), "check"))
        now = self.lesson.progress
        curve, scores = ([one for one in now[name] if one[0] < state.step] for name in ("curve", "watched"))
        if score is not None:
            if score > max([before for step, before in scores if step], default=0.0):
                save_weights(
                    self._plain(state.averaged.state_dict()), self.lesson.folder / BEST_FILE, family=self.family
                )
            scores.append([state.step, score])
        self._tell(curve=[*curve, [state.step, figures.means]], watched=scores, force=True)

    def _best_of(self, regions: Sequence[Region], watch: Held, last: State) -> State:
        """Return the last weights, or those of an earlier point of the curve where the watched objects were better."""
        best = max([score for step, score in self.lesson.progress["watched"] if step], default=None)
        if best is None or measured(regions, watch, self._predictor(last, "last")).score >= best - MUCH_WORSE:
            return last
        return load_weights(self.lesson.folder / BEST_FILE)

    def _plain(self, weights: State) -> State:
        """Return weights as a model has them: without the tables that a network computes, and adapters merged.

        What the network of the steps lacks, such as the memory of a SAM 2, stays as it was.
        """
        copied = {key: value.detach().cpu().clone() for key, value in merged(weights).items()}
        size = {key: value for key, value in copied.items() if key.startswith(SIZE_PREFIX)}
        return {key: copied.get(key, value) for key, value in self.weights.items()} | size

    def _usual_size(self, regions: Sequence[Region], hidden: Held) -> State:
        """Return what the weights say of the usual size of the objects, for a model that compares sizes."""
        if not any(key.startswith(SCORER_PREFIX) for key in self.weights):
            return {}
        size = usual_log_area(regions, hidden)
        return {} if size is None else {f"{SIZE_PREFIX}log_area": size}

    def _predictor(self, weights: State, digest: str) -> Predictor:
        copied = self._plain(weights)
        return predictor_of(copied, self.family, self.options.name, digest, self.device)

    def _end(self, before: Figures, choice: Choice, alone: dict[str, Any], state: TrainingState, spent: float) -> bool:
        after = {**choice.figures.means, **alone, "others": round(choice.others, 4)}
        curve = [*self.lesson.progress["curve"], [state.step, choice.figures.means]]
        self._chosen, better = choice.weights, is_better(before, choice.figures)
        if better:
            card = self._card(after, choice, state, spent)
            path = self.lesson.folder / MODEL_FILE
            save_weights(choice.weights, path, family=self.family, half=True, card=card)
        said = {"after": after, "share": choice.share, "knows_size": choice.knows_size, "tried": choice.tried}
        self._tell(phase="better" if better else "not better", **said, curve=curve, force=True)
        return better

    def _card(self, after: dict[str, Any], choice: Choice, state: TrainingState, spent: float) -> dict[str, Any]:
        return {
            "name": self.options.name,
            "base": str(self.options.base),
            "base_sha256": self.digest,
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            "version": __version__,
            "images": self.lesson.images,
            "objects": sum(image["objects"] for image in self.lesson.images),
            "corrected": self.lesson.corrected,
            "held_back": len(choice.figures.box),
            "steps": state.step,
            "minutes": round(spent / 60, 1),
            "share": choice.share,
            "knows_size": choice.knows_size,
            "before": self.lesson.progress["before"],
            "after": after,
        }

    def _tell(self, *, force: bool = False, **changes: Any) -> dict[str, Any]:
        """Write the progress, at most once in a second unless something more than the step changed."""
        if not force and time.monotonic() - self._told < REPORT_SECONDS:
            return {}
        self._told = time.monotonic()
        now = self.lesson.report(**changes, process=os.getpid())
        self.report(now)
        return now
