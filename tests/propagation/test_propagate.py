"""Segmenter.propagate: objects of real labels followed by the embedded model, written, undone and followed again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.draw import disk

from napari_sam import Segmenter
from napari_sam.core.masks import mask_of
from napari_sam.errors import LabelsError, ModelError, OutputError, PromptError
from napari_sam.models import load_predictor
from napari_sam.models.fusion import load_fuser
from napari_sam.propagation.prompt_follower import PromptFollower
from napari_sam.propagation.propagation import Propagation

DEPTH, SHAPE = 11, (72, 84)
MIDDLE = 5


def ball(volume, truth, center, radius, planes, label, drift=0.0):
    """Draw a bright ball that drifts along the rows, in a range of planes."""
    middle = (planes[0] + planes[-1]) / 2
    for z in planes:
        size = radius * np.sqrt(max(1 - ((z - middle) / (len(planes) / 2 + 0.5)) ** 2, 0.2))
        at = disk((center[0] + drift * (z - middle), center[1]), size, shape=SHAPE)
        volume[z][at] += 80
        truth[z][at] = label


@pytest.fixture(scope="module")
def predictor():
    return load_predictor("compact", "cpu")


@pytest.fixture(scope="module")
def scene():
    rng = np.random.default_rng(0)
    volume = rng.normal(60, 6, (DEPTH, *SHAPE))
    truth = np.zeros((DEPTH, *SHAPE), np.uint8)
    ball(volume, truth, (24, 24), 11, range(2, 9), 1, drift=0.6)
    ball(volume, truth, (46, 60), 10, range(3, 11), 2)
    return volume.clip(0, 255).astype(np.uint8), truth


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def accepted(segmenter, truth, label, plane):
    """Accept the mask of an object in a plane, as a user would by clicks."""
    mask = truth[plane] == label
    return segmenter.accept(segmenter.segment(mask=mask, plane=plane), plane=plane)


@pytest.mark.parametrize("journal", [True, False])
def test_an_object_is_followed_to_its_ends_and_one_undo_takes_all_back(scene, predictor, journal, tmp_path):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j" if journal else False) as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        before = np.array(segmenter.labels)
        written = segmenter.propagate(label)
        found = np.asarray(segmenter.labels) == label
        assert iou(found, truth == 1) > 0.8
        assert written[label] == [at for at in range(DEPTH) if at != MIDDLE and found[at].any()]
        np.testing.assert_array_equal(segmenter.labels[MIDDLE], before[MIDDLE])
        segmenter.undo()
        np.testing.assert_array_equal(segmenter.labels, before)
        if journal:
            segmenter.redo()
            np.testing.assert_array_equal(np.asarray(segmenter.labels) == label, found)


def test_a_second_propagation_keeps_accepted_planes_and_replaces_the_others(scene, predictor, tmp_path):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        segmenter.propagate(label)
        # The user says that the object is larger in one plane.
        corrected = np.zeros(SHAPE, bool)
        corrected[disk((24, 24), 15, shape=SHAPE)] = True
        segmenter.accept(segmenter.segment(mask=corrected, plane=7).best, label=label, plane=7)
        kept = np.array(segmenter.labels)[[MIDDLE, 7]]
        parts = {part.plane.index[0]: part for part in segmenter.objects[0].parts}
        assert {at for at, part in parts.items() if not part.made.is_propagated} == {MIDDLE, 7}
        segmenter.propagate(label)
        np.testing.assert_array_equal(np.asarray(segmenter.labels)[[MIDDLE, 7]], kept)
        first = np.array(segmenter.labels)
        segmenter.propagate(label)
        np.testing.assert_array_equal(segmenter.labels, first)


@pytest.fixture
def asked(monkeypatch):
    """The direction and the position of each plane that a model is asked about."""
    asked = []
    follow = PromptFollower.follow

    def counted(self, at, plane, labels):
        asked.append((self.direction, at))
        return follow(self, at, plane, labels)

    monkeypatch.setattr(PromptFollower, "follow", counted)
    return asked


def corrected(segmenter, label, plane):
    """Accept a slightly other mask of an object in a plane."""
    pixels = np.zeros(SHAPE, bool)
    pixels[disk((25, 24), 9, shape=SHAPE)] = True
    segmenter.accept(segmenter.segment(mask=pixels, plane=plane).best, label=label, plane=plane)


def test_after_a_correction_only_the_planes_up_to_the_next_accepted_ones_are_followed_again(
    scene, predictor, tmp_path, asked
):
    volume, truth = scene
    results = []
    for name in ("at once", "step by step"):
        with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / name) as segmenter:
            label = accepted(segmenter, truth, 1, 2)
            accepted_too = truth[6] == 1
            segmenter.accept(segmenter.segment(mask=accepted_too, plane=6).best, label=label, plane=6)
            if name == "step by step":
                found = segmenter.propagate(label)
                asked.clear()
                assert segmenter.propagate(label) == found
                assert asked == []
            corrected(segmenter, label, 4)
            before = len(segmenter.journal.entries)
            segmenter.propagate(label)
            results.append(np.array(segmenter.labels))
    # Forward from the correction to plane 6, and back to plane 2; other planes rest on what was there before.
    assert asked == [(1, 5), (-1, 3)]
    assert len(segmenter.journal.entries) - before <= 2
    np.testing.assert_array_equal(*results)


def test_a_run_that_was_stopped_goes_on_from_its_file_in_the_next_session(scene, predictor, tmp_path, asked):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "whole") as segmenter:
        whole = segmenter.propagate(accepted(segmenter, truth, 1, MIDDLE))
        expected = np.array(segmenter.labels)
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        segmenter.keep_answers(tmp_path / "answers")
        label = accepted(segmenter, truth, 1, MIDDLE)
        steps = segmenter.propagate_steps(label)
        done = [next(steps).at for _ in range(2)]
        steps.close()
        labels = np.array(segmenter.labels)
    asked.clear()
    with Segmenter(volume, model=predictor, rgb=False, labels=labels, journal=tmp_path / "j") as segmenter:
        segmenter.keep_answers(tmp_path / "answers")
        assert segmenter.propagate(label) == whole
        assert not {(1, at) for at in done} & set(asked)
        assert iou(np.asarray(segmenter.labels) > 0, expected > 0) > 0.97
        asked.clear()
        segmenter.propagate(label, patience=1)
        assert asked == []
    other = volume.copy()
    other[MIDDLE + 1] = 60
    with Segmenter(other, model=predictor, rgb=False, journal=tmp_path / "other") as segmenter:
        # The same masks, but not the same image.
        segmenter.keep_answers(tmp_path / "answers")
        label = accepted(segmenter, truth, 1, MIDDLE)
        segmenter.propagate(label, planes=(MIDDLE, MIDDLE + 2))
        assert asked[0] == (1, MIDDLE + 1)


def test_a_file_of_another_program_is_not_taken_for_answers_and_a_damaged_one_is_made_anew(
    scene, predictor, tmp_path, asked
):
    volume, truth = scene
    (tmp_path / "thesis.followed").write_bytes(b"of another program" * 10)
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        with pytest.raises(OutputError, match="of another program"):
            segmenter.keep_answers(tmp_path / "thesis.followed")
        segmenter.keep_answers(tmp_path / "a")
        found = segmenter.propagate(accepted(segmenter, truth, 1, MIDDLE), planes=(MIDDLE, 7))
        labels = np.array(segmenter.labels)
    pixels = bytearray((tmp_path / "a").read_bytes())
    pixels[120:4096] = b"\xff" * (4096 - 120)
    (tmp_path / "a").write_bytes(pixels)
    asked.clear()
    with Segmenter(volume, model=predictor, rgb=False, labels=labels, journal=tmp_path / "j") as segmenter:
        segmenter.keep_answers(tmp_path / "a")
        assert segmenter.propagate(planes=(MIDDLE, 7)) == found
    assert {at for _, at in asked} == {6, 7}


def test_the_fusion_network_runs_where_the_model_does(scene, predictor, tmp_path, monkeypatch):
    devices = []
    monkeypatch.setattr(
        "napari_sam.models.fusion.load_fuser", lambda device: devices.append(device) or load_fuser("cpu")
    )
    monkeypatch.setattr(predictor, "_device", torch.device("mps"))
    with Segmenter(scene[0], model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        segmenter.follower(segmenter.stack_of(segmenter.plane(0)), 1)
    assert devices == ["mps"]


def test_what_is_accepted_between_two_steps_stays_and_an_object_that_is_deleted_does_not_come_back(
    scene, predictor, tmp_path
):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 1, 8)
        steps = segmenter.propagate_steps(label)
        next(steps)
        small = np.zeros(SHAPE, bool)
        small[disk((24, 24), 3, shape=SHAPE)] = True
        segmenter.accept(segmenter.segment(mask=small, plane=6).best, label=label, plane=6)
        kept = np.array(segmenter.labels)[6]
        list(steps)
        np.testing.assert_array_equal(np.asarray(segmenter.labels)[6], kept)
        steps = segmenter.propagate_steps(label)
        next(steps)
        segmenter.delete(label)
        list(steps)
        assert not np.asarray(segmenter.labels).any()


def test_what_is_not_found_again_is_removed(scene, predictor, tmp_path):
    volume, truth = scene[0].copy(), scene[1]
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        segmenter.propagate(label)
        volume[7:] = 60
        segmenter.refresh()
        segmenter.propagate(label)
        found = (np.asarray(segmenter.labels) == label).any((1, 2))
        assert found[MIDDLE : MIDDLE + 2].all()
        assert not found[7:].any()


def test_several_objects_are_followed_together_and_keep_their_pixels_apart(scene, predictor, tmp_path):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        labels = [accepted(segmenter, truth, 1, MIDDLE), accepted(segmenter, truth, 2, 7)]
        assert set(segmenter.propagate()) == set(labels)
        for label in labels:
            assert iou(np.asarray(segmenter.labels) == label, truth == label) > 0.75
        segmenter.undo()
        assert sorted(np.unique(np.nonzero(segmenter.labels)[0])) == [MIDDLE, 7]


def test_two_objects_that_touch_do_not_take_each_others_pixels(predictor, tmp_path):
    rng = np.random.default_rng(1)
    volume, truth = rng.normal(60, 6, (9, *SHAPE)), np.zeros((9, *SHAPE), np.uint8)
    for z in range(9):
        for label, (col, value) in enumerate(((30, 70), (52, 130)), 1):
            at = disk((36, col), 11, shape=SHAPE)
            volume[z][at] = value + 60 + rng.normal(0, 6, len(at[0]))
            truth[z][at] = label
    volume = volume.clip(0, 255).astype(np.uint8)
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        labels = [accepted(segmenter, truth, label, 4) for label in (1, 2)]
        segmenter.propagate(labels)
        for label in labels:
            assert iou(np.asarray(segmenter.labels) == label, truth == label) > 0.7


@pytest.mark.parametrize("value", [0, np.nan])
def test_an_empty_plane_is_a_gap(scene, predictor, tmp_path, value):
    volume, truth = scene
    broken = volume.astype(np.float32)
    broken[6] = value
    with Segmenter(broken, model=predictor, journal=tmp_path / "j", contrast_limits=(40, 160)) as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        written = segmenter.propagate(label)[label]
        assert 6 not in written
        assert {4, 7} <= set(written)


def test_an_object_in_the_last_plane_is_followed_back(scene, predictor, tmp_path):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 2, DEPTH - 1)
        assert iou(np.asarray(segmenter.labels[DEPTH - 1] == label), truth[-1] == 2) > 0.7
        written = segmenter.propagate(label, planes=(7, -1))[label]
        assert written == list(range(7, DEPTH - 1))


def test_a_run_that_was_stopped_keeps_what_is_done_and_the_next_one_makes_the_same(scene, predictor, tmp_path):
    volume, truth = scene
    results = []
    for name, is_stopped in (("whole", False), ("stopped", True)):
        with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / name) as segmenter:
            label = accepted(segmenter, truth, 1, MIDDLE)
            if is_stopped:
                steps = segmenter.propagate_steps(label)
                done = [next(steps).at for _ in range(2)]
                steps.close()
                assert done == [6, 7]
                assert sorted(np.unique(np.nonzero(segmenter.labels)[0])) == [5, 6, 7]
            segmenter.propagate(label)
            results.append(np.array(segmenter.labels))
    np.testing.assert_array_equal(*results)


def test_each_tile_of_a_plane_is_encoded_once(scene, predictor, tmp_path, monkeypatch):
    volume, truth = scene
    encoded = []
    monkeypatch.setattr(
        predictor, "encode", lambda tiles, encode=predictor.encode: encoded.append(tiles.tobytes()) or encode(tiles)
    )
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        encoded.clear()
        segmenter.propagate(label)
        segmenter.propagate(label)
    assert len(encoded) == len(set(encoded))


def test_no_tile_is_encoded_twice_for_many_objects_of_a_plane_which_keep_their_numbers(
    predictor, tmp_path, monkeypatch
):
    rng = np.random.default_rng(2)
    volume, truth = rng.normal(60, 6, (3, 240, 240)), np.zeros((3, 240, 240), np.uint8)
    places = [(row, col) for row in range(20, 230, 33) for col in range(20, 230, 33)][:14]
    for label, (row, col) in enumerate(places, 1):
        at = disk((row, col), 10, shape=(240, 240))
        volume[:, *at] += 60 + label
        truth[:, *at] = label
    encoded = []
    monkeypatch.setattr(
        predictor, "encode", lambda tiles, encode=predictor.encode: encoded.extend(map(bytes, tiles)) or encode(tiles)
    )
    pixels = volume.clip(0, 255).astype(np.uint8)
    with Segmenter(pixels, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        for label in range(1, 15):
            segmenter.accept(mask_of(truth[1] == label), label=label, plane=1)
        segmenter.propagate()
        labels = np.asarray(segmenter.labels)
    assert len(encoded) == len(set(encoded)) <= 3 * 14
    for label in range(1, 15):
        assert iou(labels == label, truth == label) > 0.7


def test_a_volume_along_its_columns_and_time(scene, predictor, tmp_path):
    volume, truth = (np.moveaxis(array, 0, 2) for array in scene)
    with Segmenter(volume, model=predictor, rgb=False, axes=(0, 1), journal=tmp_path / "j") as segmenter:
        mask = truth[..., MIDDLE] == 1
        label = segmenter.accept(segmenter.segment(mask=mask, plane=MIDDLE), plane=MIDDLE)
        assert segmenter.propagate(label, axis=2)[label]
        assert iou(np.asarray(segmenter.labels) == label, truth == 1) > 0.75


def test_odd_requests_are_refused_with_a_sentence(scene, predictor, tmp_path):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        with pytest.raises(PromptError, match="accept a mask first"):
            segmenter.propagate()
        label = accepted(segmenter, truth, 1, MIDDLE)
        for arguments, words in (
            ({"axis": 1}, "lies in the planes"),
            ({"axis": "w"}, "no axis called"),
            ({"axis": 7}, "use one of"),
            ({"planes": (5, 99)}, "0 to 10"),
            ({"patience": 0}, "from 1 on"),
            ({"engine": "magic"}, "engine"),
        ):
            with pytest.raises(PromptError, match=words):
                segmenter.propagate(label, **arguments)
        with pytest.raises(LabelsError):
            segmenter.propagate(99)
        with pytest.raises(ModelError):
            segmenter.propagate(label, engine="memory")
        assert sorted(np.unique(np.nonzero(segmenter.labels)[0])) == [MIDDLE]
    with Segmenter(volume[0], model=predictor, rgb=False, journal=tmp_path / "k") as segmenter:
        label = segmenter.accept(segmenter.segment(box=(10, 10, 40, 40)))
        with pytest.raises(PromptError, match="single plane"):
            segmenter.propagate(label)


def test_an_axis_of_one_plane_has_nowhere_to_go(scene, predictor, tmp_path):
    volume, truth = scene
    with Segmenter(volume[5:6], model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth[5:6], 1, 0)
        assert segmenter.propagate(label) == {}


def test_an_image_that_breaks_in_the_middle_leaves_what_was_written(scene, predictor, tmp_path, monkeypatch):
    volume, truth = scene
    with Segmenter(volume, model=predictor, rgb=False, journal=tmp_path / "j") as segmenter:
        label = accepted(segmenter, truth, 1, MIDDLE)
        whole = Propagation._one_way

        def broken(self, direction, positions, total):
            for step in whole(self, direction, positions, total):
                if step.at == 7:
                    raise OSError("no such block")
                yield step

        monkeypatch.setattr(Propagation, "_one_way", broken)
        with pytest.raises(OSError, match="no such block"):
            segmenter.propagate(label)
        assert sorted(np.unique(np.nonzero(segmenter.labels)[0])) == [5, 6]
        segmenter.undo()
        assert sorted(np.unique(np.nonzero(segmenter.labels)[0])) == [MIDDLE]
