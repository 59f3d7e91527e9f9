"""WantedObjects: what a search looks for: anything, or what is like examples, with what was learned about them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from psygnal import Signal

from napari_sam.core.predictor import TextPredictor
from napari_sam.errors import NapariSamError, PromptError
from napari_sam.everything.options import FilterOptions
from napari_sam.everything.similar import LIKENESS
from napari_sam.plugin.proposals.found_planes import QueryMaker, SimilarPlanes
from napari_sam.plugin.view import world
from napari_sam.similarity.query import Query
from napari_sam.tasks.examples import described_examples
from napari_sam.weights.availability import ModelState, detector_states
from napari_sam.weights.detectors import RANKER
from napari_sam.weights.registry import REGISTRY
from napari_sam.word_search.scored_objects import ScoredObjects

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask
    from napari_sam.journal.objects import LabelledObject, Part
    from napari_sam.plugin.inference.jobs import Jobs
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.proposals.found_planes import FoundPlanes
    from napari_sam.plugin.proposals.search import ProposalSearch
    from napari_sam.plugin.proposals.selection import ProposalSelection
    from napari_sam.plugin.session import Session
    from napari_sam.segmenter import Segmenter

# Anything, what is like selected objects, what is like those of the last search by examples or of a file, or what words
# name.
Like = Literal["anything", "selected", "learned", "words"]

NO_WORDS = "Words need SAM 3 (at Model), owlv2, grounding-dino or clip: none is here yet."
NO_TEXT = "Type what to find in a word or two first, such as nucleus."
# The files of models that know words are looked for no more often than this: the row asks at every change.
LOOK_SECONDS = 2.0
SELECT_FIRST = "Select one or a few objects in the table first: what is like them is found."


@dataclass(frozen=True, slots=True)
class WordFinder:
    """A model that may find what words name.

    Parameters
    ----------
    name
        What users call it.
    detector
        Its name, or the path of its file, for `Segmenter.find`; None for the model in use.
    needs
        What must be done before it can be used; empty where it can.
    """

    name: str
    detector: str | None
    needs: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """An object that others are to be like.

    Parameters
    ----------
    plane
        Its plane.
    mask
        Reads its mask; safe in any thread.
    class_name
        Its class, or None.
    """

    plane: Plane
    mask: Callable[[], Mask]
    class_name: str | None


class WantedObjects:
    """Holds what the next search looks for, and ranks what was found already by it.

    Parameters
    ----------
    session
        The image and the view.
    jobs
        Makes the segmenter.
    objects
        The objects of the output.
    selection, search
        The proposals, and the search for them.

    Attributes
    ----------
    changed
        Emitted when anything here changed.
    search_wanted
        Emitted when there is nothing to rank yet.
    like
        What is looked for.
    examples
        The objects that are selected now.
    query
        What was learned last, or comes from a file; None before.
    name
        Says in a word or two what `query` is.
    words, detector
        The words that name what is looked for, and the model that knows them: its name or the path of its file, or
        None for the model in use.
    """

    changed = Signal()
    search_wanted = Signal()

    def __init__(
        self, session: Session, jobs: Jobs, objects: Objects, selection: ProposalSelection, search: ProposalSearch
    ) -> None:
        self.like: Like = "anything"
        self.examples: list[Example] = []
        self.query: Query | None = None
        self.name = self.words = ""
        self.detector: str | None = None
        self._loaded: Query | None = None
        # When the files of models that know words were looked for, and what was there.
        self._looked: tuple[float, list[ModelState]] | None = None
        self._session, self._jobs, self._objects = session, jobs, objects
        self._selection, self._search = selection, search
        # The least scores that were used last for each kind of search; one by words has its own threshold.
        self._limits = {"anything": FilterOptions().confidence, "similar": LIKENESS, "words": 0.0}
        self._scored = "anything"

    # -- choosing what is wanted ---------------------------------------------------------------------------------------

    def set_like(self, like: Like) -> None:
        """Look for something else; what was found already is ranked by it at once."""
        self._loaded = None
        self.learn()
        self.like = like
        self._looked = None  # Whoever chooses anew may have put a file there.
        if like != "words":
            self._rank()
        self.changed.emit()

    def set_words(self, words: str) -> None:
        """Look for what words name, in the next search."""
        self.learn()
        self.like, self.words = "words", words.strip()
        self.changed.emit()

    def set_detector(self, detector: str | None) -> None:
        """Choose the model that knows the words; None for the model in use."""
        self.detector = detector
        self.changed.emit()

    @property
    def word_finders(self) -> list[WordFinder]:
        """The models that could find what words name: the one in use if it reads, those by hand, and a chosen file."""
        finders = [WordFinder("the model in use", None)] if self._model_reads else []
        try:
            states = self._detector_states()
        except NapariSamError as error:
            return [*finders, WordFinder(str(error), "", str(error))]
        finders += [
            WordFinder(state.name, state.name, "" if state.is_ready else f"To use {state.name}, {state.by_hand}.")
            for state in states
        ]
        known = {finder.detector for finder in finders}
        if self.detector is not None and self.detector not in known:
            finders.append(WordFinder(Path(self.detector).name, self.detector))
        return finders

    @property
    def word_finder(self) -> WordFinder | None:
        """The model that knows the words: the chosen one, or else the first that can be used; None without any."""
        ready = [finder for finder in self.word_finders if not finder.needs]
        return next((finder for finder in ready if finder.detector == self.detector), ready[0] if ready else None)

    def _detector_states(self) -> list[ModelState]:
        """Return the models that know words, of whose files nobody looks more often than is worth it."""
        now = time.monotonic()
        if self._looked is None or now - self._looked[0] >= LOOK_SECONDS:
            self._looked = now, detector_states()
        return self._looked[1]

    @property
    def _model_reads(self) -> bool:
        """Whether the model in use finds what words name; a file that is not loaded yet may, and says so if not."""
        image = self._session.image
        segmenter = None if image is None else self._jobs.segmenter_of(image)
        if segmenter is None:
            entry = REGISTRY.get(self._session.model)
            return Path(self._session.model).suffix != "" if entry is None else entry.family == "sam3"
        predictor = segmenter.predictor
        return isinstance(predictor, TextPredictor) and predictor.finds_text

    def leave_image(self) -> None:
        """Forget the objects of an image; what was learned by them is looked for in the next one."""
        self.examples = []
        if self.like == "selected" and self.query is not None:
            self.like = "learned"

    def select(self, objects: Sequence[LabelledObject]) -> None:
        """Take objects of the output as examples, each in the plane in view if it is there."""
        plane = self._session.plane
        self.examples = []
        for found in objects:
            part = next((part for part in found.parts if part.plane == plane), found.parts[-1])
            name = None if found.label_class is None else found.label_class.name
            self.examples.append(Example(part.plane, partial(_mask_of, part), name))

    def find_similar(self, objects: Sequence[LabelledObject]) -> None:
        """Find what is like objects of the output: among what was found in the plane in view, or by a search."""
        self.select(objects)
        self._find_like_examples()

    def find_similar_to_pointed(self) -> None:
        """Find what is like the proposal or the object under the cursor."""
        session, image, plane = self._session, self._session.image, self._session.plane
        if image is None or plane is None:
            return
        position, found, number = session.viewer.cursor.position, self._selection.found, None
        if found is not None and session.task == "all":
            at = world.to_data(session.viewer, image, position)[list(plane.axes)]
            number = self._selection.at(plane, float(at[0]), float(at[1]))
        if found is not None and number is not None:
            mask = found.mask(number)
            self.examples = [Example(plane, lambda: mask, session.class_name)]
            self._find_like_examples()
        elif (labelled := self._labelled_at(position)) is not None:
            self.find_similar([labelled])
        else:
            session.set_status("There is no object under the mouse: point at one.")

    def maker(self) -> QueryMaker | None:
        """Return what makes the query of a search in the worker; None where there are no examples.

        Raises
        ------
        PromptError
            No object is selected, or the words or a model that knows them are missing.
        """
        if self.like == "words" and self.word_finder is None:
            raise PromptError(NO_WORDS)
        if self.like == "words" and not self.words:
            raise PromptError(NO_TEXT)
        if self.like in ("anything", "words"):
            return None
        if self.like == "learned" and self.query is not None:
            query = self.query
            return lambda segmenter, _: segmenter.checked_query(query)
        examples = tuple(self.examples)
        if not examples:
            raise PromptError(SELECT_FIRST)
        return lambda segmenter, found: _described(segmenter, examples, found)

    def adjust(self, found: FoundPlanes) -> None:
        """Set the filters to what suits new scores: a likeness of the sizes of the examples, or a confidence."""
        selection = self._selection
        scored = "similar" if isinstance(found, SimilarPlanes) else "words" if self.like == "words" else "anything"
        if found.parts and isinstance(ranked := found.parts[0], ScoredObjects):
            scored = "ranked by words"
            self._limits.setdefault(scored, ranked.filters.confidence)
        self._limits[self._scored] = selection.options.confidence
        self._scored = scored
        sizes = found.query.sizes if isinstance(found, SimilarPlanes) else selection.options.sizes
        selection.options = replace(selection.options, confidence=self._limits[scored], sizes=sizes)

    # -- what was learned ----------------------------------------------------------------------------------------------

    @property
    def can_save(self) -> bool:
        """Whether something was learned that can be saved."""
        return self.query is not None or self._selection.similar is not None

    def learn(self) -> None:
        """Remember what was learned from the answers about the proposals, which may be dropped next."""
        similar = self._selection.similar
        # A file that was chosen and cannot be used for these proposals stays what is wanted.
        if similar is not None and self._loaded in (None, similar.query):
            self._loaded = None
            self.query = self._selection.learned
            assert self.query is not None
            examples, answers = int((~self.query.is_answer).sum()), int(self.query.is_answer.sum())
            self.name = f"{_count(examples, 'example')}, {_count(answers, 'answer')}"

    def save(self, path: Path, *, overwrite: bool = False) -> None:
        """Save what was learned to a file, by which other images can be searched."""
        session = self._session
        self.learn()
        if self.query is None:
            session.notify("Nothing was learned yet: find what is like selected objects first.")
            return
        try:
            self.query.save(path, overwrite=overwrite)
        except NapariSamError as error:
            session.notify(str(error))
            return
        session.set_status(f"Saved in {path.name}. Choose it at Like in another image.")
        self.changed.emit()

    def load(self, path: Path) -> None:
        """Look for what a file was saved for."""
        try:
            self.query = self._loaded = Query.load(path)
        except NapariSamError as error:
            self._session.notify(str(error))
        else:
            self.name, self.like = path.name, "learned"
            self._rank()
        self.changed.emit()

    # -- looking for it ------------------------------------------------------------------------------------------------

    def _labelled_at(self, position: Sequence[float]) -> LabelledObject | None:
        """Return the object of the output at a position of the viewer."""
        target = self._session.target
        if target is None:
            return None
        value = target.get_value(position, world=True)
        label = value[-1] if isinstance(value, tuple) else value  # With its level, where there are several.
        return None if label is None else self._objects.get(int(label))

    def _find_like_examples(self) -> None:
        self.like = "selected"
        self._session.set_task("all")
        found, plane = self._selection.found, self._session.plane
        if found is None or plane is None or found.on(plane) is None or self._search.is_running:
            self.search_wanted.emit()
        else:
            self._rank()
        self.changed.emit()

    def rank_by_words(self) -> bool:
        """Rank what was found in the plane in view by the words, if their model ranks; return whether that is so.

        What words have found is not ranked by others: it is not all that is there.
        """
        found, plane, finder = self._selection.found, self._session.plane, self.word_finder
        if self.like != "words" or not self.words or finder is None or finder.detector != RANKER:
            return False
        if found is None or plane is None or found.on(plane) is None:
            return False
        if self._search.is_running or self._scored == "words":
            return False
        self._rank()
        return True

    def _rank(self) -> None:
        """Rank what was found by what is wanted now, unless a search goes on or nothing is wanted yet."""
        found, image = self._selection.found, self._session.image
        if found is None or image is None or self._search.is_running:
            return
        try:
            wanted, build = self.maker(), self._jobs.builder(image, self._session.channels)
        except NapariSamError as error:
            self._session.set_status(str(error))
            return
        self._search.rank(build, found, wanted, self.words if self.like == "words" else None)


def _mask_of(part: Part) -> Mask:
    return part.accepted.mask.tightened()


def _described(segmenter: Segmenter, examples: Sequence[Example], found: FoundPlanes | None) -> Query:
    """Describe examples; those that are among what was found need not be encoded."""
    given = [(example.plane, example.mask(), example.class_name) for example in examples]
    return described_examples(segmenter, given, lambda plane: None if found is None else found.on(plane))


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
