"""Text as the network reads it: numbers of the vocabulary that comes with the weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from napari_sam.errors import ModelError, PromptError
from napari_sam.weights.registry import REGISTRY

VOCABULARY = "tokenizer.json"
# Tokenized texts in memory, since one text is used on many tiles and reading a vocabulary is slow.
KEPT_TEXTS = 64


def vocabulary_of(name: str) -> Path:
    """Return the path of a model's vocabulary: beside its weights."""
    entry = REGISTRY.get(name)
    return (entry.path if entry else Path(name)).with_name(VOCABULARY)


@lru_cache(KEPT_TEXTS)
def words(text: str, vocabulary: Path, *, most: int, known: int) -> tuple[int, ...]:
    """Convert a text to the token numbers of a vocabulary.

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
    except Exception as error:  # The library raises no narrower type.
        raise ModelError(
            f"{vocabulary} is not a complete vocabulary: get it again from where you got the weights."
        ) from error
    # What pads a text to a fixed length would be masked out again.
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    numbers = tuple(tokenizer.encode(text.strip()).ids)
    if not numbers or max(numbers) >= known:
        raise ModelError(f"{vocabulary} is not the vocabulary of these weights: put the one that came with them there.")
    return numbers
