"""TIFFs are opened in their colors, upright, with all their planes, and the scan rather than its overview."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError
from napari_sam.images.lazy.levels import Stacked
from napari_sam.images.lazy.orientation import Upright, upright
from napari_sam.images.lazy.recoloring import Recolored, inks, palette
from napari_sam.images.opening import open_image
from napari_sam.images.tiff import reader as tiff
from napari_sam.images.volume import Volume
from napari_sam.testing.strategies import array_keys

RNG = np.random.default_rng(5)
GRAY = RNG.integers(0, 256, (60, 80), np.uint8)
COLORS = RNG.integers(0, 256, (60, 80, 3), np.uint8)
TABLE = RNG.integers(0, 256, (256, 3), np.uint8)


@pytest.fixture(params=["at once", "in parts"])
def reading(request, monkeypatch):
    """Small files are read at once; others in parts."""
    if request.param == "in parts":
        monkeypatch.setattr(tiff, "SMALL_TIFF", 0)


def pixels(path):
    found = open_image(path)
    return np.asarray(found.levels[0]), found.axes


def seen(path):
    volume = Volume.of(path)
    return volume.read(Plane.of(volume.shape), Box.of_shape(volume.shape))


# -- colors ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("scale", [257, 256, 1])
def test_a_palette_is_seen_in_its_colors(tmp_path, scale):
    table = TABLE.T.astype(np.uint16) * scale
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="palette", colormap=table, compression="zlib")
    found, axes = pixels(tmp_path / "a.tif")
    assert axes == "yxs"
    np.testing.assert_array_equal(found, TABLE[GRAY])


def test_a_stack_of_pages_with_a_palette_is_a_stack_of_colors(tmp_path):
    stack = np.stack([GRAY, GRAY[::-1]])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="palette", colormap=TABLE.T.astype(np.uint16) * 257)
    found, axes = pixels(tmp_path / "a.tif")
    assert axes == "zyxs"
    np.testing.assert_array_equal(found, TABLE[stack])


def test_a_palette_of_pillow_is_the_same_in_tiff_and_png(tmp_path):
    picture = Image.fromarray(COLORS).quantize(32)
    for name in ("a.tif", "a.png"):
        picture.save(tmp_path / name)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], pixels(tmp_path / "a.png")[0])


def test_the_index_of_nothing_in_a_palette_holds_nothing(tmp_path):
    options = {"photometric": "palette", "colormap": TABLE.T.astype(np.uint16) * 257}
    tifffile.imwrite(tmp_path / "a.tif", GRAY, **options, extratags=[(42113, "s", 0, "7", True)])
    found = seen(tmp_path / "a.tif")
    np.testing.assert_array_equal(np.isnan(found).all(-1), GRAY == 7)
    np.testing.assert_allclose(found[GRAY != 7] * 255, TABLE[GRAY][GRAY != 7], atol=1e-3)


def test_labels_with_a_palette_are_numbers_where_labels_are_wanted(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, photometric="palette", colormap=TABLE.T.astype(np.uint16) * 257)
    np.testing.assert_array_equal(open_image(tmp_path / "a.tif", as_labels=True).levels[0], GRAY)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_at_zero_is_seen_as_white(tmp_path, dtype):
    values = GRAY.astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", compression="zlib")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], np.iinfo(dtype).max - values)


def test_bits_of_pillow_are_seen_as_pillow_shows_them(tmp_path):
    Image.fromarray(GRAY > 99).save(tmp_path / "a.tif", compression="group4")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], GRAY > 99)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_inks_are_seen_as_colors(tmp_path, planar):
    stored = np.asarray(Image.fromarray(COLORS).convert("CMYK"))
    written = stored if planar == "contig" else np.moveaxis(stored, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="separated", planarconfig=planar, compression="zlib")
    found, axes = pixels(tmp_path / "a.tif")
    assert axes == "yxs"
    np.testing.assert_allclose(found.astype(int), COLORS, atol=1)


def test_luminance_and_chroma_are_seen_as_colors(tmp_path):
    stored = np.asarray(Image.fromarray(COLORS).convert("YCbCr"))
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="ycbcr", compression="zlib")
    with Image.open(tmp_path / "a.tif") as reference:
        expected = np.asarray(reference.convert("RGB")).astype(int)
    np.testing.assert_allclose(pixels(tmp_path / "a.tif")[0].astype(int), expected, atol=2)


def test_lightness_and_hue_are_seen_as_colors(tmp_path):
    stored = np.zeros((20, 30, 3), np.uint8)
    stored[:, :10] = (255, 0, 0)
    stored[:, 10:20] = (136, 80, 67)  # Red of sRGB.
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="cielab", compression="zlib")
    found = pixels(tmp_path / "a.tif")[0].astype(int)
    np.testing.assert_allclose(found[0, 0], (255, 255, 255), atol=2)
    np.testing.assert_allclose(found[0, 15], (255, 0, 0), atol=12)
    np.testing.assert_allclose(found[0, 25], (0, 0, 0), atol=2)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("is_multiplied", [False, True])
def test_colors_with_an_opacity_are_seen_over_black(tmp_path, is_multiplied):
    opacity = np.repeat(np.array([[0, 128, 255, 255]], np.uint8), 20, 1).repeat(60, 0)
    shown = COLORS * (opacity[..., None] / 255)
    stored = np.rint(shown).astype(np.uint8) if is_multiplied else COLORS
    kind = "assocalpha" if is_multiplied else "unassalpha"
    written = np.dstack([stored, opacity])
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="rgb", extrasamples=[kind], compression="zlib")
    found = seen(tmp_path / "a.tif")
    assert np.isnan(found[:, :20]).all()
    np.testing.assert_allclose(found[:, 20:], shown[:, 20:], atol=2)


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_gray_with_an_opacity_is_one_channel(tmp_path, planar):
    opacity = np.where(GRAY < 40, 0, 255).astype(np.uint8)
    stored = np.stack([GRAY, opacity], -1 if planar == "contig" else 0)
    options = {"photometric": "minisblack", "planarconfig": planar, "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", stored, **options, compression="zlib")
    found, axes = pixels(tmp_path / "a.tif")
    assert axes == "yx"
    np.testing.assert_array_equal(np.isnan(found), GRAY < 40)
    np.testing.assert_array_equal(found[GRAY >= 40], GRAY[GRAY >= 40])


def test_a_fourth_sample_that_is_no_opacity_is_a_channel(tmp_path):
    stored = np.dstack([COLORS, np.zeros_like(GRAY)])
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["unspecified"])
    volume = Volume.of(tmp_path / "a.tif")
    assert (volume.channel_axis, volume.channels) == (2, (0, 1, 2))
    shown = volume.rendering()(volume.read(Plane.of(volume.shape), Box.of_shape(volume.shape)))
    np.testing.assert_array_equal(shown, COLORS)
    assert Volume.of(tmp_path / "a.tif", channels=[3, 0, 1]).channels == (3, 0, 1)


def test_bands_that_gdal_calls_blue_green_and_red_are_seen_so(tmp_path):
    roles = "".join(
        f'<Item name="COLORINTERP" sample="{band}" role="colorinterp">{name}</Item>'
        for band, name in enumerate(["Blue", "Green", "Red", "Undefined"])
    )
    stored = np.dstack([COLORS[..., ::-1], GRAY])
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="minisblack",
        planarconfig="contig",
        metadata=None,
        extratags=[(42112, "s", 0, f"<GDALMetadata>{roles}</GDALMetadata>", True)],
    )
    np.testing.assert_array_equal(seen(tmp_path / "a.tif"), COLORS)


@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_channels_are_seen_in_the_colors_that_the_file_names(tmp_path, kind):
    stack = np.stack([GRAY, GRAY[::-1]])
    if kind == "ome":
        channels = {"Name": ["DAPI", "GFP"], "Color": [0x0000FFFF, 0x00FF00FF]}
        tifffile.imwrite(tmp_path / "a.tif", stack, ome=True, metadata={"axes": "CYX", "Channel": channels})
    else:
        blue, green = np.zeros((2, 3, 256), np.uint8)
        blue[2] = green[1] = np.arange(256)
        tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX", "LUTs": [blue, green]})
    assert open_image(tmp_path / "a.tif").colors == ("0000FF", "00FF00")
    shown = Volume.of(tmp_path / "a.tif").rendering((0, 255))
    np.testing.assert_array_equal(shown(np.moveaxis(stack, 0, -1)), np.dstack([0 * GRAY, GRAY[::-1], GRAY]))


@pytest.mark.parametrize("colors", [None, [-1, -1]])
def test_channels_without_colors_of_their_own_are_red_and_green(tmp_path, colors):
    channels = {"Name": ["a", "b"]} | ({} if colors is None else {"Color": colors})
    metadata = {"axes": "CYX", "Channel": channels}
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GRAY, GRAY]), ome=True, metadata=metadata)
    assert open_image(tmp_path / "a.tif").colors == ()
    assert open_image(tmp_path / "a.tif").channel_names == ("a", "b")


def test_chroma_of_half_resolution_is_read_by_another_library(tmp_path):
    pytest.importorskip("rasterio")
    smooth = np.dstack([np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)] * 3)
    Image.fromarray(smooth).convert("YCbCr").save(tmp_path / "a.tif", compression="tiff_lzw")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        is_half = file.pages.first.subsampling not in (None, (1, 1))
    found = seen(tmp_path / "a.tif")
    assert found.shape == (64, 64, 3)
    assert is_half or np.abs(found.astype(int) - smooth).max() <= 3


# -- orientation -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("reading")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("is_color", [False, True])
def test_a_tiff_is_upright_whatever_its_orientation(tmp_path, orientation, is_color):
    stored = COLORS if is_color else GRAY
    tag = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", stored, extratags=tag, compression="zlib", metadata=None)
    exif = Image.Exif()
    exif[274] = orientation
    expected = Image.fromarray(stored)
    expected.getexif()[274] = orientation
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], np.asarray(ImageOps.exif_transpose(expected)))


def test_the_size_of_a_pixel_turns_with_the_image(tmp_path):
    options = {"resolution": (40000, 20000), "resolutionunit": "CENTIMETER", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", GRAY, extratags=[(274, "H", 1, 6, True)], **options)
    assert open_image(tmp_path / "a.tif").spacing == pytest.approx((0.25, 0.5))


def test_the_orientation_of_a_map_is_that_of_its_georeference(tmp_path):
    tags = [(274, "H", 1, 6, True), (33550, "d", 3, (1.0, 1.0, 0.0), True)]
    tifffile.imwrite(tmp_path / "a.tif", GRAY, extratags=tags, metadata=None)
    assert pixels(tmp_path / "a.tif")[0].shape == GRAY.shape


class Plain:
    """An array that is sliced like one of zarr."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.chunks = array, array.shape, array.dtype, (1,) * array.ndim

    def __getitem__(self, key):
        return self.array[key]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), array_keys((2, 4, 4, 3)))
