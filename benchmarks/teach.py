"""Measure teaching: objects of kept-out images teach, others of the same subset and other subsets are measured.

python benchmarks/teach.py MANIFEST SPLIT --subset NAME... [--objects 20 50 100] [--minutes 4] [--others] [--out FILE]

What is done is written at once and not done again, so a run that was ended goes on.
With --complete every object of the first images teaches and what has no label there is background; all that is found
alone in the next image is counted before and after.
With --trial FILE it tells what a new user gets from a model that was taught before: how many clicks the objects of the
first images take, and what is found alone in the next image by the base model and by the taught one.

The objects that teach are those of the first kept-out images of a subset (of the left half, where there is one image).
What is measured are the objects of its other kept-out images (or of the right half), which no model has seen.
Where the kept-out images have too few objects, as of organs in slices, the training images teach.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.evaluation.clicks import most_interior, next_click
from napari_sam.evaluation.datasets import (
    LabelledImage,
    TargetObject,
    labelled_plane,
    read_manifest,
    read_split,
    split_images,
)
from napari_sam.evaluation.instances import f1_score, match_instances
from napari_sam.evaluation.metrics import iou_of
from napari_sam.images.volume import Volume
from napari_sam.models import load_predictor
from napari_sam.segmenter import Segmenter
from napari_sam.training.teaching.lesson import Lesson, TeachOptions
from napari_sam.training.teaching.measuring.alone import found_alone
from napari_sam.training.teaching.measuring.held_back import FEWEST, Figures, measured
from napari_sam.training.teaching.regions import Background, Region, TaughtPart, cut_regions
from napari_sam.training.teaching.run import Teaching

# Objects of each other subset on which forgetting is measured.
OTHERS = 1


def regions_of(image: LabelledImage, number: int = 0) -> list[Region]:
    """Return the regions of the plane of an image with the most objects."""
    volume = Volume.of(image.image)
    plane, labels, _ = labelled_plane(image, volume.shape)
    parts = []
    for value in np.unique(labels[labels > 0]):
        pixels = labels == value
        parts.append(TaughtPart(int(value), Mask(Box.of_shape(pixels.shape), pixels).tightened()))
    background = Background() if image.is_partial else Background([Box.of_shape(labels.shape)])
    return list(cut_regions(volume, plane, volume.rendering(), parts, background, image=number))


def halves(regions: list[Region]) -> tuple[list[Region], list[Region]]:
    """Return the left and the right half of regions, with the objects that lie in one of them."""
    found: tuple[list[Region], list[Region]] = ([], [])
    for region in regions:
        middle = region.pixels.shape[1] // 2
        for side, span in zip(found, (slice(0, middle), slice(middle, None)), strict=True):
            objects = np.ascontiguousarray(region.objects[:, span])
            whole = np.bincount(region.objects[region.objects > 0], minlength=region.numbers.max() + 1)
            part = np.bincount(objects[objects > 0], minlength=len(whole))
            own = part[region.numbers] == whole[region.numbers]
            pixels = np.ascontiguousarray(region.pixels[:, span])
            fields = (region.numbers[own], region.labels[own], region.is_corrected[own])
            side.append(Region(pixels, objects, *fields, region.image, region.position))
    return found


NAMES = ("numbers", "labels", "is_corrected", "image", "position", "step")


def limited(regions: list[Region], count: int, rng: np.random.Generator, *, hide: bool) -> list[Region]:
    """Return the regions with so many of their objects, drawn at random; the others are unknown, or not asked about."""
    places = [(at, i) for at, region in enumerate(regions) for i in range(len(region.numbers))]
    chosen = {places[i] for i in rng.permutation(len(places))[:count]}
    kept = []
    for at, region in enumerate(regions):
        hidden = np.array([(at, i) not in chosen for i in range(len(region.numbers))], bool)
        if hidden.all():
            continue
        if hide:
            partial = region.without(hidden)
            objects = np.where(partial.objects == 0, -1, partial.objects)
            kept.append(Region(partial.pixels, objects, *(getattr(partial, n) for n in NAMES)))
        else:
            kept.append(
                Region(region.pixels, region.objects, *(getattr(region, n)[~hidden] for n in NAMES[:3]), region.image)
            )
    return kept


def all_held(regions: list[Region]) -> list[Any]:
    """Return a choice of all objects."""
    return [np.ones(len(region.numbers), bool) for region in regions]


def shifted(regions: list[Region], rng: np.random.Generator) -> list[Region]:
    """Return regions in which every second object lies beside its place, by 0.6 of its extent."""
    moved = []
    for region in regions:
        objects = region.objects.copy()
        for number in rng.permutation(region.numbers)[: len(region.numbers) // 2]:
            rows, cols = np.nonzero(region.objects == number)
            extent = max(np.ptp(rows), np.ptp(cols)) + 1
            angle = rng.uniform(0, 2 * np.pi)
            by = np.rint(0.6 * extent * np.array([np.sin(angle), np.cos(angle)])).astype(int)
            objects[objects == number] = -1
            r, c = rows + by[0], cols + by[1]
            inside = (r >= 0) & (c >= 0) & (r < objects.shape[0]) & (c < objects.shape[1])
            objects[r[inside], c[inside]] = number
        left = np.array([np.count_nonzero(objects == n) >= 40 for n in region.numbers], bool)
        fields = (region.numbers[left], region.labels[left], region.is_corrected[left])
        moved.append(Region(region.pixels, objects, *fields, region.image, region.position))
    return moved


def parted(members: list[LabelledImage]) -> tuple[list[Region], list[Region]]:
    """Return the regions that teach, of the first images or the left half, and those that are measured."""
    if len(members) == 1:
        return halves(regions_of(members[0]))
    share = max(1, len(members) // 2)
    own = [one for at, image in enumerate(members[:share]) for one in regions_of(image, at)]
    return own, [one for image in members[share:] for one in regions_of(image)]


def teach_subset(
    members: list[LabelledImage], others: list[LabelledImage], objects: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Teach one subset by so many objects and return the figures."""
    rng = np.random.default_rng(options.seed)
    own, rest = parted(members)
    is_of_training = sum(len(one.numbers) for one in own) < FEWEST
    if is_of_training:
        own = [one for at, image in enumerate(others) for one in regions_of(image, at)]
        rest = [one for image in members for one in regions_of(image)]
    if not options.complete:
        own = limited(own, objects, rng, hide=True)
    whole, rest = rest, limited(rest, options.measured, rng, hide=False)
    if options.shifted:
        own = shifted(own, rng)
    folder = Path(tempfile.mkdtemp())
    choices = TeachOptions("mine", minutes=options.minutes, threads=options.threads, seed=options.seed)
    lesson = Lesson.begin(folder, choices, [image.image.name for image in members], own)
    clock = time.process_time if options.processor else time.monotonic
    teaching = Teaching(lesson, lambda now: None, clock)
    start = clock()
    is_better = teaching.run()
    minutes = (clock() - start) / 60
    base = load_predictor("compact", threads=options.threads)
    taught = teaching.taught()
    now = lesson.progress
    found = {
        "taught_by_training_images": is_of_training,
        "objects": sum(len(one.numbers) for one in own),
        "minutes": round(minutes, 2),
        "steps": now["step"],
        "offered": is_better,
        "share": now["share"],
        "knows_size": now["knows_size"],
        "tried": now["tried"],
        "watched": now["watched"],
        "held_back": {"count": now["held_back"], "before": now["before"], "after": now["after"]},
        "measured_objects": sum(len(one.numbers) for one in rest),
        "before": figures_of(rest, base),
        "after": figures_of(rest, taught),
        "curve": now["curve"],
    }
    if options.complete:
        found["next image"] = {
            name: found_in_image(whole[0], one) for name, one in (("before", base), ("after", taught))
        }
    if options.others:
        found["others_before"], found["others_after"] = others_of(members[0].subset, options, base, taught)
    lesson.discard()
    return found


