"""How good is a model? Simulated clicks on labelled images, through the Segmenter on the full image."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr
from skimage.measure import label as connected_components

from napari_sam.arguments import index_of, path_argument, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import iou
from napari_sam.errors import ImageError
from napari_sam.files.paths import read_text
from napari_sam.images.opening import open_image
from napari_sam.segmenter import Segmenter

MIN_AREA = 40
KINDS = ("instance", "semantic", "volume")
MAX_REASON = 120


class HasShape(Protocol):
    """An image that was opened."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis, without colours."""
        ...


Opened = TypeVar("Opened", bound=HasShape)


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One entry of a manifest.

    Parameters
    ----------
    image, mask
        Files: the pixels and the labels, 0 being background.
    subset
        Which data set it belongs to; results are given for each.
    kind
        "instance" (a label is an object), "semantic" (a connected part of a class is an object) or "volume" (axes
        z, y, x; a label is an object, looked at in the plane where it is largest).
    ignore_label
        Label of pixels that count neither as object nor as background, or None.
    """

    image: Path
    mask: Path
    subset: str
    kind: str
    ignore_label: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TargetObject:
    """One object that clicks should find.

    Parameters
    ----------
    plane
        The plane it is looked at in.
    truth
        Shape of the plane, bool: the object.
    ignored
        Shape of the plane, bool: pixels that do not count; or None.
    """

    plane: Plane
    truth: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class ClickResult:
    """What a model made of one object.

    Parameters
    ----------
    ious
        IoU after 1, 2 ... clicks.
    best_of_3
        IoU of the best of the three candidates at the first click.
    box_iou
        IoU from the object's box alone.
    predicted
        What the model said of its own IoU after 1, 2 ... clicks; empty where it says nothing.
    """

    ious: tuple[float, ...]
    best_of_3: float
    box_iou: float
    predicted: tuple[float, ...] = ()

    def noc(self, goal: float) -> int:
        """Return the number of clicks to reach an IoU; one more than all when they do not suffice."""
        reached = [count for count, reached_iou in enumerate(self.ious, 1) if reached_iou >= goal]
        return reached[0] if reached else len(self.ious) + 1


@dataclass
class Evaluation:
    """Results of a model on a manifest, growing object by object."""

    model: str
    clicks: dict[str, list[ClickResult]] = field(default_factory=lambda: defaultdict(list))

    def table(self) -> dict[str, Any]:
        """Return the results of each subset, and their mean, as plain data that JSON can hold."""
        subsets = {name: _summary(results) for name, results in sorted(self.clicks.items())}
        mean: dict[str, Any] = {}
        if subsets:
            rows = list(subsets.values())
            mean = {key: rounded(np.mean([row[key] for row in rows], axis=0)) for key in rows[0] if key != "n"}
            mean["n"] = sum(row["n"] for row in rows)
            everything = [result for results in self.clicks.values() for result in results]
            mean["iou_spearman"] = rank_correlation(everything)
            mean["iou_spearman_first"] = rank_correlation(everything, first_only=True)
        return {"model": self.model, "subsets": subsets, "mean": mean}


def read_manifest(path: Path) -> list[LabelledImage]:
    """Read a manifest: a JSON list of objects with `image`, `mask`, `subset`, `kind`, and perhaps `ignore_label`.

    Paths in it are relative to its folder.

    Raises
    ------
    ImageError
        The file is missing or has another form.
    """
    text = read_text(path, "manifest", ImageError)
    try:
        return [_entry(entry, path.parent) for entry in json.loads(text)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else shown_error(error)
        raise ImageError(
            f"The manifest {path} has an unknown form ({reason}): it must be a JSON list of objects with image, mask, "
            "subset and kind."
        ) from error


def read_split(path: Path) -> frozenset[str]:
    """Return the images that a split file keeps out of training: {"kept_out": [paths as the manifest has them]}.

    Raises
    ------
    ImageError
        The file is missing or has another form.
    """
    text = read_text(path, "split", ImageError)
    try:
        names = json.loads(text)["kept_out"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"kept_out is {shown(names)}")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        reason = shown_error(error)
        raise ImageError(f"The split {path} cannot be used ({reason}): it must hold a list named kept_out.") from error
    return frozenset(names)


def split_images(
    images: list[LabelledImage], kept_out: frozenset[str], folder: Path
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images to train on and those that are kept out.

    Parameters
    ----------
    images
        All of them.
    kept_out
        Paths relative to `folder`, or as they are; see `read_split`.
    folder
        The manifest's.
    """

    def held(image: LabelledImage) -> bool:
        inside = image.image.is_relative_to(folder)
        return (image.image.relative_to(folder).as_posix() if inside else str(image.image)) in kept_out

    return [image for image in images if not held(image)], [image for image in images if held(image)]


