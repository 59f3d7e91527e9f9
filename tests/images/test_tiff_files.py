from __future__ import annotations

import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.tiff import reader as tiff
from napari_sam.images.tiff.reader import SamplesLast
from napari_sam.testing.strategies import array_keys

APERIO = "Aperio Image Library v12\r\n3000x2000 (256x256) JPEG/RGB Q=70|AppMag = 40|MPP = 0.25"


@pytest.fixture
def nothing_is_small(monkeypatch):
    """TIFFs of any size are read in parts."""
    monkeypatch.setattr(tiff, "SMALL_TIFF", 0)


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
    monkeypatch.setattr("napari_sam.images.tiff.geo_tags.has_rasterio", lambda: False)
    tifffile.imwrite(tmp_path / "a.tif", grey, extratags=[(42113, "s", 0, text, True)])
    opened = open_image(tmp_path / "a.tif")
    assert opened.nodata == nodata
    assert opened.georeference is None


def test_a_tif_without_an_image_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\x00" + bytes(60))
    with pytest.raises(ImageError, match=r"a\.tif cannot be read as an image"):
        open_image(tmp_path / "a.tif")
