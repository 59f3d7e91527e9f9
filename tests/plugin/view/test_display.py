"""Every display state of a layer: what the encoder is given is what a real napari window shows, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel

from napari_sam.core.geometry import Box
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.view import world

SHAPE = (5, 12, 16)
ZOOM = 6  # Screen pixels for each pixel of the image.
COLORS = ("red", "green", "blue", "magenta", "gray")
MODES = ("none", "sum", "mean", "max", "min")


def pixels_of(kind, seed=0):
    """Return a stack of a kind of pixels: whole numbers of 8 or 16 bits, floats, or colors."""
    rng = np.random.default_rng(seed)
    if kind == "rgb":
        return rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    if kind == "float32":
        return rng.normal(0, 1, SHAPE).astype(np.float32)
    return rng.integers(0, 200, SHAPE).astype(kind)


def limits_of(kind, mode, planes):
    top = 1.0 if kind == "float32" else 180.0
    factor = planes if mode == "sum" else 1
    return (-0.8 if kind == "float32" else 20.0) * factor, top * factor


def on_screen(viewer, image):
    """Return the colors that the window shows for each pixel of the plane, shape (rows, cols, 3)."""
    plane = adapters.plane_of(viewer, image)
    rows, cols = plane.shape_in(adapters.shape_of(image))
    center = np.zeros(image.ndim)
    center[list(plane.axes)] = (rows - 1) / 2, (cols - 1) / 2
    middle = world.to_world(viewer, image, center)
    size = np.abs(
        world.to_world(viewer, image, np.ones(image.ndim)) - world.to_world(viewer, image, np.zeros(image.ndim))
    )
    viewer.scene.camera.center = (0.0, *(middle[list(plane.axes)]))
    viewer.scene.camera.zoom = ZOOM / size[plane.axes[0]]
    picture = viewer.screenshot(canvas_only=True, flash=False)[..., :3]
    found = np.zeros((rows, cols, 3), np.uint8)
    for row in range(rows):
        for col in range(cols):
            at = np.array(plane.index, float)
            at[list(plane.axes)] = row, col
            place = (world.to_world(viewer, image, at) - middle)[list(plane.axes)] * viewer.scene.camera.zoom
            y, x = np.rint(place + np.array(picture.shape[:2]) / 2 - 0.25).astype(int)
            found[row, col] = picture[y, x]
    return found


def encoded(viewer, layers):
    """Return what the encoder is given of the whole plane in view, shape (rows, cols, 3)."""
    plane = adapters.plane_of(viewer, layers[0])
    seen = adapters.shown(layers, viewer)
    whole = Box.of_shape(plane.shape_in(adapters.shape_of(layers[0])))
    return seen.volume.rendering(seen.limits, seen.gamma)(seen.volume.read(plane, whole))


@pytest.fixture
def window(screen, make_napari_viewer):
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(700, 500)
    return viewer


states = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["uint8", "uint16", "float32", "rgb"]),
        "channels": st.lists(st.sampled_from(COLORS), min_size=1, max_size=3),
        "mode": st.sampled_from(MODES),
        "thickness": st.sampled_from([0.0, 1.0, 2.0, 3.0, 5.0]),
        "at": st.integers(0, SHAPE[0] - 1),
        "gamma": st.sampled_from([1.0, 0.5, 2.0]),
        "flips": st.tuples(*[st.sampled_from([1, -1])] * 2),
        "units": st.sampled_from(["pixel", "um"]),
        "beside": st.sampled_from([None, "nm"]),
        "transposed": st.booleans(),
    }
)


def show(viewer, state):
    """Show layers in a state, and return them."""
    viewer.layers.clear()
    kind, mode = state["kind"], state["mode"]
    rgb = kind == "rgb"
    colors = state["channels"][: 1 if rgb else 3]
    size = (2.0, *(0.5 * sign for sign in state["flips"]))
    options = {"scale": size, "units": (state["units"],) * 3, "projection_mode": mode, "interpolation2d": "nearest"}
    for number, color in enumerate(colors):
        look = {} if rgb else {"colormap": "gray" if len(colors) == 1 else color, "blending": "additive"}
        if not rgb:
            look |= {"contrast_limits": limits_of(kind, mode, 2), "gamma": state["gamma"]}
        viewer.add_image(pixels_of(kind, number), rgb=rgb, **look, **options)
    layers = list(viewer.layers)
    if state["beside"] is not None and state["units"] == "um":
        viewer.add_image(pixels_of("uint8"), scale=(2e3, 5e2, 5e2), units=("nm",) * 3, visible=False)
    viewer.dims.order = (0, 2, 1) if state["transposed"] else (0, 1, 2)
    factor = float(world.factors(layers[0].units, viewer.dims.units)[0])
    viewer.dims.set_point(0, 2.0 * state["at"] * factor)
    viewer.dims.thickness = (2.0 * state["thickness"] * factor, 0, 0)
    return layers


@settings(max_examples=8, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(state=states)
def test_the_encoder_is_given_what_the_window_shows(window, state):
    layers = show(window, state)
    seen, given_ = on_screen(window, layers[0]), encoded(window, layers)
    np.testing.assert_allclose(given_.astype(int), seen.astype(int), atol=3)


def test_a_slice_that_lies_beside_the_image_but_reaches_into_it_is_prompted_as_shown():
    viewer = ViewerModel()
    image = viewer.add_image(pixels_of("uint8"), contrast_limits=(0, 255), projection_mode="max")
    viewer.add_image(np.zeros((40, 12, 16), np.uint8), visible=False)
    viewer.dims.set_point(0, 7)
    viewer.dims.thickness = (8, 0, 0)
    plane = adapters.plane_of(viewer, image)
    assert plane.index[0] == SHAPE[0] - 1
    seen = adapters.shown([image], viewer).volume.read(plane, Box(0, 0, *SHAPE[1:]))
    np.testing.assert_array_equal(seen, image._slice.image.raw)
