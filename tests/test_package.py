"""The package as others meet it: a light import, public names, the napari manifest, and the rules between modules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

import napari_sam
from napari_sam import errors
from napari_sam.testing import TIMEOUT

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "napari", "qtpy", "PySide6", "PyQt6", "PyQt5", "zarr", "skimage", "numpy")

needs_napari = pytest.mark.skipif(find_spec("napari") is None, reason="napari is not installed: pip install .[gui]")


def in_a_fresh_process(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIMEOUT, cwd=os.sep).stdout


def test_importing_the_package_brings_none_of_its_modules_and_nothing_heavy() -> None:
    loaded = json.loads(in_a_fresh_process("import json, sys, napari_sam; print(json.dumps(sorted(sys.modules)))"))
    # `former_names` finds modules under their earlier paths, and imports none of them until then.
    assert [name for name in loaded if name.startswith("napari_sam.")] == ["napari_sam.former_names"]
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize(
    "module", ["napari_sam.cli", "napari_sam.segmenter", "napari_sam.weights.registry", "napari_sam.testing"]
)
def test_the_help_the_segmenter_and_the_fakes_are_there_before_torch_is(module: str) -> None:
    """The command answers `--help` at once, the plugin shows its widget before it loads a model, fakes need none."""
    loaded = json.loads(in_a_fresh_process(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"))
    assert [
        name for name in ("torch", "napari", "qtpy", "PySide6", "PyQt6", "hypothesis", "pytest") if name in loaded
    ] == []


def test_a_model_is_loaded_without_the_compiler_of_torch() -> None:
    """torch._dynamo takes a second to import, and triton's LLVM crashes beside Mesa's."""
    code = (
        "import sys\n"
        "from napari_sam.models import load_predictor\n"
        "load_predictor('compact', device='cpu')\n"
        "print([name for name in ('torch._dynamo', 'triton') if name in sys.modules])\n"
    )
    assert in_a_fresh_process(code).strip() == "[]"


@pytest.mark.parametrize("name", napari_sam.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(napari_sam, name) is not None
    assert name in dir(napari_sam)


def test_public_names_are_those_of_their_modules() -> None:
    from napari_sam.core.masks import Mask
    from napari_sam.segmenter import Candidates, Segmenter

    assert napari_sam.Segmenter is Segmenter
    assert napari_sam.Candidates is Candidates
    assert napari_sam.Mask is Mask


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(ImportError, match="nonsense"):
        from napari_sam import nonsense  # noqa: F401
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = napari_sam.nonsense


def test_every_error_of_the_package_can_be_caught_at_once() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) >= 6
    assert all(issubclass(kind, napari_sam.NapariSamError) for kind in kinds)


def test_the_version_is_one_and_the_same_everywhere() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.?(a|b|rc|dev)\d+)?", napari_sam.__version__)
    assert version("napari-sam") == napari_sam.__version__


def test_the_command_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="napari-sam")
    assert script.value == "napari_sam.cli:main"
    assert callable(script.load())


# The napari manifest


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = ROOT / "napari.yaml"
    assert top.exists()
    assert top.read_text() == (ROOT / "src" / "napari_sam" / "napari.yaml").read_text()


@needs_napari
def test_the_manifest_is_valid_and_found_by_napari() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(str(files("napari_sam") / "napari.yaml"))
    assert manifest.name == "napari-sam"
    installed = PluginManifest.from_distribution("napari-sam")
    assert installed.contributions == manifest.contributions
    assert installed.package_version == napari_sam.__version__


@needs_napari
def test_everything_that_the_manifest_names_is_there() -> None:
    from npe2 import PluginManifest

    contributions = PluginManifest.from_file(str(files("napari_sam") / "napari.yaml")).contributions
    commands = {command.id: command.python_name for command in contributions.commands}
    assert commands
    for python_name in commands.values():
        module, _, name = python_name.partition(":")
        assert callable(getattr(import_module(module), name)), python_name
    used = [
        *(widget.command for widget in contributions.widgets),
        *(sample.command for sample in contributions.sample_data),
        *(reader.command for reader in contributions.readers),
        *(writer.command for writer in contributions.writers),
        *(item.command for menu in contributions.menus.values() for item in menu),
    ]
    assert set(used) == set(commands)


@needs_napari
def test_the_manifest_offers_the_widget_under_plugins_and_layers() -> None:
    from npe2 import PluginManifest

    contributions = PluginManifest.from_file(str(files("napari_sam") / "napari.yaml")).contributions
    assert [widget.display_name for widget in contributions.widgets] == ["Segment Anything"]
    assert [item.command for item in contributions.menus["napari/layers/segment"]] == [contributions.widgets[0].command]


@needs_napari
def test_sample_data_are_layers() -> None:
    from npe2 import PluginManifest

    contributions = PluginManifest.from_file(str(files("napari_sam") / "napari.yaml")).contributions
    commands = {command.id: command.python_name for command in contributions.commands}
    for sample in contributions.sample_data:
        module, _, name = commands[sample.command].partition(":")
        (data, options, kind), *_ = getattr(import_module(module), name)()
        assert kind == "image"
        assert (data[0] if options.get("multiscale") else data).ndim >= 2
        assert options["name"]


# The rules between modules


def test_every_module_imports_only_what_the_design_allows() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-cache"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"[1-9]\d* kept, 0 broken", result.stdout)


def test_the_package_ships_its_weights_and_its_manifest() -> None:
    package = files("napari_sam")
    assert (package / "models" / "compact" / "compact.safetensors").is_file()
    assert (package / "napari.yaml").is_file()
