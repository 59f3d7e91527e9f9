"""Images on the earth as layers: where pixels lie, natural colors, bands, and what labels take over."""

import nibabel
import numpy as np
import pytest
from napari.components import ViewerModel

from napari_sam.errors import ImageError
from napari_sam.images.formats import readable
from napari_sam.plugin.layers.factory import make_labels
from napari_sam.plugin.reader import get_reader, read_layers

rasterio = pytest.importorskip("rasterio")
from affine import Affine  # noqa: E402  # rasterio brings it.

NORTH_UP = Affine(10, 0, 500_000, 0, -10, 5_800_000)
SHEARED = Affine(10, 2, 500_000, 1, -10, 5_800_000)
BANDS = np.random.default_rng(0).integers(200, 3000, (4, 60, 80)).astype(np.uint16)


def write(path, bands=BANDS, transform=NORTH_UP, crs="EPSG:32633", nodata=None, names=()):
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    profile |= {"dtype": bands.dtype, "crs": crs, "transform": transform, "nodata": nodata}
    with rasterio.open(path, "w", **profile) as file:
        file.write(bands)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return path


def shown(path):
    """Return the layers of a file in a viewer."""
    viewer = ViewerModel()
    for data, options, kind in get_reader(str(path))(str(path)):
        assert kind == "image"
        viewer.add_image(data, **options)
    return list(viewer.layers)


@pytest.mark.parametrize("transform", [NORTH_UP, SHEARED])
def test_a_pixel_lies_where_rasterio_says(tmp_path, transform):
    *_, colors = shown(write(tmp_path / "a.tif", transform=transform))
    for row, col in ((0, 0), (59, 79), (20, 3)):
        with rasterio.open(tmp_path / "a.tif") as file:
            x, y = file.xy(row, col)
        south, east = colors.data_to_world((row, col))
        assert (-south, east) == pytest.approx((y, x), abs=1e-6)
    assert [str(unit) for unit in colors.units] == ["meter", "meter"]


def test_four_bands_are_one_picture_in_natural_colors_and_hidden_bands(tmp_path):
    *bands, colors = shown(write(tmp_path / "scene.tif", names=["red", "green", "blue", "near infrared"]))
    assert (colors.name, colors.rgb, colors.visible) == ("scene", True, True)
    assert [(layer.name, layer.visible) for layer in bands] == [
        (f"scene {name}", False) for name in ("red", "green", "blue", "near infrared")
    ]
    pixels = np.asarray(colors.data)
    assert pixels.shape == (60, 80, 3)
    low, high = np.percentile(BANDS[1], (0.5, 99.5))
    expected = np.clip((BANDS[1] - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(pixels[..., 1], expected, atol=1)
    np.testing.assert_array_equal(np.asarray(bands[3].data), BANDS[3])


def test_pixels_without_a_value_do_not_count_for_the_contrast(tmp_path):
    gray = BANDS[:1].copy()
    gray[:, :40] = 65535
    (layer,) = shown(write(tmp_path / "a.tif", gray, nodata=65535))
    assert layer.contrast_limits == pytest.approx(list(np.percentile(BANDS[0, 40:], (0.5, 99.5))), abs=1)


def test_pixels_that_are_too_small_for_the_graphics_card_keep_their_size(tmp_path):
    (layer,) = shown(write(tmp_path / "a.tif", BANDS[:1], Affine(0.1, 0, 500_000, 0, -0.1, 5_800_000)))
    assert layer.scale.tolist() == pytest.approx([0.1, 0.1])
    assert layer.translate.tolist() == [0, 0]
    assert layer.metadata["transform"][2] == 500_000


def test_degrees_are_no_lengths(tmp_path):
    place = Affine(0.001, 0, 14, 0, -0.001, 52)
    (layer,) = shown(write(tmp_path / "a.tif", BANDS[:1], place, "EPSG:4326"))
    assert str(layer.units[0]) == "pixel"
    assert layer.data_to_world((0, 0)) == pytest.approx((-51.9995, 14.0005))


def test_labels_take_over_the_place_and_the_metadata(tmp_path):
    *_, colors = shown(write(tmp_path / "a.tif"))
    labels = make_labels(colors)
    assert labels.data_to_world((5, 6)) == pytest.approx(colors.data_to_world((5, 6)))
    assert "32633" in labels.metadata["crs"]
    assert labels.metadata["transform"] == tuple(NORTH_UP)[:6]


def test_labels_of_a_nifti_volume_carry_its_header_and_affine(tmp_path):
    affine = np.diag([0.5, 0.75, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 4, 3), np.int16), affine), tmp_path / "ct.nii.gz")
    (layer,) = shown(tmp_path / "ct.nii.gz")
    labels = make_labels(layer)
    assert labels.scale.tolist() == pytest.approx([3, -0.75, -0.5])
    np.testing.assert_allclose(labels.metadata["affine"], affine)
    assert labels.metadata["header"]["pixdim"][3] == 3


def test_a_dicom_series_has_its_window_as_contrast(tmp_path):
    from tests.images.test_dicom import write_series

    folder = write_series(tmp_path / "scan", RescaleIntercept=-1024, RescaleSlope=1, WindowCenter=40, WindowWidth=400)
    ((_, options, kind),) = read_layers(str(folder))
    assert (kind, options["contrast_limits"]) == ("image", pytest.approx((-160, 239)))


def test_a_missing_library_is_named_when_the_file_is_opened(tmp_path, monkeypatch):
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 4, 3), np.int16), np.eye(4)), tmp_path / "ct.nii")
    monkeypatch.setattr(readable, "find_spec", lambda _: None)
    with pytest.raises(ImageError, match="pip install nibabel"):
        get_reader(str(tmp_path / "ct.nii"))(str(tmp_path / "ct.nii"))
    (tmp_path / "broken.tif").write_bytes(b"II*\0 nothing")
    assert get_reader(str(tmp_path / "broken.tif")) is None
