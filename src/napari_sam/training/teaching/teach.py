"""Teach: a model learns from the objects of journals, and is kept under a name if it became better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_sam.arguments import number, shown, whole
from napari_sam.core.geometry import Box
from napari_sam.core.prompt_checks import checked_box
from napari_sam.errors import ModelError
from napari_sam.files.folders import taught_folder
from napari_sam.training.run_lock import only_run_in
from napari_sam.training.teaching.journals import TaughtImage, taught_images
from napari_sam.training.teaching.lesson import MODEL_FILE, Lesson, TeachOptions
from napari_sam.training.teaching.regions import Region
from napari_sam.weights.taught import base_file, base_of, checked_name, gain, keep_model, loss

TRAIN, MOST_RANK = ("decoder", "adapters"), 64
ADVICE = f"give a whole number from 1 to {MOST_RANK}"
LESSON_SUFFIX = ".lesson"
MOST_MINUTES = 24 * 60.0
BUSY = "Another model is being taught on this computer: wait until it has ended, or stop it there."

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class TeachResult:
    """What came of teaching.

    Parameters
    ----------
    name
        Name of the model.
    is_better
        Whether it is better on the objects that were held back, and so was kept under its name.
    before, after
        Mean IoU on these objects of the base model and of the new one: `click_1`, `click_3`, `box`. `everything` is
        what it finds without prompts around some of them: F1 where the surroundings are complete, else the recall,
        as `everything_measure` says. `others` is the mean IoU on a few objects of the sample images.
    objects, corrected, held_back
        Number of the objects, of those that the user had corrected, and of those that were held back.
    steps, seconds
        How long it was trained.
    share
        How far the model lies from the base model to the last weights; less than 1 forgets less.
    knows_size
        Whether the model knows the usual size of the objects, and so prefers such masks at a first click.
    curve
        (step, figures) on the way, as `before`.
    """

    name: str
    is_better: bool
    before: dict[str, Any]
    after: dict[str, Any]
    objects: int
    corrected: int
    held_back: int
    steps: int
    seconds: float
    curve: tuple[tuple[int, dict[str, float]], ...]
    share: float = 1.0
    knows_size: bool = False

    @classmethod
    def of(cls, lesson: Lesson) -> TeachResult:
        """Return the result of a lesson that has ended."""
        now = lesson.progress
        return cls(
            lesson.options.name,
            now.get("phase") == "better",
            now.get("before", {}),
            now.get("after", {}),
            sum(image["objects"] for image in lesson.images),
            lesson.corrected,
            now.get("held_back", 0),
            now.get("step", 0),
            round(now.get("seconds", 0.0), 1),
            tuple((step, figures) for step, figures in now.get("curve", [])),
            now.get("share", 1.0),
            now.get("knows_size", False),
        )

    @property
    def text(self) -> str:
        """The result in one sentence."""
        found = {"before": self.before, "after": self.after}
        figures, elsewhere = gain(found), loss(found)
        of = f"on {self.held_back} objects it has not seen"
        if self.is_better:
            return f"{self.name} is better: {figures} {of}{f'; {elsewhere}' if elsewhere else ''}."
        return f"{self.name} is not better ({figures} {of}), so it is not kept: accept more objects, or check them."


def teach(
    images_or_journals: Any,
    name: str,
    *,
    model: str | Path = "compact",
    minutes: float = 4.0,
    is_complete: bool = False,
    complete: Sequence[Sequence[float]] = (),
    device: str = "auto",
    threads: int | None = None,
    seed: int = 0,
    trust_labels: bool = False,
    train: str = "decoder",
    rank: int = 4,
    report: Report | None = None,
) -> TeachResult:
    """Teach a model the objects that were accepted in images, and keep it under a name if it became better.

    Nothing is exported: the journals have all that is needed. A fifth of the objects is held back, and the model is
    kept only if it is better on these than the one it began from. Objects that were corrected are learned most. Where
    nothing was accepted, the model learns nothing, except in regions that are marked as complete (see
    `Segmenter.mark_complete`): what has no label there is background.

    Parameters
    ----------
    images_or_journals
        One or several of: a `Segmenter` with a journal; the path of a journal, of the labels beside it, or of an image
        with a journal; a pair of a journal's path and its image. None goes on with the lesson of this name that was
        stopped or killed.
    name
        Name of the new model; use it as `model=name`. An earlier one of this name is replaced if the new one is better.
    model
        Name or path of the model to begin from: the compact model, SAM ViT-B, L or H, MobileSAM or SAM 2.1. Of a model
        that was taught, it is the one that it began from.
    minutes
        How long it may take, above 0.
    is_complete
        Whether every object was accepted in the planes that have any, so that all the rest is background.
    complete
        The same of parts of these planes, each (top, left, bottom, right) in pixels; of all images alike, and only for
        this lesson.
    device, threads
        As for `Segmenter`; by default all processor threads but one.
    seed
        Fixes which objects are held back, and the order of the others.
    trust_labels
        Whether to learn also where the outlines of many objects lie beside the edges of the image, which is refused
        otherwise: they may be shifted.
    train
        What learns of a SAM, MobileSAM or SAM 2: the "decoder" with the prompt encoder, or "adapters" of the image
        encoder besides, which fit images of an unusual kind better and take much longer. The compact model learns as a
        whole.
    rank
        Width of the adapters, 1 to 64.
    report
        Called with the progress, about once a second: a dictionary with `phase`, `step`, `steps`, `seconds`, `curve`.

    Returns
    -------
    TeachResult
        The figures before and after.

    Raises
    ------
    LabelsError, ImageError
        A journal or its image cannot be used.
    PromptError
        A complete part is no box.
    ModelError
        The name is taken, the model cannot be taught, there are fewer than 8 objects, or many of them are shifted.
    OutputError
        Another model is being taught, or the disk is full.

    Examples
    --------
    >>> from napari_sam import teach  # doctest: +SKIP
    >>> teach(["cells.tif", "more_cells.tif"], "mine").text  # doctest: +SKIP
    'mine is better: first click 0.52 -> 0.66 on 9 objects it has not seen.'
    """
    options = checked_options(name, model, minutes, is_complete, device, threads, seed)
    options = replace(options, trust_labels=bool(trust_labels), complete=checked_areas(complete))
    width = whole(rank, "The rank", ADVICE, ModelError, least=1, most=MOST_RANK)
    options = replace(options, train=_checked_train(train), rank=width)
    with only_lesson():
        lesson = lesson_of(options.name)
        if images_or_journals is not None:
            base_file(options.base)  # Before the objects are read.
            lesson = begun(taught_images(images_or_journals), options)
        elif not lesson.exists:
            raise ModelError(f"There is no lesson of {name} to go on with: give the journals that it is to learn from.")
        lesson.resume()
        try:
            run(lesson, report)
        except ModelError:  # There is nothing to go on with, as after a full disk.
            lesson.discard()
            raise
        result = TeachResult.of(lesson)
        if result.is_better:
            keep_model(lesson.folder / MODEL_FILE, name)
        lesson.discard()
    return result


def checked_options(
    name: Any, model: Any, minutes: Any, is_complete: bool, device: str, threads: int | None, seed: int
) -> TeachOptions:
    """Return the options of a lesson.

    Raises
    ------
    ModelError
        One of them is wrong.
    """
    advice = f"give a number of minutes up to {MOST_MINUTES:g}"
    count = number(minutes, "The time", advice, ModelError, above=0, most=MOST_MINUTES)
    return TeachOptions(checked_name(name), base_of(str(model)), count, device, threads, bool(is_complete), int(seed))


def _checked_train(train: Any) -> str:
    if train not in TRAIN:
        raise ModelError(f"What learns is decoder or adapters, and {shown(train)} is neither: choose one.")
    return str(train)


def checked_areas(areas: Any) -> tuple[tuple[float, ...], ...]:
    """Return the edges of boxes, which may reach beyond an image; raises PromptError where one is no box."""
    found = (checked_box(each, Box(0, 0, math.inf, math.inf)) for each in areas)
    return tuple(box.as_tuple() for box in found if box is not None)


def only_lesson() -> AbstractContextManager[None]:
    """Keep other lessons from running at the same time; raises OutputError where one does."""
    return only_run_in(taught_folder(), BUSY)


def lesson_of(name: str) -> Lesson:
    """Return the lesson of a name, whether it exists or not."""
    return Lesson(taught_folder() / f"{name}{LESSON_SUFFIX}")


def lessons() -> list[Lesson]:
    """Return the lessons that were not ended by keeping or discarding their model, the newest first."""
    try:
        found = [Lesson(path) for path in taught_folder().glob(f"*{LESSON_SUFFIX}")]
    except (OSError, ModelError):
        return []
    return sorted((each for each in found if each.exists), key=lambda each: each.folder.stat().st_mtime, reverse=True)


def begun(images: Iterable[TaughtImage], options: TeachOptions) -> Lesson:
    """Take a snapshot of the objects of images; what happens to them later does not reach the lesson.

    Raises
    ------
    ModelError, ImageError, LabelsError, OutputError
        There is no object, an image or a journal cannot be read, or the snapshot not be written.
    """
    known = list(images)
    return Lesson.begin(lesson_of(options.name).folder, options, [image.name for image in known], _cut(known, options))


def _cut(images: Iterable[TaughtImage], options: TeachOptions) -> Iterator[Region]:
    for at, image in enumerate(images):
        complete = [Box(*edges) for edges in options.complete]
        yield from image.regions(at, is_complete=options.is_complete, complete=complete, seed=options.seed)


def run(lesson: Lesson, report: Report | None = None) -> None:
    """Run a lesson in this process, from where it stands."""
    from napari_sam.training.teaching.run import Teaching

    Teaching(lesson, report or (lambda now: None)).run()
