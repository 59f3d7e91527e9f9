"""Layers in different units: what napari shows in one place is one place for prompts, masks and planes, too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels

from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.view import world

LENGTHS = {"mm": 1e6, "um": 1e3, "nm": 1.0}
SHAPE = (6, 10, 12)


def stack(shape=SHAPE):
    return np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)


def planes_on_screen(layer, pixels, axis):
    """Return which planes of an axis napari shows of a layer, by the pixels that it drew."""
    seen = np.asarray(layer._slice.image.raw)
    planes = (np.take(pixels, at, axis) for at in range(pixels.shape[axis]))
    return [at for at, plane in enumerate(planes) if np.array_equal(seen, plane)]


@settings(max_examples=25, deadline=None)
@given(
    unit=st.sampled_from(list(LENGTHS)),
    others=st.lists(st.sampled_from(list(LENGTHS)), min_size=1, max_size=2),
    per_axis=st.booleans(),
    size=st.sampled_from([0.25, 1.0, -0.5]),
    shift=st.sampled_from([0.0, 3.0]),
    axis=st.integers(0, 2),
    extra=st.booleans(),
    at=st.integers(0, 5),
)
def test_the_plane_that_is_prompted_is_the_one_that_napari_shows(unit, others, per_axis, size, shift, axis, extra, at):
    pixels, viewer = stack(), ViewerModel()
    units = ["um", unit, unit] if per_axis else [unit] * 3
    image = viewer.add_image(pixels, scale=(size,) * 3, translate=(shift,) * 3, units=units)
    for number, other in enumerate(others):
        shape = (2,) * extra + SHAPE
        scale = [abs(size) * LENGTHS[own] / LENGTHS[other] for own in units]
        place = (0,) * extra + tuple(shift * LENGTHS[own] / LENGTHS[other] for own in units)
        lengths = [other] * 3
        viewer.add_image(
            stack(shape), scale=[1] * extra + scale, translate=place, units=[other] * extra + lengths, name=str(number)
        )
    offset = viewer.dims.ndim - 3
    viewer.dims.order = (*range(offset), axis + offset, *(a + offset for a in range(3) if a != axis))
    middle = world.to_world(viewer, image, [at if a == axis else 0 for a in range(3)])
    viewer.dims.set_point(axis + offset, float(middle[axis]))
    shown = planes_on_screen(image, pixels, axis)
    assert len(shown) == 1
    assert adapters.plane_of(viewer, image).index[axis] == shown[0]


@pytest.fixture
def mixed():
    """An image in micrometres beside one in nanometres: the world counts nanometres."""
    viewer = ViewerModel()
    image = viewer.add_image(stack(), scale=(0.5, 0.1, 0.1), translate=(1, 2, 3), units=("um",) * 3, name="um")
    viewer.add_image(stack(), scale=(500, 100, 100), translate=(1000, 2000, 3000), units=("nm",) * 3, name="nm")
    return viewer, image


def click_on(viewer, image, pixel, points):
    """Return where napari's tool puts a point for a click on a pixel, as a pixel of the image."""
    at = np.asarray(points.world_to_data(world.to_world(viewer, image, pixel)))
    points.add(at[None])
    return world.moved(points, image, points.data[-1:])[0]


def test_a_click_among_layers_in_other_units_lands_on_its_pixel(mixed, make_controller):
    viewer, image = mixed
    controller = make_controller(viewer)
    controller.session.set_image(image)
    np.testing.assert_allclose(click_on(viewer, image, (0, 5, 7), controller.prompts.points), (0, 5, 7), atol=1e-6)
    assert controller.session.candidates is not None


def test_the_mask_of_a_click_is_drawn_and_written_where_the_image_is(mixed, make_controller, notes):
    viewer, image = mixed
    controller = make_controller(viewer)
    controller.session.set_image(image)
    click_on(viewer, image, (0, 5, 7), controller.prompts.points)
    preview, mask = controller.preview.layers.current, controller.session.candidates.best
    first = world.moved(preview, image, np.zeros((1, 3)))[0]
    np.testing.assert_allclose(first, (0, mask.box.top, mask.box.left), atol=1e-6)
    controller.commits.accept()
    assert world.same_place(controller.session.target, image)
    assert not notes


