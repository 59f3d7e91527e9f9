"""Text as a prompt: what a predictor that takes it offers, what it answers, and words as the network reads them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from napari_sam.core.predictor import Embedding
from napari_sam.errors import ModelError, PromptError
from napari_sam.weights.registry import REGISTRY

VOCABULARY = "tokenizer.json"
# One text is looked for on many tiles, and a vocabulary takes a while to read.
KEPT_TEXTS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The objects that a text names on one tile, the likeliest first.

    Parameters
    ----------
    logits
        Shape (n, side / 4, side / 4), float32; positive inside. Over the whole tile, padding included.
    scores
        Shape (n,), float32: how sure the model is of each, 0 to 1.
    boxes
        Shape (n, 4), float32: (top, left, bottom, right) in tile pixel edges.
    """

    logits: NDArray[np.float32]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]


@runtime_checkable
class TextPredictor(Protocol):
    """A predictor that also finds every object that a text names on an encoded tile.

    Attributes
    ----------
    finds_text
        Whether the loaded weights can do so.
    """

    finds_text: bool

    def find(self, embedding: Embedding, text: str, threshold: float = 0.5) -> Found:
        """Find the objects that a short noun phrase names, each with a score above the threshold."""
        ...


def vocabulary_of(name: str) -> Path:
    """Return where the vocabulary of a model is looked for: beside its weights."""
    entry = REGISTRY.get(name)
    return (entry.path if entry else Path(name)).with_name(VOCABULARY)


@lru_cache(KEPT_TEXTS)
def words(text: str, vocabulary: Path, *, most: int, known: int) -> tuple[int, ...]:
    """Turn a text into numbers of a vocabulary.

    Parameters
    ----------
    text
        A short noun phrase.
    vocabulary
        A tokenizer.json, as the tokenizers library writes it.
    most
        Longer texts are cut to so many numbers.
    known
        How many numbers the network knows.

    Raises
    ------
    PromptError
        The text is empty.
    ModelError
        The vocabulary is missing, damaged or another network's, or the library is missing.
    """
    if not text.strip():
        raise PromptError("There is no text to find: name the objects, as in 'yellow school bus'.")
    if not vocabulary.is_file():
        raise ModelError(
            f"Finding by text needs the vocabulary of the model: put {VOCABULARY}, from where you got the weights, "
            f"at {vocabulary}."
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError("Finding by text needs the library tokenizers: pip install tokenizers.") from error
    try:
        tokenizer = Tokenizer.from_file(str(vocabulary))
    except Exception as error:  # The library raises nothing narrower.
        raise ModelError(
            f"{vocabulary} is no complete vocabulary: get it again from where you got the weights."
        ) from error
    # What pads a text to a fixed length would be masked out again.
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    numbers = tuple(tokenizer.encode(text.strip()).ids)
    if not numbers or max(numbers) >= known:
        raise ModelError(f"{vocabulary} is not the vocabulary of these weights: put the one that came with them there.")
    return numbers
