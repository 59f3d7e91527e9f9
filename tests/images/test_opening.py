from __future__ import annotations

import gc
import json
import os
import pickle
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from PIL import Image

from napari_sam.errors import ImageError
from napari_sam.images import opening
from napari_sam.images.opening import open_image
from napari_sam.images.tiff import reader as tiff
from napari_sam.images.tiff.reader import SamplesLast
from napari_sam.testing.strategies import array_keys

APERIO = "Aperio Image Library v12\r\n3000x2000 (256x256) JPEG/RGB Q=70|AppMag = 40|MPP = 0.25"


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(0).integers(1, 60000, (300, 420)).astype(np.uint16)


@pytest.fixture
def nothing_is_small(monkeypatch):
    """TIFFs of any size are read in parts."""
    monkeypatch.setattr(tiff, "SMALL_TIFF", 0)


# -- zarr --------------------------------------------------------------------------------------------------------------


def write_ome(path, levels, version="0.5", axes=None, scales=None, translations=None, whole=None, **ome):
    """Write levels as an OME-Zarr image; what is None is left out of the metadata."""
    group = zarr.create_group(path, zarr_format=2 if version == "0.4" else 3, overwrite=True)
    datasets = []
    for number, pixels in enumerate(levels):
        array = group.create_array(
            f"s{number}", shape=pixels.shape, dtype=pixels.dtype, chunks=[min(64, n) for n in pixels.shape]
        )
        array[...] = pixels
        transformations = [] if scales is None else [{"type": "scale", "scale": scales[number]}]
        if translations is not None:
            transformations.append({"type": "translation", "translation": translations[number]})
        datasets.append({"path": f"s{number}", "coordinateTransformations": transformations})
    multiscale = {"datasets": datasets} | ({} if axes is None else {"axes": axes})
    if whole is not None:
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": whole}]
    metadata = {"version": version, "multiscales": [multiscale], **ome}
    group.attrs.update(metadata if version == "0.4" else {"ome": metadata})
    return group


def described(letters, unit="micrometer"):
    kinds = {"t": "time", "c": "channel"}
    return [
        {"name": letter, "type": kinds.get(letter, "space")} | ({"unit": unit} if letter in "zyx" else {})
        for letter in letters
    ]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_everything_that_an_ome_zarr_image_says_of_itself_is_known(tmp_path, version):
    pixels = np.random.default_rng(0).integers(0, 99, (2, 2, 6, 60, 80)).astype(np.uint16)
    channels = [
        {"label": "DAPI", "color": "0000FF", "window": {"start": 10, "end": 500, "min": 0, "max": 65535}},
        {"label": "GFP", "color": "00FF00", "window": {"start": 7, "end": 7}},
    ]
    write_ome(
        tmp_path / "image.zarr",
        [pixels, pixels[..., ::2, ::2]],
        version,
        described("tczyx"),
        [[1, 1, 1, 0.5, 0.5], [1, 1, 1, 1.0, 1.0]],
        whole=[3, 1, 2, 0.5, 0.5],
        omero={"channels": channels},
    )
    opened = open_image(tmp_path / "image.zarr")
    assert opened.axes == "tczyx"
    assert opened.spacing == (3, 1, 2, 0.25, 0.25)
    assert opened.unit == "micrometer"
    assert opened.factors == ((1, 1, 1, 1, 1), (1, 1, 1, 2, 2))
    assert opened.windows == ((10, 500), None)
    assert opened.colors == ("0000FF", "00FF00")
    assert opened.channel_names == ("DAPI", "GFP")
    assert all(isinstance(level, zarr.Array) for level in opened.levels)
    np.testing.assert_array_equal(opened.levels[1][1, 0, 3], pixels[1, 0, 3, ::2, ::2])


def test_units_that_differ_are_brought_to_that_of_the_columns(tmp_path):
    axes = described("zyx", "nanometer")
    axes[0]["unit"] = "micrometer"
    write_ome(tmp_path / "image.zarr", [np.zeros((4, 8, 8), np.uint8)], axes=axes, scales=[[2, 500, 250]])
    opened = open_image(tmp_path / "image.zarr")
    assert opened.spacing == (2000, 500, 250)
    assert opened.unit == "nanometer"


@pytest.mark.parametrize(
    ("axes", "letters"),
    [
        (["y", "x"], "yx"),
        (described("yx"), "yx"),
        ([{"name": "lambda", "type": "channel"}, {"name": "x", "type": "space"}], None),
        ([{"name": "rows"}, {"name": "cols"}], "yx"),
        ([{"name": "left"}, {"name": "right"}], None),
        (["z", "y", "x"], None),
        (None, None),
    ],
)
def test_axes_that_do_not_name_an_image_are_unknown(tmp_path, grey, axes, letters):
    write_ome(tmp_path / "image.zarr", [grey], axes=axes, scales=[[2, 2]])
    opened = open_image(tmp_path / "image.zarr")
    assert opened.axes == letters
    assert opened.spacing == (None if letters is None else (2, 2))


