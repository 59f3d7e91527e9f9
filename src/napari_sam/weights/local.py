"""Weights on this computer: downloaded at first use, and verified before each use."""

from __future__ import annotations

import os
from pathlib import Path

from napari_sam.errors import ModelError
from napari_sam.weights.download import Progress, download, record_of, sha256_of
from napari_sam.weights.registry import ModelEntry

OFFLINE_VARIABLE = "NAPARI_SAM_OFFLINE"


def verified(entry: ModelEntry, progress: Progress | None = None) -> tuple[Path, str]:
    """Return the file of a model's weights, downloaded if it is missing, and its sha256.

    Raises
    ------
    ModelError
        They are damaged, or cannot be downloaded.
    """
    path = fetch(entry, progress)
    digest, expected = sha256_of(path), expected_sha256(entry)
    if expected in (None, digest):
        return path, digest
    record = record_of(path)
    known = f", or {record} if you replaced the weights yourself" if record.exists() else ""
    advice = "install napari-sam again" if entry.shipped else f"delete that file{known}"
    raise ModelError(f"The weights of {entry.name} are damaged ({path}): {advice}.")


def fetch(entry: ModelEntry, progress: Progress | None = None) -> Path:
    """Return the file of a model's weights, after downloading it if it is missing.

    Parameters
    ----------
    entry
        A model of the registry.
    progress
        As in `download.download`.

    Raises
    ------
    ModelError
        They are missing and cannot be downloaded; the message says where to put them.
    """
    path = entry.path
    if entry.is_here:
        return path
    if entry.source is None:
        how = entry.by_hand or f"get it from {entry.homepage}"
        raise ModelError(
            f"The weights of {entry.name} cannot be downloaded by a program: {how}, and save it as {path} by hand."
        )
    if os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0"):
        raise ModelError(
            f"The weights of {entry.name} are not on this computer and {OFFLINE_VARIABLE} forbids downloads: "
            f"get {entry.source} elsewhere and save it as {path} by hand."
        )
    download(
        entry.source,
        path,
        sha256=expected_sha256(entry),
        homepage=entry.homepage,
        progress=progress,
        name=entry.name,
        nbytes=entry.nbytes,
    )
    return path


def expected_sha256(entry: ModelEntry) -> str | None:
    """Return the expected hash of a model's weights: the published one, else that of the first download."""
    if entry.shipped or (entry.sha256 and entry.path.name == entry.file):
        return entry.sha256
    try:
        return record_of(entry.path).read_text().split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return None
