"""Export label images from their files, in this process or on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.errors import NapariSamError
from napari_sam.exports import exporting
from napari_sam.exports.opening import opened_source
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.tracks.parents_csv import check_parents, read_parents
from napari_sam.files.paths import local_path

if TYPE_CHECKING:
    from napari_sam.distributed.cluster import Cluster
    from napari_sam.exports.exporting import Exported


@dataclass(frozen=True, slots=True)
class ExportJob:
    """A label image to export.

    Parameters
    ----------
    labels, image
        Paths or URLs; no image to measure nothing on it.
    out
        The file to write.
    """

    labels: str
    image: str | None
    out: Path

    def everywhere(self) -> ExportJob:
        """Return the same with paths that hold in other folders."""
        return ExportJob(_absolute(self.labels), self.image and _absolute(self.image), self.out.absolute())


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """The options of all label images; it is the work, too, since nothing is shared that must be opened.

    Parameters
    ----------
    options
        As for one label image.
    """

    options: ExportOptions

    def open(self) -> ExportPlan:
        """Return itself."""
        return self

    def do(self, item: ExportJob, *, again: bool = False) -> Exported | NapariSamError:
        """Export a label image; an error is of this one only, and so it is returned."""
        try:
            return export_file(item, self.options)
        except NapariSamError as error:
            return error


def export_file(
    job: ExportJob, options: ExportOptions, json: Path | None = None, parents: Path | None = None
) -> Exported:
    """Export a label image from its file.

    Parameters
    ----------
    job, options
        What, and how.
    json
        Another file that will be written, which is to lie elsewhere.
    parents
        Table of the divisions; by default as the journal says.

    Raises
    ------
    LabelsError, ImageError, OutputError
        As in `export_labels`.
    """
    exporting.check_export(job.out, options)
    exporting.check_inputs(job.out, job.labels, job.image, json, "--out")
    given = None if parents is None else read_parents(parents)
    with ExitStack() as stack:
        source = opened_source(job.labels, job.image, options, stack)
        if parents is not None and given is not None:
            if options.labels is None and options.class_name is None:
                check_parents(given, source, parents)
            source.parents = given
        return exporting.export(source, job.out, options)


def exports_on(cluster: Cluster, jobs: Iterable[ExportJob], options: ExportOptions) -> Callable[[ExportJob], Exported]:
    """Begin to export label images on workers; return what waits for one of them.

    Raises
    ------
    ClusterError, LabelsError, ImageError, OutputError
        When it is called: the cluster has gone away, or that label image cannot be exported.
    """
    running = cluster.runner(ExportPlan(options)).run(job.everywhere() for job in jobs)
    done: dict[ExportJob, Any] = {}

    def wait(job: ExportJob) -> Exported:
        wanted = job.everywhere()
        while wanted not in done:
            other, result = next(running)
            done[other] = result
        result = done.pop(wanted)
        if isinstance(result, NapariSamError):
            raise result
        exported: Exported = result
        return exported

    return wait


def _absolute(place: str) -> str:
    local = local_path(place)
    return place if local is None else str(local.absolute())
