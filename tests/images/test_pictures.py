"""Pictures are opened as viewers show them."""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from napari_sam.core.geometry import Box, Plane
from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

COLORS = np.random.default_rng(3).integers(0, 256, (20, 30, 3), np.uint8)
GRAY = COLORS[..., 0]


def opened(path):
    found = open_image(path)
    return np.asarray(found.levels[0]), found.axes


def png(path, pixels, color_type, bits, *chunks, rows=None):
    """Write a PNG by hand: Pillow writes no colors of 16 bits."""
    rows = (pixels if rows is None else rows).astype(f">u{max(bits // 8, 1)}").reshape(len(pixels), -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, color_type, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))


@pytest.mark.parametrize(("samples", "color_type"), [(3, 2), (4, 6)])
def test_colors_of_16_bits_in_a_png_are_not_cut_to_8(tmp_path, samples, color_type):
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 11, samples)).astype(np.uint16)
    png(tmp_path / "a.png", pixels, color_type, 16)
    found, axes = opened(tmp_path / "a.png")
    assert axes == "yxs"
    np.testing.assert_array_equal(found, pixels)


def test_gray_of_16_bits_with_opacity_is_gray_and_nothing_where_it_is_transparent(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 65536, (9, 11, 2)).astype(np.uint16)
    pixels[..., 1] = 65535
    png(tmp_path / "a.png", pixels, 4, 16)
    found, axes = opened(tmp_path / "a.png")
    assert (axes, found.dtype) == ("yx", np.uint16)
    np.testing.assert_array_equal(found, pixels[..., 0])
    pixels[2:4, :, 1] = 0
    png(tmp_path / "b.png", pixels, 4, 16)
    found, _ = opened(tmp_path / "b.png")
    assert np.isnan(found[2:4]).all()
    np.testing.assert_allclose(found[4:], pixels[4:, :, 0])


@pytest.mark.parametrize(("bits", "step"), [(2, 85), (4, 17), (8, 1), (16, 1)])
def test_the_gray_value_that_a_png_calls_transparent_is_nothing_at_any_depth(tmp_path, bits, step):
    stored = np.random.default_rng(0).integers(0, 2**bits, (8, 16))
    stored[:, :4] = 3
    rows = stored
    if bits < 8:
        shifts = np.arange(8 - bits, -1, -bits)
        rows = (stored.reshape(8, -1, 8 // bits) << shifts).sum(-1)
    png(tmp_path / "a.png", stored, 0, bits, (b"tRNS", struct.pack(">H", 3)), rows=rows)
    found, axes = opened(tmp_path / "a.png")
    assert axes == "yx"
    np.testing.assert_array_equal(found, np.where(stored == 3, np.nan, stored * step))


def test_a_ppm_of_16_bits_keeps_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 11, 3)).astype(np.uint16)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# by hand\n11 9\n65535\n" + pixels.astype(">u2").tobytes())
    np.testing.assert_array_equal(opened(tmp_path / "a.ppm")[0], pixels)


@pytest.mark.parametrize("colors", [2, 4, 16, 256])
def test_a_palette_is_seen_in_its_colors_whatever_its_size(tmp_path, colors):
    picture = Image.fromarray(COLORS).quantize(colors)
    picture.save(tmp_path / "a.png")
    found, axes = opened(tmp_path / "a.png")
    assert axes == "yxs"
    np.testing.assert_array_equal(found, np.asarray(picture.convert("RGB")))
    assert open_image(tmp_path / "a.png", as_labels=True).levels[0].shape == (20, 30)


def test_a_transparent_color_of_a_palette_holds_nothing(tmp_path):
    indices = np.tile(np.arange(4, dtype=np.uint8), (8, 2))
    picture = Image.fromarray(indices)
    picture.putpalette([10, 20, 30, 90, 80, 70, 200, 210, 220, 255, 255, 255])
    picture.save(tmp_path / "a.png", transparency=3)
    volume = Volume.of(tmp_path / "a.png")
    seen = volume.read(Plane.of(volume.shape), Box.of_shape(volume.shape))
    assert volume.may_hold_nothing
    np.testing.assert_array_equal(np.isnan(seen).all(-1), indices == 3)
    np.testing.assert_array_equal(seen[:, 1], np.tile([90, 80, 70], (8, 1)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "RGB", "RGBA", "P"])