def _entry(entry: dict[str, Any], folder: Path) -> LabelledImage:
    kind, ignored = entry["kind"], entry.get("ignore_label")
    if kind not in KINDS:
        raise ValueError(f"kind {shown(kind)} is none of {', '.join(KINDS)}")
    if ignored is not None and index_of(ignored) is None:
        raise ValueError(f"ignore_label {shown(ignored)} is no whole number")
    image, mask = (folder / path_argument(entry[name], f"The {name}", ImageError) for name in ("image", "mask"))
    return LabelledImage(image, mask, str(entry["subset"]), kind, ignored)


def shown_error(error: Exception) -> str:
    """Return what an error says on one line, cut where it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."


def read_labels(image: LabelledImage, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the labels of an image of `shape`, without colours.

    Raises
    ------
    ImageError
        They have another shape, or cannot be read.
    """
    labels = np.asarray(open_image(image.mask, as_labels=True).levels[0])
    if labels.shape != shape:
        raise ImageError(f"{image.mask} has shape {labels.shape} and its image {shape}: correct the manifest.")
    if image.kind == "volume" and labels.ndim != 3:
        raise ImageError(
            f"{image.mask} has the shape {labels.shape} and should be a volume (z, y, x): correct the kind."
        )
    if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        raise ImageError(f"{image.mask} holds labels that are no whole numbers: save them as integers.")
    return labels


def objects_of(labels: NDArray[Any], image: LabelledImage) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return the labels of the single objects in a plane, 0 where there is none, and the pixels that do not count."""
    ignored = None if image.ignore_label is None else labels == image.ignore_label
    objects = labels.astype(np.int64)
    if ignored is not None:
        objects[ignored] = 0
    if image.kind == "semantic":
        objects = np.asarray(connected_components(objects, connectivity=2), np.int64)
    return objects, ignored


def targets_of(image: LabelledImage, shape: tuple[int, ...]) -> list[Callable[[], TargetObject]]:
    """Return the objects of a labelled image, each as a function that makes its target.

    Parameters
    ----------
    image
        Where the labels are.
    shape
        Shape of the image without colours, which the labels must have.

    Raises
    ------
    ImageError
        The labels have another shape, or cannot be read.
    """
    labels = read_labels(image, shape)
    if image.kind == "volume":
        return _volume_targets(labels, image.ignore_label)
    plane = Plane.of(labels.shape)
    objects, ignored = objects_of(labels, image)
    values, areas = np.unique(objects, return_counts=True)
    return [
        lambda value=value: TargetObject(plane, objects == value, ignored)  # type: ignore[misc]
        for value, area in zip(values, areas, strict=True)
        if value != 0 and area >= MIN_AREA
    ]


def _volume_targets(labels: NDArray[Any], ignore_label: int | None) -> list[Callable[[], TargetObject]]:
    largest: dict[int, tuple[int, int]] = {}
    for z, section in enumerate(labels):
        for value, area in zip(*np.unique(section, return_counts=True), strict=True):
            if value not in (0, ignore_label) and area > largest.get(int(value), (0, 0))[0]:
                largest[int(value)] = (int(area), z)

    def target(value: int, z: int) -> TargetObject:
        ignored = None if ignore_label is None else labels[z] == ignore_label
        return TargetObject(Plane.of(labels.shape, z), labels[z] == value, ignored)

    return [
        lambda value=value, z=z: target(value, z)  # type: ignore[misc]
        for value, (area, z) in sorted(largest.items())
        if area >= MIN_AREA
    ]


def evaluate(
    images: list[LabelledImage],
    segmenter_of: Callable[[Path], Segmenter],
    *,
    model: str,
    max_clicks: int = 8,
    objects_per_subset: int = 12,
    seed: int = 0,
) -> Iterator[tuple[str, Evaluation]]:
    """Click on sampled objects of every subset.

    The objects of a subset are drawn from its images in turn, in an order that `seed` fixes.

    Parameters
    ----------
    images
        The manifest.
    segmenter_of
        Makes a segmenter of an image file.
    model
        Name for the table.
    max_clicks
        Points for each object.
    objects_per_subset
        How many objects to draw.
    seed
        Fixes which.

    Yields
    ------
    subset : str
        The subset of the object that was just done.
    evaluation : Evaluation
        All results so far.
    """
    evaluation = Evaluation(model)
    for subset, segmenter, target in drawn_targets(images, segmenter_of, objects_per_subset, seed):
        evaluation.clicks[subset].append(click_through(segmenter, target, max_clicks))
        yield subset, evaluation


def drawn_targets(
    images: list[LabelledImage], opened: Callable[[Path], Opened], objects_per_subset: int, seed: int
) -> Iterator[tuple[str, Opened, TargetObject]]:
    """Yield the objects that `seed` draws from every subset, each with its subset and its opened image."""
    by_subset: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        by_subset[image.subset].append(image)
    for subset, members in sorted(by_subset.items()):
        for at_hand, target in _draw(members, opened, objects_per_subset, random.Random(f"{seed}/{subset}")):
            yield subset, at_hand, target


def _draw(
    images: list[LabelledImage], opened: Callable[[Path], Opened], count: int, rng: random.Random
) -> Iterator[tuple[Opened, TargetObject]]:
    """Draw objects from the images in turn, evenly as long as each has enough; an image is open while it is used."""
    left = count
    rest: list[tuple[LabelledImage, int]] = [(image, 0) for image in rng.sample(images, len(images))]
    order_seed = rng.random()
    while rest and left > 0:
        again: list[tuple[LabelledImage, int]] = []
        for position, (image, used) in enumerate(rest):
            quota = math.ceil(left / (len(rest) - position))
            if quota == 0:
                return
            at_hand = opened(image.image)
            targets = targets_of(image, at_hand.shape)
            random.Random(f"{order_seed}/{image.image.name}").shuffle(targets)
            chosen = targets[used : used + quota]
            if used + quota < len(targets):
                again.append((image, used + quota))
            for make in chosen:
                left -= 1
                yield at_hand, make()
        rest = again


def click_through(segmenter: Segmenter, target: TargetObject, max_clicks: int) -> ClickResult:
    """Click on an object until `max_clicks`, each time into the middle of the larger error, and box it once.

    Parameters
    ----------
    segmenter
        Of the object's image.
    target
        The object.
    max_clicks
        Number of points.
    """
    points, signs, ious, predicted = [most_interior(target.truth)], [1], [], []
    best_of_3 = 0.0
    for click in range(max_clicks):
        candidates = segmenter.segment(points=points, labels=signs, plane=target.plane)
        if click == 0:
            best_of_3 = max(iou_of(candidate.to_array(target.truth.shape), target) for candidate in candidates)
        predicted.append(candidates.best.iou_prediction)
        answer = candidates.best.to_array(target.truth.shape)
        ious.append(iou_of(answer, target))
        point, sign = next_click(answer, target)
        points.append(point)
        signs.append(sign)
    rows, cols = np.flatnonzero(target.truth.any(1)), np.flatnonzero(target.truth.any(0))
    box = Box(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
    boxed = segmenter.segment(box=box, plane=target.plane)
    box_iou = iou_of(boxed.best.to_array(target.truth.shape), target)
    return ClickResult(tuple(ious), best_of_3, box_iou, tuple(predicted))


def next_click(answer: NDArray[np.bool_], target: TargetObject) -> tuple[tuple[int, int], int]:
    """Return where to click next, and with which sign: the most interior pixel of the larger error region.

    The larger region is the one with the pixel farthest from its border. Without any error, a positive point in the
    middle of the object.
    """
    counted = True if target.ignored is None else ~target.ignored
    missed, surplus = target.truth & ~answer & counted, answer & ~target.truth & counted
    depth = {}
    for sign, region in ((1, missed), (0, surplus)):
        if region.any():
            depth[sign] = _depth(region)
    if not depth:
        return most_interior(target.truth), 1
    sign = max(depth, key=lambda s: depth[s][0])
    return depth[sign][1], sign


def most_interior(region: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the pixel of a region that is farthest from its border; the border of the image is one too."""
    return _depth(region)[1]


