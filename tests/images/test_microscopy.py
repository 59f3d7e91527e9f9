"""Files of microscopes: CZI as Zeiss's library writes it, LIF and ND2 as their formats are described."""

import struct

import numpy as np
import pytest
from pylibCZIrw import czi

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

PIXELS = np.random.default_rng(0).integers(0, 60000, (2, 3, 40, 50)).astype(np.uint16)


def write_czi(path, planes=PIXELS, scenes=(0,), **metadata):
    with czi.create_czi(str(path)) as file:
        for scene in scenes:
            for c, z in np.ndindex(planes.shape[:2]):
                file.write(
                    data=planes[c, z][..., None] + scene,
                    plane={"C": c, "Z": z, "T": 0},
                    location=(10, -20),
                    scene=scene,
                )
        file.write_metadata("image", **metadata)
    return path


def test_a_czi_file_has_its_planes_sizes_and_channels(tmp_path):
    path = write_czi(tmp_path / "a.czi", channel_names={0: "DAPI", 1: "GFP"}, scale_x=2e-7, scale_y=3e-7, scale_z=1e-6)
    opened = open_image(path)
    assert (opened.axes, opened.unit, opened.channel_names) == ("czyx", "micrometer", ("DAPI", "GFP"))
    assert opened.spacing == pytest.approx((1, 1, 0.3, 0.2))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), PIXELS)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][1, 2, 5:30:3, 7]), PIXELS[1, 2, 5:30:3, 7])


def test_a_large_czi_file_has_levels(tmp_path):
    planes = np.random.default_rng(0).integers(0, 60000, (1, 1, 1500, 2101)).astype(np.uint16)
    opened = open_image(write_czi(tmp_path / "a.czi", planes))
    assert [level.shape for level in opened.levels] == [(1500, 2101), (750, 1050), (375, 525)]
    np.testing.assert_array_equal(np.asarray(opened.levels[1][10:20, 30:40]), planes[0, 0, 20:40:2, 60:80:2])
    assert Volume.of(tmp_path / "a.czi").factors == ((1, 1), (2, 2), (4, 4))


def test_colors_of_a_czi_file_are_red_green_and_blue(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(data=np.ascontiguousarray(colors[..., ::-1]))
        file.write_metadata("image")
    opened = open_image(tmp_path / "a.czi")
    assert opened.axes == "yxs"
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), colors)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][3:5, :, 1]), colors[3:5, :, 1])


def test_scenes_of_a_czi_file_are_named_by_number(tmp_path):
    path = write_czi(tmp_path / "a.czi", scenes=(0, 1))
    with pytest.raises(ImageError, match=r"holds 2 images, 0, 1: name one by its number, as in .*a\.czi:/0"):
        open_image(path)
    assert open_image(f"{path}:/1").levels[0].shape == PIXELS.shape


# -- LIF ---------------------------------------------------------------------------------------------------------------


def lif_image(name, memory, planes):
    """Return the description of an image of shape (channels, planes, rows, columns)."""
    channels, depth, rows, cols = planes.shape
    nbytes = planes[0].nbytes
    listed = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" NameOfMeasuredQuantity="" Min="0" Max="1" '
        f'Unit="" LUTName="Green" IsLUTInverted="0" BytesInc="{number * nbytes}" BitInc="0"/>'
        for number in range(channels)
    )
    sides = [(1, cols, 2, 2e-7), (2, rows, 2 * cols, 3e-7), (3, depth, 2 * cols * rows, 1e-6)]
    dimensions = "".join(
        f'<DimensionDescription DimID="{number}" NumberOfElements="{length}" Origin="0" Length="{step * (length - 1)}" '
        f'Unit="m" BitInc="0" BytesInc="{inc}"/>'
        for number, length, inc, step in sides
    )
    return (
        f'<Element Name="{name}" UniqueID="{memory}"><Data><Image><ImageDescription><Channels>{listed}</Channels>'
        f"<Dimensions>{dimensions}</Dimensions></ImageDescription></Image></Data>"
        f'<Memory Size="{planes.nbytes}" MemoryBlockID="{memory}"/><Children/></Element>'
    )


def write_lif(path, images):
    elements = "".join(lif_image(name, f"MemBlock_{n}", planes) for n, (name, planes) in enumerate(images.items()))
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="a.lif"><Data/><Memory Size="0" MemoryBlockID="MemBlock_x"/>'
        f"<Children>{elements}</Children></Element></LMSDataContainerHeader>"
    )
    text = xml.encode("utf-16-le")
    raw = struct.pack("<IIBI", 0x70, len(text) + 5, 0x2A, len(xml)) + text
    for number, planes in enumerate(images.values()):
        name = f"MemBlock_{number}"
        head = struct.pack("<BQBI", 0x2A, planes.nbytes, 0x2A, len(name)) + name.encode("utf-16-le")
        raw += struct.pack("<II", 0x70, len(head)) + head + planes.tobytes()
    path.write_bytes(raw)
    return path


def test_a_lif_file_has_its_planes_and_sizes(tmp_path):
    opened = open_image(write_lif(tmp_path / "a.lif", {"cells": PIXELS}))
    assert (opened.axes, opened.unit) == ("czyx", "micrometer")
    assert opened.spacing == pytest.approx((1, 1, 0.3, 0.2))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][1, 2]), PIXELS[1, 2])
    assert isinstance(opened.levels[0], np.memmap)


def test_images_of_a_lif_file_are_named(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"cells": PIXELS, "other cells": PIXELS + 1})
    with pytest.raises(ImageError, match=r"holds 2 images, 0 \(cells\), 1 \(other cells\)"):
        open_image(path)
    for name in ("other cells", "1"):
        np.testing.assert_array_equal(np.asarray(open_image(f"{path}:/{name}").levels[0][0, 0]), PIXELS[0, 0] + 1)
    with pytest.raises(ImageError, match="name one by its number"):
        open_image(f"{path}:/third")


