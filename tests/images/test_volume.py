from __future__ import annotations

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage.io import imread

from napari_sam.core import rendering
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.rendering import Rendering
from napari_sam.core.tiles import TileGrid
from napari_sam.errors import ImageError
from napari_sam.images.sampling import SAMPLE_BLOCK_SIDE, SAMPLE_BLOCKS, SAMPLE_PLANES
from napari_sam.images.volume import Volume


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(0).integers(0, 60000, (40, 50)).astype(np.uint16)


@pytest.fixture(scope="module")
def colour():
    return np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)


def whole(volume: Volume, index=None) -> np.ndarray:
    plane = Plane.of(volume.shape, index)
    return volume.read(plane, Box.of_shape(plane.shape_in(volume.shape)))


@pytest.mark.parametrize(
    ("shape", "dtype", "rgb"),
    [
        ((40, 50), np.uint8, False),
        ((40, 50, 3), np.uint8, True),
        ((40, 50, 4), np.uint8, True),
        ((9, 40, 50, 3), np.uint8, True),
        ((40, 50, 2), np.uint8, False),
        ((40, 50, 3), np.uint16, True),
        ((9, 40, 50, 4), float, True),
        ((40, 30, 3), np.uint16, False),
        ((20, 50, 4), float, False),
        ((6, 5, 3), np.uint8, True),
        ((3, 40, 50), np.uint8, False),
        ((4, 3, 3), np.uint8, False),
        ((7, 4, 4), np.uint8, False),
    ],
)
def test_colours_are_guessed_from_type_and_shape(shape, dtype, rgb):
    volume = Volume.of(np.zeros(shape, dtype))
    assert volume.rgb is rgb
    assert volume.shape == (shape[:-1] if rgb else shape)


def test_the_guess_can_be_overruled_both_ways():
    assert Volume.of(np.zeros((40, 50, 3), np.uint8), rgb=False).shape == (40, 50, 3)
    assert Volume.of(np.zeros((20, 25, 3), np.uint16), rgb=True).shape == (20, 25)
    with pytest.raises(ImageError, match="channel axis"):
        Volume.of(np.zeros((40, 50), np.uint8), rgb=True)


def test_a_volume_stays_as_it_is_and_lists_become_arrays():
    volume = Volume.of(np.zeros((4, 5)))
    assert Volume.of(volume) is volume
    assert whole(Volume.of([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4), complex), "complex128 is not supported.*integer or floating-point"),
        (np.array([["a", "b"]]), "is not supported"),
        (np.zeros((4, 4), "datetime64[s]"), "is not supported"),
        (None, "not an image"),
        (np.zeros(5), "at least two axes.*give a 2-D array"),
        (np.float32(3), "at least two axes"),
        (np.zeros((0, 5)), r"empty.*\(0, 5\)"),
        (np.zeros((3, 0, 5)), "empty"),
    ],
)
def test_what_is_no_image_is_refused(array, message):
    with pytest.raises(ImageError, match=message):
        Volume.of(array)


def test_a_box_of_a_transposed_plane_is_that_of_the_transposed_array():
    stack = np.random.default_rng(0).normal(size=(6, 7, 8, 9))
    volume = Volume.of(stack)
    plane = Plane.of(stack.shape, (2, 5), axes=(3, 1))
    np.testing.assert_array_equal(volume.read(plane, Box(1, 2, 8, 6)), stack[2, :, 5].T[1:8, 2:6])


def test_colours_stay_last_in_a_transposed_plane():
    movie = np.random.default_rng(0).integers(0, 255, (6, 7, 8, 3), np.uint8)
    volume = Volume.of(movie)
    plane = Plane.of(volume.shape, 3, axes=(2, 0))
    np.testing.assert_array_equal(volume.read(plane, Box(1, 2, 8, 6)), movie[:, 3].transpose(1, 0, 2)[1:8, 2:6])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -9999.0])
