"""Whatever is passed to the scripting API is converted, or refused in one sentence: no other exception ever."""

from __future__ import annotations

import datetime as dt
import decimal
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_sam import Box, Cleaning, Journal, LabelPyramid, Mask, Plane, Segmenter, find, rasterize_polygon
from napari_sam.arguments import MAX_NAME_BYTES, shown
from napari_sam.errors import LabelsError, ModelError, NapariSamError, OutputError, PromptError
from napari_sam.models import load_predictor

IMAGE = np.zeros((64, 80), np.uint8)
IMAGE[20:44, 20:44] = 200
POINT = [(30, 30)]


class Contrary:
    """Looks like an array and fails at everything."""

    shape = IMAGE.shape
    dtype = np.dtype(np.int32)
    ndim = 2

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("no")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no")


def values() -> list[Any]:
    """Return one of everything; made anew each time, because an iterator can be read only once."""
    scalars = [None, True, False, np.True_, 0, -1, 1, 3, 1.5, -0.0, 1e300, 5e-324, float("nan"), float("inf"), 1j]
    scalars += [10**30, 10**400, 10**5000, np.int64(1), np.uint8(2), np.float32(1.5), np.float64("nan")]
    scalars += [decimal.Decimal(1), dt.date(2020, 1, 1), np.datetime64("2020-01-01")]
    texts = ["", "a", "a\0b", "a" * 300, b"a", Path("nowhere"), Path("a" * 300)]
    containers = [
        [],
        [1],
        [1, 2],
        POINT,
        [None],
        [[1], [1, 2]],
        {1, 2},
        {"a": 1},
        iter([1, 2]),
        range(2),
        ...,
        slice(1),
    ]
    containers += [object(), int, len]
    arrays = [np.array(1), np.array(1.5), np.zeros(0), np.zeros((0, 2)), np.ones((1, 2), bool), np.array([[30, 30]])]
    arrays += [np.array([object()]), np.array([[30, 30]], object), np.array([[1j, 2]]), np.array([["1", "2"]])]
    arrays += [np.array(["2020-01-01"], "M8[D]"), np.zeros(2, [("a", "i4")]), np.zeros((1, 1, 1, 1, 2)), np.ma.masked]
    arrays += [np.full((2, 2), 1e308), np.ma.masked_array([[30, 30]], [[True, False]]), Contrary()]
    tensors = [torch.tensor([[30, 30]]), torch.tensor(1), torch.tensor(True), torch.zeros((1, 2), device="meta")]
    tensors += [torch.tensor([[30.0, 30.0]], requires_grad=True), torch.tensor([[30, 30]], dtype=torch.bfloat16)]
    ours = [Plane((0, 1), (0, 0)), Plane((1, 2), (7, 0, 0)), Plane("ab", None), Box(1, 1, 9, 9), Box("a", None, 1, 2)]  # type: ignore[arg-type]
    masks = [Mask("x", [1]), Mask(Box(0, 0, 5, 5), np.ones((2, 2), bool)), Mask(Box(2, 2, 4, 4), np.ones((2, 2), bool))]  # type: ignore[arg-type]
    masks += [Mask(Box(-5, -5, 0, 0), np.ones((5, 5), bool))]
    frames: list[Any] = []
    if find_spec("pandas"):
        import pandas as pd

        frames = [pd.DataFrame([[30, 30]]), pd.Series([1, 2]), pd.NA, pd.NaT]
    return [*scalars, *texts, *containers, *arrays, *tensors, *ours, *masks, *frames]


