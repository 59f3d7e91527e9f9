"""Startup defaults: the user's last choices, which napari's preferences show too."""

from __future__ import annotations

import contextlib
from typing import Any

from napari_sam.plugin.prompts.keys import settings_page

SECTION = "start"


def load_settings(name: str, default: Any) -> Any:
    """Return the last choice, of the default's type; the default where there is none.

    Parameters
    ----------
    name
        Name in the manifest's `configurations`.
    default
        The default, whose type the value must have.
    """
    value = getattr(settings_page(SECTION), name, default)
    return value if isinstance(value, type(default)) else default


def save_settings(name: str, value: Any) -> None:
    """Save a choice as the default for the next time; a failure is ignored."""
    page = settings_page(SECTION)
    if page is not None and getattr(page, name, value) != value:
        with contextlib.suppress(Exception):  # A convenience: whatever is wrong with it, the widget must work.
            setattr(page, name, value)
