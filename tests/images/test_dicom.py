"""DICOM files that pydicom has written: series in their order, values, windows, colors, and what is refused."""

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, generate_uid

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

SERIES = generate_uid(entropy_srcs=["one series"])
PIXELS = np.random.default_rng(0).integers(0, 4000, (4, 6, 8)).astype(np.uint16)


def dataset(pixels, position=None, *, number=1, series=SERIES, syntax=ExplicitVRLittleEndian, **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = Dataset()
    made.file_meta = meta
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    made.SeriesInstanceUID, made.SeriesNumber, made.InstanceNumber = series, 3, number
    made.Rows, made.Columns = pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = 8 * pixels.dtype.itemsize
    made.BitsStored = elements.pop("BitsStored", 12 if pixels.dtype == np.uint16 else made.BitsAllocated)
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if position is not None:
        made.ImagePositionPatient = list(map(float, position))
        made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        made.PixelSpacing = [0.5, 0.25]
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def save(path, made):
    made.save_as(path, enforce_file_format=True)
    return path


def write_series(folder, planes=PIXELS, step=3.0, skip=(), **elements):
    """Write planes upwards, in names that are in another order."""
    folder.mkdir(exist_ok=True)
    for z, plane in enumerate(planes):
        if z not in skip:
            name = f"IM{(7 * z) % 11:03d}"
            save(folder / name, dataset(plane, (-10, -20, 100 + step * z), number=99 - z, **elements))
    return folder


def test_a_series_is_sorted_by_its_place_in_the_body(tmp_path):
    opened = open_image(write_series(tmp_path / "scan"))
    assert opened.axes == "zyx"
    assert opened.spacing == pytest.approx((3, 0.5, 0.25))
    assert opened.origin == pytest.approx((100, -20, -10))
    assert opened.unit == "millimeter"
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), PIXELS)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][2, 1:4, 5]), PIXELS[2, 1:4, 5])
    np.testing.assert_allclose((opened.anatomy.matrix @ [4, 2, 3, 1])[:3], [-10 + 4 * 0.25, -20 + 2 * 0.5, 109])


def test_only_the_planes_that_are_asked_for_are_decoded(tmp_path, monkeypatch):
    from napari_sam.images.dicom import frames

    opened = open_image(write_series(tmp_path / "scan"))
    read = []
    plain = frames.decoded
    monkeypatch.setattr(frames, "decoded", lambda frame, side: read.append(frame) or plain(frame, side))
    for _ in range(2):
        np.asarray(opened.levels[0][1, :3])
    assert len(read) == 1


def test_hounsfield_units_stay_whole_and_the_window_is_the_contrast(tmp_path):
    path = write_series(
        tmp_path / "scan", RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 500], WindowWidth=[400, 2000]
    )
    volume = Volume.of(path)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume.read(volume_plane(volume, 1), whole(volume)), PIXELS[1].astype(int) - 1024)
    (low, high), *_ = volume.rendering().limits
    assert (low, high) == pytest.approx((-160, 239))


def volume_plane(volume, z):
    from napari_sam.core.geometry import Plane

    return Plane.of(volume.shape, z, volume.plane_axes)


def whole(volume):
    from napari_sam.core.geometry import Box

    return Box.of_shape(volume.shape[-2:])


def test_gray_of_which_0_is_white_is_reversed(tmp_path):
    made = dataset(PIXELS[0], (0, 0, 0), PhotometricInterpretation="MONOCHROME1", WindowCenter=1000.5, WindowWidth=1001)
    opened = open_image(save(tmp_path / "a.dcm", made))
    assert opened.axes == "yx"
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), 4095 - PIXELS[0])
    assert opened.windows == ((4095 - 1500, 4095 - 500),)


def test_signed_numbers_are_signed(tmp_path):
    pixels = (PIXELS[0].astype(np.int16)) - 2000
    opened = open_image(save(tmp_path / "a.dcm", dataset(pixels, BitsStored=16)))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), pixels)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEG2000Lossless, lambda plane: imagecodecs.jpeg2k_encode(plane, level=0, codecformat="j2k", reversible=True)),
        (JPEGLosslessSV1, imagecodecs.ljpeg_encode),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
    ],
)
def test_compressed_frames_are_decoded_without_another_library(tmp_path, syntax, encode):
    made = dataset(PIXELS[0], syntax=syntax)
    made.PixelData = encapsulate([encode(PIXELS[0])])
    opened = open_image(save(tmp_path / "a.dcm", made))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), PIXELS[0])


