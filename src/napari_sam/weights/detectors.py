"""The registry of models that know words and segment nothing themselves. Needs no torch."""

from __future__ import annotations

from napari_sam.weights.registry import ModelEntry

_HUB = "https://huggingface.co"
_APACHE = "Apache-2.0"


def _by_hand(
    name: str, file: str, repository: str, *, licence: str = _APACHE, summary: str, nbytes: int, words: str
) -> ModelEntry:
    """Return a model of two files of Hugging Face, which a user puts into a folder of its own."""
    homepage = f"{_HUB}/{repository}"
    by_hand = f"get model.safetensors and, beside it, {words} from {homepage}"
    return ModelEntry(
        name, name, file, licence, summary, homepage=homepage, by_hand=by_hand, nbytes=nbytes, extra="sam2"
    )


# In the order of all lists shown to users. File sizes are parameters times four.
DETECTORS: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in (
        _by_hand(
            "owlv2",
            "owlv2/model.safetensors",
            "google/owlv2-base-patch16-ensemble",
            summary="Boxes by words; a segmenting model fills them.",
            nbytes=620_000_000,
            words="tokenizer.json or vocab.json with merges.txt",
        ),
        _by_hand(
            "grounding-dino",
            "grounding-dino/model.safetensors",
            "IDEA-Research/grounding-dino-tiny",
            summary="Boxes by words; a segmenting model fills them.",
            nbytes=690_000_000,
            words="tokenizer.json or vocab.txt",
        ),
        _by_hand(
            "clip",
            "clip/model.safetensors",
            "openai/clip-vit-base-patch32",
            licence="MIT",
            summary="Ranks all objects of an image by words.",
            nbytes=605_000_000,
            words="tokenizer.json or vocab.json with merges.txt",
        ),
    )
}
# The one that finds nothing itself, and says how well words describe what was found.
RANKER = "clip"
