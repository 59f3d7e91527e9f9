"""The formats that are read: their names, their libraries, and what is kept and lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from napari_sam.images.dicom.reader import open_dicom
from napari_sam.images.dicom.series import holds_dicom
from napari_sam.images.files import unsupported_formats as known
from napari_sam.images.files.folders import is_n5_folder, is_zarr_folder
from napari_sam.images.microscopy.czi import open_czi
from napari_sam.images.microscopy.lif import open_lif
from napari_sam.images.microscopy.nd2 import open_nd2
from napari_sam.images.source import ImageSource
from napari_sam.images.volumes.hdf5 import open_hdf5
from napari_sam.images.volumes.meta_image import open_meta_image
from napari_sam.images.volumes.mrc import open_mrc
from napari_sam.images.volumes.n5 import open_n5
from napari_sam.images.volumes.nifti import open_nifti
from napari_sam.images.volumes.nrrd import open_nrrd

Open = Callable[[Path, str | None], ImageSource]
"""Opens a file, and of several images in it the one of a name."""


@dataclass(frozen=True, slots=True)
class ReadableFormat:
    """A format of image files.

    Parameters
    ----------
    title
        Its name.
    suffixes
        Endings of its files, those of folders with a slash.
    library
        The package that reads it, as it is installed; None for those that are always there.
    is_lazy
        How much is read at a time.
    keeps, loses
        What of the file is known afterwards, and what is not.
    module
        Name by which the library is imported; None as for `library`.
    recognized
        Entry of the table by which files are recognized; None for formats that `open_image` finds itself.
    open
        Opens a file; None as for `recognized`.
    """

    title: str
    suffixes: tuple[str, ...]
    library: str | None
    is_lazy: str
    keeps: str
    loses: str
    module: str | None = None
    recognized: tuple[str, str] | None = None
    open: Open | None = None

    @property
    def is_installed(self) -> bool:
        """Whether its library is there."""
        return self.module is None or find_spec(self.module) is not None


def _plain(read: Callable[[Path], ImageSource]) -> Open:
    return lambda path, _: read(path)


BODY = "pixel size, unit, place and direction in the body"
FORMATS = (
    ReadableFormat(
        "OME-Zarr and zarr",
        (".zarr/", ".ome.zarr/", ".zip", ".ozx"),
        None,
        "chunk by chunk",
        "levels, axes, pixel size, units, origin, channel names, colors, contrast, labels that can be written into",
        "rotations and shears (refused)",
    ),
    ReadableFormat(
        "TIFF, OME-TIFF, ImageJ, GeoTIFF, whole slides",
        (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".scn", ".qptiff", ".lsm"),
        None,
        "tile by tile; files of up to 64 MiB at once",
        "levels, axes, pixel size, units, channel names, colors, nodata, place on the map (unusual ones by rasterio)",
        "label and macro images of slides",
    ),
    ReadableFormat(
        "pictures",
        (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"),
        None,
        "at once",
        "colors, orientation, frames; with rasterio the place on the map",
        "resolution in dots per inch",
    ),
    ReadableFormat(
        "rasters of GDAL",
        (".vrt", ".jp2", ".img", ".asc", ".nc", ".hdf"),
        "rasterio",
        "block by block",
        "overviews, place on the map, nodata, colors",
        "time and depth without names",
        "rasterio",
    ),
    ReadableFormat("numpy", (".npy",), None, "plane by plane", "the array", "nothing"),
    ReadableFormat(
        "NIfTI",
        (".nii", ".nii.gz", ".hdr"),
        "nibabel",
        "plane by plane; .gz at once",
        f"{BODY}, time step, slope and intercept, colors, header",
        "extensions of the header; axes after the fifth",
        "nibabel",
        known.NIFTI,
        _plain(open_nifti),
    ),
    ReadableFormat(
        "DICOM: a file, or a folder with a series",
        (".dcm", ".ima", "/"),
        "pydicom",
        "frame by frame",
        f"{BODY}, slope and intercept, first window as contrast, white-is-low gray reversed, palettes, colors",
        "overlays, uneven steps of planes; whole slides and segmentations (refused)",
        "pydicom",
        known.DICOM,
        open_dicom,
    ),
    ReadableFormat(
        "NRRD",
        (".nrrd", ".nhdr"),
        "pynrrd",
        "plane by plane; compressed ones at once",
        f"{BODY}, colors, header",
        "text encodings and pixels in several files (refused)",
        "nrrd",
        known.NRRD,
        _plain(open_nrrd),
    ),
    ReadableFormat(
        "MetaImage",
        (".mha", ".mhd"),
        "SimpleITK",
        "plane by plane; compressed ones at once",
        f"{BODY}, colors",
        "time steps; pixels in several files (refused)",
        "SimpleITK",
        known.META_IMAGE,
        _plain(open_meta_image),
    ),
    ReadableFormat(
        "MRC and CCP4",
        (".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".ccp4"),
        "mrcfile",
        "plane by plane",
        "pixel size, origin, order of the axes, header",
        "angles of crystals, extended header",
        "mrcfile",
        known.MRC,
        _plain(open_mrc),
    ),
    ReadableFormat(
        "HDF5, an array as FILE.h5:/PATH",
        (".h5", ".hdf5", ".ims", ".he5"),
        "h5py",
        "chunk by chunk",
        "names of the axes (labels, ilastik), pixel size (element_size_um, attributes as in zarr)",
        "levels of a pyramid: name one array",
        "h5py",
        known.HDF5,
        open_hdf5,
    ),
    ReadableFormat(
        "N5, an array or the levels of an image as FOLDER.n5:/PATH",
        (".n5/",),
        "z5py",
        "chunk by chunk",
        "levels, axes, pixel size, origin and units (attributes of the N5 viewer, Paintera and COSEM)",
        "transformations of BigDataViewer, which are in its XML file",
        "z5py",
        known.N5,
        open_n5,
    ),
    ReadableFormat(
        "Zeiss CZI, a scene as FILE.czi:/0",
        (".czi",),
        "pylibCZIrw",
        "part by part, at any zoom",
        "scenes, colors, pixel size, channel names and colors, mosaics joined",
        "angles, phases, illuminations",
        "pylibCZIrw",
        known.CZI,
        open_czi,
    ),
    ReadableFormat(
        "Leica LIF, an image as FILE.lif:/NAME",
        (".lif", ".lof", ".xlef"),
        "liffile",
        "plane by plane",
        "axes, pixel size, time step",
        "channel names, mosaics (one axis for their tiles)",
        "liffile",
        known.LIF,
        open_lif,
    ),
    ReadableFormat(
        "Nikon ND2",
        (".nd2",),
        "nd2",
        "frame by frame",
        "axes, pixel size, channel names and colors",
        "places of several positions (they become one axis)",
        "nd2",
        known.ND2,
        _plain(open_nd2),
    ),
)


def reader_of(path: Path) -> ReadableFormat | None:
    """Return the format that reads a file or folder by an installed library of its own; None for others."""
    found = _format_of_folder(path) if path.is_dir() else known.known_format(path)
    if found is known.HDF5 and find_spec("h5py") is not None and not _is_hdf5(path):
        return None  # Then GDAL is asked: other rasters have the same endings.
    return next(
        (each for each in FORMATS if each.open and each.recognized is found and found and each.is_installed), None
    )


def _format_of_folder(path: Path) -> tuple[str, str] | None:
    if is_zarr_folder(path):
        return None
    return known.N5 if is_n5_folder(path) else known.DICOM if holds_dicom(path) else None


def is_without_library(path: Path) -> bool:
    """Return whether a file has a format whose library is missing, or which is not read at all."""
    found = known.known_format(path)
    reader = next((each for each in FORMATS if each.recognized is found), None)
    return found is not None and (reader is None or not reader.is_installed)


def _is_hdf5(path: Path) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))
