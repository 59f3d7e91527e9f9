"""A zarr store in a folder that reads regular files only: reading a pipe may never end."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from zarr.storage import LocalStore

from napari_sam.errors import ImageError
from napari_sam.images.files.folders import ZARR_FILES
from napari_sam.images.ome_zarr.zips import MAX_METADATA_BYTES

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class RegularFilesStore(LocalStore):
    """A local store that refuses pipes, sockets, devices, and metadata of more than 64 MiB."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the value of a key, or None.

        Raises
        ------
        ImageError
            It is not a regular file.
        """
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """Return the value of a key, or None; newer versions of zarr read some chunks this way."""
        self._check(key)
        return super().get_sync(key, **options)

    def _check(self, key: str) -> None:
        path = self.root / key
        try:
            found = path.stat()
        except (OSError, ValueError):  # zarr raises for missing files and impossible names.
            return
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise ImageError(f"{path} is a pipe, socket or device and not a file: copy the zarr again.")
        if path.name in ZARR_FILES and found.st_size > MAX_METADATA_BYTES:
            raise ImageError(f"{path} has {found.st_size / 2**20:.0f} MiB, too large for metadata: copy it again.")
