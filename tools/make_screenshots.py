"""Take the pictures of the README and the docs in the running program: run `make screenshots`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def main() -> None:
    """Write all pictures of docs/images but the one of the model card."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "napari_sam.cli", "demo", "--out", folder, "--no-show"], check=True)
        show = [sys.executable, "-m", "napari_sam.plugin.demo", folder, "--screenshot"]
        subprocess.run(show, check=True)
        (IMAGES / "napari-sam.png").write_bytes((Path(folder) / "screenshot.png").read_bytes())
    for script in (
        "tutorial_pictures.py",
        "all_objects_pictures.py",
        "find_similar_pictures.py",
        "teach_pictures.py",
        "through_planes_pictures.py",
        "make_animation.py",
    ):
        subprocess.run([sys.executable, str(Path(__file__).with_name(script))], check=True)
    large = Path(__file__).parent.parent / "benchmarks" / "event_loop.py"
    subprocess.run([sys.executable, str(large), "--screenshot", str(IMAGES / "large-data.png")], check=True)


if __name__ == "__main__":
    main()
