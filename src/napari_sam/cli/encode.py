"""The commands around embeddings: `napari-sam encode` and `napari-sam cache`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import progress_bar, say, show_table, warn
from napari_sam.cli.many_images import run_over, sources_of
from napari_sam.cli.models import OneModel, check_sources, model_file, tidy_store
from napari_sam.errors import PromptError
from napari_sam.files.paths import check_apart
from napari_sam.options import ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.segmenter import Segmenter

DEFAULT_LEVEL = "0"
MAX_NUMBER = 2**31


def encode(
    images: opts.ImagesArgument,
    store: Annotated[
        str | None, typer.Option("--store", help="Folder or URL of the embeddings. Default: the cache folder.")
    ] = None,
    plane: Annotated[
        str | None,
        typer.Option(metavar="A[:B]", help="A plane, planes A to B - 1, or one by name as in z=3,t=1; all by default."),
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            metavar="L[:M]", help="Zoom levels, one or L to M - 1; at level L a pixel is the mean of 2**L x 2**L."
        ),
    ] = DEFAULT_LEVEL,
    box: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Encode only this box, in pixels of the image.")
    ] = None,
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Compile the model first, which takes minutes and pays off for many tiles on a GPU."
        ),
    ] = False,
    scheduler: opts.SchedulerOption = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
) -> None:
    """Encode the tiles of an image, or of each of many images, ahead of time; run it again to resume."""
    options = opts.image_options(channels, nodata, spacing, contrast, axes)
    if compiled and scheduler is not None:
        raise PromptError("Models are not compiled on the workers of a cluster: leave out --compile or --scheduler.")
    kept = ModelOptions(model, device, precision, compiled=compiled, store=store or None, cache="on")
    running = OneModel(kept, scheduler)
    wanted = _parse_range(level, "--level")
    where = None if box is None else opts.parse_box(box)
    chosen = None if plane is None else opts.parse_plane(plane) if "=" in plane else _parse_range(plane, "--plane")

    def work(image: str) -> dict[str, str]:
        check_sources(image, model)
        check_apart({"image": image, "model": model_file(model)}, {"--store": store})
        segmenter = running.open(image, options)
        _run(segmenter, _chosen(segmenter, chosen), _levels_there(segmenter, wanted, level), where)
        tidy_store(segmenter)
        return {"image": image}

    sources = sources_of(images)
    if len(sources) == 1:
        work(*sources)
    elif run_over(sources, work).failed:
        raise typer.Exit(1)


def _levels_there(segmenter: Segmenter, wanted: range, given: str) -> range:
    """Return the levels of a range that exist; level 0 becomes the nearest one where it is the default."""
    grid = segmenter.encoder.grid(segmenter.planes()[0])
    there = range(max(wanted.start, grid.min_level), min(wanted.stop, grid.max_level + 1))
    if len(there) == len(wanted):
        return wanted
    if given == DEFAULT_LEVEL:
        nearest = grid.clamp(0)
        warn(f"Level 0 does not exist for this image and model: level {nearest} is used instead.")
        return range(nearest, nearest + 1)
    if not there:
        return wanted[:1]  # Refused with the levels that there are.
    only = f"level {there.start} exists" if len(there) == 1 else f"levels {there.start} to {there.stop - 1} exist"
    warn(f"Only {only} for this image and model; other levels are left out.")
    return there


def _chosen(segmenter: Segmenter, given: range | list[int] | dict[str, int] | None) -> list[Plane]:
    """Return the planes of a range, the plane at a named position, or all planes."""
    planes = segmenter.planes()
    if given is None:
        return planes
    if isinstance(given, range):
        if given.start < 0 or given.stop > len(planes):
            raise PromptError(f"There are {len(planes)} planes, counted from 0: choose from them with --plane.")
        return planes[given.start : given.stop]
    return [segmenter.plane(opts.plane_position(segmenter, given))]


def _run(segmenter: Segmenter, planes: list[Plane], levels: range, where: tuple[float, ...] | None) -> None:
    from rich.progress import TextColumn

    _ = segmenter.encoder.rendering  # Errors of the contrast appear before a progress bar is drawn.
    now = None
    with progress_bar("{task.description}", TextColumn("{task.fields[rate]}")) as progress:
        task = progress.add_task("tiles", total=None, rate="")
        for now in segmenter.encode(planes=planes, levels=list(levels), box=where):
            speed = progress.tasks[0].speed
            rate = "" if not speed else f"{speed:.1f} tiles/s"
            progress.update(task, completed=now.done, total=now.total, rate=rate)
    if now is not None:
        say(f"{now.encoded} of {now.total} tiles encoded; {now.known} were there, {now.empty} are empty.")


def _parse_range(text: str, option: str) -> range:
    parts = text.split(":")
    try:
        bounds = [int(part) for part in parts]
    except ValueError:
        bounds = []
    is_range = len(bounds) == 1 or (len(bounds) == 2 and bounds[0] < bounds[1])
    if not is_range or any(abs(bound) > MAX_NUMBER for bound in bounds):
        raise PromptError(f"{option} {text!r} is not understood: write one number, or A:B with A < B.")
    return range(bounds[0], bounds[-1] if len(bounds) == 2 else bounds[0] + 1)


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all embeddings in the folder, and proposals.")] = False,
    store: Annotated[
        str | None, typer.Option("--store", help="Folder of the embeddings. Default: the cache folder.")
    ] = None,
) -> None:
    """Show the folder, number and size of the stored embeddings and of what searches have found, or delete them."""
    from napari_sam.embeddings.store import EmbeddingStore
    from napari_sam.everything.proposal_cache import ProposalCache
    from napari_sam.files.folders import cache_capacity

    kept = EmbeddingStore(store) if store else EmbeddingStore.default()
    proposed = None if store else ProposalCache.default()
    if clear:
        nbytes = kept.nbytes
        kept.clear()
        say(f"{_size(nbytes)} of embeddings deleted from {kept.path}")
        if proposed is not None and proposed.count:
            nbytes = proposed.nbytes
            proposed.clear()
            say(f"{_size(nbytes)} of proposals deleted from {proposed.folder}")
        return
    models = kept.by_predictor()
    count = sum(number for number, _ in models.values())
    limit = "" if store else f" of {_size(cache_capacity())} (NAPARI_SAM_CACHE_SIZE)"
    size = _size(sum(nbytes for _, nbytes in models.values())) + limit
    rows = [("folder", str(kept.path)), ("embeddings", str(count)), ("size", size)]
    rows += [(f"model {name}", f"{number} embeddings, {_size(nbytes)}") for name, (number, nbytes) in models.items()]
    if proposed is not None and proposed.count:
        rows.append(("proposals", f"{_size(proposed.nbytes)} of {proposed.count} tiles in {proposed.folder}"))
    show_table(rows)


def _size(nbytes: float) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":
            break
        nbytes /= 1000
    return f"{nbytes:.0f} {unit}" if unit == "bytes" else f"{nbytes:.1f} {unit}"
