"""OME-Zarr metadata: read leniently (versions 0.1 to 0.6), written strictly (version 0.5).

The attributes of a group come in and go out as plain JSON values; no array is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_sam.images.axes.letters import named_axes
from napari_sam.images.ome_zarr.transforms import Placement, placement

VERSION = "0.5"
AXIS_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
# Axes of versions that do not name them: five, in this order.
UNNAMED_AXES, UNNAMED_VERSIONS = "tczyx", ("", "0.1", "0.2")


def ome_attributes(attributes: Mapping[str, Any]) -> Any:
    """Return the OME attributes of a group: below "ome" since version 0.5, and at the top before."""
    return attributes.get("ome", attributes)


@dataclass(frozen=True, slots=True, eq=False)
class Multiscale:
    """The first multiscale image that the attributes of a group describe.

    Parameters
    ----------
    version
        OME-Zarr version, "" if it is not stated.
    datasets
        Description of each level, finest first.
    description
        The whole entry of "multiscales". Its parts are interpreted when they are asked for, so that damage to one of
        them refuses only those who need it.
    channels
        Display settings of each channel, or none.
    is_label
        Whether the image is marked as a label image.
    """

    version: str
    datasets: tuple[Mapping[str, Any], ...]
    description: Mapping[str, Any]
    channels: tuple[Mapping[str, Any], ...]
    is_label: bool

    @property
    def has_systems(self) -> bool:
        """Whether coordinate systems describe the axes, as since version 0.6."""
        return bool(self.description.get("coordinateSystems"))

    @property
    def axes(self) -> list[dict[str, Any]] | None:
        """Description of each axis of the coordinate system that the levels are placed in; None if there is none."""
        axes = self.description.get("axes")
        systems = self.description.get("coordinateSystems")
        if isinstance(systems, list) and systems:
            output = self.datasets[0].get("coordinateTransformations", [{}])[-1].get("output")
            name = output.get("name") if isinstance(output, dict) else output
            axes = next((system for system in systems if system.get("name") == name), systems[0])["axes"]
        if not axes:
            return None
        return [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]

    @property
    def paths(self) -> tuple[str, ...]:
        """Path of the array of each level in the group."""
        return tuple(str(dataset["path"]) for dataset in self.datasets)

    def placement_of(self, level: int, ndim: int) -> Placement | None:
        """Return the position of a level of `ndim` axes in its coordinate system; None if it is not stated.

        Raises
        ------
        UnsupportedTransformationError
            The level is rotated, sheared or deformed.
        ValueError, TypeError, LookupError, AttributeError
            Its transformations are damaged.
        """
        given = self.datasets[level].get("coordinateTransformations") or []
        if not given or not (self.has_systems or any(each.get("type") == "scale" for each in given)):
            return None
        # Before 0.6 these apply to all levels; since then they lead on to further coordinate systems.
        common = [] if self.has_systems else self.description.get("coordinateTransformations") or []
        names = [str(axis.get("name")) for axis in self.axes or ()]
        return placement([*given, *common], ndim, names)

    def letters_of(
        self, ndim: int, order: Sequence[int] | None, array_names: Sequence[str] | None
    ) -> tuple[str | None, str]:
        """Return one letter for each axis of the arrays, and those of them that are guesses.

        Parameters
        ----------
        ndim
            Number of axes of the arrays.
        order
            Axis of the coordinate system along each axis of the arrays; None for the order of the metadata.
        array_names
            Names that the arrays themselves give their axes, for versions without axes; or None.

        Returns
        -------
        letters : str or None
            None if the axes of the metadata do not fit the arrays.
        guessed : str
            See `ImageSource.guessed_axes`.
        """
        axes = self.axes
        if axes is not None:
            if len(axes) != ndim:
                return None, ""
            ordered = [axes[axis] for axis in order] if order is not None else axes
            return named_axes([axis.get("name") for axis in ordered], ndim, [axis.get("type") for axis in ordered])
        if self.version in UNNAMED_VERSIONS and ndim == len(UNNAMED_AXES):
            return UNNAMED_AXES, ""
        return named_axes(array_names, ndim)


def read_multiscale(attributes: Mapping[str, Any]) -> Multiscale:
    """Return the first multiscale image that the attributes of a group describe.

    Raises
    ------
    ValueError, TypeError, LookupError, AttributeError
        The attributes describe no image.
    """
    ome = ome_attributes(attributes)
    if "multiscales" not in ome:
        raise ValueError("there are no multiscales")
    first = ome["multiscales"][0]
    datasets = tuple(first["datasets"])
    if not datasets:
        raise ValueError("there are no datasets")
    version = str(ome.get("version") or first.get("version") or "")
    return Multiscale(version, datasets, first, _channels(ome), "image-label" in ome)


def _channels(ome: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return the display settings of each channel; none if they are damaged, since the image opens without them."""
    omero = ome.get("omero")
    channels = omero.get("channels") if isinstance(omero, dict) else None
    listed = isinstance(channels, list) and all(isinstance(channel, dict) for channel in channels)
    return tuple(channels) if listed and channels else ()