def test_an_axis_of_another_kind_is_depth(tmp_path):
    axes = [{"name": "angle"}, *described("cyx")]
    write_ome(tmp_path / "image.zarr", [np.zeros((5, 2, 8, 8), np.uint8)], axes=axes)
    assert open_image(tmp_path / "image.zarr").axes == "zcyx"


@pytest.mark.parametrize("omero", ["text", {"channels": 3}, {"channels": ["red"]}, {"channels": None}, []])
def test_an_image_opens_even_if_what_is_said_of_its_look_is_damaged(tmp_path, grey, omero):
    write_ome(tmp_path / "image.zarr", [grey], omero=omero)
    assert open_image(tmp_path / "image.zarr").windows == ()


@pytest.mark.parametrize(
    ("coarse", "message"),
    [
        (np.zeros((2, 150, 210), np.uint16), r"level 1 .*shape \(2, 150, 210\).*level 0 has \(300, 420\)"),
        (np.zeros((150, 210), np.uint8), r"level 1 .*type uint8, and level 0 has .*uint16"),
        (np.zeros((150, 421), np.uint16), r"larger than the one before it, \(300, 420\)"),
        (np.zeros((150, 150), np.uint16), r"not a smaller copy of \(300, 420\)"),
    ],
)
def test_levels_that_are_not_one_image_are_refused_with_the_path_of_the_finest(tmp_path, grey, coarse, message):
    write_ome(tmp_path / "image.zarr", [grey, coarse])
    with pytest.raises(ImageError, match=f"{message}.*give .*image.zarr/s0, the finest level alone"):
        open_image(tmp_path / "image.zarr")
    np.testing.assert_array_equal(open_image(tmp_path / "image.zarr" / "s0").levels[0][...], grey)


def test_channels_may_not_become_fewer_from_level_to_level(tmp_path):
    levels = [np.zeros((4, 64, 64), np.uint8), np.zeros((2, 32, 32), np.uint8)]
    write_ome(tmp_path / "image.zarr", levels, axes=described("cyx"))
    with pytest.raises(ImageError, match=r"\(2, 32, 32\).*not a smaller copy of"):
        open_image(tmp_path / "image.zarr")


@pytest.mark.parametrize("shape", [(75, 105), (76, 105), (75, 106), (76, 106)])
def test_lengths_may_be_rounded_either_way(tmp_path, shape):
    levels = [np.zeros((303, 423), np.uint8), np.zeros(shape, np.uint8)]
    write_ome(tmp_path / "image.zarr", levels, scales=[[1, 1], [4, 4]], axes=described("yx"))
    assert open_image(tmp_path / "image.zarr").factors == ((1, 1), (4, 4))


@pytest.mark.parametrize("scale", [[2, 2], [1, 1], [4, 2], [0.25, 0.25]])
def test_scales_that_contradict_the_shapes_are_refused(tmp_path, grey, scale):
    write_ome(tmp_path / "image.zarr", [grey, grey[::4, ::4]], scales=[[1, 1], scale], axes=described("yx"))
    with pytest.raises(ImageError, match=r"\(75, 105\).*not a smaller copy of \(300, 420\).*give .*s0"):
        open_image(tmp_path / "image.zarr")


def test_rows_and_columns_may_shrink_unevenly_where_the_scales_say_so(tmp_path, grey):
    write_ome(tmp_path / "image.zarr", [grey, grey[::4, ::2]], scales=[[1, 2], [4, 4]], axes=described("yx"))
    assert open_image(tmp_path / "image.zarr").factors == ((1, 1), (4, 2))


def test_levels_may_be_placed_by_the_centre_of_their_first_pixel_and_no_further(tmp_path, grey):
    levels, scales = [grey, grey[::4, ::4]], [[2, 2], [8, 8]]
    write_ome(tmp_path / "a.zarr", levels, scales=scales, translations=[[50, 50], [53, 53]])
    assert len(open_image(tmp_path / "a.zarr").levels) == 2
    write_ome(tmp_path / "b.zarr", levels, scales=scales, translations=[[50, 50], [50, 90]])
    with pytest.raises(ImageError, match=r"Level 1 of .*b\.zarr.*not aligned with the finest one.*give .*s0"):
        open_image(tmp_path / "b.zarr")


def test_the_scale_of_the_whole_image_counts_for_translations_too(tmp_path, grey):
    write_ome(
        tmp_path / "image.zarr",
        [grey, grey[::2, ::2]],
        scales=[[1, 1], [2, 2]],
        translations=[[0, 0], [0.5, 0.5]],
        whole=[0.001, 0.001],
    )
    assert open_image(tmp_path / "image.zarr").factors == ((1, 1), (2, 2))


@pytest.mark.parametrize("missing", ["s0", "s1"])
def test_a_level_that_is_named_and_missing_is_refused_by_its_name(tmp_path, grey, missing):
    del write_ome(tmp_path / "image.zarr", [grey, grey[::2, ::2]])[missing]
    with pytest.raises(
        ImageError, match=rf"The array '{missing}' .*image\.zarr is missing: copy the whole store again"
    ):
        open_image(tmp_path / "image.zarr")


