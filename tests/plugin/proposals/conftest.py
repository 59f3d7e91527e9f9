from __future__ import annotations

import pytest

from napari_sam.testing.plugin import make_controller, random_image


@pytest.fixture
def messages():
    """The messages to the user."""
    return []


@pytest.fixture
def controller(messages):
    """The plugin with an image in its first plane."""
    controller = make_controller(random_image(), messages.append)
    controller.viewer.dims.set_current_step(0, 0)
    yield controller
    controller.close()