def test_a_lif_file_that_is_cut_off_is_refused(tmp_path):
    path = write_lif(tmp_path / "a.lif", {"cells": PIXELS})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="damaged or cut off"):
        open_image(path)


# -- ND2 ---------------------------------------------------------------------------------------------------------------


def listed(name, *inside):
    return f'<{name} runtype="CLxListVariant">{"".join(inside)}</{name}>'


def value(name, kind, what):
    return f'<{name} runtype="{kind}" value="{what}"/>'


def document(*inside):
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><variant version="1.0">{listed("no_name", *inside)}</variant>'.encode()
    )


def nd2_descriptions(shape):
    """Return the attributes, the metadata and the experiment of frames of a shape (times, planes, channels, y, x)."""
    times, planes, channels, rows, cols = shape
    numbers = {"uiWidth": cols, "uiWidthBytes": 2 * cols * channels, "uiHeight": rows, "uiComp": channels}
    numbers |= {"uiBpcInMemory": 16, "uiBpcSignificant": 16, "uiSequenceCount": times * planes, "eCompression": 2}
    numbers |= {"uiTileWidth": cols, "uiTileHeight": rows, "ePixelType": 1, "uiVirtualComponents": channels}
    nothing = [
        listed(name, value("uiCount", "lx_uint32", 0)) for name in ("m_ExcitationSpectrum", "m_EmissionSpectrum")
    ]
    names = [("DAPI", 0xFF0000), ("GFP", 0x00FF00)][:channels]
    shown = [
        listed(
            f"a{number}",
            value("sDescription", "CLxStringW", name),
            value("uiColor", "lx_uint32", color),
            listed("pFluorescentProbe", *nothing),
        )
        for number, (name, color) in enumerate(names)
    ]
    z_loop = listed("uLoopPars", value("uiCount", "lx_uint32", planes), value("dZStep", "double", 2.0))
    t_parts = [value(name, "double", 100.0) for name in ("dStart", "dPeriod", "dDuration")]
    t_loop = listed("uLoopPars", value("uiCount", "lx_uint32", times), *t_parts)
    inner = listed("ppNextLevelEx", listed("i0000000000", value("eType", "lx_uint32", 4), z_loop))
    return {
        b"ImageAttributes!": document(*(value(name, "lx_uint32", number) for name, number in numbers.items())),
        b"ImageMetadataSeq|0!": document(
            listed("sPicturePlanes", value("uiCount", "lx_uint32", channels), listed("sPlane", *shown)),
            value("dCalibration", "double", 0.25),
            value("bCalibrated", "bool", "true"),
            value("dAspect", "double", 1.0),
        ),
        b"ImageMetadata!": document(value("eType", "lx_uint32", 1), t_loop, inner),
    }


def write_nd2(path, frames):
    """Write frames of shape (times, planes, channels, rows, columns), as version 2.0 of the format has them."""
    chunks = nd2_descriptions(frames.shape)
    flat = frames.reshape(-1, *frames.shape[2:]).transpose(0, 2, 3, 1)
    chunks |= {b"ImageDataSeq|%d!" % n: struct.pack("<d", n) + frame.tobytes() for n, frame in enumerate(flat)}
    magic, sign = 0x0ABECEDA, b"ND2 CHUNK MAP SIGNATURE 0000001!"
    raw = bytearray(struct.pack("<IIQ32s64s", magic, 32, 64, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver2.0"))
    table = b""
    for name, data in chunks.items():
        # Frames begin 4096 bytes after their chunk.
        padded = name.ljust(4072 if name.startswith(b"ImageDataSeq") else len(name) + 8, b"\0")
        table += name + struct.pack("<QQ", len(raw), len(data))
        raw += struct.pack("<IIQ", magic, len(padded), len(data)) + padded + data
    table += sign + struct.pack("<Q", len(raw))
    raw += struct.pack("<IIQ", magic, 32, len(table)) + b"ND2 FILEMAP SIGNATURE NAME 0001!" + table
    path.write_bytes(raw)
    return path


def test_an_nd2_file_has_its_frames_sizes_and_channels(tmp_path):
    frames = np.random.default_rng(0).integers(0, 60000, (3, 4, 2, 20, 30)).astype(np.uint16)
    opened = open_image(write_nd2(tmp_path / "a.nd2", frames))
    assert (opened.axes, opened.unit, opened.channel_names) == ("tzcyx", "micrometer", ("DAPI", "GFP"))
    assert opened.colors == ("0000FF", "00FF00")
    assert opened.spacing == pytest.approx((1, 2, 1, 0.25, 0.25))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), frames)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][2, 1:3, 1, 3:9, ::2]), frames[2, 1:3, 1, 3:9, ::2])


def test_one_frame_of_an_nd2_file_is_read_at_a_time(tmp_path, monkeypatch):
    frames = np.zeros((3, 4, 2, 20, 30), np.uint16)
    array = open_image(write_nd2(tmp_path / "a.nd2", frames)).levels[0]
    read = []
    plain = array._file.read_frame
    monkeypatch.setattr(array._file, "read_frame", lambda number: read.append(number) or plain(number))
    assert array[1, 2, 0].shape == (20, 30)
    assert read == [6]


def test_an_nd2_file_that_is_cut_off_is_refused(tmp_path):
    path = write_nd2(tmp_path / "a.nd2", np.zeros((1, 2, 2, 20, 30), np.uint16))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ImageError, match="damaged or cut off"):
        open_image(path)
