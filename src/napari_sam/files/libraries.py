"""Import the libraries of file formats, which are installed on request only."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from napari_sam.errors import OutputError, first_line


def library(name: str, package: str, form: str) -> Any:
    """Return a library.

    Parameters
    ----------
    name
        Its module.
    package
        What pip installs.
    form
        What needs it, for the message.

    Raises
    ------
    OutputError
        It is not installed, or cannot be loaded.
    """
    if not is_installed(name):
        raise OutputError(f"{form} needs the library {package}: pip install {package}.")
    try:
        return import_module(name)
    except ImportError as error:
        raise OutputError(
            f"{form} needs {package}, which cannot be loaded ({first_line(error)}): install it again."
        ) from error


def is_installed(name: str) -> bool:
    """Return whether a module is installed."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
