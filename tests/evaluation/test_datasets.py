from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tests.evaluation.labelled import FLAT, disk, squares

from napari_sam.core.geometry import Plane
from napari_sam.errors import ImageError
from napari_sam.evaluation.datasets import (
    MIN_AREA,
    LabelledImage,
    TargetObject,
    drawn_images,
    read_manifest,
    read_split,
    split_images,
    targets_of,
)


def targets(image: LabelledImage) -> list[TargetObject]:
    return [make() for make in targets_of(image, tifffile.imread(image.mask).shape)]


def test_every_label_of_an_instance_image_is_an_object_even_in_two_parts(
    labelled: Callable[..., LabelledImage],
) -> None:
    labels = np.zeros((100, 100), np.uint16)
    labels[disk(20, 20, 6)] = 3
    labels[disk(20, 70, 6)] = 3
    labels[disk(70, 50, 8)] = 700
    found = targets(labelled(labels))
    assert [np.count_nonzero(target.truth) for target in found] == [226, 197]
    np.testing.assert_array_equal(found[0].truth, labels == 3)
    assert all(target.plane == FLAT and target.ignored is None for target in found)


def test_every_connected_part_of_a_class_is_an_object(labelled: Callable[..., LabelledImage]) -> None:
    labels = np.zeros((100, 100), np.uint8)
    labels[disk(20, 20, 6)] = 255
    labels[disk(20, 70, 6)] = 255
    labels[60:70, 60:70] = 255
    labels[70:80, 70:80] = 255  # Touches the last one by a corner: one part.
    found = targets(labelled(labels, "semantic"))
    assert sorted(np.count_nonzero(target.truth) for target in found) == [113, 113, 200]


def test_two_classes_that_touch_are_two_objects(labelled: Callable[..., LabelledImage]) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[10:20, 10:20], labels[10:20, 20:40] = 1, 2
    assert sorted(np.count_nonzero(target.truth) for target in targets(labelled(labels, "semantic"))) == [100, 200]


@pytest.mark.parametrize("kind", ["instance", "semantic", "volume"])
def test_objects_under_40_pixels_are_left_out(labelled: Callable[..., LabelledImage], kind: str) -> None:
    assert MIN_AREA == 40
    labels = np.zeros((60, 60), np.uint8)
    labels[:3, :13] = 1  # 39 pixels
    labels[20:24, :10] = 2  # 40 pixels
    found = targets(labelled(np.stack([labels, labels]) if kind == "volume" else labels, kind))
    assert [np.count_nonzero(target.truth) for target in found] == [40]


def test_a_volume_object_is_looked_at_where_it_is_largest(labelled: Callable[..., LabelledImage]) -> None:
    volume = np.zeros((5, 60, 60), np.uint16)
    for z, side in enumerate((0, 8, 12, 10, 7)):
        volume[z, :side, :side] = 1
    for z, side in enumerate((9, 3, 2, 0, 0)):
        volume[z, 30 : 30 + side, 30 : 30 + side] = 400
    volume[:, 50:56, 50:56] = 9  # 36 pixels in every plane, 180 in all.
    found = targets(labelled(volume, "volume"))
    assert [target.plane for target in found] == [Plane.of(volume.shape, 2), Plane.of(volume.shape, 0)]
    np.testing.assert_array_equal(found[0].truth, volume[2] == 1)
    np.testing.assert_array_equal(found[1].truth, volume[0] == 400)


@pytest.mark.parametrize("kind", ["instance", "semantic", "volume"])
def test_the_ignored_label_is_no_object_and_known_to_every_target(
    labelled: Callable[..., LabelledImage], kind: str
) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[10:20, 10:20] = 1
    labels[20:50, 10:50] = 255
    image = labelled(np.stack([labels * 0, labels]) if kind == "volume" else labels, kind, ignore_label=255)
    (target,) = targets(image)
    np.testing.assert_array_equal(target.truth, labels == 1)
    np.testing.assert_array_equal(target.ignored, labels == 255)


def test_a_target_knows_the_labels_of_all_objects_of_its_plane(labelled: Callable[..., LabelledImage]) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[10:20, 10:20], labels[30:40, 30:40], labels[:3, :3], labels[50:, 50:] = 4, 4, 7, 255
    instances = labels * (labels < 255)
    for target in targets(labelled(labels, ignore_label=255)):
        np.testing.assert_array_equal(target.objects, instances)
    for target in targets(labelled(np.stack([labels * 0, labels]), "volume", ignore_label=255)):
        np.testing.assert_array_equal(target.objects, instances)
    first, second = targets(labelled(labels, "semantic", ignore_label=255))
    assert first.objects is not None
    assert len(np.unique(first.objects)) == 4, "background, two parts of one class, and one too small to be drawn"
    np.testing.assert_array_equal(first.objects > 0, instances > 0)
    assert first.box.as_tuple() == (10, 10, 20, 20)
    assert second.box.as_tuple() == (30, 30, 40, 40)


