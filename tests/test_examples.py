from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_finds_its_object(example, capsys):
    names = runpy.run_path(str(example))
    assert names["label"] == 1
    assert names["candidates"].best.iou_prediction > 0.5
    assert "label 1" in capsys.readouterr().out
