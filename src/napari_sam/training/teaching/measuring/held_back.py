"""Held-back objects: a fifth of the user's own, which the model never learns from, and on which it is measured."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import Predictor
from napari_sam.errors import ModelError
from napari_sam.evaluation.clicks import most_interior, next_click, off_center
from napari_sam.evaluation.datasets import TargetObject
from napari_sam.evaluation.metrics import iou_of
from napari_sam.segmenter import Segmenter
from napari_sam.training.teaching.regions import Region

# With fewer objects nothing could be said about objects that the model has not seen.
FEWEST = 8
SHARE, MOST = 0.2, 24
# Of the objects that are left, so many are watched: they say when it no longer gets better. Of fewer than 24, all are
# needed to learn from.
FEWEST_TO_WATCH, WATCHED_SHARE, MOST_WATCHED = 24, 0.15, 8
# Clicks beside the middle of each object; the mean of several says more about few objects.
OFF_CENTER = 2
CLICKS = 3
# The least gain, as mean IoU of the three prompts, for which a model is offered.
LEAST_GAIN = 0.01

Held = list[NDArray[np.bool_]]


def held_back(regions: Sequence[Region], seed: int) -> Held:
    """Choose the objects of each region that are held back.

    A fifth of the objects is drawn, at most 24, spread over the images; an object in several planes is held back in
    all of them. Where there are fewer than 8 objects in many planes, such as an organ, neighboring planes of them are
    held back instead.

    Returns
    -------
    list of numpy.ndarray
        For each region, which of its `numbers`: shape (n,), bool.

    Raises
    ------
    ModelError
        There are too few objects.
    """
    groups = _groups(regions)
    count = sum(len(units) for units in groups.values())
    if count < FEWEST:
        raise ModelError(
            f"Teaching needs {FEWEST} objects or more, and there {'is' if count == 1 else 'are'} {count}: accept more, "
            "or add another image."
        )
    return _spread(regions, groups, min(max(2, round(count * SHARE)), MOST), seed)


def watched(regions: Sequence[Region], held: Held, seed: int) -> Held:
    """Choose objects that are not held back and that the model does not learn from either: they say when to stop.

    Those that are held back must not say it, since they decide whether the model is offered.

    Returns
    -------
    list of numpy.ndarray
        As `held_back`; none where fewer than 24 objects are left.
    """
    left = {
        image: [unit for unit in units if not any(held[region][at] for region, at in unit)]
        for image, units in _groups(regions).items()
    }
    count = sum(len(units) for units in left.values())
    wanted = min(round(count * WATCHED_SHARE), MOST_WATCHED) if count >= FEWEST_TO_WATCH else 0
    return _spread(regions, left, wanted, seed)


def either(first: Held, second: Held) -> Held:
    """Return the objects that are in one of two choices."""
    return [one | other for one, other in zip(first, second, strict=True)]


Unit = list[tuple[int, int]]


def _spread(regions: Sequence[Region], groups: dict[int, list[Unit]], wanted: int, seed: int) -> Held:
    """Draw so many units, spread over the images; of each image at least one is left."""
    chosen = [np.zeros(len(region.numbers), bool) for region in regions]
    rng, count = np.random.default_rng(seed), sum(len(units) for units in groups.values())
    done = before = 0
    for units in groups.values():
        before += len(units)
        take = min(math.floor(wanted * before / max(count, 1) + 0.5) - done, len(units) - 1)
        done += max(take, 0)
        for unit in _drawn(units, take, rng):
            for region, at in unit:
                chosen[region][at] = True
    return chosen


def _groups(regions: Sequence[Region]) -> dict[int, list[Unit]]:
    """Return the units that are held back or not, by image: an object with its planes, or each plane of an object."""
    objects: dict[int, dict[int, Unit]] = defaultdict(lambda: defaultdict(list))
    for number, region in enumerate(regions):
        for at, label in enumerate(region.labels.tolist()):
            objects[region.image][label].append((number, at))
    whole = {image: list(found.values()) for image, found in objects.items()}
    if sum(len(units) for units in whole.values()) >= FEWEST:
        return whole
    return {
        image: [[one] for unit in units for one in sorted(unit, key=lambda one: regions[one[0]].position)]
        for image, units in whole.items()
    }


def _drawn(units: list[Unit], count: int, rng: np.random.Generator) -> list[Unit]:
    """Draw some units; single planes of an object are drawn as a run of neighbors, which look alike."""
    if count <= 0:
        return []
    if all(len(unit) == 1 for unit in units) and len({unit[0][0] for unit in units}) == len(units):
        first = int(rng.integers(len(units) - count + 1))
        return units[first : first + count]
    return [units[at] for at in sorted(rng.choice(len(units), count, replace=False))]


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """What a model reaches on the held-back objects: IoUs, shape (objects,) each.

    Parameters
    ----------
    click_1
        Of a single click, as a mean over several positions.
    click_3
        After three clicks.
    box
        Of the object's box.
    """

    click_1: NDArray[np.float64]
    click_3: NDArray[np.float64]
    box: NDArray[np.float64]

    @property
    def means(self) -> dict[str, float]:
        """The means, rounded for people."""
        named = {"click_1": self.click_1, "click_3": self.click_3, "box": self.box}
        return {name: round(float(values.mean()), 4) for name, values in named.items()}

    @property
    def scores(self) -> NDArray[np.float64]:
        """The mean of the three for each object; the first click counts twice, since it decides how fast one is."""
        return (2 * self.click_1 + self.click_3 + self.box) / 4

    @property
    def score(self) -> float:
        """The mean of `scores`."""
        return float(self.scores.mean())

    @property
    def rows(self) -> list[list[float]]:
        """The three arrays, for a file; `Figures(*np.array(rows))` reads them."""
        return [[round(float(value), 6) for value in values] for values in (self.click_1, self.click_3, self.box)]

    def of(self, chosen: NDArray[np.bool_]) -> Figures:
        """Return the figures of some of the objects; shape (objects,)."""
        return Figures(self.click_1[chosen], self.click_3[chosen], self.box[chosen])


def measured(regions: Sequence[Region], held: Held, predictor: Predictor, *, beside: int = OFF_CENTER) -> Figures:
    """Measure a model on the held-back objects, through the Segmenter, as the user will click.

    Parameters
    ----------
    regions
        With all their objects.
    held
        See `held_back`.
    predictor
        The model.
    beside
        Number of first clicks beside the middle of each object.
    """
    rows = []
    for region, chosen in zip(regions, held, strict=True):
        if not chosen.any():
            continue
        segmenter = Segmenter(region.pixels, model=predictor, rgb=True)
        for number in region.numbers[chosen]:
            target = TargetObject(segmenter.plane(), region.objects == number, None)
            rows.append(_clicked(segmenter, target, f"{number}", beside))
    return Figures(*np.array(rows, np.float64).T)


def _clicked(segmenter: Segmenter, target: TargetObject, seed: str, count: int) -> tuple[float, float, float]:
    """Return the IoUs of one click, of three clicks and of the box."""
    shape = target.truth.shape

    def answer(points: list[tuple[int, int]], signs: list[int]) -> NDArray[np.bool_]:
        return segmenter.segment(points=points, labels=signs).best.to_array(shape)

    points, signs = [most_interior(target.truth)], [1]
    answers = [answer(points, signs)]
    for _ in range(CLICKS - 1):
        point, sign = next_click(answers[-1], target)
        points.append(point)
        signs.append(sign)
        answers.append(answer(points, signs))
    beside = [iou_of(answer([point], [1]), target) for point in off_center(target.truth, count, seed)]
    boxed = segmenter.segment(box=target.box).best.to_array(shape)
    first = float(np.mean([iou_of(answers[0], target), *beside]))
    return first, iou_of(answers[-1], target), iou_of(boxed, target)


def is_better(before: Figures, after: Figures) -> bool:
    """Return whether a model is better on the held-back objects than the one it began from.

    Its mean score must have risen by more than chance explains (one standard error) and by 0.01 at least, and so must
    that of the first click by anything at all.
    """
    gains = after.scores - before.scores
    error = float(gains.std(ddof=1)) / math.sqrt(len(gains)) if len(gains) > 1 else 0.0
    is_surer = float(gains.mean()) > max(LEAST_GAIN, error)
    return is_surer and float(after.click_1.mean()) > float(before.click_1.mean())
