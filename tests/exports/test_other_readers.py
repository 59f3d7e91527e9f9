"""OME-Zarr labels as other libraries read and check them; those that are not installed are left out."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_sam import export_labels
from napari_sam.images.opening import open_image

VERSIONS = ["0.4", "0.5", "0.6"]
SHAPES = [(3, 90, 120), (3, 45, 60)]
AXES = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]


def placed(level, version):
    """Return the transformations of a level of the image."""
    steps = [
        {"type": "scale", "scale": [2.0, 0.5 * 2**level, 0.25 * 2**level]},
        {"type": "translation", "translation": [5.0, 6.0, 7.0]},
    ]
    if version != "0.6":
        return steps
    ends = {"input": {"path": str(level)}, "output": {"name": "world"}}
    return [{"type": "sequence", "name": f"to {level}", "transformations": steps, **ends}]


def make_image(path, version):
    """Write an image of two levels."""
    datasets = [{"path": str(level), "coordinateTransformations": placed(level, version)} for level in range(2)]
    entry = {"name": "image", "datasets": datasets}
    entry |= {"coordinateSystems": [{"name": "world", "axes": AXES}]} if version == "0.6" else {"axes": AXES}
    attributes = {"ome": {"version": version, "multiscales": [entry]}}
    zarr_format = 2 if version == "0.4" else 3
    if zarr_format == 2:
        attributes = {"multiscales": [{"version": version, **entry}]}
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format, attributes=attributes)
    options = (
        {"dimension_names": list("zyx")}
        if zarr_format == 3
        else {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    )
    for level, shape in enumerate(SHAPES):
        group.create_array(str(level), shape=shape, chunks=(1, 64, 64), dtype="uint8", **options)
    return path


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def written(tmp_path, version):
    """Return labels, and the OME-Zarr image of a version that they were put into."""
    labels = np.zeros(SHAPES[0], np.uint32)
    labels[1, 10:40, 20:50], labels[2, 60:80, 100:120] = 3, 70_000
    image = make_image(tmp_path / "image.ome.zarr", version)
    export_labels(labels, image / "labels" / "cells", image=image)
    return labels, image


def test_all_images_of_a_store_are_of_one_version(written, version):
    _, image = written
    for path in ("", "labels", "labels/cells"):
        attributes = zarr.open_group(image / path, mode="r").attrs.asdict()
        if version == "0.4":
            assert path == "labels" or attributes["multiscales"][0]["version"] == version
        else:
            assert attributes["ome"]["version"] == version


def test_labels_lie_on_their_image_in_every_version(written):
    labels, image = written
    one, other = open_image(image), open_image(image / "labels" / "cells")
    assert np.array_equal(np.asarray(other.levels[0][...]), labels)
    for name in ("axes", "spacing", "origin", "unit", "factors"):
        assert getattr(one, name) == getattr(other, name)


def test_ngff_zarr_reads_the_labels_with_their_place(written, version):
    ngff = pytest.importorskip("ngff_zarr", reason="ngff-zarr is not installed: pip install ngff-zarr")
    labels, image = written
    read = ngff.from_ngff_zarr(str(image / "labels" / "cells"), validate=version != "0.6")
    assert [each.data.shape for each in read.images] == SHAPES
    assert np.array_equal(np.asarray(read.images[0].data), labels)
    assert read.images[1].scale == {"z": 2.0, "y": 1.0, "x": 0.5}
    assert read.images[1].translation == {"z": 5.0, "y": 6.0, "x": 7.0}


def test_ome_zarr_models_takes_the_labels_for_valid(written, version):
    models = pytest.importorskip("ome_zarr_models", reason="ome-zarr-models is not installed: pip install it")
    if version == "0.6":
        pytest.skip("the models end with version 0.5")
    _, image = written
    group = models.open_ome_zarr(zarr.open_group(image / "labels" / "cells", mode="r"))
    assert type(group).__name__ == "ImageLabel"
    listed = models.open_ome_zarr(zarr.open_group(image / "labels", mode="r"))
    assert type(listed).__name__ == "Labels"


def test_napari_ome_zarr_shows_the_labels_as_labels(written, version):
    reader = pytest.importorskip("napari_ome_zarr", reason="napari-ome-zarr is not installed: pip install it")
    labels, image = written
    layers = reader.napari_get_reader(str(image))(str(image))
    (data, options, _kind) = next(layer for layer in layers if layer[2] == "labels")
    assert np.array_equal(np.asarray(data[0]), labels)
    assert tuple(options["scale"]) == pytest.approx((2.0, 0.5, 0.25))
