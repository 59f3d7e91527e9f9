"""Layers of files: images that the user opens, and label files on disk that masks are written into."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_sam.errors import NapariSamError
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.reader import read_layers

if TYPE_CHECKING:
    from napari_sam.plugin.controller import Controller


def open_image(controller: Controller, path: Path) -> None:
    """Add an image file or store of any size as lazy layers, and select it; labels become the output."""
    try:
        layers = read_layers(str(path))
    except NapariSamError as error:
        controller.notify(str(error))
        return
    added: list[Any] = []
    for data, options, kind in layers:
        add = controller.viewer.add_labels if kind == "labels" else controller.viewer.add_image
        added.append(add(data, **options))
    images = [layer for layer in added if isinstance(layer, Image)]
    if images:
        controller.set_image(images[0])
    elif added:
        controller.set_target(added[0])
    controller.changed.emit()


def use_label_file(controller: Controller, path: Path) -> None:
    """Write accepted masks into a label pyramid on disk, which is made where there is none."""
    image = controller.image
    if image is None:
        controller.notify("There is no image to label: open one first.")
        return
    if image.source.path is not None and path.resolve() == Path(str(image.source.path)).resolve():
        controller.notify(f"{path} is the image itself: choose another file for its labels.")
        return
    try:
        pyramid = LabelPyramid.open(path) if path.exists() else own_layers.pyramid_maker(path, image)()
        layer = own_layers.labels_of_pyramid(pyramid, image)
    except NapariSamError as error:
        controller.notify(str(error))
        return
    controller.drawing.insert(layer)
    controller.set_target(layer)
    controller.set_status(f"Accepted masks go into {path}.")
