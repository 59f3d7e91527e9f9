"""The embedded model on real images: what it must reach, at least.

The floors stand a little below what the shipped weights reach (measured values beside them), so a change that costs
quality fails here. Better weights may raise them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from skimage.data import cell, coins
from skimage.filters import gaussian, sobel, threshold_otsu
from skimage.measure import label, regionprops
from skimage.morphology import disk, opening
from skimage.segmentation import watershed

from napari_sam import Segmenter
from napari_sam.core.masks import iou
from napari_sam.core.predictor import Predictor
from napari_sam.evaluation.clicks import most_interior
from napari_sam.evaluation.datasets import read_manifest
from napari_sam.evaluation.protocol import evaluate
from napari_sam.models import load_predictor

MANIFEST = Path(__file__).parents[3] / "shared" / "data" / "manifest.json"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load_predictor("compact", "cpu")


@pytest.fixture(scope="module")
def coin_labels() -> np.ndarray:
    """The coins as scikit-image's own tutorial finds them."""
    image = coins()
    markers = np.where(image < 30, 1, np.where(image > 150, 2, 0))
    filled = ndimage.binary_fill_holes(watershed(sobel(image), markers) == 2)
    labels = label(opening(filled, disk(3)))
    assert labels.max() == 24
    return labels


# scikit-image's own images: always there


def test_in_bfloat16_the_masks_are_nearly_the_same(predictor: Predictor, coin_labels: np.ndarray) -> None:
    """Every coin and box of a photograph, and points of a cell: the mask that is chosen agrees with float32's."""
    rough = load_predictor("compact", "cpu", precision="bfloat16")
    assert rough.digest != predictor.digest
    prompts: list[tuple[np.ndarray, dict[str, Any]]] = [(cell(), {"points": [at]}) for at in ((330, 275), (280, 250))]
    for region in regionprops(coin_labels)[::2]:
        prompts += [
            (coins(), {"points": [most_interior(coin_labels == region.label)]}),
            (coins(), {"box": region.bbox}),
        ]
    agreement = []
    for image, prompt in prompts:
        exact, other = (
            Segmenter(image, model=model, contrast_limits=(0, 255)).segment(**prompt) for model in (predictor, rough)
        )
        pairs = zip(exact.masks, other.masks, strict=True)
        agreement.append(np.mean([iou(a.to_array(image.shape), b.to_array(image.shape)) for a, b in pairs]))
    assert np.mean(agreement) >= 0.98  # 0.99


def test_one_click_or_one_box_finds_each_coin(predictor: Predictor, coin_labels: np.ndarray) -> None:
    """Every third coin, the two that are hardest to click among them."""
    segmenter = Segmenter(coins(), model=predictor)
    clicked, boxed = [], []
    for region in regionprops(coin_labels)[2::3]:
        truth = coin_labels == region.label
        for ious, prompts in ((clicked, {"points": [most_interior(truth)]}), (boxed, {"box": region.bbox})):
            ious.append(iou(segmenter.segment(**prompts).best.to_array(truth.shape), truth))
    assert np.mean(clicked) >= 0.85  # 0.89
    assert min(clicked) >= 0.65  # 0.70
    assert np.mean(boxed) >= 0.91  # 0.95
    assert min(boxed) >= 0.84  # 0.89


def test_one_click_or_one_box_finds_the_cell(predictor: Predictor) -> None:
    image = cell()
    smooth = gaussian(image, 2)
    parts = label(ndimage.binary_fill_holes(smooth > threshold_otsu(smooth)))
    largest = max(regionprops(parts), key=lambda region: region.area)
    truth = parts == largest.label
    assert np.count_nonzero(truth) == pytest.approx(11617, rel=0.02)
    segmenter = Segmenter(image, model=predictor)
    for prompts in ({"points": [most_interior(truth)]}, {"box": largest.bbox}):
        answer = segmenter.segment(**prompts)
        assert max(iou(mask.to_array(truth.shape), truth) for mask in answer) >= 0.88  # 0.94 and 0.93
        assert iou(answer.best.to_array(truth.shape), truth) >= 0.75  # 0.81 and 0.92


def test_the_same_coin_in_other_pixels_gives_the_same_answer(predictor: Predictor, coin_labels: np.ndarray) -> None:
    """Of another type and brightness, in colours, in a volume, or turned: a coin is a coin."""
    at = (124, 205)
    truth = coin_labels == coin_labels[at]
    turned = (at[1], at[0])
    images: dict[str, tuple[Any, dict[str, Any]]] = {
        "float": (coins() / 1e6 - 7, {"points": [at]}),
        "colours": (np.repeat(coins()[..., None], 3, axis=-1), {"points": [at]}),
        "volume": (np.stack([coins()] * 3, axis=1), {"points": [at], "plane": 1}),
        "turned": (coins().T, {"points": [turned]}),
        "magnified": (np.kron(coins(), np.ones((3, 3), np.uint8)), {"points": [(3 * at[0] + 1, 3 * at[1] + 1)]}),
    }
    for name, (image, prompts) in images.items():
        axes = (0, 2) if name == "volume" else (-2, -1)
        segmenter = Segmenter(image, model=predictor, axes=axes)
        expected = {"turned": truth.T, "magnified": np.kron(truth, np.ones((3, 3), bool))}.get(name, truth)
        assert iou(segmenter.segment(**prompts).best.to_array(expected.shape), expected) >= 0.85, name


# The development data, where they lie beside the repository

# subset: (1 click, 3 clicks, box), the mean of 4 objects; behind it what was measured.
FLOORS = {
    "dsb2018_nuclei": (0.75, 0.80, 0.81),  # 0.80, 0.83, 0.86
    "usiigaci_phase": (0.57, 0.68, 0.71),  # 0.62, 0.73, 0.76
    "msd_spleen_ct_slices": (0.84, 0.88, 0.88),  # 0.89, 0.93, 0.93
    "oam_buildings_uganda": (0.57, 0.73, 0.73),  # 0.62, 0.78, 0.78
}


@pytest.mark.skipif(not MANIFEST.exists(), reason=f"the development data are not there ({MANIFEST})")
@pytest.mark.parametrize("subset", FLOORS)
def test_simulated_clicks_segment_real_labelled_images(predictor: Predictor, subset: str) -> None:
    images = [image for image in read_manifest(MANIFEST) if image.subset == subset]
    assert images
    result = None
    for _, result in evaluate(  # noqa: B007
        images, lambda path: Segmenter(path, model=predictor), model="compact", max_clicks=3, objects_per_subset=4
    ):
        pass
    assert result is not None
    row = result.table()["subsets"][subset]
    assert row["n"] == 4
    one_click, three_clicks, box = FLOORS[subset]
    assert row["miou"][0] >= one_click
    assert row["miou"][2] >= three_clicks
    assert row["box_miou"] >= box
    assert row["best_of_3"] >= row["miou"][0]
    assert row["noc80"] <= row["noc90"] <= 4