def test_pixels_that_hold_nothing_are_black_and_do_not_count_for_the_limits(bad):
    pixels = np.random.default_rng(0).uniform(100, 200, (300, 300)).astype(np.float32)
    pixels[:200, :150] = bad
    volume, plane = Volume.of(pixels, nodata=-9999), Plane.of((300, 300))
    ((low, high),) = volume.rendering().limits
    assert 99 < low < 102
    assert 198 < high < 201
    for level in (-1, 0, 1):
        tile = TileGrid((300, 300), 64).tile_at(level, 180, 130)
        shown = volume.render(plane, tile, volume.rendering())
        row, col = (round(at) for at in tile.point_to_tile(170, 120))
        assert (shown[row, col] == 0).all()


def test_a_nodata_value_of_whole_numbers_keeps_the_others_as_they_are():
    pixels = np.arange(100, dtype=np.uint16).reshape(10, 10)
    read = whole(Volume.of(pixels, nodata=7))
    assert np.isnan(read[0, 7])
    assert np.array_equal(np.where(np.isnan(read), 7, read), pixels)
    assert whole(Volume.of(pixels, nodata=5000)).dtype == np.uint16


@pytest.mark.parametrize("error", [OSError("disk on fire"), RuntimeError("blosc"), ValueError("bad chunk")])
def test_a_store_that_cannot_be_read_raises_an_image_error_with_its_reason(error):
    class Broken:
        shape, dtype = (20, 20), np.dtype(np.uint8)

        def __getitem__(self, key):
            raise error

    with pytest.raises(ImageError, match=rf"cannot be read.*{error}.*damaged"):
        Volume.of(Broken()).read(Plane.of((20, 20)), Box(0, 0, 5, 5))


@pytest.mark.parametrize("limits", [(5, 5), (9, 2), (0, float("nan")), (0, float("inf")), (1,), (1, 2, 3), ()])
def test_contrast_limits_must_rise(limits):
    volume = Volume.of(np.zeros((9, 9)))
    with pytest.raises(ImageError, match="low < high"):
        volume.rendering(limits)


def test_given_contrast_limits_are_taken_without_reading_the_image(counting_array):
    array = counting_array(np.zeros((30, 30), np.uint16))
    rendering = Volume.of(array).rendering((10, 20), 0.5)
    assert rendering.limits == ((10.0, 20.0),)
    assert rendering.gamma == 0.5
    assert array.reads == []


def test_eight_bit_colours_are_seen_as_they_are(colour, counting_array):
    array = counting_array(colour)
    assert Volume.of(array).rendering().limits == ((0.0, 255.0),)
    assert array.reads == []


def test_the_alpha_channel_does_not_count_for_the_limits():
    pixels = np.random.default_rng(0).integers(0, 1000, (40, 50, 4)).astype(np.uint16)
    pixels[..., 3] = 65535
    ((_, high),) = Volume.of(pixels, rgb=True).rendering().limits
    assert high < 1000


def test_the_limits_of_a_small_image_are_its_percentiles(grey):
    ((low, high),) = Volume.of(grey).rendering().limits
    assert (low, high) == pytest.approx(np.percentile(grey, (0.5, 99.5)))


def test_the_limits_of_a_stack_come_from_all_of_it():
    stack = np.zeros((16, 20, 20)) + np.arange(16)[:, None, None] * 100
    ((low, high),) = Volume.of(stack).rendering().limits
    assert low <= 200
    assert high >= 1300


def test_the_limits_of_many_axes_come_from_all_of_them():
    values = np.arange(3)[:, None] * 1000 + np.arange(5) * 100
    ((low, high),) = Volume.of(values[..., None, None] + np.zeros((20, 20))).rendering().limits
    assert low <= 100
    assert high >= 2300


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 12, 15, 16, 17, 31, 100, 1001])
def test_the_sampled_planes_are_few_and_spread_over_the_whole_axis(length):
    seen = []

    class Recording:
        shape, dtype = (length, 6, 6), np.dtype(np.float32)

        def __getitem__(self, key):
            seen.append(key[0])
            return np.full((6, 6), key[0], np.float32)

    Volume.of(Recording()).rendering()
    assert len(seen) == len(set(seen)) <= SAMPLE_PLANES
    assert min(seen) < max(length / SAMPLE_PLANES, 1)
    assert max(seen) >= length - 1 - length / SAMPLE_PLANES
    assert np.diff([*sorted(seen), length]).max() <= max(1, 2 * length / SAMPLE_PLANES)


