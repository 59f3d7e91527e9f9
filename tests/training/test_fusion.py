"""Training of the fusion network: planes that are bent, samples of followers, and a fit that learns."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from skimage.draw import disk

from napari_sam import Segmenter
from napari_sam.core.following.mask_fuser import CHANNELS, SCALARS, WINDOW_CELLS
from napari_sam.core.masks import iou, mask_of
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.models.fusion import NetworkFuser
from napari_sam.models.fusion.network import FusionNetwork
from napari_sam.propagation.plane_stack import PlaneStack
from napari_sam.testing.predictors import FakePredictor
from napari_sam.training.fusion.bending import bent_planes
from napari_sam.training.fusion.fit import _batch, _loss, fit_fusion
from napari_sam.training.fusion.objects import SampledObjects
from napari_sam.training.fusion.samples import SampledFollower, samples_of, wronged

SHAPE = (7, 48, 60)


@pytest.fixture
def truth():
    found = np.zeros(SHAPE, bool)
    for z in range(1, 6):
        found[z][disk((24, 28 + z), 9, shape=SHAPE[1:])] = True
    return found


@pytest.fixture
def segmenter(truth):
    image = np.where(truth, 200, 30) + np.random.default_rng(0).integers(0, 5, SHAPE)
    return Segmenter(image.astype(np.uint8), model=FakePredictor(), rgb=False, contrast_limits=(0, 255))


@pytest.fixture
def fuser():
    torch.manual_seed(0)
    return NetworkFuser(FusionNetwork().state_dict(), torch.device("cpu"))


def sampled(segmenter, truth, fuser, rng):
    stack = PlaneStack.of(SHAPE, segmenter.plane(0), 0)

    def make(direction):
        return SampledFollower(segmenter.encoder, fuser, direction, stack, truth=truth, subset="discs", rng=rng)

    return list(samples_of(segmenter, stack, truth, make, np.random.default_rng(0)))


def test_bent_planes_move_a_little_and_keep_the_object(truth):
    rng = np.random.default_rng(0)
    picture = np.repeat(np.where(truth[3], 200, 30).astype(np.uint8)[..., None], 3, -1)
    planes, masks = bent_planes(picture, truth[3], 4, rng)
    assert planes.shape == (4, *SHAPE[1:], 3)
    assert planes.dtype == np.uint8
    assert masks.shape == (4, *SHAPE[1:])
    for before, after in zip([truth[3], *masks], masks, strict=False):
        assert 0.4 < iou(before, after) < 1
    for plane, mask in zip(planes, masks, strict=True):
        assert plane[mask].mean() > plane[~mask].mean() + 100


@pytest.mark.parametrize("is_taught", [True, False])
def test_samples_say_what_is_seen_and_where_the_object_is(segmenter, truth, fuser, is_taught):
    samples = sampled(segmenter, truth, fuser, np.random.default_rng(1) if is_taught else None)
    assert samples
    for sample in samples:
        assert sample.channels.shape == (len(CHANNELS), WINDOW_CELLS, WINDOW_CELLS)
        assert sample.scalars.shape == (len(SCALARS),)
        assert np.isfinite(sample.channels).all()
        assert sample.subset == "discs"
    present = [sample for sample in samples if sample.truth.any()]
    assert present
    if is_taught:
        # It goes on from the truth, so every plane of the object is sampled, and planes beyond its ends.
        assert len(present) == 4
        assert len(samples) > len(present)
        brightness = [sample.channels[0][sample.truth > 0.9].mean() for sample in present]
        assert min(brightness) > 0.7


def test_errors_of_a_mask_are_small_and_inside_the_plane(segmenter, truth, fuser):
    follower = SampledFollower(segmenter.encoder, fuser, 1, truth=truth)
    rng, mask = np.random.default_rng(0), mask_of(truth[3])
    wrong = [wronged(mask, rng, segmenter.plane(3), follower) for _ in range(20)]
    ious = [iou(each.to_array(SHAPE[1:]), truth[3]) for each in wrong]
    assert 0.5 < min(ious) <= max(ious) < 1
    edge = np.zeros(SHAPE[1:], bool)
    edge[:4, :4] = True
    assert all(wronged(mask_of(edge), rng, segmenter.plane(3), follower).area for _ in range(20))


def test_a_fit_lowers_the_error(segmenter, truth, fuser):
    samples = sampled(segmenter, truth, fuser, np.random.default_rng(1))
    torch.manual_seed(0)
    network = FusionNetwork()
    batch = _batch(samples, np.random.default_rng(0))
    with torch.no_grad():
        before = float(_loss(network.eval(), *batch))
    lines: list[str] = []
    fitted = fit_fusion(samples, 0.05, start=network, report=lines.append)
    with torch.no_grad():
        after = float(_loss(fitted, *batch))
    assert after < before


def test_volumes_are_sampled_along_each_axis_and_pictures_are_bent(truth, fuser, tmp_path):
    tifffile.imwrite(tmp_path / "image.tif", np.where(truth, 200, 30).astype(np.uint8))
    tifffile.imwrite(tmp_path / "mask.tif", truth.astype(np.uint8))
    tifffile.imwrite(tmp_path / "picture.tif", np.where(truth[3], 200, 30).astype(np.uint8))
    tifffile.imwrite(tmp_path / "objects.tif", truth[3].astype(np.uint8))
    source = SampledObjects(FakePredictor(), fuser, 1.0)
    volume = LabelledImage(tmp_path / "image.tif", tmp_path / "mask.tif", "discs", "volume")
    picture = LabelledImage(tmp_path / "picture.tif", tmp_path / "objects.tif", "flat", "instance")
    assert len(list(source.samples(volume, 1))) > 4
    flat = list(source.samples(picture, 1))
    assert flat
    assert {sample.subset for sample in flat} == {"flat"}
