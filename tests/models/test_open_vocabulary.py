"""OWLv2, Grounding DINO and CLIP from files as they are published, against the library's own ways, in a small size.

None of the published weights could be had here: the networks have random weights, and the library's processors of
pictures and answers, which need no torchvision, say what is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from napari_sam.core.finding.open_vocabulary import TextDetector, TextRanker
from napari_sam.errors import ModelError, PromptError
from napari_sam.models.open_vocabulary import load_detector
from napari_sam.models.open_vocabulary.clip import GENERIC
from napari_sam.models.vocabulary import words
from napari_sam.weights.detectors import DETECTORS

pytest.importorskip("transformers", reason="pip install transformers")
pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("cell", "dark", "nucleus", "object", "things", "stuff", "texture", "the")
# BERT's own numbers of what Grounding DINO looks for.
BERT = {0: "[PAD]", 5: "cell", 6: "dark", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}


def varied(network: Any) -> Any:
    """Give a network weights none of which is degenerate."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.2 / max(parameter[0].numel(), 1) ** 0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network.eval().requires_grad_(False)


def clip_parts() -> dict[str, Any]:
    layers = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    texts = {**layers, "vocab_size": 11, "max_position_embeddings": 8, "bos_token_id": 9, "eos_token_id": 10}
    images = {**layers, "image_size": 64, "patch_size": 16}
    return {
        "text_config": {**texts, "projection_dim": 64},
        "vision_config": {**images, "projection_dim": 64},
        "projection_dim": 64,
    }


@pytest.fixture(scope="module")
def owlv2() -> Any:
    from transformers.models.owlv2.configuration_owlv2 import Owlv2Config
    from transformers.models.owlv2.modeling_owlv2 import Owlv2ForObjectDetection

    return varied(Owlv2ForObjectDetection(Owlv2Config(**clip_parts())))


@pytest.fixture(scope="module")
def grounding_dino() -> Any:
    from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
    from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoForObjectDetection

    swin = {"model_type": "swin", "embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4}
    bert = {"model_type": "bert", "vocab_size": 1100, "hidden_size": 64, "num_hidden_layers": 2}
    network = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config={**swin, "out_indices": [2, 3, 4]},
            text_config={**bert, "num_attention_heads": 1, "intermediate_size": 96, "max_position_embeddings": 32},
            d_model=32,
            num_queries=900,
            encoder_layers=2,
            decoder_layers=3,
            encoder_ffn_dim=48,
            decoder_ffn_dim=40,
        )
    )
    network = varied(network)
    with torch.no_grad():
        network.model.query_position_embeddings.weight.normal_(0, 2)
    return network


@pytest.fixture(scope="module")
def clip() -> Any:
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    return varied(CLIPModel(CLIPConfig(**clip_parts())))


