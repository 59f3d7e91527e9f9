"""Query: examples of objects and answers about others, by which similar ones are found; and its file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from napari_sam.errors import ModelError, PromptError, first_line
from napari_sam.files.outputs import check_output, replacing
from napari_sam.similarity.descriptors import SHAPES, DescriptorLayout
from napari_sam.similarity.likeness import usual_quality
from napari_sam.similarity.positional_bias import Bias

SUFFIX = ".sam"
FORMAT = "napari-sam query 1"
# Objects this many times smaller or larger than the examples are searched, too: with a margin of 1.7 for both, F1 of
# roofs was 0.05 lower on training images.
SMALLER, LARGER = 2.8, 2.4
# Below this diameter in pixels only objects up to so many times smaller are: magnified tiles take long.
SMALL, LITTLE_SMALLER = 10.0, 1.7
# A query of more objects would not be ranked by at once.
MOST = 10_000
LONGEST_NAME = 1000
# Largest logarithm to base 2 of the size of an object, in pixels: an image has fewer.
MOST_SIZE = 40
# Names of the arrays of the bias begin so; the stride follows.
BIAS = "bias "


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Examples of one or several kinds, and answers about objects that were proposed.

    Parameters
    ----------
    model, model_name
        The digest of the model that described the objects, and its name.
    layout
        The layout of the descriptors.
    classes
        Names of the kinds; a single kind may be unnamed ("").
    descriptors
        Shape (k, width), float16; see `DescriptorLayout`.
    quality
        Shape (k, m), float32; see `quality_of`.
    kinds
        Shape (k,), int64: the number of the class of each object.
    is_accepted, is_answer
        Shape (k,), bool: whether an object is of its class, or was rejected; and whether it was proposed and answered,
        or given as an example.
    bias
        The positional bias of the model, where its features are compared as they are; see `positional_bias`.
    """

    model: str
    model_name: str
    layout: DescriptorLayout
    classes: tuple[str, ...]
    descriptors: NDArray[np.float16]
    quality: NDArray[np.float32]
    kinds: NDArray[np.int64]
    is_accepted: NDArray[np.bool_]
    is_answer: NDArray[np.bool_]
    bias: Bias = field(default_factory=dict)

    @classmethod
    def of_examples(
        cls,
        model: str,
        model_name: str,
        layout: DescriptorLayout,
        descriptors: NDArray[np.float16],
        class_name: str,
        bias: Bias | None = None,
    ) -> Self:
        """Return examples of one class that were not proposed, and so count as well outlined as most objects are."""
        count = len(descriptors)
        quality = np.repeat(usual_quality()[None], count, axis=0)
        kinds, is_example = np.zeros(count, np.int64), np.ones(count, bool)
        return cls(
            model, model_name, layout, (class_name,), descriptors, quality, kinds, is_example, ~is_example, bias or {}
        )

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def sizes(self) -> tuple[float, float]:
        """(smallest, largest) diameter of objects that can be like the examples, in pixels of the finer axis."""
        shapes = self.descriptors[:, self.layout.slices["shape"]].astype(np.float64)
        examples = shapes[self.is_accepted & ~self.is_answer, SHAPES.index("size")]
        diameters = 2 * 2.0**examples / math.sqrt(math.pi)
        least = float(diameters.min())
        return max(least / SMALLER, min(least / LITTLE_SMALLER, SMALL)), float(diameters.max()) * LARGER

    def with_objects(
        self,
        descriptors: NDArray[np.float16],
        quality: NDArray[np.float32],
        classes: Sequence[str],
        *,
        is_accepted: Sequence[bool] | NDArray[np.bool_],
        is_answer: bool = True,
    ) -> Self:
        """Return the query with more objects.

        Parameters
        ----------
        descriptors, quality
            As those of the query.
        classes
            The name of the class of each object.
        is_accepted
            Whether each is of its class.
        is_answer
            Whether they were proposed and answered, or are examples.
        """
        names = tuple(dict.fromkeys([*self.classes, *classes]))
        return replace(
            self,
            classes=names,
            descriptors=np.concatenate([self.descriptors, descriptors.astype(np.float16)]),
            quality=np.concatenate([self.quality, quality.astype(np.float32)]),
            kinds=np.concatenate([self.kinds, np.array([names.index(name) for name in classes], np.int64)]),
            is_accepted=np.concatenate([self.is_accepted, np.asarray(is_accepted, bool)]),
            is_answer=np.concatenate([self.is_answer, np.full(len(classes), is_answer)]),
        )

    def joined(self, other: Query) -> Self:
        """Return the objects of two queries as one.

        Raises
        ------
        ModelError
            Another model described the objects of the other one.
        """
        other.check_model(self.model, self.model_name)
        names = tuple(dict.fromkeys([*self.classes, *other.classes]))
        numbers = np.array([names.index(name) for name in other.classes], np.int64)
        return replace(
            self,
            classes=names,
            descriptors=np.concatenate([self.descriptors, other.descriptors]),
            quality=np.concatenate([self.quality, other.quality]),
            kinds=np.concatenate([self.kinds, numbers[other.kinds]]),
            is_accepted=np.concatenate([self.is_accepted, other.is_accepted]),
            is_answer=np.concatenate([self.is_answer, other.is_answer]),
        )

    def check_model(self, digest: str, name: str) -> None:
        """Check that the query can be compared with what a model describes.

        Raises
        ------
        ModelError
            It was made with another model.
        """
        if self.model != digest:
            raise ModelError(
                f"The examples were described by the model {self.model_name} and cannot be compared with what {name} "
                f"sees: choose the model {self.model_name}, or select the examples again."
            )

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the query to a file.

        Parameters
        ----------
        path
            The file, whose name ends with .sam.
        overwrite
            Whether a file of this name is replaced.

        Raises
        ------
        OutputError
            The name ends otherwise, the file exists, or it cannot be written; nothing has changed.
        """
        path = Path(path)
        check_output(path, (SUFFIX,), overwrite)
        described = {
            "model": self.model,
            "model_name": self.model_name,
            "classes": list(self.classes),
            "maps": [list(each) for each in self.layout.maps],
            "widths": dict(self.layout.widths),
        }
        arrays: dict[str, NDArray[Any]] = {
            "descriptors": self.descriptors,
            "quality": self.quality,
            "kinds": self.kinds,
            "is_accepted": self.is_accepted.astype(np.uint8),
            "is_answer": self.is_answer.astype(np.uint8),
            **{f"{BIAS}{stride}": np.ascontiguousarray(directions) for stride, directions in self.bias.items()},
        }
        content = save(arrays, {"format": FORMAT, "query": json.dumps(described)})
        with replacing(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a query from a file; nothing in it is executed.

        Raises
        ------
        PromptError
            The file is missing, damaged, or no query.
        """
        path = Path(path)
        if not path.is_file():
            raise PromptError(f"There is no file {path}: give a query that was saved before, such as nuclei{SUFFIX}.")
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError("another format")
                described = json.loads(metadata["query"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return cls._checked(described, arrays)
        except (OSError, SafetensorError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise PromptError(
                f"{path} is no query that napari-sam saved, or it is damaged ({first_line(error)}): save it again."
            ) from error

    @classmethod
    def _checked(cls, described: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Return a query from the content of a file.

        Raises
        ------
        ValueError, TypeError, LookupError
            The parts do not fit together.
        """
        maps = tuple((int(channels), int(stride)) for channels, stride in described["maps"])
        layout = DescriptorLayout.of_maps(maps)
        classes = tuple(str(name)[:LONGEST_NAME] for name in described["classes"])
        query = cls(
            str(described["model"]),
            str(described["model_name"])[:LONGEST_NAME],
            layout,
            classes,
            np.asarray(arrays["descriptors"], np.float16),
            np.asarray(arrays["quality"], np.float32),
            np.asarray(arrays["kinds"], np.int64),
            np.asarray(arrays["is_accepted"]) != 0,
            np.asarray(arrays["is_answer"]) != 0,
            {
                int(name[len(BIAS) :]): np.asarray(array, np.float32)
                for name, array in arrays.items()
                if name.startswith(BIAS)
            },
        )
        count = len(query)
        # As a list: the order of the groups counts.
        if list(layout.widths.items()) != list(described["widths"].items()):
            raise ValueError("the layout is unknown")
        if not 0 < count <= MOST or query.descriptors.shape != (count, layout.width):
            raise ValueError("the objects have other values")
        if query.quality.shape != (count, len(usual_quality())):
            raise ValueError("the objects have other values")
        if any(array.shape != (count,) for array in (query.kinds, query.is_accepted, query.is_answer)):
            raise ValueError("the numbers of objects differ")
        if not (np.isfinite(query.descriptors).all() and np.isfinite(query.quality).all()):
            raise ValueError("some values are no numbers")
        _check_classes(classes)
        _check_sizes(query.descriptors, layout)
        _check_bias(query.bias, layout)
        if query.kinds.min() < 0 or query.kinds.max() >= len(classes):
            raise ValueError("there is no such class")
        if not (query.is_accepted & ~query.is_answer).any():
            raise ValueError("there is no example")
        return query


def _check_classes(classes: Sequence[str]) -> None:
    """Raise a ValueError for names that labels would refuse once the objects are accepted."""
    "".join(classes).encode()  # Which fails for half characters.
    if any(name != "" and not name.strip() for name in classes):
        raise ValueError("the name of a class is none")


def _check_sizes(descriptors: NDArray[np.float16], layout: DescriptorLayout) -> None:
    """Raise a ValueError for objects of impossible sizes, by which nothing could be searched."""
    sizes = descriptors[:, layout.slices["shape"]][:, SHAPES.index("size")]
    if np.abs(sizes).max() > MOST_SIZE:
        raise ValueError("no object is so large or small")


def _check_bias(bias: Bias, layout: DescriptorLayout) -> None:
    """Raise a ValueError where a bias does not fit a layout; a KeyError for a stride that it lacks."""
    channels = {stride: count for count, stride in layout.maps}
    for stride, array in bias.items():
        if array.ndim != 2 or len(array) != channels[stride] or not np.isfinite(array).all():
            raise ValueError("the bias does not fit the layout")
