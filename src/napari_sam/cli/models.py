"""The commands around models: `napari-sam models` and `napari-sam convert`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from napari_sam.cli.console import console, finish_listing, messages, say, warn
from napari_sam.errors import ImageError, ModelError
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart, check_input, local_path

if TYPE_CHECKING:
    from napari_sam.core.predictor import Predictor
    from napari_sam.distributed.cluster import Cluster
    from napari_sam.options import ImageOptions, ModelOptions
    from napari_sam.segmenter import Segmenter
    from napari_sam.weights.registry import ModelEntry
    from napari_sam.weights.taught import TaughtModel


def models(
    download: Annotated[
        list[str] | None, typer.Option("--download", metavar="NAME", help="Download the weights of this model.")
    ] = None,
    export: Annotated[
        tuple[str, Path] | None,
        typer.Option("--export", metavar="NAME FILE", help="Write a model that was taught as one .safetensors file."),
    ] = None,
    bring: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Add a model that somebody exported.")
    ] = None,
    remove: Annotated[
        str | None, typer.Option("--remove", metavar="NAME", help="Delete a model that was taught.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Write the list as JSON.")] = False,
) -> None:
    """List the available models; download one ahead of time; export, import or remove one that was taught."""
    from napari_sam.files.folders import models_folder
    from napari_sam.weights.detectors import DETECTORS
    from napari_sam.weights.local import verified
    from napari_sam.weights.registry import REGISTRY
    from napari_sam.weights.taught import taught_models

    if export or bring or remove:
        _change_taught(export, bring, remove)
        return
    entries = {**REGISTRY, **DETECTORS}
    for name in download or []:
        if name not in entries:
            raise ModelError(f"There is no model {name!r}: use one of {', '.join(entries)}.")
    if download:
        for name in download:
            _fetch(entries[name])
            path, _ = verified(entries[name])
            say(f"{name} is in {path}")
        return
    if json:
        listed = [*map(_described, entries.values()), *map(_described_taught, taught_models())]
        text = jsonlib.dumps(listed, indent=2)
        console.print(text, soft_wrap=True)
        finish_listing()
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "where", "licence"):
        table.add_column(column, no_wrap=True)
    table.add_column("good for")
    for entry in entries.values():
        table.add_row(entry.name, _where(entry), entry.licence, entry.summary)
    for taught in taught_models():
        table.add_row(taught.name, f"here, {_size(taught.path.stat().st_size)}", f"as {taught.base}", taught.summary)
    console.print(table)
    say(f"Weights are stored in {models_folder()} (NAPARI_SAM_MODELS).")
    finish_listing()


def _change_taught(export: tuple[str, Path] | None, bring: Path | None, remove: str | None) -> None:
    """Export, import or remove a model that was taught."""
    from napari_sam.weights.taught import export_model, import_model, remove_model

    if export:
        name, file = export
        export_model(name, file)
        say(f"{name} written to {file}")
    if bring:
        check_input(bring, "model", ModelError)
        model = import_model(bring)
        say(f"{model.name} is in {model.path}. {model.summary}")
    if remove:
        remove_model(remove)
        say(f"{remove} was removed")


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of any known model, or the name of a model.")],
    out: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    half: Annotated[
        bool, typer.Option("--half", help="Round the weights to half precision, which halves the file.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "--force", help="Replace the file where it exists.")
    ] = False,
) -> None:
    """Convert a checkpoint to safetensors with the official names of its weights."""
    check_output(out, (".safetensors",), overwrite)
    check_sources(None, str(checkpoint))
    check_apart({"checkpoint": model_file(str(checkpoint))}, {"the output": out})
    from napari_sam.models.checkpoints import detect_architecture
    from napari_sam.models.safe_load import load_weights, save_weights
    from napari_sam.weights.registry import REGISTRY

    entry = REGISTRY.get(str(checkpoint))
    if entry is not None and not checkpoint.exists():
        checkpoint = entry.path if entry.is_here else _fetch(entry)
        check_apart({"model": checkpoint}, {"the output": out})
    family, state = detect_architecture(load_weights(checkpoint), checkpoint)
    save_weights(state, out, family=family, half=half)
    size = _size(out.stat().st_size)
    say(f"{family} with {len(state)} tensors, {size}, written to {out}")


def check_sources(image: str | None, model: str | None) -> None:
    """Refuse an image or a model file that cannot be opened, or that would block, such as a pipe.

    Raises
    ------
    ImageError, ModelError
        See `check_input`.
    """
    path = local_path(image)
    if path is not None:
        check_input(path, "image", ImageError)
    file = None if model is None else model_file(model)
    if file is not None:
        check_input(file, "model", ModelError)


def image_files(image: str | None) -> dict[str, str | Path | None]:
    """Return the image and all files that it consists of, by their names in messages, for `check_apart`."""
    from napari_sam.images.companion_files import parts_of

    path = local_path(image)
    parts = [] if path is None else parts_of(path)
    return {"image": image, **{f"file of the image {part.name}": part for part in parts}}


def model_file(model: str) -> Path | None:
    """Return the path of a checkpoint, or None for the name of a model."""
    from napari_sam.weights.registry import REGISTRY
    from napari_sam.weights.taught import taught_model

    return None if model in REGISTRY or taught_model(model) is not None else Path(model)


def detector_file(detector: str | None) -> Path | None:
    """Return the path of the checkpoint of a detector, or None for a name."""
    from napari_sam.weights.detectors import DETECTORS

    return None if detector is None or detector in DETECTORS else Path(detector)


def load(options: ModelOptions, image: str | None = None) -> Predictor:
    """Load the model of a command; missing weights are downloaded, with a progress bar.

    The image is opened before a download, so that a typing error in its name does not cost gigabytes.
    """
    from napari_sam import models as loading
    from napari_sam.weights.registry import REGISTRY

    entry = REGISTRY.get(str(options.model))
    if entry is not None and not entry.is_here:
        if image is not None:
            from napari_sam.images.volume import Volume

            Volume.of(image)
        _fetch(entry)
    return loading.load_predictor(
        options.model, options.device, options.threads, options.precision, compiled=options.compiled
    )


class OneModel:
    """The model of a command, which is loaded for the first image and used for all.

    Parameters
    ----------
    options
        Which model.
    scheduler
        Address of the scheduler of a cluster that does the work, or None.
    """

    def __init__(self, options: ModelOptions, scheduler: str | None = None) -> None:
        self._options = options
        self._predictor: Predictor | None = None
        self._scheduler = scheduler
        self._cluster: Cluster | None = None

    @property
    def name(self) -> str:
        """Name or path of the model."""
        return str(self._options.model)

    def open(self, image: str, options: ImageOptions, labels: Any = None, *, journal: bool = False) -> Segmenter:
        """Open an image with the model, and with the labels and journal that `Segmenter` writes, if any.

        Raises
        ------
        ImageError, ModelError, LabelsError, OutputError, ClusterError
            The image, the model, the labels, the journal, the store of embeddings or the cluster cannot be used.
        """
        from napari_sam.tasks import opening

        if self._scheduler is not None and self._cluster is None:
            from napari_sam.distributed.cluster import Cluster

            self._cluster = Cluster(self._scheduler, warn=warn)
        if self._predictor is None:
            self._predictor = load(self._options, image)
        return opening.open_segmenter(
            image, options, self._options, self._predictor, labels, journal=journal, scheduler=self._cluster
        )


def tidy_store(segmenter: Segmenter) -> None:
    """Delete the unfinished files of killed runs in the store of embeddings."""
    if segmenter.encoder.store is not None:
        segmenter.encoder.store.tidy()


def _fetch(entry: ModelEntry) -> Path:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from napari_sam.weights.local import fetch

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    progress = Progress(*columns, TimeRemainingColumn(), console=messages)
    task = progress.add_task(entry.name, total=entry.nbytes)

    def show(done: int, total: int | None) -> None:
        progress.start()  # Only now: what is refused before needs no bar.
        progress.update(task, completed=done, total=total or entry.nbytes)

    try:
        return fetch(entry, show)
    finally:
        if progress.live.is_started:
            progress.stop()


def _described(entry: ModelEntry) -> dict[str, Any]:
    path = entry.path
    return {
        "name": entry.name,
        "family": entry.family,
        "where": "shipped" if entry.shipped else "here" if entry.is_here else "download" if entry.source else "by hand",
        "path": str(path),
        "bytes": path.stat().st_size if entry.is_here else entry.nbytes,
        "licence": entry.licence,
        "good for": entry.summary,
        "source": entry.source,
        "homepage": entry.homepage or None,
        "by hand": entry.by_hand or None,
        "extra": entry.extra or None,
    }


def _described_taught(model: TaughtModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "where": "here",
        "path": str(model.path),
        "bytes": model.path.stat().st_size,
        "licence": f"as {model.base}",
        "good for": model.summary,
        "taught": model.card,
    }


def _where(entry: ModelEntry) -> str:
    described = _described(entry)
    if not described["bytes"]:
        return str(described["where"])
    about = "" if described["where"] in ("shipped", "here") else "~"
    return f"{described['where']}, {about}{_size(described['bytes'])}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.0f} MiB"