def write_words(folder: Path) -> None:
    """Write a vocabulary whose last number ends every text, as that of CLIP."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    known = {word: number for number, word in enumerate((*WORDS, "?", "<start>", "<end>"))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 9), ("<end>", 10)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def write_pieces(folder: Path) -> None:
    lines = [BERT.get(number, f"[unused{number}]") for number in range(1100)]
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def publish(tmp_path: Path) -> Callable[[Any, Callable[[Path], None]], Path]:
    """Write a network as the library publishes it, with its vocabulary beside it."""

    def publish(network: Any, write_vocabulary: Callable[[Path], None]) -> Path:
        network.save_pretrained(tmp_path)
        (tmp_path / "config.json").unlink()
        write_vocabulary(tmp_path)
        return tmp_path / "model.safetensors"

    return publish


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


@torch.inference_mode()
def test_owlv2_answers_as_in_the_library(owlv2: Any, publish: Any, picture: np.ndarray) -> None:
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    detector = load_detector(publish(owlv2, write_words), "cpu")
    assert isinstance(detector, TextDetector)
    assert detector.input_side == 64
    processor = Owlv2ImageProcessorPil()
    pixels = torch.as_tensor(np.stack(processor(picture, do_resize=False).pixel_values))
    assert pixels.shape == (1, 3, 64, 64)
    numbers = torch.tensor([[9, 1, 0, 10, 0, 0, 0, 0]])
    out = owlv2(input_ids=numbers, pixel_values=pixels, attention_mask=(torch.arange(8) < 4)[None].long())
    scores = out.logits.sigmoid().flatten()
    threshold = float(scores.sort().values[7:9].mean())
    (right,) = processor.post_process_object_detection(out, threshold, target_sizes=[picture.shape[:2]])
    found = detector.detect(picture, " Dark cell ", threshold)
    assert len(found.scores) == len(right["scores"]) == 8
    order = right["scores"].argsort(descending=True)
    np.testing.assert_allclose(found.scores, right["scores"][order], atol=1e-5)
    left, top, far, low = right["boxes"][order].T
    expected = torch.stack([top.clamp(0, 48), left.clamp(0, 64), low.clamp(0, 48), far.clamp(0, 64)], 1)
    np.testing.assert_allclose(found.boxes, expected, atol=1e-3)
    assert np.abs(detector.detect(picture, "nucleus", 0).scores[:8] - found.scores).max() > 1e-4


@torch.inference_mode()
def test_grounding_dino_answers_as_in_the_library(grounding_dino: Any, publish: Any, picture: np.ndarray) -> None:
    from transformers.image_transforms import center_to_corners_format
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    detector = load_detector(publish(grounding_dino, write_pieces), "cpu")
    assert isinstance(detector, TextDetector)
    picture = np.tile(picture, (6, 5, 1))[:256, :288]
    inputs = GroundingDinoImageProcessorPil()(picture, do_resize=False, do_pad=False)
    pixels = torch.as_tensor(np.stack(inputs.pixel_values))
    assert pixels.shape == (1, 3, 256, 288)
    out = grounding_dino(pixel_values=pixels, input_ids=torch.tensor([[101, 6, 5, 1012, 102]]))
    scores = out.logits[0].sigmoid().amax(-1)
    threshold = float(scores.sort(descending=True).values[9:11].mean())
    order = scores.argsort(descending=True)[:10]
    found = detector.detect(picture, " Dark cell ", threshold)
    np.testing.assert_allclose(found.scores, scores[order], atol=1e-5)
    left, top, far, low = (center_to_corners_format(out.pred_boxes[0, order]) * torch.tensor([288, 256, 288, 256])).T
    expected = torch.stack([top.clamp(0, 256), left.clamp(0, 288), low.clamp(0, 256), far.clamp(0, 288)], 1)
    np.testing.assert_allclose(found.boxes, expected, atol=1e-3)
    assert expected.std() > 5
    tiny = detector.detect(picture[:20, :30], "cell", 0)
    assert len(tiny.boxes) == 900
    assert (tiny.boxes <= [20, 30, 20, 30]).all()
    np.testing.assert_array_equal(detector.detect(picture, "dark cell.", threshold).scores, found.scores)
    assert np.abs(detector.detect(picture, "cell", 0).scores[:10] - found.scores).max() > 1e-4


@torch.inference_mode()
def test_clip_scores_as_in_the_library_where_it_chooses_between_words(clip: Any, publish: Any) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    ranker = load_detector(publish(clip, write_words), "cpu")
    assert isinstance(ranker, TextRanker)
    assert ranker.picture_side == 64
    pictures = list(np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), np.uint8))
    pixels = CLIPImageProcessorPil()(pictures, do_resize=False, do_center_crop=False).pixel_values
    numbers = [[9, 1, 0, 10]] + [[9, WORDS.index(word), 10, 10] for word in GENERIC]
    out = clip(input_ids=torch.tensor(numbers), pixel_values=torch.as_tensor(np.stack(pixels)))
    logits = out.logits_per_image
    right = torch.stack([F.softmax(logits[:, [0, i]], dim=1)[:, 0] for i in range(1, 5)]).amin(0)
    scores = ranker.rank(pictures, "dark cell")
    np.testing.assert_allclose(scores, right, atol=1e-4)
    assert right.std() > 1e-4
    assert ranker.rank([], "cell").shape == (0,)


def test_a_published_configuration_of_each_model_is_read_from_the_shapes(tmp_path: Path) -> None:
    """The library's defaults are the published small models, in their full size but without memory."""
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel
    from transformers.models.grounding_dino.configuration_grounding_dino import GroundingDinoConfig
    from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoForObjectDetection
    from transformers.models.owlv2.configuration_owlv2 import Owlv2Config
    from transformers.models.owlv2.modeling_owlv2 import Owlv2ForObjectDetection

    from napari_sam.models.open_vocabulary.grounding_dino import configuration
    from napari_sam.models.open_vocabulary.network_file import NetworkFile, clip_sizes
    from napari_sam.models.sam2.loading import Weightless

    large = {
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "patch_size": 14,
        },
        "projection_dim": 768,
    }
    cpu = torch.device("cpu")
    for kind, config, prefix in (
        (CLIPModel, CLIPConfig(), ""),
        (CLIPModel, CLIPConfig(**large), ""),
        (Owlv2ForObjectDetection, Owlv2Config(), "owlv2."),
    ):
        with Weightless():
            state = kind(config).state_dict()
        text, vision, projection = clip_sizes(NetworkFile(state, "x", cpu), prefix)
        assert projection == config.projection_dim
        for read, part in ((text, config.text_config), (vision, config.vision_config)):
            assert read.pop("projection_dim") == projection
            assert {key: getattr(part, key) for key in read} == read
    defaults = GroundingDinoConfig()
    with Weightless():
        state = GroundingDinoForObjectDetection(defaults).state_dict()
    read = configuration(NetworkFile(state, "x", cpu))
    for key, value in read.items():
        known = getattr(defaults, key)
        if isinstance(value, dict):
            given = {name: getattr(known, name) for name in value}
            assert {name: list(part) if isinstance(part, tuple) else part for name, part in given.items()} == value
        else:
            assert known == value