def test_a_level_outside_the_store_is_not_followed(tmp_path, grey):
    zarr.create_array(tmp_path / "other", shape=(4, 4), dtype=np.uint8)
    group = write_ome(tmp_path / "image.zarr", [grey])
    metadata = dict(group.attrs["ome"])
    metadata["multiscales"][0]["datasets"][0]["path"] = "../other"
    group.attrs["ome"] = metadata
    with pytest.raises(ImageError, match=r"image\.zarr cannot be read"):
        open_image(tmp_path / "image.zarr")


def test_a_label_image_opens_and_the_group_of_them_gives_its_path(tmp_path, grey):
    group = write_ome(tmp_path / "image.zarr", [grey])
    write_ome(tmp_path / "image.zarr" / "labels" / "cells", [grey], **{"image-label": {"version": "0.5"}})
    zarr.open_group(tmp_path / "image.zarr" / "labels", mode="a").attrs["ome"] = {"labels": ["cells"]}
    assert group.attrs
    with pytest.raises(ImageError, match=r"many label images: give .*image\.zarr/labels/cells\."):
        open_image(tmp_path / "image.zarr" / "labels")
    np.testing.assert_array_equal(open_image(tmp_path / "image.zarr" / "labels" / "cells").levels[0][...], grey)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_plate_and_a_well_give_the_path_of_an_image(tmp_path, grey, version):
    def mark(path, **metadata):
        group = zarr.open_group(path, mode="a", zarr_format=2 if version == "0.4" else 3)
        group.attrs.update(metadata if version == "0.4" else {"ome": metadata})

    mark(tmp_path / "plate.zarr", plate={"wells": [{"path": "B/3"}, {"path": "B/4"}]})
    mark(tmp_path / "plate.zarr" / "B" / "3", well={"images": [{"path": "0"}]})
    write_ome(tmp_path / "plate.zarr" / "B" / "3" / "0", [grey], version)
    with pytest.raises(ImageError, match=r"many wells: give .*plate\.zarr/B/3/0\."):
        open_image(tmp_path / "plate.zarr")
    with pytest.raises(ImageError, match=r"many fields: give .*plate\.zarr/B/3/0\."):
        open_image(tmp_path / "plate.zarr" / "B" / "3")
    assert open_image(tmp_path / "plate.zarr" / "B" / "3" / "0").levels[0].shape == grey.shape


@pytest.mark.parametrize("plate", [{}, {"wells": []}, {"wells": [{}]}, "text", 3])
def test_a_plate_that_names_no_well_is_one_sentence(tmp_path, plate):
    zarr.create_group(tmp_path / "plate.zarr").attrs["ome"] = {"plate": plate}
    with pytest.raises(ImageError, match=r"plate\.zarr is a plate .*give the path of an image\."):
        open_image(tmp_path / "plate.zarr")


def test_what_bioformats2raw_writes_is_its_first_image(tmp_path, grey):
    zarr.create_group(tmp_path / "out.zarr", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write_ome(tmp_path / "out.zarr" / "0", [grey], "0.4")
    np.testing.assert_array_equal(open_image(tmp_path / "out.zarr").levels[0][...], grey)


def test_a_group_of_images_is_refused_with_their_names(tmp_path, grey):
    zarr.create_group(tmp_path / "many.zarr")
    for name in ("left", "right"):
        write_ome(tmp_path / "many.zarr" / name, [grey])
    with pytest.raises(ImageError, match=r"give the path of one of its groups \(left, right\)"):
        open_image(tmp_path / "many.zarr")


@pytest.mark.parametrize("folder", ["", "image.zarr/"])
@pytest.mark.parametrize("name", ["image.zarr.zip", "image.ozx"])
def test_a_zipped_zarr_is_read_where_it_is(tmp_path, grey, name, folder):
    write_ome(tmp_path / "image.zarr", [grey, grey[::2, ::2]], axes=described("yx"))
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        for file in sorted(path for path in (tmp_path / "image.zarr").rglob("*") if path.is_file()):
            archive.write(file, folder + file.relative_to(tmp_path / "image.zarr").as_posix())
    opened = open_image(tmp_path / name)
    assert opened.axes == "yx"
    np.testing.assert_array_equal(opened.levels[0][5:70, 3:400], grey[5:70, 3:400])


def test_a_zip_of_something_else_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "letters.zip", "w") as archive:
        archive.writestr("a.txt", "a")
        archive.writestr("b.txt", "b")
    (tmp_path / "text.zip").write_text("text")
    for name in ("letters.zip", "text.zip"):
        with pytest.raises(ImageError, match=f"{name} cannot be read as an image"):
            open_image(tmp_path / name)


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    store.rm("/", recursive=True)