def _depth(region: NDArray[np.bool_]) -> tuple[float, tuple[int, int]]:
    rows, cols = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    inside = np.pad(region[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], 1)
    distance = distance_transform_edt(inside)
    row, col = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(distance.max()), (int(row + rows[0] - 1), int(col + cols[0] - 1))


def iou_of(answer: NDArray[np.bool_], target: TargetObject) -> float:
    """Return the IoU of an answer, of the plane's shape, with the truth, where pixels count."""
    if target.ignored is not None:
        answer = answer & ~target.ignored
    return iou(answer, target.truth)


def rank_correlation(results: list[ClickResult], *, first_only: bool = False) -> float | None:
    """Return Spearman's correlation of predicted and true IoUs, over all clicks or the first ones; None without any."""
    last = 1 if first_only else None
    said = [value for result in results for value in result.predicted[:last]]
    true = [value for result in results for value in result.ious[: len(result.predicted)][:last]]
    if len(set(said)) < 2 or len(set(true)) < 2:
        return None
    return float(np.round(spearmanr(said, true).statistic, 4))


def _summary(results: list[ClickResult]) -> dict[str, Any]:
    return {
        "n": len(results),
        "miou": rounded(np.mean([result.ious for result in results], axis=0)),
        "best_of_3": rounded(np.mean([result.best_of_3 for result in results])),
        "box_miou": rounded(np.mean([result.box_iou for result in results])),
        "noc80": rounded(np.mean([result.noc(0.8) for result in results])),
        "predicted_miou": rounded(np.mean([result.predicted for result in results], axis=0)),
        "noc90": rounded(np.mean([result.noc(0.9) for result in results])),
    }


def rounded(value: Any) -> Any:
    """Return figures as plain numbers and lists, with four decimals."""
    return np.round(value, 4).tolist()