def test_parts_of_an_upright_image_are_those_of_the_turned_array(orientation, key):
    stored = np.arange(2 * 4 * 4 * 3).reshape(2, 4, 4, 3)
    lazy, whole = upright(Plain(stored), orientation, 1), upright(stored, orientation, 1)
    assert isinstance(lazy, Upright)
    assert lazy.shape == whole.shape
    np.testing.assert_array_equal(lazy[key], whole[key])


@settings(max_examples=60, deadline=None)
@given(array_keys((4, 5, 3)), st.booleans())
def test_parts_of_converted_colors_are_those_of_the_whole(key, is_palette):
    stored = np.random.default_rng(0).integers(0, 255, (4, 5) if is_palette else (4, 5, 4)).astype(np.uint8)
    conversion = palette(TABLE) if is_palette else inks(np.uint8, 4)
    lazy, whole = Recolored(Plain(stored), conversion), conversion(stored)
    assert lazy.shape == whole.shape
    np.testing.assert_array_equal(lazy[key], whole[key])


# -- which image -------------------------------------------------------------------------------------------------------


def write_images(path, images, **options):
    with tifffile.TiffWriter(path, **options) as file:
        for image, metadata, page in images:
            file.write(image, metadata=metadata, **page)


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", ["ome", "shaped", "plain"])
def test_the_scan_is_opened_and_not_its_overview(tmp_path, kind, is_first):
    images = [(GRAY[::4, ::4], "macro"), (GRAY, "scan")][:: 1 if is_first else -1]
    axes = {"axes": "YX"}
    described = [
        (image, axes | {"Name": name} if kind == "ome" else axes if kind == "shaped" else None, {})
        for image, name in images
    ]
    write_images(tmp_path / "a.tif", described, ome=kind == "ome")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], GRAY)


