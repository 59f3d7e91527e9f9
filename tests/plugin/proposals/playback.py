"""A segmenter that finds what a test says, tile by tile, and a controller that searches with it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from napari_sam.core.masks import iou
from napari_sam.everything.proposals import Proposals
from napari_sam.everything.sweep import EverythingProgress
from napari_sam.finding.compared_image import SimilarProgress
from napari_sam.similarity.descriptors import SHAPES, DescriptorLayout
from napari_sam.similarity.likeness import usual_quality
from napari_sam.similarity.query import Query
from napari_sam.testing.plugin import disc

# Features of a model without fitted axes: the kind of an object is the sign of all of them.
LAYOUT = DescriptorLayout.of(SimpleNamespace(feature_strides=((6, 4),)))


def tile_of(*objects):
    """Return what one tile proposes: each object is its middle, its radius and its score."""
    masks = [replace(disc(*middle, radius), iou_prediction=score) for middle, radius, score in objects]
    return Proposals.of(masks, np.array([middle for middle, _, _ in objects], float).reshape(-1, 2), 0)


class PlayedBack:
    """A segmenter that finds the same tiles in every plane, or those of a dictionary by the position of the plane."""

    def __init__(self, *tiles):
        self.tiles, self.asked, self.closed = tiles, [], False

    def everything_steps(self, **place):
        self.asked.append(place)
        tiles = self.tiles
        if len(tiles) == 1 and isinstance(tiles[0], dict):
            tiles = tiles[0][place["plane"].index[0]]
        try:
            for done in range(len(tiles) + 1):
                yield EverythingProgress(len(tiles), done, place["plane"], tiles)
        finally:
            self.closed = True


def play(controller, monkeypatch, *tiles):
    """Start a search that will find these tiles."""
    segmenter = PlayedBack(*tiles)
    monkeypatch.setattr(controller.jobs, "builder", lambda *_: lambda report: segmenter)
    controller.finder.find()
    return segmenter


def described_tile(*objects):
    """Return what one tile proposes: each object is its middle, its radius, its score and its kind, from -1 to 1."""
    proposals = tile_of(*(each[:3] for each in objects))
    return replace(proposals, descriptors=descriptors_of(proposals, [kind for *_, kind in objects]))


def descriptors_of(proposals, kinds):
    """Return what a model sees of objects of some kinds and of their sizes, with a little noise."""
    rng = np.random.default_rng(len(kinds))
    values = rng.normal(0, 0.1, (len(kinds), LAYOUT.width)) + np.array(kinds, float)[:, None]
    shapes = np.zeros((len(kinds), len(SHAPES)))
    shapes[:, SHAPES.index("size")] = np.log2(np.sqrt(proposals.areas))
    values[:, LAYOUT.slices["shape"]] = shapes
    return values.astype(np.float16)


class Comparing(PlayedBack):
    """A segmenter that also describes objects: a mask is of the kind of the proposal of its tiles that it outlines."""

    digest, name = "comparing/1", "comparing"

    def __init__(self, *tiles):
        super().__init__(*tiles)
        self.described = []

    @property
    def encoder(self):
        return SimpleNamespace(provenance_of_found=lambda: None)

    def find_similar_steps(self, query, **place):
        for now in self.everything_steps(**place):
            yield SimilarProgress(now.total, now.done, now.plane, now.parts, query)

    def examples(self, masks, *, plane, class_name=None, found=None):
        self.described.append((len(masks), plane, class_name, found))
        known = Proposals.joined(self.tiles)
        best = []
        for mask in masks:
            shares = []
            for i in range(len(known)):
                union = known.box(i).union(mask.box)
                shares.append(iou(known.mask(i).in_box(union), mask.in_box(union)))
            best.append(int(np.argmax(shares)))
        return query_of(known.descriptors[best], class_name or "")

    def checked_query(self, query):
        query.check_model(self.digest, self.name)
        return query


def query_of(descriptors, name="", digest=Comparing.digest):
    """Return a query with examples of one kind."""
    count = len(descriptors)
    yes, no = np.ones(count, bool), np.zeros(count, bool)
    quality = np.repeat(usual_quality()[None], count, axis=0)
    return Query(digest, "comparing", LAYOUT, (name,), descriptors, quality, np.zeros(count, np.int64), yes, no)


def use(controller, monkeypatch, segmenter):
    """Let all searches use a segmenter."""
    monkeypatch.setattr(controller.jobs, "builder", lambda *_: lambda report: segmenter)
    monkeypatch.setattr(controller.jobs, "segmenter_of", lambda _: None)
    return segmenter
