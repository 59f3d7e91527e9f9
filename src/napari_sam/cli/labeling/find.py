"""The command `napari-sam find`: label the objects that a text names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli import options as opts
from napari_sam.cli.console import say, warn
from napari_sam.cli.many_images import label_images, outputs_of
from napari_sam.cli.models import OneModel, check_sources, image_files, model_file, tidy_store
from napari_sam.errors import LabelsError, PromptError
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart
from napari_sam.options import ImageOptions, LabelOptions, ModelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask
    from napari_sam.exchange.label_writer import LabelWriter


def find(
    images: opts.ImagesArgument,
    text: Annotated[str, typer.Argument(help="Short noun phrase for the objects, such as nucleus.")],
    out: Annotated[
        Path,
        typer.Option(
            help="Label image of the plane, .tif or .zarr, or of the whole image, .ome.zarr; of several images a "
            "folder, or a name with *."
        ),
    ],
    model: Annotated[str, typer.Option("--model", help="A model that takes text: sam3, or its checkpoint.")] = "sam3",
    device: opts.DeviceOption = "auto",
    precision: opts.PrecisionOption = "auto",
    plane: opts.PlaneOption = None,
    box: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Search only this box, in pixels of the image.")
    ] = None,
    downsample: Annotated[
        float, typer.Option(help="Image pixels along each axis for one pixel of the model; higher for larger objects.")
    ] = 1.0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum score.")] = 0.5,
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
    """Find every object that a text names, in an image or in each of many images, and write label images."""
    if not downsample > 0:
        raise PromptError(f"--downsample must be above 0 and is {downsample:g}: 1 keeps the resolution of the image.")
    run = _Run(
        opts.image_options(channels, nodata, spacing, contrast, axes),
        OneModel(ModelOptions(model, device, precision, store=store)),
        text,
        None if plane is None else opts.parse_plane(plane),
        {"box": None if box is None else opts.parse_box(box), "downsample": downsample, "threshold": threshold},
        {"--json": json, "--store": store},
        overwrite,
    )
    outputs = outputs_of(images, out)
    if json:
        check_output(json, (".json",), overwrite)
    label_images(
        outputs,
        out,
        lambda source: run.find(source, outputs[source]),
        model=model,
        json=json,
        resume=resume,
        overwrite=overwrite,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What all images of a run have in common."""

    image: ImageOptions
    model: OneModel
    text: str
    plane: list[int] | dict[str, int] | None
    search: dict[str, Any]
    others: dict[str, str | Path | None]
    overwrite: bool

    def find(self, image: str, out: Path) -> dict[str, Any]:
        """Label the objects of one image; return them as plain data."""
        output = LabelOutput(out, LabelOptions(overwrite=self.overwrite), warn=warn)
        check_sources(image, self.model.name)
        check_apart({**image_files(image), "model": model_file(self.model.name)}, {"--out": out, **self.others})
        from napari_sam.tasks.find import find as search

        segmenter = self.model.open(image, self.image)
        where = segmenter.plane(opts.plane_position(segmenter, self.plane))
        with output.open(segmenter.volume, where) as writer:
            masks = search(segmenter, self.text, plane=where, **self.search)
            if not masks:
                raise PromptError(
                    f"Nothing was found for {self.text!r}: try another word, --threshold or --downsample."
                )
            objects = _write(writer, where, masks)
        tidy_store(segmenter)
        say(f"{len(objects)} object(s) written to {out}")
        return {"image": image, "model": self.model.name, "text": self.text, "objects": objects}


def _write(writer: LabelWriter, plane: Plane, masks: Sequence[Mask]) -> list[dict[str, Any]]:
    """Write the masks in the order of their scores, and return the objects as plain data."""
    objects = []
    for mask in masks:
        try:
            written = writer.write(plane, mask)
        except LabelsError:
            continue  # All of its pixels belong to objects with higher scores.
        box = [int(edge) for edge in written.box.as_tuple()]
        score = round(mask.iou_prediction, 4)
        objects.append({"label": written.label, "box": box, "area": written.area, "score": score})
    return objects
