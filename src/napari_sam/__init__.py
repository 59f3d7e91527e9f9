"""Segment Anything for images too large for memory: a napari plugin, a scripting API and a command."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_sam import former_names

if TYPE_CHECKING:
    from napari_sam.core.cleaning import Cleaning as Cleaning
    from napari_sam.core.geometry import Box as Box
    from napari_sam.core.geometry import Plane as Plane
    from napari_sam.core.masks import Mask as Mask
    from napari_sam.core.prompts import rasterize_polygon as rasterize_polygon
    from napari_sam.errors import NapariSamError as NapariSamError
    from napari_sam.everything.found import FoundObjects as FoundObjects
    from napari_sam.everything.options import FilterOptions as FilterOptions
    from napari_sam.everything.options import GridOptions as GridOptions
    from napari_sam.everything.similar import SimilarObjects as SimilarObjects
    from napari_sam.exports.opening import export_labels as export_labels
    from napari_sam.images.lazy.levels import LazyLevel as LazyLevel
    from napari_sam.images.volume import Volume as Volume
    from napari_sam.journal.journal import Journal as Journal
    from napari_sam.journal.packing.objects import NewObject as NewObject
    from napari_sam.labels.pyramid import LabelPyramid as LabelPyramid
    from napari_sam.segmenter import Candidates as Candidates
    from napari_sam.segmenter import Segmenter as Segmenter
    from napari_sam.similarity.query import Query as Query
    from napari_sam.tasks.find import find as find
    from napari_sam.tasks.import_objects import import_objects as import_objects
    from napari_sam.training.teaching.teach import teach as teach
    from napari_sam.word_search.exemplars import Exemplars as Exemplars

__version__ = "0.1.0"

_HOMES = {
    "Box": "core.geometry",
    "Plane": "core.geometry",
    "Mask": "core.masks",
    "rasterize_polygon": "core.prompts",
    "NapariSamError": "errors",
    "Candidates": "core.candidates",
    "Exemplars": "word_search.exemplars",
    "FilterOptions": "everything.options",
    "FoundObjects": "everything.found",
    "GridOptions": "everything.options",
    "Query": "similarity.query",
    "SimilarObjects": "everything.similar",
    "NewObject": "journal.packing.objects",
    "Cleaning": "core.cleaning",
    "Journal": "journal.journal",
    "Segmenter": "segmenter",
    "LabelPyramid": "labels.pyramid",
    "LazyLevel": "images.lazy.levels",
    "Volume": "images.volume",
    "export_labels": "exports.opening",
    "find": "tasks.find",
    "import_objects": "tasks.import_objects",
    "teach": "training.teaching.teach",
}

__all__ = [
    "Box",
    "Candidates",
    "Cleaning",
    "Exemplars",
    "FilterOptions",
    "FoundObjects",
    "GridOptions",
    "Journal",
    "LabelPyramid",
    "LazyLevel",
    "Mask",
    "NapariSamError",
    "NewObject",
    "Plane",
    "Query",
    "Segmenter",
    "SimilarObjects",
    "Volume",
    "__version__",
    "export_labels",
    "find",
    "import_objects",
    "rasterize_polygon",
    "teach",
]


former_names.install()


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that importing the package brings neither torch nor napari nor Qt."""
    if name in _HOMES:
        return getattr(import_module(f"napari_sam.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'napari_sam' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
