"""The fit of likeness: it must tell two textures apart where brightness misleads, and its files hold what it found."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tests.everything.scenes import discs, segmenter_of
from tests.similarity.scenes import LAYOUT, SeeingFinder

from napari_sam import Segmenter
from napari_sam.core.masks import Mask
from napari_sam.evaluation.datasets import LabelledImage
from napari_sam.similarity import likeness, metric
from napari_sam.similarity.metric import axes_name
from napari_sam.training.likeness.fit import fit_likeness
from napari_sam.training.likeness.samples import PlaneSample

SHAPE = (192, 256)
CENTERS = [(row, col) for row in (40, 100, 160) for col in (40, 100, 160, 220)]
LABELS = discs(SHAPE, CENTERS)
# Of each kind: with fewer, planes of one kind say nothing about how they differ.
PLANES = 4
TOOL = Path(__file__).parent.parent.parent / "tools" / "fit_likeness.py"


def plane(is_striped: np.ndarray, seed: int) -> np.ndarray:
    """Return discs of any brightness, some of them with stripes."""
    rng = np.random.default_rng(seed)
    gray = rng.uniform(150, 210, len(CENTERS) + 1)
    stripes = np.where(np.arange(SHAPE[1]) // 2 % 2, 40, -40) * np.concatenate([[False], is_striped])[LABELS]
    pixels = np.where(LABELS > 0, gray[LABELS] + stripes, 20) + rng.normal(0, 12, SHAPE)
    return pixels.clip(0, 255).astype(np.uint8)


def sample_of(folder: Path, subset: str, seed: int) -> PlaneSample:
    """Return what is found in a plane of one kind."""
    pixels = plane(np.full(len(CENTERS), subset == "striped"), seed)
    files = folder / f"{subset}{seed}.tif", folder / "labels.tif"
    tifffile.imwrite(files[0], pixels)
    tifffile.imwrite(files[1], LABELS.astype(np.uint16))
    image = LabelledImage(files[0], files[1], subset, "instance")
    sample = PlaneSample.of(image, segmenter_of(pixels, SeeingFinder()), LAYOUT)
    assert sample is not None
    return sample


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[PlaneSample]:
    folder = tmp_path_factory.mktemp("planes")
    return [sample_of(folder, subset, seed) for subset in ("striped", "even") for seed in range(PLANES)]


def use(fitted: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (metric, likeness):
        monkeypatch.setattr(module, "weights", lambda: fitted)


def outlines(mask: Mask, label: int) -> bool:
    shared = np.count_nonzero(LABELS[mask.box.slices][mask.pixels] == label)
    return bool(shared > 0.7 * max(mask.area, np.count_nonzero(label == LABELS)))


def likenesses(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the likeness to a striped disc of each good outline in a plane of both kinds, and which are striped."""
    is_striped = np.arange(len(CENTERS)) % 2 == 0
    segmenter = segmenter_of(plane(is_striped, seed), SeeingFinder())
    similar = segmenter.find_similar(segmenter.examples(LABELS == 1))
    on = LABELS[tuple(similar.proposals.points.astype(int).T)]
    counts = (on > 1) & [outlines(similar.mask(i), label) for i, label in enumerate(on)]  # Without the example.
    return similar.scores[counts], is_striped[on[counts] - 1]


def told_apart(seed: int = 20) -> float:
    """Return how often a striped disc is more like the striped example than an even one is; 0.5 is by chance."""
    scores, is_striped = likenesses(seed)
    return float((scores[is_striped][:, None] > scores[~is_striped]).mean())


def test_a_sample_knows_which_proposals_outline_which_objects(samples: list[PlaneSample]) -> None:
    for sample in samples:
        assert set(sample.objects[sample.ious > 0.8]) == set(range(1, len(CENTERS) + 1))
        assert sample.counts.all()
    texture = LAYOUT.slices["texture"]
    striped, even = (
        np.concatenate([s.descriptors[s.ious > 0.8][:, texture] for s in samples if s.subset == subset])
        for subset in ("striped", "even")
    )
    assert np.median(striped) > 2 * np.median(even), "the textures are there to be found"


