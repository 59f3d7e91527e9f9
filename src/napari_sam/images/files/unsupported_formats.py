"""Formats recognized by first bytes or names, which are not read without a library or not at all, and what to do."""

from __future__ import annotations

from pathlib import Path

from napari_sam.files.libraries import INSTALL

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
HEAD = 560
CONVERT = "convert it to OME-TIFF or OME-Zarr"
BIOFORMATS = (
    f"{CONVERT} with Fiji (Bio-Formats) or bioformats2raw, or open it in napari with a reader plugin such as "
    "napari-bioformats or napari-bioio-reader and choose its layer"
)
ARRAY = "or read it in Python with {library} and give the array"

# Read if a library is installed, see `images.formats`.
NIFTI = ("a NIfTI volume", f"{INSTALL} nibabel")
DICOM = ("a DICOM file", f"{INSTALL} pydicom")
CZI = ("a Zeiss CZI file", f"{INSTALL} pylibCZIrw")
LIF = ("a Leica LIF file", f"{INSTALL} liffile")
ND2 = ("a Nikon ND2 file", f"{INSTALL} nd2")
MRC = ("an MRC volume", f"{INSTALL} mrcfile")
NRRD = ("an NRRD volume", f"{INSTALL} pynrrd")
HDF5 = ("an HDF5 file", f"{INSTALL} h5py")
META_IMAGE = ("a MetaImage volume", f"{INSTALL} SimpleITK")
N5 = ("an N5 store", f"{INSTALL} z5py")
NETCDF = ("a netCDF file", f"convert it to TIFF, {ARRAY.format(library='xarray')}")
MATLAB = ("a MATLAB file", f"save it as TIFF, {ARRAY.format(library='scipy.io.loadmat')}")
OLYMPUS = ("an Olympus or Evident file", BIOFORMATS)
OLE = ("a compound file (Zeiss ZVI, Olympus OIB or an Office document)", BIOFORMATS)
MICROGRAPH = ("an electron micrograph", f"convert it to TIFF, {ARRAY.format(library='RosettaSciIO')}")
RAW_PHOTO = ("a camera's raw photograph", "develop it to TIFF or PNG, for example with darktable or RawTherapee")
FITS = ("a FITS file", f"convert it to TIFF, {ARRAY.format(library='astropy.io.fits')}")
VIDEO = ("a video", "save its frames as a TIFF stack, for example with Fiji or ffmpeg")
MODERN_PHOTO = ("a HEIF photograph", "convert it to PNG or TIFF")
JPEG_XL = ("a JPEG XL picture", "convert it to PNG or TIFF")
DRAWING = ("a page or drawing (PostScript, PDF, SVG, WMF)", "export it as PNG or TIFF at the resolution you need")
TABLE = ("a text or table", "give the image itself, a .tif, .png, .jpg or .zarr")
ARCHIVE = ("an archive", "unpack it and give the image")
ARRAYS = ("an archive of numpy arrays", "load it in Python with numpy.load and give one of its arrays")
WEIGHTS = ("a file of model weights", "give it as the model, and an image as the image")
OME_XML = ("OME-XML without pixels", "give one of the TIFF files that it describes")
MRXS = ("a slide of the MIRAX format", "convert it to OME-TIFF or OME-Zarr with QuPath or bioformats2raw")
RAW_PIXELS = (
    "raw pixels without a header",
    "read it in Python with numpy.fromfile, give it its shape, and save it as .npy or TIFF",
)

