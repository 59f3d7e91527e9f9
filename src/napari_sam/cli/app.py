"""The command `napari-sam`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_sam import __version__
from napari_sam.cli import encode as cli_encode
from napari_sam.cli import evaluate as cli_evaluate
from napari_sam.cli import export as cli_export
from napari_sam.cli import models as cli_models
from napari_sam.cli import replay as cli_replay
from napari_sam.cli import train as cli_train
from napari_sam.cli.console import BROKEN_PIPE_STATUS, print_warnings, say, show_error, show_table, warn
from napari_sam.cli.labeling import everything as cli_everything
from napari_sam.cli.labeling import examples as cli_examples
from napari_sam.cli.labeling import find as cli_find
from napari_sam.cli.labeling import import_objects as cli_import
from napari_sam.cli.labeling import propagate as cli_propagate
from napari_sam.cli.labeling import segment as cli_segment
from napari_sam.cli.labeling.at_url import also_at_urls
from napari_sam.cli.labeling.segment import describe
from napari_sam.cli.options import DeviceOption
from napari_sam.errors import NapariSamError, OutputError
from napari_sam.exchange.label_formats import write_json
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.exchange.object_prompts import ObjectPrompts
from napari_sam.files.paths import exists, read_text, shortened
from napari_sam.options import LabelOptions

DEMO_IMAGE = "skimage.data.coins"
DEMO_FILES = ("labels.tif", "objects.json", "screenshot.png")
INTERRUPTED_STATUS = 130
TERMINATED_STATUS = 143


class Commands(TyperGroup):
    """The commands; Ctrl+C ends each of them with the status that shells expect."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED_STATUS) from None


app = typer.Typer(
    name="napari-sam",
    cls=Commands,
    help="Segment Anything for images too large for memory.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# The middles of most coins of skimage.data.coins; one of the others is left for the live preview.
DEMO_POINTS = (
    *((43, 335), (51, 155), (53, 277), (54, 45), (56, 99), (119, 271), (124, 44), (124, 205), (125, 336), (125, 102)),
    *((127, 153), (186, 348), (193, 212), (192, 272), (196, 102), (198, 44), (260, 46), (261, 169), (264, 300)),
    *((265, 114), (268, 358)),
)


app.command()(also_at_urls(cli_segment.segment))
app.command()(also_at_urls(cli_everything.everything))
app.command()(also_at_urls(cli_propagate.propagate))
app.command()(cli_evaluate.evaluate)
app.command()(cli_train.teach)
app.command()(cli_train.train)
app.command()(cli_encode.encode)
app.command()(cli_encode.cache)
app.command()(cli_replay.replay)
app.command()(cli_export.export)
app.command()(cli_examples.examples)
app.command()(also_at_urls(cli_find.find))
app.command("import")(cli_import.import_objects)
app.command()(cli_models.models)
app.command()(cli_models.convert)


@app.command()
def info() -> None:
    """Show versions, devices and the cache."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from napari_sam.embeddings.cache import DEFAULT_CAPACITY
    from napari_sam.files.folders import cache_folder
    from napari_sam.models.device import available_devices

    packages = ("torch", "numpy", "zarr", "scikit-image", "tifffile", "napari", "PySide6", "PyQt6")
    rows = [("napari-sam", __version__), ("python", platform.python_version())]
    for package in packages:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            rows.append((package, "not installed"))
    rows.append(("devices", ", ".join(available_devices())))
    rows.append(("embeddings in memory", f"up to {DEFAULT_CAPACITY // 2**20} MiB"))
    try:
        rows.append(("cache folder", str(cache_folder())))
    except OutputError as error:
        rows.append(("cache folder", f"none: {error}"))
    show_table(rows)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo_output"),
    device: DeviceOption = "auto",
    show: Annotated[
        bool, typer.Option(help="Show the result in napari, or save a screenshot where there is no screen.")
    ] = True,
) -> None:
    """Segment a real image with the embedded model and show it in napari; without a screen, save a screenshot."""
    output = LabelOutput(out / "labels.tif", LabelOptions(overwrite=True), warn=warn)
    _check_demo(out)
    from skimage.data import coins

    from napari_sam.segmenter import Segmenter
    from napari_sam.tasks.batch import segment_all

    segmenter = Segmenter(coins(), device=device)
    objects = [ObjectPrompts(f"the coin at {point}", points=(point,), labels=(True,)) for point in DEMO_POINTS]
    plane = segmenter.plane()
    with output.open(segmenter.volume, plane) as writer:
        outcomes = list(segment_all(segmenter, objects, plane, writer, stop_at_bad_prompts=True))
        described = describe(objects, outcomes, plane, of_file=False)
        # Before the labels, since it is what tells the next demo that the files are its own.
        write_json(out / "objects.json", {"image": DEMO_IMAGE, "model": "compact", **described})
    say(f"{len(described['objects'])} objects written to {out}")
    if show:
        _show_demo(out)


def _check_demo(out: Path) -> None:
    """Refuse a folder that holds files with the names of the demo's results and is not from an earlier demo."""
    is_ours = False
    with suppress(NapariSamError, ValueError, AttributeError):
        is_ours = json.loads(read_text(out / "objects.json", "file", OutputError)).get("image") == DEMO_IMAGE
    taken = next((name for name in DEMO_FILES if exists(out / name)), None)
    if taken is not None and not is_ours:
        raise OutputError(f"{out / taken} exists and is not of an earlier demo: choose another folder with --out.")


def _show_demo(out: Path) -> None:
    """Open napari, or save a screenshot of it on a virtual screen where there is no screen."""
    from importlib.util import find_spec

    if find_spec("napari") is None:
        warn("napari is not installed, so there is no screenshot: pip install 'napari[pyside6]'.")
        return
    command = [sys.executable, "-m", "napari_sam.plugin.demo", str(out)]
    has_screen = sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if not has_screen:
        xvfb = shutil.which("xvfb-run")
        if xvfb is None:
            warn("There is no screen and no xvfb-run, so there is no screenshot: apt-get install xvfb xauth.")
            return
        command = [xvfb, "-a", "-s", "-screen 0 1920x1080x24", *command, "--screenshot"]
    if subprocess.run(command, check=False).returncode != 0:  # noqa: S603
        raise typer.Exit(1)


def main() -> None:
    """Run the command; report what the user can correct as one line instead of a traceback."""
    _end_cleanly_when_terminated()
    print_warnings()
    try:
        app()
    except NapariSamError as error:
        show_error(error)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(BROKEN_PIPE_STATUS)
    except (MemoryError, ImportError, OSError, RuntimeError) as error:
        sentence = _refusal(error)
        if sentence is None:
            raise
        show_error(NapariSamError(sentence))
        sys.exit(1)


def _refusal(error: Exception) -> str | None:
    """Return the message for an error of the computer or the installation, or None for any other error."""
    # torch raises RuntimeError where there is not enough memory, on the processor and on the GPU.
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "memory" in str(error)):
        return "There is not enough memory for this: close other programs, or take a smaller part."
    if isinstance(error, ImportError):
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        return f"A library cannot be loaded ({first}): make room in memory, or install the library again."
    if isinstance(error, OSError):
        where = "" if error.filename is None else f" at {shortened(str(error.filename))}"
        return f"A file operation failed{where} ({error.strerror or error}): check the disk."
    return None


def _end_cleanly_when_terminated() -> None:
    """Remove unfinished files on SIGTERM, which batch systems send."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED_STATUS))
