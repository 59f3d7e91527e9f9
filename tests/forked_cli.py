"""The command in processes that are forked from one where everything is imported, so that they start at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

PRELOADED = [
    *("torch", "zarr", "tifffile", "safetensors.torch", "skimage.data", "napari_sam.cli", "napari_sam.models"),
    *("napari_sam.models.compact", "napari_sam.segmenter", "napari_sam.replay", "napari_sam.training.train"),
]


def start(folder: Path, arguments: tuple[str, ...], log: Path) -> BaseProcess:
    """Start a command in a folder; what it prints goes into a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_run, args=(folder, arguments, log))
    process.start()
    return process


def _run(folder: Path, arguments: tuple[str, ...], log: Path) -> None:
    os.chdir(folder)
    os.environ |= {"OMP_NUM_THREADS": "1", "NAPARI_SAM_CACHE": str(folder.parent / f"{folder.name}-cache")}
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    sys.argv = ["napari-sam", *arguments]
    from napari_sam import cli

    cli.main()
