"""Sample images: photographs that scikit-image ships, and images that are made on the spot; nothing is downloaded."""

from __future__ import annotations

from typing import Any

from napari_sam.images.lazy.levels import LazyArray

LayerData = list[tuple[Any, dict[str, Any], str]]


def coins() -> LayerData:
    """Return a grey photograph of Greek coins, shape (303, 384), uint8."""
    from skimage.data import coins as image

    return [(image(), {"name": "coins"}, "image")]


def tissue() -> LayerData:
    """Return stained colon tissue under the microscope, shape (512, 512, 3), uint8 RGB."""
    from skimage.data import immunohistochemistry as image

    return [(image(), {"name": "tissue", "rgb": True}, "image")]


def cells() -> LayerData:
    """Return cultured cells as two layers, nuclei and cytoplasm, each (768, 768) uint16, in micrometres."""
    from napari_sam.samples import cells as made

    image = made.cells().image
    shared = {"scale": (made.CELLS_PIXEL_UM,) * 2, "units": ("um", "um"), "blending": "additive"}
    limits = ((100.0, 3000.0), (100.0, 1500.0))
    looks = (("cytoplasm", "green", 1), ("nuclei", "bop blue", 0))
    return [
        (image[channel], {"name": name, "colormap": colour, "contrast_limits": limits[channel], **shared}, "image")
        for name, colour, channel in looks
    ]


def abdomen() -> LayerData:
    """Return a CT of an abdomen, shape (48, 288, 288), int16 in Hounsfield units, in millimetres."""
    from napari_sam.samples import ct as made

    look = {
        "name": "CT abdomen",
        "contrast_limits": (-160.0, 240.0),
        "scale": made.SPACING_MM,
        "units": ("mm", "mm", "mm"),
        "axis_labels": ("z", "y", "x"),
    }
    return [(made.ct().image, look, "image")]


def village() -> LayerData:
    """Return an aerial photograph of a village, shape (1536, 1536, 3), uint8 RGB, in metres."""
    from napari_sam.samples import aerial as made

    look = {"name": "village", "rgb": True, "scale": (made.PIXEL_M,) * 2, "units": ("m", "m")}
    return [(made.aerial().image, look, "image")]


def slide() -> LayerData:
    """Return a stained lymph node of 309 GB, levels of (36, 65536, 65536) uint16, made where it is looked at."""
    from napari_sam.samples import slide as made

    look = {
        "name": "lymph node",
        "multiscale": True,
        "contrast_limits": (100.0, 2600.0),
        "scale": made.SPACING_UM,
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    return [([LazyArray(level) for level in made.slide_levels()], look, "image")]