def test_a_zarr_behind_a_url_opens_like_one_on_disk(memory, grey):
    write_ome("memory://bucket/image.zarr", [grey, grey[::2, ::2]], axes=described("yx"))
    opened = open_image("memory://bucket/image.zarr")
    assert opened.axes == "yx"
    np.testing.assert_array_equal(opened.levels[0][9:99, 400:], grey[9:99, 400:])
    np.testing.assert_array_equal(open_image("memory://bucket/image.zarr/s1/").levels[0][...], grey[::2, ::2])


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none.zarr", "There is no zarr at memory://bucket/none.zarr: check the URL"),
        ("memory://bucket/image.tif", "no zarr at .*download files of other kinds"),
        ("memory://bucket/a.zarr?x=1", "has a query.*leave out"),
        ("memory://bucket/a.zarr.zip", "is a zip.*download it"),
        ("strange://bucket/a.zarr", "cannot be read.*Protocol not known.*can it be reached"),
        ("absent://bucket/a.zarr", r"package that is missing \(take absent_fs\): install it"),
    ],
)
def test_a_url_of_nothing_is_one_sentence(memory, url, message):
    fsspec.register_implementation("absent", "absent_fs.FileSystem", errtxt="take absent_fs", clobber=True)
    with pytest.raises(ImageError, match=message) as caught:
        open_image(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [2, 3])
def test_a_codec_that_is_not_known_is_named(tmp_path, grey, layout):
    array = zarr.create_array(tmp_path / "image.zarr", shape=(8, 8), dtype=np.uint8, zarr_format=layout)
    assert array.shape == (8, 8)
    path = tmp_path / "image.zarr" / (".zarray" if layout == 2 else "zarr.json")
    metadata = json.loads(path.read_text())
    if layout == 2:
        metadata["compressor"] = {"id": "homemade"}
    else:
        metadata["codecs"][-1] = {"name": "homemade", "configuration": {}}
    path.write_text(json.dumps(metadata))
    with pytest.raises(ImageError, match=r"compressed in a way that is not known.*homemade.*write it anew"):
        open_image(tmp_path / "image.zarr")


@pytest.mark.parametrize("content", ["{not json", "[]", "{}", ""])
@pytest.mark.parametrize("name", [".zarray", "zarr.json"])
def test_damaged_metadata_are_one_sentence(tmp_path, name, content):
    (tmp_path / "image.zarr").mkdir()
    (tmp_path / "image.zarr" / name).write_text(content)
    with pytest.raises(ImageError, match=r"image\.zarr (cannot be read as an image|is an empty zarr group)"):
        open_image(tmp_path / "image.zarr")


@pytest.mark.parametrize("dtype", ["complex64", "U5", "datetime64[s]"])
@pytest.mark.filterwarnings("ignore:The data type")
def test_pixels_that_are_no_numbers_are_refused_whatever_they_are_in(tmp_path, dtype):
    zarr.create_array(tmp_path / "image.zarr", shape=(8, 8), dtype=dtype)
    np.save(tmp_path / "image.npy", np.zeros((8, 8), dtype))
    for name in ("image.zarr", "image.npy"):
        with pytest.raises(ImageError, match=rf"{name}.*unsupported pixel type.*integer or floating-point"):
            open_image(tmp_path / name)


def test_to_open_a_zarr_reads_its_metadata_and_no_chunk(tmp_path, grey, monkeypatch):
    write_ome(tmp_path / "image.zarr", [grey, grey[::2, ::2]], axes=described("yx"), scales=[[1, 1], [2, 2]])
    asked = []
    original = zarr.storage.LocalStore.get

    async def get(self, key, *args, **kwargs):
        asked.append(key)
        return await original(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    opened = open_image(tmp_path / "image.zarr")
    assert asked
    assert {Path(key).name for key in asked} <= {"zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"}
    asked.clear()
    opened.levels[0][70:100, 70:100]
    assert asked == ["s0/c/1/1"]


# -- TIFF --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((20, 30), {}, "yx"),
        ((3, 20, 30), {"photometric": "minisblack"}, "zyx"),
        ((2, 3, 20, 30), {"photometric": "minisblack"}, "tzyx"),
        ((2, 3, 4, 20, 30), {"photometric": "minisblack"}, None),
        ((20, 30, 3), {"photometric": "rgb"}, "yxs"),
        ((20, 30, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "yxs"),
        ((7, 20, 30, 3), {"photometric": "rgb"}, "zyxs"),
        ((20, 30, 5), {"photometric": "minisblack", "planarconfig": "contig"}, "yxc"),
        ((20, 30, 3), {"photometric": "minisblack", "planarconfig": "contig"}, "yxc"),
        ((5, 20, 30), {"photometric": "minisblack", "planarconfig": "separate"}, "cyx"),
        ((20, 30, 6), {"photometric": "rgb", "extrasamples": ["unspecified"] * 3}, "yxc"),
        ((2, 5, 3, 20, 30), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "tzcyx"),
        ((5, 20, 30), {"imagej": True, "metadata": {"axes": "CYX"}}, "cyx"),
        ((5, 20, 30, 3), {"imagej": True}, "zyxs"),
        ((5, 3, 20, 30), {"ome": True, "metadata": {"axes": "ZCYX"}}, "zcyx"),
        ((2, 20, 30, 3), {"ome": True, "metadata": {"axes": "CYXS"}}, "zyxs"),
        ((1, 20, 30), {"ome": True, "metadata": {"axes": "CYX"}}, "yx"),
    ],
)
@pytest.mark.parametrize("small", [2**20, 0])
def test_the_axes_of_a_tif_are_those_that_it_names(tmp_path, monkeypatch, shape, options, axes, small):
    monkeypatch.setattr(tiff, "SMALL_TIFF", small)
    dtype = np.uint8 if shape[-1] in (3, 4) else np.uint16
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    compression = {} if "imagej" in options else {"compression": "zlib"}
    tifffile.imwrite(tmp_path / "image.tif", pixels, **options, **compression)
    opened = open_image(tmp_path / "image.tif")
    assert opened.axes == axes
    np.testing.assert_array_equal(opened.levels[0][...], np.squeeze(pixels))


