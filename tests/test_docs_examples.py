"""The Python and shell examples of the README and the docs, run as they are written, on small images made here."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from skimage.data import coins

from napari_sam import Segmenter

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Examples that need what a test has not, by a part of them.
ELSEWHERE = {
    "sam3": "weights that are not public",
    "nucleus": "the same",
    "vit_b_lm": "a download",
    "sam2.1_large": "a download",
    "owlv2": "weights of the user's own",
    "grounding-dino": "the same",
    "clip": "the same",
    "scheduler": "a cluster",
    "dask_jobqueue": "SLURM",
    "s3://bucket": "a bucket",
    "torch.load": "a checkpoint of another trainer",
    "checkpoint.pth": "a checkpoint of another model",
    "viewer.add_image": "a window",
    "train finetune.toml": "minutes",
    "MANIFEST": "labeled images",
    "teach(": "minutes, and accepted objects",
    "--name mine": "the same",
    "--model mine": "a model that was taught",
    "--remove mine": "the same",
    "mine.safetensors": "the same",
}
VRT = """<VRTDataset rasterXSize="384" rasterYSize="303"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="0">{}</SourceFilename><SourceBand>1</SourceBand>
</SimpleSource></VRTRasterBand></VRTDataset>
"""


def blocks(page: Path, language: str) -> list[str]:
    """Return the examples of a page in a language that can be run here."""
    text = page.read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if language == "sh" or not any(part in block for part in ELSEWHERE)]


def commands(page: Path) -> list[str]:
    """Return the lines of a page's shell examples that start the command and can be run here."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    starts = re.compile(r"(?:NAPARI_SAM_\w+=\S+ )?napari-sam ")
    return [line for line in lines if starts.match(line) and not any(part in line for part in ELSEWHERE)]


def with_examples(examples: Callable[[Path], list[str]]) -> list[Any]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if examples(page)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the images that the examples name: the coins, and arrays made of them."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.transform import Affine

    folder = tmp_path_factory.mktemp("images") / "here"
    folder.mkdir()
    photo = coins()
    for name in ("cells.tif", "nuclei.tif", "image.tif"):
        tifffile.imwrite(folder / name, photo, photometric="minisblack")
    stack = np.stack([photo] * 16)
    tifffile.imwrite(folder / "stack.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "cells.ome.tif", np.stack([photo, photo[::-1]]), metadata={"axes": "CYX"})
    z, y, x = np.ogrid[:40, :300, :300]
    kidney = ((z - 30) / 7) ** 2 + ((y - 169) / 24) ** 2 + ((x - 197) / 26) ** 2 < 1
    tifffile.imwrite(folder / "ct.tif", np.where(kidney, 120, -40).astype(np.int16))
    scan = zarr.create_array(folder / "scan.ome.zarr", shape=(121, 600, 800), chunks=(1, 256, 256), dtype="uint8")
    for plane in (12, 110):
        scan[plane] = np.tile(photo, (2, 3))[:600, :800]
    transform = Affine(0.25, 0, 500_000, 0, -0.25, 5_400_000)
    profile = {"driver": "GTiff", "crs": CRS.from_epsg(32632), "transform": transform}
    maps = {"village.tif": np.tile(photo, (1, 5, 3)), "bands.tif": np.stack([photo] * 4).astype(np.int16)}
    for name, pixels in maps.items():
        count, height, width = pixels.shape
        size = {"count": count, "height": height, "width": width, "dtype": pixels.dtype}
        with rasterio.open(folder / name, "w", **size, **profile) as file:
            file.write(pixels)
    outside = folder.parent / "outside.tif"
    shutil.copy(folder / "cells.tif", outside)
    (folder / "mosaic.vrt").write_text(VRT.format(outside))
    for image, labels in (("cells.tif", "cells.ome.zarr"), ("village.tif", "village_labels.ome.zarr")):
        with Segmenter(folder / image, labels=folder / labels, journal=True) as segmenter:
            segmenter.accept(segmenter.segment(points=[(51, 155)]), class_name="coin")
    return folder


@pytest.fixture
def here(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder with a copy of the images, and with a cache of its own."""
    folder = tmp_path / "here"
    shutil.copytree(images, folder)
    monkeypatch.setenv("NAPARI_SAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("page", with_examples(lambda page: blocks(page, "python")))
def test_the_python_of_a_page_runs_as_written(page: Path, here: Path) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", with_examples(commands))
def test_the_commands_of_a_page_run_as_written(
    page: Path, here: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]
) -> None:
    for block in blocks(page, "json"):
        (here / "roofs.geojson").write_text(block)
    for line in commands(page):
        words = shlex.split(line, comments=True)
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            monkeypatch.setenv(name, value)
        code, _, errors = run(*words[1:])
        assert code == 0, f"{line}\n{errors}"


def test_the_loop_over_a_folder_segments_every_image_and_names_those_that_failed(here: Path) -> None:
    (loop,) = [block for block in blocks(ROOT / "docs" / "guides" / "recipes.md", "sh") if block.startswith("for ")]
    folder = here / "batch"
    folder.mkdir()
    shutil.copy(here / "cells.tif", folder)
    (folder / "broken.tif").write_bytes(b"no image")
    for name in ("cells", "broken"):
        (folder / f"{name}.csv").write_text("object,row,col,label,class\n1,51,155,1,coin\n1,75,180,0,\n2,124,155,1,\n")
    python = f"{shlex.quote(sys.executable)} -c 'from napari_sam.cli import main; main()'"
    script = f'napari-sam() {{ {python} "$@"; }}\n{loop}'
    subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True)
    with Segmenter(folder / "cells.tif", labels=folder / "cells_labels.ome.zarr", journal=True) as segmenter:
        assert [item.label for item in segmenter.objects] == [1, 2]
    assert (folder / "failed.txt").read_text() == "broken.tif\n"
    assert not (folder / "broken_labels.ome.zarr").exists()