Call = Callable[[Any], Any]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Call]]:
    from tests.conftest import FakePredictor

    folder = tmp_path_factory.mktemp("arguments")
    predictor: Any = FakePredictor()
    predictor.finds_text = True
    predictor.find = lambda embedding, text, threshold: type("Found", (), {"logits": (), "scores": ()})
    plain = Segmenter(IMAGE, model=predictor)
    volume = Segmenter(np.stack([IMAGE] * 3), model=predictor)
    stored = Segmenter(IMAGE, model=predictor, store=folder / "store")
    recorded = Segmenter(IMAGE, model=predictor, journal=folder / "work.journal")
    answer = plain.segment(points=POINT)
    recorded.accept(recorded.segment(points=POINT))

    def created(name: str, value: Any) -> None:
        shutil.rmtree(folder / "new.zarr", ignore_errors=True)
        LabelPyramid.create(folder / "new.zarr", (10, 10), **{name: value})

    def opened(name: str, value: Any) -> None:
        with Segmenter(IMAGE, **{"model": predictor, name: value}) as segmenter:
            segmenter.accept(segmenter.segment(points=POINT))

    made: dict[str, Call] = {
        "segment points": lambda value: plain.segment(points=value),
        "segment plane of a volume": lambda value: volume.segment(points=POINT, plane=value),
        "accept mask": lambda value: plain.accept(value),
        "recorded class": lambda value: recorded.accept(answer, overlap="overwrite", class_name=value),
        "recorded label": lambda value: recorded.accept(answer, overlap="overwrite", label=value),
        "reopen": recorded.reopen,
        "delete": recorded.delete,
        "classify label": lambda value: recorded.classify(value, "a"),
        "classify name": lambda value: recorded.classify(1, value),
        "candidate": answer.named,
        "find segmenter": lambda value: find(value, "a"),
        "polygon": lambda value: rasterize_polygon(value, IMAGE.shape),
        "polygon shape": lambda value: rasterize_polygon([(1, 1), (1, 9), (9, 9)], value),
        "plane shape": lambda value: Plane.of(value),
        "plane index": lambda value: Plane.of((3, 64, 80), value),
        "plane axes": lambda value: Plane.of((3, 64, 80), 0, value),
        "journal": lambda value: Journal(_local(value, folder)).close(),
        "journal target": lambda value: Journal(folder / "other.journal", value).close(),
        "open labels": LabelPyramid.open,
        "create labels": lambda value: LabelPyramid.create(_local(value, folder), (10, 10)),
        "create labels shape": lambda value: LabelPyramid.create(folder / "shape.zarr", value),
    }
    for name in ("labels", "box", "mask", "plane", "previous", "downsample"):
        made[f"segment {name}"] = lambda value, name=name: plain.segment(points=POINT, **{name: value})
    for name in ("label", "plane", "overlap", "cleaning", "class_name"):
        made[f"accept {name}"] = lambda value, name=name: plain.accept(answer, **{name: value})
    for name in ("planes", "levels", "box"):
        made[f"encode {name}"] = lambda value, name=name: next(stored.encode(**{name: value}), None)
    for name in ("labels", "axes", "model", "store", "journal"):
        made[f"Segmenter {name}"] = lambda value, name=name: opened(name, _local(value, folder))
    for name in ("keep_largest", "fill_holes", "smooth", "minimum_size"):
        made[f"Cleaning {name}"] = lambda value, name=name: Cleaning(**{name: value})(answer.best, IMAGE.shape)
    for name in ("text", "plane", "box", "downsample", "threshold"):
        made[f"find {name}"] = lambda value, name=name: find(plain, **{"text": "a", name: value})
    for name in ("axes", "spacing", "translation", "unit", "chunks", "dtype", "name", "source"):
        made[f"create labels {name}"] = lambda value, name=name: created(name, value)
    yield made
    recorded.close()


def _local(value: Any, folder: Path) -> Any:
    """Keep names of files inside the folder of the tests."""
    return folder / value if isinstance(value, (str, Path)) and str(value) not in ("", ".") else value


NAMES = """segment points|segment labels|segment box|segment mask|segment plane|segment plane of a volume
segment previous|segment downsample|accept mask|accept label|accept plane|accept overlap|accept cleaning
accept class_name|recorded class|recorded label|reopen|delete|classify label|classify name|candidate|encode planes
encode levels|encode box|Segmenter labels|Segmenter axes|Segmenter model|Segmenter store|Segmenter journal
Cleaning keep_largest|Cleaning fill_holes|Cleaning smooth|Cleaning minimum_size|find segmenter|find text|find plane
find box|find downsample|find threshold|polygon|polygon shape|plane shape|plane index|plane axes|journal
journal target|open labels|create labels|create labels shape|create labels axes|create labels spacing
create labels translation|create labels unit|create labels chunks|create labels dtype|create labels name
create labels source"""


@pytest.mark.parametrize("name", NAMES.replace("\n", "|").split("|"))
def test_no_argument_ends_in_another_exception(calls: dict[str, Call], name: str) -> None:
    messages = []
    for value in values():
        try:
            calls[name](value)
        except NapariSamError as error:
            messages.append(str(error))
        except Exception as error:
            raise AssertionError(f"{name} = {shown(value)} ends in {type(error).__name__}: {error}") from error
    assert messages, "some of these values make no sense for any argument"
    assert not [message for message in messages if "\n" in message or len(message) > 1000]


def test_the_sweep_covers_all_of_its_calls(calls: dict[str, Call]) -> None:
    assert sorted(calls) == sorted(NAMES.replace("\n", "|").split("|"))


@pytest.mark.parametrize("name", ["device", "precision"])
def test_none_of_these_is_a_device_or_precision(name: str) -> None:
    for value in values():
        with pytest.raises(ModelError):
            load_predictor("compact", **{"device": "cpu", name: value})


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("threads", [1.5, True, 0, -1, 10**9, 10**400, "2", np.float64(2), torch.tensor(2.0)])
def test_threads_are_a_whole_number_that_a_computer_can_have(threads: Any) -> None:
    with pytest.raises(ModelError, match=r"number of threads cannot be .*: give a whole number from 1"):
        load_predictor("compact", "cpu", threads)


