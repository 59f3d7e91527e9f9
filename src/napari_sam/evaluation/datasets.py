"""Labelled images: manifests, splits, and the objects of label images."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_components

from napari_sam.arguments import index_of, path_argument, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError
from napari_sam.files.paths import read_text
from napari_sam.images.opening import open_image

MIN_AREA = 40
KINDS = ("instance", "semantic", "volume")
# Of an annotation that leaves objects out; any other text says how a complete one was made.
PARTIAL = "partial"
MAX_REASON = 120


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One entry of a manifest.

    Parameters
    ----------
    image, mask
        Files: the pixels and the labels, 0 being background.
    subset
        Name of its data set; results are given for each.
    kind
        "instance" (a label is an object), "semantic" (a connected part of a class is an object) or "volume" (axes
        z, y, x; a label is an object, evaluated in the plane where it is largest).
    ignore_label
        Label of pixels that count neither as object nor as background, or None.
    annotation
        "partial" where objects may be without a label; any other text says how a complete annotation was made.
    """

    image: Path
    mask: Path
    subset: str
    kind: str
    ignore_label: int | None = None
    annotation: str = "full"

    @property
    def is_partial(self) -> bool:
        """Whether objects may be without a label."""
        return self.annotation == PARTIAL


@dataclass(frozen=True, slots=True, eq=False)
class TargetObject:
    """One object to segment.

    Parameters
    ----------
    plane
        The plane in which it is evaluated.
    truth
        Shape of the plane, bool: the object.
    ignored
        Shape of the plane, bool: pixels that do not count; or None.
    objects
        Shape of the plane, integers: labels of all objects of the plane, this one among them, 0 for background; or
        None if they are unknown.
    """

    plane: Plane
    truth: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None
    objects: NDArray[np.integer[Any]] | None = None

    @property
    def box(self) -> Box:
        """The smallest box around the object."""
        rows, cols = np.flatnonzero(self.truth.any(1)), np.flatnonzero(self.truth.any(0))
        return Box(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)


def read_manifest(path: Path) -> list[LabelledImage]:
    """Read a manifest: a JSON list of objects with `image`, `mask`, `subset` and `kind`.

    They may have an `ignore_label` and an `annotation`. Paths in it are relative to its folder.

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
    """Return the held-out images of a split file: {"kept_out": [paths as the manifest has them]}.

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
    images: list[LabelledImage], held_out: frozenset[str], folder: Path
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Return the images to train on and the held-out ones.

    Parameters
    ----------
    images
        All of them.
    held_out
        Paths relative to `folder`, or absolute; see `read_split`.
    folder
        Folder of the manifest.
    """

    def is_held_out(image: LabelledImage) -> bool:
        inside = image.image.is_relative_to(folder)
        return (image.image.relative_to(folder).as_posix() if inside else str(image.image)) in held_out

    return [image for image in images if not is_held_out(image)], [image for image in images if is_held_out(image)]


def _entry(entry: dict[str, Any], folder: Path) -> LabelledImage:
    kind, ignored = entry["kind"], entry.get("ignore_label")
    annotation = entry.get("annotation", "full")
    if kind not in KINDS:
        raise ValueError(f"kind {shown(kind)} is none of {', '.join(KINDS)}")
    if ignored is not None and index_of(ignored) is None:
        raise ValueError(f"ignore_label {shown(ignored)} is not a whole number")
    if not isinstance(annotation, str):
        raise ValueError(f"annotation {shown(annotation)} is neither {PARTIAL} nor another text")
    image, mask = (folder / path_argument(entry[name], f"The {name}", ImageError) for name in ("image", "mask"))
    return LabelledImage(image, mask, str(entry["subset"]), kind, ignored, annotation)


def shown_error(error: Exception) -> str:
    """Return the message of an error on one line, shortened if it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]} ..."


def read_labels(image: LabelledImage, shape: tuple[int, ...]) -> NDArray[Any]:
    """Read the labels of an image of `shape`, without colors.

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
        raise ImageError(f"{image.mask} has labels that are not whole numbers: save them as integers.")
    return labels


def objects_of(labels: NDArray[Any], image: LabelledImage) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return the labels of single objects in a plane, 0 for background, and the ignored pixels or None."""
    ignored = None if image.ignore_label is None else labels == image.ignore_label
    objects = labels.astype(np.int64)
    if ignored is not None:
        objects[ignored] = 0
    if image.kind == "semantic":
        objects = np.asarray(connected_components(objects, connectivity=2), np.int64)
    return objects, ignored


