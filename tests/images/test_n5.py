"""N5 stores that z5py and tensorstore have written."""

import json
import struct

import numpy as np
import pytest
import tensorstore

from napari_sam.cli.many_images import sources_of
from napari_sam.errors import ImageError
from napari_sam.images.formats import readable
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

z5py = pytest.importorskip("z5py", reason="z5py is not installed: pip install z5py")

VOXELS = np.arange(5 * 40 * 30, dtype=np.uint16).reshape(5, 40, 30)
CODECS = ["raw", "gzip", "blosc", "bzip2", "zstd", "xz", "lz4"]


def attributes_of(folder, **added):
    path = folder / "attributes.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(found | added))


def saved(path, name="data", data=VOXELS, compression="gzip", **attributes):
    """Write an array of an N5 store; attributes count along x, y and z."""
    with z5py.N5File(str(path), "a") as file:
        file.create_dataset(name, data=data, chunks=(2, 16, 16)[-data.ndim :], compression=compression)
    attributes_of(path / name, **attributes)
    return path


def read(opened, key=..., level=0):
    return np.asarray(opened.levels[level][key])


@pytest.mark.parametrize("codec", CODECS)
def test_an_array_of_any_compression_has_its_pixels_in_the_order_of_planes_rows_and_columns(tmp_path, codec):
    opened = open_image(f"{saved(tmp_path / 'a.n5', 'raw/cells', compression=codec)}:/raw/cells")
    np.testing.assert_array_equal(read(opened), VOXELS)
    np.testing.assert_array_equal(read(opened, (3, slice(30, 4, -5), slice(1, None, 7))), VOXELS[3, 30:4:-5, 1::7])
    assert read(opened, (slice(2, 2),)).shape == (0, 40, 30)
    assert opened.levels[0].chunks == (2, 16, 16)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint32", "uint64", "float32", "float64"])
def test_an_array_that_tensorstore_has_written_is_read(tmp_path, dtype):
    spec = {"driver": "n5", "kvstore": {"driver": "file", "path": f"{tmp_path / 'a.n5' / 'data'}/"}}
    metadata = {"blockSize": [16, 16, 2], "compression": {"type": "gzip"}}
    store = tensorstore.open(
        spec | {"metadata": metadata}, create=True, dtype=getattr(tensorstore, dtype), shape=[30, 40, 5]
    ).result()
    store[...] = VOXELS.T.astype(dtype)
    opened = open_image(tmp_path / "a.n5")
    assert opened.levels[0].dtype == dtype
    np.testing.assert_array_equal(read(opened), VOXELS.astype(dtype))


def test_blocks_are_big_endian_with_a_header_as_the_specification_says(tmp_path):
    folder = tmp_path / "a.n5" / "data"
    (folder / "0").mkdir(parents=True)
    description = {"dimensions": [3, 2], "blockSize": [3, 2], "dataType": "int32", "compression": {"type": "raw"}}
    attributes_of(folder, **description)
    (folder / "0" / "0").write_bytes(struct.pack(">HHII6i", 0, 2, 3, 2, *range(-3, 3)))
    np.testing.assert_array_equal(read(open_image(tmp_path / "a.n5")), np.arange(-3, 3).reshape(2, 3))


def test_only_the_blocks_of_a_part_are_read(tmp_path):
    path = saved(tmp_path / "a.n5")
    opened = open_image(path)
    for block in (path / "data").glob("0/0/*"):
        if block.name != "1":
            block.write_bytes(b"damaged")
    np.testing.assert_array_equal(read(opened, (slice(2, 4), slice(0, 16), slice(0, 16))), VOXELS[2:4, :16, :16])
    with pytest.raises(ImageError, match="damaged block"):
        read(opened, (0, slice(0, 16), slice(0, 16)))


@pytest.mark.parametrize(
    ("attributes", "unit", "spacing", "origin"),
    [
        ({"resolution": [0.5, 0.75, 3]}, None, (3, 0.75, 0.5), None),
        ({"resolution": [4, 4, 40], "offset": [10, 20, 30]}, None, (40, 4, 4), (30, 20, 10)),
        ({"pixelResolution": {"dimensions": [0.5, 0.75, 3], "unit": "um"}}, "micrometer", (3, 0.75, 0.5), None),
        ({"transform": {"axes": ["z", "y", "x"], "scale": [3, 0.75, 0.5], "translate": [1, 0, 0],
                        "units": ["nm"] * 3}}, "nanometer", (3, 0.75, 0.5), (1, 0, 0)),
    ],
)  # fmt: skip
def test_pixel_sizes_of_all_usual_attributes_are_known(tmp_path, attributes, unit, spacing, origin):
    opened = open_image(saved(tmp_path / "a.n5", **attributes))
    assert (opened.axes, opened.unit) == ("zyx", unit)
    assert opened.spacing == pytest.approx(spacing)
    assert opened.origin == (None if origin is None else pytest.approx(origin))


