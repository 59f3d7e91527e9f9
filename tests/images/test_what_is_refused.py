"""Pipes, files that refer elsewhere, folders and foreign formats are refused, in one sentence each."""

from __future__ import annotations

import json
import os
import sys
import zipfile

import numpy as np
import pytest
import tifffile
import zarr

from napari_sam.errors import ImageError
from napari_sam.images import opening
from napari_sam.images.files.external_references import is_beside
from napari_sam.images.formats import readable
from napari_sam.images.ome_zarr import zips
from napari_sam.images.opening import open_image

PIXELS = np.arange(400, dtype=np.uint8).reshape(20, 20)
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


def rejection(path):
    with pytest.raises(ImageError) as caught:
        np.asarray(open_image(path).levels[0][:])
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- pipes and devices: each of these waited without end ---------------------------------------------------------------


@needs_pipes
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.zip", "a.vrt", "a.nii", "a"])
def test_a_pipe_is_no_image(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert "is a pipe and not a file" in rejection(tmp_path / name)


@needs_pipes
@pytest.mark.parametrize("layout", [2, 3])
@pytest.mark.parametrize("is_chunk", [False, True])
def test_a_pipe_inside_a_zarr_is_not_read(tmp_path, layout, is_chunk):
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), chunks=(8, 8), dtype=np.uint8, zarr_format=layout)
    array[:] = 3
    metadata, chunk = {2: (".zarray", "0.0"), 3: ("zarr.json", "c/0/0")}[layout]
    path = tmp_path / "a.zarr" / (chunk if is_chunk else metadata)
    path.unlink()
    os.mkfifo(path)
    assert "is a pipe" in rejection(tmp_path / "a.zarr")