def test_a_large_label_of_the_glass_is_not_the_scan(tmp_path):
    images = [(COLORS[:50, :60], "label"), (COLORS, "slide 1")]
    described = [(image, {"axes": "YXS", "Name": name}, {"photometric": "rgb"}) for image, name in images]
    write_images(tmp_path / "a.ome.tif", described, ome=True)
    np.testing.assert_array_equal(pixels(tmp_path / "a.ome.tif")[0], COLORS)


def test_a_reduced_first_page_is_an_overview_of_the_next(tmp_path):
    half = (GRAY[::2, ::2], None, {"subfiletype": 1, "tile": (16, 16)})
    write_images(tmp_path / "a.tif", [half, (GRAY, None, {"tile": (16, 16)})])
    assert [level.shape for level in open_image(tmp_path / "a.tif").levels] == [(60, 80), (30, 40)]


def test_an_image_behind_its_thumbnail_in_a_sub_directory_is_found(tmp_path):
    thumbnail = (GRAY[::8, ::8], None, {"subfiletype": 1, "subifds": 1})
    write_images(tmp_path / "a.tif", [thumbnail, (GRAY, None, {"subfiletype": 0})])
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], GRAY)


@pytest.mark.usefixtures("reading")
def test_positions_of_the_same_form_are_one_axis_more(tmp_path):
    positions = [np.roll(GRAY, 5 * number) for number in range(3)]
    described = [(image, {"axes": "YX", "Name": f"pos{number}"}, {}) for number, image in enumerate(positions)]
    write_images(tmp_path / "a.ome.tif", described, ome=True)
    found, axes = pixels(tmp_path / "a.ome.tif")
    assert axes == "zyx"
    np.testing.assert_array_equal(found, np.stack(positions))
    with pytest.raises(ImageError, match="many planes: say which one"):
        Plane.of(Volume.of(tmp_path / "a.ome.tif").shape)


