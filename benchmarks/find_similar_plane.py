"""How soon proposals by example are there on a large plane that was searched before, and how many tiles are encoded.

    python benchmarks/find_similar_plane.py MANIFEST --folder FOLDER [--json benchmarks/results/find_similar_plane.json]

A pyramid is made of the labeled images of a subset, turned and mirrored at random, each pixel twice along both axes.
It is searched once, which takes from minutes to an hour; a second run finds both in FOLDER. Then the image is opened
anew, as in another session, and three of its labeled objects are the examples.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from skimage.io import imread

from napari_sam import Segmenter
from napari_sam.core.geometry import Box
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Predictor
from napari_sam.everything.proposal_cache import ProposalCache
from napari_sam.models import load_predictor
from napari_sam.similarity.query import Query

LEVELS, CHUNK, EXAMPLES = 5, 512, 3
# What the window would show, at half the resolution of the screen.
VIEW = 1536


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--subset", default="oam_buildings_uganda")
    parser.add_argument("--side", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, required=True, help="for the image and the proposals")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    if not (folder / "labels.npy").exists():
        build(folder, arguments.manifest, arguments.subset, arguments.side)
    predictor = load_predictor("compact", "cpu", threads=1)
    query = examples_of(opened(folder, predictor), folder)
    first = measured(folder, predictor, query)
    figures = measured(folder, predictor, query) if first["tiles_encoded"] else first
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


def build(folder: Path, manifest: Path, subset: str, side: int) -> None:
    """Write the pyramid and the labels of its finest level."""
    rng = np.random.default_rng(0)
    rows = [row for row in json.loads(manifest.read_text()) if row.get("subset") == subset]
    pairs = [[imread(manifest.parent / row[name]) for name in ("image", "mask")] for row in rows]
    tile = pairs[0][0].shape[0]
    pairs = [(image[..., :3], mask) for image, mask in pairs if image.shape[:2] == (tile, tile)]
    whole, labels, count = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), np.uint32), 0
    for row in range(0, side, 2 * tile):
        for col in range(0, side, 2 * tile):
            image, mask = pairs[rng.integers(len(pairs))]
            turns, is_mirrored = int(rng.integers(4)), bool(rng.integers(2))
            part, own = (_turned(each, turns, is_mirrored) for each in (image, mask.astype(np.uint32)))
            height, width = min(2 * tile, side - row), min(2 * tile, side - col)
            whole[row : row + height, col : col + width] = part[:height, :width]
            labels[row : row + height, col : col + width] = np.where(own > 0, own + count, 0)[:height, :width]
            count += int(own.max())
    for level in range(LEVELS):
        chunks = (CHUNK, CHUNK, 3)
        zarr.open_array(folder / "pyramid" / str(level), mode="w", shape=whole.shape, chunks=chunks, dtype="u1")[:] = (
            whole
        )
        height, width = whole.shape[0] // 2, whole.shape[1] // 2
        blocks = whole[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
        whole = blocks.mean((1, 3), dtype=np.float32).round().astype(np.uint8)
    np.save(folder / "labels.npy", labels)


def _turned(values: NDArray[Any], turns: int, is_mirrored: bool) -> NDArray[Any]:
    turned = np.rot90(values, turns)
    turned = turned[::-1] if is_mirrored else turned
    return turned.repeat(2, axis=0).repeat(2, axis=1)


def opened(folder: Path, predictor: Predictor) -> Segmenter:
    """Open the image as in a new session."""
    levels = [zarr.open_array(folder / "pyramid" / str(level), mode="r") for level in range(LEVELS)]
    segmenter = Segmenter(levels, rgb=True, model=predictor)
    segmenter.proposal_cache = ProposalCache(folder / "cache", 10**10)
    return segmenter


def middle_of(folder: Path) -> tuple[Box, NDArray[Any]]:
    """Return the view, and its labels."""
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    start = (labels.shape[0] - VIEW) // 2 // CHUNK * CHUNK
    view = Box(start, start, start + VIEW, start + VIEW)
    return view, np.asarray(labels[view.slices])


def examples_of(segmenter: Segmenter, folder: Path) -> Query:
    """Describe the objects in view whose size is nearest to the median."""
    view, labels = middle_of(folder)
    values, sizes = np.unique(labels[labels > 0], return_counts=True)
    chosen = values[np.argsort(np.abs(sizes - np.median(sizes)), kind="stable")[:EXAMPLES]]
    masks = [Mask(view, labels == value).tightened() for value in chosen]
    return segmenter.examples(masks, plane=segmenter.plane())


def measured(folder: Path, predictor: Predictor, query: Query) -> dict[str, Any]:
    """Search the plane, with what lies in view first."""
    view, _ = middle_of(folder)
    encode, count = predictor.encode, 0

    def counted(rendered: NDArray[np.uint8]) -> Any:
        nonlocal count
        count += len(rendered)
        return encode(rendered)

    start, used = time.perf_counter(), time.process_time()
    segmenter = opened(folder, predictor)
    predictor.encode = counted  # type: ignore[method-assign]
    try:
        seconds: dict[str, float] = {}
        described = examples_of(segmenter, folder)
        seconds["examples"] = time.perf_counter() - start
        for now in segmenter.find_similar_steps(described, sizes=query.sizes, first=view):
            if "first" not in seconds and now.done and len(now.found.select()):
                seconds["first"] = time.perf_counter() - start
                seconds["first, processor"] = time.process_time() - used
        seconds["all"] = time.perf_counter() - start
        seconds["all, processor"] = time.process_time() - used
    finally:
        del predictor.encode  # type: ignore[method-assign]
    found = now.found
    return {
        "pixels": list(segmenter.shape),
        "tiles": now.total,
        "proposals": len(found),
        "selected": len(found.select()),
        "tiles_encoded": count,
        "examples_s": round(seconds["examples"], 2),
        "first_proposals_s": round(seconds["first"], 2),
        "first_proposals_processor_s": round(seconds["first, processor"], 2),
        "whole_plane_s": round(seconds["all"], 1),
        "whole_plane_processor_s": round(seconds["all, processor"], 1),
    }


if __name__ == "__main__":
    main()