@pytest.mark.parametrize("small", [2**20, 0])
def test_colours_in_planes_of_their_own_are_put_last(tmp_path, monkeypatch, small):
    monkeypatch.setattr(tiff, "SMALL_TIFF", small)
    pixels = np.random.default_rng(0).integers(0, 255, (3, 200, 300), np.uint8)
    tifffile.imwrite(
        tmp_path / "image.tif", pixels, photometric="rgb", planarconfig="separate", tile=(64, 64), compression="zlib"
    )
    opened = open_image(tmp_path / "image.tif")
    assert opened.axes == "yxs"
    assert isinstance(opened.levels[0], np.ndarray if small else SamplesLast)
    np.testing.assert_array_equal(opened.levels[0][20:90, 100:, :], np.moveaxis(pixels, 0, -1)[20:90, 100:])


PLANAR = np.random.default_rng(0).integers(0, 255, (2, 3, 6, 7), np.uint8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array_keys((2, 6, 7, 3)))
def test_parts_of_samples_that_were_put_last_are_those_of_numpy(key):
    stored = zarr.array(PLANAR, chunks=(1, 1, 4, 4))
    wrapped, reference = SamplesLast(stored, 1), np.moveaxis(PLANAR, 1, -1)
    assert (wrapped.shape, wrapped.chunks) == (reference.shape, (1, 4, 4, 1))
    np.testing.assert_array_equal(wrapped[key], reference[key])


def test_more_indices_than_axes_are_refused_as_numpy_does():
    with pytest.raises(IndexError):
        SamplesLast(zarr.array(PLANAR), 1)[0, 0, 0, 0, 0]


@pytest.mark.parametrize("options", [{"byteorder": ">"}, {"bigtiff": True}, {"predictor": True}])
@pytest.mark.parametrize("layout", [{}, {"tile": (64, 64)}, {"rowsperstrip": 30}, {"rowsperstrip": 1}])
@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.usefixtures("nothing_is_small")
def test_tifs_of_every_layout_are_read_in_parts(tmp_path, grey, options, layout, compression):
    if "predictor" in options and compression is None:
        options = {}
    tifffile.imwrite(tmp_path / "image.tif", grey, compression=compression, **layout, **options)
    array = open_image(tmp_path / "image.tif").levels[0]
    np.testing.assert_array_equal(array[37:130, 5:401], grey[37:130, 5:401])
    is_mapped = compression is None and "tile" not in layout
    assert isinstance(array, np.memmap if is_mapped else zarr.Array)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, np.float64, np.uint32])
@pytest.mark.usefixtures("nothing_is_small")
def test_numbers_of_every_kind_are_read_in_parts(tmp_path, grey, dtype):
    pixels = (grey % 2 if dtype is bool else grey % 100).astype(dtype)
    tifffile.imwrite(tmp_path / "image.tif", pixels, compression="deflate")
    array = open_image(tmp_path / "image.tif").levels[0]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array[37:130, 5:401], pixels[37:130, 5:401])


def test_a_hyperstack_of_imagej_is_mapped_and_knows_its_voxels(tmp_path, nothing_is_small):
    stack = np.random.default_rng(0).integers(0, 9999, (4, 2, 30, 40)).astype(np.uint16)
    tifffile.imwrite(
        tmp_path / "stack.tif",
        stack,
        imagej=True,
        resolution=(5, 4),
        metadata={"axes": "ZCYX", "spacing": 1.5, "unit": "um"},
    )
    opened = open_image(tmp_path / "stack.tif")
    assert isinstance(opened.levels[0], np.memmap)
    assert opened.axes == "zcyx"
    assert opened.spacing == (1.5, 1, 0.25, 0.2)
    assert opened.unit == "micrometer"
    np.testing.assert_array_equal(opened.levels[0], stack)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("micron", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("\\x", "\\x"),
        ("nm", "nanometer"),
        ("pixel", None),
        ("", None),
    ],
)
def test_units_of_imagej_are_names(tmp_path, unit, name):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9), np.uint8), imagej=True, metadata={"unit": unit})
    assert open_image(tmp_path / "a.tif").unit == name


