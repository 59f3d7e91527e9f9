"""The sizes that the architecture promises: of modules, packages, functions and the plugin's controller."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "napari_sam"
MODULES = sorted(SOURCE.rglob("*.py"))
MAX_MODULE_LINES = 400
MAX_MODULES = 11  # Of one package, without `__init__`.
MAX_FUNCTION_LINES = 40  # Of the body, without the docstring: the signature of a command is a list of its options.
MAX_CONTROLLER_LINES = 250
# Functions that are longer, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}


def name_of(module: Path) -> str:
    return module.relative_to(SOURCE).as_posix()


def lines_of(module: Path) -> int:
    return len(module.read_text().splitlines())


def functions_of(module: Path) -> Iterator[tuple[str, int]]:
    """Yield each function with the number of lines of its body, without the docstring."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield f"{name_of(module)}:{node.name}", length


def test_no_module_is_longer_than_a_reader_can_hold() -> None:
    assert {name_of(module): n for module in MODULES if (n := lines_of(module)) > MAX_MODULE_LINES} == {}


def test_no_package_has_more_modules_than_a_reader_can_survey() -> None:
    counts = Counter(name_of(module.parent) for module in MODULES if module.name != "__init__.py")
    assert {package: count for package, count in counts.items() if count > MAX_MODULES} == {}


def test_no_function_is_long_without_a_reason() -> None:
    functions = [each for module in MODULES for each in functions_of(module)]
    long = {name: length for name, length in functions if length > MAX_FUNCTION_LINES}
    assert {name: length for name, length in long.items() if name not in LONG_FUNCTIONS} == {}
    assert LONG_FUNCTIONS.keys() <= long.keys(), "a function is short by now: take it off the list"


def test_the_controller_only_wires() -> None:
    assert lines_of(SOURCE / "plugin" / "controller.py") < MAX_CONTROLLER_LINES


def test_no_part_of_the_plugin_reaches_through_the_controller() -> None:
    reaches = {name_of(module): len(re.findall(r"_controller\.", module.read_text())) for module in MODULES}
    assert {module: count for module, count in reaches.items() if count} == {}