@pytest.mark.parametrize("model", ["a" * 300, "a\0b", "", "nowhere/at all", Path("a" * 300)])
def test_a_model_that_cannot_be_a_file_is_no_model(model: Any) -> None:
    with pytest.raises(ModelError, match=r"There is no model|is a folder"):
        load_predictor(model, "cpu")


# What is taken


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        torch.tensor,
        tuple,
        lambda points: np.array(points, object),
        lambda points: torch.tensor(points, dtype=torch.float32, requires_grad=True),
        lambda points: torch.tensor(points, dtype=torch.bfloat16),
        lambda points: np.ma.masked_array(points),
        lambda points: [decimal.Decimal(value) for value in points],
        lambda points: [np.uint8(value) for value in points],
    ],
)
def test_numbers_of_any_library_are_the_same_prompts(fake_predictor: Any, convert: Callable[[Any], Any]) -> None:
    segmenter = Segmenter(IMAGE, model=fake_predictor)
    expected = segmenter.segment(points=[30, 30], box=[20, 20, 44, 44])
    again = segmenter.segment(points=convert([30, 30]), box=convert([20, 20, 44, 44]))
    assert again.prompts is not None
    assert expected.prompts is not None
    assert again.prompts.key == expected.prompts.key


@pytest.mark.parametrize(
    "index", [1, np.int64(1), np.array(1), np.array([1]), torch.tensor(1), torch.tensor([1]), (1,)]
)
def test_a_plane_is_named_by_any_whole_number(index: Any) -> None:
    assert Plane.of((3, 64, 80), index) == Plane((1, 2), (1, 0, 0))


def test_a_plane_of_another_image_is_no_plane_of_this_one(fake_predictor: Any) -> None:
    segmenter = Segmenter(np.stack([IMAGE] * 3), model=fake_predictor)
    assert segmenter.plane(Plane((1, 2), (2, 0, 0))).index == (2, 0, 0)
    for plane in (Plane((0, 1), (0, 0)), Plane((1, 2), (3, 0, 0)), Plane((1, 3), (0, 0, 0))):
        with pytest.raises(NapariSamError, match=r"not a plane of an image|not two different axes"):
            segmenter.segment(points=POINT, plane=plane)


def test_candidates_are_an_earlier_answer_as_their_best_mask_is(fake_predictor: Any) -> None:
    segmenter = Segmenter(IMAGE, model=fake_predictor)
    first = segmenter.segment(points=POINT)
    answers = [segmenter.segment(points=[(32, 32)], previous=previous) for previous in (first, first.best)]
    np.testing.assert_array_equal(answers[0].best.pixels, answers[1].best.pixels)


def test_labels_in_a_tensor_are_written_in_place(fake_predictor: Any) -> None:
    labels = torch.zeros(IMAGE.shape, dtype=torch.int32)
    segmenter = Segmenter(IMAGE, model=fake_predictor, labels=labels)  # type: ignore[arg-type]
    segmenter.accept(segmenter.segment(points=POINT))
    assert int(labels.max()) == 1


@pytest.mark.parametrize("prompts", [{"points": True}, {"points": ["1", "2"]}, {"points": [None, 1]}, {"box": "1234"}])
def test_what_numpy_would_convert_without_a_word_is_no_number(fake_predictor: Any, prompts: Any) -> None:
    with pytest.raises(PromptError, match="must be numbers"):
        Segmenter(IMAGE, model=fake_predictor).segment(**prompts)


@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        ("labels", "a" * 300 + ".ome.zarr", LabelsError, f"file systems allow {MAX_NAME_BYTES}"),
        ("labels", "a\0b.zarr", LabelsError, "NUL"),
        ("labels", np.ma.zeros(IMAGE.shape, int), LabelsError, "filled"),
        ("labels", [[1, 2], [3, 4]], LabelsError, "are a list: convert"),
        ("journal", "a\0b", OutputError, "NUL"),
        ("journal", 5, OutputError, "True, False or a folder"),
        ("journal", "", OutputError, "is empty"),
        ("store", 5, OutputError, "must be a path"),
        ("store", "a" * 300, OutputError, "shorten it"),
        ("model", 5, ModelError, "give a name"),
    ],
)
def test_a_refused_argument_is_named_with_the_remedy(
    fake_predictor: Any, name: str, value: Any, error: type[NapariSamError], words: str
) -> None:
    with pytest.raises(error, match=words):
        Segmenter(IMAGE, **{"model": fake_predictor, name: value})
