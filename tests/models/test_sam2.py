"""Our SAM 2.1 against the reference implementation, which needs torchvision for parts that are not used here."""

from __future__ import annotations

import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_sam.core.geometry import Box
from napari_sam.core.prompts import TilePrompts
from napari_sam.errors import ModelError
from napari_sam.models import load_predictor
from napari_sam.models.base import round_to_half
from napari_sam.models.checkpoints import detect_architecture
from napari_sam.models.sam2 import Sam2Predictor
from napari_sam.models.sam2.configs import SIZES, HieraSize, memory_network, network_of
from napari_sam.models.sam2.decoding import chosen
from napari_sam.models.sam2.keys import POSITIONS, for_images, for_memory, for_videos
from napari_sam.models.sam2.loading import Weightless, filled

pytest.importorskip("transformers", reason="pip install transformers")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.usefixtures("no_network")]

YAML = {"sam2.1_tiny": "t", "sam2.1_small": "s", "sam2.1_base_plus": "b+", "sam2.1_large": "l"}
CPU = torch.device("cpu")

TILE = np.random.default_rng(0).integers(0, 255, (1, 1024, 1024, 3), np.uint8)
TILE[:, 200:600, 300:800] //= 4
POINT = TilePrompts(np.array([[200, 300]], np.float32), np.array([True]))
POINTS = TilePrompts(np.array([[200, 300], [700, 650], [20, 900]], np.float32), np.array([True, False, True]))
BOX = Box(300, 400, 901, 1000.5)


def logits(side: int = 256) -> np.ndarray:
    return np.random.default_rng(5).normal(0, 4, (side, side)).astype(np.float32)


@pytest.fixture(scope="module")
def no_network() -> Iterator[None]:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked for something")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield


@pytest.fixture(scope="module")
def build() -> Iterator[Any]:
    """Build the reference of a size from its own configuration, with what it imports of torchvision left empty."""
    stubs = {name: ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
    for member in ("Normalize", "Resize", "ToTensor"):
        setattr(stubs["torchvision.transforms"], member, None)
    with pytest.MonkeyPatch.context() as patch:
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
        with warnings.catch_warnings():  # Hydra's own use of OmegaConf.
            warnings.simplefilter("ignore")
            pytest.importorskip("sam2", reason="pip install '.[test]'")
        from hydra import compose
        from hydra.utils import instantiate
        from omegaconf import OmegaConf

        extra = "++model.sam_mask_decoder_extra_args.dynamic_multimask"
        overrides = [f"{extra}_via_stability=true", f"{extra}_stability_delta=0.05", f"{extra}_stability_thresh=0.98"]

        def build(family: str) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = compose(f"configs/sam2.1/sam2.1_hiera_{YAML[family]}.yaml", overrides=overrides)
                OmegaConf.resolve(config)
                return instantiate(config.model, _recursive_=True).eval()

        yield build


@pytest.fixture(scope="module")
def reference(build: Any) -> Any:
    """The reference in its smallest size, with weights none of which is degenerate."""
    torch.manual_seed(0)
    network = build("sam2.1_tiny")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "pos_embed" in name or name.endswith(("gamma", "tpos_enc", "no_mem_embed")):
                parameter.normal_(0, 0.5)
            elif "hypernetworks" in name and "layers.2.weight" in name:
                parameter.mul_(20)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)
    return network.requires_grad_(False)


@pytest.fixture(scope="module")
def ours(reference: Any) -> Sam2Predictor:
    return Sam2Predictor(
        reference.state_dict(), "sam2.1_tiny", name="tiny", digest="0", device=CPU, precision="float32"
    )


@pytest.fixture(scope="module")
def encoded(reference: Any, ours: Sam2Predictor) -> tuple[list[torch.Tensor], Any, Any]:
    """The reference's features of a tile, from coarse to fine, and ours of it: as computed, and as kept."""
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        pixels = torch.from_numpy(TILE).permute(0, 3, 1, 2) / 255
        _, features, _, sizes = reference._prepare_backbone_features(reference.forward_image((pixels - mean) / std))
        features[-1] = features[-1] + reference.no_mem_embed
        theirs = [f.permute(1, 2, 0).view(1, -1, *size) for f, size in zip(features, sizes, strict=True)][::-1]
        patch.setattr("napari_sam.models.base.round_to_half", lambda tensor: tensor)
        (exact,) = ours.encode(TILE)
    return theirs, exact, type(exact)(tuple(round_to_half(tensor) for tensor in exact.tensors))