def test_a_sample_comes_back_from_its_file(samples: list[PlaneSample], tmp_path: Path) -> None:
    samples[0].save(tmp_path / "sample.npz")
    read = PlaneSample.load(tmp_path / "sample.npz")
    assert read.subset == samples[0].subset
    for name in PlaneSample.__slots__[1:]:
        np.testing.assert_array_equal(getattr(read, name), getattr(samples[0], name), err_msg=name)
        assert getattr(read, name).dtype == getattr(samples[0], name).dtype


def test_a_fit_tells_two_textures_apart_whatever_their_brightness(
    samples: list[PlaneSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(fit_likeness(samples, LAYOUT), monkeypatch)
    assert min(told_apart(seed) for seed in (20, 21)) > 0.85


def test_a_fit_to_planes_whose_kinds_were_mixed_up_does_not(
    samples: list[PlaneSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed = [replace(sample, subset=f"kind {at % 2}") for at, sample in enumerate(samples)]
    use(fit_likeness(mixed, LAYOUT), monkeypatch)
    assert told_apart() < 0.8


def test_what_is_less_like_is_never_more_probable(samples: list[PlaneSample]) -> None:
    fitted = fit_likeness(samples, LAYOUT)
    for name in (likeness.FITTED, likeness.GENERAL):
        assert (fitted[f"{name} factor"][-5:] <= 0).all()
        assert fitted[f"{name} factor"].any()


def test_the_same_seed_gives_the_same_weights(samples: list[PlaneSample]) -> None:
    one, same, other = (fit_likeness(samples, LAYOUT, seed) for seed in (1, 1, 2))
    for name, values in one.items():
        np.testing.assert_array_equal(values, same[name], err_msg=name)
    assert any(not np.array_equal(values, other[name]) for name, values in one.items())


def test_the_script_searches_new_images_only_and_writes_weights_that_are_read(
    samples: list[PlaneSample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("fit_likeness", TOOL)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    rows = []
    for subset in ("striped", "even"):
        for seed in range(PLANES):
            tifffile.imwrite(tmp_path / f"{subset}{seed}.tif", plane(np.full(len(CENTERS), subset == "striped"), seed))
            rows.append({"image": f"{subset}{seed}.tif", "mask": "labels.tif", "subset": subset, "kind": "instance"})
    tifffile.imwrite(tmp_path / "labels.tif", LABELS.astype(np.uint16))
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    model = SeeingFinder()
    monkeypatch.setattr(script, "load_predictor", lambda *_: model)
    # As all planes here are seen, and not each by its own range.
    monkeypatch.setattr(script, "Segmenter", lambda *args, **kw: Segmenter(*args, **kw, contrast_limits=(0, 255)))
    out, found = tmp_path / "fitted.npz", tmp_path / "samples"
    arguments = [str(tmp_path / "manifest.json"), "--samples", str(found), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
    script.main()
    assert len(list(found.iterdir())) == len(rows)
    fitted = dict(np.load(out, allow_pickle=False))
    assert set(fitted) == set(metric.weights()) - {name for name in metric.weights() if name.startswith("axes")} | {
        axes_name(LAYOUT)
    }
    expected = fit_likeness([PlaneSample.load(path) for path in sorted(found.iterdir())], LAYOUT)
    for name, values in expected.items():
        np.testing.assert_allclose(fitted[name], values, rtol=1e-3, atol=1e-3 * np.abs(values).max(), err_msg=name)
    use({name: values.astype(np.float32) for name, values in fitted.items()}, monkeypatch)
    assert told_apart() > 0.8
    encoded = len(model.encoded)
    out.unlink()
    script.main()
    assert len(model.encoded) == encoded, "the proposals of the first run are taken from their files"
    assert out.exists()
