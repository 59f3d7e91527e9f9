"""The command `napari-sam find`: every object that a text names, as labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_sam.cli.console import say
from napari_sam.cli.encode import (
    DEFAULT_AXES,
    PLANE_HELP,
    AxesOption,
    ChannelsOption,
    ContrastOption,
    ImageArgument,
    NodataOption,
    PrecisionOption,
    SpacingOption,
    image_options,
    parse_numbers,
    parse_plane,
    plane_position,
    tidy_store,
)
from napari_sam.cli.models import check_sources, image_files, load, model_file
from napari_sam.cli.replay import PYRAMID_SUFFIX, check_labels, check_memory, replaced, write_image
from napari_sam.errors import LabelsError, PromptError
from napari_sam.exchange.label_images import as_label_dtype, write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask
    from napari_sam.segmenter import Segmenter


def find(
    image: ImageArgument,
    text: Annotated[str, typer.Argument(help="What to look for: a short noun phrase, such as nucleus.")],
    out: Annotated[
        Path, typer.Option(help="Label image of the plane, .tif or .zarr; or of the whole image, .ome.zarr.")
    ],
    model: Annotated[str, typer.Option("--model", help="A model that takes text: sam3, or its checkpoint.")] = "sam3",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: PrecisionOption = "auto",
    plane: Annotated[str | None, typer.Option(metavar="Z[,..]", help=PLANE_HELP)] = None,
    box: Annotated[
        str | None, typer.Option(metavar="R0,C0,R1,C1", help="Search there only, in pixels of the image.")
    ] = None,
    downsample: Annotated[
        float, typer.Option(help="Pixels of the image that the model sees as one; more for larger objects.")
    ] = 1.0,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score.")] = 0.5,
    json: Annotated[Path | None, typer.Option(help="Also write the objects with their boxes and scores.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Folder or URL of embeddings to use and fill.")] = None,
    channels: ChannelsOption = None,
    nodata: NodataOption = None,
    spacing: SpacingOption = None,
    contrast: ContrastOption = None,
    axes: AxesOption = DEFAULT_AXES,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
) -> None:
    """Find every object that a text names and write a label image."""
    options = image_options(channels, nodata, spacing, contrast, axes)
    where = None if plane is None else parse_plane(plane)
    if not downsample > 0:
        raise PromptError(f"The downsample must be above 0 and is {downsample:g}: 1 looks at the image as it is.")
    part = None if box is None else parse_numbers(box, 4, "--box", "R0,C0,R1,C1")
    check_labels(out, overwrite)
    if json:
        check_output(json, (".json",), overwrite)
    check_sources(image, model)
    inputs = {**image_files(image), "model": model_file(model)}
    check_apart(inputs, {"--out": out, "--json": json, "--store": store})
    from napari_sam.segmenter import Segmenter
    from napari_sam.tasks.find import find as search

    segmenter = Segmenter(image, model=load(model, device, precision, image=image), store=store, **options)
    here = segmenter.plane(plane_position(segmenter, where))
    if not out.name.endswith(PYRAMID_SUFFIX):
        check_memory(here.shape_in(segmenter.shape))
    masks = search(segmenter, text, plane=here, box=part, downsample=downsample, threshold=threshold)
    if not masks:
        raise PromptError(f"Nothing was found that {text!r} names: try another word, --threshold or --downsample.")
    objects = _write(segmenter, here, masks, out)
    tidy_store(segmenter)
    if json:
        write_json(json, {"image": image, "model": model, "text": text, "objects": objects})
    say(f"{len(objects)} object(s) written to {out}")


def _write(segmenter: Segmenter, plane: Plane, masks: Sequence[Mask], out: Path) -> list[dict[str, Any]]:
    """Write the masks, the likeliest first, and return the objects."""
    import numpy as np

    from napari_sam.core.geometry import Plane
    from napari_sam.labels.array import LabelStore
    from napari_sam.segmenter import open_labels

    if out.name.endswith(PYRAMID_SUFFIX):
        with replaced(out) as temporary:
            name = out.name.removesuffix(PYRAMID_SUFFIX)
            return _written(LabelStore(open_labels(temporary, segmenter.volume, name)), plane, masks)
    shape = plane.shape_in(segmenter.shape)
    labels = LabelStore(np.zeros(shape, np.uint32))
    objects = _written(labels, Plane.of(shape), masks)
    write_image(out, as_label_dtype(np.asarray(labels.array)), segmenter.volume, plane)
    return objects


def _written(labels: Any, plane: Plane, masks: Sequence[Mask]) -> list[dict[str, Any]]:
    objects = []
    for mask in masks:
        try:
            edit = labels.write(plane, mask, None, "keep")
        except LabelsError:
            continue  # All of it belongs to likelier objects.
        box = [int(edge) for edge in edit.written_box.as_tuple()]
        objects.append({"label": edit.label, "box": box, "area": edit.area, "score": round(mask.iou_prediction, 4)})
    return objects