@torch.inference_mode()
def decode(reference: Any, features: Any, prompts: TilePrompts, *, multimask: bool) -> tuple[Any, Any]:
    """What the reference's own predictor for images does with prompts."""
    coarse, *fine = features
    box, mask = prompts.box, prompts.mask_logits
    corners = [[box.left, box.top], [box.right, box.bottom]] if box else []
    coords = torch.tensor([[*corners, *prompts.points[:, ::-1].tolist()]])
    labels = torch.tensor([[*([2, 3] if box else []), *prompts.labels.astype(int).tolist()]])
    if coords.numel() == 0:  # As its training does it.
        coords, labels = torch.zeros(1, 1, 2), torch.tensor([[-1]])
    sparse, dense = reference.sam_prompt_encoder(
        points=(coords, labels), boxes=None, masks=None if mask is None else torch.from_numpy(mask)[None, None]
    )
    answers, scores, *_ = reference.sam_mask_decoder(
        image_embeddings=coarse,
        image_pe=reference.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        repeat_image=False,
        high_res_features=fine[::-1],
    )
    return answers[0].numpy(), scores[0].numpy()


def close(a: Any, b: Any, tolerance: float = 1e-4) -> None:
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


def test_the_image_encoder_is_the_reference(encoded: Any) -> None:
    theirs, exact, _ = encoded
    assert [tuple(t.shape) for t in exact.tensors] == [(1, 256, 64, 64), (1, 64, 128, 128), (1, 32, 256, 256)]
    for ours, expected in zip(exact.tensors, theirs, strict=True):
        assert expected.std() > 0.1
        close(ours, expected)


@pytest.mark.parametrize(
    "prompts",
    [
        POINT,
        POINTS,
        TilePrompts(box=BOX),
        TilePrompts(POINTS.points, POINTS.labels, BOX),
        TilePrompts(POINT.points, POINT.labels, None, logits()),
        TilePrompts(box=BOX, mask_logits=logits()),
        TilePrompts(mask_logits=logits()),
    ],
    ids=["point", "points", "box", "points and box", "point and mask", "box and mask", "mask"],
)
def test_prompts_and_masks_are_the_references(reference: Any, ours: Any, encoded: Any, prompts: TilePrompts) -> None:
    kept = encoded[2]
    three, three_scores = decode(reference, kept.tensors, prompts, multimask=True)
    decoded = ours.decode(kept, prompts)
    assert three.std() > 0.5
    assert decoded.logits.shape == (3, 256, 256)
    if prompts is POINT:
        close(decoded.logits, three)
        close(decoded.iou_prediction, three_scores)
        return
    one, score = decode(reference, kept.tensors, prompts, multimask=False)
    close(decoded.logits[:1], one)
    close(decoded.iou_prediction[:1], score)
    order = np.argsort(-three_scores)
    rest = order[1:] if np.allclose(one[0], three[order[0]]) else order[:2]
    close(decoded.logits[1:], three[rest])
    close(decoded.iou_prediction[1:], three_scores[rest])


@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_the_mask_for_clear_prompts_is_the_references_choice(reference: Any, scale: float) -> None:
    random = torch.Generator().manual_seed(6)
    answers = scale * torch.randn(4, 64, 64, generator=random)
    scores = torch.rand(4, generator=random)
    expected, score = reference.sam_mask_decoder._dynamic_multimask_via_stability(answers[None], scores[None])
    which = chosen(answers, scores)
    assert len(set(which.tolist())) == 3
    assert (which[0] == 0) == (scale == 30)
    assert torch.equal(answers[which[0]], expected[0, 0])
    assert scores[which[0]] == score[0, 0]
    assert (scores[which[1:]].diff() <= 0).all()


