"""Segmenter.examples, find_similar and accept_found: from an example to labels, and what is encoded on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.everything.scenes import discs, picture, segmenter_of
from tests.similarity.scenes import OtherFinder, SeeingFinder

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Predictor
from napari_sam.errors import LabelsError, ModelError, NapariSamError, PromptError
from napari_sam.everything.proposing.levels import levels_for
from napari_sam.samples.cells import cells
from napari_sam.similarity.query import Query
from napari_sam.testing import BlobFinder

SHAPE = (300, 320)
CENTERS = [(60, 60), (60, 200), (150, 130), (240, 60), (240, 260), (150, 250)]
LABELS = discs(SHAPE, CENTERS)
# The first three are dark, and the others bright.
PIXELS = np.select([LABELS == 0, LABELS <= 3], [20, 120], 230).astype(np.uint8)
DARK, BRIGHT = [1, 2, 3], [4, 5, 6]


@pytest.fixture
def segmenter(tmp_path: Path) -> Segmenter:
    """A segmenter whose labels have one dark and one bright disc, with classes."""
    options = {"labels": np.zeros(SHAPE, np.uint32), "journal": tmp_path / "labels.journal"}
    made = segmenter_of(PIXELS, SeeingFinder(), **options)
    for label, name in ((1, "dark"), (4, "bright")):
        made.accept(made.segment(points=[CENTERS[label - 1]]), class_name=name)
    return made


def disc(label: int) -> np.ndarray:
    return label == LABELS


def labels_of(found: Any, numbers: Any) -> list[int]:
    """Return which discs proposals lie on."""
    return sorted(int(LABELS[tuple(found.proposals.points[int(i)].astype(int))]) for i in numbers)


def encoded(segmenter: Segmenter) -> int:
    return len(segmenter.encoder.predictor.encoded)


def test_objects_like_an_accepted_one_are_found_and_unlike_ones_are_less_likely(segmenter: Segmenter) -> None:
    similar = segmenter.find_similar([1])
    ranked = np.argsort(-similar.scores)
    assert set(labels_of(similar, ranked[:3])) == set(DARK)


def test_classes_of_the_journal_are_those_of_the_examples_and_are_written(segmenter: Segmenter) -> None:
    query = segmenter.examples([1, 2])
    assert query.classes == ("dark", "bright")
    similar = segmenter.find_similar(query)
    chosen = similar.select()
    assert labels_of(similar, chosen) == DARK + BRIGHT
    before = np.asarray(segmenter.labels).copy()
    written = segmenter.accept_found(similar, overlap="keep")
    names = {label: segmenter.journal.object(label).label_class.name for label in written if label is not None}
    assert len(names) >= 4
    for label, name in names.items():
        value = np.bincount(LABELS[np.asarray(segmenter.labels) == label]).argmax()
        assert name == ("dark" if value in DARK else "bright")
    segmenter.undo()
    np.testing.assert_array_equal(np.asarray(segmenter.labels), before)
    segmenter.redo()
    assert len(segmenter.journal.objects) == 2 + len(names)


def test_a_class_that_is_named_is_written_for_all(segmenter: Segmenter) -> None:
    similar = segmenter.find_similar([1, 2])
    written = segmenter.accept_found(similar, class_name="mine")
    assert {segmenter.journal.object(label).label_class.name for label in written if label} == {"mine"}


def test_without_a_journal_found_objects_are_written_without_classes() -> None:
    made = segmenter_of(PIXELS, SeeingFinder(), labels=np.zeros(SHAPE, np.uint32), journal=False)
    similar = made.find_similar(made.examples(disc(1), class_name="dark"))
    assert len([label for label in made.accept_found(similar) if label]) == len(similar.select())
    made.undo()
    assert not np.asarray(made.labels).any()


def test_nothing_is_encoded_again_for_a_plane_that_was_searched(segmenter: Segmenter) -> None:
    found = segmenter.everything()
    before = encoded(segmenter)
    similar = segmenter.find_similar(segmenter.examples([1], found=found), found=found)
    similar.answer(int(similar.doubtful()[0]), True)
    segmenter.find_similar(similar.learned(), found=found)
    assert encoded(segmenter) == before
    assert len(similar) == len(found)
    assert labels_of(segmenter.find_similar([1], found=found), similar.select())
    assert encoded(segmenter) == before, "labels are described by what was found, too"


def test_examples_on_one_tile_are_described_by_encoding_it_once(segmenter: Segmenter) -> None:
    masks = [disc(1), disc(1) & (np.indices(SHAPE)[1] > 50)]
    before = encoded(segmenter)
    segmenter.examples(masks[0])
    once = encoded(segmenter) - before
    segmenter.examples(masks)
    assert encoded(segmenter) - before == 2 * once
    assert once == len(set(levels_for(segmenter.examples(masks[0]).sizes, SHAPE))), "one tile of each level"


def test_an_example_is_described_as_the_proposal_of_the_same_object(segmenter: Segmenter) -> None:
    """On one level at least: it is described on each one on which it can be found."""
    found = segmenter.everything()
    near, alone = (segmenter.examples(disc(1), found=each).descriptors.astype(float) for each in (found, None))
    layout = segmenter.examples(disc(1)).layout
    for name in ("inside 4", "inside color", "around color"):
        part = layout.slices[name]
        assert np.abs(near[:, None, part] - alone[None, :, part]).max(2).min() < 0.03


def test_a_query_of_a_file_finds_in_another_image(segmenter: Segmenter, tmp_path: Path) -> None:
    path = tmp_path / "dark.sam"
    segmenter.examples([1]).save(path)
    turned = segmenter_of(PIXELS.T.copy(), SeeingFinder())
    similar = turned.find_similar(path)
    ranked = np.argsort(-similar.scores)[:3]
    on = {int(LABELS.T[tuple(similar.proposals.points[i].astype(int))]) for i in ranked}
    assert on == set(DARK)
    with pytest.raises(ModelError, match="choose the model fake-blobs"):
        segmenter_of(PIXELS, OtherFinder()).find_similar(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(PromptError, match="damaged"):
        turned.find_similar(path)


def test_steps_end_with_what_is_found_at_once(segmenter: Segmenter) -> None:
    query = segmenter.examples([1])
    *_, last = segmenter.find_similar_steps(query)
    assert last.done == last.total
    np.testing.assert_array_equal(last.found.scores, segmenter.find_similar(query).scores)


@pytest.mark.parametrize(
    ("objects", "error", "words"),
    [
        ([], PromptError, "There is no example"),
        (np.zeros(SHAPE, bool), PromptError, "empty"),
        (np.ones((3, 3), bool), PromptError, "shape"),
        (99, LabelsError, "99"),
        ("nuclei", NapariSamError, "label"),
        ([None], NapariSamError, "label"),
        (Mask(Box(900, 900, 910, 910), np.ones((10, 10), bool)), PromptError, "outside"),
    ],
    ids=["none", "empty", "other shape", "no label", "text", "None", "outside"],
)
def test_what_is_no_example_is_refused_in_one_sentence(
    segmenter: Segmenter, objects: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        segmenter.examples(objects)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["pixel", "corner", "line", "plane", "background"])
def test_an_odd_example_finds_something_or_nothing_but_does_not_fail(segmenter: Segmenter, kind: str) -> None:
    mask = np.zeros(SHAPE, bool)
    part = {
        "pixel": np.s_[60:61, 60:61],
        "corner": np.s_[:5, :5],
        "line": np.s_[150, :],
        "plane": np.s_[:],
        "background": np.s_[90:120, 10:300],
    }[kind]
    mask[part] = True
    query = segmenter.examples(mask)
    assert np.isfinite(query.descriptors).all()
    similar = segmenter.find_similar(query)
    assert np.isfinite(similar.scores).all()
    if kind != "background":
        assert not set(labels_of(similar, similar.select())) & {0}


def test_a_model_whose_features_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ModelError, match="use another model"):
        segmenter_of(picture(LABELS), BlobFinder()).examples(disc(1))


# The embedded model


def mixed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return bright discs and dark squares on noise, their labels, and which labels are discs."""
    rng = np.random.default_rng(0)
    labels = np.zeros((384, 384), np.int32)
    pixels = np.full(labels.shape, 110.0)
    rows, cols = np.mgrid[:384, :384]
    is_disc = [False]
    for at in range(36):
        row, col = (36 + 62 * place + int(rng.integers(-5, 6)) for place in divmod(at, 6))
        is_disc.append(bool(rng.random() < 0.5))
        near = (np.abs(rows - row) <= 14) & (np.abs(cols - col) <= 14)
        shape = (rows - row) ** 2 + (cols - col) ** 2 <= 15**2 if is_disc[-1] else near
        labels[shape] = at + 1
        pixels[shape] = 190 if is_disc[-1] else 40
    return np.clip(pixels + rng.normal(0, 6, labels.shape), 0, 255).astype(np.uint8), labels, np.array(is_disc)