def test_the_axes_of_an_array_are_those_that_it_names(tmp_path):
    opened = open_image(
        saved(tmp_path / "a.n5", axes=["x", "y", "t"], resolution=[0.5, 0.75, 3], units=["um", "um", "second"])
    )
    assert (opened.axes, opened.unit, opened.time_unit) == ("tyx", "micrometer", "second")


def test_the_levels_of_a_pyramid_are_one_image(tmp_path):
    path = tmp_path / "a.n5"
    for level in range(3):
        name = f"setup0/s{level}"
        saved(path, name, VOXELS[:, :: 2**level, :: 2**level], downsamplingFactors=[2**level, 2**level, 1])
    attributes_of(path / "setup0", resolution=[0.5, 0.75, 3])
    for given in (path, f"{path}:/setup0", path / "setup0"):
        opened = open_image(given)
        assert [level.shape for level in opened.levels] == [(5, 40, 30), (5, 20, 15), (5, 10, 8)]
        assert opened.factors == ((1, 1, 1), (1, 2, 2), (1, 4, 4))
        assert opened.spacing == pytest.approx((3, 0.75, 0.5))
    assert len(open_image(f"{path}:/setup0/s1").levels) == 1
    assert Volume.of(path).shape == (5, 40, 30)


def test_several_arrays_are_listed_and_one_is_named(tmp_path):
    path = saved(tmp_path / "a.n5", "raw/cells")
    saved(path, "raw/labels", VOXELS * 2)
    saved(path, "table", np.arange(5))
    with pytest.raises(ImageError, match=r"several images, /raw/cells \(5 x 40 x 30, uint16\).*a\.n5:/raw/cells"):
        open_image(path)
    with pytest.raises(ImageError, match="no array other: name one that is there, such as /raw/cells, /raw/labels"):
        open_image(f"{path}:/other")
    with pytest.raises(ImageError, match="leads out of the store"):
        open_image(f"{path}:/../b")
    for given in (f"{path}:/raw/labels", path / "raw" / "labels"):
        np.testing.assert_array_equal(read(open_image(given)), VOXELS * 2)


DAMAGED = [
    ("{", "is damaged"),
    ('{"dimensions": [30, 40], "blockSize": [16, 16, 2], "dataType": "uint16"}', "damaged metadata"),
    ('{"dimensions": [30, 40, 5], "blockSize": [16, 0, 2], "dataType": "uint16"}', "damaged metadata"),
    ('{"dimensions": [30, -40, 5], "blockSize": [16, 16, 2], "dataType": "uint16"}', "damaged metadata"),
    ('{"dimensions": [30, 40, 5], "blockSize": [16, 16, 2], "dataType": "object"}', "unsupported pixel type object"),
    ('{"dimensions": [30, 40, 5], "blockSize": [16, 16, 2], "dataType": "uint16", "compression": {"type": "jpeg"}}',
     "cannot be read"),
    ('{"dimensions": [90000, 90000], "blockSize": [90000, 90000], "dataType": "uint16", "compression": '
     '{"type": "raw"}}', "chunks of 15 GiB"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), DAMAGED)
def test_damaged_metadata_are_refused_and_end_no_process(tmp_path, text, words):
    path = saved(tmp_path / "a.n5")
    (path / "data" / "attributes.json").write_text(text)
    with pytest.raises(ImageError, match=words):
        open_image(f"{path}:/data")


def test_an_empty_store_and_one_without_the_library_say_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "b.n5").mkdir()
    with pytest.raises(ImageError, match="N5 store without arrays"):
        open_image(tmp_path / "b.n5")
    saved(tmp_path / "a.n5")
    monkeypatch.setattr(readable, "find_spec", lambda _: None)
    for given in (tmp_path / "a.n5", f"{tmp_path / 'a.n5'}:/data"):
        with pytest.raises(ImageError, match=r"a\.n5 cannot be read as an image, since it is an N5 store: pip install"):
            open_image(given)


def test_a_store_is_one_image_of_a_command(tmp_path):
    path = saved(tmp_path / "a.n5")
    assert sources_of([str(path)]) == sources_of([str(tmp_path)]) == [str(path)]
