"""Parts of objects: masks of many objects in one plane, objects that leave planes, are merged and split."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, Provenance
from napari_sam.core.prompts import Prompts
from napari_sam.errors import LabelsError
from napari_sam.journal.codec import from_json, to_json
from napari_sam.journal.journal import Journal, open_journal
from napari_sam.journal.packing.objects import NewObject
from napari_sam.journal.storage.object_rows import to_content
from napari_sam.labels.array import LabelArray

SHAPE = (6, 40, 50)
PROPAGATED = Provenance("compact", is_propagated=True)


def plane(z):
    return Plane((1, 2), (z, 0, 0))


def square(top, left, side=8):
    return Mask(Box(top, left, top + side, left + side), np.ones((side, side), bool), 0.75, 0.5)


def new(top, left, side=8):
    prompts = Prompts.of([(top + 1, left + 1)], [1], shape=SHAPE[1:])
    return NewObject(square(top, left, side), prompts)


def rows_of(journal):
    """All that the journal says of its objects, in order."""
    return [to_content(found) for found in journal.objects]


def state_of(journal):
    return np.array(journal.target.array), rows_of(journal)


def assert_same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    assert one[1] == other[1]


def check_areas(journal):
    """Each part has as many pixels as the labels have, and its mask can be read."""
    array = np.array(journal.target.array)
    for found in journal.objects:
        for part in found.parts:
            held = array[part.plane.index[0]] == found.label
            assert part.area == np.count_nonzero(held), (found.label, part.plane)
            assert not np.count_nonzero(
                held & ~np.isin(np.arange(40), range(int(part.box.top), int(part.box.bottom)))[:, None]
            )
            assert part.accepted.mask.area > 0
            assert part.overlap in ("keep", "overwrite", "empty")
    assert {found.label for found in journal.objects} >= set(np.unique(array)) - {0}


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "labels.journal", LabelArray(np.zeros(SHAPE, np.uint16)), durable=False) as opened:
        opened.accept(plane(2), square(2, 2), prompts=new(2, 2).prompts, class_name="cell")
        opened.accept(plane(2), square(2, 20))
        yield opened


# Masks of many objects in one plane


def test_objects_get_a_part_in_one_more_plane_by_one_entry(journal):
    before = state_of(journal)
    entry, labels = journal.accept_parts(plane(3), {2: new(3, 20), 1: new(3, 3)}, made=PROPAGATED)
    assert labels == [2, 1]
    assert entry.labels == [2, 1]
    found = journal.object(1)
    assert [part.plane for part in found.parts] == [plane(2), plane(3)]
    assert found.label_class.name == "cell"
    assert (found.parts[0].made, found.parts[1].made) == (None, PROPAGATED)
    assert found.parts[1].prompts.key == new(3, 3).prompts.key
    assert (found.area, found.iou_prediction) == (128, 0.75)
    check_areas(journal)
    after = state_of(journal)
    assert journal.undo().what == "accept_parts"
    assert_same(state_of(journal), before)
    journal.redo()
    assert_same(state_of(journal), after)


def test_a_mask_takes_the_place_of_that_of_its_object_in_the_plane(journal):
    journal.accept_parts(plane(3), {1: new(3, 3), 2: new(3, 20)}, made=PROPAGATED)
    before = state_of(journal)
    journal.accept_parts(plane(3), {1: new(20, 3, side=5)})
    assert np.count_nonzero(journal.target.array[3] == 1) == 25
    assert [part.made for part in journal.object(1).parts] == [None, None]
    check_areas(journal)
    journal.undo()
    assert_same(state_of(journal), before)


def test_of_masks_that_meet_the_first_gets_the_pixels_and_others_lose_them_only_where_they_are_overwritten(journal):
    journal.accept(plane(3), square(2, 10), 7)
    _, labels = journal.accept_parts(plane(3), {2: new(2, 16), 1: new(6, 12)})
    assert labels == [2, 1]
    assert [journal.object(label).part(plane(3)).area for label in (7, 2, 1)] == [64, 48, 32]
    check_areas(journal)
    journal.accept_parts(plane(3), {1: new(6, 12)}, "overwrite")
    assert journal.object(1).part(plane(3)).area == 64
    check_areas(journal)


def test_where_nothing_of_a_mask_can_be_written_its_object_stays_as_it_was(journal):
    journal.accept_parts(plane(3), {1: new(3, 3), 2: new(3, 20)})
    before = state_of(journal)
    entry, labels = journal.accept_parts(plane(3), {1: new(4, 21, side=3)})
    assert (entry, labels) == (None, [None])
    assert_same(state_of(journal), before)
    assert journal.accept_parts(plane(3), {2: new(3, 22), 1: new(4, 23, side=3)}).labels == [2, None]
    assert journal.object(1).part(plane(3)).box == Box(3, 3, 11, 11)
    check_areas(journal)


def test_parts_without_an_object_make_one_and_odd_ones_are_refused(journal):
    journal.accept_parts(plane(4), {9: new(1, 1)})
    assert journal.object(9).area == 64
    with pytest.raises(LabelsError, match="at least one"):
        journal.accept_parts(plane(4), {})
    for label in (0, -1):
        with pytest.raises(LabelsError, match="label"):
            journal.accept_parts(plane(4), {label: new(1, 1)})
    with pytest.raises(LabelsError, match="outside"):
        journal.accept_parts(plane(4), {1: new(36, 1)})
    with pytest.raises(LabelsError, match="labels"):
        journal.accept_parts(Plane((1, 2), (9, 0, 0)), {1: new(1, 1)})


# Objects that leave planes


def test_an_object_leaves_planes_and_comes_back_by_undo(journal):
    for z in (1, 3, 4):
        journal.accept_parts(plane(z), {1: new(3, 3), 2: new(3, 20)})
    before = state_of(journal)
    entry = journal.remove_parts(1, [plane(3), plane(1), plane(3)])
    assert entry.labels == [1]
    assert [part.plane for part in journal.object(1).parts] == [plane(2), plane(4)]
    assert not (journal.target.array[[1, 3]] == 1).any()
    check_areas(journal)
    after = state_of(journal)
    journal.undo()
    assert_same(state_of(journal), before)
    journal.redo()
    assert_same(state_of(journal), after)
    journal.remove_parts(1, [plane(2), plane(4)])
    assert [found.label for found in journal.objects] == [2]
    assert len(journal.objects) == 1
    journal.undo()
    assert_same(state_of(journal), after)


def test_planes_where_an_object_is_not_are_refused(journal):
    before = state_of(journal)
    for label, planes, message in (
        (1, [plane(2), plane(3)], "no pixels in the plane"),
        (1, [], "No plane"),
        (5, [plane(2)], "knows no object"),
        (None, [plane(2)], "knows no object"),
    ):
        with pytest.raises(LabelsError, match=message):
            journal.remove_parts(label, planes)
    assert_same(state_of(journal), before)


# Objects that are merged


def three(journal):
    """Objects 1 and 2 in planes 2 and 3, of which the second ones touch, and 3 in plane 4."""
    journal.accept_parts(plane(3), {1: new(3, 3), 2: new(3, 11)})
    journal.accept(plane(4), square(1, 1), prompts=new(1, 1).prompts, class_name="other")


def test_merged_objects_are_the_first_in_all_planes_with_their_prompts(journal):
    three(journal)
    before = state_of(journal)
    entry = journal.merge([1, 3, 2, 1])
    assert (entry.label, sorted(entry.labels)) == (1, [1, 2, 3])
    (found,) = journal.objects
    assert (found.label, found.label_class.name) == (1, "cell")
    assert {part.plane: part.area for part in found.parts} == {plane(2): 128, plane(3): 128, plane(4): 64}
    assert found.part(plane(4)).prompts.key == new(1, 1).prompts.key
    assert found.part(plane(3)).prompts is None
    assert found.part(plane(3)).accepted.mask.area == 128
    assert np.array_equal(journal.target.array == 1, before[0] > 0)
    check_areas(journal)
    after = state_of(journal)
    journal.undo()
    assert_same(state_of(journal), before)
    journal.redo()
    assert_same(state_of(journal), after)


def test_a_merged_object_is_moved_corrected_deleted_and_merged_again(journal):
    three(journal)
    journal.accept_all(plane(5), [new(1, 1), new(20, 20)])
    journal.merge([4, 3])
    journal.merge([2, 4])
    found = journal.object(2)
    assert {part.plane: part.prompts is None for part in found.parts} == {
        plane(2): True,
        plane(3): False,
        plane(4): False,
        plane(5): False,
    }
    assert found.part(plane(5)).accepted.mask.area == 64
    journal.accept(plane(5), square(30, 30), 2)
    check_areas(journal)
    journal.delete(2)
    assert 2 not in journal.target.array
    check_areas(journal)


def test_what_cannot_be_merged_is_said(journal):
    before = state_of(journal)
    for labels, message in (([1], "two objects"), ([1, 1], "two objects"), ([], "two objects"), ([1, 9], "object 9")):
        with pytest.raises(LabelsError, match=message):
            journal.merge(labels)
    assert_same(state_of(journal), before)


# Objects that are split


def test_planes_of_an_object_become_one_of_their_own(journal):
    three(journal)
    before = state_of(journal)
    entry = journal.split(1, [{plane(3): None}])
    assert entry.labels == [1, 4]
    assert [part.plane for part in journal.object(1).parts] == [plane(2)]
    assert journal.object(4).label_class.name == "cell"
    assert journal.object(4).prompts.key == new(3, 3).prompts.key
    check_areas(journal)
    assert journal.next_label == 5
    journal.undo()
    assert_same(state_of(journal), before)
    assert journal.next_label == 4


def test_pixels_of_a_mask_become_an_object_and_the_rest_stays(journal):
    journal.split(1, [{plane(2): square(0, 0, 6)}])
    assert (journal.object(1).area, journal.object(3).area) == (48, 16)
    assert (journal.object(1).prompts, journal.object(3).prompts) == (None, None)
    check_areas(journal)


def test_what_cannot_be_split_is_said(journal):
    before = state_of(journal)
    far, whole = square(30, 30), square(2, 2)
    for label, pieces, message in (
        (1, [], "No plane"),
        (1, [{plane(3): None}], "no pixels in the plane"),
        (1, [{plane(2): None}], "all of object 1"),
        (1, [{plane(2): whole}], "all of object 1"),
        (1, [{plane(2): far}], "no pixel of object 1"),
        (1, [{plane(2): square(2, 2, 2)}, {plane(2): far}], "no pixel of object 1"),
        (8, [{plane(2): None}], "no object 8"),
    ):
        with pytest.raises(LabelsError, match=message):
            journal.split(label, pieces)
    assert_same(state_of(journal), before)


def test_connected_regions_become_objects_and_the_largest_keeps_the_label(journal):
    journal.accept(plane(3), square(10, 10), 1)  # Touches that of plane 2 at a corner.
    journal.accept(plane(5), square(2, 2, 4), 1)
    both = np.zeros((8, 20), bool)
    both[:3, :3] = both[:2, 10:12] = True
    journal.accept(plane(4), Mask(Box(30, 0, 38, 20), both), 1)
    before = np.array(journal.target.array)
    entry = journal.split_regions(1)
    assert {found.label: found.area for found in journal.objects} == {1: 128, 2: 64, 3: 9, 4: 4, 5: 16}
    assert entry.labels == [1, 5, 3, 4]
    np.testing.assert_array_equal(journal.target.array > 0, before > 0)
    check_areas(journal)
    with pytest.raises(LabelsError, match="one piece"):
        journal.split_regions(1)


def test_parts_on_planes_that_cut_across_lose_what_is_split_off_or_removed(journal):
    across = Plane((0, 2), (0, 6, 0))
    journal.accept(across, Mask(Box(0, 2, 6, 10), np.ones((6, 8), bool)), 1)
    assert journal.object(1).part(across).area == 48
    journal.split(1, [{plane(2): None}])
    assert journal.object(1).part(across).area == 40 == np.count_nonzero(journal.target.array == 1)
    journal.undo()
    journal.remove_parts(1, [plane(2)])
    assert journal.object(1).part(across).area == 40 == np.count_nonzero(journal.target.array == 1)


# What is on the disk


def test_entries_of_parts_survive_the_disk(journal):
    journal.accept_parts(plane(3), {2: new(3, 20), 1: new(3, 3)}, made=PROPAGATED)
    journal.remove_parts(1, [plane(3)])
    for entry in journal.entries[-2:]:
        assert to_json(from_json(to_json(entry))) == to_json(entry)
    folder = journal.folder
    state = state_of(journal)
    journal.close()
    assert rows_of(open_journal(folder)) == state[1]


def nibbled(part, some):
    """A mask over a corner of a part."""
    return square(int(part.box.top), int(part.box.left), some.randrange(1, 9))


OPERATIONS = {
    "accept": lambda journal, some: journal.accept(
        plane(some.randrange(6)), square(some.randrange(30), some.randrange(40)), some.choice([None, 1, 2, 3])
    ),
    "accept_parts": lambda journal, some: journal.accept_parts(
        plane(some.randrange(6)),
        {
            label: new(some.randrange(30), some.randrange(40), some.randrange(1, 9))
            for label in some.sample(range(1, 6), 3)
        },
        some.choice(["keep", "overwrite", "empty"]),
        made=some.choice([None, PROPAGATED]),
    ),
    "remove_parts": lambda journal, some: journal.remove_parts(
        (found := some.choice(journal.objects)).label,
        [part.plane for part in some.sample(found.parts, some.randrange(1, len(found.parts) + 1))],
    ),
    "merge": lambda journal, some: journal.merge(
        [found.label for found in some.sample(list(journal.objects), min(some.randrange(1, 4), len(journal.objects)))]
    ),
    "split": lambda journal, some: journal.split(
        (found := some.choice(journal.objects)).label,
        [
            {part.plane: some.choice([None, nibbled(part, some)]) for part in some.sample(found.parts, 1)}
            for _ in range(some.randrange(1, 3))
        ],
    ),
    "split regions": lambda journal, some: journal.split_regions(some.choice(journal.objects).label),
    "delete": lambda journal, some: journal.delete(some.choice(journal.objects).label),
    "classify": lambda journal, some: journal.classify(
        some.choice(journal.objects).label, some.choice(["a", "b", None])
    ),
}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_done_every_step_back_and_forth_is_exact(tmp_path, seed):
    some, folder, labels = random.Random(seed), tmp_path / "some.journal", LabelArray(np.zeros(SHAPE, np.uint16))
    with Journal(folder, labels, durable=False) as journal:
        states = [state_of(journal)]
        while len(states) < 25:
            number = journal.next_undo.number if journal.next_undo else 0
            try:
                OPERATIONS[some.choice(list(OPERATIONS))](journal, some)
            except (LabelsError, IndexError):
                assert_same(state_of(journal), states[-1])
                continue
            if journal.next_undo and journal.next_undo.number > number:
                states.append(state_of(journal))
                check_areas(journal)
        for state in states[-2::-1]:
            journal.undo()
            assert_same(state_of(journal), state)
        for state in states[1:]:
            journal.redo()
            assert_same(state_of(journal), state)
        others = LabelArray(np.zeros(SHAPE, np.uint16))
        journal.restore(others)
        np.testing.assert_array_equal(others.array, labels.array)
    with Journal(folder, labels, durable=False) as journal:
        assert_same(state_of(journal), states[-1])


class Killed(LabelArray):
    """Labels that copy themselves and the journal before and after every write, as a kill there would leave them."""

    def __init__(self, array, folder, copies):
        super().__init__(array)
        self.folder, self.copies, self.found, self.is_copied = folder, copies, [], False

    def apply(self, edit):
        self.copy()
        super().apply(edit)
        self.copy()

    def copy(self):
        if not self.is_copied:
            return
        copy = self.copies / f"{len(self.found)}.journal"
        shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("lock"))
        self.found.append((copy, np.array(self.array)))


KILLED = {
    "accept_parts": lambda journal: journal.accept_parts(plane(2), {2: new(5, 5), 1: new(20, 3), 9: new(30, 30)}),
    "remove_parts": lambda journal: journal.remove_parts(3, [plane(1), plane(3)]),
    "merge": lambda journal: journal.merge([3, 1, 4]),
    "split": lambda journal: journal.split(3, [{plane(1): None}, {plane(2): square(2, 27, 3)}]),
}


@pytest.mark.parametrize("change", KILLED.values(), ids=KILLED)
def test_killed_at_any_moment_an_operation_is_completed_by_the_next_opening(tmp_path, change):
    folder = tmp_path / "some.journal"
    labels = Killed(np.zeros(SHAPE, np.uint16), folder, tmp_path)
    with Journal(folder, labels, durable=False) as journal:
        for z in range(4):
            journal.accept_parts(plane(z), {label: new(2, 9 * label, 9) for label in range(1, 5)})
        before = state_of(journal)
        labels.is_copied = True
        change(journal)
        labels.is_copied = False
        after = state_of(journal)
        journal.undo()
    assert len(labels.found) >= 2
    for copy, array in labels.found:
        with Journal(copy, LabelArray(array), durable=False) as journal:
            assert_same(state_of(journal), after)
            journal.undo()
            assert_same(state_of(journal), before)
