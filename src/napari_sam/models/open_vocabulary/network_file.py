"""NetworkFile: the weights of a network of the transformers library, and what their shapes say of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_sam.errors import ModelError
from napari_sam.models.sam2.loading import filled
from napari_sam.models.vocabulary import vocabulary_of, words

# Tables computed from the network's size, which some versions of the library store.
DERIVED = re.compile(r".*(position_ids|relative_position_index|box_bias)")
# Width of one attention head in all published CLIP, OWLv2 and BERT.
HEAD = 64


@dataclass(frozen=True, slots=True)
class NetworkFile:
    """The weights of one network.

    Parameters
    ----------
    state
        Its tensors.
    name
        What the user calls the model: its name in the registry, or the path of its weights.
    device
        Where it is executed.
    vocabulary
        The tokenizer.json; by default the one beside the weights.
    """

    state: Mapping[str, Tensor] = field(repr=False)
    name: str
    device: torch.device
    vocabulary: Path | None = None

    def network(
        self, make: Callable[[], Any], complete: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None
    ) -> Any:
        """Create the network, with its weights in float32.

        Parameters
        ----------
        make
            Returns the network without values.
        complete
            Changes the state dict from the names of the file to those of the network.

        Raises
        ------
        ModelError
            Weights are missing, too many or of another shape, or a library is missing.
        """
        state = {key: value.float() for key, value in self.state.items() if not DERIVED.fullmatch(key)}
        return filled(make, complete(state) if complete else state, self.name).to(self.device)

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor.

        Raises
        ------
        ModelError
            It is missing.
        """
        if key not in self.state:
            raise ModelError(f"The weights of {self.name} lack {key}: use a complete checkpoint.")
        return tuple(self.state[key].shape)

    def count(self, pattern: str) -> int:
        """Return the number of layers whose number is the first group of a pattern."""
        return len({found[1] for key in self.state if (found := re.match(pattern, key))})

    def words(self, text: str, *, most: int, known: int, last: int) -> Tensor:
        """Return a text as token numbers, shape (1, n).

        Parameters
        ----------
        text
            A short noun phrase.
        most, known
            As in `vocabulary.words`.
        last
            The number with which every text ends.

        Raises
        ------
        PromptError, ModelError
            As in `vocabulary.words`.
        """
        vocabulary = self.vocabulary or vocabulary_of(self.name)
        numbers = words(text, vocabulary, most=most, known=known)
        if numbers[-1] != last:
            raise ModelError(
                f"{vocabulary} is not the vocabulary of these weights: put the one that came with them there."
            )
        return torch.tensor([numbers], device=self.device)


def text_limits(text: Mapping[str, Any]) -> dict[str, int]:
    """Return what `NetworkFile.words` must know of the text encoder of a CLIP, from its configuration."""
    return {"most": text["max_position_embeddings"], "known": text["vocab_size"], "last": text["eos_token_id"]}


def clip_sizes(file: NetworkFile, prefix: str = "") -> tuple[dict[str, Any], dict[str, Any], int]:
    """Return the configurations of the text and image encoders of a CLIP, and the width of their common space.

    Parameters
    ----------
    file
        The weights.
    prefix
        What stands before every name.

    Raises
    ------
    ModelError
        A part is missing.
    """
    text, vision = f"{prefix}text_model.", f"{prefix}vision_model."
    vocabulary, width = file.shape(f"{text}embeddings.token_embedding.weight")
    channels, _, patch, _ = file.shape(f"{vision}embeddings.patch_embedding.weight")
    cells = file.shape(f"{vision}embeddings.position_embedding.weight")[0] - 1

    def layers(part: str, size: int) -> dict[str, int]:
        return {
            "hidden_size": size,
            "intermediate_size": file.shape(f"{part}encoder.layers.0.mlp.fc1.weight")[0],
            "num_hidden_layers": file.count(rf"{re.escape(part)}encoder\.layers\.(\d+)\."),
            "num_attention_heads": max(size // HEAD, 1),
        }

    projection = file.shape(f"{prefix}text_projection.weight")[0]
    texts = {
        **layers(text, width),
        "vocab_size": vocabulary,
        "max_position_embeddings": file.shape(f"{text}embeddings.position_embedding.weight")[0],
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }
    images = {**layers(vision, channels), "patch_size": patch, "image_size": round(cells**0.5) * patch}
    return {**texts, "projection_dim": projection}, {**images, "projection_dim": projection}, projection