def test_the_sample_of_a_huge_image_is_small_and_spread(counting_array):
    array = counting_array(shape=(1_000_000, 2_000_000))
    limits = Volume.of(array).rendering().limits
    assert limits == ((20.0, 200.0),)
    assert len(array.reads) == SAMPLE_BLOCKS
    assert set(array.reads) == {(SAMPLE_BLOCK_SIDE, SAMPLE_BLOCK_SIDE)}


def test_the_sample_of_a_long_stack_of_huge_planes_is_bounded(counting_array):
    array = counting_array(shape=(5000, 100_000, 3000))
    Volume.of(array).rendering()
    assert array.pixels_read <= SAMPLE_BLOCKS * SAMPLE_BLOCK_SIDE**2


@pytest.mark.parametrize("name", ["image.tif", "image.tiff", "IMAGE.TIF"])
def test_a_tif_file(tmp_path, grey, name):
    tifffile.imwrite(tmp_path / name, grey, compression="zlib")
    np.testing.assert_array_equal(whole(Volume.of(tmp_path / name)), grey)
    np.testing.assert_array_equal(whole(Volume.of(str(tmp_path / name))), grey)


def test_a_tif_stack_keeps_its_axes(tmp_path):
    stack = np.random.default_rng(0).integers(0, 99, (3, 20, 30)).astype(np.float32)
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack")
    volume = Volume.of(tmp_path / "stack.tif")
    assert volume.shape == (3, 20, 30)
    np.testing.assert_array_equal(whole(volume, 1), stack[1])


def test_png_files_of_every_kind(tmp_path, grey, colour):
    Image.fromarray(grey).save(tmp_path / "grey16.png")
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey8.png")
    np.testing.assert_array_equal(whole(Volume.of(tmp_path / "grey16.png")), grey)
    np.testing.assert_array_equal(whole(Volume.of(tmp_path / "grey8.png")), colour[..., 0])
    volume = Volume.of(tmp_path / "colour.png")
    assert volume.rgb
    np.testing.assert_array_equal(whole(volume), colour)


def test_a_palette_png_has_its_colours_and_not_its_indices(tmp_path, colour):
    paletted = Image.fromarray(colour).quantize(16)
    paletted.save(tmp_path / "palette.png")
    volume = Volume.of(tmp_path / "palette.png")
    assert volume.rgb
    np.testing.assert_array_equal(whole(volume), np.asarray(paletted.convert("RGB")))


def test_the_alpha_of_a_grey_png_is_no_axis(tmp_path, colour):
    grey = Image.fromarray(colour[..., 0])
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(tmp_path / "alpha.png")
    volume = Volume.of(tmp_path / "alpha.png")
    assert volume.shape == (40, 50)
    shown = volume.rendering((0, 255))(whole(volume))
    np.testing.assert_array_equal(shown, np.repeat(colour[..., :1], 3, axis=-1))


def test_a_black_and_white_png_can_be_rendered(tmp_path):
    pixels = np.indices((20, 30)).sum(axis=0) % 2 == 0
    Image.fromarray(pixels).save(tmp_path / "bits.png")
    volume = Volume.of(tmp_path / "bits.png")
    shown = volume.rendering()(whole(volume))
    np.testing.assert_array_equal(shown[..., 0] > 128, pixels)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpg_files(tmp_path, mode):
    smooth = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (48, 1, 3))
    Image.fromarray(smooth).convert(mode).save(tmp_path / "photo.jpg", quality=95)
    volume = Volume.of(tmp_path / "photo.jpg")
    assert volume.shape == (48, 64)
    assert volume.rgb is (mode != "L")
    read = whole(volume)
    np.testing.assert_allclose(read, smooth if volume.rgb else smooth[..., 0], atol=6)
    if mode == "RGB":
        np.testing.assert_array_equal(read, imread(tmp_path / "photo.jpg"))