def test_images_of_other_sizes_are_named_and_none_is_chosen(tmp_path):
    described = [(image, {"axes": "YX", "Name": name}, {}) for image, name in [(GRAY, "left"), (GRAY[:50], "right")]]
    write_images(tmp_path / "a.ome.tif", described, ome=True)
    with pytest.raises(
        ImageError, match=r"left \(60 x 80, uint8\), right \(50 x 80, uint8\).*imread\(path, series=0\)"
    ):
        open_image(tmp_path / "a.ome.tif")


def test_stacked_arrays_are_sliced_by_number_and_by_range():
    stack = Stacked([GRAY, GRAY[::-1]])
    np.testing.assert_array_equal(stack[1, 3:9], GRAY[::-1][3:9])
    np.testing.assert_array_equal(np.asarray(stack), np.stack([GRAY, GRAY[::-1]]))
    np.testing.assert_array_equal(stack[..., 2], np.stack([GRAY[:, 2], GRAY[::-1][:, 2]]))


# -- planes that are missing, and metadata that lie --------------------------------------------------------------------


def ome_xml(places, size_z=2, around="", before="", **sizes):
    size = {"SizeX": 80, "SizeY": 60, "SizeZ": size_z, "SizeC": 1, "SizeT": 1} | sizes
    attributes = " ".join(f'{name}="{value}"' for name, value in size.items())
    pixels_element = f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {attributes}>{places}</Pixels>'
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    return f'<?xml version="1.0"?>{before}<OME {schema}><Image ID="Image:0">{pixels_element}</Image>{around}</OME>'


