"""A scripted annotator in a real window: 20 nuclei by hover, click and accept, with the mouse and the keys.

`pytest --junit-xml FILE -o junit_family=xunit1` writes the mean IoU and how many clicks took the preview.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest

from napari_sam.evaluation.clicks import most_interior
from napari_sam.samples.cells import cells

pytestmark = pytest.mark.usefixtures("screen")

DATA = Path(__file__).parents[4] / "shared" / "data" / "dsb2018_nuclei"
REAL = "2e172afb1f43b359.png"
NUCLEI = 20


def real_nuclei():
    """Nuclei in fluorescence that a human outlined (BBBC038, CC0)."""
    if not DATA.exists():
        pytest.skip("needs the labelled development images in ../shared/data")
    from skimage.io import imread

    return imread(DATA / "images" / REAL), imread(DATA / "masks" / REAL)


def computed_nuclei():
    sample = cells()
    return sample.image[0], sample.truth


def places(truth, shape):
    """Where to click on the largest nuclei, but for those at the border."""
    inner = truth[1:-1, 1:-1]
    labels, areas = np.unique(inner[inner > 0], return_counts=True)
    cut = np.unique(np.concatenate([truth[0], truth[-1], truth[:, 0], truth[:, -1]]))
    whole = [label for _, label in sorted(zip(areas, labels, strict=True), reverse=True) if label not in cut]
    return {int(label): most_interior(truth == label) for label in whole[:NUCLEI]}


def taken_previews(hover, monkeypatch):
    """Return the previews that clicks take, or None for a click without one.

    A move by one pixel may arrive after the mouse has come to rest, and a preview for it before the click.
    """
    previews, take = [], hover.take

    def noted(*args):
        previews.append(take(*args))
        return previews[-1]

    monkeypatch.setattr(hover, "take", noted)
    return previews


# Mean IoU measured: 0.87 on the real image, 0.75 to 0.78 on the computed one, whose view is coarser.
@pytest.mark.parametrize(("source", "least"), [(real_nuclei, 0.82), (computed_nuclei, 0.71)])
def test_twenty_nuclei_by_hover_click_and_accept(open_window, told, record_property, monkeypatch, source, least):
    image, truth = source()
    window = open_window(image, name="nuclei", contrast_limits=(float(image.min()), float(np.quantile(image, 0.998))))
    controller = window.controller
    window.viewer.reset_view()
    window.wait_ready()  # A view that has not come to rest yet would end the first preview.
    window.qtbot.waitUntil(lambda: controller.prefetcher.coverage is not None and window.is_still())
    clicks = places(truth, image.shape)
    assert len(clicks) == NUCLEI
    previews = taken_previews(controller.hover, monkeypatch)
    scores, taken = [], 0
    for count, (label, point) in enumerate(clicks.items(), start=1):
        window.hover(point)
        window.click(point)
        taken += previews[-1] is not None and controller.session.candidates is previews[-1]
        window.key(Qt.Key.Key_C)
        mine = controller.session.target.data == count
        assert mine.any()
        theirs = truth == label
        scores.append(np.count_nonzero(mine & theirs) / np.count_nonzero(mine | theirs))
        QTest.mouseMove(window.canvas, QPoint(3, 3))
    record_property("mean_iou", float(np.mean(scores)))
    record_property("previews_taken", taken)
    assert len(controller.objects.rows) == NUCLEI
    # On a busy machine a late move ends a preview before its click, which is then answered anew.
    assert taken >= NUCLEI - 2
    assert np.mean(scores) >= least
    assert told == []
