"""Read pictures with Pillow (.png, .jpg and similar): in their colors, upright, with all frames."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_sam.errors import ImageError
from napari_sam.images.lazy.orientation import ORIENTATION, upright
from napari_sam.images.lazy.recoloring import divided, lab, transparent_gray
from napari_sam.images.rasters.sidecars import place_beside
from napari_sam.images.source import ImageSource

if TYPE_CHECKING:
    from PIL import Image

# Formats that contain pixels only. For PostScript and Windows metafiles Pillow would run other programs.
FORMATS = (
    "AVIF",
    "BLP",
    "BMP",
    "CUR",
    "DCX",
    "DDS",
    "DIB",
    "FITS",
    "FLI",
    "FTEX",
    "GBR",
    "GIF",
    "ICNS",
    "ICO",
    "IM",
    "IMT",
    "JPEG",
    "JPEG2000",
    "MCIDAS",
    "MSP",
    "PCD",
    "PCX",
    "PIXAR",
    "PNG",
    "PPM",
    "PSD",
    "QOI",
    "SGI",
    "SPIDER",
    "SUN",
    "TGA",
    "WEBP",
    "XBM",
    "XPM",
    "XVTHUMB",
)
# Formats whose frames are a sequence in time; in others they are layers, sizes or views of one picture.
ANIMATED = ("AVIF", "FLI", "GIF", "IM", "PNG", "SPIDER", "WEBP")
# Modes without an opacity channel, and those that can have one: by a palette or a transparent color.
OPAQUE_MODES = {"P": "RGBA", "RGB": "RGBA", "L": "LA", "1": "LA"}
# Raw modes of 16-bit colors, of which Pillow keeps eight bits.
DEEP = re.compile(r"^(RGB|RGBA|RGBX|CMYK|LA);16[BLNS]$")


def open_picture(path: Path, formats: Sequence[str] = FORMATS, *, as_labels: bool = False) -> ImageSource:
    """Read a file in a format of Pillow.

    Frames of an animation become the first axis. Of other files with several pictures the first one is read: that
    is what viewers show of the views of an MPO, of the layers of a PSD, and of the sizes of an icon.

    Raises
    ------
    ImageError
        It has too many pixels, or 16-bit colors in a format of which Pillow reads but 8 bits.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            Image.init()  # Older versions of Pillow lack some of the formats.
            with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as image:
                if as_labels and image.mode == "P":
                    return ImageSource((np.asarray(image),), "yx")
                pixels, axes = _frames_of(path, image)
                # World files describe the pixels as they are stored.
                place = place_beside(path)
                turn = 1 if place and place.is_known else image.getexif().get(ORIENTATION, 1)
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    return ImageSource((upright(pixels, turn, axes.index("y")),), axes)


def pixels_of(image: Image.Image) -> tuple[NDArray[Any], str]:
    """Return the displayed pixels of a Pillow picture, and their axes: "yx" or "yxs"."""
    transparent = image.info.get("transparency")
    if image.mode in ("L", "I;16") and isinstance(transparent, int):
        return _without_value(image, transparent), "yx"
    has_opacity = transparent is not None or getattr(image, "has_transparency_data", False)
    mode = image.mode
    if has_opacity and mode in OPAQUE_MODES:
        mode = OPAQUE_MODES[mode]
    elif mode in ("P", "CMYK", "YCbCr", "HSV", "RGBX"):
        mode = "RGB"
    elif mode in ("PA", "RGBa"):
        mode = "RGBA"
    elif mode == "La":
        mode = "LA"
    if mode == "RGBA" and image.mode == "RGBa":
        pixels = divided(np.uint8)(np.asarray(image))
    elif mode == "LAB":
        return lab(np.uint8, 3, is_icc=True)(np.asarray(image)), "yxs"
    else:
        pixels = np.asarray(image if mode == image.mode else image.convert(mode))
    if mode == "LA":
        return _without_opacity(pixels), "yx"
    return pixels, "yx" if pixels.ndim == 2 else "yxs"


def _without_value(image: Image.Image, transparent: int) -> NDArray[Any]:
    """Return gray pixels, NaN for those of the transparent value.

    The value is as stored, and Pillow spreads gray of 2 and 4 bits over 8 without it.
    """
    raw = next((tile[3] for tile in getattr(image, "tile", ()) if isinstance(tile[3], str)), "")
    value = transparent * {"L;2": 85, "L;4": 17}.get(raw, 1)
    gray = np.asarray(image)
    is_nothing = gray == value
    return np.where(is_nothing, np.float32(np.nan), gray.astype(np.float32)) if is_nothing.any() else gray


