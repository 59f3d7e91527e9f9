"""Rewrite the recorded values of the goldens. Run by hand only, where a change of them is meant:

    python -m tests.goldens.record [NAME ...]

from the top of the checkout. The names are api, commands, help, manifest, environment, digests, sessions, plugin and
journals; without names all are rewritten but the journals, which stay as the version before SQLite wrote them.
`plugin` needs napari and a screen (`xvfb-run -a python -m tests.goldens.record plugin`), `journals` needs napari.
Look at `git diff` afterwards: each changed line is something that users or their files can notice.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.goldens import sessions

ROOT = sessions.HERE.parents[1]


def write(name: str, values: sessions.Json, *, compact: bool = True) -> None:
    """Write one of the JSON files, with lists of plain values on a line of their own."""
    text = json.dumps(values, indent=1, ensure_ascii=False)
    if compact:
        text = re.sub(r"\[\n\s*([^\[\]{}]*?)\n\s*\]", lambda found: f"[{re.sub(chr(10) + ' *', ' ', found[1])}]", text)
    (sessions.HERE / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def record_digests() -> None:
    """Write the keys of tiles, the embedded model's identity, and the stored embeddings."""
    images = {name: sessions.tile_digests(name) for name in sessions.IMAGES}
    write("digests", {"images": images, "embedded model": sessions.embedded_identity(embedded_model())})
    shutil.rmtree(sessions.STORE, ignore_errors=True)
    sessions.encode_into(sessions.STORE)


def embedded_model() -> sessions.Json:
    """Load the embedded model on one thread."""
    return sessions.models.load_predictor("compact", "cpu", threads=1)


def record_sessions() -> None:
    """Write the labels that the sessions of the scripting API and of the command leave."""
    values = {}
    for name, session in sessions.SESSIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            values[name] = sessions.described(session(Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        labels = sessions.embedded_model(Path(folder), embedded_model())
    write("sessions", {**values, "embedded_model": sessions.described(labels, exact=False)})


def record_plugin() -> None:
    """Write the labels of the sessions in a window, which their tests tell in pytest's report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "tests/plugin/test_goldens.py",
            "-o",
            "junit_family=xunit1",
            "--junit-xml",
            str(report),
        ]
        subprocess.run(command, cwd=ROOT, check=False)
        found = {entry.get("name"): json.loads(entry.get("value", "")) for entry in ET.parse(report).iter("property")}
    if not found:
        sys.exit("The tests in a window did not run: they need napari and a screen.")
    write("plugin", found)


def record_journals() -> None:
    """Write three journals with the code as it is, and what they hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sessions.write_array_journal(folder / "array")
        sessions.write_pyramid_journal(folder / "pyramid.ome.zarr.journal")
        homes = {"array": folder / "array", "pyramid": folder / "pyramid.ome.zarr.journal"}
        homes["layer"] = write_layer_journal()
        for kind, home in homes.items():
            shutil.copy(home / "entries.jsonl", sessions.HERE / f"journal_{kind}.jsonl")
    values, keys = {}, set()
    for kind in sessions.JOURNALS:
        with tempfile.TemporaryDirectory() as name, sessions.opened_journal(kind, Path(name)) as segmenter:
            if kind != "layer":
                keys |= sessions.journal_keys(segmenter)
            values[kind] = sessions.journal_state(segmenter)
    write("journals", {**values, "keys": sorted(keys)})


def write_layer_journal() -> Path:
    """Annotate a volume in a viewer without a window, and return the folder of its journal."""
    from napari_sam.core.geometry import Plane
    from tests.plugin import annotating

    controller = annotating.make_controller(sessions.volume(), [])
    objects = controller.objects
    for plane, (row, col), radius in ((0, (40, 50), 9), (1, (60, 70), 12), (1, (66, 80), 12), (2, (30, 30), 7)):
        mask = annotating.disc(row, col, radius, sessions.volume().shape[1:])
        annotating.propose(controller, mask, Plane((1, 2), (plane, 0, 0)), ((row, col), (row + 1.5, col)))
        controller.commits.accept()
    objects.define_class("cell", (0.2, 0.4, 1.0))
    objects.classify([1, 3], "cell")
    objects.delete([2, 4])
    controller.undo.undo()
    objects.delete([4])
    home = objects.journal.journal.folder
    controller.close()
    return home


WRITERS: dict[str, Callable[[], None]] = {
    "api": lambda: write("api", sessions.public_api()),
    "commands": lambda: write("commands", sessions.commands()),
    "help": lambda: write("help", {"typer": version("typer"), "texts": sessions.help_texts()}, compact=False),
    "manifest": lambda: write("manifest", sessions.manifest_ids()),
    "environment": lambda: write("environment", sessions.environment_variables()),
    "digests": record_digests,
    "sessions": record_sessions,
    "plugin": record_plugin,
    "journals": record_journals,
}


def main() -> None:
    """Write what is named on the command line."""
    names = sys.argv[1:] or [name for name in WRITERS if name != "journals"]
    if unknown := set(names) - set(WRITERS):
        sys.exit(f"There are no values {', '.join(sorted(unknown))}: choose from {', '.join(WRITERS)}.")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NAPARI_SAM_CACHE"] = cache
        for name in names:
            WRITERS[name]()


if __name__ == "__main__":
    main()
