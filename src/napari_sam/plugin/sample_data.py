"""Sample images: real ones that scikit-image ships, so nothing is downloaded."""

from __future__ import annotations

from typing import Any


def coins() -> list[tuple[Any, dict[str, Any], str]]:
    """Return a grey photograph of Greek coins, shape (303, 384), uint8."""
    from skimage.data import coins as image

    return [(image(), {"name": "coins"}, "image")]


def tissue() -> list[tuple[Any, dict[str, Any], str]]:
    """Return stained colon tissue under the microscope, shape (512, 512, 3), uint8 RGB."""
    from skimage.data import immunohistochemistry as image

    return [(image(), {"name": "tissue", "rgb": True}, "image")]
