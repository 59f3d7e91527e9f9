"""Text as the network reads it: numbers of the vocabulary that comes with the weights."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_sam.errors import ModelError, PromptError
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.registry import REGISTRY

VOCABULARY = "tokenizer.json"
# What older publications have in its place: the one of CLIP, and the one of BERT.
PAIRS, PIECES = ("vocab.json", "merges.txt"), "vocab.txt"
# Tokenized texts in memory, since one text is used on many tiles and reading a vocabulary is slow.
KEPT_TEXTS = 64


def vocabulary_of(name: str) -> Path:
    """Return the path of a model's vocabulary: beside its weights."""
    entry = REGISTRY.get(name) or DETECTORS.get(name)
    return (entry.path if entry else Path(name)).with_name(VOCABULARY)


@lru_cache(KEPT_TEXTS)
def words(text: str, vocabulary: Path, *, most: int, known: int) -> tuple[int, ...]:
    """Convert a text to the token numbers of a vocabulary.

    Parameters
    ----------
    text
        A short noun phrase.
    vocabulary
        A tokenizer.json, as the tokenizers library writes it. Where it is missing, vocab.json with merges.txt (CLIP) or
        vocab.txt (BERT) in its folder count.
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
    tokenizer = _tokenizer(vocabulary)
    # What pads a text to a fixed length would be masked out again.
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    numbers = tuple(tokenizer.encode(text.strip()).ids)
    if not numbers or max(numbers) >= known:
        raise ModelError(f"{vocabulary} is not the vocabulary of these weights: put the one that came with them there.")
    return numbers


def _tokenizer(vocabulary: Path) -> Any:
    """Load a vocabulary with the tokenizers library.

    Raises
    ------
    ModelError
        It is missing or damaged, or the library is missing.
    """
    pairs, pieces = [vocabulary.with_name(name) for name in PAIRS], vocabulary.with_name(PIECES)
    try:
        from tokenizers import Tokenizer

        if vocabulary.is_file():
            return Tokenizer.from_file(str(vocabulary))
        if all(path.is_file() for path in pairs):
            return _pair_tokenizer(*pairs)
        if pieces.is_file():
            from tokenizers import BertWordPieceTokenizer

            return BertWordPieceTokenizer(str(pieces), lowercase=True)
    except ImportError as error:
        raise ModelError("Finding by text needs the library tokenizers: pip install tokenizers.") from error
    except Exception as error:  # The library raises no narrower type.
        damaged = next(path for path in (vocabulary, *pairs, pieces) if path.is_file())
        raise ModelError(
            f"{damaged} is not a complete vocabulary: get it again from where you got the weights."
        ) from error
    raise ModelError(
        f"Finding by text needs the vocabulary of the model: put {VOCABULARY}, from where you got the weights, "
        f"at {vocabulary}."
    )


def _pair_tokenizer(vocabulary: Path, merges: Path) -> Any:
    from tokenizers.models import BPE
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    numbers, pairs = BPE.read_file(str(vocabulary), str(merges))
    return CLIPTokenizer(vocab=numbers, merges=pairs).backend_tokenizer
