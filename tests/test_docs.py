"""What the documentation says of the program, and that all of its links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md")])
TEXTS = [
    path
    for folder in ("docs", "src", "tools", "examples", "configs", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".md", ".py", ".yaml", ".toml"}
]
MAX_LINE = 200


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> list[str]:
    """Return the lines of a page that are sentences, without inline code and the targets of links."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "`code`", re.sub(r"\]\([^)]*\)", "]", text))
    return [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "!"))]


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated_docs", ROOT / "tools" / "generated_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_those_that_the_script_writes_now(generated: ModuleType) -> None:
    pages = generated.pages()
    assert len(pages) == 7
    for page, text in pages.items():
        assert page.read_text(encoding="utf-8") == text, f"{page_name(page)} is out of date: run `make tables`."


def test_the_table_of_the_model_card_has_every_measured_subset(generated: ModuleType) -> None:
    card = (DOCS / "explanation" / "model_card.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks" / "results" / "compact.json").read_text())["subsets"]
    assert len(measured) > 10
    for subset in measured:
        assert re.search(rf"^\| [^|]+ \(`{subset}`\) \| \d+ \| 0\.\d\d \|", card, re.MULTILINE), subset


def test_a_page_without_the_marks_of_a_generated_part_is_refused(generated: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# No marks\n")
    with pytest.raises(SystemExit, match="must have the marks"):
        generated._filled(page, {"accuracy": "| table |"})


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_to_files_of_the_repository_lead_to_one(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target} leads nowhere."
        if anchor:
            heads = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads]
            assert anchor in slugs, f"{target} names no heading."


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_each_sentence_has_a_line_of_its_own(page: Path) -> None:
    for line in prose(page):
        assert len(line) <= MAX_LINE, f"This line is too long: {line}"
        sentences = re.sub(r"^ *(?:[-*]|\d+\.) +", "", line)
        assert not re.search(r"[a-z0-9)*`\]][.?!] +[A-Z*`\[]", sentences), f"Two sentences share a line: {line}"


def test_every_picture_is_shown_on_a_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    pictures = list((DOCS / "images").iterdir())
    assert pictures
    assert [picture.name for picture in pictures if f"images/{picture.name})" not in text] == []


def test_nothing_tells_anyone_to_install_this_package_from_an_index() -> None:
    wrong = re.compile(r"pip install[^\n`]*\bnapari[-_]sam\b", re.IGNORECASE)
    for path in [*PAGES, *TEXTS]:
        found = wrong.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{page_name(path)}: {found}. On the index that name is another project's."


def test_the_page_of_keys_has_every_preference_with_its_default() -> None:
    manifest = yaml.safe_load((ROOT / "src" / "napari_sam" / "napari.yaml").read_text(encoding="utf-8"))
    settings = manifest["contributions"]["configurations"]
    page = (DOCS / "reference" / "keys.md").read_text(encoding="utf-8")
    keys, start = page.split("## Startup defaults")
    for name, setting in settings["keys"]["properties"].items():
        key = setting["default"].replace("Control", "Ctrl").replace("-", "+")
        assert re.search(rf"^\| `{re.escape(key)}`[^|]* \| [^|]+ \| `{name}` \|$", keys, re.MULTILINE), name
    for name, setting in settings["start"]["properties"].items():
        default = {"True": "on", "False": "off"}.get(str(setting["default"]), f"`{setting['default']}`")
        assert re.search(rf"^\| `{name}` \| [^|]+ \| {re.escape(default)} \|$", start, re.MULTILINE), name


def test_the_page_of_environment_variables_has_exactly_those_of_the_code() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(NAPARI_SAM_\w+)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(re.findall(r"NAPARI_SAM_[A-Z_]*[A-Z]", sources)))


def test_every_public_name_is_in_the_python_reference() -> None:
    import napari_sam

    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: napari_sam\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(set(napari_sam.__all__) - {"__version__"})


def test_the_map_for_contributors_has_every_folder_of_the_package() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", page.split("## Where things live")[1], re.MULTILINE)
    folders = [init.parent.name for init in (ROOT / "src" / "napari_sam").glob("*/__init__.py")]
    assert sorted(listed) == sorted(folders)


def test_the_citation_names_this_software_its_license_and_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == "napari-sam"
    assert citation["license"] == "BSD-3-Clause"
    assert [author["name"] for author in citation["authors"]] == ["napari-sam developers"]
    assert citation["references"][0]["title"] == "Segment Anything"
