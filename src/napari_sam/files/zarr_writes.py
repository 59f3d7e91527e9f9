"""Let all writes of zarr end before an error is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_write_goes_on() -> Iterator[None]:
    """After a failed write, wait for the other writes that zarr has started.

    zarr writes several files at once and raises the first error while the other writes continue in the background.
    They would create files and folders in a place that is being cleaned up.
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
