"""Figures of a search by example: F1 after numbers of answers, on another image, and of what is beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from napari_sam.evaluation.instances import InstanceMatch, f1_score
from napari_sam.evaluation.metrics import mean_of, rounded_or_none

# Numbers of answers after which F1 is measured.
ANSWERS = (0, 5, 10, 20)
BESIDE = ("other_image", "nearest_color", "everything")
# The keys that are agreed with those who read the tables.
KEYS = {"other_image": "other_image_f1_50", "nearest_color": "nearest_colour_f1_50", "everything": "everything_f1_50"}


@dataclass(frozen=True, slots=True, eq=False)
class FindingResult:
    """What one example has found.

    Parameters
    ----------
    by_answers
        Matches with the rest of the plane after each number of `ANSWERS`.
    nearest_color, everything
        Matches of the baseline, and of what is found without the example.
    other_image
        Matches with all objects of a plane of another image, without answers; None without another one.
    """

    by_answers: Sequence[InstanceMatch]
    nearest_color: InstanceMatch
    everything: InstanceMatch
    other_image: InstanceMatch | None


@dataclass
class SubsetResults:
    """Results of the examples of one data set.

    Parameters
    ----------
    images
        Number of images.
    examples
        What each example has found.
    """

    images: int = 0
    examples: list[FindingResult] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the figures of the data set."""
        beside = {
            KEYS[name]: _f1([match for each in self.examples if (match := getattr(each, name)) is not None])
            for name in BESIDE
        }
        after = [_f1([each.by_answers[at] for each in self.examples]) for at in range(len(ANSWERS))]
        return {
            "images": self.images,
            "examples": len(self.examples),
            "f1_50": {str(count): value for count, value in zip(ANSWERS, after, strict=True)},
            **beside,
        }


@dataclass
class FindingEvaluation:
    """Results of a model on a manifest, growing image by image."""

    model: str
    results: dict[str, SubsetResults] = field(default_factory=lambda: defaultdict(SubsetResults))

    @property
    def examples(self) -> int:
        """Number of examples."""
        return sum(len(results.examples) for results in self.results.values())

    def table(self) -> dict[str, Any]:
        """Return the figures of each subset, and their mean, as plain data that JSON can hold.

        Figures that are not defined are None, and left out of the mean.
        """
        subsets = {name: results.row() for name, results in sorted(self.results.items()) if results.examples}
        rows = list(subsets.values())
        mean = {
            **{key: sum(row[key] for row in rows) for key in ("images", "examples")},
            "f1_50": {str(count): mean_of([row["f1_50"][str(count)] for row in rows]) for count in ANSWERS},
            **{key: mean_of([row[key] for row in rows]) for key in KEYS.values()},
        }
        return {"model": self.model, "subsets": subsets, "mean": mean}


def _f1(matches: Sequence[InstanceMatch]) -> float | None:
    return rounded_or_none(f1_score(matches))