@pytest.mark.parametrize("spacing", [0, -2.0, float("nan"), "far"])
def test_a_spacing_of_imagej_that_is_no_length_counts_as_one(tmp_path, spacing):
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((3, 8, 9), np.uint8), imagej=True, metadata={"axes": "ZYX", "spacing": spacing}
    )
    assert open_image(tmp_path / "a.tif").spacing == (1, 1, 1)


def test_the_physical_sizes_of_an_ome_tif_are_brought_to_one_unit(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeZ": 2, "PhysicalSizeZUnit": "µm"}
    metadata |= {f"PhysicalSize{axis}": 250 for axis in "XY"} | {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint8), metadata=metadata)
    opened = open_image(tmp_path / "a.ome.tif")
    assert opened.spacing == (2000, 250, 250)
    assert opened.unit == "nanometer"


@pytest.mark.parametrize("inner", ["<Image><Pixels", "<Image/>", "text"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_tif_opens_even_if_its_ome_metadata_are_damaged(tmp_path, grey, inner):
    tifffile.imwrite(tmp_path / "a.tif", grey, description=f"<OME>{inner}</OME>", metadata=None)
    opened = open_image(tmp_path / "a.tif")
    assert opened.spacing is None
    np.testing.assert_array_equal(opened.levels[0], grey)


@pytest.mark.parametrize(("unit", "depth"), [("inch", 0.01), ("", 0.01), ("um", 1)])
def test_a_depth_that_imagej_left_out_is_one_of_its_unit_but_for_dots_per_inch(tmp_path, unit, depth):
    stack = np.zeros((3, 8, 9), np.uint8)
    metadata = {"axes": "ZYX", "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(100, 100), metadata=metadata)
    assert open_image(tmp_path / "a.tif").spacing == pytest.approx((depth, 0.01, 0.01))


def test_an_unknown_depth_is_as_large_as_a_column(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((3, 8, 9), np.uint8), metadata=metadata)
    assert open_image(tmp_path / "a.ome.tif").spacing == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("resolution", "unit", "spacing"),
    [
        ((40000, 20000), "CENTIMETER", (0.5, 0.25)),
        ((25400, 25400), "INCH", (1, 1)),
        ((300, 300), "INCH", None),
        ((72, 72), "INCH", None),
        ((1, 1), "NONE", None),
        ((0, 0), "CENTIMETER", None),
    ],
)
def test_resolutions_count_where_they_are_those_of_a_microscope(tmp_path, grey, resolution, unit, spacing):
    tifffile.imwrite(tmp_path / "a.tif", grey, resolution=resolution, resolutionunit=unit)
    opened = open_image(tmp_path / "a.tif")
    assert opened.spacing == (None if spacing is None else pytest.approx(spacing))
    assert opened.unit == (None if spacing is None else "micrometer")


def write_pages(path, *pages, **options):
    """Write (pixels, options) one after the other into a TIFF."""
    with tifffile.TiffWriter(path, **options) as file:
        for pixels, page in pages:
            file.write(pixels, **{"metadata": None, "compression": "zlib"} | page)


def test_subifds_of_an_ome_tif_are_levels(tmp_path, grey):
    levels = [grey, grey[::2, ::2], grey[::4, ::4]]
    top, *others = ({"metadata": {"axes": "YX"}, "subifds": 2}, {"subfiletype": 1}, {"subfiletype": 1})
    write_pages(tmp_path / "a.ome.tif", *zip(levels, (top, *others), strict=True), ome=True)
    opened = open_image(tmp_path / "a.ome.tif")
    assert opened.axes == "yx"
    assert len(opened.levels) == 3
    for level, pixels in zip(opened.levels, levels, strict=True):
        np.testing.assert_array_equal(level[10:60, 20:], pixels[10:60, 20:])


@pytest.mark.parametrize("steps", [(2, 4, 8), (2, 8), (8,), (4, 6), (2, 4, 16), (8, 2)])
def test_overviews_are_levels_whatever_their_steps(tmp_path, grey, steps):
    overviews = [(grey[::step, ::step], {"subfiletype": 1, "tile": (64, 64)}) for step in steps]
    write_pages(tmp_path / "a.tif", (grey, {"tile": (64, 64)}), *overviews)
    opened = open_image(tmp_path / "a.tif")
    assert len(opened.levels) == 1 + len(steps)
    for step, level in zip(sorted(steps), opened.levels[1:], strict=True):
        np.testing.assert_array_equal(level[...], grey[::step, ::step])


def test_masks_and_thumbnails_of_another_form_are_no_levels(tmp_path, grey):
    half = {"tile": (64, 64), "subfiletype": 1}
    write_pages(
        tmp_path / "a.tif",
        (grey, {"tile": (64, 64)}),
        (grey % 2 == 0, {"subfiletype": 4}),
        (grey[::2, ::2], half),
        (grey[::2, ::2] % 2 == 0, {"subfiletype": 5}),
        (grey[:40, :40], {"subfiletype": 1}),
        (grey[::4, ::4].astype(np.uint8), half),
    )
    assert [level.shape for level in open_image(tmp_path / "a.tif").levels] == [(300, 420), (150, 210)]


def test_a_slide_is_its_tissue_and_not_its_label(tmp_path):
    tissue = np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)
    colours = {"photometric": "rgb"}
    write_pages(
        tmp_path / "a.svs",
        (tissue, colours | {"tile": (256, 256), "description": APERIO}),
        (tissue[::8, ::8], colours | {"description": APERIO}),
        (tissue[::4, ::4], colours | {"tile": (256, 256), "description": APERIO}),
        (tissue[:90, :80], colours | {"subfiletype": 1, "description": "Aperio label 80x90"}),
        (tissue[:90, :99], colours | {"subfiletype": 9, "description": "Aperio macro 99x90"}),
    )
    opened = open_image(tmp_path / "a.svs")
    assert [level.shape for level in opened.levels] == [(600, 900, 3), (150, 225, 3)]
    assert opened.axes == "yxs"
    assert opened.spacing == (0.25, 0.25, 1)
    np.testing.assert_array_equal(opened.levels[1][...], tissue[::4, ::4])


def test_the_largest_image_of_a_slide_is_meant_where_an_overview_comes_first(tmp_path):
    tissue = np.random.default_rng(0).integers(0, 255, (400, 300, 3), np.uint8)
    macro = '<image><pixels><dimension r="0" ifd="0"/></pixels></image>'
    main = '<image><pixels><dimension r="0" ifd="1"/><dimension r="1" ifd="2"/></pixels></image>'
    options = {"photometric": "rgb", "tile": (64, 64)}
    write_pages(
        tmp_path / "a.scn",
        (tissue[::10, ::10], options | {"description": f"<scn><collection>{macro}{main}</collection></scn>"}),
        (tissue, options),
        (tissue[::2, ::2], options),
    )
    assert [level.shape for level in open_image(tmp_path / "a.scn").levels] == [(400, 300, 3), (200, 150, 3)]
    content = (tmp_path / "a.scn").read_bytes()
    (tmp_path / "a.scn").write_bytes(content[:-10])
    with pytest.raises(ImageError, match=r"a\.scn cannot be read as an image \(its end is missing\)"):
        open_image(tmp_path / "a.scn")


@pytest.mark.parametrize("small", [2**26, 0])
def test_an_ome_tif_may_lie_in_several_files(tmp_path, grey, monkeypatch, small):
    monkeypatch.setattr(tiff, "SMALL_TIFF", small)
    places = "".join(
        f'<TiffData FirstZ="{z}" IFD="0"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(["a.ome.tif", "b.ome.tif"])
    )
    size = f'SizeX="{grey.shape[1]}" SizeY="{grey.shape[0]}" SizeZ="2" SizeC="1" SizeT="1"'
    pixels = f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" {size}>{places}</Pixels>'
    planes = {"a": grey, "b": grey[::-1]}
    for number, (name, plane) in enumerate(planes.items()):
        xml = f'<OME UUID="urn:uuid:{number}"><Image ID="Image:0">{pixels}</Image></OME>'
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", plane, metadata=None, description=xml, ome=False)
    opened = open_image(tmp_path / "a.ome.tif")
    assert opened.axes == "zyx"
    np.testing.assert_array_equal(opened.levels[0][...], np.stack([grey, grey[::-1]]))


@pytest.fixture
def tiled(tmp_path, grey):
    """A tiled TIFF of which only the tile in the second row and column is sound."""
    path = tmp_path / "tiled.tif"
    tifffile.imwrite(path, grey, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    with path.open("r+b") as file:
        for number, (offset, count) in enumerate(places):
            if number != 7 + 1:
                file.seek(offset)
                file.write(b"x" * count)
    return path


@pytest.mark.usefixtures("nothing_is_small")
def test_only_the_tiles_under_a_window_are_read(tiled, grey):
    array = open_image(tiled).levels[0]
    np.testing.assert_array_equal(array[64:128, 64:128], grey[64:128, 64:128])
    with pytest.raises(RuntimeError, match="BAD_DATA"):
        array[64:128, 64:129]


@pytest.mark.usefixtures("nothing_is_small")
def test_to_open_a_tif_reads_its_tags_and_no_pixels(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024), np.uint8)
    pages = [(noise[::step, ::step], {"tile": (128, 128), "subfiletype": int(step > 1)}) for step in (1, 2, 4)]
    write_pages(tmp_path / "a.tif", *pages)
    read = []
    for name in ("read", "read_array", "read_segments"):
        original = getattr(tifffile.FileHandle, name)

        def counted(self, *args, _original=original, _name=name, **kwargs):
            found = _original(self, *args, **kwargs)
            read.append(len(found) if _name == "read" else np.inf)
            return found

        monkeypatch.setattr(tifffile.FileHandle, name, counted)
    opened = open_image(tmp_path / "a.tif")
    assert len(opened.levels) == 3
    assert 0 < sum(read) < 20_000 < noise.nbytes / 50


@pytest.mark.usefixtures("nothing_is_small")
def test_the_file_is_open_for_as_long_as_its_pixels_and_no_longer(tmp_path, grey):
    path = tmp_path / "a.tif"
    write_pages(path, (grey, {"tile": (64, 64)}), (grey[::2, ::2], {"tile": (64, 64), "subfiletype": 1}))
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("this system does not list open files")

    def is_open():
        return any(os.path.realpath(entry) == str(path) for entry in descriptors.iterdir())

    coarse = open_image(path).levels[1]
    gc.collect()
    assert is_open()
    np.testing.assert_array_equal(coarse[...], grey[::2, ::2])
    del coarse
    gc.collect()
    assert not is_open()


@pytest.mark.usefixtures("nothing_is_small")
def test_threads_that_read_at_once_read_the_same(tmp_path, grey):
    tifffile.imwrite(tmp_path / "a.tif", grey, tile=(64, 64), compression="zlib")
    array = open_image(tmp_path / "a.tif").levels[0]
    corners = [(row, col) for row in range(0, 280, 90) for col in range(0, 400, 90)]
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(lambda corner: array[corner[0] :, corner[1] :], corners))
    for (row, col), block in zip(corners, blocks, strict=True):
        np.testing.assert_array_equal(block, grey[row:, col:])


