"""Kill `napari-sam encode` with SIGKILL at random moments, resume it, and compare with a run that was left alone.

python benchmarks/kill_encode.py [--kills 50]
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr
from skimage.data import coins


def run(image: Path, store: Path) -> subprocess.Popen[str]:
    """Start encoding, one thread."""
    command = [sys.executable, "-m", "napari_sam.cli", "encode", str(image), "--store", str(store), "--level", "0:2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def entries(store: Path) -> dict[str, int]:
    """Return the embeddings in a store, each with its file's number: a rewritten one has another."""
    return {path.name: path.stat().st_ino for path in store.rglob("*.0")}


def main() -> None:
    """Kill and resume, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = np.tile(coins(), (6, 5)) + np.random.default_rng(0).integers(0, 9, (1818, 1920), np.uint8)
        array = zarr.create_array(folder / "image.zarr", shape=pixels.shape, chunks=(256, 256), dtype="u1")
        array[...] = pixels
        print(run(folder / "image.zarr", folder / "whole").communicate()[0].strip(), flush=True)
        rng, kills, inside, rewritten = random.Random(0), 0, 0, 0
        while kills < options.kills:
            before = entries(folder / "killed")
            process = run(folder / "image.zarr", folder / "killed")
            # Most of a start is imports: wait until work begins, but now and then kill before that.
            patience = time.monotonic() + (30 if rng.random() < 0.8 else rng.uniform(0, 3))
            while (
                process.poll() is None
                and len(entries(folder / "killed")) == len(before)
                and time.monotonic() < patience
            ):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.12))
            if process.poll() is not None:
                break
            process.kill()
            process.communicate()
            kills += 1
            after = entries(folder / "killed")
            inside += len(after) > len(before)
            rewritten += sum(after.get(name) != number for name, number in before.items())
        print(run(folder / "image.zarr", folder / "killed").communicate()[0].strip())
        two = [run(folder / "image.zarr", folder / "two") for _ in range(2)]
        for process in two:
            print("one of two:", process.communicate()[0].strip())
        whole = contents(folder / "whole")
        print(f"{kills} kills, {inside} of them while embeddings were written; {rewritten} embeddings written twice")
        print("the killed run ended", "equal to the byte" if contents(folder / "killed") == whole else "DIFFERENT")
        print("two runs at once ended", "equal to the byte" if contents(folder / "two") == whole else "DIFFERENT")


if __name__ == "__main__":
    main()