def label_metadata(
    axes: str,
    units: Mapping[str, str | None],
    spacing: Sequence[float],
    translation: Sequence[float],
    levels: int,
    name: str,
    source: str | None,
) -> dict[str, Any]:
    """Return the attribute "ome" of a new label image, version 0.5.

    Pixel i of level k *is* pixel i * 2^k of level 0, so no level is shifted.

    Parameters
    ----------
    axes
        One letter for each axis, out of "tczyx", in any order.
    units
        Unit of each axis by its letter; no unit for None.
    spacing, translation
        Step and center of the first pixel of level 0, one number for each axis.
    levels
        Number of levels. The two axes of `plane_axes` are halved from one to the next.
    name
        Name of the image.
    source
        Path of the labeled image from the group; None for no image.
    """
    in_plane = plane_axes(axes)
    described = [
        {"name": letter} | _type_of(axes, at) | ({"unit": unit} if (unit := units.get(letter)) else {})
        for at, letter in enumerate(axes)
    ]
    datasets = []
    for level in range(levels):
        factors = [2**level if axis in in_plane else 1 for axis in range(len(axes))]
        scale = {"type": "scale", "scale": [step * by for step, by in zip(spacing, factors, strict=True)]}
        shift = {"type": "translation", "translation": list(translation)}
        datasets.append({"path": str(level), "coordinateTransformations": [scale, shift]})
    multiscale = {"name": name, "type": "nearest", "axes": described, "datasets": datasets}
    label: dict[str, Any] = {} if source is None else {"source": {"image": source}}
    return {"version": VERSION, "multiscales": [multiscale], "image-label": label}


def _type_of(axes: str, at: int) -> dict[str, str]:
    """Return the OME type of an axis, or nothing.

    OME-Zarr 0.5 wants time first, then channels, then space, and common readers refuse types in another order. Labels
    keep the order of their image, so that equal indices are equal pixels: an axis out of order has a name only.
    """
    letter, before = axes[at], set(axes[:at])
    in_order = letter in "zyx" or not before or (letter == "c" and before == {"t"})
    return {"type": AXIS_TYPES[letter]} if in_order else {}


def plane_axes(axes: str) -> tuple[int, int]:
    """Return the axes along which coarser levels are shorter: y and x, else the last two axes of space."""
    if {"y", "x"} <= set(axes):
        return axes.index("y"), axes.index("x")
    *_, row, col = (axis for axis, letter in enumerate(axes) if AXIS_TYPES[letter] == "space")
    return row, col


def with_paths(attributes: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """Return the OME attributes of a group after the arrays of its levels got other paths."""
    ome = ome_attributes(attributes)
    first, *others = ome["multiscales"]
    datasets = [dataset | {"path": path} for dataset, path in zip(first["datasets"], paths, strict=True)]
    multiscales = {"multiscales": [first | {"datasets": datasets}, *others]}
    return {"ome": ome | multiscales} if "ome" in attributes else multiscales
