from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_sam.errors import ImageError
from napari_sam.images import opening
from napari_sam.images.opening import open_image


def test_a_numpy_file_is_mapped(tmp_path, grey):
    np.save(tmp_path / "a.npy", grey)
    array = open_image(str(tmp_path / "a.npy")).levels[0]
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, grey)


def test_nothing_in_a_numpy_file_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(tmp_path / "a.npy", np.array([Trap(), Trap()], object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read"):
            open_image(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_a_numpy_file_that_is_cut_or_an_archive_is_refused(tmp_path, grey):
    np.save(tmp_path / "cut.npy", grey)
    content = (tmp_path / "cut.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(content[: len(content) // 2])
    np.savez(tmp_path / "many.npz", grey)
    shutil.move(tmp_path / "many.npz", tmp_path / "many.npy")
    for name in ("cut.npy", "many.npy"):
        with pytest.raises(ImageError, match=rf"{name} cannot be read as an image"):
            open_image(tmp_path / name)


@pytest.mark.parametrize(("limit", "opens"), [(100_000, True), (50_000, False)])
def test_a_picture_of_too_many_pixels_names_what_can_be_read_in_parts(tmp_path, grey, monkeypatch, limit, opens):
    Image.fromarray(grey).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    if opens:
        assert open_image(tmp_path / "a.png").levels[0].shape == grey.shape
    else:
        with pytest.raises(ImageError, match=r"a\.png is too large.*tiled \.tif"):
            open_image(tmp_path / "a.png")


def test_a_raster_without_rasterio_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "has_rasterio", lambda: False)
    (tmp_path / "a.vrt").write_text("<VRTDataset/>")
    with pytest.raises(ImageError, match=r"a\.vrt.*rasterio: pip install rasterio"):
        open_image(tmp_path / "a.vrt")
