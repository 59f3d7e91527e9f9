"""PropagatedImage: follow objects from the planes where they were accepted through the other planes of an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_sam.arguments import choice, each, shown, whole
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Overlap, Provenance, mask_of
from napari_sam.distributed.following import FollowingPlan, followed_on, follower_of
from napari_sam.errors import LabelsError, PromptError
from napari_sam.finding.word_searched_image import WordSearchedImage
from napari_sam.journal.image_identity import pixel_digest
from napari_sam.labels.regions import label_number
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.propagation.propagation import PATIENCE, Propagation, PropagationStep
from napari_sam.propagation.recording.action import Action
from napari_sam.propagation.recording.answer_store import AnswerStore
from napari_sam.propagation.recording.recorded_follower import RecordedFollower
from napari_sam.propagation.review import ReviewedPlane, next_plane

if TYPE_CHECKING:
    from napari_sam.journal.journal import Journal
    from napari_sam.propagation.follower import Followed, Follower, ResumableFollower

ENGINES = ("auto", "prompts", "memory")
# Axes that objects go on along, the first that the image has.
USUAL_AXES = ("z", "t")
MOST_PATIENCE = 10**6

Accepted = dict[int, dict[int, Mask]]


class PropagatedImage(WordSearchedImage):
    """The part of `Segmenter` that follows objects from plane to plane."""

    _answers: AnswerStore | None = None
    _identity = ""

    def propagate(
        self,
        labels: int | Sequence[int] | None = None,
        *,
        axis: int | str | None = None,
        planes: Sequence[int] | None = None,
        patience: int = PATIENCE,
        overlap: Overlap = "keep",
        engine: str = "auto",
    ) -> dict[int, list[int]]:
        """Follow objects from their accepted planes through the other planes, and write their masks into the labels.

        Accepted planes are never changed, and all of them count: after a correction of one plane, call it again. Only
        the planes between it and its neighbors that are accepted are followed anew then, and planes that stay the same
        are not written again. One `undo` takes back all that one call has written.

        Parameters
        ----------
        labels
            The objects; all by default. Each must have a mask in at least one plane that was accepted, and not only
            propagated. Without a journal every plane in which the object has pixels counts as accepted.
        axis
            The axis along which the planes follow each other, by number or by name. By default z, t, or the only other
            axis of more than one plane.
        planes
            Positions (first, last) along the axis, both included, beyond which no object is followed. By default all.
        patience
            An object that is not found in as many planes in a row has ended. By default 2.
        overlap
            What happens to other labels: "keep" (the default) leaves their pixels alone, "overwrite" replaces them.
        engine
            "memory" follows by what SAM 2 remembers of the planes before, and needs a model that has a memory.
            "prompts" follows with any model, by prompts from the mask of the plane before. "auto" (the default) is the
            memory where the model has one.

        Returns
        -------
        dict
            For each label the positions along the axis where it was found, in rising order.

        Raises
        ------
        LabelsError
            There is no such object, or the labels cannot be written.
        ModelError
            The engine is "memory", and the model has none.
        PromptError
            The axis or the planes do not exist, or there is no accepted plane to begin from.
        ImageError
            A plane cannot be read; what was written before stays.
        OutputError
            The journal cannot be written.
        """
        written: dict[int, list[int]] = {}
        steps = self.propagate_steps(
            labels, axis=axis, planes=planes, patience=patience, overlap=overlap, engine=engine
        )
        for step in steps:
            for label in step.followed:
                written.setdefault(label, []).append(step.at)
        return {label: sorted(positions) for label, positions in written.items()}

    def propagate_steps(
        self,
        labels: int | Sequence[int] | None = None,
        *,
        axis: int | str | None = None,
        planes: Sequence[int] | None = None,
        patience: int = PATIENCE,
        overlap: Overlap = "keep",
        engine: str = "auto",
    ) -> Iterator[PropagationStep]:
        """Follow objects plane by plane; see `propagate` for parameters and errors.

        Yields
        ------
        PropagationStep
            After every plane, with the masks that are in the labels now. Close the iterator to stop; what was written
            stays.
        """
        choice(engine, "The engine", ENGINES)
        patience = whole(patience, "The patience", "give a number of planes from 1 on", least=1, most=MOST_PATIENCE)
        chosen = self._labels_to_follow(labels)
        stacks = [(stack, self._accepted_in(stack, group)) for stack, group in self._stacks(chosen, axis, planes)]
        if not any(accepted for _, accepted in stacks):
            raise PromptError("There is no object with an accepted plane to begin from: accept a mask first.")
        return self._write_steps(stacks, patience, overlap, engine)

    def plane_to_correct(
        self, label: int, *, axis: int | str | None = None, planes: Sequence[int] | None = None
    ) -> int | None:
        """Return the plane of a followed object to look at next: its correction is expected to gain the most.

        Confidence, size and place of all its planes count, since a correction helps the planes around it as well.

        Parameters
        ----------
        label
            The object.
        axis, planes
            As in `propagate`.

        Returns
        -------
        int or None
            Position along the axis; None where no plane is left that was propagated and not accepted since.

        Raises
        ------
        LabelsError
            There is no such object, or no journal, which knows the confidences.
        PromptError
            The axis or the planes do not exist.
        """
        if self.journal is None:
            raise LabelsError("Without a journal no confidence is known: open the labels with journal=True.")
        (stack, _), *_ = self._stacks(self._labels_to_follow(label), axis, planes)
        at_parts = [(stack.position_of(part.plane), part) for part in self.journal.object(label).parts]
        states = {
            at: ReviewedPlane(part.area, part.iou_prediction, not part.is_propagated)
            for at, part in at_parts
            if at is not None
        }
        return next_plane(states, stack.first, stack.last)

    def keep_answers(self, path: Path) -> None:
        """Keep what is found in planes in a file, so that a run that was killed goes on where it was.

        Answers of the same model, contrast and accepted masks are read from there. By default they are forgotten with
        the Segmenter.

        Parameters
        ----------
        path
            The file, made where there is none.

        Raises
        ------
        OutputError
            It is of another program, in use, or cannot be written.
        ImageError
            The pixels that identify the image cannot be read.
        """
        self._identity = pixel_digest(self.volume.array)
        self._forget_answers()
        self._answers = AnswerStore(path)

    def close(self) -> None:
        """Close the journal and the file of `keep_answers`; see `LabeledPlanes.close`."""
        super().close()
        self._forget_answers()

    def _forget_answers(self) -> None:
        """Forget what was found in planes of an image that has changed."""
        if self._answers is not None:
            self._answers.close()
            self._answers = None

    def _recorded(self, stack: PlaneStack, direction: int, engine: str) -> Follower:
        """Return a follower that does not follow twice what it has followed."""
        if self._answers is None:
            self._answers = AnswerStore()
        context = {
            "image": self._identity,
            "axes": stack.plane.axes,
            "index": stack.at(0).index,
            "axis": stack.axis,
            "rendering": repr(self.encoder.rendering),
            "channels": self.volume.channels,
        }
        return RecordedFollower(self.follower(stack, direction, engine), self._answers, context)

    def follower(self, stack: PlaneStack, direction: int, engine: str = "auto") -> ResumableFollower:
        """Return what follows objects through a stack: 1 towards higher positions, -1 towards lower ones.

        Raises
        ------
        ModelError
            The engine is "memory", and the model has none.
        """
        return follower_of(self.encoder, stack, direction, engine)

    def stack_of(self, plane: Plane, axis: int | str | None = None, planes: Sequence[int] | None = None) -> PlaneStack:
        """Return the planes that the objects of a plane are followed through.

        Raises
        ------
        PromptError
            See `propagate`.
        """
        return PlaneStack.of(self.shape, plane, self._axis_of(axis, plane), planes)

    def _write_steps(
        self, stacks: Sequence[tuple[PlaneStack, Accepted]], patience: int, overlap: Overlap, engine: str
    ) -> Iterator[PropagationStep]:
        made = replace(self.encoder.provenance_of_found(), is_propagated=True)
        # Without a journal, one undo takes back what is written in one block.
        with self._store().together() if self.journal is None else nullcontext():
            action = Action(self.journal)
            for number, steps in self._steps_of(stacks, patience, engine):
                stack, accepted = stacks[number]
                written: dict[int, set[int]] = {label: set(masks) for label, masks in accepted.items()}
                for step in steps:
                    with action.entries():
                        followed = self._write(stack.at(step.at), step.followed, overlap, made)
                    for label in followed:
                        written[label].add(step.at)
                    yield replace(step, followed=followed)
                with action.entries():
                    self._remove_others(stack, written)

    def _steps_of(
        self, stacks: Sequence[tuple[PlaneStack, Accepted]], patience: int, engine: str
    ) -> Iterator[tuple[int, Iterable[PropagationStep]]]:
        """Follow the objects of stacks, here or on the workers of the cluster; yield each stack's number and steps."""
        if self.cluster is not None and (image := self.shared) is not None:
            runner = self.cluster.runner(FollowingPlan(image, patience, engine))
            yield from followed_on(runner, stacks)
            return
        for number, (stack, accepted) in enumerate(stacks):
            follower = partial(self._recorded, stack, engine=engine)
            yield number, Propagation(stack, accepted, follower, patience).run()

    def _write(
        self, plane: Plane, followed: Mapping[int, Followed], overlap: Overlap, made: Provenance
    ) -> dict[int, Followed]:
        """Write the masks of a plane, the surest first; return what was written."""
        ordered = sorted(followed, key=lambda label: -followed[label].confidence)
        if self.journal is not None:
            states = {label: _state_of(self.journal, label, plane, followed[label].mask) for label in ordered}
            parts = {label: followed[label].mask for label in ordered if states[label] == "open"}
            labels = self.accept_parts(parts, plane=plane, overlap=overlap, made=made) if parts else []
            there = {label for label in labels if label is not None}
            return {label: followed[label] for label in ordered if label in there or states[label] == "same"}
        written = {}
        for label in ordered:
            with suppress(LabelsError):  # All its pixels belong to other labels.
                self._store().write(plane, followed[label].mask, label, overlap)
                written[label] = followed[label]
        return written

    def _remove_others(self, stack: PlaneStack, written: Mapping[int, set[int]]) -> None:
        """Remove what an earlier propagation has found in planes where the objects are not found any more."""
        if self.journal is None:
            return
        for label, positions in written.items():
            found = self.journal.objects.get(label)
            stale = [
                part.plane
                for part in (() if found is None else found.parts)
                if part.is_propagated
                and (at := stack.position_of(part.plane)) is not None
                and stack.first <= at <= stack.last
                and at not in positions
            ]
            if stale:
                self.journal.remove_parts(label, stale)

    def _labels_to_follow(self, labels: Any) -> list[int]:
        """Return checked labels; all objects by default."""
        if labels is not None:
            given = [labels] if np.ndim(labels) == 0 else labels
            return list(dict.fromkeys(each(given, "The labels", "a list of labels", label_number)))
        if self.journal is not None:
            return [found.label for found in self.journal.objects]
        return [int(label) for label in np.unique(np.asarray(self.labels)) if label]

    def _stacks(
        self, labels: Sequence[int], axis: int | str | None, planes: Sequence[int] | None
    ) -> list[tuple[PlaneStack, list[int]]]:
        """Return the stacks that objects lie in, each with its objects."""
        stacks: dict[PlaneStack, list[int]] = {}
        for label in labels:
            plane = self._plane_of(label)
            stack = self.stack_of(plane, axis, planes)
            stacks.setdefault(replace(stack, plane=stack.at(0)), []).append(label)
        return list(stacks.items())

    def _plane_of(self, label: int) -> Plane:
        """Return the plane that an object was accepted in last, or a plane of the axes of the image."""
        if self.journal is None:
            return self._last_plane or self.plane([0] * (len(self.shape) - 2))
        parts = self.journal.object(label).parts
        return next((part.plane for part in reversed(parts) if not part.is_propagated), parts[-1].plane)

    def _axis_of(self, axis: Any, plane: Plane) -> int:
        """Return the number of the axis along which objects are followed."""
        others = [number for number in range(len(self.shape)) if number not in plane.axes]
        names = self.volume.axis_names
        if axis is None:
            if not others:
                raise PromptError("The image has a single plane: there is nothing to follow objects through.")
            named = [names.index(name) for name in USUAL_AXES if names is not None and name in names]
            long = [number for number in others if self.shape[number] > 1] or others
            usual = [number for number in named if number in long]
            if not usual and len(long) > 1:
                raise PromptError(f"The image has several axes to follow objects along, {long}: give one as the axis.")
            return (usual or long)[0]
        known = ", ".join(names[number] if names else str(number) for number in others) or "none"
        if isinstance(axis, str) and names is not None and axis in names:
            return names.index(axis)
        if isinstance(axis, str):
            raise PromptError(
                f"The image has no axis called {shown(axis)} to follow objects along: use one of {known}."
            )
        number = whole(axis, "The axis", f"use one of {known}", least=-len(self.shape), most=len(self.shape) - 1)
        return number % len(self.shape)

    def _accepted_in(self, stack: PlaneStack, labels: Sequence[int]) -> Accepted:
        """Return the accepted masks of objects by label and by position along the axis of a stack."""
        if self.journal is None:
            return self._pixels_in(stack, labels)
        accepted: Accepted = {}
        for label in labels:
            for part in self.journal.object(label).parts:
                at = stack.position_of(part.plane)
                if at is not None and not part.is_propagated:
                    accepted.setdefault(label, {})[at] = part.accepted.mask
        return accepted

    def _pixels_in(self, stack: PlaneStack, labels: Sequence[int]) -> Accepted:
        """Return the pixels of objects by label and by position along the axis of a stack."""
        accepted: Accepted = {}
        whole_plane = Box.of_shape(stack.plane.shape_in(self.shape))
        for at in range(self.shape[stack.axis]):
            pixels = self._store().read(stack.at(at), whole_plane)
            for label in np.intersect1d(np.unique(pixels), labels).tolist():
                accepted.setdefault(label, {})[at] = mask_of(pixels == label)
        missing = [label for label in labels if label not in accepted]
        if missing:
            raise LabelsError(f"There is no object {missing[0]} in these planes: give the label of one.")
        return accepted


def _state_of(journal: Journal, label: int, plane: Plane, mask: Mask) -> Literal["open", "same", "closed"]:
    """Return whether a mask may be written, is there already, or may not: accepted meanwhile, or the object is gone."""
    part = journal.part(label, plane)
    if part is None:
        return "open" if journal.has(label) else "closed"
    if not part.is_propagated:
        return "closed"
    # Where other labels had taken pixels of it, it is written again: these may be free now.
    is_same = part.area == mask.area and part.iou_prediction == mask.iou_prediction and part.label == label
    return "same" if is_same and _have_same_pixels(part.accepted.mask, mask) else "open"


def _have_same_pixels(one: Mask, other: Mask) -> bool:
    one, other = one.tightened(), other.tightened()
    return one.box == other.box and np.array_equal(one.pixels, other.pixels)
