"""Open image files as layers, and label files on disk as the output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_sam.errors import NapariSamError
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.reader import read_layers

if TYPE_CHECKING:
    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.session import Session


def open_image(session: Session, path: Path) -> None:
    """Add an image file or store of any size as lazy layers and segment it; labels become the output."""
    try:
        layers = read_layers(str(path))
    except NapariSamError as error:
        session.notify(str(error))
        return
    added: list[Any] = []
    for data, options, kind in layers:
        add = session.viewer.add_labels if kind == "labels" else session.viewer.add_image
        added.append(add(data, **options))
    images = [layer for layer in added if isinstance(layer, Image)]
    if images:
        session.set_image(images[0])
    elif added:
        session.set_target(added[0])
    session.changed.emit()


def use_label_file(session: Session, previews: PreviewLayers, path: Path) -> None:
    """Write accepted masks into a label pyramid on disk, which is created where there is none.

    Parameters
    ----------
    session
        The session whose output it becomes.
    previews
        The layers that stay above the new one.
    path
        Folder of the pyramid.
    """
    image = session.image
    if image is None:
        session.notify("There is no image to label: open one first.")
        return
    if image.source.path is not None and path.resolve() == Path(str(image.source.path)).resolve():
        session.notify(f"{path} is the image itself: choose another file for its labels.")
        return
    try:
        pyramid = LabelPyramid.open(path) if path.exists() else own_layers.pyramid_maker(path, image)()
        layer = own_layers.labels_of_pyramid(pyramid, image)
    except NapariSamError as error:
        session.notify(str(error))
        return
    previews.insert(layer)
    session.set_target(layer)
    session.set_status(f"Accepted masks go into {path}.")
