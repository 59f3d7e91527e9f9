"""Writes of zarr that have all ended before an error is passed on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_write_goes_on() -> Iterator[None]:
    """Where the writes in it fail, wait until all others that zarr had begun have ended, too.

    zarr writes several files at once and raises the first error while the others go on in the background: they would
    make files and folders anew in what is being cleaned up.
    """
    try:
        yield
    except BaseException:
        from zarr.core.sync import sync

        sync(_all_others())
        raise


async def _all_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
