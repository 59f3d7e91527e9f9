"""OME-Zarr: labels of any size, as an image of their own or among the labels of an OME-Zarr image."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_sam.errors import LabelsError, OutputError, first_line
from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource
from napari_sam.files.temporary import final_name
from napari_sam.files.zarr_writes import no_write_goes_on
from napari_sam.images.axes.attributes import map_attributes
from napari_sam.images.ome_zarr.metadata import Multiscale, ome_attributes, plane_axes, read_multiscale
from napari_sam.labels.access import exclusive_on_disk
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.labels.storage.multiscales import CHUNK_SIDE, create_level, step_between

LABELS = "labels"
# The versions of OME-Zarr that go with the formats 2 and 3 of zarr, and the one in images with coordinate systems: all
# images in a store are of one version.
VERSIONS = {2: "0.4", 3: "0.5"}
WITH_SYSTEMS, SYSTEM = "0.6", "physical"
OPAQUE = 255


class OmeZarr:
    """OME-Zarr 0.5, or of the version (0.4 to 0.6) of the image that the labels are put into; see `ExportFormat`."""

    name = "OME-Zarr"
    suffixes = (".ome.zarr",)
    holds = "pixels of all objects, in levels; class, color and scores as properties of the labels"
    loses = "prompts, which are in the journal"
    place = "axes, pixel sizes, origin, units and the map; in `IMAGE.ome.zarr/labels/NAME` the levels of that image"
    library = None

    def refusal(self, source: ExportSource) -> str | None:
        return None

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        image = image_around(path)
        if image is None:
            self._create(source, path)
        else:
            _create_in_image(source, path, image)
        pyramid = LabelPyramid.open(path)
        for region, block in source.blocks():
            if block.any():
                pyramid.write_box(region, block)
        _describe(path, source)

    def _create(self, source: ExportSource, path: Path) -> None:
        calibration, on_map = source.place.calibration, source.place.georeference
        LabelPyramid.create(
            path,
            source.shape,
            axes=source.axes,
            spacing=None if calibration is None else calibration.scale,
            translation=None if calibration is None else calibration.origin,
            unit=None if calibration is None else calibration.unit,
            time_unit=None if calibration is None else calibration.time_unit,
            dtype=source.dtype,
            name=final_name(path).removesuffix(".ome.zarr"),
            attributes=None if on_map is None else map_attributes(on_map),
        )


def image_around(path: Path) -> Path | None:
    """Return the OME-Zarr image among whose labels a path lies, or None."""
    import zarr

    if path.parent.name != LABELS:
        return None
    image = path.parent.parent
    try:
        attributes = dict(zarr.open_group(image, mode="r").attrs)
    except Exception:  # There is no zarr, of which its libraries say so in many ways.
        return None
    ome = ome_attributes(attributes)
    return image if "multiscales" in ome and "image-label" not in ome else None


def list_label(path: Path) -> None:
    """Add labels to the list of those of their image.

    Raises
    ------
    OutputError
        The list cannot be written.
    """
    import zarr

    image = image_around(path)
    assert image is not None
    try:
        with exclusive_on_disk(image), no_write_goes_on():
            zarr_format: Any = zarr.open_group(image, mode="r").metadata.zarr_format
            group = zarr.open_group(path.parent, mode="a", zarr_format=zarr_format)
            attributes = group.attrs.asdict()
            ome: Any = attributes.get("ome", {"version": _version_in(image)}) if zarr_format == 3 else attributes
            listed = [name for name in ome.get(LABELS, []) if name != path.name]
            ome = {**ome, LABELS: [*listed, path.name]}
            group.update_attributes({"ome": ome} if zarr_format == 3 else ome)
            if zarr.open_group(image, mode="r").metadata.consolidated_metadata is not None:
                with warnings.catch_warnings():
                    # That other programs may not read it: they wrote it.
                    warnings.simplefilter("ignore")
                    zarr.consolidate_metadata(str(image))
    except (OSError, ValueError) as error:
        raise OutputError(
            f"The labels are in {path}, and the list of labels of the image cannot be written ({first_line(error)})."
        ) from error


def _version_in(image: Path) -> str:
    """Return the version of OME-Zarr of labels in an image."""
    import zarr

    node = zarr.open_group(image, mode="r")
    has_systems = read_multiscale(node.attrs.asdict()).has_systems
    return WITH_SYSTEMS if has_systems else VERSIONS[node.metadata.zarr_format]


def _create_in_image(source: ExportSource, path: Path, image: Path) -> None:
    """Make an empty label image with the levels, axes and positions of an image, but for its channels."""
    import zarr

    node = zarr.open_group(image, mode="r")
    multiscale = read_multiscale(node.attrs.asdict())
    arrays: list[Any] = [node[level] for level in multiscale.paths]
    ndim, zarr_format = arrays[0].ndim, node.metadata.zarr_format
    place = multiscale.placement_of(0, ndim)
    order = range(ndim) if place is None else place.order
    letters, _ = multiscale.letters_of(ndim, order, getattr(arrays[0].metadata, "dimension_names", None))
    if letters is None:
        raise OutputError(f"{image} does not name its axes, so no labels can be put into it: export .ome.zarr.")
    kept = [axis for axis in range(ndim) if letters[axis] != "c" or ndim == source.ndim]
    shapes = [tuple(int(array.shape[axis]) for axis in kept) for array in arrays]
    if shapes[0] != source.shape:
        raise LabelsError(f"The labels have shape {source.shape} and {image} {shapes[0]}: name the image they are of.")
    described = [] if multiscale.axes is None else [multiscale.axes[order[axis]] for axis in kept]
    attributes = _metadata(multiscale, described, kept, shapes, ndim, _version_in(image), final_name(path))
    axes = "".join(letters[axis] for axis in kept)
    in_plane = plane_axes(axes)
    options: dict[str, Any] = (
        {"dimension_names": list(axes)}
        if zarr_format == 3
        else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    )
    with no_write_goes_on():
        group = zarr.open_group(path, mode="w-", zarr_format=zarr_format, attributes=attributes)
        for level, shape in enumerate(shapes):
            chunks = [min(length, CHUNK_SIDE) if axis in in_plane else 1 for axis, length in enumerate(shape)]
            create_level(group, str(level), shape, chunks, source.dtype, **options)


def _metadata(
    multiscale: Multiscale,
    axes: list[dict[str, Any]],
    kept: list[int],
    shapes: list[tuple[int, ...]],
    ndim: int,
    version: str,
    name: str,
) -> dict[str, Any]:
    """Return the attributes of labels of an image, for some of its axes.

    Pixel i of a coarse level *is* pixel i * n of the finest one, so that no level is shifted, whatever those of the
    image are.
    """
    places = [multiscale.placement_of(level, ndim) for level in range(len(shapes))]
    scales = [[1.0 if place is None else float(place.scale[axis]) for axis in kept] for place in places]
    origin = [0.0 if places[0] is None else float(places[0].origin[axis]) for axis in kept]
    shift = [{"type": "translation", "translation": origin}] if any(origin) else []
    steps, datasets = scales[0], []
    for level, shape in enumerate(shapes):
        if level:
            ratios = [abs(b / a) for a, b in zip(scales[level - 1], scales[level], strict=True)]
            whole = map(step_between, shapes[level - 1], shape, ratios)
            steps = [step * (factor or 1) for step, factor in zip(steps, whole, strict=True)]
        transforms = [{"type": "scale", "scale": steps}, *shift]
        datasets.append({"path": str(level), "coordinateTransformations": transforms})
    entry: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets}
    if version == WITH_SYSTEMS:
        entry = _with_systems(entry)
    label: dict[str, Any] = {"source": {"image": "../../"}}
    if version == VERSIONS[2]:
        return {"multiscales": [{"version": version, **entry}], "image-label": {"version": version, **label}}
    return {"ome": {"version": version, "multiscales": [entry], "image-label": label}}


def _with_systems(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of an image as OME-Zarr 0.6 has it: each level leads into a coordinate system."""
    datasets = []
    for dataset in entry["datasets"]:
        path, steps = dataset["path"], dataset["coordinateTransformations"]
        only = {"type": "sequence", "transformations": steps} if len(steps) > 1 else steps[0]
        leading = {"input": {"path": path}, "output": {"name": SYSTEM}, "name": f"{path}_to_{SYSTEM}", **only}
        datasets.append({"path": path, "coordinateTransformations": [leading]})
    systems = [{"name": SYSTEM, "axes": entry["axes"]}]
    return {"name": entry["name"], "coordinateSystems": systems, "datasets": datasets}


def _describe(path: Path, source: ExportSource) -> None:
    """Add the colors of classes, and what is known of each object."""
    import zarr

    colors, properties = [], []
    for label in source.extents.labels.tolist():
        kind, part = source.class_of(label), source.part_of(label)
        if kind is not None:
            rgba = [*(round(OPAQUE * share) for share in kind.color), OPAQUE]
            colors.append({"label-value": label, "rgba": rgba})
        if part is not None:
            known: dict[str, Any] = {"label-value": label, "area": int(source.objects[label].area)}
            known |= {} if kind is None else {"class": kind.name}
            known |= {} if math.isnan(part.iou_prediction) else {"predicted_iou": round(part.iou_prediction, 6)}
            properties.append(known)
    if not (colors or properties):
        return
    group = zarr.open_group(path, mode="r+", use_consolidated=False)
    attributes = group.attrs.asdict()
    ome = dict(ome_attributes(attributes))
    label_entry = {**ome["image-label"]}
    if colors:
        label_entry["colors"] = colors
    if properties:
        label_entry["properties"] = properties
    ome["image-label"] = label_entry
    group.update_attributes({"ome": ome} if "ome" in attributes else {"image-label": label_entry})
