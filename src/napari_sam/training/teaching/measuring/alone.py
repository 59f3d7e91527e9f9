"""Alone: how many of the held-back objects a model finds without any prompt, around these objects only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Predictor
from napari_sam.evaluation.instances import LEAST_IOU, best_match
from napari_sam.segmenter import Segmenter
from napari_sam.training.teaching.measuring.held_back import Held
from napari_sam.training.teaching.regions import UNKNOWN, Region

# Objects around which all are searched, spread over those that are held back: a search takes about a second each.
MOST_PLACES = 4
# How far around an object, as a multiple of its extent and at least in pixels.
REACH, LEAST_REACH = 1.5, 64
# The sizes that are searched for, around those of the objects that are known, as factors.
SIZES = (0.6, 1.6)


@dataclass(frozen=True, slots=True)
class Alone:
    """What a model found around some of the held-back objects.

    Parameters
    ----------
    found, missed
        Number of the held-back objects there that it found, with an IoU of 0.5 or more, and that it did not.
    wrong
        Number of its objects that are none, and that lie next to a held-back object of a complete place.
    is_complete
        Whether the places are complete, so that what is not labelled is no object; otherwise `wrong` says nothing.
    """

    found: int
    missed: int
    wrong: int
    is_complete: bool

    @property
    def measure(self) -> str:
        """What `value` is."""
        return "F1" if self.is_complete else "recall"

    @property
    def value(self) -> float:
        """F1 at an IoU of 0.5 where the places are complete, else the recall; 0 to 1, rounded."""
        twice, missed = 2 * self.found, self.missed
        errors = self.wrong + missed if self.is_complete else 2 * missed
        return round(twice / max(twice + errors, 1), 4)


def found_alone(regions: Sequence[Region], held: Held, predictor: Predictor) -> Alone:
    """Search for all objects around held-back ones, in complete places only if there are any.

    Parameters
    ----------
    regions
        With all their objects.
    held
        See `held_back`.
    predictor
        The model.
    """
    places = [
        (region, number) for region, own in zip(regions, held, strict=True) for number in region.numbers[own].tolist()
    ]
    complete = [one for one in places if _is_complete(*one)]
    chosen = complete or places
    taken = [chosen[at] for at in np.unique(np.linspace(0, len(chosen) - 1, MOST_PLACES).round().astype(int))]
    counts = np.zeros(3, int)
    for region, own in zip(regions, held, strict=True):
        numbers = [number for one, number in taken if one is region]
        if numbers:
            asked = {number for one, number in chosen if one is region} & set(region.numbers[own].tolist())
            counts += _counts(region, numbers, asked, predictor)
    found, missed, wrong = counts.tolist()
    return Alone(found, missed, wrong, bool(complete))


def _counts(region: Region, numbers: list[int], asked: set[int], predictor: Predictor) -> NDArray[np.int_]:
    """Return how many of the objects were found and missed, and how many others were found next to them."""
    segmenter = Segmenter(region.pixels, model=predictor, rgb=True)
    areas = np.bincount(region.objects[region.objects > 0], minlength=int(region.objects.max()) + 1)
    area_of = dict(enumerate(areas.tolist()))
    diameters = 2 * np.sqrt(areas[region.numbers] / np.pi)
    sizes = (max(float(diameters.min()) * SIZES[0], 2.0), float(diameters.max()) * SIZES[1])
    nearest = region.objects[tuple(distance_transform_edt(region.objects <= 0, return_indices=True)[1])]
    places = [_place(region, number) for number in numbers]
    inside = np.zeros(region.objects.shape, bool)
    for place in places:
        inside[place.slices] = True
    all_found = segmenter.everything(within=inside, sizes=sizes)
    matched, wrong = set[int](), 0
    for mask in (all_found.mask(int(i)) for i in all_found.select()):
        under = region.objects[mask.box.slices][mask.pixels]
        iou, label = best_match(np.maximum(under, 0), area_of)  # What is unknown is no object.
        row, col = (int(at) for at in mask.box.center)
        if iou >= LEAST_IOU:
            matched.add(label)
        elif (under == UNKNOWN).mean() < LEAST_IOU and int(nearest[row, col]) in asked:
            wrong += 1
    here = {each for each in asked if any(place.contains(_box(region, each)) for place in places)}
    return np.array([len(here & matched), len(here - matched), wrong])


def _is_complete(region: Region, number: int) -> bool:
    return bool((region.objects[_place(region, number).slices] != UNKNOWN).all())


def _place(region: Region, number: int) -> Box:
    """Return the surroundings of an object, inside the region."""
    box = _box(region, number)
    margin = max(REACH * max(box.height, box.width), LEAST_REACH)
    around = Box(box.top - margin, box.left - margin, box.bottom + margin, box.right + margin).rounded_out()
    return around.intersection(Box.of_shape(region.objects.shape))


def _box(region: Region, number: int) -> Box:
    is_object = region.objects == number
    rows, cols = np.flatnonzero(is_object.any(1)), np.flatnonzero(is_object.any(0))
    return Box(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