@needs_pipes
@pytest.mark.parametrize("name", ["a.tfw", "a.tif.aux.xml", "a.tif.ovr"])
def test_a_pipe_beside_a_map_is_not_read(tmp_path, name):
    pytest.importorskip("rasterio")
    tags = [(33550, "d", 3, (1.0, 1.0, 0.0), True), (33922, "d", 6, (0.0,) * 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, extratags=tags, metadata=None)
    os.mkfifo(tmp_path / name)
    assert "is a pipe" in rejection(tmp_path / "a.tif")


@pytest.mark.skipif(sys.platform == "win32", reason="devices have other names")
def test_a_device_is_no_image():
    assert "is a device and not a file" in rejection("/dev/zero")


@pytest.mark.parametrize("name", ["a" * 300 + ".tif", "a\0b.tif"])
def test_impossible_names_are_one_sentence(name):
    assert "check the path" in rejection(name)


# -- files that refer elsewhere ----------------------------------------------------------------------------------------


def vrt(source, is_relative=1):
    return (
        '<VRTDataset rasterXSize="20" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="{is_relative}">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.fixture
def folder(tmp_path):
    """A folder with an image in it, and one above it."""
    pytest.importorskip("rasterio")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in ("out.tif", "in/a.tif", "in/sub/b.tif"):
        tifffile.imwrite(tmp_path / name, PIXELS)
    return tmp_path / "in"


@pytest.mark.parametrize("source", ["a.tif", "sub/b.tif", "other.vrt"])
def test_a_virtual_raster_of_files_in_its_folder_is_opened(folder, source):
    (folder / "other.vrt").write_text(vrt("a.tif"))
    (folder / "v.vrt").write_text(vrt(source))
    np.testing.assert_array_equal(open_image(folder / "v.vrt").levels[0][:], PIXELS)


@pytest.mark.parametrize(
    ("source", "is_relative"),
    [
        ("../out.tif", 1),
        ("out.tif", 0),
        ("/etc/hostname", 0),
        ("/vsicurl/http://localhost:9/a.tif", 0),
        ("http://localhost:9/a.tif", 0),
        ("/vsizip/../x.zip/a.tif", 0),
        ('NETCDF:"../x.nc":v', 1),
        ("up.vrt", 1),
        ("inside.tif", 1),
        ("server.tif", 1),
    ],
)
def test_a_virtual_raster_of_other_files_is_opened_on_request_only(folder, monkeypatch, source, is_relative):
    monkeypatch.chdir(folder.parent)
    (folder / "up.vrt").write_text(vrt("../out.tif"))
    (folder / "inside.tif").write_text(vrt("../out.tif"))
    (folder / "server.tif").write_text("<GDAL_WMS><Service name='TMS'/></GDAL_WMS>")
    (folder / "v.vrt").write_text(vrt(source, is_relative))
    assert "NAPARI_SAM_ALLOW_OUTSIDE_FILES=1" in rejection(folder / "v.vrt")
    if source in ("../out.tif", "up.vrt"):
        monkeypatch.setenv("NAPARI_SAM_ALLOW_OUTSIDE_FILES", "1")
        np.testing.assert_array_equal(open_image(folder / "v.vrt").levels[0][:], PIXELS)


@pytest.mark.parametrize("name", ["v.jp2", "v.img", "v.h5"])
def test_a_description_by_the_name_of_a_raster_is_not_followed(folder, name):
    (folder / name).write_text(vrt("../out.tif"))
    assert "NAPARI_SAM_ALLOW_OUTSIDE_FILES=1" in rejection(folder / name)


def test_overviews_elsewhere_are_not_followed(folder):
    (folder / "v.vrt").write_text(vrt("a.tif"))
    item = '<MDI key="OVERVIEW_FILE">/vsicurl/http://localhost:9/a.ovr</MDI>'
    (folder / "v.vrt.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>')
    assert "v.vrt.aux.xml refers to" in rejection(folder / "v.vrt")
    (folder / "v.vrt.aux.xml").unlink()
    (folder / "v.vrt.ovr").write_text(vrt("../out.tif"))
    assert "v.vrt.ovr is not a file of overviews" in rejection(folder / "v.vrt")


def test_entities_in_a_virtual_raster_are_not_expanded(folder):
    (folder / "v.vrt").write_text('<!DOCTYPE l [<!ENTITY a "aaaa">]><VRTDataset>&a;</VRTDataset>')
    assert "defines entities" in rejection(folder / "v.vrt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("b.tif", True),
        ("sub/b.tif", True),
        ("..b.tif", True),
        ("sub/../../b.tif", False),
        (r"..\b.tif", False),
        (r"\\server\share\b.tif", False),
        ("C:/b.tif", False),
        ("file:///b.tif", False),
        ("//server/b.tif", False),
        ("~/b.tif", False),
    ],
)
def test_names_stay_in_the_folder_or_do_not(tmp_path, name, expected):
    assert is_beside(tmp_path / "a.vrt", name) is expected


def test_an_absolute_name_in_the_same_folder_stays_in_it(tmp_path):
    assert is_beside(tmp_path / "a.vrt", str(tmp_path / "sub" / "b.tif"))
    assert not is_beside(tmp_path / "a.vrt", str(tmp_path / ".." / "b.tif"))


# -- what is larger than it seems --------------------------------------------------------------------------------------


def test_a_zip_that_unpacks_to_many_times_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "MAX_MEMBER_BYTES", 2**20)
    metadata = {"zarr_format": 2, "shape": [9, 9], "chunks": [9, 9], "dtype": "|u1", "order": "C"}
    metadata |= {"compressor": None, "fill_value": 0, "filters": None}
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(".zarray", json.dumps(metadata))
        archive.writestr("0.0", bytes(2**22))
    assert "0.0, which unpacks to 4 MiB" in rejection(tmp_path / "a.zip")


@pytest.mark.parametrize("is_zip", [True, False])
def test_metadata_of_many_megabytes_are_not_read(tmp_path, monkeypatch, is_zip):
    for module in ("zips", "folder"):
        monkeypatch.setattr(f"napari_sam.images.ome_zarr.{module}.MAX_METADATA_BYTES", 1000)
    text = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {"a": "b" * 2000}})
    if is_zip:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("zarr.json", text)
    else:
        (tmp_path / "a.zip").mkdir()
        (tmp_path / "a.zip" / "zarr.json").write_text(text)
    assert "zarr.json" in rejection(tmp_path / "a.zip")


def test_chunks_that_no_memory_holds_are_refused_when_the_image_is_opened(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    metadata = {"zarr_format": 2, "shape": [10**9] * 2, "chunks": [10**9] * 2, "dtype": "|u1", "order": "C"}
    metadata |= {"compressor": None, "fill_value": 0, "filters": None}
    (tmp_path / "a.zarr" / ".zarray").write_text(json.dumps(metadata))
    assert "stored in chunks of" in rejection(tmp_path / "a.zarr")


def test_a_numpy_file_that_claims_more_than_it_holds_is_refused(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000000), }".ljust(118) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header + bytes(50))
    assert "cannot be read as an image" in rejection(tmp_path / "a.npy")


# -- formats and folders -----------------------------------------------------------------------------------------------