def test_the_embedded_model_tells_two_kinds_in_one_image_apart(compact: Predictor) -> None:
    """One example of each kind: the confusion matrix of the 34 other objects."""
    pixels, labels, is_disc = mixed()
    segmenter = Segmenter(pixels, model=compact, journal=False)
    numbers = np.flatnonzero(is_disc)[0], np.flatnonzero(~is_disc)[1]
    disc_query, square_query = (
        segmenter.examples(labels == at, class_name=name) for at, name in zip(numbers, ("disc", "square"), strict=True)
    )
    similar = segmenter.find_similar(disc_query.joined(square_query))
    confusion = np.zeros((2, 2), int)
    for i in similar.select():
        mask = similar.mask(int(i))
        label = int(np.bincount(labels[mask.box.slices][mask.pixels]).argmax())
        if label and label not in numbers:
            confusion[int(not is_disc[label]), int(similar.class_of(int(i)) == "square")] += 1
    assert confusion.sum() >= 0.85 * 34
    assert np.trace(confusion) >= 0.95 * confusion.sum(), confusion.tolist()


def test_the_embedded_model_finds_nuclei_by_one_of_them_also_in_another_modality(compact: Predictor) -> None:
    """An example of the nuclei of computed cells; then the same query for an image that is upside down in gray."""
    sample = cells()
    part = np.s_[:320, :320]
    truth = sample.truth[part]
    segmenter = Segmenter(sample.image[0][part], model=compact, journal=False)
    areas = np.bincount(truth.ravel())
    areas[0] = 0
    query = segmenter.examples(truth == int(np.argsort(areas)[-3]))
    similar = segmenter.find_similar(query)
    right = [
        areas[1:].size and (truth[(m := similar.mask(int(i))).box.slices][m.pixels] > 0).mean() > 0.5
        for i in similar.select()
    ]
    assert len(right) >= 0.6 * np.count_nonzero(areas)
    assert np.mean(right) >= 0.9
    inverted = Segmenter(255 - sample.image[0][part] / sample.image[0].max() * 255, model=compact, journal=False)
    other = inverted.find_similar(query)
    assert np.isfinite(other.scores).all()
    assert isinstance(other.learned(), Query)
