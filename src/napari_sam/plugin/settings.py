"""What the widget begins with: the user's last choices, which stand in napari's preferences, too."""

from __future__ import annotations

import contextlib
from typing import Any

from napari_sam.plugin.prompts.keys import settings_page

SECTION = "start"


def load_settings(name: str, default: Any) -> Any:
    """Return what was chosen last, of the default's type; the default where nothing was.

    Parameters
    ----------
    name
        In the manifest's `configurations`.
    default
        What to begin with, and what kind of value it must be.
    """
    value = getattr(settings_page(SECTION), name, default)
    return value if isinstance(value, type(default)) else default


def save_settings(name: str, value: Any) -> None:
    """Begin with a value from the next time on; where it cannot be kept, nothing is said."""
    page = settings_page(SECTION)
    if page is not None and getattr(page, name, value) != value:
        with contextlib.suppress(Exception):  # A convenience: whatever is wrong with it, the widget must work.
            setattr(page, name, value)
