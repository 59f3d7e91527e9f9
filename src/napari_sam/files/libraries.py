"""Import the libraries of file formats, which are installed on request only."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from napari_sam.errors import NapariSamError, OutputError, first_line

INSTALL = "pip install"


class MissingLibraryWarning(UserWarning):
    """What is lost without a library, in one sentence; the CLI prints it, and napari shows it."""


def library(name: str, package: str, form: str, error: type[NapariSamError] = OutputError) -> Any:
    """Return a library.

    Parameters
    ----------
    name
        Its module.
    package
        What pip installs.
    form
        What needs it, for the message.
    error
        What is raised.

    Raises
    ------
    NapariSamError
        It is not installed, or cannot be loaded.
    """
    if not is_installed(name):
        raise error(needs(form, package))
    try:
        return import_module(name)
    except ImportError as cause:
        raise error(
            f"{form} needs {package}, which cannot be loaded ({first_line(cause)}): install it again."
        ) from cause


def needs(form: str, package: str, otherwise: str = "") -> str:
    """Return the sentence about a library that is missing.

    Parameters
    ----------
    form
        What needs it.
    package
        What pip installs.
    otherwise
        What else can be done, as the end of a sentence.
    """
    other = f", or {otherwise}" if otherwise else ""
    return f"{form} needs the library {package}: {INSTALL} {package}{other}."


def is_installed(name: str) -> bool:
    """Return whether a module is installed."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