def test_frames_of_a_film_follow_one_another_in_time(tmp_path):
    made = dataset(PIXELS, NumberOfFrames=4, FrameTime=40)
    opened = open_image(save(tmp_path / "a.dcm", made))
    assert (opened.axes, opened.levels[0].shape) == ("tyx", PIXELS.shape)
    np.testing.assert_array_equal(np.asarray(opened.levels[0][3]), PIXELS[3])


def test_colors_are_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    made = dataset(colors[..., 0], SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    made.PixelData = colors.tobytes()
    opened = open_image(save(tmp_path / "a.dcm", made))
    assert opened.axes == "yxs"
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), colors)


def enhanced(order):
    """Return all planes in one file, in the given order."""
    made = dataset(PIXELS[list(order)], NumberOfFrames=4)
    measures, along = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.25], 3
    along.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [along]
    made.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for z in order:
        place, group = Dataset(), Dataset()
        place.ImagePositionPatient = [-10, -20, 100 + 3.0 * z]
        group.PlanePositionSequence = [place]
        groups.append(group)
    made.PerFrameFunctionalGroupsSequence = groups
    return made


def test_frames_of_an_enhanced_file_are_sorted_by_place(tmp_path):
    opened = open_image(save(tmp_path / "a.dcm", enhanced([2, 0, 3, 1])))
    assert opened.axes == "zyx"
    assert opened.spacing == pytest.approx((3, 0.5, 0.25))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), PIXELS)


def test_images_at_one_place_are_times(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for t in range(2):
        for z in range(3):
            made = dataset(PIXELS[z] + t, (0, 0, 2.0 * z), number=10 * z + t, TemporalPositionIdentifier=t + 1)
            save(folder / f"{t}{z}", made)
    opened = open_image(folder)
    assert (opened.axes, opened.levels[0].shape) == ("tzyx", (2, 3, 6, 8))
    np.testing.assert_array_equal(np.asarray(opened.levels[0][1, 2]), PIXELS[2] + 1)
    (folder / "12").unlink()
    with pytest.raises(ImageError, match="1 to 2 images at one place"):
        open_image(folder)


def test_missing_planes_are_refused(tmp_path):
    with pytest.raises(ImageError, match=r"lacks 1 of its planes, the first between 100\.0 and 106\.0 mm"):
        open_image(write_series(tmp_path / "scan", skip=[1]))


def test_two_series_in_a_folder_are_told_apart(tmp_path):
    folder = write_series(tmp_path / "scan")
    for z in range(2):
        other = dataset(PIXELS[z] // 2, (0, 0, 5.0 * z), series="1.2.3", SeriesNumber=7, SeriesDescription="thin")
        other.SeriesNumber, other.SeriesDescription = 7, "thin"
        save(folder / f"other{z}", other)
    with pytest.raises(ImageError, match=r"2 series: .*number 7 'thin' \(2 images\).*:/3"):
        open_image(folder)
    opened = open_image(f"{folder}:/7")
    np.testing.assert_array_equal(np.asarray(opened.levels[0][:]), PIXELS[:2] // 2)
    np.testing.assert_array_equal(np.asarray(open_image(f"{folder}:/3").levels[0][:]), PIXELS)
    with pytest.raises(ImageError, match="no such series"):
        open_image(f"{folder}:/8")


def test_copies_and_other_files_in_the_folder_do_not_count(tmp_path):
    folder = write_series(tmp_path / "scan")
    (folder / "copy").write_bytes((folder / "IM000").read_bytes())
    (folder / "notes.txt").write_text("text")
    assert open_image(folder).levels[0].shape == PIXELS.shape


def test_a_file_that_is_cut_off_is_said_to_be_damaged(tmp_path):
    path = save(tmp_path / "a.dcm", dataset(PIXELS[0]))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageError, match="damaged or cut off"):
        np.asarray(open_image(path).levels[0][:])


@pytest.mark.parametrize(
    ("kind", "words"),
    [("1.2.840.10008.5.1.4.1.1.66.4", "segmentation"), ("1.2.840.10008.5.1.4.1.1.77.1.6", "whole slide")],
)
def test_what_is_no_image_of_its_own_is_named(tmp_path, kind, words):
    made = dataset(PIXELS[0], SOPClassUID=kind)
    made.file_meta.MediaStorageSOPClassUID = kind
    with pytest.raises(ImageError, match=words):
        open_image(save(tmp_path / "a.dcm", made))


def test_the_files_go_into_the_metadata_of_a_layer(tmp_path):
    opened = open_image(write_series(tmp_path / "scan"))
    first = pydicom.dcmread(opened.metadata["dicom_files"][0])
    assert first.SeriesInstanceUID == SERIES
