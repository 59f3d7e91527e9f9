"""NRRD, MRC and HDF5 files that their own libraries have written."""

import h5py
import mrcfile
import nrrd
import numpy as np
import pytest

from napari_sam.errors import ImageError
from napari_sam.images.opening import open_image
from napari_sam.images.volume import Volume

VOXELS = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
PLACED = {
    "space": "left-posterior-superior",
    "space directions": np.diag([0.5, 0.75, 3.0]),
    "space origin": np.array([-10.0, -20.0, 30.0]),
    "kinds": ["domain"] * 3,
}


def saved(path, data=VOXELS, header=PLACED, **options):
    nrrd.write(str(path), data, dict(header), **options)
    return path


def read(opened, key=...):
    return np.asarray(opened.levels[0][key])


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_a_nrrd_file_lies_where_its_header_says(tmp_path, encoding, name):
    opened = open_image(saved(tmp_path / name, header={**PLACED, "encoding": encoding}))
    assert opened.axes == "zyx"
    np.testing.assert_array_equal(read(opened), VOXELS.T)
    assert opened.spacing == pytest.approx((3, 0.75, 0.5))
    assert opened.origin == pytest.approx((30, -20, -10))
    np.testing.assert_allclose((opened.anatomy.matrix @ [4, 3, 2, 1])[:3], (-8, -17.75, 36))
    assert isinstance(opened.levels[0], np.memmap) == (encoding == "raw")


def test_the_space_of_a_nrrd_file_counts(tmp_path):
    header = {**PLACED, "space": "right-anterior-superior"}
    opened = open_image(saved(tmp_path / "a.nrrd", header=header))
    np.testing.assert_allclose((opened.anatomy.ras @ [4, 3, 2, 1])[:3], (-8, -17.75, 36))
    assert opened.spacing == pytest.approx((3, -0.75, -0.5))


def test_spacings_without_a_place_are_sizes(tmp_path):
    opened = open_image(saved(tmp_path / "a.nrrd", header={"spacings": [0.5, 0.75, 3.0], "units": ["um", "um", "um"]}))
    assert (opened.spacing, opened.unit) == (pytest.approx((3, 0.75, 0.5)), "micrometer")
    assert opened.anatomy is None


def test_colors_of_a_nrrd_file_are_colors(tmp_path):
    colors = np.random.default_rng(0).integers(0, 255, (3, 8, 6), np.uint8)
    opened = open_image(saved(tmp_path / "a.nrrd", colors, {"kinds": ["RGB-color", "domain", "domain"]}))
    assert opened.axes == "yxs"
    np.testing.assert_array_equal(read(opened), colors.T)


def test_lists_of_a_nrrd_file_are_channels(tmp_path):
    data = np.arange(120, dtype=np.uint16).reshape(2, 5, 4, 3)
    directions = np.vstack([np.full(3, np.nan), np.diag([0.5, 0.75, 3.0])])
    header = {**PLACED, "space directions": directions, "kinds": ["list", "domain", "domain", "domain"]}
    opened = open_image(saved(tmp_path / "a.nrrd", data, header))
    assert opened.axes == "zyxc"
    assert opened.spacing == pytest.approx((3, 0.75, 0.5, 1))


def test_the_pixels_of_a_nrrd_header_stay_in_its_folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = saved(folder / "a.nhdr", header={**PLACED, "encoding": "raw"})
    text = path.read_text()
    (folder / "a.raw").rename(tmp_path / "a.raw")
    with pytest.raises(ImageError, match=r"a\.raw"):
        open_image(path)
    path.write_text(text.replace("a.raw", "../a.raw"))
    with pytest.raises(ImageError, match="NAPARI_SAM_ALLOW_OUTSIDE_FILES"):
        open_image(path)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_a_nrrd_file_that_is_cut_off_is_refused(tmp_path, encoding):
    noise = np.random.default_rng(0).integers(0, 9999, (32, 32, 8)).astype(np.int16)
    path = saved(tmp_path / "a.nrrd", noise, header={"encoding": encoding})
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ImageError, match=r"cut off|cannot be decompressed"):
        open_image(path)


def test_a_nrrd_header_without_an_end_is_refused(tmp_path):
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\n" + b"# text\n" * 200_000)
    with pytest.raises(ImageError, match="header of more than"):
        open_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32, np.float16])
def test_an_mrc_file_is_read_plane_by_plane(tmp_path, dtype):
    data = VOXELS.T.astype(dtype)
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(data)
        file.set_volume()
        file.voxel_size = (2.0, 3.0, 4.0)
        file.header.origin = (10, 20, 30)
    opened = open_image(tmp_path / "a.mrc")
    assert (opened.axes, opened.unit) == ("zyx", "angstrom")
    assert opened.spacing == pytest.approx((4, 3, 2))
    assert opened.origin == pytest.approx((30, 20, 10))
    np.testing.assert_array_equal(read(opened), data)
    assert isinstance(opened.levels[0], np.memmap)


