from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Points, Shapes

from napari_sam.core.geometry import Plane
from napari_sam.errors import ImageError
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers

SCALE = (3.0, 0.5, 2.0)
TRANSLATE = (10.0, -5.0, 7.0)
PIXELS = np.arange(6 * 20 * 30, dtype=np.uint16).reshape(6, 20, 30)


def points_at(image, *positions, labels=None):
    labels = [1] * len(positions) if labels is None else labels
    place = adapters.transform_of(image)
    return Points(np.array(positions, float), features={"label": labels}, **place)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_every_order_of_axes_shows_the_plane_that_napari_slices(order):
    viewer = ViewerModel()
    image = viewer.add_image(PIXELS, scale=SCALE, translate=TRANSLATE)
    viewer.dims.order = order
    hidden = order[0]
    viewer.dims.set_point(hidden, TRANSLATE[hidden] + 4 * SCALE[hidden])
    plane = adapters.plane_of(viewer, image)
    assert plane.axes == order[1:]
    assert plane.index[hidden] == 4
    ours = adapters.shown([image]).volume.read(plane, _whole(plane, PIXELS.shape))
    expected = PIXELS.take(4, axis=hidden)
    np.testing.assert_array_equal(ours, expected if order[1] < order[2] else expected.T)


def _whole(plane, shape):
    from napari_sam.core.geometry import Box

    return Box.of_shape(plane.shape_in(shape))


def test_a_layer_with_fewer_axes_than_the_viewer_is_aligned_on_the_last_ones():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 5, 20, 30), np.uint8))
    image = viewer.add_image(PIXELS[0])
    viewer.dims.set_point(0, 2)
    assert adapters.plane_of(viewer, image) == Plane((0, 1), (0, 0))


def test_an_axis_that_the_layer_lacks_is_refused():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 20, 30), np.uint8))
    image = viewer.add_image(PIXELS[0])
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ImageError, match="change the order"):
        adapters.plane_of(viewer, image)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_three_dimensions_and_oblique_layers_are_refused():
    viewer = ViewerModel()
    image = viewer.add_image(PIXELS)
    viewer.dims.ndisplay = 3
    with pytest.raises(ImageError, match="2-D"):
        adapters.plane_of(viewer, image)
    viewer.dims.ndisplay = 2
    image.rotate = (0, 30, 0)
    with pytest.raises(ImageError, match="remove that rotation"):
        adapters.plane_of(viewer, image)


def test_a_rotation_inside_the_plane_is_fine():
    viewer = ViewerModel()
    image = viewer.add_image(PIXELS[0], rotate=30, scale=(2, 2), translate=(5, 6))
    assert adapters.plane_of(viewer, image).axes == (0, 1)


def test_a_plane_beside_the_image_is_refused():
    viewer = ViewerModel()
    viewer.add_image(np.zeros((40, 20, 30), np.uint8))
    image = viewer.add_image(PIXELS)
    viewer.dims.set_point(0, 30)
    with pytest.raises(ImageError, match="slider"):
        adapters.plane_of(viewer, image)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_points_come_back_in_rows_and_columns_of_the_plane(order):
    image = Image(PIXELS, scale=SCALE, translate=TRANSLATE)
    index = [3, 11, 17]
    plane = Plane(order[1:], tuple(index[a] if a == order[0] else 0 for a in range(3)))
    elsewhere = list(index)
    elsewhere[order[0]] += 1
    prompts = adapters.prompts_of(points_at(image, index, elsewhere, labels=[0, 1]), None, image, plane)
    np.testing.assert_allclose(prompts.points, [[index[a] for a in order[1:]]])
    assert prompts.labels.tolist() == [0]


def test_prompts_of_a_layer_with_its_own_transform_go_through_the_world():
    image = Image(PIXELS[0], scale=(0.5, 2.0), translate=(100, 50))
    points = Points(np.array([image.data_to_world((4, 9))]))
    points.features = {"label": [1]}
    prompts = adapters.prompts_of(points, None, image, Plane((0, 1), (0, 0)))
    np.testing.assert_allclose(prompts.points, [[4, 9]])


def test_a_rectangle_is_a_box_in_pixel_edges():
    image = Image(PIXELS[0], scale=(2, 2), translate=(-3, 8))
    shapes = Shapes([np.array([[1.5, 2.5], [1.5, 9.5], [6.5, 9.5], [6.5, 2.5]])], **adapters.transform_of(image))
    prompts = adapters.prompts_of(None, shapes, image, Plane((0, 1), (0, 0)))
    assert prompts.box.as_tuple() == pytest.approx((2, 3, 7, 10))


def test_the_last_rectangle_counts_and_those_of_other_planes_do_not():
    image = Image(PIXELS)
    corners = np.array([[0, 0], [0, 5], [5, 5], [5, 0]], float)
    boxes = [np.column_stack([np.full(4, z), corners + at]) for z, at in ((2, 1), (2, 3), (4, 7))]
    shapes = Shapes(boxes, shape_type="rectangle")
    assert adapters.prompts_of(None, shapes, image, Plane((1, 2), (2, 0, 0))).box.top == 3.5


