"""How long ranking anew takes after an answer, with the embedded model's descriptors and without the drawing.

python benchmarks/find_similar.py [--proposals 10000] [--answers 20] [--json benchmarks/results/find_similar.json]

Also how long an answer holds the window, which ranks many proposals in a thread.

The proposals are squares that overlap their neighbors, and descriptors are random numbers: the time depends on how many
there are and how many of them share pixels, not on what they show.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.similar import SimilarObjects
from napari_sam.models import load_predictor
from napari_sam.plugin.proposals.found_planes import SimilarPlanes
from napari_sam.plugin.proposals.selection import ProposalSelection
from napari_sam.plugin.workers.runner import Work
from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.query import Query

SIDE, STEP = 24, 20


def made_of(count: int, layout: DescriptorLayout) -> FoundObjects:
    """Return overlapping proposals in rows."""
    rng = np.random.default_rng(0)
    across = round(count**0.5)
    boxes = [Box(row := STEP * (i // across), col := STEP * (i % across), row + SIDE, col + SIDE) for i in range(count)]
    masks = [Mask(box, np.ones((SIDE, SIDE), bool), float(rng.uniform(0.3, 1)), 0.9) for box in boxes]
    values = rng.normal(0, 0.02, (count, layout.width)).astype(np.float16)
    values[:, layout.slices["shape"]] = np.log2(SIDE), 0, 0, 1.8, 0.9
    points = np.array([box.center for box in boxes])
    shape = (STEP * (count // across + 2), STEP * (across + 1))
    return FoundObjects(Plane.of(shape), Proposals.of(masks, points, 0, values))


def held_by_answers(found: FoundObjects, query: Query, answers: int) -> tuple[list[float], list[float]]:
    """Return the seconds that the window's thread works for each answer, and those until all are ranked by it."""
    ended: SimpleQueue[tuple[Work, Any]] = SimpleQueue()

    def apart(work: Work) -> None:
        Thread(target=lambda: ended.put((work, work.job(lambda _: None)))).start()

    selection = ProposalSelection(apart=apart)
    ranking = SimilarPlanes([found], query)
    ranking.select()  # As the worker does.
    selection.update(ranking)
    selection.next_doubtful()
    held, ranked = [], []
    for answer in range(answers):
        start = time.perf_counter()
        selection.judge(answer % 2 == 0)
        parts = [time.perf_counter() - start]
        while selection.is_ranking:
            work, value = ended.get()
            begun = time.perf_counter()
            work.done(value)
            parts.append(time.perf_counter() - begun)
        held.append(max(parts))
        ranked.append(time.perf_counter() - start)
    return held, ranked


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--proposals", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    predictor = load_predictor("compact", "cpu")
    layout = DescriptorLayout.of(predictor)
    found = made_of(arguments.proposals, layout)
    examples = found.proposals.descriptors[:1]
    query = Query.of_examples(predictor.digest, predictor.name, layout, examples, "")
    start = time.perf_counter()
    similar = SimilarObjects.of(found, query)
    similar.select()
    first = time.perf_counter() - start
    seconds = []
    for answer in range(arguments.answers):
        asked = int(similar.doubtful()[0])
        start = time.perf_counter()
        similar.answer(asked, answer % 2 == 0)
        similar.select()
        seconds.append(time.perf_counter() - start)
    held, ranked = held_by_answers(found, query, arguments.answers)
    figures = {
        "proposals": arguments.proposals,
        "first_ranking_s": round(first, 2),
        "rank_anew_ms_median": round(float(np.median(seconds)) * 1e3, 1),
        "rank_anew_ms_most": round(max(seconds) * 1e3, 1),
        "window_held_ms_median": round(float(np.median(held)) * 1e3, 1),
        "window_held_ms_most": round(max(held) * 1e3, 1),
        "ranked_in_window_ms_median": round(float(np.median(ranked)) * 1e3, 1),
    }
    print(json.dumps(figures, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