# What cannot be used


def test_the_registry_says_where_each_file_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path))
    for name, entry in DETECTORS.items():
        with pytest.raises(ModelError, match=re.escape(str(tmp_path / name / "model.safetensors"))) as caught:
            load_detector(name)
        assert entry.homepage in str(caught.value)
        assert not re.search(r"[.!?]\s+[A-Z]|\n", str(caught.value))


def test_a_registered_model_is_loaded_from_its_folder(
    clip: Any, publish: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = publish(clip, write_words)
    monkeypatch.setenv("NAPARI_SAM_MODELS", str(tmp_path / "models"))
    for name in ("clip", "owlv2"):
        (tmp_path / "models" / name).mkdir(parents=True)
        for path in (file, file.with_name("tokenizer.json")):
            (tmp_path / "models" / name / path.name).write_bytes(path.read_bytes())
    ranker = load_detector("clip", "cpu")
    assert isinstance(ranker, TextRanker)
    assert ranker.rank([np.zeros((64, 64, 3), np.uint8)], "cell").shape == (1,)
    with pytest.raises(ModelError, match="holds clip weights where owlv2 needs owlv2"):
        load_detector("owlv2", "cpu")


def test_files_that_cannot_be_used_are_refused_in_one_sentence(owlv2: Any, publish: Any, tmp_path: Path) -> None:
    file = publish(owlv2, write_words)
    state = load_file(file)
    wrong = tmp_path / "wrong.safetensors"
    for content, message in (
        ({"image_encoder.x": torch.zeros(1)}, "not of OWLv2, Grounding DINO or CLIP"),
        ({key: state[key] for key in state if "box_head" not in key}, r"6 missing \(box_head.dense0.bias"),
        ({key: state[key] for key in state if "token_embedding" not in key}, r"lack owlv2.text_model.embeddings.token"),
        ({**state, "layer_norm.weight": torch.full((64,), torch.nan)}, "NaN or infinite"),
    ):
        save_file(content, wrong)
        with pytest.raises(ModelError, match=message) as caught:
            load_detector(wrong, "cpu")
        assert not re.search(r"[.!?]\s+[A-Z]|\n", str(caught.value))
    wrong.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ModelError, match="not a complete safetensors file"):
        load_detector(wrong, "cpu")
    with pytest.raises(ModelError, match="no detector 'yolo': use one of owlv2, grounding-dino, clip"):
        load_detector("yolo")
    with pytest.raises(ModelError, match="neither: give one"):
        load_detector(3)  # type: ignore[arg-type]