def test_an_ignored_zero_leaves_the_objects(labelled: Callable[..., LabelledImage]) -> None:
    """Sparse labels: what is not labelled counts neither as object nor as background."""
    labels = squares(2)
    found = targets(labelled(labels, ignore_label=0))
    assert len(found) == 2
    np.testing.assert_array_equal(found[0].ignored, labels == 0)


def test_labels_of_another_shape_are_refused(labelled: Callable[..., LabelledImage]) -> None:
    with pytest.raises(ImageError, match=r"shape \(70, 70\) and its image \(9, 9\)"):
        targets_of(labelled(squares(2)), (9, 9))


def test_a_mask_in_colours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(path)
    with pytest.raises(ImageError, match="shape"):
        targets_of(LabelledImage(path, path, "mine", "instance"), (30, 30))


def test_a_manifest_is_read_relative_to_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    entries = [
        {"image": "a/i.png", "mask": "a/m.png", "subset": "cells", "kind": "semantic", "licence": "CC0", "shape": [3]},
        {"image": "b.tif", "mask": "c.tif", "subset": "brain", "kind": "volume", "ignore_label": 5},
    ]
    path.write_text(json.dumps(entries))
    assert read_manifest(path) == [
        LabelledImage(tmp_path / "a/i.png", tmp_path / "a/m.png", "cells", "semantic", None),
        LabelledImage(tmp_path / "b.tif", tmp_path / "c.tif", "brain", "volume", 5),
    ]


@pytest.mark.parametrize(("annotation", "is_partial"), [("partial", True), ("human", False), (None, False)])
def test_only_the_annotation_partial_says_that_objects_have_no_label(
    tmp_path: Path, annotation: str | None, is_partial: bool
) -> None:
    entry = {"image": "i.png", "mask": "m.png", "subset": "x", "kind": "instance"}
    (tmp_path / "manifest.json").write_text(json.dumps([entry | ({"annotation": annotation} if annotation else {})]))
    (image,) = read_manifest(tmp_path / "manifest.json")
    assert image.is_partial == is_partial


@pytest.mark.parametrize("annotation", [True, 1, None, ["partial"]])
def test_an_annotation_that_is_no_text_is_refused(tmp_path: Path, annotation: object) -> None:
    entry = {"image": "i.png", "mask": "m.png", "subset": "x", "kind": "instance", "annotation": annotation}
    (tmp_path / "manifest.json").write_text(json.dumps([entry]))
    with pytest.raises(ImageError, match="annotation"):
        read_manifest(tmp_path / "manifest.json")


def test_images_are_drawn_from_every_subset_and_none_twice() -> None:
    images = [LabelledImage(Path(f"{i}.png"), Path("m.png"), "ab"[i % 2], "instance") for i in range(12)]
    drawn = drawn_images(images, 4, seed=1)
    assert [image.subset for image in drawn] == ["a"] * 4 + ["b"] * 4
    assert len({image.image for image in drawn}) == 8
    assert drawn == drawn_images(images, 4, seed=1)
    assert drawn != drawn_images(images, 4, seed=2)
    assert {image.image for image in drawn_images(images, 0, seed=1)} == {image.image for image in images}
    assert len(drawn_images(images, 100, seed=1)) == 12


@pytest.mark.parametrize(
    "text", ["", "no json", "{}{}", '{"image": 1}', "[1]", '["a"]', "[{}]", "7", "null", '[{"image": 3, "mask": 4}]']
)
def test_a_manifest_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(ImageError, match="must be a JSON list of objects with image, mask, subset and kind"):
        read_manifest(path)


def test_an_unknown_kind_is_refused_instead_of_read_as_instances(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps([{"image": "i.png", "mask": "m.png", "subset": "x", "kind": "panoptic"}]))
    with pytest.raises(ImageError, match="kind"):
        read_manifest(path)


def test_a_split_divides_the_images_by_their_paths_in_the_manifest(tmp_path: Path) -> None:
    images = [LabelledImage(tmp_path / "a" / f"{i}.png", tmp_path / "m.png", "x", "instance") for i in range(3)]
    elsewhere = LabelledImage(Path("/elsewhere/1.png"), tmp_path / "m.png", "x", "instance")
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"kept_out": ["a/1.png"]}))
    rest, kept = split_images([*images, elsewhere], read_split(split), tmp_path)
    assert kept == [images[1]]
    assert rest == [images[0], images[2], elsewhere]


@pytest.mark.parametrize("text", ["", "[]", '{"out": []}', '{"kept_out": 3}'])
def test_a_split_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(ImageError, match="must hold a list named kept_out"):
        read_split(path)