def test_an_ellipse_is_filled_like_scikit_image_fills_it():
    image = Image(np.zeros((60, 60), np.uint8))
    shapes = Shapes([np.array([[30, 25], [10, 12]])], shape_type="ellipse")
    mask = adapters.prompts_of(None, shapes, image, Plane((0, 1), (0, 0))).mask
    expected = np.zeros((60, 60), bool)
    corners = np.asarray(shapes.data[0])
    center, radii = corners.mean(axis=0), (corners.max(axis=0) - corners.min(axis=0)) / 2
    rows, cols = np.mgrid[:60, :60]
    expected = ((rows - center[0]) / radii[0]) ** 2 + ((cols - center[1]) / radii[1]) ** 2 <= 1
    ours = mask.to_array((60, 60))
    assert np.count_nonzero(ours & expected) / np.count_nonzero(ours | expected) > 0.97


def test_polygons_together_are_one_mask():
    image = Image(np.zeros((60, 60), np.uint8))
    squares = [np.array([[r, c], [r, c + 9], [r + 9, c + 9], [r + 9, c]], float) for r, c in ((2, 3), (30, 40))]
    mask = adapters.prompts_of(None, Shapes(squares, shape_type="polygon"), image, Plane((0, 1), (0, 0))).mask
    assert mask.area == 200
    assert mask.to_array((60, 60))[[5, 35], [5, 45]].all()


def test_prompts_that_cannot_count_are_left_out_with_a_sentence_and_the_others_stay():
    image = Image(np.zeros((60, 60), np.uint8))
    points = points_at(image, (5, 6), (5, -3.14159), (70, 2))
    square = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], float)
    shapes = Shapes([square * 20 + 4, square * 0.3 + 9, square * 9 + 100], shape_type="rectangle")
    shapes.add_paths(np.array([[-9, 1], [-5, 9], [-20, 9]]))
    prompts = adapters.prompts_of(points, shapes, image, Plane((0, 1), (0, 0)))
    assert prompts.points.tolist() == [[5, 6]]
    assert prompts.box.as_tuple() == (4.5, 4.5, 24.5, 24.5)
    assert len(prompts.ignored) == 5
    assert "(5.0, -3.1) lies outside the image: move it" in prompts.ignored[0]
    assert "too small" in prompts.ignored[2]
    assert "scribble lies outside" in prompts.ignored[4]


def test_a_scribble_is_points_along_it_with_its_sign_before_those_that_were_clicked():
    image = Image(np.zeros((60, 60), np.uint8), scale=(2, 2))
    points = points_at(image, (5, 6))
    shapes = own_layers.make_shapes(image)
    shapes.add_paths(np.array([[10.0, 10], [10, 30], [30, 30]]))
    shapes.feature_defaults = {"label": 0, "object": 1}
    shapes.add_lines(np.array([[40.0, -20], [40, 20]]))
    prompts = adapters.prompts_of(points, shapes, image, Plane((0, 1), (0, 0)))
    expected = [[40, 0], [40, 20], [10, 10], [10, 30], [30, 30], [5, 6]]
    np.testing.assert_allclose(prompts.points, expected)
    assert prompts.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert prompts.box is None
    assert prompts.mask is None
    shapes.features = shapes.features.assign(object=[2, 3])
    fewer = adapters.prompts_of(None, shapes, image, Plane((0, 1), (0, 0)), 2)
    np.testing.assert_allclose(fewer.points, expected[2:5])


@pytest.mark.parametrize("rotate", [0, 25])
def test_a_layer_placed_on_a_pixel_lies_there_in_the_world(rotate):
    image = Image(
        PIXELS[0], scale=(0.5, 2.0), translate=(100, 50), rotate=rotate, affine=[[0, 1, 3], [1, 0, -2], [0, 0, 1]]
    )
    place = {**adapters.transform_of(image), "translate": adapters.translate_to(image, np.array([7.0, 4.0]))}
    small = Image(np.zeros((3, 3), np.uint8), **place)
    np.testing.assert_allclose(small.data_to_world((0, 0)), image.data_to_world((7, 4)))
    np.testing.assert_allclose(small.data_to_world((2, 1)), image.data_to_world((9, 5)))
    assert adapters.same_place(image, Image(PIXELS[0], **adapters.transform_of(image)))
    assert not adapters.same_place(image, small)


def test_zoom_tells_how_many_pixels_a_screen_pixel_shows():
    viewer = ViewerModel()
    image = viewer.add_image(PIXELS[0], scale=(4, 4))
    viewer.scene.camera.zoom = 1 / 16
    assert adapters.downsample_of(viewer, image, Plane((0, 1), (0, 0))) == 4
    viewer.scene.camera.zoom = 2
    assert adapters.downsample_of(viewer, image, Plane((0, 1), (0, 0))) == 1 / 8


def test_rgb_and_multiscale_layers_give_their_finest_pixels():
    rgb = Image(np.zeros((20, 30, 3), np.uint8), rgb=True)
    assert adapters.shown([rgb]).volume.shape == adapters.shape_of(rgb) == (20, 30)
    pyramid = Image([np.ones((64, 64), np.uint8), np.ones((32, 32), np.uint8)], multiscale=True)
    assert adapters.shown([pyramid]).volume.shape == adapters.shape_of(pyramid) == (64, 64)
