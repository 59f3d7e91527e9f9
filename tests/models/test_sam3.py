"""SAM 3 from a file as it is published, against the library's own ways, in a size that runs in a moment.

The reference implementation needs torchvision and more, and its weights a licence: neither is used here.
"""

from __future__ import annotations

import inspect
import itertools
import math
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_sam.core.finding.exemplars import ExemplarPredictor
from napari_sam.core.geometry import Box
from napari_sam.core.predictor import Embedding, TextPredictor
from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError, PromptError
from napari_sam.models import load_predictor
from napari_sam.models.base import round_to_half
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.sam2.decoding import resized
from napari_sam.models.sam2.loading import Weightless
from napari_sam.models.sam3 import Sam3Predictor
from napari_sam.models.sam3.geometry import roi_align
from napari_sam.models.sam3.keys import parts
from napari_sam.models.sam3.networks import configurations
from napari_sam.models.vocabulary import vocabulary_of
from napari_sam.weights.registry import REGISTRY

pytest.importorskip("transformers", reason="pip install transformers")
pytestmark = pytest.mark.usefixtures("one_thread", "no_network", "small")

CPU = torch.device("cpu")
SIDE, GRID, WIDTH = 112, 8, 32
CELLS = SIDE // 4
WORDS = ("cell", "dark", "nucleus", "the")

POINT = TilePrompts(np.array([[20, 30]], np.float32), np.array([True]))
POINTS = TilePrompts(np.array([[20, 30], [70, 65]], np.float32), np.array([True, False]))
BOX = Box(30, 40, 91, 100.5)


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked for something")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


def small_configurations() -> tuple[Any, Any]:
    from transformers.models.sam3.configuration_sam3 import Sam3Config
    from transformers.models.sam3_tracker.configuration_sam3_tracker import Sam3TrackerConfig

    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 48,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "image_size": SIDE,
            "pretrain_image_size": SIDE // 2,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": WIDTH,
        "backbone_feature_sizes": [[4 * GRID] * 2, [2 * GRID] * 2, [GRID] * 2],
    }
    heads = {"hidden_size": WIDTH, "num_attention_heads": 4}
    layers = {**heads, "num_layers": 2, "intermediate_size": 64}
    tracker = Sam3TrackerConfig(
        vision_config={"model_type": "sam3_vision_model", **vision},
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 14},
        mask_decoder_config={**heads, "mlp_dim": 64, "iou_head_hidden_dim": WIDTH},
        attn_implementation="sdpa",
    )
    detector = Sam3Config(
        vision_config=vision,
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": 20,
            "hidden_size": 24,
            "intermediate_size": 48,
            "projection_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 8,
        },
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config={**layers, "num_queries": 12},
        mask_decoder_config=heads,
        attn_implementation="sdpa",
    )
    return tracker, detector


@pytest.fixture(scope="module")
def small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_sam.models.sam3.networks.configurations", small_configurations)
        yield


@pytest.fixture(scope="module")
def reference() -> tuple[Any, Any]:
    """The library's tracker and detector around the same image encoder, with weights none of which is degenerate."""
    from transformers.models.sam3.modeling_sam3 import Sam3Model
    from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel

    torch.manual_seed(0)
    tracker_config, detector_config = small_configurations()
    tracker, detector = Sam3TrackerModel(tracker_config).eval(), Sam3Model(detector_config).eval()
    with torch.no_grad():
        for network in (tracker, detector):
            for name, parameter in network.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 1.2 / max(parameter[0].numel(), 1) ** 0.5)
                elif name.endswith("bias"):
                    parameter.normal_(0, 0.1)
        tracker.no_memory_embedding.normal_(0, 1)
        detector.detr_decoder.reference_points.weight.normal_(0, 1)
        detector.detr_decoder.query_embed.weight.normal_(0, 4)
    detector.vision_encoder.backbone = tracker.vision_encoder.backbone
    return tracker.requires_grad_(False), detector.requires_grad_(False)


