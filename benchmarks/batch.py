"""Measure what a command over many small images costs each of them, beyond the work of the model.

    python benchmarks/batch.py --images 200 --json benchmarks/results/batch.json

The images are TIFFs of 128 x 128 pixels with a disc each, the one in the middle is cut off. A model without weights
answers at once, and its time is left out all the same. Seconds are those of the processor, so that other programs do
not count.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import tifffile

from napari_sam.cli import main as command
from napari_sam.cli import models as cli_models
from napari_sam.testing import BlobFinder

SHAPE = (128, 128)


class Timed:
    """A model whose methods are timed.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._depth, self.seconds = model, 0, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if not callable(found):
            return found

        def timed(*arguments: Any, **options: Any) -> Any:
            self._depth += 1
            start = process_time()
            try:
                return found(*arguments, **options)
            finally:
                self._depth -= 1
                if not self._depth:
                    self.seconds += process_time() - start

        return timed


def make_images(folder: Path, count: int) -> Path:
    """Write the images, the one in the middle cut off."""
    folder.mkdir()
    rows, cols = np.indices(SHAPE)
    rng = np.random.default_rng(0)
    for number in range(count):
        is_disc = (rows - rng.uniform(50, 78)) ** 2 + (cols - rng.uniform(50, 78)) ** 2 < rng.uniform(14, 20) ** 2
        pixels = (rng.integers(20, 40, SHAPE) + 160 * is_disc).astype(np.uint8)
        tifffile.imwrite(folder / f"{number:04}.tif", pixels, resolution=(40000, 40000), resolutionunit="CENTIMETER")
    broken = folder / f"{count // 2:04}.tif"
    broken.write_bytes(broken.read_bytes()[:-4000])
    return folder


def measured(model: Timed, *arguments: Any) -> dict[str, Any]:
    """Run a command, and return what it took."""
    model.seconds, before, start = 0.0, process_time(), perf_counter()
    told, status = io.StringIO(), 0
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            sys.argv = ["napari-sam", *map(str, arguments)]
            command()
        except SystemExit as error:
            status = error.code
    last = told.getvalue().strip().splitlines()[-1]
    return {"seconds": process_time() - before, "wall": perf_counter() - start, "exit": status, "told": last}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    model = Timed(BlobFinder())
    cli_models.load = lambda *_, **__: model
    results: dict[str, Any] = {"images": given.images, "shape": SHAPE}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images, one = make_images(folder / "images", given.images), make_images(folder / "one", 3)
        point, contrast = ("--point", "64,64"), ("--contrast", "0,255")
        tables = ("--image", f"{images}/*.tif")
        # Imports of the first run are no cost of an image.
        for warm in (("everything", one, *contrast), ("segment", one, *point, *contrast)):
            measured(model, *warm, "--out", folder / f"warm_{warm[0]}")
        measured(model, "export", folder / "warm_segment", "--out", folder / "warm" / "*.csv")
        commands = {
            "everything": ("everything", images, *contrast, "--out", folder / "all"),
            "segment": ("segment", images, *point, *contrast, "--out", folder / "labels"),
            "export": ("export", folder / "labels", *tables, "--out", folder / "tables" / "*.csv"),
        }
        for command_name, arguments in commands.items():
            took = measured(model, *arguments)
            results[command_name] = {
                "exit": took["exit"],
                "told": took["told"],
                "ms_an_image_beyond_the_model": round(1000 * (took["seconds"] - model.seconds) / given.images, 1),
                "ms_an_image_of_the_model": round(1000 * model.seconds / given.images, 1),
                "wall_ms_an_image": round(1000 * took["wall"] / given.images, 1),
            }
    print(json.dumps(results, indent=1))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
