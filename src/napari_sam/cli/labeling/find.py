"""The command `napari-sam find`: label the objects that a text names, or that are like examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.labeling.named import NamedRun, Wanted
from napari_sam.cli.labeling.similar import label_similar
from napari_sam.cli.many_images import label_images, outputs_of
from napari_sam.cli.models import OneModel
from napari_sam.errors import PromptError
from napari_sam.files.outputs import check_output
from napari_sam.options import ModelOptions


def find(
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE...", help=opts.IMAGES_HELP)] = None,
    text: Annotated[
        str | None,
        typer.Argument(
            help="Short noun phrase for the objects, such as nucleus; '' with exemplars alone, nothing with --like."
        ),
    ] = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            help="Label image of the plane, .tif or .zarr, or of the whole image, .ome.zarr, also at a URL; of "
            "several images a folder, or a name with *."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="The model that segments: without a detector one that takes text, sam3 by default, or its "
            "checkpoint; with a detector compact by default.",
        ),
    ] = None,
    like: Annotated[
        list[Path] | None,
        typer.Option(
            "--like",
            metavar="FILE.sam",
            help="Examples that napari-sam examples or the window saved, in place of a text; several can be given.",
        ),
    ] = None,
    likeness: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least likeness to the examples; 0.4 by default.")
    ] = None,
    proposals: Annotated[
        Path | None,
        typer.Option(
            help="Folder OUT.proposals of napari-sam everything on the image, so that it is not encoded again."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            help="The model that finds: owlv2, grounding-dino, clip, or a checkpoint of one of them. By default the "
            "model that segments.",
        ),
    ] = None,
    exemplar: Annotated[
        list[str] | None,
        typer.Option(
            "--exemplar",
            metavar="R0,C0,R1,C1",
            help="Box around an object like those that are searched; can be given several times. For SAM 3.",
        ),
    ] = None,
    exemplar_image: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="The image of the exemplars, where it is another one.")
    ] = None,
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    scheduler: opts.SchedulerOption = None,
    plane: opts.PlaneOption = None,
    box: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Search only this box, in pixels of the image.")
    ] = None,
    downsample: Annotated[
        float, typer.Option(help="Image pixels along each axis for one pixel of the model; higher for larger objects.")
    ] = 1.0,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Minimum score; 0.5 by default, owlv2 0.2, grounding-dino 0.35."),
    ] = None,
    json: opts.JsonOption = None,
    store: opts.StoreOption = None,
    channels: opts.ChannelsOption = None,
    nodata: opts.NodataOption = None,
    spacing: opts.SpacingOption = None,
    contrast: opts.ContrastOption = None,
    axes: opts.AxesOption = opts.DEFAULT_AXES,
    resume: opts.ResumeOption = False,
    overwrite: opts.OverwriteOption = False,
) -> None:
    """Find every object that a text names or that is like examples, in one image or many, and write label images."""
    where: dict[str, Any] = {
        "plane": None if plane is None else opts.parse_plane(plane),
        "box": None if box is None else opts.parse_box(box),
    }
    output: dict[str, Any] = {"json": json, "resume": resume, "overwrite": overwrite}
    image = opts.image_options(channels, nodata, spacing, contrast, axes)
    if like:
        if detector or exemplar or exemplar_image or threshold is not None:
            raise PromptError("A detector, exemplars and a threshold are for words: leave them out with --like.")
        # Without a text the last of the images stands in its place.
        given = [*(images or []), *([] if text is None else [text])]
        opened = OneModel(ModelOptions(model or "compact", device, precision), scheduler)
        label_similar(
            given, out, like, image=image, model=opened, likeness=likeness, proposals=proposals, **where, **output
        )
        return
    if not images or text is None:
        raise PromptError("There is no text: name the objects after the images, or give examples by --like.")
    if not downsample > 0:
        raise PromptError(f"--downsample must be above 0 and is {downsample:g}: 1 keeps the resolution of the image.")
    boxes = tuple(tuple(opts.parse_numbers(edges, 4, "--exemplar", "R0,C0,R1,C1")) for edges in exemplar or [])
    wanted = Wanted(text, detector, boxes, exemplar_image)
    wanted.check()
    named = model or ("sam3" if detector is None else "compact")
    run = NamedRun(
        image,
        OneModel(ModelOptions(named, device, precision, store=store), scheduler),
        wanted,
        device=device,
        plane=where["plane"],
        search={"box": where["box"], "downsample": downsample, "threshold": threshold},
        others={"--json": json, "--store": store},
        overwrite=overwrite,
    )
    outputs = outputs_of(images, out)
    if json:
        check_output(json, (".json",), overwrite)
    label_images(outputs, out, lambda source: run.label(source, outputs[source]), model=named, **output)