@pytest.fixture(params=[2, 3])
def zarr_format(request):
    return request.param


def test_a_zarr_array_on_disk_is_opened_lazily(tmp_path, grey, zarr_format):
    array = zarr.create_array(
        tmp_path / "image.zarr", shape=grey.shape, dtype=grey.dtype, chunks=(16, 16), zarr_format=zarr_format
    )
    array[:] = grey
    volume = Volume.of(tmp_path / "image.zarr")
    assert isinstance(volume.array, zarr.Array)
    np.testing.assert_array_equal(volume.read(Plane.of(grey.shape), Box(5, 30, 33, 50)), grey[5:33, 30:50])


def pyramid(path, grey, names=("s0", "s1"), ome: bool = True, zarr_format: int = 3):
    """Write an image of two levels the way OME-Zarr 0.5 (`ome`) or 0.4 does."""
    group = zarr.create_group(path, zarr_format=zarr_format)
    for step, name in enumerate(names):
        pixels = grey[:: 2**step, :: 2**step]
        group.create_array(name, shape=pixels.shape, dtype=pixels.dtype, chunks=(16, 16))[:] = pixels
    multiscales = [{"version": "0.4", "datasets": [{"path": name} for name in names]}]
    group.attrs.update({"ome": {"version": "0.5", "multiscales": multiscales}} if ome else {"multiscales": multiscales})
    return group


@pytest.mark.parametrize(("ome", "layout"), [(True, 3), (False, 2)])
@pytest.mark.parametrize("names", [("0", "1"), ("s0", "s1"), ("fine", "coarse")])
def test_the_finest_level_of_an_ome_zarr_image_is_read(tmp_path, grey, names, ome, layout):
    pyramid(tmp_path / "image.ome.zarr", grey, names, ome, layout)
    np.testing.assert_array_equal(whole(Volume.of(tmp_path / "image.ome.zarr")), grey)


def test_a_group_with_one_array_is_that_array(tmp_path, grey):
    group = zarr.create_group(tmp_path / "group.zarr")
    group.create_array("only", shape=grey.shape, dtype=grey.dtype)[:] = grey
    np.testing.assert_array_equal(whole(Volume.of(tmp_path / "group.zarr")), grey)


def test_a_group_of_several_arrays_is_refused_with_their_names(tmp_path, grey):
    group = zarr.create_group(tmp_path / "group.zarr")
    for name in ("red", "green"):
        group.create_array(name, shape=grey.shape, dtype=grey.dtype)[:] = grey
    with pytest.raises(ImageError, match=r"[Gg]ive the path of one of its arrays.*green, red"):
        Volume.of(tmp_path / "group.zarr")
    assert Volume.of(tmp_path / "group.zarr" / "red").shape == grey.shape


def test_an_empty_group_is_refused(tmp_path):
    zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(ImageError, match="empty zarr group"):
        Volume.of(tmp_path / "group.zarr")


def test_an_ome_zarr_image_whose_array_is_missing_is_refused(tmp_path, grey):
    del pyramid(tmp_path / "image.zarr", grey)["s0"]
    with pytest.raises(ImageError, match=r"image\.zarr cannot be read.*s0|s0.*is missing"):
        Volume.of(tmp_path / "image.zarr")


@pytest.mark.parametrize("ome", [[], "text", {"multiscales": []}, {"multiscales": [{}]}, {"multiscales": {}}])
def test_damaged_ome_attributes_are_refused_and_nothing_else_raised(tmp_path, ome):
    zarr.create_group(tmp_path / "image.zarr").attrs["ome"] = ome
    with pytest.raises(ImageError, match=r"image\.zarr"):
        Volume.of(tmp_path / "image.zarr")


