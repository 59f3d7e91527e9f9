"""The compact network: its shapes, its folding, its prompts, and the weights that ship with the package."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from scipy import ndimage
from skimage.data import coins
from skimage.filters import threshold_otsu
from torch import nn

from napari_sam.core.geometry import Box
from napari_sam.core.prompts import TilePrompts
from napari_sam.models import load_predictor
from napari_sam.models.compact import Compact, CompactPredictor
from napari_sam.models.compact.prompt_encoder import NOT_A_POINT, PromptEncoder
from napari_sam.models.prompt_tokens import BOTTOM_RIGHT, NEGATIVE, POSITIVE, TOP_LEFT, prompt_tokens
from napari_sam.weights.registry import REGISTRY

PREVIOUS, POSITIVE_DISK, NEGATIVE_DISK, BOX, LIKE_POSITIVE, LIKE_NEGATIVE, LIKE_BOX, NEARNESS = range(8)
AGREE, DISAGREE = 8, 9

COIN = (124, 205)
MAGNIFIED = 2


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network() -> Compact:
    """A network with random weights whose batch norms have seen something, ready for inference."""
    torch.manual_seed(0)
    network = Compact()
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.3, 2.0, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def predictor() -> CompactPredictor:
    return load_predictor("compact", "cpu")


def random_tiles(count: int, side: int = 256) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(2))


def three_objects() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Prompts of three objects: two points, a box, one point among padding; with logits for the first two."""
    coords = torch.tensor(
        [[[40.0, 200.0], [90.0, 17.0]], [[30.0, 60.0], [140.0, 110.0]], [[0.0, 0.0], [128.0, 64.0]]],
    )
    types = torch.tensor([[POSITIVE, NEGATIVE], [TOP_LEFT, BOTTOM_RIGHT], [NOT_A_POINT, POSITIVE]])
    logits = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(3)) * 4
    logits[2] = 0
    return coords, types, logits


def coin_tile() -> tuple[np.ndarray, np.ndarray]:
    """Return a tile of one real coin among others, magnified as the model likes it, and that coin by threshold."""
    row, col = COIN
    half = 128 // MAGNIFIED
    crop = coins()[row - half : row + half, col - half : col + half]
    bright = ndimage.binary_fill_holes(ndimage.gaussian_filter(crop.astype(float), 1) > threshold_otsu(crop))
    parts, _ = ndimage.label(ndimage.binary_opening(bright, iterations=2))
    coin = np.kron(parts == parts[half, half], np.ones((MAGNIFIED, MAGNIFIED), bool))
    grey = np.kron(crop, np.ones((MAGNIFIED, MAGNIFIED), np.uint8))
    return np.repeat(grey[..., None], 3, axis=-1), coin


def at_full_size(logits: np.ndarray) -> np.ndarray:
    return np.kron(logits > 0, np.ones((4, 4), bool))


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


# The network


