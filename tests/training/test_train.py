from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import binary_dilation, binary_erosion
from skimage.draw import disk

from napari_sam.errors import ImageError, ModelError, OutputError
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.models import load_predictor
from napari_sam.models.compact import Compact
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT
from napari_sam.models.safe_load import load_weights
from napari_sam.training import checkpoint, rounds, trainers
from napari_sam.training import train as training
from napari_sam.training.crops import CropOptions, _sample, _turned, draw_crop, load_sources
from napari_sam.training.losses import dense_targets, likeness_loss, mask_losses, sample_cells
from napari_sam.training.plots import draw_curve
from napari_sam.training.prompts import first_prompts, next_points
from napari_sam.training.train import TrainOptions, rate_factor, read_config, train
from napari_sam.weights.registry import REGISTRY

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Ten images of bright discs on a noisy ground, with their labels."""
    folder, rng = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    made = []
    for index in range(10):
        labels = np.zeros((120, 140), np.uint8)
        for label, (row, col) in enumerate(((35, 40), (80, 100), (90, 30)), 1):
            labels[disk((row, col), rng.integers(10, 18), shape=labels.shape)] = label
        pixels = rng.normal(60, 10, labels.shape) + 110 * (labels > 0)
        files = folder / f"image{index}.tif", folder / f"labels{index}.tif"
        for file, array in zip(files, (pixels.clip(0, 255).astype(np.uint8), labels), strict=True):
            tifffile.imwrite(file, array)
        made.append(files)
    return tuple(made)


@pytest.fixture
def options(pairs, tmp_path):
    return TrainOptions(
        out=tmp_path / "run", pairs=pairs, steps=6, batch=2, objects=2, side=64, warmup=1, save_every=2, augment=False
    )


def test_ten_images_are_learnt_by_heart(options):
    long = replace(options, steps=190, batch=4, objects=3, learning_rate=3e-3, warmup=20, save_every=190, average=0.9)
    long = replace(long, every_candidate=0.3)
    curve = []
    train(long, lambda step, figures: curve.append(figures))
    late = [figures["iou_first"] for figures in curve[-20:]]
    assert np.mean([figures["iou_first"] for figures in curve[:5]]) < 0.5
    assert np.mean(late) >= 0.9
    assert np.mean([figures["loss"] for figures in curve[-20:]]) < 0.5 * curve[0]["loss"]


def test_a_run_that_was_killed_goes_on_to_the_same_weights(options, monkeypatch):
    straight = train(replace(options, out=options.out / "straight"))

    class Killed(BaseException):
        pass

    def kill(step, figures):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(replace(options, out=options.out / "killed"), kill)
    saved = torch.load(options.out / "killed" / "state.pt", weights_only=True)
    assert saved["step"] == 4
    steps = []
    resumed = train(replace(options, out=options.out / "killed"), lambda step, figures: steps.append(step))
    assert steps == [5, 6]
    assert resumed.read_bytes() == straight.read_bytes()
    curves = [json.loads((file.parent / "curve.json").read_text()) for file in (straight, resumed)]
    assert curves[0] == curves[1]


def test_a_second_run_in_the_same_folder_is_refused_and_the_first_one_goes_on(options):
    refusals = []

    def start_another(step, figures):
        with pytest.raises(OutputError, match=r"Another training run is using .*choose another folder") as refused:
            train(options)
        refusals.append(str(refused.value))

    weights = train(options, start_another)
    assert len(refusals) == options.steps
    assert not (options.out / "training.lock").exists()
    assert train(options) == weights  # The folder is free again.


def test_the_lock_of_a_killed_run_keeps_nobody_out_and_is_removed(options):
    options.out.mkdir()
    (options.out / "training.lock").touch()
    train(options)
    assert not (options.out / "training.lock").exists()


def test_a_complete_run_that_is_repeated_removes_the_unfinished_folder_of_a_killed_one(options):
    train(options)
    complete = sorted(path.name for path in options.out.iterdir())
    code = (
        "import os, sys; from pathlib import Path; from napari_sam.files.temporary import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(options.out)], check=False)
    assert len(list(options.out.iterdir())) == len(complete) + 1
    train(options)
    assert sorted(path.name for path in options.out.iterdir()) == complete


def test_a_run_that_is_refused_leaves_no_folder(options, tmp_path):
    (tmp_path / "none.safetensors").write_bytes(b"no weights")
    wrong = replace(options, out=tmp_path / "a/b", init=tmp_path / "none.safetensors")
    with pytest.raises(ModelError):
        train(wrong)
    assert not (tmp_path / "a").exists()


def test_the_weights_load_as_a_model_of_half_precision(options):
    weights = train(options)
    predictor = load_predictor(weights, "cpu")
    assert len(predictor.encode(np.zeros((1, 256, 256, 3), np.uint8))) == 1


def test_training_goes_on_from_given_weights(options, tmp_path):
    weights = train(options)
    curve = []
    train(replace(options, out=tmp_path / "next", init=weights, steps=1), lambda step, figures: curve.append(figures))
    fresh = []
    train(replace(options, out=tmp_path / "fresh", steps=1), lambda step, figures: fresh.append(figures))
    assert curve[0]["loss"] != fresh[0]["loss"]


def test_a_loss_that_is_no_number_stops_with_a_sentence_and_keeps_the_last_state(options, monkeypatch):
    real = rounds.mask_losses
    calls = []

    def broken(*args, **kwargs):
        calls.append(1)
        loss, iou = real(*args, **kwargs)
        return (loss * float("nan") if len(calls) > 9 else loss), iou

    monkeypatch.setattr(rounds, "mask_losses", broken)
    with pytest.raises(ModelError, match="not a number: lower the learning rate"):
        train(replace(options, steps=50))
    saved = torch.load(options.out / "state.pt", weights_only=True)
    assert saved["step"] % options.save_every == 0
    assert all(torch.isfinite(value).all() for value in saved["averaged"].values())


def test_a_full_disk_stops_with_a_sentence_and_keeps_the_last_state(options, monkeypatch):
    train(replace(options, steps=2))
    before = (options.out / "state.pt").read_bytes()

    def full(value, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(training.torch, "save", full)
    with pytest.raises(OutputError, match="make room"):
        train(replace(options, steps=4))
    assert (options.out / "state.pt").read_bytes() == before
    assert sorted(path.name for path in options.out.iterdir()) == [
        *("curve.json", "curve.png", "state.pt", "weights.safetensors")
    ]


def test_a_state_of_another_run_is_refused(options):
    train(replace(options, steps=2))
    (options.out / "state.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="choose another folder"):
        train(options)


def test_kept_out_images_are_not_read(pairs, tmp_path, options):
    entries = []
    for image, labels in pairs:
        for file in (image, labels):
            shutil.copy(file, tmp_path / file.name)
        entries.append({"image": image.name, "mask": labels.name, "subset": "discs", "kind": "instance"})
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    (tmp_path / "split.json").write_text(json.dumps({"kept_out": [pairs[0][0].name]}))
    (tmp_path / pairs[0][0].name).write_text("no image: reading it would fail")
    train(replace(options, pairs=(), manifest=tmp_path / "manifest.json", split=tmp_path / "split.json", steps=1))
    with pytest.raises(ImageError):
        train(replace(options, pairs=(), manifest=tmp_path / "manifest.json", out=tmp_path / "other", steps=1))


def test_step_and_seed_alone_decide_what_is_drawn(pairs):
    images = [LabelledImage(image, labels, "discs", "instance") for image, labels in pairs]
    sources = load_sources(images, np.random.default_rng(0))
    first, again, other = (
        draw_crop(sources, {}, CropOptions(side=64), np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.objects, again.objects)
    assert not np.array_equal(first.pixels, other.pixels)
    for crop in (first, other):
        assert crop.pixels.shape == (64, 64, 3)
        assert set(crop.values) <= set(np.unique(crop.objects))


def test_first_prompts_lie_in_the_object_or_around_it():
    masks = np.zeros((40, 64, 64), bool)
    masks[:, 20:40, 10:30] = True
    prompts = first_prompts(masks, 0.5, np.random.default_rng(0))
    boxes = prompts.types[:, 0] == TOP_LEFT
    assert 5 < boxes.sum() < 35
    assert (prompts.types[boxes, 1] == BOTTOM_RIGHT).all()
    for x, y in prompts.coords[~boxes, 0].long().tolist():
        assert masks[0, y, x]
    edges = torch.tensor([10.0, 20, 30, 40])
    assert (prompts.coords[boxes].flatten(1) - edges).abs().max() < 10
    assert (prompts.coords[boxes].flatten(1) - edges).abs().mean() > 0.5


def test_corrections_go_into_the_larger_error_with_its_sign():
    truth, answer = np.zeros((2, 32, 32), bool), np.zeros((2, 32, 32), bool)
    truth[:, 4:20, 4:20] = True
    answer[0, 4:20, 4:8] = True
    answer[1] = True
    points, types = next_points(answer, truth, np.random.default_rng(0))
    assert types.tolist() == [POSITIVE, NEGATIVE]
    for (x, y), wrong in zip(points.astype(int), (truth[0] & ~answer[0], answer[1] & ~truth[1]), strict=True):
        assert wrong[y, x]


def test_the_loss_is_small_for_the_truth_and_the_iou_is_right():
    truth = torch.zeros(1, 16, 16)
    truth[:, 4:12, 4:12] = 1
    logits = torch.stack([truth[0] * 20 - 10, 10 - truth[0] * 20])[None]
    loss, iou = mask_losses(logits, truth, focal_weight=8, gamma=1)
    assert loss[0, 0] < 0.01 < 1 < loss[0, 1]
    assert iou.tolist() == [[1, 0]]


def test_dense_targets_point_to_the_middle():
    objects = np.zeros((20, 20), np.int32)
    objects[5:14, 3:12] = 7
    inside, border, right, down, log_radius = dense_targets(objects, 4)
    np.testing.assert_array_equal(inside, objects == 7)
    assert border[5, 7] == border[4, 7] == 1
    assert border[9, 7] == border[0, 0] == 0
    assert down[5, 7] > 0 > down[13, 7]
    assert right[9, 3] > 0 > right[9, 11]
    assert down[9, 7] == right[9, 7] == 0
    assert right[9, 3] == pytest.approx(4 / 9)
    np.testing.assert_allclose(np.exp(log_radius[objects == 7]), 36, rtol=1e-6)
    assert not log_radius[objects == 0].any()


def test_cells_are_drawn_on_objects_and_every_object_counts_alike():
    objects = np.full((40, 40), -1, np.int32)
    objects[:, 20:] = 0
    objects[5:35, 2:18], objects[10:12, 30:32] = 3, 9
    cells, values = sample_cells(objects, 400, np.random.default_rng(0))
    np.testing.assert_array_equal(objects.ravel()[cells], values)
    assert 140 < np.count_nonzero(values == 9) < 260
    none, labels = sample_cells(np.minimum(objects, 0), 5, np.random.default_rng(0))
    assert none.tolist() == [0] * 5
    assert labels.tolist() == [-2] * 5


def test_the_likeness_loss_wants_one_object_alike_and_leaves_ignored_cells_alone():
    objects = torch.tensor([[[1, 1, 0, -1], [1, 1, 2, 2]]])
    cells, values = torch.tensor([[0, 6]]), torch.tensor([[1, 2]])
    contrast = torch.tensor([20.0, -10.0])
    axes = torch.eye(4)
    good = torch.stack([axes[max(value, 0)] for value in objects.flatten().tolist()], 1).reshape(1, 4, 2, 4)
    assert likeness_loss(good, objects, cells, values, contrast) < 1e-3
    ignored = good.clone()
    ignored[0, :, 0, 3] = axes[1]  # Like object 1, but nobody knows what it is.
    assert likeness_loss(ignored, objects, cells, values, contrast) == likeness_loss(
        good, objects, cells, values, contrast
    )
    mixed = good.clone()
    mixed[0, :, 0, 2] = axes[1]  # Background like object 1.
    assert likeness_loss(mixed, objects, cells, values, contrast) > 0.5
    torn = good.clone()
    torn[0, :, 1, 0] = axes[3]  # A part of object 1 unlike the rest.
    assert likeness_loss(torn, objects, cells, values, contrast) > 0.5


def test_a_crop_shows_the_object_under_its_label_whatever_is_turned_and_stretched(pairs):
    """The discs are bright on a dark ground: pixels and labels must move together."""
    images = [LabelledImage(image, labels, "discs", "instance") for image, labels in pairs]
    sources = load_sources(images, np.random.default_rng(0))
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        source = sources["discs"][seed % 10]
        linear = _turned(np.eye(2) * rng.uniform(0.3, 3), rng)
        pixels, objects = _sample(source, np.array([78.0, 95.0]), linear, 64)
        assert pixels.shape == (64, 64, 3)
        inner = binary_erosion(objects > 0, iterations=2)
        outer = ~binary_dilation(objects > 0, iterations=2) & (pixels[..., 0] > 0)
        if inner.any() and outer.any():
            seen += 1
            assert np.percentile(pixels[inner], 5) > np.percentile(pixels[outer], 95)
    assert seen > 10


def test_a_window_beyond_the_image_is_black_and_without_objects(pairs):
    image, labels = pairs[0]
    sources = load_sources([LabelledImage(image, labels, "discs", "instance")], np.random.default_rng(0))
    pixels, objects = _sample(sources["discs"][0], np.array([0.0, 0.0]), np.eye(2), 64)
    assert not pixels[:31, :31].any()
    assert not objects[:32, :32].any()
    assert pixels[33:, 33:].any()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 5", "where to write"),
        ('out = "a"\nstep = 5', "unknown entry 'step'"),
        ('out = "a"\nsteps = "many"', "must be a number"),
        ("out = ", "no valid TOML"),
    ],
)
def test_a_wrong_configuration_names_the_mend(tmp_path, text, words):
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ModelError, match=words):
        read_config(tmp_path / "config.toml")


def test_a_configuration_may_start_from_a_model_by_name(tmp_path):
    (tmp_path / "config.toml").write_text('out = "run"\ninit = "compact"')
    assert read_config(tmp_path / "config.toml").init == REGISTRY["compact"].path
    (tmp_path / "config.toml").write_text('out = "run"\ninit = "mine.pth"')
    assert read_config(tmp_path / "config.toml").init == tmp_path / "mine.pth"


def test_the_example_of_fine_tuning_is_valid_and_starts_from_the_embedded_model():
    options = read_config(Path(__file__).parent.parent.parent / "configs" / "finetune.toml")
    assert options.init.exists()
    assert options.pairs
    assert all(len(pair) == 2 for pair in options.pairs)


def test_only_the_learned_rounds_cost_a_gradient(options, monkeypatch):
    """The first and the last of five rounds; those between only lead to further prompts."""
    seen = []
    real = training.CompactTrainer.decode

    def watched(self, features, each, prompts):
        seen.append((torch.is_grad_enabled(), prompts.types.shape[1]))
        return real(self, features, each, prompts)

    monkeypatch.setattr(training.CompactTrainer, "decode", watched)
    monkeypatch.setattr(training, "PREFETCH", 1)
    for seed in range(40):
        seen.clear()
        train(replace(options, out=options.out / str(seed), steps=1, rounds=5, learned_rounds=2, seed=seed))
        if len(seen) == 5:
            break
    assert [learning for learning, _ in seen] == [True, False, False, False, True]
    tokens = [count for _, count in seen]
    assert sorted(tokens) == tokens
    assert tokens[-1] == tokens[0] + 3, "one of five rounds brings no new point"


def test_the_learning_rate_stays_and_then_falls(options):
    plan = replace(options, steps=100, warmup=10, decay=0.4)
    rates = [rate_factor(step, plan) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:61] == pytest.approx([1.0] * 52)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[61:]))
    assert rates[-1] < 0.03


def test_the_picture_of_the_curve_is_drawn_with_what_there_is(options, tmp_path):
    import matplotlib.image

    train(replace(options, validate_every=0))
    assert matplotlib.image.imread(options.out / "curve.png").std() > 0.01
    curve = json.loads((options.out / "curve.json").read_text())
    curve[-1]["validation"] = {"miou": [0.5, 0.6, 0.7]}
    draw_curve(curve, tmp_path / "more.png")
    assert matplotlib.image.imread(tmp_path / "more.png").std() > 0.01
    assert (tmp_path / "more.png").read_bytes() != (options.out / "curve.png").read_bytes()


def test_training_does_without_matplotlib(options, monkeypatch):
    monkeypatch.setattr(checkpoint, "can_draw", lambda: False)
    train(replace(options, steps=1))
    assert not (options.out / "curve.png").exists()


def test_a_variance_beyond_half_precision_survives_saving(options):
    """Such a variance was seen after 3700 steps: as half it became infinite and the weights were refused."""
    state = checkpoint.fresh_state(options, torch.device("cpu"))
    state.averaged.image_encoder.out16.norm1.running_var.fill_(188701.0)
    checkpoint.save(state, options.out)
    predictor = load_predictor(options.out / "weights.safetensors", "cpu")
    assert torch.isfinite(predictor.encode(np.zeros((1, 256, 256, 3), np.uint8))[0].tensors[0]).all()


def test_the_shipped_configuration_is_valid_and_its_split_is_of_the_manifest():
    root = Path(__file__).parent.parent.parent
    options = read_config(root / "configs" / "compact.toml")
    kept_out = json.loads(options.split.read_text())["kept_out"]
    assert len(kept_out) == len(set(kept_out)) > 50
    if not options.manifest.exists():
        pytest.skip("the labelled development images are not here")
    names = {entry["image"] for entry in json.loads(options.manifest.read_text())}
    assert set(kept_out) <= names


def test_a_sam_with_a_frozen_encoder_learns_its_decoder(options, pairs, monkeypatch, tmp_path):
    from safetensors.torch import save_file

    from napari_sam.models.sam import SIZES, Sam, ViTSize

    monkeypatch.setitem(SIZES, "vit_b", ViTSize(96, 2, 3, (1,)))
    torch.manual_seed(0)
    sam = Sam(SIZES["vit_b"])
    save_file(sam.state_dict(), tmp_path / "sam.safetensors")
    curve = []
    tuned = replace(options, init=tmp_path / "sam.safetensors", steps=2, batch=1, side=None, rounds=2)
    weights = train(tuned, lambda step, figures: curve.append(figures))
    from safetensors.torch import load_file

    after = load_file(weights)
    before = {key: value.half() for key, value in sam.state_dict().items()}
    changed = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
    assert changed == {"prompt_encoder", "mask_decoder"} or changed == {"mask_decoder"}


def test_the_trunk_of_given_weights_is_trained_more_slowly_and_its_frozen_part_not_at_all(options, tmp_path):
    torch.manual_seed(0)
    torch.save(Compact().state_dict(), tmp_path / "start.pt")
    tuned = replace(options, init=tmp_path / "start.pt", steps=1, trunk_rate=0.1, learning_rate=1e-2)
    state = checkpoint.fresh_state(tuned, torch.device("cpu"))
    trunk = state.trainer.network.image_encoder.trunk
    rates = {id(one): group["rate"] for group in state.optimizer.param_groups for one in group["params"]}
    assert {rates.get(id(one)) for one in trunk.blocks[-1].depthwise.parameters()} == {0.1, None}
    assert not any(id(one) in rates for one in trunk.stem.parameters())
    assert rates[id(state.trainer.network.mask_decoder.bias.weight)] == 1.0
    after = load_weights(train(tuned))
    before = {key: value.half() for key, value in load_weights(tmp_path / "start.pt").items()}
    moved = {key: (after[key].float() - before[key].float()).abs().max().item() for key in after}
    assert moved["image_encoder.trunk.stem.0.weight"] == 0
    assert 0 < moved["image_encoder.trunk.blocks.20.depthwise.0.weight"] < 0.3 * moved["mask_decoder.bias.weight"]


def test_a_trunk_with_random_weights_is_trained_like_the_rest(options):
    state = checkpoint.fresh_state(options, torch.device("cpu"))
    assert [group["rate"] for group in state.optimizer.param_groups] == [1.0, 1.0]
    assert all(one.requires_grad for one in state.trainer.network.parameters())


def test_weights_of_the_first_release_can_be_trained_further(options, tmp_path):
    torch.manual_seed(0)
    torch.save(Compact(encoder="residual").state_dict(), tmp_path / "old.pt")
    weights = train(replace(options, init=tmp_path / "old.pt", steps=1))
    assert "image_encoder.stage8.0.0.weight" in load_weights(weights)


def test_a_batch_in_two_parts_repeats_exactly_and_uses_all_of_its_crops(options, tmp_path, monkeypatch):
    torch.manual_seed(0)
    torch.save(Compact().state_dict(), tmp_path / "start.pt")
    seen = []
    real = training.run_rounds

    def watched(trainer, features, crops, *rest):
        seen.append(len(crops))
        return real(trainer, features, crops, *rest)

    monkeypatch.setattr(training, "run_rounds", watched)
    tuned = replace(options, init=tmp_path / "start.pt", steps=2, batch=3, parts=2)
    first, again = (train(replace(tuned, out=tmp_path / name)).read_bytes() for name in ("first", "again"))
    assert first == again
    assert sorted(seen) == [1] * 4 + [2] * 4


@pytest.mark.parametrize("changes", [{"parts": 3}, {"parts": 2, "frozen_norms": False}, {"parts": 2, "init": None}])
def test_parts_that_would_change_each_others_statistics_are_refused(options, tmp_path, changes):
    torch.save(Compact().state_dict(), tmp_path / "start.pt")
    with pytest.raises(ModelError, match="leave parts out"):
        train(replace(options, **{"init": tmp_path / "start.pt", "steps": 1, **changes}))


def test_a_batch_in_parts_has_the_gradient_of_the_whole_batch(options, tmp_path, monkeypatch):
    """With losses that are means over the crops and draw nothing at random."""
    torch.manual_seed(0)
    torch.save(Compact().state_dict(), tmp_path / "start.pt")
    tuned = replace(options, init=tmp_path / "start.pt", steps=1, batch=3, rounds=1, box_share=0.0)
    monkeypatch.setattr(training.CompactTrainer, "dense", lambda self, features, *rest: features[-1].square().mean())
    monkeypatch.setattr(training, "run_rounds", lambda trainer, features, *rest: (features[0].square().mean(), {}))
    gradients = []

    def kept(parameters, norm):
        gradients.append([None if one.grad is None else one.grad.clone() for one in parameters])
        return torch.tensor(1.0)

    monkeypatch.setattr(training.nn.utils, "clip_grad_norm_", kept)
    for parts in (1, 2):
        train(replace(tuned, out=tmp_path / str(parts), parts=parts))
    whole, divided = gradients
    for one, other in zip(whole, divided, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_a_sam_with_a_pretrained_trunk_is_refused(options, tmp_path, monkeypatch):
    monkeypatch.setattr(trainers, "detect_architecture", lambda state, path: ("vit_b", state))
    torch.save({"a": torch.zeros(1)}, tmp_path / "sam.pt")
    with pytest.raises(ModelError, match="leave pretrained_trunk out"):
        train(replace(options, init=tmp_path / "sam.pt", pretrained_trunk=True))