def place(z, name):
    return f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'


def write_set(folder, other="b.ome.tif"):
    xml = ome_xml(place(0, "a.ome.tif") + place(1, other))
    tifffile.imwrite(folder / "a.ome.tif", GRAY, description=xml, metadata=None)
    return xml


def test_a_complete_set_of_files_is_one_image(tmp_path):
    xml = write_set(tmp_path)
    tifffile.imwrite(tmp_path / "b.ome.tif", GRAY[::-1], description=xml, metadata=None)
    np.testing.assert_array_equal(pixels(tmp_path / "a.ome.tif")[0], np.stack([GRAY, GRAY[::-1]]))


@pytest.mark.parametrize("content", [None, b"x", b"", b"II*\0" + bytes(40)])
def test_a_missing_or_broken_file_of_a_set_is_not_black(tmp_path, content):
    write_set(tmp_path)
    if content is not None:
        (tmp_path / "b.ome.tif").write_bytes(content)
    with pytest.raises(ImageError, match=r"b\.ome\.tif, which is (missing|damaged): copy"):
        open_image(tmp_path / "a.ome.tif")


def test_a_cut_file_of_a_set_is_not_black(tmp_path):
    xml = write_set(tmp_path)
    noise = RNG.integers(0, 255, GRAY.shape, np.uint8)
    tifffile.imwrite(tmp_path / "b.ome.tif", noise, description=xml, metadata=None)
    content = (tmp_path / "b.ome.tif").read_bytes()
    (tmp_path / "b.ome.tif").write_bytes(content[:-500])
    with pytest.raises(ImageError):
        open_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "places", ['<TiffData IFD="0" FirstZ="0"/>', '<TiffData IFD="3"/>', '<TiffData FirstZ="1" IFD="0"/>']
)
def test_planes_that_the_metadata_do_not_place_are_not_black(tmp_path, places):
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY, description=ome_xml(places), metadata=None)
    with pytest.raises(ImageError, match=r"planes|pages are missing"):
        open_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "name", ["../b.ome.tif", "/b.ome.tif", r"..\b.ome.tif", r"\\server\b.ome.tif", "http://h/b.tif"]
)
def test_files_of_a_set_outside_its_folder_are_opened_on_request_only(tmp_path, monkeypatch, name):
    folder = tmp_path / "folder"
    folder.mkdir()
    xml = write_set(folder, name)
    tifffile.imwrite(tmp_path / "b.ome.tif", GRAY[::-1], description=xml, metadata=None)
    with pytest.raises(ImageError, match=r"not in its folder.*NAPARI_SAM_ALLOW_OUTSIDE_FILES=1"):
        open_image(folder / "a.ome.tif")
    monkeypatch.setenv("NAPARI_SAM_ALLOW_OUTSIDE_FILES", "1")
    if name.startswith("../"):
        np.testing.assert_array_equal(pixels(folder / "a.ome.tif")[0], np.stack([GRAY, GRAY[::-1]]))


@pytest.mark.parametrize("is_companion", [True, False])
def test_a_part_of_a_set_opens_the_whole_by_the_file_that_describes_it(tmp_path, is_companion):
    names = ["a.tif", "b.tif"]
    whole = ome_xml("".join(place(z, name) for z, name in enumerate(names)))
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    part_of = f'<OME {schema} UUID="urn:uuid:{{}}"><BinaryOnly MetadataFile="{{}}" UUID="urn:uuid:9"/></OME>'
    described = "c.companion.ome" if is_companion else "b.tif"
    if is_companion:
        (tmp_path / "c.companion.ome").write_text(whole)
    for number, (name, plane) in enumerate(zip(names, [GRAY, GRAY[::-1]], strict=True)):
        is_master = not is_companion and number == 1
        xml = whole if is_master else part_of.format(number, described)
        tifffile.imwrite(tmp_path / name, plane, description=xml, metadata=None)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], np.stack([GRAY, GRAY[::-1]]))


