"""MetaImage files that SimpleITK has written."""

import numpy as np
import pytest

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image

sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed: pip install SimpleITK")

VOXELS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
TURN = (np.cos(0.3), -np.sin(0.3), 0.0, np.sin(0.3), np.cos(0.3), 0.0, 0.0, 0.0, 1.0)


def saved(path, data=VOXELS, *, direction=TURN, compressed=False, vector=False):
    image = sitk.GetImageFromArray(data, isVector=vector)
    if image.GetDimension() == 3:
        image.SetSpacing((0.5, 0.75, 3.0))
        image.SetOrigin((-10.0, -20.0, 30.0))
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path), compressed)
    return path


def read(opened):
    return np.asarray(opened.levels[0][...])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["a.mha", "a.mhd"])
def test_a_meta_image_lies_where_its_header_says(tmp_path, name, compressed):
    path = saved(tmp_path / name, compressed=compressed)
    opened = open_image(path)
    assert (opened.axes, opened.unit) == ("zyx", "millimeter")
    np.testing.assert_array_equal(read(opened), VOXELS)
    assert opened.spacing == pytest.approx((3, 0.75, 0.5))
    image = sitk.ReadImage(str(path))
    for index in ((0, 0, 0), (2, 3, 4)):
        wanted = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((opened.anatomy.matrix @ [*index, 1])[:3], wanted)
    assert isinstance(opened.levels[0], np.memmap) != compressed


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint32", "uint64", "float32", "float64"])
def test_pixels_of_every_type_are_equal(tmp_path, dtype):
    opened = open_image(saved(tmp_path / "a.mha", VOXELS.astype(dtype)))
    assert opened.levels[0].dtype == dtype
    np.testing.assert_array_equal(read(opened), VOXELS.astype(dtype))


def test_pixels_of_another_byte_order_are_equal(tmp_path):
    path = saved(tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("MSB = False", "MSB = True"))
    (tmp_path / "a.raw").write_bytes(VOXELS.astype(">i2").tobytes())
    np.testing.assert_array_equal(read(open_image(path)), VOXELS)


def test_a_header_before_the_pixels_is_left_out(tmp_path):
    path = saved(tmp_path / "a.mhd")
    path.write_text(path.read_text().replace("ElementType", "HeaderSize = 7\nElementType"))
    (tmp_path / "a.raw").write_bytes(b"seven b" + VOXELS.tobytes())
    np.testing.assert_array_equal(read(open_image(path)), VOXELS)


def test_colors_are_colors_and_other_components_are_channels(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8)
    opened = open_image(saved(tmp_path / "a.mha", colors, vector=True))
    assert opened.axes == "yxs"
    np.testing.assert_array_equal(read(opened), colors)
    field = np.random.default_rng(0).random((5, 4, 3, 2), np.float32)
    opened = open_image(saved(tmp_path / "b.mha", field, vector=True))
    assert opened.axes == "zyxc"
    np.testing.assert_array_equal(read(opened), field)


def test_a_flat_and_a_moving_image_have_their_axes(tmp_path):
    assert open_image(saved(tmp_path / "a.mha", VOXELS[0])).axes == "yx"
    opened = open_image(saved(tmp_path / "b.mha", np.stack([VOXELS, VOXELS]), vector=False))
    assert (opened.axes, opened.levels[0].shape, opened.anatomy is None) == ("tzyx", (2, 5, 4, 3), False)


def test_pixels_stay_in_the_folder_of_their_header(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = saved(folder / "a.mhd")
    text = path.read_text()
    (folder / "a.raw").rename(tmp_path / "a.raw")
    with pytest.raises(ImageError, match=r"a\.raw, which is missing"):
        open_image(path)
    path.write_text(text.replace("a.raw", "../a.raw"))
    with pytest.raises(ImageError, match="NAPARI_SAM_ALLOW_OUTSIDE_FILES"):
        open_image(path)
    path.write_text(text.replace("a.raw", "LIST\na0.raw"))
    with pytest.raises(ImageError, match="several files"):
        open_image(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_meta_image_that_is_cut_off_is_refused(tmp_path, compressed):
    noise = np.random.default_rng(0).integers(0, 9999, (16, 32, 32)).astype(np.int16)
    path = saved(tmp_path / "a.mha", noise, compressed=compressed)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ImageError, match="cut off"):
        open_image(path)


def test_damaged_headers_and_volumes_too_large_to_decompress_are_refused(tmp_path):
    path = saved(tmp_path / "a.mha", compressed=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"DimSize = 3 4 5", b"DimSize = 30000 40000 5"))
    with pytest.raises(ImageError, match=r"compressed and holds 11\.2 GiB.*save it without compression"):
        open_image(path)
    path.write_bytes(content.replace(b"ElementType = MET_SHORT", b"ElementType = MET_NOTHING"))
    with pytest.raises(ImageError, match="damaged header"):
        open_image(path)
    path.write_bytes(content[:100])
    with pytest.raises(ImageError, match="damaged header, which names no pixels"):
        open_image(path)
