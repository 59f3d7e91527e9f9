"""GuidedProposer: what several decodings agree on, never cut by the window of one of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.everything.scenes import (
    SIZES,
    assert_each_is_found_once,
    discs,
    ious_of_the_best,
    picture,
    segmenter_of,
    swept,
)

from napari_sam.everything.proposal_store import ProposalStore
from napari_sam.tasks.everything import found_in, sweep_into
from napari_sam.testing import BlobFinder

SHAPE = (400, 400)


@pytest.mark.parametrize("radius", range(16, 48, 4))
def test_an_object_of_any_size_is_found_whole_or_not_at_all_on_a_level(radius: int) -> None:
    """A window shows a part of a large object only, and the finer one half as much of it."""
    labels = discs(SHAPE, [(90, 100), (250, 130), (200, 300)], radius)
    found = swept(segmenter_of(picture(labels)), levels=[0])
    assert sum(iou > 0.85 for iou in ious_of_the_best(found, labels)) == len(found.select())
    assert radius > 36 or len(found.select()) == 3


class Forgetful(BlobFinder):
    """Model that finds nothing where it decodes at twice the resolution."""

    def decode_windows(self, embedding, origins, prompts):
        logits, scores = super().decode_windows(embedding, origins, prompts)
        if embedding.tensors[0].shape[-1] > self.sweep_side:
            logits[:] = -10
        return logits, scores


def test_where_the_finer_decoding_finds_nothing_no_proposal_is_empty_and_no_tile_is_lost(tmp_path: Path) -> None:
    labels = discs(SHAPE, [(90, 100), (250, 130), (200, 300)])
    segmenter = segmenter_of(picture(labels), Forgetful())
    found = swept(segmenter)
    assert (found.areas > 0).all()
    store = ProposalStore(tmp_path, {})
    sweep = segmenter.sweep(plane=segmenter.plane(), sizes=SIZES)
    *_, last = sweep_into(store, sweep)
    assert (last.done, last.total) == (len(sweep.tiles), len(sweep.tiles))
    assert all(store.get(tile) is not None for tile in sweep.tiles)
    assert len(found_in(store, sweep, segmenter.plane())) == len(found)


class Doubtful(BlobFinder):
    """Model whose second mask has little in common with the first one."""

    def decode_windows(self, embedding, origins, prompts):
        logits, scores = super().decode_windows(embedding, origins, prompts)
        for mask, prompt in zip(logits, prompts, strict=True):
            if prompt.mask_logits is not None:
                mask[:, mask.shape[1] // 2 - 1 :] = -10
        return logits, scores


def test_what_two_decodings_do_not_agree_on_is_not_proposed() -> None:
    labels = discs(SHAPE, [(90, 100), (250, 130)])
    assert len(swept(segmenter_of(picture(labels), Doubtful()))) == 0


def test_neighbors_are_negative_points_of_the_second_decoding() -> None:
    labels = discs(SHAPE, [(90, 90), (90, 111), (300, 300)], 8)
    model = BlobFinder()
    assert_each_is_found_once(swept(segmenter_of(picture(labels), model)), labels)
    first = [prompt for prompt in model.windows if prompt.mask_logits is None]
    second = [prompt for prompt in model.windows if prompt.mask_logits is not None]
    assert first
    assert all(len(prompt.points) == 1 for prompt in first)
    assert {prompt.labels.tolist().count(True) for prompt in model.windows} == {1}
    assert 1 in {prompt.labels.tolist().count(False) for prompt in second}, "a neighbor"
    assert 0 in {prompt.labels.tolist().count(False) for prompt in second}, "alone"


class Hesitant(BlobFinder):
    """Model that is not sure of anything."""

    def decode_windows(self, embedding, origins, prompts):
        logits, scores = super().decode_windows(embedding, origins, prompts)
        return logits, scores * np.float32(0.15)


def test_what_no_filter_would_choose_is_not_proposed() -> None:
    labels = discs(SHAPE, [(90, 100), (250, 130)])
    assert len(swept(segmenter_of(picture(labels), Hesitant()))) == 0
