"""Exporter: write the objects of a session to a file, off the GUI thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Image

from napari_sam.exports.exporting import Exported, check_inputs, chosen_labels, export
from napari_sam.exports.format import ExportFormat
from napari_sam.exports.formats import suitable_formats
from napari_sam.exports.options import ExportOptions
from napari_sam.files.folders import label_folder
from napari_sam.images.lazy.levels import Stacked
from napari_sam.images.volume import Volume
from napari_sam.plugin.exports.layer_source import source_of_layer
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.labels import pyramid_of
from napari_sam.plugin.workers.runner import Work, apart

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Report, Runner


class Exporter:
    """Exports the output of a session.

    Parameters
    ----------
    session
        The image and its output.
    runner
        Runs the exports.
    objects
        What the journal knows of the objects.
    """

    def __init__(self, session: Session, runner: Runner, objects: Objects) -> None:
        self._session, self._runner, self._objects = session, runner, objects
        self.is_running = False

    @property
    def layer(self) -> Labels | None:
        """The output, or the one that was used last."""
        journal = self._objects.journal
        return journal.layer if journal is not None else self._session.target

    def formats(self) -> list[ExportFormat]:
        """Return the formats that suit the image, the ones for its kind first."""
        layer = self.layer
        if layer is None:
            return []
        data, attributes, _ = layer.as_layer_data_tuple()
        return suitable_formats(source_of_layer(data, attributes))

    def suggested_path(self, form: ExportFormat, folder: Path | None) -> Path:
        """Return the name of a file of a format, of those of image and labels, in a folder or beside the image."""
        image, layer = self._session.image, self.layer
        name = "objects" if layer is None else layer.name
        if image is not None and image.name not in name:  # Or the tables of all images would get the same name.
            name = f"{image.name} {name}"
        plain = "".join(letter if letter.isalnum() or letter in "-_. " else "_" for letter in name).strip(" .")
        if folder is None or not folder.is_dir():
            folder = label_folder() if image is None else own_layers.label_folder_of(image)
        return folder / f"{plain or 'objects'}{form.suffixes[0]}"

    def export(self, path: Path, options: ExportOptions, done: Callable[[Exported], None]) -> None:
        """Write the output to a file.

        Parameters
        ----------
        path
            The file; its ending selects the format.
        options
            Which objects, and how.
        done
            Called in the GUI thread when the file is in its place.
        """
        layer = self.layer
        if layer is None:
            self._session.notify("There are no objects to export: accept one first.")
            return
        layers = self._channels()
        objects, image = self._objects.rows, _volume_of(layers)
        names = [channel.name for channel in layers] if len(layers) > 1 else []
        data, attributes, _ = layer.as_layer_data_tuple()
        pyramid = pyramid_of(layer)
        of_labels = None if pyramid is None else pyramid.path
        of_image = layers[0].source.path if layers else None

        def job(report: Report) -> Exported:
            check_inputs(path, of_labels, of_image)
            known = list(objects)
            chosen = chosen_labels(options, known)
            made = source_of_layer(data, attributes, image=image, channel_names=names, objects=known, chosen=chosen)
            return export(made, path, replace(options, overwrite=True))

        self.is_running = True
        self._session.set_status(f"Exporting to {path.name} ...")
        apart(self._runner)(Work(job, lambda exported: self._finish(exported, done), self._fail))

    def _finish(self, exported: Exported, done: Callable[[Exported], None]) -> None:
        self.is_running = False
        self._session.set_status(f"{counted(exported)} exported to {exported.path}.")
        done(exported)

    def _fail(self, error: Exception) -> None:
        self.is_running = False
        self._session.notify_error(error)

    def _channels(self) -> list[Image]:
        """Return the image layers of the place of the image, which are its channels, from the bottom up.

        Colors do not count where there are other layers: those of a map are composed of its bands.
        """
        image = self._session.image
        if image is None:
            return []
        shape = adapters.shape_of(image)
        found = [
            layer
            for layer in self._session.viewer.layers
            if isinstance(layer, Image)
            and not layer.rgb
            and adapters.shape_of(layer) == shape
            and adapters.same_place(layer, image)
        ]
        return found or [image]


def counted(exported: Exported) -> str:
    """Return how many objects were exported, in words."""
    return f"{exported.count} object{'' if exported.count == 1 else 's'}"


def _volume_of(layers: Sequence[Image]) -> Volume | None:
    """Return the pixels of image layers of one place as channels of one image, at full resolution."""
    finest: list[Any] = [layer.data[0] if layer.multiscale else layer.data for layer in layers]
    if not finest:
        return None
    if len(finest) == 1:
        return Volume.of(finest[0], rgb=bool(layers[0].rgb))
    return Volume.of(Stacked(finest), rgb=False, channel_axis=0)