@pytest.fixture(scope="module")
def state(reference: tuple[Any, Any]) -> dict[str, torch.Tensor]:
    """What is in a published file."""
    tracker, detector = reference
    state = {f"detector_model.{key}": value for key, value in detector.state_dict().items()}
    for key, value in tracker.state_dict().items():
        if key.startswith("vision_encoder.neck."):
            state[key.replace("vision_encoder.neck.", "tracker_neck.")] = value
        elif not key.startswith("vision_encoder."):
            state[f"tracker_model.{key}"] = value
    return {**state, "tracker_model.memory_encoder.projection.bias": torch.zeros(3)}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    known = {word: number for number, word in enumerate(("?", "<start>", "<end>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="?"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    tokenizer.enable_padding(length=8, pad_id=2, pad_token="<end>")
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def ours(state: dict[str, torch.Tensor], vocabulary: Path) -> Sam3Predictor:
    name = str(vocabulary.with_name("sam3.safetensors"))
    return Sam3Predictor(state, "sam3", name=name, digest="0", device=CPU, precision="float32")


@pytest.fixture(scope="module")
def tile() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (1, SIDE, SIDE, 3), np.uint8)


@pytest.fixture(scope="module")
def exact(ours: Sam3Predictor, tile: np.ndarray) -> Embedding:
    """The embedding as computed, before it is rounded to be kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_sam.models.base.round_to_half", lambda tensor: tensor)
        return ours.encode(tile)[0]


@pytest.fixture(scope="module")
def pixels(tile: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(tile).permute(0, 3, 1, 2) / 127.5 - 1


def close(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@torch.inference_mode()
def test_the_image_encoder_is_the_librarys_with_the_embedding_on_the_level_that_is_decoded(
    reference: Any, exact: Embedding, pixels: torch.Tensor
) -> None:
    tracker, _ = reference
    vision = tracker.vision_encoder(pixels)
    fine, middle, coarse, _ = vision.fpn_hidden_states
    expected = (
        coarse + tracker.no_memory_embedding.reshape(1, -1, 1, 1),
        tracker.mask_decoder.conv_s1(middle),
        tracker.mask_decoder.conv_s0(fine),
        vision.last_hidden_state.transpose(1, 2).reshape(1, 48, GRID, GRID),
    )
    assert [tuple(t.shape) for t in exact.tensors] == [(1, 32, 8, 8), (1, 8, 16, 16), (1, 4, 32, 32), (1, 48, 8, 8)]
    for ours, theirs in zip(exact.tensors, expected, strict=True):
        assert theirs.std() > 0.1
        close(ours, theirs)


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("kind", ["point", "points", "box"])
@torch.inference_mode()
def test_prompts_are_answered_as_by_the_library(
    reference: Any, ours: Sam3Predictor, exact: Embedding, kind: str, with_mask: bool
) -> None:
    tracker, _ = reference
    given = {"point": POINT, "points": POINTS, "box": TilePrompts(box=BOX)}[kind]
    mask = np.random.default_rng(5).normal(0, 4, (CELLS, CELLS)).astype(np.float32) if with_mask else None
    prompts = TilePrompts(given.points, given.labels, given.box, mask)
    coords = [[BOX.left, BOX.top], [BOX.right, BOX.bottom]] if kind == "box" else given.points[:, ::-1].tolist()
    labels = [2, 3] if kind == "box" else given.labels.astype(int).tolist()
    asked = {
        "image_embeddings": list(exact.tensors[2::-1]),
        "input_points": torch.tensor([[coords]]),
        "input_labels": torch.tensor([[labels]]),
        "input_masks": None if mask is None else resized(torch.from_numpy(mask)[None], (4 * GRID, 4 * GRID))[None],
    }
    three = tracker(**asked, multimask_output=True)
    one = tracker(**asked, multimask_output=False)
    expected = three.pred_masks[0, 0]
    assert expected.std() > 0.1
    decoded = ours.decode(exact, prompts)
    assert decoded.logits.shape == (3, CELLS, CELLS)
    if kind == "point" and not with_mask:
        close(decoded.logits, resized(expected, (CELLS, CELLS)))
        close(decoded.iou_prediction, three.iou_scores[0, 0])
    else:
        close(decoded.logits[:1], resized(one.pred_masks[0, 0], (CELLS, CELLS)))
        close(decoded.iou_prediction[:1], one.iou_scores[0, 0])


@torch.inference_mode()
def test_a_text_finds_on_an_embedding_what_the_library_finds_on_the_image(
    reference: Any, ours: Sam3Predictor, exact: Embedding, pixels: torch.Tensor
) -> None:
    _, detector = reference
    assert isinstance(ours, TextPredictor)
    padded = torch.tensor([[1, 4, 3, 2, 2, 2, 2, 2]])
    out = detector(pixel_values=pixels, input_ids=padded, attention_mask=(torch.arange(8) < 4)[None].long())
    scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
    assert scores.std() > 0.003
    threshold = float(scores.sort().values[5:7].mean())
    found = ours.find(exact, " Dark cell ", threshold)
    order = scores.argsort(descending=True)[: len(found.scores)]
    assert len(found.scores) == int((scores > threshold).sum()) == 6
    np.testing.assert_allclose(found.scores, scores[order], atol=0.01 * float(scores.std()), rtol=0)
    close(found.logits, resized(out.pred_masks[0, order], (CELLS, CELLS)))
    left, top, right, bottom = (out.pred_boxes[0, order].clamp(0, 1) * SIDE).T
    close(found.boxes, torch.stack([top, left, bottom, right], 1))
    other = ours.find(exact, "the nucleus", 0)
    assert len(other.scores) == 12
    assert np.abs(other.scores - ours.find(exact, "dark cell", 0).scores).max() > 1e-3


def test_a_text_that_names_nothing_there_finds_nothing(ours: Sam3Predictor, exact: Embedding) -> None:
    found = ours.find(exact, "cell", 1.0)
    assert found.logits.shape == (0, CELLS, CELLS)
    assert found.boxes.shape == (0, 4)
    assert found.scores.dtype == found.logits.dtype == np.float32


def plain_roi_align(features: torch.Tensor, boxes: tuple[torch.Tensor, ...], bins: int) -> torch.Tensor:
    """RoIAlign as it is published (He et al. 2017), point by point, with the default options of torchvision."""
    (rois,) = boxes
    rows, cols = features.shape[-2:]
    out = torch.zeros(len(rois), features.shape[1], bins, bins)
    for number, (left, top, right, bottom) in enumerate(rois.tolist()):
        height, width = max(bottom - top, 1.0), max(right - left, 1.0)
        by_row, by_col = math.ceil(height / bins), math.ceil(width / bins)
        for row, col, i, j in itertools.product(range(bins), range(bins), range(by_row), range(by_col)):
            y = top + (row + (i + 0.5) / by_row) * height / bins
            x = left + (col + (j + 0.5) / by_col) * width / bins
            if not (-1 <= y <= rows and -1 <= x <= cols):
                continue
            y, x = min(max(y, 0), rows - 1), min(max(x, 0), cols - 1)
            above, before = int(y), int(x)
            below, after = min(above + 1, rows - 1), min(before + 1, cols - 1)
            dy, dx = y - above, x - before
            value = (1 - dy) * ((1 - dx) * features[0, :, above, before] + dx * features[0, :, above, after])
            value = value + dy * ((1 - dx) * features[0, :, below, before] + dx * features[0, :, below, after])
            out[number, :, row, col] += value / (by_row * by_col)
    return out


def test_features_are_pooled_over_boxes_as_published() -> None:
    torch.manual_seed(0)
    features = torch.randn(1, 5, 20, 30)
    boxes = torch.tensor(
        [[2.3, 1.7, 9.1, 18.2], [0, 0, 30, 20], [4, 4, 4.2, 4.1], [27.5, 17.5, 31, 22], [-3, -2, 2, 2]]
    )
    close(roi_align(features[0], boxes[:, [1, 0, 3, 2]], 7), plain_roi_align(features, (boxes,), 7), 1e-5)


@pytest.mark.parametrize("text", ["", "dark cell"])
@torch.inference_mode()
def test_examples_find_on_an_embedding_what_the_library_finds_on_the_image(
    reference: Any, ours: Sam3Predictor, exact: Embedding, pixels: torch.Tensor, monkeypatch: Any, text: str
) -> None:
    from transformers.models.sam3 import modeling_sam3

    assert isinstance(ours, ExemplarPredictor)
    pooling = SimpleNamespace(ops=SimpleNamespace(roi_align=plain_roi_align))
    monkeypatch.setattr(modeling_sam3, "torchvision", pooling, raising=False)
    _, detector = reference
    boxes, labels = [Box(30, 40, 91, 100), Box(5, 10, 20, 22)], np.array([True, False])
    edges = torch.tensor([[70, 60.5, 60, 61], [16, 12.5, 12, 15]]) / SIDE
    asked = {"input_boxes": edges[None], "input_boxes_labels": torch.tensor([[1, 0]])}
    numbers = torch.tensor([[1, 4, 3, 2] if text else [1, 0, 2]])
    out = detector(pixel_values=pixels, input_ids=numbers, **asked)
    scores = out.pred_logits[0].sigmoid() * out.presence_logits[0].sigmoid()
    found = ours.find_like(exact, boxes, labels, text, 0)
    order = scores.argsort(descending=True)
    np.testing.assert_allclose(found.scores, scores[order], atol=0.01 * float(scores.std()), rtol=0)
    close(found.logits, resized(out.pred_masks[0, order], (CELLS, CELLS)))
    unlike = ours.find_like(exact, boxes, ~labels, text, 0)
    assert np.abs(unlike.scores - found.scores).max() > 1e-4


def test_what_is_kept_of_an_embedding_is_the_embedding(ours: Sam3Predictor, exact: Embedding, tile: Any) -> None:
    (kept,) = ours.encode(tile)
    for again, tensor, before in zip(ours.unpack(ours.pack(kept)).tensors, kept.tensors, exact.tensors, strict=True):
        assert torch.equal(again, tensor)
        assert torch.equal(round_to_half(before), tensor)


def test_tiles_together_are_the_same_as_alone_and_half_the_precision_is_nearly(
    ours: Sam3Predictor, state: Any, tile: np.ndarray
) -> None:
    tiles = np.concatenate([tile, 255 - tile])
    rough = Sam3Predictor(state, "sam3", name="x", digest="0", device=CPU, precision="bfloat16")
    assert (ours.digest, rough.digest) == ("0/float32", "0/bfloat16")
    for alone, together, roughly in zip(ours.encode(tiles), ours._encode(tiles), rough.encode(tiles), strict=True):
        for one, other, half in zip(alone.tensors, together.tensors, roughly.tensors, strict=True):
            close(other, one, 1e-3)
            assert half.dtype == torch.float32
            assert 0 < (half - one).std() < 0.05 * one.std()


def test_the_vocabulary_of_a_registered_model_is_beside_its_weights() -> None:
    assert vocabulary_of("sam3") == REGISTRY["sam3"].path.parent / "tokenizer.json"


def test_the_image_encoder_is_there_once_and_nothing_is_without_memory(ours: Sam3Predictor) -> None:
    assert ours._detector.vision_encoder.backbone is ours._tracker.vision_encoder.backbone
    for network in (ours._tracker, ours._detector):
        assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
        used = {part.config._attn_implementation for part in network.modules() if hasattr(part, "config")}
        assert used == {"sdpa"}


def test_a_published_file_is_loaded_by_its_keys_and_its_vocabulary_from_beside_it(
    state: dict[str, torch.Tensor], vocabulary: Path, tile: np.ndarray
) -> None:
    path = vocabulary.with_name("mine.safetensors")
    save_file({key: value.clone() for key, value in state.items()}, path)
    predictor = load_predictor(path, "cpu", precision="float32")
    assert isinstance(predictor, Sam3Predictor)
    assert predictor.digest.endswith("/float32")
    (embedding,) = predictor.encode(tile)
    assert len(predictor.find(embedding, "dark cell", 0).scores) == 12


def test_a_file_of_the_tracker_alone_answers_prompts_and_refuses_texts(reference: Any, tile: np.ndarray) -> None:
    predictor = Sam3Predictor(reference[0].state_dict(), "sam3", name="x", digest="0", device=CPU, precision="float32")
    (embedding,) = predictor.encode(tile)
    assert len(embedding.tensors) == 3
    assert not predictor.finds_text
    assert predictor.decode(predictor.unpack(predictor.pack(embedding)), POINT).logits.shape == (3, CELLS, CELLS)
    with pytest.raises(ModelError, match="part of SAM 3 for text: use the complete"):
        predictor.find(embedding, "cell")
    assert not predictor.finds_exemplars


def test_weights_that_cannot_be_used_are_refused_in_one_sentence(reference: Any, state: Any) -> None:
    for wrong, message in (
        ({"detector.backbone.x": torch.zeros(1), "tracker.y": torch.zeros(1)}, r"facebook/sam3 on Hugging Face"),
        (reference[1].state_dict(), "part of SAM 3 for prompts: use the complete"),
        ({key: state[key] for key in state if "conv_s0" not in key}, r"2 missing \(mask_decoder.conv_s0.bias"),
        ({**state, "tracker_model.no_memory_embedding": torch.zeros(1, 1, 7)}, "1 of another shape"),
        ({key: state[key] for key in state if "text_proj" not in key}, r"5 missing \(dot_product_scoring.text_proj"),
    ):
        with pytest.raises(ModelError, match=message) as caught:
            Sam3Predictor(wrong, "sam3", name="x", digest="0", device=CPU, precision="float32")
        assert not re.search(r"[.!?]\s+[A-Z]|\n", str(caught.value))


def test_texts_and_vocabularies_that_cannot_be_used(
    ours: Sam3Predictor, exact: Embedding, state: Any, tmp_path: Path
) -> None:
    with pytest.raises(PromptError, match="name the objects"):
        ours.find(exact, "  ")
    elsewhere = Sam3Predictor(
        state, "sam3", name=str(tmp_path / "a.safetensors"), digest="0", device=CPU, precision="float32"
    )
    path = tmp_path / "tokenizer.json"
    with pytest.raises(ModelError, match=rf"at {re.escape(str(path))}\.$"):
        elsewhere.find(exact, "cell")
    path.write_text("{}")
    with pytest.raises(ModelError, match="not a complete vocabulary"):
        elsewhere.find(exact, "cell")
    path.write_text(ours._vocabulary.read_text().replace('"cell":3', '"cell":300').replace('"cell": 3', '"cell": 300'))
    with pytest.raises(ModelError, match="not the vocabulary"):
        elsewhere.find(exact, "cell")


def test_the_full_size_is_the_published_one_by_name_and_shape(tmp_path: Path) -> None:
    """The library's model for videos, which is what is published, in its full size but without memory."""
    from transformers.models.sam3.modeling_sam3 import Sam3Model
    from transformers.models.sam3_tracker.modeling_sam3_tracker import Sam3TrackerModel
    from transformers.models.sam3_video.configuration_sam3_video import Sam3VideoConfig
    from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoModel

    tracker_config, detector_config = configurations()
    with Weightless():
        published = Sam3VideoModel(Sam3VideoConfig()).state_dict()
        networks = Sam3TrackerModel(tracker_config), Sam3Model(detector_config)
    assert detect_architecture(published, tmp_path / "any name.safetensors")[0] == "sam3"
    assert tracker_config.vision_config.image_size == Sam3Predictor.input_side
    for part, network in zip(parts(published, "sam3"), networks, strict=True):
        assert {key: value.shape for key, value in part.items()} == {
            key: value.shape for key, value in network.state_dict().items()
        }


def test_the_find_method_is_the_protocols() -> None:
    assert inspect.signature(Sam3Predictor.find) == inspect.signature(TextPredictor.find)
    assert inspect.signature(Sam3Predictor.find_like) == inspect.signature(ExemplarPredictor.find_like)
