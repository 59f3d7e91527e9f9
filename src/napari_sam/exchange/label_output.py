"""LabelOutput: the label image that a command writes, checked before any work and moved into place at the end."""

from __future__ import annotations

import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import LabelsError, NapariSamError, OutputError, PromptError
from napari_sam.exchange.label_formats import LABEL_SUFFIXES, PYRAMID_SUFFIX, as_label_dtype, write_labels
from napari_sam.exchange.label_writer import LabelWriter
from napari_sam.files.libraries import needs
from napari_sam.files.outputs import check_output, replacing
from napari_sam.files.paths import check_name, exists
from napari_sam.images.rasters.gdal import RASTERIO, has_rasterio
from napari_sam.options import LabelOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_sam.core.geometry import Plane
    from napari_sam.images.axes.calibration import Calibration
    from napari_sam.images.volume import Volume
    from napari_sam.journal.journal import Journal
    from napari_sam.labels.array import LabelArray

# A label image in memory has at most this many pixels: a gigabyte of 32-bit labels.
MAX_PIXELS = 2**28

Warn = Callable[[str], object]
"""Receives a sentence about a result that is written but falls short of something."""


class LabelOutput:
    """The label image of a command, with its journal: all of it is written, or nothing.

    New labels are made under a temporary name and moved to `path`, together with their journal, when the block of
    `open` ends without an error. Labels that are added to get all objects of the run or none; with a journal they keep
    those that were written before an error.

    Parameters
    ----------
    path
        .tif, .tiff or .zarr for labels in memory, .ome.zarr for labels of any size.
    options
        Whether to add, to keep a journal, and to replace what exists.
    can_extend
        Whether the command has the options --append and --journal, which messages then offer.
    warn
        Called with a sentence where the format cannot hold something of the image.

    Attributes
    ----------
    journal
        Folder of the journal beside the labels, or None where none is kept.
    extends
        Whether the labels exist and are added to.

    Raises
    ------
    OutputError, PromptError
        The labels cannot be written, cannot be added to, would replace something that is no label image, or would not
        fit the journal beside them. Nothing has been made yet.
    """

    def __init__(
        self, path: Path, options: LabelOptions, *, can_extend: bool = False, warn: Warn = warnings.warn
    ) -> None:
        self.path, self._options, self._warn = path, options, warn
        self.is_pyramid = path.name.endswith(PYRAMID_SUFFIX)
        self.extends = options.append and exists(path)
        self._check(can_extend)
        self.journal = self._checked_journal(can_extend)

    @contextmanager
    def open(
        self,
        volume: Volume | None,
        plane: Plane | None = None,
        *,
        shape: Sequence[int] | None = None,
        source: str | None = None,
    ) -> Iterator[LabelWriter]:
        """Give a writer for the labels, and put them into their place when the block ends without an error.

        Parameters
        ----------
        volume
            The image, which gives the labels their shape, pixel sizes and position; None where it is not known.
        plane
            Plane that all objects lie in, of which a label image is then; None for labels of the whole image. Labels in
            .ome.zarr are always of the whole image.
        shape
            Shape of the image where `volume` is None.
        source
            Path or URL of the image, for a new journal.

        Raises
        ------
        LabelsError
            The labels do not fit in memory, or those that exist have another shape than the image.
        OutputError
            The labels or the journal cannot be written; what was there before still is.
        """
        import numpy as np

        if self.extends:
            with self._extended(volume, source) as writer:
                yield writer
            return
        with _replacing_as(self.path) as temporary:
            folder = self.journal and self.path_of_journal(temporary)
            if self.is_pyramid:
                target = self._new_pyramid(temporary, volume, shape)
                with _recording(folder, target, volume, source) as journal:
                    yield LabelWriter(target, journal)
                return
            target = labels_in_memory(_shape_of(volume, plane, shape))
            with _recording(folder, target, volume, source) as journal:
                yield LabelWriter(target, journal, is_plane=plane is not None)
            write_label_image(temporary, as_label_dtype(np.asarray(target.array)), volume, plane, self._warn)

    @staticmethod
    def path_of_journal(labels: Path) -> Path:
        """Return the folder of the journal of labels."""
        from napari_sam.journal.discovery import journal_beside

        return journal_beside(labels)

    def _check(self, can_extend: bool) -> None:
        from napari_sam.labels.storage.zarr_images import is_label_image

        path = self.path
        if self._options.append and not self.is_pyramid:
            raise PromptError(
                f"{path.name} cannot be added to: --append goes with labels that end in {PYRAMID_SUFFIX}."
            )
        if not self.extends:
            check_output(path, LABEL_SUFFIXES, self._options.overwrite, can_append=can_extend and self.is_pyramid)
        if self.is_pyramid and exists(path) and not is_label_image(path):
            raise OutputError(f"{path} holds no labels, and it is not replaced: choose another name.")

    def _checked_journal(self, can_extend: bool) -> Path | None:
        from napari_sam.journal.discovery import is_only_journal

        folder, wanted = self.path_of_journal(self.path), self._options.journal
        if wanted:
            check_name(folder)
        if not exists(folder):
            return folder if wanted else None
        if self.extends:
            return folder
        if not can_extend:
            raise OutputError(
                f"{self.path} has a journal of its own, which would not fit the new labels: choose another name."
            )
        if not (wanted and self._options.overwrite):
            raise OutputError(
                f"{folder.name} lies beside {self.path.name} and would not fit its new labels: move it away, or "
                "replace it by --journal --overwrite."
            )
        if not is_only_journal(folder):
            raise OutputError(
                f"{folder} is not a journal, and it is not replaced: move it away, or choose another name."
            )
        return folder

    @contextmanager
    def _extended(self, volume: Volume | None, source: str | None) -> Iterator[LabelWriter]:
        from napari_sam.labels.additions import adding_to
        from napari_sam.labels.array import LabelArray
        from napari_sam.labels.opening import open_labels

        assert volume is not None
        target = LabelArray(open_labels(self.path, volume))
        adding = adding_to(target) if self.journal is None else _recording(self.journal, target, volume, source)
        with adding as journal:
            yield LabelWriter(target, journal)

    def _new_pyramid(self, path: Path, volume: Volume | None, shape: Sequence[int] | None) -> LabelArray:
        from napari_sam.labels.array import LabelArray
        from napari_sam.labels.opening import open_labels
        from napari_sam.labels.pyramid import LabelPyramid

        name = self.path.name.removesuffix(PYRAMID_SUFFIX)
        if volume is not None:
            return LabelArray(open_labels(path, volume, name))
        return LabelArray(LabelPyramid.create(path, _shape_of(None, None, shape), name=name))


