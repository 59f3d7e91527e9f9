"""Low-rank adapters of image encoders: what they change, what they leave alone, and what is saved."""

from __future__ import annotations

import pytest
import torch

from napari_sam.errors import ModelError
from napari_sam.models.sam import Sam
from napari_sam.models.sam.network import ViTSize
from napari_sam.models.sam2.configs import HieraSize, network_of
from napari_sam.training.prompts import PromptBatch
from napari_sam.training.teaching.networks.adapters import adapt, merged
from napari_sam.training.teaching.networks.teachable import check_teachable
from napari_sam.training.teaching.networks.trainers import TaughtSam, trained_parameters
from napari_sam.training.teaching.teach import teach

pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 128


def tiny_sam():
    torch.manual_seed(0)
    network = Sam(ViTSize(16, 2, 2, (1,)), side=SIDE)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def plain(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


def one_step(trainer, pixels, prompts):
    """Take a step towards larger masks, of the same size for every parameter."""
    logits, _ = trainer.decode(trainer.encode(pixels), 1, prompts)
    (-logits.mean()).backward()
    with torch.no_grad():
        for parameter in trained_parameters(trainer):
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad / (parameter.grad.abs().max() + 1e-12)
                parameter.grad = None


def test_an_adapter_changes_nothing_at_first_and_only_attention_of_the_encoder_learns():
    network = tiny_sam()
    before, pixels = plain(network), torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        answer = network.image_encoder(pixels)
        adapt(network.image_encoder, 3)
        assert torch.equal(network.image_encoder(pixels), answer)
    learning = {name for name, one in network.image_encoder.named_parameters() if one.requires_grad}
    assert len(learning) == 2 * 2 * 2
    assert all(".attn." in name and name.endswith((".up", ".down")) for name in learning)
    assert {one.shape[0] for name, one in network.image_encoder.named_parameters() if name.endswith(".down")} == {3}
    assert merged(network.state_dict()).keys() == before.keys()


@pytest.mark.parametrize("rank", [1, 4])
def test_the_merged_model_is_the_adapted_one(rank):
    network = tiny_sam()
    before, pixels = plain(network), torch.randint(0, 255, (1, 3, SIDE, SIDE), dtype=torch.uint8)
    prompts = PromptBatch(torch.full((1, 2, 2), 40.0), torch.tensor([[1, 1]]), torch.zeros(1, SIDE // 4, SIDE // 4))
    trainer = TaughtSam(network, rank)
    trainer.train()
    for _ in range(2):  # The second factor only learns once the first one is not 0.
        one_step(trainer, pixels, prompts)
    state = merged(network.state_dict())
    changed = {key for key in before if not torch.equal(before[key], state[key])}
    assert "image_encoder.blocks.0.attn.qkv.weight" in changed
    assert any(key.startswith("mask_decoder") for key in changed)
    assert {key for key in changed if key.startswith("image_encoder")} == {
        f"image_encoder.blocks.{block}.attn.{layer}.weight" for block in (0, 1) for layer in ("qkv", "proj")
    }
    moved = state["image_encoder.blocks.0.attn.qkv.weight"] - before["image_encoder.blocks.0.attn.qkv.weight"]
    assert torch.linalg.matrix_rank(moved, rtol=1e-4) == rank
    other = tiny_sam()
    other.load_state_dict(state)
    with torch.no_grad():
        adapted, same = (
            TaughtSam.decode(each, TaughtSam.encode_now(each, pixels), 1, prompts)[0]
            for each in (trainer, TaughtSam(other))
        )
    torch.testing.assert_close(adapted, same, rtol=1e-4, atol=1e-4)


def test_without_adapters_the_encoder_stays_and_sees_each_crop_once(monkeypatch):
    trainer, seen = TaughtSam(tiny_sam()), []
    encode = TaughtSam.encode_now
    monkeypatch.setattr(TaughtSam, "encode_now", lambda self, pixels: (seen.append(1), encode(self, pixels))[1])
    pixels = torch.randint(0, 255, (2, 3, SIDE, SIDE), dtype=torch.uint8)
    first, again = trainer.encode(pixels), trainer.encode(pixels)
    assert (len(seen), trainer.sees_crops_once) == (2, True)
    assert torch.equal(first[0], again[0])
    adapted = TaughtSam(tiny_sam(), rank=2)
    adapted.encode(pixels)
    adapted.encode(pixels)
    assert (len(seen), adapted.sees_crops_once) == (4, False)


def test_the_decoder_and_the_adapters_of_a_sam_2_learn():
    pytest.importorskip("transformers")
    from napari_sam.training.teaching.networks.sam2_trainer import TaughtSam2

    torch.manual_seed(0)
    network = network_of(HieraSize(16, 1, (1, 1, 3, 1), (3,)))
    before = plain(network)
    trainer = TaughtSam2(network, rank=2)
    trainer.train()
    pixels = torch.randint(0, 255, (1, 3, 1024, 1024), dtype=torch.uint8)
    prompts = PromptBatch(torch.full((1, 2, 2), 300.0), torch.tensor([[1, 0]]), torch.zeros(1, 256, 256))
    one_step(trainer, pixels, prompts)
    state = merged(network.state_dict())
    assert state.keys() == before.keys()
    changed = {key for key in before if not torch.equal(before[key], state[key])}
    assert any(key.startswith("mask_decoder") for key in changed)
    assert any(key.startswith("vision_encoder") for key in changed)
    assert all(key.endswith(("attn.qkv.weight", "attn.proj.weight")) for key in changed if "vision_encoder" in key)
    with torch.no_grad():
        logits, scores = trainer.decode(trainer.encode(pixels), 1, prompts)
    assert (logits.shape, scores.shape) == ((1, 3, 256, 256), (1, 3))


def test_what_cannot_be_taught_so_is_refused(journal):
    with pytest.raises(ModelError, match="All of compact learns anyway"):
        check_teachable("compact", "compact", rank=4)
    with pytest.raises(ModelError, match="cannot be taught: choose compact"):
        check_teachable("sam3", "sam3")
    with pytest.raises(ModelError, match="decoder or adapters"):
        teach(journal, "mine", train="everything")
    with pytest.raises(ModelError, match="The rank"):
        teach(journal, "mine", rank=0)
