"""DICOM segmentations: read back by highdicom and pydicom, in the place of the scan, segment by segment."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from napari_sam import export_labels
from napari_sam.core.geometry import Box, Plane
from napari_sam.core.masks import Mask
from napari_sam.errors import LabelsError, OutputError
from napari_sam.exports.formats import suitable_formats
from napari_sam.exports.source import ExportSource, Place
from napari_sam.images.volume import Volume
from napari_sam.journal.journal import Journal
from napari_sam.labels.array import LabelArray
from napari_sam.labels.pyramid import LabelPyramid

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("highdicom") is None, reason="pip install highdicom"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom"),
]

SHAPE = (5, 12, 16)
ELEMENTS = {
    "PatientName": "Doe^Jane", "PatientID": "7", "PatientBirthDate": "", "PatientSex": "", "StudyID": "1",
    "StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": "", "ReferringPhysicianName": "",
    "Modality": "CT", "Manufacturer": "x", "SliceThickness": 2.0, "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "PixelSpacing": [0.5, 0.25], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16, "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "RescaleSlope": 1,
    "RescaleIntercept": -1024, "PositionReferenceIndicator": "",
}  # fmt: skip


@pytest.fixture(params=[(1, 0, 0, 0, 1, 0), (0.8, 0.6, 0, 0, 0, -1)], ids=["axial", "oblique"])
def scan(request, tmp_path):
    """The folder of a series, whose files are in no order."""
    folder = tmp_path / "scan"
    folder.mkdir()
    study, series, frame = (generate_uid() for _ in range(3))
    normal = np.cross(request.param[:3], request.param[3:])
    for z in range(SHAPE[0]):
        made = Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = CTImageStorage
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = study, series, frame
        made.SeriesNumber, made.InstanceNumber = 3, SHAPE[0] - z
        made.Rows, made.Columns = SHAPE[1:]
        made.ImageOrientationPatient = list(request.param)
        made.ImagePositionPatient = (np.array([-10, -20, 30]) + 2 * z * normal).tolist()
        for name, value in ELEMENTS.items():
            setattr(made, name, value)
        made.PixelData = np.full(SHAPE[1:], 100 * z, np.uint16).tobytes()
        made.save_as(folder / f"IM{(3 * z) % 7}", enforce_file_format=True)
    return folder


@pytest.fixture
def labels():
    found = np.zeros(SHAPE, np.uint16)
    found[1:4, 2:6, 3:9] = 3
    found[2, 3:5, 4:6] = 0
    found[0, 8:11, 10:15] = 700
    found[4, 11, 15] = 9
    return found


def test_segments_are_the_objects_in_the_place_of_the_scan(tmp_path, scan, labels):
    import highdicom

    assert export_labels(labels, tmp_path / "seg.dcm", image=scan).count == 3
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert (str(seg.PatientName), seg.PatientID, seg.SegmentationType) == ("Doe^Jane", "7", "BINARY")
    assert [str(each.SegmentLabel) for each in seg.SegmentSequence] == ["3", "9", "700"]
    volume = seg.get_volume(combine_segments=True, allow_missing_positions=True)
    wanted = highdicom.get_volume_from_series([pydicom.dcmread(path) for path in scan.iterdir()])
    matched = volume.match_geometry(wanted)
    numbers = np.array([0, 3, 9, 700])[matched.array]
    own = np.asarray(Volume.of(scan).array)[:, 0, 0]
    # highdicom may count planes the other way: each is that of the same pixels.
    theirs = wanted.array[:, 0, 0]
    assert np.array_equal(numbers if theirs[0] == own[0] else numbers[::-1], labels)
    plain = pydicom.dcmread(tmp_path / "seg.dcm")
    assert plain.FrameOfReferenceUID == pydicom.dcmread(next(scan.iterdir())).FrameOfReferenceUID
    pixels = plain.pixel_array.reshape(-1, *SHAPE[1:])
    for frame, functional in zip(pixels, plain.PerFrameFunctionalGroupsSequence, strict=True):
        number = functional.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        at = np.array(functional.PlanePositionSequence[0].ImagePositionPatient, float)
        z = round(float(np.linalg.norm(at - [-10, -20, 30])) / 2)
        assert np.array_equal(frame > 0, labels[z] == (3, 9, 700)[number - 1])


def test_classes_name_and_color_the_segments(tmp_path, scan):
    path = tmp_path / "work.ome.zarr"
    target = LabelArray(LabelPyramid.create(path, SHAPE))
    with Journal(path.with_name("work.ome.zarr.journal"), target) as journal:
        box = Box(2, 3, 6, 9)
        mask = Mask(box, np.ones(box.pixel_shape, bool), 0.8, 0.9)
        journal.accept(Plane.of(SHAPE, (2,)), mask, class_name="Läsion")
    export_labels(path, tmp_path / "seg.dcm", image=scan)
    segment = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence[0]
    assert segment.SegmentLabel == "1 Läsion"
    assert len(segment.RecommendedDisplayCIELabValue) == 3
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"


def test_only_labels_of_dicom_images_become_segmentations(tmp_path, scan, labels):
    with pytest.raises(OutputError, match=r"is of a DICOM image, and this is none: export \.nii\.gz or \.nrrd"):
        export_labels(labels, tmp_path / "seg.dcm")
    place = Place.of(Volume.of(scan), scan)
    assert "DICOM segmentation" in [form.name for form in suitable_formats(ExportSource(labels, place))]
    assert "DICOM segmentation" not in [form.name for form in suitable_formats(ExportSource(labels))]
    with pytest.raises(LabelsError, match="holds 1 to 65535 objects, and there are 0"):
        export_labels(labels * 0, tmp_path / "seg.dcm", image=scan)
    assert not (tmp_path / "seg.dcm").exists()


def test_an_image_that_lacks_what_the_standard_asks_for_is_said(tmp_path, scan, labels):
    for path in scan.iterdir():
        made = pydicom.dcmread(path)
        del made.FrameOfReferenceUID
        made.save_as(path)
    with pytest.raises(OutputError, match=r"does not say what a segmentation of it needs .*: export \.nii\.gz\.$"):
        export_labels(labels, tmp_path / "seg.dcm", image=scan)


def test_labels_of_a_layer_know_the_files_of_their_image(tmp_path, scan, labels):
    pytest.importorskip("napari", reason="napari is not installed: pip install '.[gui]'")
    from napari_sam.exports.exporting import export
    from napari_sam.exports.options import ExportOptions
    from napari_sam.plugin.exports.layer_source import source_of_layer
    from napari_sam.plugin.reader import read_layers

    _, attributes, _ = read_layers(str(scan))[0]
    source = source_of_layer(labels, attributes)
    own = source.place.dicom[0]
    before = own.read_bytes()
    own_name = own.rename(own.with_name("first.dcm"))
    renamed = replace(source.place, dicom=(own_name, *source.place.dicom[1:]))
    with pytest.raises(OutputError, match="DICOM image"):
        export(ExportSource(labels, renamed), own_name, ExportOptions(overwrite=True))
    assert own_name.rename(own).read_bytes() == before
    export(source, tmp_path / "layer.dcm", ExportOptions())
    export_labels(labels, tmp_path / "path.dcm", image=scan)
    first, second = (pydicom.dcmread(tmp_path / name) for name in ("layer.dcm", "path.dcm"))
    assert np.array_equal(first.pixel_array, second.pixel_array)
    places = [
        [frame.PlanePositionSequence[0].ImagePositionPatient for frame in each.PerFrameFunctionalGroupsSequence]
        for each in (first, second)
    ]
    assert places[0] == places[1]
