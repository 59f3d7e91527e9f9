"""Annotating: a state machine that annotates two images at random and compares labels, objects and prompts.

After each step the controller must show what the oracles of this folder hold.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import zarr
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from napari.components import ViewerModel
from scipy import ndimage
from tests.plugin.annotation.stateful.label_oracle import Reference, section
from tests.plugin.annotation.stateful.operations import (
    BEFORE,
    CHOICES,
    NEEDS,
    PLAN,
    SEVERAL,
    STRIDE,
    has_objects,
    has_only_objects,
    has_points,
    has_points_of_others,
    has_several_open,
    has_shapes,
    operation,
    places,
    signs,
    which,
)
from tests.plugin.annotation.stateful.oracle import PromptOracle
from tests.plugin.annotation.stateful.prompt_model import Correction, Point, Shape
from tests.plugin.annotation.stateful.site import KINDS, Runner, Site

from napari_sam.cli.app import app
from napari_sam.core.cleaning import Cleaning
from napari_sam.core.geometry import Plane
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.controller import Controller
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.objects.files import use_label_file

CLEANINGS = (
    Cleaning(),
    Cleaning(),
    Cleaning(keep_largest=True, fill_holes=None),
    Cleaning(smooth=1.5),
    Cleaning(minimum_size=60),
)
ORDERS = ((0, 1, 2), (0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0))
NAMES = ("nucleus", "cell", "vessel")
COUNTS: Counter = Counter()


class Annotating(RuleBasedStateMachine):
    """The controller of a viewer with two images, and what it must have made of its labels."""

    def __init__(self, kind, folder, predictor, set_cache):
        super().__init__()
        self.folder = folder
        folder.mkdir()
        set_cache(folder / "cache")
        self.kind, self.predictor = kind, predictor
        self.notes, self.told = [], 0
        self.viewer, self.controller = ViewerModel(), None
        # By layer, by what they are kept in, and the image of each layer.
        self.outputs, self.references, self.homes = {}, {}, {}
        self.is_sound, self.count = False, 0
        self.clock = itertools.count(1).__next__
        self.prompting = PromptOracle(self.clock)
        self.class_name = None

    @initialize(other=st.sampled_from(KINDS), scaled=st.booleans())
    def begin(self, other, scaled):
        self.sites = [Site(self.kind, 0, self.folder, False), Site(other, 1, self.folder, scaled)]
        for site in self.sites:
            site.add_image(self.viewer)
        self.site = self.sites[0]
        self._open()
        self._choose_image(self.sites[0])

    def _open(self):
        self.runner = Runner()
        self.controller = Controller(self.viewer, self.runner, self.notes.append)
        self.controller.session.set_model(self.predictor, "cpu")

    def _did(self, what):
        COUNTS[what] += 1

    # -- what is expected --------------------------------------------------------------------------------------------

    @property
    def plane(self):
        """The plane in view."""
        dims, image = self.viewer.dims, self.site.layer
        offset = dims.ndim - len(self.site.shape)
        rows, cols = (axis - offset for axis in dims.displayed)
        at = np.rint(np.array(dims.point)[offset:] / self.site.scale).astype(int)
        assert image is self.controller.session.image
        return Plane((rows, cols), tuple(0 if axis in (rows, cols) else int(i) for axis, i in enumerate(at)))

    @property
    def mine(self):
        """The layer that the next step back is of, and its reference."""
        kept = self.controller.objects.journal
        return (None, None) if kept is None else (kept.layer, self.outputs[kept.layer])

    def _news(self):
        """Return what the user was told since the last look."""
        news, self.told = self.notes[self.told :], len(self.notes)
        return " ".join(news)

    def _place(self, place):
        """Return the pixel (row, col) of a place in view."""
        shape = [self.site.shape[axis] for axis in self.plane.axes]
        return tuple(int(at * length) for at, length in zip(place, shape, strict=True))

    def _position(self, pixel):
        at = list(self.plane.index)
        for axis, value in zip(self.plane.axes, pixel, strict=True):
            at[axis] = value
        return tuple(at)

    def _shown(self):
        """Return the pixels of the plane that the preview shows."""
        plane, controller = self.plane, self.controller
        mask = np.zeros(self.site.shape, bool)
        preview = controller.preview.layers.current
        if preview is not None and preview.visible:
            first = np.rint(np.array(preview.translate)[-mask.ndim :] / self.site.scale).astype(int)
            within = tuple(slice(at, at + n) for at, n in zip(first, preview.data.shape, strict=True))
            mask[within] = preview.data
        elif preview is None and controller.session.candidates is not None:
            candidate = controller.session.mask_of(controller.session.current)
            section(mask, plane)[candidate.box.slices] = candidate.pixels
        return section(mask, plane)

    def _check(self):
        self.is_sound = False
        for layer, reference in self.outputs.items():
            now = _labels_of(layer)
            np.testing.assert_array_equal(now, reference.labels)
            assert now.tobytes() == reference.labels.astype(now.dtype).tobytes()
        self._check_prompts()
        self._check_objects()
        self.is_sound = True

    def _check_prompts(self):
        controller, expected = self.controller, self.prompting
        points, shapes = controller.prompts.points, controller.prompts.shapes
        at = np.zeros((0, len(self.site.shape))) if points is None else points.data
        present = expected.present
        np.testing.assert_allclose(at, np.array([p.at for p in present.points]).reshape(-1, at.shape[1]), atol=1e-6)
        signs = [] if points is None else points.features["label"].tolist()
        assert signs == [p.sign for p in present.points]
        drawn = [] if shapes is None else list(zip(shapes.shape_type, shapes.data, strict=True))
        assert [kind for kind, _ in drawn] == [shape.kind for shape in present.shapes]
        for (_, corners), shape in zip(drawn, present.shapes, strict=True):
            for end in (np.min, np.max):
                np.testing.assert_allclose(end(corners, axis=0), end(shape.corners, axis=0), atol=1e-5)
        of = [number for layer in (points, shapes) if layer is not None for number in layer.features["object"]]
        _check_same_groups(
            [
                *of,
                *(each.number for each in controller.session.drafts.pending),
                controller.session.drafts.current.number,
            ],
            [*(one.of for one in (*present.points, *present.shapes)), *present.pending, present.now],
        )
        assert (controller.undo.history.last_at is not None) == bool(expected.past)
        assert (controller.undo.history.undone_at is not None) == bool(expected.future)
        if controller.session.image is None:
            return
        asked, candidates = expected.asked(self.plane), controller.session.candidates
        is_question = asked.box is not None or asked.has_mask or any(sign for *_, sign in asked.points)
        assert (candidates is not None) == is_question, (asked, self.notes[-3:])
        if candidates is not None:
            assert candidates.plane == self.plane
            np.testing.assert_allclose(
                np.column_stack([candidates.prompts.points, candidates.prompts.labels]),
                np.array(asked.points, float).reshape(-1, 3),
                atol=1e-6,
            )

    def _check_objects(self):
        objects = self.controller.objects
        _, reference = self.mine
        if objects.journal is None:
            return
        assert reference is not None
        state = reference.state
        expected = {label: number and state.classes[number] for label, number in state.objects.items()}
        rows = objects.rows
        assert {row.label: row.label_class and row.label_class.name for row in rows} == expected
        assert [kind.name for kind in objects.classes] == [state.classes[n] for n in sorted(state.classes)]
        assert (objects.journal.next_undo is None, objects.journal.next_redo is None) == (
            not reference.done,
            not reference.undone,
        )
        for row in rows:
            for part in row.parts:
                top, left, bottom, right = state.parts[row.label][part.plane].box
                there = section(reference.labels, part.plane)[top:bottom, left:right] == row.label
                assert reference.is_painted or part.area == np.count_nonzero(there), (row.label, part.plane)

    # -- prompts -----------------------------------------------------------------------------------------------------

    def _points(self):
        if self.controller.prompts.points is None or self.controller.prompts.tool != "points":
            self.controller.editing.activate("points")
        return self.controller.prompts.points

    def _change_points(self, change):
        points = list(self.prompting.present.points)
        change(points)
        self.prompting.change(points=tuple(points))

    def _set_sign(self, sign):
        if self.controller.prompts.sign != sign:
            self.controller.prompts.toggle_sign()

    @operation(6, place=places, sign=signs)
    def click(self, place, sign):
        layer, at = self._points(), self._position(self._place(place))
        self._set_sign(sign)
        layer.add(np.array([at], float))
        self._change_points(lambda points: points.append(Point(at, sign, self.prompting.now)))
        self._did("click")
        self._check()

    @operation(3, needs=has_points, before=("click",), which=which, place=places)
    def move_point(self, which, place):
        mine, at = self.prompting.points, self._position(self._place(place))
        index, point = mine[which % len(mine)]
        data = self.controller.prompts.points.data.copy()
        data[index] = at
        self.controller.prompts.points.data = data
        self._change_points(lambda points: points.__setitem__(index, replace(point, at=at)))
        self._did("move a point")
        self._check()

    @operation(2, needs=has_points, before=("click",), which=which)
    def delete_point(self, which):
        layer, (index, _) = self.controller.prompts.points, self.prompting.points[which % len(self.prompting.points)]
        layer.selected_data = {index}
        layer.remove_selected()
        self._change_points(lambda points: points.pop(index))
        self._did("delete a point")
        self._check()

    @operation(2, needs=has_points, before=("click",), which=which)
    def flip_point(self, which):
        mine = self.prompting.points
        layer, (index, point) = self._points(), mine[which % len(mine)]
        layer.mode = "select"
        layer.selected_data = {index}
        self.controller.prompts.toggle_sign()
        self._change_points(lambda points: points.__setitem__(index, replace(point, sign=1 - point.sign)))
        self.controller.editing.activate("points")
        self._did("flip a point")
        self._check()

    @operation(
        4, kind=st.sampled_from(["rectangle", "rectangle", "ellipse", "path"]), first=places, last=places, sign=signs
    )
    def draw(self, kind, first, last, sign):
        controller = self.controller
        low, high = sorted((self._place(first), self._place(last)))
        low, high = np.minimum(low, high), np.maximum(low, high)
        if (high - low).min() < 2:
            return
        controller.editing.activate({"rectangle": "box", "ellipse": "ellipse", "path": "scribble"}[kind])
        self._set_sign(sign)
        ends = [low - 0.25, high + 0.25] if kind == "rectangle" else [low, high]
        if kind == "path":
            corners = np.array([self._position(end) for end in ends], float)
        else:
            (top, left), (bottom, right) = ends
            around = [(top, left), (top, right), (bottom, right), (bottom, left)]
            corners = np.array([self._position(corner) for corner in around], float)
        add = {
            "rectangle": controller.prompts.shapes.add_rectangles,
            "ellipse": controller.prompts.shapes.add_ellipses,
            "path": controller.prompts.shapes.add_paths,
        }[kind]
        add(corners)
        shape = Shape(kind, corners, sign, self.prompting.now)
        self.prompting.change(shapes=(*self.prompting.present.shapes, shape))
        self._did(f"draw a {kind}")
        self._check()

    @operation(1, needs=has_shapes, before=("draw",), which=which)
    def delete_shape(self, which):
        layer, (index, shape) = (
            self.controller.prompts.shapes,
            self.prompting.shapes[which % len(self.prompting.shapes)],
        )
        layer.selected_data = {index}
        layer.remove_selected()
        self.prompting.change(shapes=tuple(one for one in self.prompting.present.shapes if one is not shape))
        self._did("delete a shape")
        self._check()

    @operation(3, step=st.sampled_from([1, -1]))
    def choose_candidate(self, step):
        if self.controller.session.candidates is not None:
            now = self.controller.session.drafts.current
            is_unknown = now.is_as_accepted and now.size is None
            before = self.controller.session.current.selected
            self.controller.editing.cycle(step)
            # The model has not answered yet for an object that shows its accepted mask.
            before = now.candidates.best_index if is_unknown else before
            assert self.controller.session.current.selected == (before + step) % 3
            self._did("choose a candidate")
        self._check()

    @operation(1)
    def clear(self):
        self.controller.editing.clear()
        self.prompting.clear()
        self._did("clear")
        self._check()

    @operation(6, needs=lambda self: self.prompting.is_begun, before=("click",))
    def begin_another_object(self):
        self.controller.editing.new_object()
        self.prompting.park()
        self._did("begin another object")
        self._check()

    @operation(3, needs=lambda self: bool(self.prompting.present.pending), before=SEVERAL)
    def take_the_next_object(self):
        self.controller.editing.next_object()
        self.prompting.take(self.prompting.present.pending[0])
        self._did("take another object in hand")
        self._check()

    @operation(3, needs=has_points_of_others, before=SEVERAL, which=which)
    def select_a_point_of_another_object(self, which):
        layer, present = self.controller.prompts.points, self.prompting.present
        others = [(at, point.of) for at, point in enumerate(present.points) if point.of in present.pending]
        index, of = others[which % len(others)]
        layer.mode = "select"
        layer.selected_data = {index}
        self.prompting.take(of)
        self.controller.editing.activate("points")
        self._did("select a point of another object")
        self._check()

    @operation(1, cleaning=st.sampled_from(CLEANINGS))
    def change_cleaning(self, cleaning):
        self.controller.requests.set_cleaning(cleaning)
        self._did("change the cleaning")
        self._check()

    # -- objects -----------------------------------------------------------------------------------------------------

    @operation(6, overlap=st.sampled_from(["keep", "keep", "overwrite", "empty"]))
    def accept(self, overlap):
        self._accept(overlap)

    @operation(6, place=places, overlap=st.sampled_from(["keep", "keep", "overwrite", "empty"]))
    def click_and_accept(self, place, overlap):
        self.click(place, 1)
        self._accept(overlap)

    def _accept(self, overlap):
        controller, prompting = self.controller, self.prompting
        controller.session.overlap = overlap
        plane, mask, correction = self.plane, self._shown().copy(), prompting.correction
        if correction is not None and correction.plane != plane:
            correction = None
        is_answered = controller.session.candidates is not None
        old, asked = controller.session.target, prompting.asked(plane)
        target = correction.layer if correction else old
        if target is None:
            self._drop_copies()
        self._news()
        before = self._labels_layers()
        controller.commits.accept()
        told = self._news()
        if not is_answered:
            assert "no mask to accept" in told
            self._check()
            return
        if not mask.any():
            assert "empty" in told or "leaves nothing" in told
            assert self._labels_layers() == before
            self._did("accept what is refused")
            self._check()
            return
        target = target or controller.session.target
        reference = self._reference_of(target)
        if reference.refuses(plane, mask, correction.label if correction else -1, overlap):
            assert "belong" in told
            self._did("accept what is refused")
        else:
            assert not told, told
            kept = controller.journals.get(target)
            label = kept.next_undo.label
            if correction is None:
                assert label > max(reference.labels.max(), *reference.state.objects, 0)
            else:
                assert label == correction.label
            name = None if correction else self.class_name
            reference.accept(plane, mask, label, overlap, asked, name, correction and correction.clicked)
            prompting.forget_object(prompting.now)
            self._did("correct" if correction else f"accept over others: {overlap}")
        self._check()

    @operation(
        4,
        needs=has_several_open,
        before=("click_and_accept", *SEVERAL),
        overlap=st.sampled_from(["keep", "overwrite", "empty"]),
    )
    def accept_all(self, overlap):
        controller, prompting, present = self.controller, self.prompting, self.prompting.present
        controller.session.overlap = overlap
        now = controller.session.drafts.current
        # An empty mask is accepted, and refused in its turn; one that the clean-up leaves nothing of is not.
        has_now = now.is_answered and (not now.mask.area or controller.session.mask_of(now).area)
        waiting = []
        for number, each in zip((*present.pending, present.now), controller.session.drafts.open, strict=True):
            if each is not now or has_now:
                mask = np.zeros(each.candidates.plane.shape_in(self.site.shape), bool)
                candidate = controller.session.mask_of(each)
                mask[candidate.box.slices] = candidate.pixels
                waiting.append((number, each.candidates.plane, mask))
        self._news()
        controller.commits.accept_all()
        told = self._news()
        if has_now:
            prompting.begin()
        prompting.present = replace(prompting.present, pending=())
        at = self.clock()
        while waiting:
            number, plane, mask = waiting[0]
            correction = prompting.corrections.get(number)
            if correction is not None and correction.plane != plane:
                correction = None
            layer = correction.layer if correction else controller.session.target
            reference = self.outputs[layer]
            if not mask.any() or reference.refuses(plane, mask, correction.label if correction else -1, overlap):
                break
            entry = controller.journals.get(layer).journal.entries[len(reference.done)]
            assert entry.label == correction.label if correction else entry.label > reference.labels.max()
            asked, name = prompting.asked(plane, number), None if correction else self.class_name
            reference.together = at
            reference.accept(plane, mask, entry.label, overlap, asked, name, correction and correction.clicked)
            reference.together = None
            prompting.forget_object(number)
            waiting.pop(0)
            self._did("accept one of several")
        if waiting:
            assert ("belong" if waiting[0][2].any() else "empty") in told
            numbers = [number for number, *_ in waiting]
            if prompting.is_begun:
                prompting.present = replace(prompting.present, pending=tuple(numbers))
            else:
                prompting.present = replace(prompting.present, pending=tuple(numbers[1:]), now=numbers[0])
        self._check()

    def _labels_layers(self):
        return self.controller.session.outputs

    def _reference_of(self, layer):
        """Return the reference of a layer, which may have just got a journal, or back what an earlier one holds."""
        kept = self.controller.journals.get(layer)
        folder = None if kept is None else kept.folder
        if layer not in self.outputs:
            earlier = self.references.get(folder)
            if earlier is not None:
                earlier.labels = earlier.restored()
            self._know(layer, earlier or Reference(np.zeros(self.site.shape), self.clock))
        reference = self.outputs[layer]
        if folder is not None:
            assert self.references.setdefault(folder, reference) is reference
        return reference

    @operation(5, times=st.sampled_from([1, 1, 2, 5]))
    def undo(self, times):
        for _ in range(times):
            self._turn("undo")

    @operation(4, times=st.sampled_from([1, 1, 2, 5]))
    def redo(self, times):
        for _ in range(times):
            self._turn("redo")

    def _turn(self, what):
        layer, reference = self.mine
        prompting = self.prompting
        commits = [] if reference is None else reference.done if what == "undo" else reference.undone
        prompts = prompting.past if what == "undo" else prompting.future
        prompt_at = (prompting.kept.at if what == "undo" else prompting.future[-1].at) if prompts else -1
        self._news()
        getattr(self.controller.undo, what)()
        told = self._news()
        if prompts and prompt_at > (commits[-1].at if commits else -1):
            getattr(prompting, what)()
            kind = "prompt"
        elif commits:
            turned = self._step(reference, what)
            self._let_go(layer, [commit.label for commit in turned])
            kind = "object"
        else:
            assert f"nothing to {what}" in told
            self._check()
            return
        assert not told or (kind == "prompt" and "only negative points" in told), told
        self._did(f"{what} a {kind}")
        self._check()

    def _step(self, reference, what):
        """Undo or redo; the class of what is accepted next has the name that it has by then."""
        number = next((number for number, name in reference.state.classes.items() if name == self.class_name), None)
        commits = getattr(reference, what)()
        self.class_name = reference.state.classes.get(number, self.class_name)
        return commits

    def _let_go(self, layer, labels):
        """Forget a correction of an object that was changed otherwise."""
        present, corrections = self.prompting.present, self.prompting.corrections
        for number in (*present.pending, present.now):
            correction = corrections.get(number)
            if correction is not None and correction.layer is layer and correction.label in labels:
                self.prompting.forget_object(number)

    @operation(2, needs=has_only_objects, steps=st.lists(st.tuples(st.integers(0, 3), which), min_size=2, max_size=6))
    def several_before_the_disk_is_done(self, steps):
        """Undo, redo, delete and classify while what writes waits: each finds what those before it left."""
        objects, (_, reference) = self.controller.objects, self.mine
        self.runner.held = True
        for kind, number in steps:
            rows = sorted(row.label for row in objects.rows)
            if kind < 2:
                what = ("undo", "redo")[kind]
                getattr(self.controller.undo, what)()
                if reference.undone if kind else reference.done:
                    self._step(reference, what)
            elif rows:
                label = rows[number % len(rows)]
                objects.delete([label]) if kind == 2 else objects.classify([label], "cell")
                if label in reference.state.objects:
                    reference.delete(label) if kind == 2 else reference.classify(label, "cell")
        self.runner.release()
        self._news()
        self._did("several before the disk is done")
        self._check()

    @operation(1, needs=has_objects)
    def undo_all_and_redo_all(self):
        _, reference = self.mine
        labels, count = reference.labels, len(reference.done)
        while reference.done or self.prompting.past:
            self._turn("undo")
        while len(reference.done) < count:
            self._turn("redo")
        if not reference.is_painted:
            np.testing.assert_array_equal(reference.labels, labels)
        while reference.undone:
            self._turn("redo")
        self._did("undo all and redo all")

    @operation(4, needs=has_objects, which=which)
    def reopen(self, which):
        layer, reference = self.mine
        labels = sorted(reference.state.objects)
        self._reopen(layer, reference, labels[which % len(labels)])
        self._did("reopen")
        self._check()

    def _reopen(self, layer, reference, label):
        plane = self.plane
        self.controller.editing.reopen(label)
        self._expect_reopened(layer, reference, label, plane)

    def _expect_reopened(self, layer, reference, label, plane):
        parts = reference.state.parts[label]
        plane = plane if plane in parts else list(parts)[-1]
        asked = parts[plane].asked
        assert self.plane == plane
        prompting = self.prompting
        prompting.clear()
        prompting.begin(Correction(layer, label, plane, asked.has_mask, None))
        points = [Point(self._position(at), sign, prompting.now) for *at, sign in asked.points]
        shapes = []
        if asked.box is not None:
            top, left, bottom, right = np.array(asked.box) - 0.5
            corners = np.array([self._position(corner) for corner in ((top, left), (bottom, right))])
            shapes = [Shape("rectangle", corners, 1, prompting.now)]
        present = prompting.present
        prompting.change(points=(*present.points, *points), shapes=(*present.shapes, *shapes))

    @operation(3, which=which)
    def pick_on_the_canvas(self, which):
        """Ctrl+click on an object of the output."""
        target, plane = (
            self.controller.session.target,
            self.plane if self.controller.session.image is not None else None,
        )
        if target is None or plane is None:
            return
        reference = self.outputs[target]
        here = section(reference.labels, plane)
        labels = np.unique(here[here > 0])
        if not len(labels):
            return
        label = int(labels[which % len(labels)])
        row, col = np.argwhere(here == label)[0]
        position = self.site.layer.data_to_world(self._position((row, col)))
        waits = self.controller.session.drafts.pending_at(plane, row, col)
        at = None if waits is None else self.controller.session.drafts.pending.index(waits)
        self.controller.editing.pick(position)
        if at is not None:
            self.prompting.take(self.prompting.present.pending[at])
        elif label in reference.state.objects and self.controller.objects.journal is not None:
            self._expect_reopened(target, reference, label, plane)
        else:
            self.prompting.clear()
            part, _ = ndimage.label(here == label)
            rows, cols = np.nonzero(part == part[row, col])
            box = int(rows.min()), int(cols.min()), int(rows.max()) + 1, int(cols.max()) + 1
            self.prompting.begin(Correction(target, label, plane, True, box))
            self.prompting.record()
        self._did("pick on the canvas")
        self._check()

    @operation(2, needs=has_objects, which=st.sets(which, min_size=1, max_size=6))
    def delete(self, which):
        layer, reference = self.mine
        labels = self._some(reference, which)
        self.controller.objects.delete(labels)
        reference.together = self.clock()
        for label in labels:
            reference.delete(label)
        reference.together = None
        self._let_go(layer, labels)
        self._did("delete")
        self._check()

    def _some(self, reference, which):
        known = sorted(reference.state.objects)
        return sorted({known[each % len(known)] for each in which})

    @operation(2, needs=has_objects, which=st.sets(which, min_size=1, max_size=6), name=st.sampled_from([*NAMES, None]))
    def classify(self, which, name):
        _, reference = self.mine
        labels = self._some(reference, which)
        self.controller.objects.classify(labels, name)
        reference.together = self.clock()
        for label in labels:
            reference.classify(label, name)
        reference.together = None
        self._did("classify")
        self._check()

    @operation(1, name=st.sampled_from([*NAMES, None]))
    def choose_class(self, name):
        self.controller.objects.classify([], name)
        self.class_name = name
        self._did("choose a class")
        self._check()

    @operation(
        2,
        needs=has_objects,
        name=st.sampled_from(NAMES),
        color=st.sampled_from([None, (1, 0, 0)]),
        renamed=st.sampled_from([None, *NAMES]),
    )
    def define_class(self, name, color, renamed):
        _, reference = self.mine
        objects = self.controller.objects
        self._news()
        objects.define_class(name, color, renamed)
        if renamed not in (None, name) and renamed in reference.state.classes.values():
            assert "already" in self._news()
        else:
            assert not self._news()
            reference.define_class(name, renamed)
            if self.class_name == name and renamed is not None:
                self.class_name = renamed
        assert self.controller.session.class_name == self.class_name
        self._did("define a class")
        self._check()

    # -- layers, planes, images ----------------------------------------------------------------------------------------

    @operation(3, index=st.integers(0, 2))
    def switch_plane(self, index):
        self._show_plane(index)
        self._did("switch planes")
        self._check()

    def _show_plane(self, index):
        site, dims = self.site, self.viewer.dims
        if len(site.shape) == 3 and dims.ndim == 3:
            hidden = dims.order[0]
            dims.set_point(hidden, index * site.scale[hidden])

    @operation(1, needs=lambda self: len(self.site.shape) == 3, order=st.sampled_from(ORDERS), index=st.integers(0, 2))
    def turn_the_view(self, order, index):
        self.viewer.dims.order = order
        self._show_plane(index)
        self._did("turn the view")
        self._check()

    @operation(2, choose=st.booleans())
    def switch_images(self, choose):
        site = self.sites[1 - self.site.number]
        if site.layer is None:
            return
        self._choose_image(site, choose)
        self._did("switch images")
        self._check()

    def _choose_image(self, site, choose=True):
        """Take up an image and, as a user does, its labels."""
        controller, dims = self.controller, self.viewer.dims
        old = controller.session.target
        self.site = site
        dims.order = tuple(range(dims.ndim))
        for axis in range(dims.ndim):
            dims.set_point(axis, 0)
        controller.session.set_image(site.layer)
        self.prompting.forget_all()
        fits = old in self.outputs and self.homes[old].shape == site.shape and self.homes[old].scaled == site.scaled
        assert controller.session.target is (old if fits else None)
        if choose:
            self._choose_labels()

    def _choose_labels(self):
        """Choose the labels of the image as the output, or add them."""
        site, mine = self.site, self._layers()
        if mine:
            self._choose(mine[-1])
        elif "pyramid" in site.kind:
            self._open_pyramid()
        elif site.kind == "zarr" or (site.kind == "full" and not site.is_given):
            self._add_given()
        else:
            self.controller.session.set_target(None)

    def _layers(self):
        return [layer for layer, home in self.homes.items() if home is self.site]

    def _choose(self, layer):
        self.controller.session.set_target(layer)
        assert self.controller.session.target is layer
        reference = self.outputs[layer]
        if reference.done or reference.undone:
            kept = self.controller.objects.journal
            assert kept is not None
            assert self.references[kept.folder] is reference

    def _know(self, layer, reference):
        reference.forget_times()
        self.outputs[layer], self.homes[layer] = reference, self.site

    def _open_pyramid(self):
        site = self.site
        if not site.path.exists():
            is_full = site.kind == "full pyramid"
            chunks, spacing = (1, 16, 16), [float(size) for size in site.scale]
            dtype = "uint8" if is_full else "uint16"
            pyramid = LabelPyramid.create(site.path, site.shape, chunks=chunks, spacing=spacing, dtype=dtype)
            assert len(pyramid.levels) > 2
            labels = site.given() if is_full else np.zeros(site.shape)
            if is_full:
                pyramid[...] = labels
            self.references[site.path] = Reference(labels, self.clock)
        use_label_file(self.controller.session, self.controller.preview.layers, site.path)
        assert labels_layer.pyramid_of(self.controller.session.target).path == site.path
        self._know(self.controller.session.target, self.references[site.path])

    def _add_given(self):
        site, labels = self.site, self.site.given()
        if site.kind == "zarr":
            if not site.path.exists():
                array = zarr.create_array(site.path, shape=site.shape, chunks=(1, 16, 16), dtype="uint16")
                array[...] = labels
                self.references[site.path] = Reference(labels, self.clock)
            data, reference = zarr.open_array(site.path, mode="r+"), self.references[site.path]
        else:
            data, reference, site.is_given = labels, Reference(labels, self.clock), True
        layer = self.viewer.add_labels(data, name="mine", scale=site.scale)
        self._know(layer, reference)
        self._choose(layer)

    @operation(1, which=which)
    def choose_labels(self, which):
        """Choose one of the image's layers of labels, or new ones."""
        layers = [*self._layers(), None]
        layer = layers[which % len(layers)]
        if layer is None:
            self.controller.session.set_target(None)
        else:
            self._choose(layer)
        self._did("choose labels")
        self._check()

    @operation(
        2, needs=lambda self: bool(self.outputs), which=which, then=st.sampled_from(["continue", "continue", "later"])
    )
    def delete_labels(self, which, then):
        layers = list(self.outputs)
        self._delete_labels(layers[which % len(layers)])
        self._did("delete the labels layer")
        if then == "continue" and self.controller.session.target is None:
            self._continue()
        self._check()

    def _delete_labels(self, layer):
        self._let_go(layer, [one.label for one in self.prompting.corrections.values()])
        self.viewer.layers.remove(layer)
        del self.outputs[layer], self.homes[layer]

    @operation(1, needs=lambda self: self.controller.session.target is None)
    def continue_what_was_left(self):
        self._continue()
        self._check()

    def _drop_copies(self):
        """Delete layers of the image whose journal is not open: it is what comes back."""
        for layer in self._layers():
            reference = self.outputs[layer]
            if self.controller.journals.get(layer) is None and (reference.done or reference.undone):
                self._delete_labels(layer)

    def _continue(self):
        self._drop_copies()
        offer, controller = self.controller.objects.offer, self.controller
        if offer is None:
            self._choose_labels()
            return
        reference = self.references[offer.journal]
        assert offer.count == len(reference.state.objects)
        controller.objects.resume()
        if offer.labels is None:
            reference.labels = reference.restored()
        assert controller.session.target is not None
        self._know(controller.session.target, reference)
        self._choose(controller.session.target)
        self._did("continue")

    @operation(1, needs=lambda self: self.controller.objects.offer is not None)
    def start_anew(self):
        offer = self.controller.objects.offer
        if offer.labels is None:
            self.controller.objects.start_over()
            # Not twice in one second. Then there may be other work to offer, such as labels on disk.
            if not offer.journal.exists():
                assert self.controller.objects.offer != offer
                aside = self.references.pop(offer.journal)
                for layer, reference in self.outputs.items():
                    if reference is aside:  # It is there, and begins anew as well.
                        self.outputs[layer] = Reference(reference.labels, self.clock)
                self._did("start anew")
        self._check()

    @operation(2, what=st.sampled_from(["points", "shapes", "preview"]))
    def delete_a_layer_of_ours(self, what):
        prompts, previews = self.controller.prompts, self.controller.preview.layers
        layer = {"points": prompts.points, "shapes": prompts.shapes, "preview": previews.current}[what]
        if layer is None:
            return
        self.viewer.layers.remove(layer)
        if what != "preview":
            self.prompting.change(**{what: ()})
        self._did(f"delete the layer of {what}")
        self._check()

    @operation(1, which=which, name=st.sampled_from(["a", "SAM labels", "SAM points", "image 0", "mine"]))
    def rename_a_layer(self, which, name):
        layer = self.viewer.layers[which % len(self.viewer.layers)]
        layer.name = name
        self._did("rename a layer")
        self._check()

    @operation(1, source=which, destination=which)
    def reorder_layers(self, source, destination):
        count = len(self.viewer.layers)
        self.viewer.layers.move(source % count, destination % count)
        self._did("reorder layers")
        self._check()

    @operation(1, choose=st.booleans())
    def delete_and_add_the_image(self, choose):
        self.viewer.layers.remove(self.site.layer)
        assert self.controller.session.image is None
        self.site.add_image(self.viewer)
        self._choose_image(self.site, choose)
        self._did("delete the image and add it")
        self._check()

    @operation(2, how=st.sampled_from(["choose", "choose", "continue"]))
    def close_and_open(self, how):
        ours = [self.controller.prompts.points, self.controller.prompts.shapes, self.controller.preview.layers.current]
        self.controller.close()
        assert not [layer for layer in ours if layer is not None and layer in self.viewer.layers]
        self.prompting.forget_all()
        self.class_name = None
        if how == "continue":
            for layer in self._layers():
                self._delete_labels(layer)
        self._open()
        self._choose_image(self.site, how == "choose")
        if how == "continue":
            self._continue()
        self._did("close and open")
        self._check()

    @operation(
        1,
        needs=lambda self: type(getattr(self.controller.session.target, "data", None)) is np.ndarray,
        place=places,
        erases=st.booleans(),
    )
    def paint(self, place, erases):
        layer = self.controller.session.target
        reference = self.outputs[layer]
        at = self._position(self._place(place))
        taken = [commit.label or 0 for commit in (*reference.done, *reference.undone)]
        value = 0 if erases else max([int(reference.labels.max()), *taken]) + 1
        if value > np.iinfo(layer.data.dtype).max:
            return
        layer.brush_size = 1
        layer.selected_label = value
        layer.paint(at, value)
        reference.paint(at, value)
        self._did("paint")
        self._check()

    @rule(turn=st.sampled_from(range(len(PLAN))), data=st.data())
    def act(self, turn, data):
        """Do one of the operations."""
        self.count += 1  # So that hypothesis's own simplest example, which chooses 0 always, does them all in turn.
        what = PLAN[(turn + self.count * STRIDE) % len(PLAN)]
        for name in () if NEEDS[what](self) else BEFORE[what]:
            self._do(name, data)
        if NEEDS[what](self):
            self._do(what, data)

    def _do(self, name, data):
        note(name)
        getattr(self, name)(**{key: data.draw(choice, key) for key, choice in CHOICES[name].items()})

    # -- the end -------------------------------------------------------------------------------------------------------

    def teardown(self):
        try:
            if self.is_sound:
                self._end()
        finally:
            if self.controller is not None:
                self.controller.close()
            self.viewer.layers.clear()

    def _end(self):
        if self.mine[1] is not None:
            self.undo_all_and_redo_all()
        kept = [(layer, self.controller.journals.get(layer)) for layer in self.outputs]
        folders = [(layer, each.journal.folder) for layer, each in kept if each is not None]
        self.controller.close()
        for layer in self.outputs:
            _check_levels(layer)
        for layer, folder in folders:
            self._check_replay(layer, folder)

    def _check_replay(self, layer, folder):
        reference = self.outputs[layer]
        out = self.folder / f"{folder.stem}-again.zarr"
        app(["replay", str(folder), "--out", str(out)], standalone_mode=False)
        np.testing.assert_array_equal(zarr.open_array(out, mode="r")[...], reference.restored())
        self._did("replay")


def _check_same_groups(now, expected):
    """What is of one object is of one object, whatever its number."""
    assert len(now) == len(expected)
    assert len(set(now)) == len(set(expected)) == len(set(zip(now, expected, strict=True)))


def _labels_of(layer):
    pyramid = labels_layer.pyramid_of(layer)
    return np.asarray(layer.data if pyramid is None else pyramid)


def _check_levels(layer):
    """Each coarser level of a pyramid holds every second pixel of the next finer one."""
    pyramid = labels_layer.pyramid_of(layer)
    if pyramid is None:
        return
    arrays = [level[...] for level in zarr_levels(pyramid)]
    for finer, coarser in itertools.pairwise(arrays):
        np.testing.assert_array_equal(coarser, finer[..., ::2, ::2])


def zarr_levels(pyramid):
    """Return the levels as they are on the disk, by the metadata that other programs read."""
    group = zarr.open_group(pyramid.path, mode="r")
    return [group[each["path"]] for each in group.attrs["ome"]["multiscales"][0]["datasets"]]