@pytest.mark.parametrize("name", ["nothing.tif", "nothing.zarr", "no/where.png"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ImageError, match=rf"no file .*{name}.*check the path"):
        Volume.of(tmp_path / name)


@pytest.mark.parametrize("name", ["notes.tif", "notes.png", "notes.jpg", "notes.txt", "notes"])
@pytest.mark.parametrize("content", ["These are only notes.\n" * 30, ""])
def test_text_is_no_image_whatever_its_name(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ImageError, match=rf"{name} cannot be read as an image.*\.tif, \.png, \.jpg or \.zarr"):
        Volume.of(tmp_path / name)


def test_a_folder_that_is_no_zarr_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("text")
    with pytest.raises(ImageError, match=r"folder cannot be read as an image"):
        Volume.of(tmp_path / "folder")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "deflate"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_tif_is_refused(tmp_path, grey, compression, share):
    tifffile.imwrite(tmp_path / "cut.tif", np.tile(grey, (3, 3)), compression=compression, rowsperstrip=16)
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"cut\.tif cannot be read as an image.*is it complete"):
        Volume.of(tmp_path / "cut.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("share", [0.05, 0.4, 0.6, 0.97])
def test_a_tif_of_which_pages_are_missing_is_refused(tmp_path, grey, compression, contiguous, share):
    with tifffile.TiffWriter(tmp_path / "cut.tif") as file:
        for page in [np.stack([grey] * 6)] if contiguous else [grey] * 6:
            file.write(page, photometric="minisblack", compression=compression, metadata=None)
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"cut\.tif cannot be read as an image"):
        Volume.of(tmp_path / "cut.tif")


@pytest.mark.parametrize("share", [0.002, 0.5, 0.95])
def test_a_truncated_png_is_refused(tmp_path, colour, share):
    Image.fromarray(np.tile(colour, (3, 3, 1))).save(tmp_path / "cut.png")
    content = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"cut\.png cannot be read as an image.*is it complete"):
        Volume.of(tmp_path / "cut.png")


def test_a_complex_tif_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "complex.tif", np.zeros((8, 8), np.complex64))
    with pytest.raises(ImageError, match="unsupported pixel type complex64"):
        Volume.of(tmp_path / "complex.tif")


def test_a_tile_of_too_many_pixels_of_an_image_without_levels_is_refused_with_the_way():
    class Large:
        shape, dtype = (10**6, 10**6), np.dtype(np.uint8)

        def __getitem__(self, key):
            raise AssertionError("it was read")

    volume = Volume.of(Large())
    with pytest.raises(ImageError, match=r"93\.1 GiB.*smaller levels"):
        volume.read(Plane.of(volume.shape), Box(0, 0, 10**5, 10**6))


def test_a_read_for_which_there_is_no_memory_is_not_called_a_damaged_file():
    class Full:
        shape, dtype = (100, 100), np.dtype(np.uint8)

        def __getitem__(self, key):
            raise MemoryError("Unable to allocate 37.3 GiB")

    volume = Volume.of(Full())
    with pytest.raises(ImageError, match="do not fit into memory"):
        volume.read(Plane.of(volume.shape), Box(0, 0, 50, 50))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.0, 1.7), (2.3, 1.0)])
@pytest.mark.parametrize("level", [0, 2, 3])
def test_a_tile_on_many_pixels_is_read_in_parts_and_looks_the_same(spacing, level, monkeypatch):
    pixels = np.random.default_rng(2).random((203, 190, 3)).astype(np.float32)
    pixels[50:90, 20:40] = np.nan
    volume = Volume.of(pixels, True, spacing=spacing)
    plane = Plane.of(volume.shape)
    tile = TileGrid(plane.shape_in(volume.shape), 32, volume.pixel_size(plane)).tile(level, 0, 0)
    stretch = Rendering(((0.0, 1.0),) * 3)
    expected = volume.render(plane, tile, stretch)
    read, sizes = Volume.read, []

    def counted(self, plane, box, level=0):
        sizes.append(box.height * box.width)
        return read(self, plane, box, level)

    monkeypatch.setattr(Volume, "read", counted)
    most = volume.pixels_for(plane, tile) / 5
    monkeypatch.setattr(rendering, "MOST_AT_ONCE", most)
    np.testing.assert_allclose(volume.render(plane, tile, stretch).astype(int), expected, atol=1)
    is_magnified = tile.step[0] < 1
    assert len(sizes) == 1 if is_magnified else len(sizes) > 4
    assert is_magnified or max(sizes) < 2 * most
