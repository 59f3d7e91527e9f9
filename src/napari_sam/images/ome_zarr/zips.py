"""Refuse zips that would unpack to many times their size, before anything is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from napari_sam.errors import ImageError
from napari_sam.images.files.folders import ZARR_FILES

MAX_METADATA_BYTES = 64 * 2**20
# Deflate compresses zeros a thousandfold; chunks in a zip are compressed already and hardly shrink.
MAX_MEMBER_BYTES = 256 * 2**20
MAX_RATIO = 100


def check_zip(path: Path) -> None:
    """Refuse a zip with members that unpack to far more than their size.

    Raises
    ------
    ImageError
        There is such a member, or metadata of more than 64 MiB.
    """
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            is_metadata = member.filename.rsplit("/", 1)[-1] in ZARR_FILES
            is_packed = member.file_size > MAX_RATIO * max(member.compress_size, 1)
            if (is_metadata and member.file_size > MAX_METADATA_BYTES) or (
                is_packed and member.file_size > MAX_MEMBER_BYTES
            ):
                raise ImageError(
                    f"{path} holds {member.filename}, which unpacks to {member.file_size / 2**20:.0f} MiB and is not "
                    "part of an image: unpack the zip and look at it."
                )