@pytest.mark.parametrize("family", list(SIZES))
def test_official_checkpoints_of_every_size_fit_by_name_and_shape(build: Any, family: str, tmp_path: Any) -> None:
    with Weightless():
        state = build(family).state_dict()
        expected = {key: value.shape for key, value in network_of(SIZES[family]).state_dict().items()}
        memory = {key: value.shape for key, value in memory_network().state_dict().items()}
    assert detect_architecture(state, tmp_path / "any name.pt")[0] == family
    converted = for_images(state)
    assert {key: value.shape for key, value in converted.items()} == expected
    converted = for_memory(for_videos(state))
    assert converted is not None
    assert {key: value.shape for key, value in converted.items()} == memory


def test_a_checkpoint_of_the_librarys_video_model_is_the_same_model(reference: Any, ours: Any, encoded: Any) -> None:
    from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoModel

    with Weightless():
        video = {key: torch.zeros(value.shape) for key, value in Sam2VideoModel(Sam2VideoConfig()).state_dict().items()}
    images = for_images(reference.state_dict())
    assert images.keys() < video.keys()
    assert {key: value.shape for key, value in images.items()} == {key: video[key].shape for key in images}
    # The library leaves one of two equal tensors out of a file.
    state = {**video, **images}
    del state[POSITIONS[1]]
    again = Sam2Predictor(state, "sam2.1_tiny", name="tiny", digest="0", device=CPU, precision="float32")
    prompts = TilePrompts(POINTS.points, POINTS.labels, BOX)
    np.testing.assert_array_equal(again.decode(encoded[2], prompts).logits, ours.decode(encoded[2], prompts).logits)


@torch.inference_mode()
def test_an_object_is_followed_by_memory_as_by_the_reference(reference: Any, ours: Sam2Predictor) -> None:
    tiles = [TILE, np.roll(TILE, 30, axis=2)]
    mask = np.zeros((1024, 1024), np.float32)
    mask[200:600, 300:800] = 1
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    outputs: dict[str, Any] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    for at, tile in enumerate(tiles):
        pixels = torch.from_numpy(tile).permute(0, 3, 1, 2) / 255
        _, features, positions, sizes = reference._prepare_backbone_features(
            reference.forward_image((pixels - mean) / std)
        )
        answer = reference.track_step(
            frame_idx=at,
            is_init_cond_frame=at == 0,
            current_vision_feats=features,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=None,
            mask_inputs=torch.from_numpy(mask)[None, None] if at == 0 else None,
            output_dict=outputs,
            num_frames=2,
            run_mem_encoder=at == 0,
        )
        if at == 0:
            # As its predictor for videos stores it.
            answer["maskmem_features"] = answer["maskmem_features"].to(torch.bfloat16).float()
            outputs["cond_frame_outputs"][0] = answer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_sam.models.base.round_to_half", lambda tensor: tensor)
        first, second = (ours.encode(tile)[0] for tile in tiles)
    assert ours.has_memory
    found = ours.memory({0: lambda: (first, mask)}, planes=2, reverse=False).follow(1, second)
    close(found.logits, answer["pred_masks"][0, 0], 1e-2)
    assert found.presence == pytest.approx(float(answer["object_score_logits"].sigmoid()), abs=1e-3)


def test_a_checkpoint_for_images_only_has_no_memory_and_says_so(reference: Any) -> None:
    state = for_images(reference.state_dict())
    images = Sam2Predictor(state, "sam2.1_tiny", name="mine.pt", digest="0", device=CPU, precision="float32")
    assert not images.has_memory
    with pytest.raises(ModelError, match=r"mine\.pt holds a SAM 2\.1 for single images") as caught:
        images.memory({}, planes=2, reverse=False)
    assert "\n" not in str(caught.value)


def test_memory_of_another_shape_is_refused_when_it_is_asked_for(reference: Any, encoded: Any) -> None:
    state = {**reference.state_dict(), "maskmem_tpos_enc": torch.zeros(3, 1, 1, 64)}
    other = Sam2Predictor(state, "sam2.1_tiny", name="mine.pt", digest="0", device=CPU, precision="float32")
    other.decode(encoded[2], POINT)
    with pytest.raises(ModelError, match="1 of another shape") as caught:
        other.memory({}, planes=2, reverse=False)
    assert "\n" not in str(caught.value)