@pytest.mark.parametrize("layout", [{"tile": (64, 64)}, {"rowsperstrip": 30}, {}])
@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
@pytest.mark.parametrize("share", [0.5, 0.999])
@pytest.mark.usefixtures("nothing_is_small")
def test_a_tif_that_ends_too_soon_is_refused_when_it_is_opened(tmp_path, grey, layout, compression, share):
    pixels = grey.astype(np.uint8) if compression == "jpeg" else grey
    write_pages(tmp_path / "cut.tif", (pixels, {"compression": compression, **layout}))
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"cut\.tif cannot be read as an image.*is it complete"):
        open_image(tmp_path / "cut.tif")


def test_a_compression_that_nobody_knows_is_named(tmp_path, grey, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", grey, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(34661)
    monkeypatch.setattr(tiff, "has_rasterio", lambda: False)
    with pytest.raises(ImageError, match=r"a\.tif has the unsupported compression JBIG.*save it with DEFLATE"):
        open_image(tmp_path / "a.tif")


@pytest.mark.parametrize(("text", "nodata"), [("-9999", -9999.0), (" 0 \x00", 0.0), ("none", None)])
def test_the_value_of_nothing_is_known_without_rasterio(tmp_path, grey, monkeypatch, text, nodata):
    monkeypatch.setattr("napari_sam.images.rasters.gdal.has_rasterio", lambda: False)
    tifffile.imwrite(tmp_path / "a.tif", grey, extratags=[(42113, "s", 0, text, True)])
    opened = open_image(tmp_path / "a.tif")
    assert opened.nodata == nodata
    assert opened.georeference is None


def test_a_tif_without_an_image_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\x00" + bytes(60))
    with pytest.raises(ImageError, match=r"a\.tif cannot be read as an image"):
        open_image(tmp_path / "a.tif")


# -- other files -------------------------------------------------------------------------------------------------------


def test_a_numpy_file_is_mapped(tmp_path, grey):
    np.save(tmp_path / "a.npy", grey)
    array = open_image(str(tmp_path / "a.npy")).levels[0]
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, grey)


