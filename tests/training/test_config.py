"""Every wrong entry of a training configuration is refused in one sentence, from a file and from a script alike."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_sam.errors import ImageError, ModelError, NapariSamError, OutputError
from napari_sam.evaluation.datasets import LabelledImage, read_manifest, read_split
from napari_sam.training.config import RULES
from napari_sam.training.crops import CropOptions, check_weights, draw_crop, load_sources
from napari_sam.training.train import TrainOptions, read_config, train

NUMBERS = ("steps", "batch", "objects", "rounds", "learned_rounds", "pretext_steps", "warmup", "seed", "save_every")
NUMBERS += ("validate_every", "validate_objects", "side", "threads")
REALS = ("learning_rate", "decay", "weight_decay", "clip", "focal_weight", "gamma", "dense_weight", "every_candidate")
REALS += ("chosen_candidate", "box_share", "average", "smallest", "largest")
PATHS = ("out", "manifest", "split", "init")

# As TOML writes them; those that no entry can be.
NO_NUMBERS = ('"many"', "true", "[1]", "{a = 1}", "nan", "inf", "-1", "1979-05-27", str(10**30))
WRONG = [(name, value) for name in (*NUMBERS, *REALS) for value in NO_NUMBERS]
WRONG += [(name, "1.5") for name in NUMBERS]
WRONG += [(name, "0") for name in ("batch", "objects", "rounds", "save_every", "validate_objects", "threads", "side")]
WRONG += [(name, "0.0") for name in ("learning_rate", "clip", "smallest", "largest")]
WRONG += [(name, "2") for name in ("decay", "box_share", "average", "smallest", "largest")]
WRONG += [("side", value) for value in ("32", "63", "65", "100", "-64", "100032")]
WRONG += [(name, value) for name in ("augment", "frozen_encoder") for value in ("0", '"yes"', "[true]")]
WRONG += [("precision", value) for value in ('"float16"', "32", '""', "true")]
WRONG += [("device", value) for value in ("0", "true", '["cpu"]')]
WRONG += [("weights", value) for value in ("5", "[1]", '"a"', "{a = -1}", "{a = nan}", '{a = "b"}', "{a = true}")]
WRONG += [
    ("pairs", value)
    for value in ("5", '"ab"', '["ab"]', '[["a"]]', '[["a", "b", "c"]]', "[[1, 2]]", "{a = 1}", '[["a", "b\\u0000"]]')
]
WRONG += [(name, value) for name in PATHS for value in ("5", "true", '["a"]', '""', '"a\\u0000b"', f'"{"a" * 300}"')]


def refusal(call: Any, kind: type[NapariSamError] = ModelError) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert message.endswith(".")
    assert not re.search(r"[.!?]\s+[A-Z]|\n", message), f"more than one sentence: {message}"
    return message


def write(folder: Path, **entries: str) -> Path:
    path = folder / "config.toml"
    path.write_text("\n".join(f"{name} = {value}" for name, value in {"out": '"run"', **entries}.items()))
    return path


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_entry_of_a_configuration_is_named_with_what_it_must_be(tmp_path: Path, name: str, value: str) -> None:
    message = refusal(lambda: read_config(write(tmp_path, **{name: value})))
    assert re.search(rf"The entry {name} of .*config\.toml must be .*, and is ", message)


@pytest.mark.parametrize("name", list(RULES))
@pytest.mark.parametrize("value", [object(), 1 + 2j, b"a", date(2020, 1, 1), {1}, np.zeros(2), lambda: 1])
def test_options_of_a_script_are_checked_like_those_of_a_file(tmp_path: Path, name: str, value: Any) -> None:
    options = TrainOptions(**{"out": tmp_path / "run", name: value})
    assert f"The entry {name} must be" in refusal(lambda: train(options))
    assert not (tmp_path / "run").exists()


def test_every_entry_has_a_rule_and_its_default_keeps_it() -> None:
    assert list(RULES) == list(TrainOptions.__dataclass_fields__)
    options = TrainOptions(out=Path("run"))
    assert all(RULES[name](getattr(options, name)) == getattr(options, name) for name in RULES)


def test_numbers_of_numpy_and_paths_as_text_are_taken(tmp_path: Path) -> None:
    options = TrainOptions(out=str(tmp_path / "run"), steps=np.int64(3), side=np.uint8(64), gamma=np.float32(2))  # type: ignore[arg-type]
    # Everything is right but that there is no image.
    assert "nothing to train on" in refusal(lambda: train(options))


def test_the_smallest_share_is_no_larger_than_the_largest(tmp_path: Path) -> None:
    assert "smallest" in refusal(lambda: read_config(write(tmp_path, smallest="0.5", largest="0.2")))


@pytest.mark.parametrize(
    "content",
    [
        "out = 'caf\u00e9'".encode("latin-1"),
        "out = 'a'".encode("utf-16"),
        b"\0\1\2",
        b"out = ",
        b"[" * 5000,
        b"out = 'a'\nout = 'b'",
        b"out = 'a'\nweights.a = 1\nweights = 2",
    ],
)
def test_a_configuration_that_is_no_toml_is_called_that(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.toml").write_bytes(content)
    assert re.search(r"no valid TOML|no text in UTF-8", refusal(lambda: read_config(tmp_path / "config.toml")))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_folder_in_place_of_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read, kind in ((read_config, ModelError), (read_manifest, ImageError), (read_split, ImageError)):
        assert "is a pipe and not a file" in refusal(lambda read=read: read(tmp_path / "pipe"), kind)
        assert "is a folder" in refusal(lambda read=read: read(tmp_path), kind)
        assert "check the path" in refusal(lambda read=read: read(tmp_path / "nowhere"), kind)
        refusal(lambda read=read: read(tmp_path / ("a" * 300)), kind)


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "[5]",
        "[[]]",
        "{}x",
        "[" * 100_000,
        '[{"image": 5, "mask": "a", "subset": "s", "kind": "instance"}]',
        '[{"image": "a", "mask": "b\\u0000", "subset": "s", "kind": "instance"}]',
        '[{"image": "a", "mask": "b", "subset": "s", "kind": ["instance"]}]',
        '[{"image": "a", "mask": "b", "subset": "s", "kind": "instance", "ignore_label": "x"}]',
        '[{"image": "a", "subset": "s", "kind": "instance"}]',
    ],
)
def test_a_manifest_or_split_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.json").write_text(text)
    refusal(lambda: read_manifest(tmp_path / "some.json"), ImageError)
    assert "kept_out" in refusal(lambda: read_split(tmp_path / "some.json"), ImageError)


def test_results_go_into_a_folder_that_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "inside"):
        assert "is no folder" in refusal(lambda out=out: train(TrainOptions(out)), OutputError)


# Crops


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> LabelledImage:
    """A line one pixel wide through an image, which fills few pixels of any crop."""
    import tifffile

    folder = tmp_path_factory.mktemp("line")
    labels = np.zeros((400, 400), np.uint32)
    labels[200] = 4_000_000_000
    tifffile.imwrite(folder / "labels.tif", labels)
    tifffile.imwrite(folder / "image.tif", (labels > 0).astype(np.uint8) * 200)
    return LabelledImage(folder / "image.tif", folder / "labels.tif", "lines", "instance")


def test_an_object_that_no_crop_shows_ends_the_drawing_with_a_sentence(line: LabelledImage) -> None:
    sources = load_sources([line], np.random.default_rng(0))
    options = CropOptions(side=64, smallest=0.05, largest=0.1, augment=False)
    assert "raise smallest" in refusal(lambda: draw_crop(sources, {}, options, np.random.default_rng(0)), ImageError)


def test_labels_beyond_31_bits_are_objects_too(line: LabelledImage) -> None:
    (source,) = load_sources([line], np.random.default_rng(0))["lines"]
    assert len(source.values) == 1
    assert np.count_nonzero(source.objects == source.values[0]) == 400


def test_weights_that_draw_nothing_are_refused_and_others_are_not() -> None:
    assert "a, b" in refusal(lambda: check_weights({"a": 0.0, "b": 0.0}, ["a", "b"]))
    check_weights({"a": 0.0}, ["a", "b"])


def test_without_a_step_the_start_weights_are_written(line: LabelledImage, tmp_path: Path) -> None:
    pairs = ((line.image, line.mask),)
    weights = train(TrainOptions(out=tmp_path / "run", pairs=pairs, steps=0, side=64))
    assert weights.stat().st_size > 1_000_000