HUGE = 10**9
LAUGHS = "<!DOCTYPE l [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {chr(98 + n)} '{('&' + chr(97 + n) + ';') * 10}'>" for n in range(9)
)
MODULO = (
    '<StructuredAnnotations><XMLAnnotation ID="A:0" Namespace="openmicroscopy.org/omero/dimension/modulo"><Value>'
    '<Modulo><ModuloAlongZ Type="phase" Start="0" End="1e12"/></Modulo></Value></XMLAnnotation></StructuredAnnotations>'
)


@pytest.mark.parametrize(
    "xml",
    [
        ome_xml('<TiffData IFD="0"/>', HUGE),
        ome_xml('<TiffData IFD="0"/>', 1, SizeC=HUGE),
        ome_xml('<TiffData IFD="0"/>', 1, SizeT=HUGE),
        ome_xml('<TiffData IFD="0"/>', 1000, SizeT=1000, SizeC=1000),
        ome_xml(f'<Channel ID="C" SamplesPerPixel="{HUGE}"/><TiffData IFD="0"/>', 1, SizeC=HUGE),
        ome_xml(f'<TiffData IFD="0" PlaneCount="{HUGE}"/>'),
        ome_xml(f'<TiffData IFD="0" FirstZ="{HUGE}"/>'),
        ome_xml('<TiffData IFD="0"/>', 1, before=LAUGHS + "]>", around="<x>&j;</x>"),
        ome_xml('<TiffData IFD="0"/>', 1, around=MODULO),
    ],
    ids=["z", "c", "t", "zct", "samples", "planes", "first", "entities", "modulo"],
)
def test_metadata_that_would_fill_the_memory_are_refused_before_planes_are_looked_up(tmp_path, monkeypatch, xml):
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY, description=xml, metadata=None)
    looked_up = []
    monkeypatch.setattr(tifffile.TiffFile, "_series_ome", lambda self: looked_up.append(self))
    with pytest.raises(ImageError, match=r"a\.ome\.tif"):
        open_image(tmp_path / "a.ome.tif")
    assert not looked_up


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    "description", ['{"shape": [1000000000, 60, 80]}', "ImageJ=1.53\nimages=1000000000\nslices=1000000000\n"]
)
def test_stacks_that_claim_a_billion_pages_have_those_that_are_there_or_none(tmp_path, description, compression):
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    tifffile.imwrite(tmp_path / "a.tif", GRAY, description=description, metadata=None, compression=compression)
    try:
        assert pixels(tmp_path / "a.tif")[0].shape == GRAY.shape
    except ImageError as error:
        assert "a.tif" in str(error)  # noqa: PT017
    finally:
        logging.getLogger("tifffile").setLevel(logging.NOTSET)


def test_a_picture_that_is_compressed_in_one_huge_piece_is_refused_when_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("napari_sam.images.source.MAX_CHUNK_BYTES", 1000)
    monkeypatch.setattr(tiff, "SMALL_TIFF", 0)
    tifffile.imwrite(tmp_path / "a.tif", GRAY, compression="zlib", rowsperstrip=60)
    with pytest.raises(ImageError, match=r"stored in chunks.*smaller tiles"):
        open_image(tmp_path / "a.tif")


def test_a_tiff_with_the_tags_of_another_microscope_is_read_as_plain_tiff(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, compression="zlib", metadata=None)
    original = tifffile.TiffFile.__init__

    def fails_as_lsm(self, *arguments, **options):
        if options.get("is_lsm") is not False:
            raise IndexError("index out of range")
        original(self, *arguments, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", fails_as_lsm)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[0], GRAY)