def test_nothing_in_a_numpy_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap(), Trap()], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read"):
            open_image(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_numpy_file_that_is_cut_or_an_archive_is_refused(tmp_path, grey):
    np.save(tmp_path / "cut.npy", grey)
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[: len(content) // 2])
    np.savez(tmp_path / "many.npz", grey)
    shutil.move(tmp_path / "many.npz", tmp_path / "many.npy")
    for name in ("cut.npy", "many.npy"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read as an image"):
            open_image(tmp_path / name)


@pytest.mark.parametrize(("limit", "opens"), [(100_000, True), (50_000, False)])
def test_a_picture_of_too_many_pixels_names_what_can_be_read_in_parts(tmp_path, grey, monkeypatch, limit, opens):
    Image.fromarray(grey).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if opens:
        assert open_image(tmp_path / "a.png").levels[0].shape == grey.shape
    else:
        with pytest.raises(ImageError, match=r"a\.png is too large.*tiled \.tif"):
            open_image(tmp_path / "a.png")


def test_a_raster_without_rasterio_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "has_rasterio", lambda: False)
    (tmp_path / "a.vrt").write_text("<VRTDataset/>")
    with pytest.raises(ImageError, match=r"a\.vrt.*rasterio: pip install rasterio"):
        open_image(tmp_path / "a.vrt")
