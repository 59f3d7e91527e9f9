"""A CT as NIfTI in a real window: opened by any reader, an object accepted, saved by Ctrl+S, and read by nibabel."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog

nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed: pip install nibabel")
pytestmark = pytest.mark.usefixtures("screen")

LENGTHS = (90, 100, 6)  # x, y and z, all different.
OBLIQUE = np.array([[0.78, -0.09, 0.3, -40], [0.1, 0.78, -0.2, 60], [-0.06, 0.07, 2.97, -300], [0, 0, 0, 1.0]])
AFFINES = {
    "oblique": OBLIQUE,
    "to the left and to the back": OBLIQUE @ np.array([[-1, 0, 0, 89], [0, -1, 0, 99], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
}
READERS = ["napari-sam", "napari-nifti"]


@pytest.fixture(params=AFFINES)
def image(request, tmp_path):
    """A CT of a bright organ in a darker body, whose sform and qform have codes of their own."""
    affine = AFFINES[request.param]
    x, y, z = np.indices(LENGTHS)
    body = (x - 45) ** 2 / 38**2 + (y - 50) ** 2 / 44**2 < 1
    organ = (x - 30) ** 2 + (y - 60) ** 2 + 16 * (z - 3) ** 2 < 14**2
    noise = np.random.default_rng(0).normal(0, 8, LENGTHS)
    voxels = np.where(organ, 180, np.where(body, 20, -900)) + noise
    file = nibabel.Nifti1Image(voxels.astype(np.int16), affine)
    file.set_sform(affine, 2)
    file.set_qform(affine, 1)
    nibabel.save(file, tmp_path / "ct.nii.gz")
    return tmp_path / "ct.nii.gz", organ


def open_with(reader, viewer, path):
    if reader != "napari-sam":
        pytest.importorskip(reader.replace("-", "_"), reason=f"{reader} is not installed: pip install {reader}")
    (layer,) = viewer.open(str(path), plugin=reader)
    return layer


@pytest.mark.parametrize("reader", READERS)
def test_a_ct_that_is_segmented_and_saved_lies_on_itself_in_nibabel(
    image, reader, tmp_path, make_napari_viewer, qtbot, monkeypatch
):
    from napari_sam.testing.window import Window, flush

    path, organ = image
    viewer = make_napari_viewer(show=True)
    viewer.window.resize(1200, 800)
    layer = open_with(reader, viewer, path)
    layer.contrast_limits = (-160, 240)
    _, widget = viewer.window.add_plugin_dock_widget("napari-sam", "Segment Anything")
    window = Window(qtbot, viewer, widget)
    shown, canvas = viewer.window._qt_window.windowHandle(), window.canvas
    qtbot.waitUntil(lambda: shown.isExposed() and tuple(viewer.canvas.size) == (canvas.height(), canvas.width()))
    flush()
    viewer.reset_view()
    flush()
    window.wait_ready()
    # Where the organ is in the order in which the reader shows it.
    bright = np.asarray(layer.data) > 100
    planes = [int(at) for at in np.flatnonzero(bright.sum((1, 2)) > 60)]
    assert len(planes) >= 3
    for at in planes:
        # Steps of the slider are counted the other way where an axis runs backwards.
        viewer.dims.set_point(0, layer.data_to_world((at, 0, 0))[0])
        window.wait()
        middle = np.argwhere(bright[at]).mean(0)
        window.click((at, *middle))
        window.key(Qt.Key.Key_C)
    target = window.controller.session.target
    viewer.layers.selection = {target}
    saved = tmp_path / "organ.nii.gz"

    def choose(*_, filter, **__):  # noqa: A002  # Qt's own name.
        return str(saved), next(kind for kind in filter.split(";;") if "napari-sam Labels with their place" in kind)

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    # Qt delivers no shortcuts to a window that another program has taken the focus from.
    save = next(each for each in viewer.window.file_menu.actions() if each.shortcut().toString() == "Ctrl+S")
    save.trigger()
    window.wait_until(saved.exists)
    before, after = nibabel.load(path), nibabel.load(saved)
    for name in ("get_sform", "get_qform"):
        np.testing.assert_array_equal(getattr(after, name)(), getattr(before, name)())
    for code in ("sform_code", "qform_code"):
        assert int(after.header[code]) == int(before.header[code])
    np.testing.assert_array_equal(after.affine, before.affine)
    found = np.asarray(after.dataobj) > 0
    labels = np.asarray(target.data)
    assert np.count_nonzero(found) == np.count_nonzero(labels)
    true = organ & (found.any((0, 1))[None, None])
    assert (found & true).sum() / (found | true).sum() > 0.8, "the labels lie on the organ, voxel by voxel"
