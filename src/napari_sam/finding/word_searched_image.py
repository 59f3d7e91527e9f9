"""WordSearchedImage: find the objects of an image that words name, or that look like examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy.typing as npt

from napari_sam.arguments import number, shown
from napari_sam.core.finding.exemplars import ExemplarPredictor
from napari_sam.core.finding.open_vocabulary import TextDetector, TextRanker
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.core.predictor import Predictor, TextPredictor
from napari_sam.core.tiles import Tile, TileGrid
from napari_sam.distributed.job import Plan
from napari_sam.distributed.proposing import ProposingPlan
from napari_sam.distributed.shared_image import SharedImage
from napari_sam.embeddings.round_decoder import RoundDecoder
from napari_sam.errors import ModelError, PromptError
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.sweep import Region
from napari_sam.finding.compared_image import ComparedImage
from napari_sam.images.volume import Volume
from napari_sam.weights.detectors import DETECTORS
from napari_sam.word_search.box_finder import BoxFinder, BoxFinderPlan
from napari_sam.word_search.canvas import DrawnExemplars
from napari_sam.word_search.exemplar_finder import ExemplarFinder, ExemplarFinderPlan
from napari_sam.word_search.exemplars import Exemplars, checked_exemplars
from napari_sam.word_search.mask_ranker import MaskRanker, RankedFinder, RankedFinderPlan
from napari_sam.word_search.scored_objects import ScoredObjects
from napari_sam.word_search.shared_detector import SharedDetector
from napari_sam.word_search.steps import FindProgress, RunViews, find_on_tiles
from napari_sam.word_search.text_finder import TextFinder, TextFinderPlan
from napari_sam.word_search.views import View

if TYPE_CHECKING:
    from napari_sam.models.open_vocabulary.loading import KnowsWords

    Detector = str | Path | TextDetector | TextRanker
    Boxes = Exemplars | Sequence[Box | Sequence[float]]

# Threshold of a model that segments what words name.
USUAL_THRESHOLD = 0.5
NO_TEXT = "There is no text to look for: name the objects, for example nucleus."
ADVICE = f"use SAM 3, or one of {', '.join(DETECTORS)} as detector (napari-sam models says how)"


@dataclass(frozen=True, slots=True)
class _Search:
    """Where is searched, for what, and on how fine tiles."""

    plane: Plane
    region: Region
    text: str
    downsample: float
    threshold: float | None

    def tiles(self, grid: TileGrid) -> list[Tile]:
        """Return the tiles of the region, at the level nearest to the downsample factor."""
        level = grid.clamp(round(math.log2(self.downsample)))
        return [tile for tile in grid.tiles_over(level, self.region.box) if self.region.meets(tile)]

    def steps(
        self, tiles: Sequence[Tile], find: Callable[[Tile], list[View]], run: RunViews | None = None
    ) -> Iterator[FindProgress]:
        return find_on_tiles(self.plane, self.region, tiles, find, run)

    def threshold_or(self, usual: float) -> float:
        return usual if self.threshold is None else self.threshold


def _checked(downsample: float, threshold: float | None) -> tuple[float, float | None]:
    advice = "give a number above 0; 1 looks at the image as it is"
    factor = number(downsample, "The downsample", advice, above=0)
    if threshold is None:
        return factor, None
    return factor, number(threshold, "The threshold", "give a number from 0 to 1", least=0, most=1)


class WordSearchedImage(ComparedImage):
    """The part of `Segmenter` that finds objects by words and by exemplars.

    Attributes
    ----------
    predictor
        The loaded model.
    decoder
        The `RoundDecoder` that answers prompts.
    """

    predictor: Predictor
    decoder: RoundDecoder

    def __init__(self, volume: Volume, axes: Sequence[int] | None = None) -> None:
        super().__init__(volume, axes)
        self._detectors: dict[str, KnowsWords] = {}

    def find(
        self,
        text: str = "",
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        downsample: float = 1.0,
        threshold: float | None = None,
        detector: Detector | None = None,
        exemplars: Boxes | None = None,
    ) -> FoundObjects:
        """Find the objects that a short noun phrase names, or that look like examples.

        SAM 3 finds and segments them by itself. The boxes of OWLv2 and Grounding DINO are filled by the model of this
        `Segmenter`, and CLIP chooses among all objects that this model finds. Their weights are the user's own files.

        Parameters
        ----------
        text
            Short noun phrase, for example "nucleus". May be left out where there are exemplars.
        plane
            The plane; see `plane`.
        box
            (top, left, bottom, right), half-open: only objects whose innermost pixel lies in it. By default all.
        within
            The same by a `Mask`, or by a boolean array of the plane's shape.
        downsample
            Image pixels along each axis for one pixel of the model that finds, above 0; CLIP does not use it. SAM 3
            sees tiles of 1008 pixels, OWLv2 of 960 and Grounding DINO of 800, and finds objects best whose side is a
            twentieth to a half of that.
        threshold
            Minimum score, 0 to 1. By default 0.5; with OWLv2 0.2, and with Grounding DINO 0.35.
        detector
            "owlv2", "grounding-dino", "clip", the path of a checkpoint of one of them, or what `load_detector`
            returned. By default the model of this `Segmenter` finds the objects, which must be SAM 3.
        exemplars
            Boxes around objects like those that are searched, each (top, left, bottom, right), in the same plane; or
            `Exemplars`, which may lie in another image or be examples of what is not searched. For SAM 3 only.

        Returns
        -------
        FoundObjects
            Each object once, with its score; of an object seen from several tiles the view that is not cut.

        Raises
        ------
        ModelError
            The model takes no text or no examples, or the detector, its weights or its vocabulary cannot be used.
        PromptError
            There is neither text nor example, or the box, mask or an example lies outside the plane.
        ImageError
            There is no such plane, or it cannot be read.
        """
        *_, last = self.find_steps(
            text,
            plane=plane,
            box=box,
            within=within,
            downsample=downsample,
            threshold=threshold,
            detector=detector,
            exemplars=exemplars,
        )
        return last.found

    def find_steps(
        self,
        text: str = "",
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        downsample: float = 1.0,
        threshold: float | None = None,
        detector: Detector | None = None,
        exemplars: Boxes | None = None,
    ) -> Iterator[FindProgress]:
        """Find objects tile by tile; see `find` for parameters and errors.

        Yields
        ------
        FindProgress
            After every tile, with what was found so far. Close the iterator to stop.
        """
        if not isinstance(text, str) or not (text.strip() or exemplars is not None):
            raise PromptError(NO_TEXT)
        where = self.plane(plane)
        search = _Search(where, self._region(where, box, within), text, *_checked(downsample, threshold))
        if exemplars is not None:
            if detector is not None:
                raise PromptError("Examples are for SAM 3 and not for a detector: leave one of them out.")
            return self._by_exemplars(search, checked_exemplars(exemplars))
        if detector is None:
            return self._by_text(search)
        known = self._detector(detector)
        return self._by_boxes(search, known) if isinstance(known, TextDetector) else self._by_rank(search, known)

    def rank_by_words(
        self, found: FoundObjects, text: str, *, ranker: str | Path | TextRanker = "clip", multiply: bool = False
    ) -> FoundObjects:
        """Score found objects by how well a text describes them.

        Parameters
        ----------
        found
            What `everything` or another search of this image returned.
        text
            Short noun phrase, for example "nucleus".
        ranker
            "clip", the path of its weights, or what `load_detector` returned.
        multiply
            Whether the scores are multiplied with those of `found`. By default they replace them.

        Returns
        -------
        FoundObjects
            The same objects with other scores: above 0.5 the text describes the object better than "object", "things",
            "stuff" and "texture". `select` chooses these, or with `multiply` those above half of the former threshold.

        Raises
        ------
        ModelError
            CLIP, its weights or its vocabulary cannot be used.
        PromptError
            The text is empty.
        ImageError
            The image cannot be read.
        """
        if not (isinstance(text, str) and text.strip()):
            raise PromptError(NO_TEXT)
        known = self._detector(ranker)
        if not isinstance(known, TextRanker):
            raise ModelError(f"{known.name} finds boxes and ranks nothing: use clip.")
        proposals = found.proposals
        scores = MaskRanker(known, self.encoder, found.plane, text).scores(
            [proposals.box(i) for i in range(len(proposals))]
        )
        least = known.usual_threshold
        if multiply:
            scores, least = scores * found.scores, least * found.filters.confidence
        filters = FilterOptions(confidence=least, max_overlap=found.filters.max_overlap)
        return ScoredObjects(found, scores, filters)

    def _by_text(self, search: _Search) -> Iterator[FindProgress]:
        predictor = self.predictor
        if not (isinstance(predictor, TextPredictor) and predictor.finds_text):
            raise ModelError(f"The model {self.predictor.name} finds nothing by words: {ADVICE}.")
        finder = TextFinder(self.encoder, search.plane, search.text, search.threshold_or(USUAL_THRESHOLD))
        tiles = search.tiles(self.encoder.grid(search.plane))
        plan = partial(TextFinderPlan, plane=search.plane, text=search.text, threshold=finder.threshold)
        return search.steps(tiles, finder.find, self._on_workers(plan))

    def _by_exemplars(self, search: _Search, exemplars: Exemplars) -> Iterator[FindProgress]:
        predictor = self.predictor
        if not (isinstance(predictor, ExemplarPredictor) and predictor.finds_exemplars):
            raise ModelError(f"The model {self.predictor.name} finds nothing by examples: use SAM 3.")
        tiles, plane = search.tiles(self.encoder.grid(search.plane)), search.plane
        downsample = tiles[0].downsample if tiles else search.downsample
        drawn = DrawnExemplars.of(exemplars.checked(self.encoder, plane), self.encoder, plane, downsample)
        threshold = search.threshold_or(USUAL_THRESHOLD)
        finder = ExemplarFinder(self.encoder, plane, drawn, text=search.text, threshold=threshold)
        plan = partial(ExemplarFinderPlan, exemplars=drawn, plane=plane, text=search.text, threshold=threshold)
        return search.steps(tiles, finder.find, self._on_workers(plan))

    def _by_boxes(self, search: _Search, detector: TextDetector) -> Iterator[FindProgress]:
        threshold = search.threshold_or(detector.usual_threshold)
        finder = BoxFinder(detector, self.encoder, self.decoder, search.plane, search.text, threshold)
        run = self._on_workers(
            lambda image: BoxFinderPlan(image, SharedDetector.of(detector), search.plane, search.text, threshold)
        )
        return search.steps(search.tiles(finder.grid), finder.find, run)

    def _by_rank(self, search: _Search, ranker: TextRanker) -> Iterator[FindProgress]:
        sweep = self.sweep(plane=search.plane, box=search.region.box, within=search.region.mask)
        scorer = MaskRanker(ranker, self.encoder, search.plane, search.text)
        threshold = search.threshold_or(ranker.usual_threshold)
        finder = RankedFinder(sweep, scorer, threshold)
        run = self._on_workers(
            lambda image: RankedFinderPlan(
                ProposingPlan.of(image, sweep), SharedDetector.of(ranker), search.text, threshold
            )
        )
        return search.steps(sweep.tiles, finder.find, run)

    def _on_workers(self, plan: Callable[[SharedImage], Plan[Tile, list[View]]]) -> RunViews | None:
        """Return what finds the objects of tiles on the workers of the cluster, by a plan for the image; or None."""
        if self.cluster is None or (image := self.shared) is None:
            return None
        return self.cluster.runner(plan(image)).run

    def _detector(self, given: Detector) -> KnowsWords:
        """Return a loaded model that knows words; one that is named is loaded once."""
        if isinstance(given, (TextDetector, TextRanker)):
            return given
        if not isinstance(given, (str, Path)):
            raise ModelError(f"The detector cannot be {shown(given)}: use one of {', '.join(DETECTORS)}, or a path.")
        name = str(given)
        if name not in self._detectors:
            from napari_sam.models.open_vocabulary.loading import load_detector

            self._detectors[name] = load_detector(given)
        return self._detectors[name]
