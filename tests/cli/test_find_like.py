"""`napari-sam examples` and `napari-sam find --like`: examples of one image find objects of others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.cli.checks import Run, assert_one_sentence

from napari_sam.journal.journal import open_journal
from napari_sam.models.compact.predictor import CompactPredictor
from napari_sam.similarity.query import Query

RADIUS, STEP = 12, 50
ROWS, COLS = 150, 250


def discs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return dim and bright discs in turn on a dark ground, and their labels, row by row."""
    rng = np.random.default_rng(seed)
    image, labels = np.full((ROWS, COLS), 20.0), np.zeros((ROWS, COLS), np.uint16)
    rows, cols = np.mgrid[:ROWS, :COLS]
    for number, (row, col) in enumerate(
        (row, col) for row in range(STEP // 2, ROWS, STEP) for col in range(STEP // 2, COLS, STEP)
    ):
        inside = (rows - row) ** 2 + (cols - col) ** 2 < RADIUS**2
        image[inside] = 200 if is_bright(row, col) else 120
        labels[inside] = number + 1
    return (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8), labels


def is_bright(row: float, col: float) -> bool:
    return (int(row) // STEP + int(col) // STEP) % 2 == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("discs")
    for name, seed in (("a", 0), ("b", 1)):
        tifffile.imwrite(made / f"{name}.tif", discs(seed)[0])
    tifffile.imwrite(made / "labels.tif", discs()[1])
    return made


@pytest.fixture
def queries(folder: Path, run: Run) -> tuple[Path, Path]:
    """Two files of examples: a dim disc, and a bright one."""
    made = folder / "dim.sam", folder / "bright.sam"
    for number, path in enumerate(made, 1):
        if not path.exists():
            arguments = ("examples", folder / "a.tif", folder / "labels.tif", "--out", path)
            assert run(*arguments, "--labels", number, "--class", path.stem).code == 0
    return made


def test_examples_are_saved_with_their_class(queries: tuple[Path, Path]) -> None:
    query = Query.load(queries[0])
    assert (query.classes, query.model_name) == (("dim",), "compact")
    assert 1 <= len(query) <= 4, "the object as each level that is searched shows it"
    assert query.sizes[0] < 2 * RADIUS < query.sizes[1]


def test_two_kinds_are_told_apart_on_another_image(
    folder: Path, queries: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    out, table = tmp_path / "b.ome.zarr", tmp_path / "b.json"
    like = [argument for path in queries for argument in ("--like", path)]
    assert run("find", folder / "b.tif", *like, "--out", out, "--json", table).code == 0
    found = json.loads(table.read_text())["objects"]
    assert len(found) == 15
    middles = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (each["box"] for each in found)]
    assert [each["class"] for each in found] == ["bright" if is_bright(*middle) else "dim" for middle in middles]
    assert all(0.3 <= each["likeness"] <= 1 for each in found)
    with open_journal(out) as journal:
        classes = {each.label: each.label_class.name for each in journal.objects if each.label_class is not None}
    assert classes == {each["label"]: each["class"] for each in found}


def test_many_images_are_searched_by_one_command(
    folder: Path, queries: tuple[Path, Path], tmp_path: Path, run: Run
) -> None:
    images = [folder / name for name in ("a.tif", "b.tif")]
    assert run("find", *images, "--like", queries[1], "--out", tmp_path / "*.tif").code == 0
    for name in ("a", "b"):
        labels = tifffile.imread(tmp_path / f"{name}.tif")
        assert labels.max() >= 7
        assert labels[STEP // 2, STEP // 2 + STEP] > 0


def test_proposals_of_everything_are_ranked_without_encoding(
    folder: Path, queries: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    everything = tmp_path / "all.tif"
    assert run("everything", folder / "b.tif", "--out", everything).code == 0
    monkeypatch.setattr(CompactPredictor, "encode", lambda *_: pytest.fail("a tile was encoded again"))
    arguments = ("find", folder / "b.tif", "--like", queries[0], "--out", tmp_path / "dim.tif")
    assert run(*arguments, "--proposals", f"{everything}.proposals").code == 0
    assert tifffile.imread(tmp_path / "dim.tif").max() >= 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["find", "a.tif", "--out", "x.tif"], "There is no text"),
        (["find", "--like", "dim.sam", "--out", "x.tif"], "There is no image"),
        (["find", "a.tif", "--like", "none.sam", "--out", "x.tif"], "There is no file none.sam"),
        (["find", "a.tif", "--like", "a.tif", "--out", "x.tif"], "is no query"),
        (["find", "a.tif", "--like", "dim.sam", "--threshold", "0.2", "--out", "x.tif"], "for words"),
        (["find", "a.tif", "--like", "other.sam", "--out", "x.tif"], "described by the model another"),
        (["examples", "a.tif", "labels.tif", "--labels", "99", "--out", "x.sam"], "no object 99"),
        (["examples", "a.tif", "labels.tif", "--out", "x.json"], ".sam"),
        (["examples", "a.tif", "small.tif", "--out", "x.sam"], "labels of this image"),
        (["examples", "a.tif", "empty.tif", "--out", "x.sam"], "no object"),
        (["examples", "a.tif", "labels.tif", "--out", "dim.sam"], "exists"),
    ],
)
def test_what_cannot_be_done_ends_in_one_sentence(
    folder: Path,
    queries: tuple[Path, Path],
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
) -> None:
    monkeypatch.chdir(folder)
    replace(Query.load("dim.sam"), model="another/1", model_name="another").save("other.sam", overwrite=True)
    tifffile.imwrite("small.tif", np.ones((8, 8), np.uint8))
    tifffile.imwrite("empty.tif", np.zeros((ROWS, COLS), np.uint8))
    result = run(*arguments)
    assert result.code != 0
    assert message in assert_one_sentence(result.err)
    assert not (folder / "x.tif").exists()
    assert not (folder / "x.sam").exists()
