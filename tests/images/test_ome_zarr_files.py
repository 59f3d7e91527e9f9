from __future__ import annotations

import json
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image


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
        (np.zeros((2, 150, 210), np.uint16), r"Level 1 .*shape \(2, 150, 210\).*level 0 has \(300, 420\)"),
        (np.zeros((150, 210), np.uint8), r"Level 1 .*type uint8, and level 0 has .*uint16"),
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
    with pytest.raises(ImageError, match=r"compressed in a way that is not known.*homemade.*write it again"):
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