def labels_in_memory(shape: Sequence[int]) -> LabelArray:
    """Return new 32-bit labels in memory.

    Raises
    ------
    LabelsError
        They are too large.
    """
    import numpy as np

    from napari_sam.labels.array import LabelArray

    if math.prod(shape) > MAX_PIXELS:
        raise LabelsError(
            f"Labels of {' x '.join(map(str, shape))} pixels do not fit in memory: let the name of the label image end "
            f"in {PYRAMID_SUFFIX}."
        )
    return LabelArray(np.zeros(shape, np.uint32))


def write_label_image(
    path: Path, labels: NDArray[Any], volume: Volume | None, plane: Plane | None = None, warn: Warn = warnings.warn
) -> None:
    """Write labels of an image, or of one of its planes, with the image's axes, pixel sizes and position.

    Parameters
    ----------
    path
        .tif, .tiff or .zarr; replaced if it exists.
    labels
        Integer labels of the shape of the image or the plane.
    volume
        The image, or None where it is not known.
    plane
        Plane that the labels are of; None where they are of the whole image.
    warn
        Called where the format cannot hold the direction of the axes.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    if volume is None:
        write_labels(path, labels)
        return
    calibration, place = volume.calibration(plane), volume.georeference_of(plane)
    if path.suffix.lower() != ".zarr" and place is not None and labels.ndim == 2 and not has_rasterio():
        warn(needs("The place of the labels on the map", RASTERIO, "let their name end in .zarr to keep it"))
        place = None
    if path.suffix.lower() != ".zarr" and place is None and _runs_backwards(calibration):
        warn(
            "A TIFF cannot say that rows or columns of the image run backwards, so programs show its labels mirrored: "
            "let the name of the labels end in .zarr to keep their place."
        )
    write_labels(path, labels, calibration, place)


def _runs_backwards(calibration: Calibration | None) -> bool:
    return calibration is not None and any(step < 0 for step in calibration.scale or ())


def _shape_of(volume: Volume | None, plane: Plane | None, shape: Sequence[int] | None) -> tuple[int, ...]:
    whole = tuple(shape or ()) if volume is None else volume.shape
    return whole if plane is None else plane.shape_in(whole)


@contextmanager
def _replacing_as(path: Path) -> Iterator[Path]:
    """Give a temporary path as `replacing` does; messages name the output and not that path."""
    temporary = None
    try:
        with replacing(path) as temporary:
            yield temporary
    except NapariSamError as error:
        if temporary is None or str(temporary) not in str(error):
            raise
        raise type(error)(str(error).replace(str(temporary), str(path))) from error


def _recording(
    folder: Path | None, target: LabelArray, volume: Volume | None, source: str | None
) -> AbstractContextManager[Journal | None]:
    if folder is None:
        return nullcontext()
    assert volume is not None
    return _open_journal(folder, target, volume, source)


@contextmanager
def _open_journal(folder: Path, target: LabelArray, volume: Volume, source: str | None) -> Iterator[Journal]:
    """Open the journal of labels, and remove a new one that holds nothing in the end."""
    from napari_sam.journal.discovery import about
    from napari_sam.journal.journal import Journal

    is_unused, is_new = False, not exists(folder)
    try:
        with Journal(folder, target, about=about(volume, source)) as journal:
            try:
                yield journal
            finally:
                is_unused = is_new and not journal.entries
    finally:
        if is_unused:
            shutil.rmtree(folder, ignore_errors=True)