def labelled_plane(
    image: LabelledImage, shape: tuple[int, ...]
) -> tuple[Plane, NDArray[np.int64], NDArray[np.bool_] | None]:
    """Return the plane of a labelled image with the most objects, their labels, and the ignored pixels or None.

    Of several such planes of a volume it is the one with the most labeled pixels. No object is left out, however small.

    Parameters
    ----------
    image
        The labelled image.
    shape
        Shape of the image without colors, which the labels must have.

    Raises
    ------
    ImageError
        The labels have another shape, or cannot be read.
    """
    labels = read_labels(image, shape)
    if image.kind != "volume":
        return Plane.of(shape), *objects_of(labels, image)

    def content(z: int) -> tuple[int, int]:
        labelled = objects_of(labels[z], image)[0]
        labelled = labelled[labelled != 0]
        return len(np.unique(labelled)), len(labelled)

    z = max(range(len(labels)), key=content)
    return Plane.of(shape, z), *objects_of(labels[z], image)


def targets_of(image: LabelledImage, shape: tuple[int, ...]) -> list[Callable[[], TargetObject]]:
    """Return the objects of a labelled image, each as a function that returns its target.

    Parameters
    ----------
    image
        The labelled image.
    shape
        Shape of the image without colors, which the labels must have.

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
        lambda value=value: TargetObject(plane, objects == value, ignored, objects)  # type: ignore[misc]
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
        objects = labels[z] if ignored is None else np.where(ignored, 0, labels[z])
        return TargetObject(Plane.of(labels.shape, z), labels[z] == value, ignored, objects)

    return [
        lambda value=value, z=z: target(value, z)  # type: ignore[misc]
        for value, (area, z) in sorted(largest.items())
        if area >= MIN_AREA
    ]


def drawn_targets(
    images: list[LabelledImage],
    shape_of: Callable[[LabelledImage], tuple[int, ...]],
    objects_per_subset: int,
    seed: int,
) -> Iterator[tuple[LabelledImage, TargetObject]]:
    """Draw objects from every subset, in an order that `seed` fixes.

    Parameters
    ----------
    images
        The manifest.
    shape_of
        Returns the shape of an image without colors. It is called when the image is about to be used, and again when
        another one was used in between, so that only one image needs to be open.
    objects_per_subset
        Number of objects.
    seed
        Seed of the order.

    Yields
    ------
    image : LabelledImage
        The image that `shape_of` was called for last.
    target : TargetObject
        An object in it.
    """
    for members, rng in _subsets(images, seed):
        yield from _draw(members, shape_of, objects_per_subset, rng)


def drawn_images(images: list[LabelledImage], images_per_subset: int, seed: int) -> list[LabelledImage]:
    """Draw images from every subset, in an order that `seed` fixes; all of them where `images_per_subset` is 0."""
    return [
        image
        for members, rng in _subsets(images, seed)
        for image in rng.sample(members, min(images_per_subset or len(members), len(members)))
    ]


def _subsets(images: list[LabelledImage], seed: int) -> Iterator[tuple[list[LabelledImage], random.Random]]:
    """Yield the images of each subset, in the order of their names, and the random numbers to draw from them."""
    by_subset: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        by_subset[image.subset].append(image)
    for subset, members in sorted(by_subset.items()):
        yield members, random.Random(f"{seed}/{subset}")


def _draw(
    images: list[LabelledImage],
    shape_of: Callable[[LabelledImage], tuple[int, ...]],
    count: int,
    rng: random.Random,
) -> Iterator[tuple[LabelledImage, TargetObject]]:
    """Draw objects from the images in turn, evenly as long as each has enough."""
    left = count
    rest: list[tuple[LabelledImage, int]] = [(image, 0) for image in rng.sample(images, len(images))]
    order_seed = rng.random()
    while rest and left > 0:
        again: list[tuple[LabelledImage, int]] = []
        for position, (image, used) in enumerate(rest):
            quota = math.ceil(left / (len(rest) - position))
            if quota == 0:
                return
            targets = targets_of(image, shape_of(image))
            random.Random(f"{order_seed}/{image.image.name}").shuffle(targets)
            chosen = targets[used : used + quota]
            if used + quota < len(targets):
                again.append((image, used + quota))
            for make in chosen:
                left -= 1
                yield image, make()
        rest = again