def _without_opacity(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return gray pixels with opacity as gray only; NaN for fully transparent ones."""
    is_opaque = bool((pixels[..., 1] == np.iinfo(pixels.dtype).max).all())
    return pixels[..., 0] if is_opaque else transparent_gray(pixels.dtype)(pixels)


def _frames_of(path: Path, image: Image.Image) -> tuple[NDArray[Any], str]:
    """Return the pixels of all frames of an animation, or of the only picture."""
    count = int(getattr(image, "n_frames", 1)) if image.format in ANIMATED else 1
    if count == 1:
        return _deep_pixels(path, image) if _is_deep(image) else pixels_of(image)
    if _is_deep(image):
        raise ImageError(f"{path} is an animation of 16-bit colors, which is not supported: save it as a TIFF stack.")
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most is not None and count * image.width * image.height > 2 * most:
        raise _too_large(path)
    # The first picture of an animated PNG may be a replacement for viewers that do not animate.
    first = int(bool(image.info.get("default_image"))) if count > 2 else 0
    frames = []
    for number in range(first, count):
        image.seek(number)
        frames.append(pixels_of(image))
    return _stacked([pixels for pixels, _ in frames])


def _stacked(frames: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], str]:
    """Stack frames of different kinds: gray or color, with or without opacity, of different sizes."""
    height, width = (max(frame.shape[axis] for frame in frames) for axis in (0, 1))
    frames = [
        np.pad(frame, ((0, height - frame.shape[0]), (0, width - frame.shape[1]), *((0, 0),) * (frame.ndim - 2)))
        for frame in frames
    ]
    samples = max(1 if frame.ndim == 2 else frame.shape[-1] for frame in frames)
    if samples == 1:
        return np.stack(frames), "tyx"
    filled = []
    for frame in frames:
        colors = np.repeat(frame[..., None], 3, -1) if frame.ndim == 2 else frame
        if colors.shape[-1] < samples:
            opaque = np.full((*colors.shape[:2], 1), 255, colors.dtype)
            colors = np.concatenate([colors, opaque], -1)
        filled.append(colors)
    stack = np.stack(filled)
    if samples == 4 and (stack[..., 3] == 255).all():
        stack = stack[..., :3]
    return stack, "tyxs"


def _is_deep(image: Image.Image) -> bool:
    if image.format == "JPEG2000" and image.mode in ("RGB", "RGBA", "LA", "YCbCr"):
        return True
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        if any(isinstance(argument, str) and DEEP.match(argument) for argument in arguments):
            return True
        if image.format == "PPM" and image.mode == "RGB" and isinstance(arguments[-1], int) and arguments[-1] > 255:
            return True
    return False


def _deep_pixels(path: Path, image: Image.Image) -> tuple[NDArray[Any], str]:
    """Read colors of 16 bits with another library than Pillow, which cuts them to 8."""
    import imagecodecs

    if image.format == "PNG":
        pixels = imagecodecs.png_decode(path.read_bytes())
    elif image.format == "JPEG2000":
        pixels = np.asarray(imagecodecs.jpeg2k_decode(path.read_bytes()))
        if pixels.dtype == np.uint8:
            return pixels_of(image)
    elif image.format == "PPM":
        pixels = _deep_ppm(path, image)
    else:
        raise ImageError(f"{path} has 16-bit colors, unsupported in {image.format}: save it as TIFF or PNG.")
    if pixels.ndim == 3 and pixels.shape[-1] in (1, 2):
        return (_without_opacity(pixels) if pixels.shape[-1] == 2 else pixels[..., 0]), "yx"
    return pixels, "yx" if pixels.ndim == 2 else "yxs"


def _deep_ppm(path: Path, image: Image.Image) -> NDArray[np.uint16]:
    """Read the binary colors of a PPM of more than 8 bits."""
    content = path.read_bytes()
    header = re.match(rb"P6(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+\s", content)
    if header is None:
        raise ImageError(f"{path} has more than 8 bits a color, unsupported as text: save it as TIFF or PNG.")
    stored = np.frombuffer(content, ">u2", 3 * image.width * image.height, header.end())
    return stored.reshape(image.height, image.width, 3).astype(np.uint16)


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path} is too large, since files of this format are read as a whole: save it as a tiled .tif.")