def test_prompts_stay_on_their_pixels_when_a_layer_in_other_units_comes_and_goes(make_controller):
    viewer = ViewerModel()
    image = viewer.add_image(stack(), scale=(0.5, 0.1, 0.1), units=("um",) * 3)
    controller = make_controller(viewer)
    controller.session.set_image(image)
    click_on(viewer, image, (0, 5, 7), controller.prompts.points)
    other = viewer.add_image(stack(), scale=(500, 100, 100), units=("nm",) * 3)
    viewer.dims.set_point(0, float(world.to_world(viewer, image, (0, 0, 0))[0]))
    np.testing.assert_allclose(click_on(viewer, image, (0, 2, 3), controller.prompts.points), (0, 2, 3), atol=1e-6)
    viewer.layers.remove(other)
    mixed_up = viewer.add_image(stack(), units=("pixel",) * 3)  # Now napari converts nothing.
    assert viewer.dims.units is None
    np.testing.assert_allclose(click_on(viewer, image, (0, 8, 9), controller.prompts.points), (0, 8, 9), atol=1e-6)
    viewer.layers.remove(mixed_up)
    places = world.moved(controller.prompts.points, image, controller.prompts.points.data)
    np.testing.assert_allclose(places, [(0, 5, 7), (0, 2, 3), (0, 8, 9)], atol=1e-6)


def test_a_scale_that_is_set_later_moves_prompts_and_preview_along(make_controller):
    viewer = ViewerModel()
    image = viewer.add_image(stack()[0], scale=(2, 2))
    controller = make_controller(viewer)
    controller.session.set_image(image)
    click_on(viewer, image, (5, 7), controller.prompts.points)
    image.translate, image.scale, image.units = (3, 4), (0.5, 0.25), ("um", "um")
    np.testing.assert_allclose(
        world.moved(controller.prompts.points, image, controller.prompts.points.data), [(5, 7)], atol=1e-6
    )
    mask = controller.session.mask_of(controller.session.current)
    first = world.moved(controller.preview.layers.current, image, np.zeros((1, 2)))[0]
    np.testing.assert_allclose(first, (mask.box.top, mask.box.left), atol=1e-6)
    np.testing.assert_allclose(click_on(viewer, image, (2, 3), controller.prompts.points), (2, 3), atol=1e-6)


def test_labels_in_other_units_lie_in_the_same_place(mixed):
    viewer, image = mixed
    place = {"scale": (500, 100, 100), "translate": (1000, 2000, 3000), "units": ("nm",) * 3}
    labels = viewer.add_layer(Labels(np.zeros(SHAPE, np.uint16), **place))
    labels_layer.check_target(labels, image)
    assert adapters.channels_with(viewer, image) == list(viewer.layers)[:2]


def test_an_object_is_gone_to_in_the_units_of_the_world(mixed, make_controller):
    viewer, image = mixed
    controller = make_controller(viewer)
    controller.session.set_image(image)
    viewer.dims.set_point(0, float(world.to_world(viewer, image, (4, 0, 0))[0]))
    click_on(viewer, image, (4, 5, 7), controller.prompts.points)
    controller.commits.accept()
    viewer.dims.set_point(0, float(world.to_world(viewer, image, (0, 0, 0))[0]))
    controller.objects.go_to(1)
    assert adapters.plane_of(viewer, image).index[0] == 4
    assert world.to_data(viewer, image, (0, *viewer.scene.camera.center[-2:]))[1:] == pytest.approx(
        np.array(controller.objects.get(1).box.center) - 0.5
    )


def test_the_zoom_is_that_of_the_world(mixed):
    viewer, image = mixed
    plane = adapters.plane_of(viewer, image)
    viewer.scene.camera.zoom = 0.01  # Screen pixels for each nanometre; a pixel of the image is 100 of them.
    assert adapters.downsample_of(viewer, image, plane) == 1
    assert own_layers.make_points(image).units == image.units