def test_the_axes_of_an_mrc_file_may_be_in_another_order(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VOXELS.T)
        file.header.mapc, file.header.mapr, file.header.maps = 3, 2, 1
    assert open_image(tmp_path / "a.mrc").axes == "xyz"
    assert Volume.of(tmp_path / "a.mrc").plane_axes == (1, 0)


def test_a_stack_of_volumes_has_four_axes(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(np.arange(48, dtype=np.int16).reshape(2, 2, 3, 4))
    opened = open_image(tmp_path / "a.mrc")
    assert (opened.axes, opened.levels[0].shape) == ("tzyx", (2, 2, 3, 4))


def test_an_mrc_file_that_is_cut_off_is_refused(tmp_path):
    with mrcfile.new(tmp_path / "a.mrc") as file:
        file.set_data(VOXELS.T)
    path = tmp_path / "a.mrc"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ImageError, match="cut off, since its header promises 1144 bytes"):
        open_image(path)


def test_an_array_of_an_hdf5_file_is_named_by_its_path(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["raw/cells"] = VOXELS
        file["raw/labels"] = VOXELS * 2
        file["table"] = np.arange(5)
    with pytest.raises(ImageError, match=r"several images, /raw/cells \(5 x 4 x 3, int16\).*a\.h5:/raw/cells"):
        open_image(path)
    np.testing.assert_array_equal(read(open_image(f"{path}:/raw/labels")), VOXELS * 2)
    with pytest.raises(
        ImageError, match=r"no array raw/other: name one that is there, such as /raw/cells, /raw/labels"
    ):
        open_image(f"{path}:/raw/other")
    with pytest.raises(ImageError, match="is a group and no array"):
        open_image(f"{path}:/raw")


def test_the_only_array_of_an_hdf5_file_needs_no_name_and_is_read_in_chunks(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", data=VOXELS, chunks=(1, 4, 3), compression="gzip")
        data.attrs["element_size_um"] = [3.0, 0.75, 0.5]
    opened = open_image(tmp_path / "a.h5")
    assert opened.levels[0].chunks == (1, 4, 3)
    assert (opened.axes, opened.unit) == ("zyx", "micrometer")
    assert opened.spacing == pytest.approx((3, 0.75, 0.5))
    np.testing.assert_array_equal(read(opened, (2, slice(1, 3))), VOXELS[2, 1:3])


def test_axes_of_an_hdf5_array_are_known_by_labels_and_by_the_tags_of_ilastik(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for number, name in enumerate("tyx"):
            file.create_dataset("data", data=VOXELS) if number == 0 else None
            file["data"].dims[number].label = name
    assert open_image(tmp_path / "a.h5").axes == "tyx"
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = VOXELS
        file["data"].attrs["axistags"] = '{"axes": [{"key": "x"}, {"key": "y"}, {"key": "z"}]}'
    assert open_image(tmp_path / "b.h5").axes == "xyz"


def external(path, target):
    with h5py.File(path, "w") as file:
        file["data"] = h5py.ExternalLink(target, "/data")


def virtual(path, target):
    layout = h5py.VirtualLayout((5, 4, 3), np.int16)
    layout[:] = h5py.VirtualSource(target, "data", (5, 4, 3))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("data", layout)


def raw(path, target):
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (5, 4, 3), np.int16, external=[(target, 0, 120)])


@pytest.mark.parametrize("refer", [external, virtual, raw])
def test_an_hdf5_file_refers_to_no_file_outside_its_folder(tmp_path, monkeypatch, refer):
    folder = tmp_path / "in"
    folder.mkdir()
    for place in (folder, tmp_path):
        with h5py.File(place / "b.h5", "w") as file:
            file["data"] = VOXELS
    refer(folder / "a.h5", "../b.h5")
    with pytest.raises(ImageError, match="NAPARI_SAM_ALLOW_OUTSIDE_FILES"):
        open_image(f"{folder / 'a.h5'}:/data")
    if refer is not raw:
        refer(folder / "a.h5", "b.h5")
        np.testing.assert_array_equal(read(open_image(f"{folder / 'a.h5'}:/data")), VOXELS)


def test_links_of_an_hdf5_file_may_not_lead_in_a_circle(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
        file["x/data"] = VOXELS
        file["y"] = h5py.SoftLink("/x")
    with pytest.raises(ImageError, match="lead back to themselves"):
        open_image(f"{tmp_path / 'a.h5'}:/a")
    np.testing.assert_array_equal(read(open_image(f"{tmp_path / 'a.h5'}:/y/data")), VOXELS)