def test_texts_and_vocabularies_that_cannot_be_used(
    clip: Any, grounding_dino: Any, publish: Any, picture: np.ndarray, tmp_path: Path
) -> None:
    ranker = load_detector(publish(clip, lambda _: None), "cpu")
    pictures = [np.zeros((64, 64, 3), np.uint8)]
    assert isinstance(ranker, TextRanker)
    with pytest.raises(ModelError, match=rf"put tokenizer.json.* at {re.escape(str(tmp_path))}"):
        ranker.rank(pictures, "cell")
    write_words(tmp_path)
    with pytest.raises(PromptError, match="name the objects"):
        ranker.rank(pictures, "  ")
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"<end>":10', '"<end>":6').replace('"<end>": 10', '"<end>": 6'))
    content = json.loads(path.read_text())
    content["post_processor"]["special_tokens"]["<end>"]["ids"] = [6]
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="not the vocabulary of these weights"):
        load_detector(tmp_path / "model.safetensors", "cpu").rank(pictures, "dark")  # type: ignore[union-attr]
    path.write_text("{}")
    with pytest.raises(ModelError, match="not a complete vocabulary"):
        ranker.rank(pictures, "nucleus")
    detector = load_detector(publish(grounding_dino, write_words), "cpu")
    assert isinstance(detector, TextDetector)
    for text, error in (("cell", ModelError), (" . ", PromptError)):
        with pytest.raises(error):
            detector.detect(picture, text, 0.1)


def test_a_vocabulary_in_the_older_files_is_the_same(tmp_path: Path) -> None:
    from transformers.models.bert.tokenization_bert import BertTokenizer
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    letters = sorted({*"abcdeklrs"})
    known = [*letters, *(f"{letter}</w>" for letter in letters), "ce", "cell", "cell</w>", "ll"]
    numbers = {word: number for number, word in enumerate([*known, "<|startoftext|>", "<|endoftext|>"])}
    merges = [("c", "e"), ("l", "l"), ("ce", "ll")]
    for folder in ("old", "new", "bert"):
        (tmp_path / folder).mkdir()
    (tmp_path / "old" / "vocab.json").write_text(json.dumps(numbers))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (tmp_path / "old" / "merges.txt").write_text("\n".join(lines) + "\n")
    CLIPTokenizer(vocab=numbers, merges=merges).backend_tokenizer.save(str(tmp_path / "new" / "tokenizer.json"))
    old, new = (words("A dark Cell", tmp_path / name / "tokenizer.json", most=16, known=99) for name in ("old", "new"))
    assert old == new
    assert (old[0], old[-1]) == (numbers["<|startoftext|>"], numbers["<|endoftext|>"])
    assert len(set(old)) > 5
    write_pieces(tmp_path / "bert")
    pieces = {line: number for number, line in enumerate((tmp_path / "bert" / "vocab.txt").read_text().splitlines())}
    ours = words("Dark cell.", tmp_path / "bert" / "tokenizer.json", most=16, known=1100)
    assert list(ours) == BertTokenizer(vocab=pieces)("Dark cell.")["input_ids"] == [101, 6, 5, 1012, 102]