def figures_of(regions: list[Region], model: Any) -> dict[str, Any]:
    """Return what a model reaches on all objects by prompts, and around a few of them alone."""
    alone = found_alone(regions, all_held(regions), model)
    return {**measured(regions, all_held(regions), model).means, "everything": alone.value, "by": alone.measure}


# An object is accepted from this IoU on, and a user gives up after so many clicks.
GOOD, MOST_CLICKS = 0.8, 8


def clicks_for(regions: list[Region], model: Any) -> list[int]:
    """Return how many clicks each object takes until its mask is good."""
    counts = []
    for region in regions:
        segmenter = Segmenter(region.pixels, model=model, rgb=True)
        for number in region.numbers:
            target = TargetObject(segmenter.plane(), region.objects == number, None)
            points, signs = [most_interior(target.truth)], [1]
            for count in range(1, MOST_CLICKS + 1):
                mask = segmenter.segment(points=points, labels=signs).best.to_array(target.truth.shape)
                if iou_of(mask, target) >= GOOD or count == MOST_CLICKS:
                    counts.append(count)
                    break
                point, sign = next_click(mask, target)
                points.append(point)
                signs.append(sign)
    return counts


def found_in_image(region: Region, model: Any) -> dict[str, Any]:
    """Return what a model finds alone in a whole image, of which every object is labeled."""
    segmenter = Segmenter(region.pixels, model=model, rgb=True)
    found = segmenter.everything()
    labels = found.labels(region.objects.shape)
    match = match_instances(labels, np.maximum(region.objects, 0), ignored=region.objects < 0)
    right, wrong, missed = match.counts()
    return {"f1": round(f1_score([match]) or 0.0, 3), "right": right, "wrong": wrong, "missed": missed}


