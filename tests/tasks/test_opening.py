"""Options as values: they travel to other processes, and open the same segmenter as keyword arguments."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import fields

import numpy as np
import pytest

from napari_sam import Segmenter, models
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.files.folders import embedding_folder
from napari_sam.images.volume import Volume
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions
from napari_sam.tasks.opening import open_segmenter

CHOSEN = {"channel_axis": 0, "channels": [1], "spacing": (2, 1), "nodata": 7, "axes": (1, 0), "gamma": 0.5}


def test_image_options_are_the_keywords_of_a_segmenter_with_the_same_defaults():
    keywords = inspect.signature(Segmenter).parameters
    assert {field.name: field.default for field in fields(ImageOptions)} == {
        field.name: keywords[field.name].default for field in fields(ImageOptions)
    }
    assert ImageOptions().volume_arguments.keys() <= inspect.signature(Volume.of).parameters.keys()


@pytest.mark.parametrize("options", [ImageOptions(**CHOSEN), ModelOptions("vit_b", store="a"), LabelOptions("large")])
def test_options_arrive_in_another_process_as_they_are_and_cannot_be_changed(options):
    assert pickle.loads(pickle.dumps(options)) == options
    with pytest.raises(AttributeError):
        setattr(options, fields(options)[0].name, None)


def test_a_segmenter_of_options_answers_as_one_of_keyword_arguments(make_predictor):
    image = np.random.default_rng(0).integers(0, 255, (2, 90, 80), dtype=np.uint8)
    options = ImageOptions(**CHOSEN, contrast_limits=(10, 200))
    one = open_segmenter(image, pickle.loads(pickle.dumps(options)), predictor=make_predictor())
    two = Segmenter(image, model=make_predictor(), **CHOSEN, contrast_limits=(10, 200))
    assert one.shape == two.shape == (90, 80)
    assert one.plane() == two.plane()
    assert one.encoder.rendering == two.encoder.rendering
    first, second = (found.segment(points=[(20, 30)]) for found in (one, two))
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine.to_array((80, 90)), theirs.to_array((80, 90)))


def test_the_model_is_loaded_as_the_options_say(monkeypatch, make_predictor):
    asked = []

    def load(*arguments, **more):
        asked.append((arguments, more))
        return make_predictor()

    monkeypatch.setattr(models, "load_predictor", load)
    options = ModelOptions("vit_b", "cuda:1", "tf32", threads=3, compiled=True)
    open_segmenter(np.zeros((70, 70), np.uint8), model=options)
    assert asked == [(("vit_b", "cuda:1", 3, "tf32"), {"compiled": True})]


def test_a_store_that_is_named_is_used_and_the_cache_folder_only_where_it_is_wanted(
    tmp_path, monkeypatch, make_predictor
):
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    image, predictor = np.zeros((70, 70), np.uint8), make_predictor()

    def store(**options):
        return open_segmenter(image, model=ModelOptions(**options), predictor=predictor).encoder.store

    assert store() is None
    assert store(store=tmp_path / "s", cache="on").path == tmp_path / "s"
    assert store(cache="auto") is None, "the model is quick and nothing was encoded ahead"
    assert store(cache="on").path == embedding_folder()
    assert not store(cache="on").read_only
    embedding_folder().mkdir(parents=True)
    assert store(cache="auto").read_only
    assert isinstance(store(cache="auto"), EmbeddingStore)