@pytest.mark.parametrize(("count", "side"), [(1, 256), (2, 128)])
def test_image_encoder_gives_a_pyramid_and_unit_pixels(network: Compact, count: int, side: int) -> None:
    f16, f8, f4, pixels, centers = network.image_encoder(random_tiles(count, side))
    assert f16.shape == (count, 128, side // 16, side // 16)
    assert f8.shape == (count, 64, side // 8, side // 8)
    assert f4.shape == (count, 32, side // 4, side // 4)
    assert pixels.shape == (count, 32, side // 4, side // 4)
    assert centers.shape == (count, 3, side // 4, side // 4)
    torch.testing.assert_close(pixels.norm(dim=1), torch.ones(count, side // 4, side // 4))


def test_prompt_encoder_shapes(network: Compact) -> None:
    *_, pixels, centers = network.image_encoder(random_tiles(1))
    encoded = network.prompt_encoder(*(x.expand(3, -1, -1, -1) for x in (pixels, centers)), *three_objects())
    assert encoded.tokens.shape == (3, 2, 128)
    assert encoded.dense4.shape == (3, 32, 64, 64)
    assert encoded.dense16.shape == (3, 128, 16, 16)
    assert encoded.position16.shape == (1, 256, 128)


def test_three_masks_and_three_iou_predictions_in_float32(network: Compact) -> None:
    coords, types, logits = three_objects()
    masks, iou_prediction = network(random_tiles(3), coords, types, logits)
    assert masks.shape == (3, 3, 64, 64)
    assert iou_prediction.shape == (3, 3)
    assert masks.dtype == iou_prediction.dtype == torch.float32
    assert torch.isfinite(masks).all()


def test_folding_the_batch_norms_changes_no_feature(network: Compact) -> None:
    folded = Compact().eval().requires_grad_(False)
    folded.load_state_dict(network.state_dict())
    folded.fold_batch_norms()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    tiles = random_tiles(2, 128)
    fresh = Compact().eval().image_encoder(tiles)
    for before, after, other in zip(network.image_encoder(tiles), folded.image_encoder(tiles), fresh, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
        assert not torch.allclose(other, before, rtol=1e-2, atol=1e-2), "the comparison cannot tell networks apart"


def test_objects_decoded_together_equal_objects_decoded_alone(network: Compact) -> None:
    f16, f8, f4, pixels, centers = network.image_encoder(random_tiles(1))
    coords, types, logits = three_objects()
    each = (x.expand(3, -1, -1, -1) for x in (pixels, centers))
    encoded = network.prompt_encoder(*each, coords, types, logits)
    together, scores = network.mask_decoder(f16, f8, f4, encoded)
    for i in range(3):
        one = slice(i, i + 1)
        encoded = network.prompt_encoder(pixels, centers, coords[one], types[one], logits[one])
        alone, score = network.mask_decoder(f16, f8, f4, encoded)
        torch.testing.assert_close(together[one], alone, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(scores[one], score, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-2), "all objects got the same answer"


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(4)
    network = Compact().train()
    coords, types, logits = three_objects()
    masks, iou_prediction = network(random_tiles(3, 128), coords / 2, types, logits[:, :32, :32])
    head = network.image_encoder.dense_head
    dense = head(torch.randn(1, 32, 4, 4)).square().sum() + head.likeness.square().sum()
    answers = (masks * torch.randn_like(masks)).sum() + (iou_prediction * torch.randn_like(iou_prediction)).sum()
    (answers + dense).backward()
    still = [
        name
        for name, parameter in network.named_parameters()
        # Softmax does not feel a constant added to all keys, so the gradient of this bias is zero by nature.
        if not name.endswith("k_proj.bias") and (parameter.grad is None or not parameter.grad.abs().max() > 0)
    ]
    assert still == []
    types_seen = network.prompt_encoder.types.weight.grad.abs().amax(1) > 0
    assert types_seen.all(), "some kind of prompt is never learnt"


# Prompt maps


def maps_of(
    coords: list, types: list, logits: torch.Tensor | None = None, centers: torch.Tensor | None = None
) -> np.ndarray:
    """Return the ten dense maps of one object on a tile of random unit pixels."""
    pixels = nn.functional.normalize(torch.randn(1, 32, 64, 64, generator=torch.Generator().manual_seed(5)), dim=1)
    previous = torch.zeros(1, 64, 64) if logits is None else logits
    where = torch.zeros(1, 3, 64, 64) if centers is None else centers
    maps = PromptEncoder._maps(pixels, where, torch.tensor([coords]), torch.tensor([types]), previous)
    assert maps.shape == (1, 10, 64, 64)
    return maps[0].numpy()


def two_discs() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """What a perfect encoder says of two touching discs, and the cells of each."""
    row, col = np.indices((64, 64)) * 4 + 2.0
    centers, cells = np.zeros((3, 64, 64), np.float32), []
    for x, y in ((80, 100), (160, 100)):
        disc = (col - x) ** 2 + (row - y) ** 2 < 40**2
        radius = 4 * np.sqrt(disc.sum())
        centers[:, disc] = np.stack([(x - col) / radius, (y - row) / radius, np.full_like(row, np.log(radius))])[
            :, disc
        ]
        cells.append(disc)
    return torch.from_numpy(centers)[None], *cells


def test_pixels_that_point_to_the_centre_of_the_clicked_object_agree() -> None:
    centers, left, right = two_discs()
    maps = maps_of([[70.0, 90.0], [178.0, 120.0]], [POSITIVE, NEGATIVE], centers=centers)
    assert maps[AGREE][left].min() > 0.95
    assert maps[AGREE][right].max() < 0.2
    assert maps[DISAGREE][right].min() > 0.95
    assert maps[DISAGREE][left].max() < 0.2
    alone = maps_of([[70.0, 90.0]], [POSITIVE], centers=centers)
    assert not alone[DISAGREE].any()
    np.testing.assert_allclose(alone[AGREE], maps[AGREE])
    boxed = maps_of([[40.0, 60.0], [120.0, 140.0]], [TOP_LEFT, BOTTOM_RIGHT], centers=centers)
    assert not boxed[AGREE].any()


def peak(values: np.ndarray) -> tuple[int, int]:
    row, col = np.unravel_index(int(values.argmax()), values.shape)
    return int(row), int(col)


@pytest.mark.parametrize(
    ("kind", "disk", "other", "likeness", "unlike"),
    [
        (POSITIVE, POSITIVE_DISK, NEGATIVE_DISK, LIKE_POSITIVE, LIKE_NEGATIVE),
        (NEGATIVE, NEGATIVE_DISK, POSITIVE_DISK, LIKE_NEGATIVE, LIKE_POSITIVE),
    ],
)
def test_a_point_peaks_in_its_own_maps_where_it_stands(
    kind: int, disk: int, other: int, likeness: int, unlike: int
) -> None:
    x, y = 122.0, 34.0  # The centre of the cell in row 8, column 30.
    maps = maps_of([[x, y]], [kind])
    assert peak(maps[disk]) == (8, 30)
    assert maps[disk].max() == pytest.approx(1)
    assert maps[disk, 8, 31] == maps[disk, 7, 30] < 1
    assert maps[disk, 30, 8] < 1e-6, "rows and columns are exchanged"
    assert not maps[other].any()
    assert peak(maps[likeness]) == (8, 30)
    assert maps[likeness].max() == pytest.approx(1, abs=1e-5)
    assert (maps[unlike] == -1).all()


def test_nearness_falls_with_the_distance_to_the_nearest_positive_point() -> None:
    maps = maps_of([[2.0, 2.0], [250.0, 250.0], [130.0, 130.0]], [POSITIVE, POSITIVE, NEGATIVE])
    assert maps[NEARNESS, 0, 0] == pytest.approx(1)
    assert maps[NEARNESS, 62, 62] == pytest.approx(1)
    assert maps[NEARNESS, 0, 16] == pytest.approx(np.exp(-1)), "64 tile pixels away"
    assert maps[NEARNESS, 32, 32] < 0.1, "a negative point counts as positive"


def test_the_box_map_covers_every_cell_that_the_box_meets_and_no_other() -> None:
    maps = maps_of([[9.0, 20.0], [41.0, 101.0]], [TOP_LEFT, BOTTOM_RIGHT])  # (x, y)
    expected = np.zeros((64, 64), bool)
    expected[20 // 4 : 26, 9 // 4 : 11] = True
    np.testing.assert_array_equal(maps[BOX], expected)
    assert maps[LIKE_BOX].any()


def test_a_box_after_points_is_found_and_a_box_at_the_border_is_not_cut() -> None:
    maps = maps_of([[10.0, 10.0], [0.0, 128.0], [256.0, 256.0]], [NEGATIVE, TOP_LEFT, BOTTOM_RIGHT])
    expected = np.zeros((64, 64), bool)
    expected[32:, :] = True
    np.testing.assert_array_equal(maps[BOX], expected)


def test_without_prompts_every_map_is_silent() -> None:
    maps = maps_of([[0.0, 0.0]], [NOT_A_POINT])
    for index in (PREVIOUS, POSITIVE_DISK, NEGATIVE_DISK, BOX, LIKE_BOX):
        assert not maps[index].any()
    assert (maps[[LIKE_POSITIVE, LIKE_NEGATIVE]] == -1).all()
    assert maps[NEARNESS].max() < 1e-6


def test_earlier_logits_enter_squashed() -> None:
    logits = torch.linspace(-40, 40, 64 * 64).reshape(1, 64, 64)
    maps = maps_of([[0.0, 0.0]], [NOT_A_POINT], logits)
    np.testing.assert_allclose(maps[PREVIOUS], np.tanh(logits[0].numpy() / 4), rtol=1e-5)


# Tokens


def test_points_become_xy_tokens_behind_one_that_says_there_is_no_box() -> None:
    prompts = TilePrompts(np.array([[10, 20], [30, 40]], np.float32), np.array([True, False]))
    coords, types = prompt_tokens(prompts, box_first=True, padding=NOT_A_POINT)
    assert types.tolist() == [NOT_A_POINT, POSITIVE, NEGATIVE]
    assert coords[1:].tolist() == [[20, 10], [40, 30]]
    assert (coords.dtype, types.dtype) == (np.float32, np.int64)


def test_a_box_becomes_its_two_corners_before_the_points() -> None:
    prompts = TilePrompts(np.array([[10, 20]], np.float32), np.array([True]), Box(1, 2, 30, 40))
    coords, types = prompt_tokens(prompts, box_first=True, padding=NOT_A_POINT)
    assert types.tolist() == [TOP_LEFT, BOTTOM_RIGHT, POSITIVE]
    assert coords.tolist() == [[2, 1], [40, 30], [20, 10]]


# The weights of the package


def test_shipped_weights_are_those_of_the_registry_small_and_half_precision() -> None:
    entry = REGISTRY["compact"]
    assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
    assert entry.path.stat().st_size <= 20_000_000
    with safe_open(entry.path, "pt") as file:
        kinds = {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    # Running statistics can exceed half precision.
    assert all(kind == ("F32" if "running_" in key else "F16") for key, kind in kinds.items())


def test_shipped_weights_load_strictly_and_are_finite() -> None:
    state = load_file(REGISTRY["compact"].path)
    network = Compact.matching(state)
    network.load_state_dict(state, strict=True)
    assert all(torch.isfinite(value.float()).all() for value in state.values())
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(7.0e6, rel=0.02)


# The predictor


def test_dense_guesses_of_a_coin_point_to_its_middle_and_know_its_size(predictor: CompactPredictor) -> None:
    tile, coin = coin_tile()
    guesses = predictor.dense_guesses(predictor.encode(tile[None])[0])
    assert guesses.center_offsets.shape == (2, 64, 64)
    assert guesses.radius.shape == (64, 64)
    assert guesses.center_offsets.dtype == guesses.radius.dtype == np.float32
    cells = coin[2::4, 2::4]
    positions = np.argwhere(cells) * 4 + 2
    centers = positions + guesses.center_offsets[:, cells].T
    expected, radius = np.argwhere(coin).mean(0) + 0.5, np.sqrt(np.count_nonzero(coin))
    np.testing.assert_allclose(np.median(centers, 0), expected, atol=0.15 * radius)
    assert np.median(guesses.radius[cells]) == pytest.approx(radius, rel=0.25)


def test_foreground_and_border_are_guessed_only_by_weights_with_a_head_for_them() -> None:
    predictor = load_predictor("compact", "cpu")
    assert isinstance(predictor, CompactPredictor)
    tile, _ = coin_tile()
    (embedding,) = predictor.encode(tile[None])
    head = nn.Conv2d(32, 2, 1).requires_grad_(False)
    predictor._network.image_encoder.dense_head = head
    guesses = predictor.dense_guesses(embedding)
    expected = torch.sigmoid(head(embedding.tensors[2]))[0].numpy()
    np.testing.assert_allclose(guesses.foreground, expected[0], atol=1e-6)
    np.testing.assert_allclose(guesses.border, expected[1], atol=1e-6)
    del predictor._network.image_encoder.dense_head
    without = predictor.dense_guesses(embedding)
    assert without.foreground is without.border is None
    np.testing.assert_array_equal(without.radius, guesses.radius)


def test_encode_and_decode_are_deterministic(predictor: CompactPredictor) -> None:
    tile, _ = coin_tile()
    prompts = TilePrompts(np.array([[128, 128], [10, 10]], np.float32), np.array([True, False]))
    first, again = (predictor.decode(predictor.encode(tile[None])[0], prompts) for _ in range(2))
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.iou_prediction, again.iou_prediction)


def test_decoding_leaves_the_embedding_and_the_prompts_as_they_were(predictor: CompactPredictor) -> None:
    embedding = predictor.encode(coin_tile()[0][None])[0]
    before = [tensor.clone() for tensor in embedding.tensors]
    logits = np.full((64, 64), -3, np.float32)
    predictor.decode(embedding, TilePrompts(box=Box(80, 80, 170, 170), mask_logits=logits))
    assert all(torch.equal(a, b) for a, b in zip(before, embedding.tensors, strict=True))
    assert (logits == -3).all()


def test_two_tiles_at_once_equal_two_tiles_alone(predictor: CompactPredictor) -> None:
    tile, _ = coin_tile()
    tiles = np.stack([tile, tile[::-1, :, ::-1]])
    together = predictor.encode(tiles)
    assert len(together) == 2
    for one, embedding in zip(tiles, together, strict=True):
        alone = predictor.encode(one[None])[0]
        for a, b in zip(alone.tensors, embedding.tensors, strict=True):
            assert b.shape[0] == 1
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together[0].tensors[0], together[1].tensors[0], atol=1e-1)


def test_the_predictor_equals_the_plain_network(predictor: CompactPredictor) -> None:
    """Folding, memory layout, normalisation and the order of tokens change nothing against the network as trained."""
    tile, _ = coin_tile()
    state = load_file(REGISTRY["compact"].path)
    network = Compact.matching(state).eval()
    network.load_state_dict({key: value.float() for key, value in state.items()})
    images = (torch.from_numpy(tile.astype(np.float32) / 255).permute(2, 0, 1)[None] - 0.45) / 0.25
    coords = torch.tensor([[[60.0, 80.0], [200.0, 180.0], [128.0, 120.0]]])
    types = torch.tensor([[TOP_LEFT, BOTTOM_RIGHT, POSITIVE]])
    with torch.inference_mode():
        masks, iou_prediction = network(images, coords, types, torch.zeros(1, 64, 64))
    prompts = TilePrompts(np.array([[120, 128]], np.float32), np.array([True]), Box(80, 60, 180, 200))
    decoded = predictor.decode(predictor.encode(tile[None])[0], prompts)
    np.testing.assert_allclose(decoded.logits, masks[0].numpy(), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(decoded.iou_prediction, iou_prediction[0].clamp(0, 1).numpy(), atol=1e-3)


@pytest.mark.parametrize("by", ["point", "box"])
def test_the_model_tells_one_real_coin_from_background_and_from_its_neighbours(
    predictor: CompactPredictor, by: str
) -> None:
    tile, coin = coin_tile()
    rows, cols = np.flatnonzero(coin.any(1)), np.flatnonzero(coin.any(0))
    if by == "point":
        prompts = TilePrompts(np.array([[128, 128]], np.float32), np.array([True]))
    else:
        prompts = TilePrompts(box=Box(rows[0], cols[0], rows[-1] + 1, cols[-1] + 1))
    decoded = predictor.decode(predictor.encode(tile[None])[0], prompts)
    assert decoded.logits.shape == (3, 64, 64)
    assert decoded.iou_prediction.shape == (3,)
    assert ((decoded.iou_prediction >= 0) & (decoded.iou_prediction <= 1)).all()
    best = at_full_size(decoded.logits[decoded.iou_prediction.argmax()])
    assert iou(best, coin) >= 0.85


def test_a_point_on_the_background_does_not_give_the_coin(predictor: CompactPredictor) -> None:
    tile, coin = coin_tile()
    outside = np.argwhere(ndimage.distance_transform_edt(~coin) > 12)
    prompts = TilePrompts(outside[len(outside) // 2][None].astype(np.float32), np.array([True]))
    decoded = predictor.decode(predictor.encode(tile[None])[0], prompts)
    assert iou(at_full_size(decoded.logits[decoded.iou_prediction.argmax()]), coin) < 0.5


def test_earlier_logits_change_the_answer(predictor: CompactPredictor) -> None:
    tile, coin = coin_tile()
    embedding = predictor.encode(tile[None])[0]
    point = np.array([[128, 128]], np.float32), np.array([True])
    plain = predictor.decode(embedding, TilePrompts(*point))
    rough = np.where(coin[2::4, 2::4], 8, -8).astype(np.float32)
    hinted = predictor.decode(embedding, TilePrompts(*point, mask_logits=rough))
    assert np.abs(hinted.logits - plain.logits).max() > 0.5
    assert iou(at_full_size(hinted.logits[hinted.iou_prediction.argmax()]), coin) >= 0.85