def at(offset, magic):
    return bytes(offset) + magic + bytes(600)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mat", b"MATLAB 5.0 MAT-file" + bytes(200), ["MATLAB"]),
        ("a.oib", at(0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), ["Olympus"]),
        ("a.dm4", bytes(50), ["electron"]),
        ("a.heic", at(4, b"ftypheic"), ["HEIF", "PNG"]),
        ("a.mp4", at(4, b"ftypisom"), ["video"]),
        ("a.pdf", b"%PDF-1.4", ["PDF", "export"]),
        ("a.geojson", b"{}", ["text or table"]),
        ("a.npz", b"PK\x03\x04" + bytes(50), ["numpy.load"]),
        ("a.pt", b"PK\x03\x04" + bytes(50), ["weights"]),
    ],
)
def test_formats_of_other_programs_are_named_with_the_way_to_use_them(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    message = rejection(tmp_path / name)
    assert "cannot be read as an image" in message
    assert "is it complete" not in message
    assert all(word in message for word in words)


HEADS = [
    ("a.nii", at(344, b"n+1\0"), "a NIfTI volume: pip install nibabel."),
    ("a.nii.gz", b"\x1f\x8b" + bytes(50), "a NIfTI volume: pip install nibabel."),
    ("scan", at(344, b"n+1\0"), "a NIfTI volume: pip install nibabel."),
    ("a.dcm", at(128, b"DICM"), "a DICOM file: pip install pydicom."),
    ("IM0001", at(128, b"DICM"), "a DICOM file: pip install pydicom."),
    ("a.czi", at(0, b"ZISRAWFILE"), "a Zeiss CZI file: pip install pylibCZIrw."),
    ("a.lif", at(0, b"\x70\0\0\0"), "a Leica LIF file: pip install liffile."),
    ("a.nd2", at(0, b"\xda\xce\xbe\x0a"), "a Nikon ND2 file: pip install nd2."),
    ("a.mrc", bytes(2000), "an MRC volume: pip install mrcfile."),
    ("volume", at(208, b"MAP "), "an MRC volume: pip install mrcfile."),
    ("a.nrrd", b"NRRD0004\n" + bytes(50), "an NRRD volume: pip install pynrrd."),
    ("a.mha", b"ObjectType = Image\n", "a MetaImage volume: pip install SimpleITK."),
    ("a.ims", at(0, b"\x89HDF\r\n\x1a\n"), "an HDF5 file: pip install h5py."),
]


@pytest.mark.parametrize(("name", "content", "end"), HEADS)
def test_a_format_whose_library_is_missing_names_what_to_install(tmp_path, monkeypatch, name, content, end):
    monkeypatch.setattr(readable, "find_spec", lambda _: None)
    (tmp_path / name).write_bytes(content)
    assert rejection(tmp_path / name) == f"{tmp_path / name} cannot be read as an image directly, since it is {end}"


@pytest.mark.parametrize(("name", "content", "_"), HEADS)
def test_a_broken_file_of_a_format_with_a_library_is_said_to_be_damaged(tmp_path, name, content, _):
    (tmp_path / name).write_bytes(content)
    message = rejection(tmp_path / name)
    assert name in message
    assert any(word in message for word in ("damaged", "cut off", "no image", "without an image", "no pixels", "has 0"))


def test_a_broken_file_of_a_format_that_is_read_may_be_incomplete(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    assert "is it complete" in rejection(tmp_path / "a.png")


def test_an_hdf5_without_rasterio_names_both_ways(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "has_rasterio", lambda: False)
    monkeypatch.setattr(readable, "find_spec", lambda _: None)
    (tmp_path / "a.h5").write_bytes(at(0, b"\x89HDF\r\n\x1a\n"))
    message = rejection(tmp_path / "a.h5")
    assert "pip install rasterio" in message
    assert "h5py" in message


def make_tiffs(folder):
    for number in range(3):
        tifffile.imwrite(folder / f"z{number}.tif", PIXELS)


def make_zarr(folder, *names):
    for name in names:
        zarr.create_array(folder / name, shape=(8, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, ["empty folder"]),
        (make_tiffs, ["3 TIFF files", "z0.tif", "Image Sequence"]),
        (lambda folder: tifffile.imwrite(folder / "only.tiff", PIXELS), ["one TIFF file", "only.tiff"]),
        (lambda folder: make_zarr(folder, "inner.zarr"), ["around a zarr", "inner.zarr"]),
        (lambda folder: make_zarr(folder, "a", "b"), ["2 zarrs"]),
        (lambda folder: (folder / "IM1").write_bytes(at(128, b"DICM")), ["IM1", "DICOM", "without an image"]),
        (lambda folder: (folder / "attributes.json").write_text("{}"), ["N5"]),
        (lambda folder: (folder / "notes.txt").write_text("text"), ["not a zarr", "notes.txt"]),
    ],
)
def test_a_folder_is_explained_by_what_it_holds(tmp_path, make, words):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    message = rejection(folder)
    assert all(word in message for word in words), message
    assert "metadata" not in message
