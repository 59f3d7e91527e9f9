"""The samples as layers: opened through the manifest, without a network, with their size in the world."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from napari.components import ViewerModel
from npe2 import PluginManager

from napari_sam import Segmenter
from napari_sam.plugin.inference.contrast_presets import WINDOWS

SAMPLES = {
    "coins": [((303, 384), "uint8", (1, 1), "pixel")],
    "tissue": [((512, 512, 3), "uint8", (1, 1), "pixel")],
    "cells": [((768, 768), "uint16", (0.325, 0.325), "micrometer")] * 2,
    "abdomen": [((24, 160, 224), "int16", (3.0, 1.5, 1.5), "millimeter")],
    "village": [((600, 600, 3), "uint8", (30.0, 30.0), "meter")],
    "slide": [((36, 65536, 65536), "uint16", (1.0, 0.325, 0.325), "micrometer")],
}


@pytest.fixture(autouse=True, scope="module")
def plugins():
    PluginManager.instance().discover()


@pytest.fixture
def offline(monkeypatch):
    """Make every connection to another computer an error."""

    def refuse(self, address):
        raise AssertionError(f"connects to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_these_are_all_samples_of_the_manifest():
    samples = PluginManager.instance().get_manifest("napari-sam").contributions.sample_data
    assert [sample.key for sample in samples] == list(SAMPLES)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("key", SAMPLES)
def test_a_sample_opens_by_its_key_without_a_network_and_with_its_size_in_the_world(key):
    layers = ViewerModel().open_sample("napari-sam", key)
    assert len(layers) == len(SAMPLES[key])
    for layer, (shape, dtype, scale, unit) in zip(layers, SAMPLES[key], strict=True):
        finest = layer.data[0] if layer.multiscale else layer.data
        assert (finest.shape, np.dtype(finest.dtype).name) == (shape, dtype)
        assert tuple(layer.scale) == scale
        assert {str(one) for one in layer.units} == {unit}
        assert layer.rgb == (shape[-1] == 3)


def test_the_ct_is_a_stack_of_slices_in_the_window_for_soft_tissue():
    (layer,) = ViewerModel().open_sample("napari-sam", "abdomen")
    assert layer.axis_labels == ("z", "y", "x")
    assert tuple(layer.contrast_limits) == WINDOWS["CT abdomen (soft tissue)"]


def test_one_click_on_the_data_of_a_layer_finds_an_organ():
    (layer,) = ViewerModel().open_sample("napari-sam", "abdomen")
    segmenter = Segmenter(layer.data, contrast_limits=tuple(layer.contrast_limits), spacing=tuple(layer.scale))
    kidney = segmenter.segment(points=[(105, 83)], plane=0).best
    assert 390 < np.count_nonzero(kidney.pixels) < 590
