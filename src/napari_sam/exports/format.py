"""ExportFormat: what a format of exported files says of itself, and how it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from napari_sam.exports.options import ExportOptions
from napari_sam.exports.source import ExportSource


class ExportFormat(Protocol):
    """A format of files that labels and their objects are exported to.

    Attributes
    ----------
    name
        As users know it.
    suffixes
        Endings of its files in lower case, the common one first.
    holds
        What its files hold of the objects, for the reference.
    loses
        What they do not hold.
    place
        What they say of pixel sizes and position.
    library
        Module and package that it needs; None for none.
    """

    @property
    def name(self) -> str: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    @property
    def holds(self) -> str: ...

    @property
    def loses(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def library(self) -> tuple[str, str] | None: ...

    def refusal(self, source: ExportSource) -> str | None:
        """Return why the labels cannot be written in this format, as a sentence; None where they can."""
        ...

    def write(self, source: ExportSource, path: Path, options: ExportOptions) -> None:
        """Write the objects to a new file.

        Raises
        ------
        LabelsError, OutputError, OSError
            They cannot be read or written.
        """
        ...