def test_what_is_kept_of_an_embedding_is_the_embedding(ours: Sam2Predictor, encoded: Any) -> None:
    kept = encoded[2]
    pack = ours.pack(kept)
    assert pack.dtype == np.float16
    assert pack.shape == (256 * 64**2 + 64 * 128**2 + 32 * 256**2,)
    for again, tensor in zip(ours.unpack(pack).tensors, kept.tensors, strict=True):
        assert torch.equal(again, tensor)


def test_tiles_together_are_the_same_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SIZES, "sam2.1_small", HieraSize(8, 1, (1, 1, 2, 1), (3,)))
    torch.manual_seed(1)
    state = network_of(SIZES["sam2.1_small"]).state_dict()
    state["no_memory_embedding"].normal_(0, 0.1)
    small = Sam2Predictor(state, "sam2.1_small", name="small", digest="0", device=CPU, precision="float32")
    assert small.batch == 1
    tiles = np.concatenate([TILE, 255 - TILE])
    for together, alone in zip(small._encode(tiles), small.encode(tiles), strict=True):
        for one, other in zip(together.tensors, alone.tensors, strict=True):
            assert one.shape == other.shape
            assert one.untyped_storage().nbytes() == one.nbytes  # Keeping one tile keeps no other.
            close(one, other, 1e-3)


def test_an_official_file_is_loaded_by_its_keys_whatever_it_is_called(reference: Any, tmp_path: Any) -> None:
    torch.save({"model": reference.state_dict()}, tmp_path / "mine.pt")
    converted = for_images(reference.state_dict())
    save_file({key: value for key, value in converted.items() if key != POSITIONS[0]}, tmp_path / "mine.safetensors")
    for path in tmp_path.iterdir():
        predictor = load_predictor(path, "cpu", precision="float32")
        assert isinstance(predictor, Sam2Predictor)
        assert predictor.digest.endswith("/float32")


def test_half_the_precision_is_another_digest_and_nearly_the_same_features(reference: Any, encoded: Any) -> None:
    state = reference.state_dict()
    rough = Sam2Predictor(state, "sam2.1_tiny", name="tiny", digest="0", device=CPU, precision="bfloat16")
    assert rough.digest == "0/bfloat16"
    for tensor, exact in zip(rough.encode(TILE)[0].tensors, encoded[1].tensors, strict=True):
        assert tensor.dtype == torch.float32
        assert 0 < (tensor - exact).std() < 0.03 * exact.std()
    with pytest.raises(ModelError, match="float16"):
        Sam2Predictor(state, "sam2.1_tiny", name="tiny", digest="0", device=CPU, precision="float16")


def test_incomplete_and_misshapen_weights_are_refused_in_one_sentence(reference: Any) -> None:
    good = reference.state_dict()
    for change, message in (
        ({"no_mem_embed": None}, r"1 missing \(no_memory_embedding\)"),
        ({"no_mem_embed": torch.zeros(1, 1, 7)}, r"1 of another shape \(no_memory_embedding\)"),
        ({"sam_mask_decoder.more": torch.zeros(1)}, r"1 too many \(mask_decoder.more\)"),
    ):
        state = {key: value for key, value in {**good, **change}.items() if value is not None}
        with pytest.raises(ModelError, match=message) as caught:
            Sam2Predictor(state, "sam2.1_tiny", name="tiny", digest="0", device=CPU, precision="float32")
        assert "\n" not in str(caught.value)


def test_without_the_library_the_message_names_the_mend() -> None:
    def make() -> None:
        raise ImportError("transformers")

    with pytest.raises(ModelError, match="pip install transformers"):
        filled(make, {}, "tiny")


def test_naming_the_models_imports_no_library() -> None:
    code = (
        "import sys, napari_sam.models, napari_sam.models.sam2, napari_sam.weights.registry; "
        "assert not {'transformers', 'tokenizers', 'huggingface_hub'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
