"""Write a Labels layer in any of the formats of exports; napari calls it to save layers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from napari_sam.exports.exporting import check_inputs, export
from napari_sam.exports.options import ExportOptions
from napari_sam.files.paths import exists
from napari_sam.journal.discovery import journal_beside
from napari_sam.journal.journal import open_journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.exports.layer_source import journal_path, source_of_layer
from napari_sam.plugin.layers.factory import PYRAMID


def write_labels(path: str, data: Any, attributes: Mapping[str, Any]) -> list[str]:
    """Write a Labels layer to a file, in the format that its ending selects.

    Parameters
    ----------
    path
        The file, which is replaced if it exists: napari has asked.
    data, attributes
        The pixels and the attributes of the layer.

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    NapariSamError
        The labels cannot be written; napari shows the message.
    """
    pyramid = (attributes.get("metadata") or {}).get(PYRAMID)
    of_labels = pyramid.path if isinstance(pyramid, LabelPyramid) else None
    check_inputs(Path(path), of_labels, None)
    folder = journal_path(attributes) or (None if of_labels is None else journal_beside(of_labels))
    with ExitStack() as stack:
        objects: Any = ()
        if folder is not None and exists(folder):
            journal = open_journal(folder)
            stack.callback(journal.close)
            objects = journal.objects
        source = source_of_layer(data, attributes, objects=objects)
        export(source, Path(path), ExportOptions(overwrite=True))
    return [path]