def test_pictures_of_every_mode_name_their_axes(tmp_path, mode):
    source = Image.fromarray(GRAY.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(COLORS).convert(mode)
    source.save(tmp_path / "a.png")
    found, axes = opened(tmp_path / "a.png")
    is_color = mode in ("RGB", "RGBA", "P")
    assert axes == ("yxs" if is_color else "yx")
    assert found.shape[:2] == (20, 30)
    assert found.ndim == 2 + is_color


def test_inks_of_a_jpeg_are_colors(tmp_path):
    picture = Image.fromarray(COLORS).convert("CMYK")
    picture.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as stored:
        np.testing.assert_array_equal(opened(tmp_path / "a.jpg")[0], np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_upright_whatever_its_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLORS).save(tmp_path / f"a.{kind}", exif=exif)
    with Image.open(tmp_path / f"a.{kind}") as stored:
        upright = np.asarray(ImageOps.exif_transpose(stored))
    np.testing.assert_array_equal(opened(tmp_path / f"a.{kind}")[0], upright)


def test_a_picture_on_a_map_lies_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "a.jgw").write_text("1\n0\n0\n-1\n0\n0\n")
    assert opened(tmp_path / "a.jpg")[0].shape == GRAY.shape


@pytest.mark.parametrize("kind", ["gif", "png", "webp"])
def test_all_frames_of_an_animation_are_there(tmp_path, kind):
    frames = [Image.fromarray(np.roll(COLORS, 5 * number, 1)) for number in range(4)]
    frames[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], lossless=True, duration=100)
    found, axes = opened(tmp_path / f"a.{kind}")
    assert (found.shape, axes) == ((4, 20, 30, 3), "tyxs")
    with Image.open(tmp_path / f"a.{kind}") as stored:
        for number, frame in enumerate(found):
            stored.seek(number)
            np.testing.assert_array_equal(frame, np.asarray(stored.convert("RGB")))


def test_the_second_view_of_a_stereo_photograph_is_no_frame(tmp_path):
    views = [Image.fromarray(COLORS), Image.fromarray(COLORS[::-1])]
    views[0].save(tmp_path / "a.mpo", save_all=True, append_images=views[1:], quality=95)
    found, axes = opened(tmp_path / "a.mpo")
    assert (found.shape, axes) == ((20, 30, 3), "yxs")
    assert np.abs(found.astype(int) - COLORS).mean() < np.abs(found.astype(int) - COLORS[::-1]).mean()


def test_an_animation_of_too_many_pixels_is_refused_before_it_is_read(tmp_path, monkeypatch):
    frames = [Image.fromarray(np.roll(GRAY, number)) for number in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GRAY.size)
    with pytest.raises(ImageError, match=r"a\.gif is too large"):
        open_image(tmp_path / "a.gif")


@pytest.mark.skipif(sys.platform == "win32", reason="programs on PATH need the executable bit")
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.eps", "a"])
def test_no_program_is_run_for_postscript_whatever_it_is_called(tmp_path, monkeypatch, name):
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho ran > {tmp_path}/ran\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / name).write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match="PostScript"):
        open_image(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_a_picture_of_pillow_is_opened_in_its_colors():
    picture = Image.fromarray(COLORS).quantize(16)
    np.testing.assert_array_equal(Volume.of(picture).array, np.asarray(picture.convert("RGB")))


def test_a_tiff_by_another_name_is_read_as_tiff(tmp_path):
    content = io.BytesIO()
    Image.fromarray(GRAY.astype(np.uint16)).save(content, "TIFF")
    (tmp_path / "a.png").write_bytes(content.getvalue())
    np.testing.assert_array_equal(opened(tmp_path / "a.png")[0], GRAY)
