"""Axes, pixel sizes and positions: read from every kind of file, and carried to the labels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tensorstore
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from napari_sam import Segmenter
from napari_sam.cli.app import app
from napari_sam.core.geometry import Plane
from napari_sam.errors import ImageError
from napari_sam.exchange.label_output import write_label_image
from napari_sam.images.axes.letters import letters_of
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.segmenter import open_labels

LENGTHS = {"t": 2, "c": 3, "z": 4, "y": 60, "x": 80}
STEPS = {"t": 3.0, "c": 1.0, "z": 2.0, "y": 0.5, "x": 0.25}
STARTS = {"t": 0.0, "c": 0.0, "z": -7.0, "y": 100.0, "x": 200.0}
TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}


def axes_of(letters):
    return [
        {"name": letter, "type": TYPES[letter]} | ({"unit": UNITS[letter]} if letter in UNITS else {})
        for letter in letters
    ]


def pixels_of(letters):
    """Return an image of these axes with a bright square at rows 30 to 40 and columns 50 to 62 of its last planes."""
    shape = [LENGTHS[letter] for letter in letters]
    image = np.full(shape, 20, np.uint8)
    square = {"y": slice(30, 40), "x": slice(50, 62)}
    image[tuple(square.get(letter, -1) for letter in letters)] = 220
    return image


def write_multiscale(path, image, version, *, axes=None, transformations=None, zarr_format=None, **multiscale):
    is_old = version in ("0.1", "0.2", "0.3", "0.4")
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format or (2 if is_old else 3))
    group.create_array("0", data=image)
    dataset = {"path": "0"} | ({} if transformations is None else {"coordinateTransformations": transformations})
    described = {"datasets": [dataset], **({} if axes is None else {"axes": axes}), **multiscale}
    if is_old:
        group.attrs["multiscales"] = [described | {"version": version}]
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [described]}


def scale_and_start(letters):
    return [
        {"type": "scale", "scale": [STEPS[letter] for letter in letters]},
        {"type": "translation", "translation": [STARTS[letter] for letter in letters]},
    ]


def known(opened):
    """Return step and start of each axis of an opened image by its letter."""
    starts = opened.origin or (0.0,) * len(opened.axes)
    return {a: (s, o) for a, s, o in zip(opened.axes, opened.spacing, starts, strict=True)}


def wanted(letters):
    return {letter: (STEPS[letter], STARTS[letter]) for letter in letters}


ORDERS = sorted(
    {
        "".join(order)
        for others in ("", "t", "z", "c", "tz", "cz", "tc", "tcz")
        for order in itertools.permutations(others + "yx")
    }
)


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_translation_of_an_ome_zarr_image_is_its_origin(tmp_path, version):
    write_multiscale(
        tmp_path / "a.zarr",
        pixels_of("tczyx"),
        version,
        axes=axes_of("tczyx"),
        transformations=scale_and_start("tczyx"),
    )
    opened = open_image(tmp_path / "a.zarr")
    assert known(opened) == wanted("tczyx")
    assert (opened.unit, opened.time_unit) == ("micrometer", "second")


def test_transformations_of_the_whole_image_follow_those_of_the_levels(tmp_path):
    whole = [{"type": "scale", "scale": [2, 10]}, {"type": "translation", "translation": [1, 1]}]
    write_multiscale(
        tmp_path / "a.zarr",
        pixels_of("yx"),
        "0.5",
        axes=axes_of("yx"),
        transformations=scale_and_start("yx"),
        coordinateTransformations=whole,
    )
    assert known(open_image(tmp_path / "a.zarr")) == {"y": (1.0, 201.0), "x": (2.5, 2001.0)}


def test_an_origin_is_brought_to_the_unit_of_the_columns_like_the_steps(tmp_path):
    axes = axes_of("zyx")
    axes[0]["unit"], axes[1]["unit"] = "nanometer", "millimeter"
    write_multiscale(tmp_path / "a.zarr", pixels_of("zyx"), "0.5", axes=axes, transformations=scale_and_start("zyx"))
    opened = open_image(tmp_path / "a.zarr")
    np.testing.assert_allclose(opened.spacing, (0.002, 500, 0.25))
    np.testing.assert_allclose(opened.origin, (-0.007, 100_000, 200))


def test_a_mirrored_axis_keeps_its_sign_and_the_volume_its_pixel_size(tmp_path):
    transformations = [{"type": "scale", "scale": [-0.5, 0.25]}, {"type": "translation", "translation": [30, 0]}]
    write_multiscale(tmp_path / "a.zarr", pixels_of("yx"), "0.5", axes=axes_of("yx"), transformations=transformations)
    assert known(open_image(tmp_path / "a.zarr")) == {"y": (-0.5, 30), "x": (0.25, 0)}
    volume = Volume.of(tmp_path / "a.zarr")
    assert (volume.spacing, volume.scale) == ((0.5, 0.25), (-0.5, 0.25))


@pytest.mark.parametrize(("name", "is_told"), [("l.tif", True), ("l.zarr", False)])
def test_labels_in_a_format_that_cannot_mirror_them_come_with_a_warning(tmp_path, name, is_told):
    transformations = [{"type": "scale", "scale": [-0.5, 0.25]}]
    write_multiscale(tmp_path / "a.zarr", pixels_of("yx"), "0.5", axes=axes_of("yx"), transformations=transformations)
    volume = Volume.of(tmp_path / "a.zarr")
    warnings: list[str] = []
    write_label_image(tmp_path / name, np.ones(volume.shape, np.uint16), volume, warn=warnings.append)
    assert ["run backwards" in text for text in warnings] == [True] * is_told
    assert open_image(tmp_path / name).spacing == ((0.5 if is_told else -0.5), 0.25)


def test_levels_that_state_no_scale_are_measured_by_their_shapes(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    datasets = []
    for number, size in enumerate([(60, 80), (30, 40)]):
        group.create_array(str(number), data=np.zeros(size, np.uint8))
        moves = [{"type": "translation", "translation": [0.5 * number, 0.5 * number]}]
        datasets.append({"path": str(number), "coordinateTransformations": moves})
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes_of("yx"), "datasets": datasets}]}
    volume = Volume.of(tmp_path / "a.zarr")
    assert (volume.factors, volume.scale, volume.axes) == (((1, 1), (2, 2)), None, "yx")


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_the_five_axes_of_the_first_versions_are_those_that_they_prescribe(tmp_path, version):
    write_multiscale(tmp_path / "a.zarr", pixels_of("tczyx"), version)
    assert open_image(tmp_path / "a.zarr").axes == "tczyx"
    assert Volume.of(tmp_path / "a.zarr").shape == (2, 4, 60, 80)


def test_the_axes_of_version_0_3_count_without_pixel_sizes(tmp_path):
    write_multiscale(tmp_path / "a.zarr", pixels_of("cyx"), "0.3", axes=["c", "y", "x"])
    volume = Volume.of(tmp_path / "a.zarr")
    assert (volume.shape, volume.axes, volume.scale) == ((60, 80), "yx", None)


SEQUENCE = [{"type": "sequence", "input": "0", "output": "physical", "transformations": scale_and_start("czyx")}]
PERMUTED = [
    {
        "type": "sequence",
        "output": {"name": "physical"},
        "transformations": [{"type": "mapAxis", "mapAxis": [3, 0, 1, 2]}, *scale_and_start("czyx")],
    }
]
BY_DIMENSION = [
    {
        "type": "byDimension",
        "output": "physical",
        "transformations": [
            {"input_axes": [0], "output_axes": ["c"], "transformation": {"type": "identity"}},
            {
                "input_axes": [1, 2, 3],
                "output_axes": ["z", "y", "x"],
                "transformation": {"type": "sequence", "transformations": scale_and_start("zyx")},
            },
        ],
    }
]
AFFINE = [
    {
        "type": "affine",
        "output": "physical",
        "affine": [[STEPS[letter] * (letter == other) for other in "czyx"] + [STARTS[letter]] for letter in "czyx"],
    }
]


@pytest.mark.parametrize(
    ("transformations", "letters"),
    [(SEQUENCE, "czyx"), (PERMUTED, "zyxc"), (BY_DIMENSION, "czyx"), (AFFINE, "czyx")],
)
def test_transformations_of_version_0_6_along_the_axes_give_steps_and_origin(tmp_path, transformations, letters):
    systems = [{"name": "other", "axes": axes_of("xyzc")}, {"name": "physical", "axes": axes_of("czyx")}]
    write_multiscale(
        tmp_path / "a.zarr", pixels_of(letters), "0.6", transformations=transformations, coordinateSystems=systems
    )
    opened = open_image(tmp_path / "a.zarr")
    assert opened.axes == letters
    assert known(opened) == wanted(letters)
    assert opened.unit == "micrometer"
    assert Volume.of(tmp_path / "a.zarr").channel_axis == letters.index("c")


@pytest.mark.parametrize(
    ("transformation", "words"),
    [
        ({"type": "rotation", "rotation": [[0.8, -0.6], [0.6, 0.8]]}, "rotate or shear"),
        ({"type": "affine", "affine": [[1, 0.2, 0], [0, 1, 0]]}, "rotate or shear"),
        ({"type": "displacements", "path": "field"}, "of type 'displacements'"),
        ({"type": "scale", "scale": [1, 2, 3]}, "cannot be read"),
        ({"type": "scale"}, "cannot be read"),
    ],
)
def test_other_transformations_of_version_0_6_are_refused_with_the_version(tmp_path, transformation, words):
    write_multiscale(
        tmp_path / "a.zarr",
        pixels_of("yx"),
        "0.6",
        transformations=[transformation],
        coordinateSystems=[{"name": "physical", "axes": axes_of("yx")}],
    )
    with pytest.raises(ImageError, match=rf"OME-Zarr 0\.6.*{words}"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("names", "letters"),
    [
        (["time", "channel", "lat", "lon"], "tcyx"),
        (["Band", "Row", "Column"], "cyx"),
        (["x", "y", "z"], "xyz"),
        (["frame", "y", "x", "rgb"], "tyxs"),
        (["rgb", "y", "x"], "cyx"),
        (["angle", "y", "x"], "zyx"),
        (["y", "x", "left"], "yxz"),
        (["left", "right", "up"], None),
        (["y", "x"], None),
    ],
)
def test_axes_have_letters_by_the_names_that_files_give_them(names, letters):
    assert letters_of(names, 4 if len(names) == 4 else 3) == letters


@pytest.mark.parametrize("how", ["zarr 3", "xarray", "n5", "cosem"])
def test_a_single_array_names_its_axes(tmp_path, how):
    names = ["channel", "z", "y", "x"]
    options = {"dimension_names": names} if how == "zarr 3" else {"zarr_format": 2}
    array = zarr.create_array(tmp_path / "a.zarr", data=pixels_of("czyx"), **options)
    steps, starts = ([values[letter] for letter in "czyx"] for values in (STEPS, STARTS))
    if how == "xarray":
        array.attrs["_ARRAY_DIMENSIONS"] = names
    elif how == "n5":
        array.attrs.update(axes=names, resolution=steps, offset=starts, units=["", "um", "um", "um"])
    elif how == "cosem":
        array.attrs["transform"] = {"axes": names, "scale": steps, "translate": starts, "units": ["", "µm", "µm", "µm"]}
    opened = open_image(tmp_path / "a.zarr")
    assert opened.axes == "czyx"
    if how in ("n5", "cosem"):
        assert known(opened) == wanted("czyx")
        assert opened.unit == "micrometer"


def test_times_without_sizes_are_no_depth(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels_of("tyx"), ome=True, metadata={"axes": "TYX"})
    volume = Volume.of(tmp_path / "a.ome.tif")
    assert volume.axes == "tyx"
    labels = open_labels(tmp_path / "l.ome.zarr", volume)
    assert open_image(labels.path).axes == "tyx"


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(ORDERS), st.sampled_from(["zarr", "tensorstore", "list"]))
def test_axes_that_an_array_names_count_in_any_order(letters, kind):
    image = pixels_of(letters)
    if kind == "tensorstore":
        given_ = tensorstore.array(image)[tensorstore.d[:].label[tuple(letters)]]
    else:
        given_ = zarr.create_array({}, data=image, dimension_names=list(letters))
    volume = Volume.of([given_] if kind == "list" else given_)
    kept = letters.replace("c", "")
    assert volume.axes == kept
    assert volume.channel_axis == (letters.index("c") if "c" in letters else None)
    assert volume.plane_axes == (kept.index("y"), kept.index("x"))
    last = [LENGTHS[letter] - 1 for letter in kept if letter not in "yx"]
    plane = Plane.of(volume.shape, last, volume.plane_axes)
    read = volume.read(plane, plane_box(volume, plane))
    assert (read[..., -1] if "c" in letters else read)[35, 55] == 220


def test_the_time_between_frames_of_an_ome_tif_is_known(tmp_path):
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    metadata |= {"TimeIncrement": 250, "TimeIncrementUnit": "ms"}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels_of("tyx"), ome=True, metadata=metadata)
    opened = open_image(tmp_path / "a.ome.tif")
    assert (opened.spacing, opened.time_unit) == ((0.25, 0.5, 0.5), "second")
    labels = open_image(open_labels(tmp_path / "l.ome.zarr", Volume.of(tmp_path / "a.ome.tif")).path)
    assert (labels.spacing, labels.time_unit) == ((0.25, 0.5, 0.5), "second")


# -- labels ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(ORDERS), st.booleans())
def test_labels_of_named_axes_in_any_order_lie_on_their_image(tmp_path_factory, letters, is_flipped):
    folder = tmp_path_factory.mktemp("order")
    transformations = scale_and_start(letters)
    if is_flipped:
        transformations[0]["scale"][letters.index("y")] *= -1
    image = pixels_of(letters)
    write_multiscale(folder / "a.zarr", image, "0.5", axes=axes_of(letters), transformations=transformations)
    volume = Volume.of(folder / "a.zarr")
    kept = letters.replace("c", "")
    assert volume.axes == kept
    # The plane of rows and columns is found by name.
    last = [LENGTHS[letter] - 1 for letter in kept if letter not in "yx"]
    plane = Plane.of(volume.shape, last, volume.plane_axes)
    whole = volume.read(plane, plane_box(volume, plane))
    assert whole.shape[:2] == (60, 80)
    assert (whole[..., -1] if "c" in letters else whole)[35, 55] == 220
    pyramid = open_labels(folder / "l.ome.zarr", volume)
    assert pyramid.shape == volume.shape
    opened = open_image(folder / "l.ome.zarr")
    assert opened.axes == kept
    expected = wanted(kept)
    expected["y"] = (math.copysign(0.5, transformations[0]["scale"][letters.index("y")]), 100.0)
    assert known(opened) == expected
    assert (opened.unit, opened.time_unit) == ("micrometer", "second" if "t" in letters else None)


def plane_box(volume, plane):
    from napari_sam.core.geometry import Box

    return Box.of_shape(plane.shape_in(volume.shape))


@pytest.mark.parametrize("letters", ["yx", "xy", "zyx", "yxz", "xyz", "tzcyx", "ztyx", "tyx"])
@pytest.mark.parametrize("name", ["l.tif", "l.zarr"])
def test_label_files_of_a_whole_image_carry_its_calibration(tmp_path, letters, name):
    write_multiscale(
        tmp_path / "a.zarr", pixels_of(letters), "0.5", axes=axes_of(letters), transformations=scale_and_start(letters)
    )
    volume = Volume.of(tmp_path / "a.zarr")
    labels = np.arange(math.prod(volume.shape), dtype=np.uint16).reshape(volume.shape)
    write_label_image(tmp_path / name, labels, volume)
    opened = open_image(tmp_path / name)
    np.testing.assert_array_equal(opened.levels[0][...], labels)
    kept = letters.replace("c", "")
    if name.endswith("zarr") or kept.endswith("yx"):
        assert opened.axes == kept
        assert {a: at for a, at in known(opened).items() if a != "t"} == {
            a: at for a, at in wanted(kept).items() if a != "t"
        }
        assert opened.unit == "micrometer"
    elif kept != "xy":
        assert opened.axes == kept


@pytest.mark.parametrize("name", ["l.tif", "l.zarr"])
@pytest.mark.parametrize("axes", [(1, 2), (0, 2), (2, 1), (2, 0)])
def test_label_files_of_a_plane_carry_the_calibration_of_its_axes(tmp_path, name, axes):
    write_multiscale(
        tmp_path / "a.zarr", pixels_of("zyx"), "0.5", axes=axes_of("zyx"), transformations=scale_and_start("zyx")
    )
    volume = Volume.of(tmp_path / "a.zarr")
    plane = Plane.of(volume.shape, 1, axes)
    write_label_image(tmp_path / name, np.ones(plane.shape_in(volume.shape), np.uint16), volume, plane)
    row, col = ("zyx"[axis] for axis in axes)
    if name.endswith(".tif"):
        assert known(open_image(tmp_path / name)) == {
            "y": (STEPS[row], STARTS[row]),
            "x": (STEPS[col], STARTS[col]),
        }
        with tifffile.TiffFile(tmp_path / name) as file:
            np.testing.assert_allclose(file.pages.first.get_resolution(), (1e4 / STEPS[col], 1e4 / STEPS[row]))
    else:
        array = zarr.open_array(tmp_path / name)
        assert array.metadata.dimension_names == (row, col)
        assert array.attrs["translation"] == [STARTS[row], STARTS[col]]


def test_labels_of_an_image_without_calibration_are_plain(tmp_path):
    write_label_image(tmp_path / "l.tif", np.ones((60, 80), np.uint16), Volume.of(np.zeros((60, 80))))
    opened = open_image(tmp_path / "l.tif")
    assert (opened.spacing, opened.origin, opened.unit) == (None, None, None)
    with tifffile.TiffFile(tmp_path / "l.tif") as file:
        assert not file.is_ome


def test_a_spacing_that_is_given_goes_into_the_labels(tmp_path):
    volume = Volume.of(np.zeros((4, 60, 80)), spacing=(2, 0.5, 0.25))
    write_label_image(tmp_path / "l.tif", np.ones((4, 60, 80), np.uint16), volume)
    assert open_image(tmp_path / "l.tif").spacing == (2, 0.5, 0.25)


def test_stage_positions_of_an_ome_tif_count_where_they_have_a_unit(tmp_path):
    def write(**plane):
        metadata = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
        tifffile.imwrite(tmp_path / "a.ome.tif", pixels_of("yx"), ome=True, metadata=metadata)
        return open_image(tmp_path / "a.ome.tif").origin

    millimeters = {"PositionXUnit": ["mm"], "PositionYUnit": ["mm"]}
    assert write(PositionX=[1.5], PositionY=[2.0], **millimeters) == (2000, 1500)
    assert write(PositionX=[1.5], PositionY=[2.0]) is None


@pytest.mark.parametrize("letters", ["ZTYX", "TZYX", "ZCYX", "TZCYX", "CZTYX"])
def test_the_command_makes_labels_on_disk_for_any_dimension_order(tmp_path, letters):
    image = pixels_of(letters.lower())
    tifffile.imwrite(tmp_path / "a.ome.tif", image, ome=True, photometric="minisblack", metadata={"axes": letters})
    kept = letters.replace("C", "")
    plane = ",".join(str(LENGTHS[letter.lower()] - 1) for letter in kept[:-2])
    arguments = ["--plane", plane, "--point", "35,55", "--out", str(tmp_path / "l.ome.zarr")]
    arguments += ["--channels", "2"] if "C" in letters else []
    result = CliRunner().invoke(app, ["segment", str(tmp_path / "a.ome.tif"), *arguments])
    assert result.exit_code == 0, result.output
    labels = zarr.open_group(tmp_path / "l.ome.zarr")["0"]
    assert labels.shape == tuple(LENGTHS[letter.lower()] for letter in kept)
    assert labels[tuple(int(at) for at in plane.split(","))][35, 55] == 1
    assert open_image(tmp_path / "l.ome.zarr").axes == kept.lower()


@pytest.mark.parametrize(
    ("axes", "types"),
    [
        ("tczyx", ["time", "channel", "space", "space", "space"]),
        ("ztyx", ["space", None, "space", "space"]),
        ("cyx", ["channel", "space", "space"]),
        ("ctyx", ["channel", None, "space", "space"]),
        ("yxz", ["space", "space", "space"]),
    ],
)
def test_an_axis_out_of_the_order_of_ome_zarr_has_a_name_and_no_type(tmp_path, axes, types):
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", [LENGTHS[letter] for letter in axes], axes=axes)
    described = zarr.open_group(pyramid.path).attrs["ome"]["multiscales"][0]["axes"]
    assert [axis.get("type") for axis in described] == types
    assert [axis["name"] for axis in described] == list(axes)


@pytest.mark.parametrize("axes", ["yxz", "ytx", "zyx"])
def test_coarser_labels_are_shorter_along_rows_and_columns_wherever_these_are(tmp_path, axes):
    shape = [{"y": 1030, "x": 2000}.get(letter, 3) for letter in axes]
    pyramid = LabelPyramid.create(tmp_path / "l.zarr", shape, axes=axes)
    for level, factor in zip(pyramid.levels, (1, 2, 4), strict=True):
        assert list(level.shape) == [-(-n // factor) if a in "yx" else n for a, n in zip(axes, shape, strict=True)]
    at = tuple(slice(4, 20) if letter in "yx" else 1 for letter in axes)
    pyramid[at] = 7
    half = tuple(slice(2, 10) if letter in "yx" else 1 for letter in axes)
    assert (pyramid.levels[1][half] == 7).all()


def test_a_click_on_an_image_with_columns_first_reads_rows_and_columns(fake_predictor, tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=pixels_of("xyz"), dimension_names=["x", "y", "z"])
    segmenter = Segmenter(tmp_path / "a.zarr", model=fake_predictor, contrast_limits=(0, 255))
    mask = segmenter.segment(points=[(35, 55)], plane=3, downsample=1).best
    segmenter.accept(mask)
    assert segmenter.labels.shape == (80, 60, 4)
    assert segmenter.labels[55, 35, 3] == 1
    assert not segmenter.labels[..., :3].any()
