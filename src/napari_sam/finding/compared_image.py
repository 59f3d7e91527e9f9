"""ComparedImage: find the objects of an image that are like given ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_sam.arguments import each, shown
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask, mask_of
from napari_sam.core.predictor import FeaturePredictor
from napari_sam.core.prompt_checks import checked_mask
from napari_sam.errors import LabelsError, ModelError, PromptError
from napari_sam.everything.describing import describe_objects
from napari_sam.everything.found import FoundObjects
from napari_sam.everything.options import GridOptions
from napari_sam.everything.similar import SimilarObjects
from napari_sam.everything.sweep import EverythingProgress, propose_all
from napari_sam.finding.searched_image import SearchedImage
from napari_sam.labels.regions import label_number
from napari_sam.similarity.descriptors import DescriptorLayout
from napari_sam.similarity.metric import KindMetric
from napari_sam.similarity.positional_bias import positional_bias
from napari_sam.similarity.query import Query

# The positional bias of each model, by its digest: finding it takes as long as encoding a tile.
_BIASES: dict[str, dict[int, npt.NDArray[np.float32]]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class SimilarProgress(EverythingProgress):
    """Progress of a search for objects that are like examples.

    Parameters
    ----------
    query
        The examples.
    """

    query: Query

    @property
    def found(self) -> SimilarObjects:
        """What was found so far."""
        return SimilarObjects(self.plane, self.proposals, self.query)


class ComparedImage(SearchedImage):
    """The part of `Segmenter` that finds objects by examples."""

    def examples(
        self,
        objects: int | Mask | npt.ArrayLike | Sequence[int | Mask],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        class_name: str | None = None,
        found: FoundObjects | None = None,
    ) -> Query:
        """Describe objects, to find similar ones in this or in another image.

        Parameters
        ----------
        objects
            Labels of objects that were accepted, or masks: `Mask`, or a boolean array of the plane's shape.
        plane
            Plane of the objects; see `plane`. By default that where each label was accepted last and, for masks, that
            of the last call of `segment`.
        class_name
            Name of their kind. By default the class of each label that has one in the journal.
        found
            What `everything` has found in the plane: for objects that are among it nothing is encoded.

        Returns
        -------
        Query
            The examples. `joined` puts several kinds together, `save` writes them to a file.

        Raises
        ------
        LabelsError
            There is no such object.
        PromptError
            There is no object, or a mask is empty or lies outside the plane.
        ModelError
            The features of the model cannot be compared.
        ImageError
            There is no such plane, or it cannot be read.
        """
        queries = self.examples_apart(objects, plane=plane, class_name=class_name, found=found)
        return reduce(Query.joined, queries)

    def examples_apart(
        self,
        objects: int | Mask | npt.ArrayLike | Sequence[int | Mask],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        class_name: str | None = None,
        found: FoundObjects | None = None,
    ) -> list[Query]:
        """Describe objects, each as a query of its own; see `examples` for parameters and errors.

        A tile with several of them is encoded once.

        Returns
        -------
        list of Query
            One for each object.
        """
        layout = self._layout()
        given = self._given(objects, plane)
        if not given:
            raise PromptError("There is no example: give the label or the mask of at least one object.")
        by_plane: dict[Plane, list[int]] = {}
        for at, (where, _, _) in enumerate(given):
            by_plane.setdefault(where, []).append(at)
        described: dict[int, npt.NDArray[np.float16]] = {}
        for where, numbers in by_plane.items():
            masks = [given[at][1] for at in numbers]
            of_plane = found if found is not None and found.plane == where else None
            sweep = self.sweep(plane=where, sizes=(1.0, float(max(where.shape_in(self.shape)) + 1)))
            values, of = describe_objects(self.encoder, sweep, masks, of_plane)
            described |= {at: values[of == number] for number, at in enumerate(numbers)}
        digest, model = self.encoder.predictor.digest, self.encoder.predictor.name
        bias = {} if KindMetric.fitted(layout) is not None else self._bias()
        return [
            Query.of_examples(digest, model, layout, described[at], class_name or name or "", bias)
            for at, (_, _, name) in enumerate(given)
        ]

    def find_similar(
        self,
        query: Query | str | Path | int | Sequence[int],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        sizes: Sequence[float] | None = None,
        grid: GridOptions | None = None,
        found: FoundObjects | None = None,
    ) -> SimilarObjects:
        """Find the objects of a plane that are like examples.

        Objects are proposed as by `everything`, at sizes around those of the examples, and ranked by how like the
        examples they are. `SimilarObjects.answer` accepts or rejects one of them, which ranks the others anew;
        `accept_found` writes them into the labels.

        Parameters
        ----------
        query
            What `examples` or `SimilarObjects.learned` returned, the file of a query, or the labels of objects.
        plane
            The plane; see `plane`.
        box, within, grid
            As in `everything`.
        sizes
            (smallest, largest) diameter of the objects, in pixels along the finer axis. By default those of the
            examples, with a margin.
        found
            What `everything` has found in the plane: it is ranked, and nothing is encoded.

        Returns
        -------
        SimilarObjects
            The proposals, with likenesses as scores.

        Raises
        ------
        PromptError
            The file is no query, or the box, mask or sizes are wrong, as in `everything`.
        ModelError
            The examples were described by another model.
        LabelsError
            There is no such object.
        ImageError
            There is no such plane, or it cannot be read.
        """
        checked = self.checked_query(query, found)
        if found is not None:
            return SimilarObjects.of(found, checked)
        *_, last = self.find_similar_steps(checked, plane=plane, box=box, within=within, sizes=sizes, grid=grid)
        return last.found

    def find_similar_steps(
        self,
        query: Query | str | Path | int | Sequence[int],
        *,
        plane: Plane | int | Sequence[int] | None = None,
        box: Box | Sequence[float] | None = None,
        within: Mask | npt.ArrayLike | None = None,
        sizes: Sequence[float] | None = None,
        grid: GridOptions | None = None,
        first: Box | None = None,
    ) -> Iterator[SimilarProgress]:
        """Find similar objects tile by tile; see `find_similar` and `everything_steps` for parameters and errors.

        Yields
        ------
        SimilarProgress
            After every tile, with what was found so far. Close the iterator to stop.
        """
        checked = self.checked_query(query)
        where = self.plane(plane)
        sweep = self.sweep(plane=where, box=box, within=within, sizes=sizes or checked.sizes, grid=grid, first=first)
        for now in propose_all(where, sweep, self.run_on_cluster(sweep)):
            yield SimilarProgress(now.total, now.done, now.plane, now.parts, checked, numbers=now.numbers)

    def checked_query(self, query: Any, found: FoundObjects | None = None) -> Query:
        """Return a query that was given as one, as its file, or as the labels of objects.

        Raises
        ------
        PromptError, ModelError, LabelsError
            As in `find_similar`.
        """
        if isinstance(query, (str, Path)):
            query = Query.load(query)
        if not isinstance(query, Query):
            return self.examples(query, found=found)
        predictor = self.encoder.predictor
        query.check_model(predictor.digest, predictor.name)
        return query

    def _bias(self) -> dict[int, npt.NDArray[np.float32]]:
        """Return the positional bias of the model; a tile is encoded for it once."""
        predictor = self.encoder.predictor
        assert isinstance(predictor, FeaturePredictor)
        if predictor.digest not in _BIASES:
            _BIASES[predictor.digest] = positional_bias(predictor)
        return _BIASES[predictor.digest]

    def _layout(self) -> DescriptorLayout:
        predictor = self.encoder.predictor
        if not isinstance(predictor, FeaturePredictor):
            raise ModelError(f"Objects cannot be compared by what the model {predictor.name} sees: use another model.")
        return DescriptorLayout.of(predictor)

    def _given(self, objects: Any, plane: Any) -> list[tuple[Plane, Mask, str | None]]:
        """Return the plane, the mask and the name of the class of each example."""
        if isinstance(objects, Mask) or np.ndim(objects) == 2 or np.ndim(objects) == 0:
            objects = [objects]
        return each(objects, "The examples", "a list of labels or masks", lambda one: self._example(one, plane))

    def _example(self, given: Any, plane: Any) -> tuple[Plane, Mask, str | None]:
        if isinstance(given, Mask) or np.ndim(given) == 2:
            where = self._plane_or_last(plane)
            mask = checked_mask(given, where.shape_in(self.shape))
            assert mask is not None
            return where, mask.tightened(), None
        label = label_number(given)
        if self.journal is not None:
            known = self.journal.object(label)
            part = known.part(self.plane(plane)) if plane is not None else known.parts[-1]
            if part is None:
                raise LabelsError(f"Object {label} is not in that plane: name one of its planes, or none.")
            name = None if known.label_class is None else known.label_class.name
            return part.plane, part.accepted.mask.tightened(), name
        where = self._plane_or_last(plane)
        mask = mask_of(self._store().read(where, Box.of_shape(where.shape_in(self.shape))) == label)
        if not mask.area:
            raise LabelsError(f"There is no object {shown(label)} in the plane {where.index}: give the label of one.")
        return where, mask, None