BY_SUFFIX = {
    **dict.fromkeys((".nii", ".nii.gz"), NIFTI),
    **dict.fromkeys((".dcm", ".dicom", ".ima"), DICOM),
    ".czi": CZI,
    **dict.fromkeys((".lif", ".lof", ".xlef"), LIF),
    ".nd2": ND2,
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".rec", ".st", ".ali", ".ccp4"), MRC),
    **dict.fromkeys((".nrrd", ".nhdr"), NRRD),
    **dict.fromkeys((".mha", ".mhd"), META_IMAGE),
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".ims", ".he5"), HDF5),
    ".nc": NETCDF,
    ".mat": MATLAB,
    **dict.fromkeys((".oib", ".oif", ".oir", ".vsi", ".ets"), OLYMPUS),
    **dict.fromkeys((".zvi", ".xls", ".doc"), OLE),
    **dict.fromkeys((".dm3", ".dm4", ".ser", ".emi", ".emd"), MICROGRAPH),
    **dict.fromkeys((".nef", ".cr2", ".cr3", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"), RAW_PHOTO),
    **dict.fromkeys((".fits", ".fit", ".fts"), FITS),
    **dict.fromkeys((".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".m4v"), VIDEO),
    **dict.fromkeys((".heic", ".heif"), MODERN_PHOTO),
    ".jxl": JPEG_XL,
    **dict.fromkeys((".eps", ".ps", ".pdf", ".svg", ".wmf", ".emf", ".ai"), DRAWING),
    **dict.fromkeys((".txt", ".csv", ".tsv", ".json", ".geojson", ".md", ".xml", ".xlsx", ".toml", ".yaml"), TABLE),
    **dict.fromkeys((".jgw", ".tfw", ".pgw", ".wld", ".prj"), TABLE),
    **dict.fromkeys((".zip", ".ozx", ".gz", ".tar", ".tgz", ".bz2", ".xz", ".7z", ".rar"), ARCHIVE),
    ".npz": ARRAYS,
    **dict.fromkeys((".pt", ".pth", ".safetensors", ".ckpt", ".onnx"), WEIGHTS),
    **dict.fromkeys((".companion.ome", ".ome", ".ome.xml"), OME_XML),
    ".mrxs": MRXS,
    **dict.fromkeys((".raw", ".bin"), RAW_PIXELS),
}

# (offset, bytes, format)
BY_MAGIC = (
    (344, b"n+1\x00", NIFTI),
    (344, b"ni1\x00", NIFTI),
    (4, b"n+2\x00", NIFTI),
    (128, b"DICM", DICOM),
    (0, b"ZISRAWFILE", CZI),
    (0, b"\x70\x00\x00\x00", LIF),
    (0, b"\xda\xce\xbe\x0a", ND2),
    (208, b"MAP ", MRC),
    (0, b"NRRD000", NRRD),
    (0, b"ObjectType = Image", META_IMAGE),
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (512, b"\x89HDF\r\n\x1a\n", HDF5),
    (0, b"CDF\x01", NETCDF),
    (0, b"CDF\x02", NETCDF),
    (0, b"MATLAB 5.0", MATLAB),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", OLE),
    (0, b"\x00\x00\x00\x03\x00\x00", MICROGRAPH),
    (0, b"SIMPLE  =", FITS),
    (4, b"ftypheic", MODERN_PHOTO),
    (4, b"ftypheix", MODERN_PHOTO),
    (4, b"ftypmif1", MODERN_PHOTO),
    (4, b"ftypisom", VIDEO),
    (4, b"ftypmp4", VIDEO),
    (4, b"ftypqt", VIDEO),
    (8, b"AVI ", VIDEO),
    (0, b"\x1aE\xdf\xa3", VIDEO),
    (0, b"\xff\x0a", JPEG_XL),
    (0, b"\x00\x00\x00\x0cJXL ", JPEG_XL),
    (0, b"%!PS", DRAWING),
    (0, b"\xc5\xd0\xd3\xc6", DRAWING),
    (0, b"%PDF", DRAWING),
    (0, b"\xd7\xcd\xc6\x9a", DRAWING),
    (0, b"<svg", DRAWING),
    (0, b"PK\x03\x04", ARCHIVE),
    (0, b"\x1f\x8b", ARCHIVE),
    (257, b"ustar", ARCHIVE),
)


def head_of(path: Path, size: int = HEAD) -> bytes:
    """Return the first bytes of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def is_tiff(path: Path) -> bool:
    """Return whether a file begins like a TIFF, whatever its name is."""
    return head_of(path, 4) in TIFF_MAGIC and known_format(path) not in (RAW_PHOTO, OLYMPUS)


def known_format(path: Path) -> tuple[str, str] | None:
    """Return the name of a format that is not read without a library or not at all, and what to do; or None."""
    head = head_of(path)
    by_magic = next((known for at, magic, known in BY_MAGIC if head[at : at + len(magic)] == magic), None)
    name = path.name.lower()
    suffixes = sorted((suffix for suffix in BY_SUFFIX if name.endswith(suffix)), key=len)
    by_suffix = BY_SUFFIX[suffixes[-1]] if suffixes else None
    # Compressed and HDF5 files are containers; their names are more specific than their first bytes.
    return by_suffix if by_magic in (None, ARCHIVE, HDF5, OLE) and by_suffix else by_magic
