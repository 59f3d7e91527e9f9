"""Sample images for napari's File menu, from scikit-image and `napari_sam.samples`, without any download."""

from __future__ import annotations

from typing import Any

from napari_sam.images.lazy.levels import LazyArray

LayerData = list[tuple[Any, dict[str, Any], str]]


def coins() -> LayerData:
    """Return a gray photograph of Greek coins, shape (303, 384), uint8."""
    from skimage.data import coins as image

    return [(image(), {"name": "coins"}, "image")]


def tissue() -> LayerData:
    """Return stained colon tissue under the microscope, shape (512, 512, 3), uint8 RGB."""
    from skimage.data import immunohistochemistry as image

    return [(image(), {"name": "tissue", "rgb": True}, "image")]


def cells() -> LayerData:
    """Return cultured cells as two layers, nuclei and cytoplasm, each (768, 768) uint16, in micrometers."""
    from napari_sam.samples.cells import CELLS_PIXEL_UM
    from napari_sam.samples.cells import cells as computed

    image = computed().image
    shared = {"scale": (CELLS_PIXEL_UM,) * 2, "units": ("um", "um"), "blending": "additive"}
    limits = ((100.0, 3000.0), (100.0, 1500.0))
    channels = (("cytoplasm", "green", 1), ("nuclei", "bop blue", 0))
    return [
        (image[channel], {"name": name, "colormap": color, "contrast_limits": limits[channel], **shared}, "image")
        for name, color, channel in channels
    ]


def abdomen() -> LayerData:
    """Return a CT of an upper abdomen, shape (24, 160, 224), int16 in Hounsfield units, in millimeters."""
    from napari_sam.plugin.reader import read_layers
    from napari_sam.samples.image_files import ABDOMEN_CT

    ((volume, options, kind),) = read_layers(str(ABDOMEN_CT))
    return [(volume, {**options, "name": "CT abdomen", "contrast_limits": (-160.0, 240.0)}, kind)]


def satellite() -> LayerData:
    """Return a satellite image of fields beside a reservoir, shape (600, 600, 3), uint8 RGB, in meters."""
    from napari_sam.plugin.reader import read_layers
    from napari_sam.samples.image_files import LANDSAT, LANDSAT_PIXEL_M

    ((image, options, kind),) = read_layers(str(LANDSAT))
    # Counted from its own corner, which is easier to follow than coordinates of millions.
    on_the_ground = {"scale": (LANDSAT_PIXEL_M,) * 2, "translate": (0, 0), "units": ("m", "m")}
    return [(image, {**options, **on_the_ground, "name": "satellite"}, kind)]


def slide() -> LayerData:
    """Return a stained lymph node of 309 GB, levels of (36, 65536, 65536) uint16, computed when displayed."""
    from napari_sam.samples.slide import SPACING_UM, slide_levels

    options = {
        "name": "lymph node",
        "multiscale": True,
        "contrast_limits": (100.0, 2600.0),
        "scale": SPACING_UM,
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
    }
    return [([LazyArray(level) for level in slide_levels()], options, "image")]
