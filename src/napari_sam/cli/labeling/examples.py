"""The command `napari-sam examples`: save objects as examples, by which similar ones are found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import say
from napari_sam.cli.models import OneModel, check_sources, image_files, model_file
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart
from napari_sam.options import ModelOptions


def examples(
    image: Annotated[str, typer.Argument(help="The image: a file, an OME-Zarr folder, or a URL.")],
    labels: Annotated[str, typer.Argument(help="Label image with the examples, of the same shape.")],
    out: Annotated[Path, typer.Option(help="File of the examples, such as nuclei.sam.")],
    chosen: Annotated[
        str | None, typer.Option("--labels", metavar="N[,..]", help="Only the objects of these labels.")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Name of their kind; that of the journal by default.")
    ] = None,
    model: opts.ModelOption = "compact",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Save objects of a label image as examples; `napari-sam find --like` finds similar ones in any image."""
    from napari_sam.similarity.query import SUFFIX
    from napari_sam.tasks.examples import examples_of_labels

    numbers = None if chosen is None else opts.parse_numbers(chosen, None, "--labels", "N[,..]", whole=True)
    check_output(out, (SUFFIX,), overwrite)
    check_sources(image, model)
    check_apart({**image_files(image), "labels": labels, "model": model_file(model)}, {"--out": out})
    options = opts.image_options(channels, nodata, spacing, contrast, axes)
    segmenter = OneModel(ModelOptions(model, device, precision)).open(image, options)
    query = examples_of_labels(
        segmenter,
        labels,
        chosen=None if numbers is None else [int(number) for number in numbers],
        class_name=class_name,
    )
    query.save(out, overwrite=overwrite)
    classes = [name for name in query.classes if name]
    kinds = f" of {', '.join(classes)}" if classes else ""
    say(f"{len(query)} example(s){kinds} written to {out}")