def trial(members: list[LabelledImage], options: argparse.Namespace) -> dict[str, Any]:
    """Return the clicks for the first images, and what is found alone in the next one."""
    own, rest = parted(members)
    own = limited(own, options.objects[0], np.random.default_rng(options.seed), hide=True)
    region = rest[0]
    models = {"before": load_predictor("compact", threads=options.threads)}
    models["after"] = load_predictor(options.trial, threads=options.threads)
    counts = clicks_for(own, models["before"])
    next_image = limited([region], options.measured, np.random.default_rng(options.seed), hide=False)
    return {
        "objects": len(counts),
        "clicks": sum(counts),
        "given up": sum(count == MOST_CLICKS for count in counts),
        "next image": {name: found_in_image(region, model) for name, model in models.items()},
        "clicks in the next image": {
            name: [len(found := clicks_for(next_image, model)), sum(found)] for name, model in models.items()
        },
    }


def others_of(subset: str, options: argparse.Namespace, *models: Any) -> list[dict[str, float]]:
    """Return what each model reaches on objects of all other subsets; of the base model it is computed once."""
    rows = []
    for model in models:
        if model.name not in options.known or model.name == "mine":
            regions = [one for _, one in options.other_regions]
            options.known[model.name] = measured(regions, all_held(regions), model)
        counts = [len(one.numbers) for _, one in options.other_regions]
        own = np.repeat([name == subset for name, _ in options.other_regions], counts)
        known = options.known[model.name]
        rows.append(Figures(known.click_1[~own], known.click_3[~own], known.box[~own]).means)
    return rows


def main() -> None:
    """Measure the subsets, and print or write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("split", type=Path)
    parser.add_argument("--subset", nargs="+", required=True)
    parser.add_argument("--objects", type=int, nargs="+", default=[30])
    parser.add_argument("--measured", type=int, default=40)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processor", action="store_true", help="count processor time, on a busy machine")
    parser.add_argument("--others", type=int, default=0, help="of so many other subsets, an object each is measured")
    parser.add_argument("--shifted", action="store_true")
    parser.add_argument("--complete", action="store_true", help="all objects of the first images, all else background")
    parser.add_argument("--trial", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    images = read_manifest(options.manifest)
    training, held_out = split_images(images, read_split(options.split), options.manifest.parent)
    rng = np.random.default_rng(1)
    options.other_regions, options.known = [], {}
    if options.others:
        names = sorted({image.subset for image in held_out} - set(options.subset))
        for subset in (names[at] for at in np.linspace(0, len(names) - 1, options.others).round().astype(int)):
            first = next(image for image in held_out if image.subset == subset)
            options.other_regions += [(subset, one) for one in limited(regions_of(first), OTHERS, rng, hide=False)]
    known = options.out is not None and options.out.exists()
    results: dict[str, Any] = json.loads(options.out.read_text()) if known else {}
    for objects in options.objects:
        for subset in options.subset:
            name = f"{subset} {objects}"
            if name in results:
                continue
            members, others = ([image for image in part if image.subset == subset] for part in (held_out, training))
            taught = trial(members, options) if options.trial else teach_subset(members, others, objects, options)
            results[name] = taught
            print(name, json.dumps(results[name]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
