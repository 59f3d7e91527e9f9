"""Write the generated parts of the documentation: the commands, the table of models, and the measured tables.

Commands and models come from the program itself, measurements from the JSON files in `benchmarks/results`.
Run `make tables` after either has changed; `tests/test_docs.py` compares the pages with what this script writes.
"""

from __future__ import annotations

import ast
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import typer
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
TYPES = {"str": "text", "path": "path", "int": "integer", "float": "number"}
# A generated part stands between these, with its name in them.
MARKS = "<!-- begin {0} -->\n", "<!-- end {0} -->"

KINDS = {
    "amazon_forest_s2": "forest, satellite",
    "aorta_ct_slices": "aorta, CT",
    "axondeepseg_sem": "axons, electron microscopy",
    "bbbc039_u2os_nuclei": "nuclei, fluorescence",
    "busi_breast_ultrasound": "tumors, ultrasound",
    "c2c12_phase": "cells, phase contrast",
    "chd_heart_ct_slices": "heart, CT",
    "coco_mixed80": "photographs, all 80 categories",
    "coco_mixed_more": "photographs, mixed",
    "coco_natural": "photographs",
    "coco_one_person": "photographs of one person",
    "concrete_damage": "damage of concrete, photographs",
    "dsb2018_nuclei": "nuclei, fluorescence, H&E, bright field",
    "dubai_aerial_hitl": "buildings and land cover, from the air",
    "fives_retina": "vessels, fundus photographs",
    "flood_area": "flood water, from the air",
    "glomeruli_pas": "glomeruli, PAS stain",
    "gravel_grains": "grains of gravel, photographs",
    "hc18_fetal_head_ultrasound": "fetal head, ultrasound",
    "hrf_retina_vessels": "vessels, fundus photographs",
    "hvsmr_heart_mri_slices": "heart, MRI",
    "idrid_optic_disc": "optic disc, fundus photographs",
    "isic_skin": "skin lesions",
    "kidney_t2w_mri_slices": "kidneys, MRI",
    "kneebones_mri_slices": "knee bones, MRI",
    "krd_wbc_blood_smear": "white blood cells, bright field",
    "msd_hepaticvessel_ct_slices": "vessels of the liver, CT",
    "msd_hippocampus_mri": "hippocampus, MRI",
    "msd_left_atrium_mri_slices": "left atrium, MRI",
    "msd_spleen_ct_slices": "spleen, CT",
    "neuroblastoma_nuclei": "nuclei, fluorescence",
    "nuinsseg_oesophagus_he": "nuclei, H&E",
    "oam_buildings_uganda": "buildings, from the air",
    "octa_foveal_avascular_zone": "avascular zone of the fovea, OCT angiography",
    "pd25_brain_mri_slices": "brain structures, MRI",
    "pulmonary_vessels_ct_slices": "vessels of the lung, CT",
    "qcanet_embryo_nuclei": "embryo nuclei, fluorescence volume",
    "sct_spinalcord_mri": "spinal cord, MRI",
    "solar_panels": "solar panels, from the air",
    "spider_spine_mri_slices": "vertebrae and discs, MRI",
    "usiigaci_phase": "cells, phase contrast",
    "bbbc050_nuclei_timelapse": "nuclei through time, fluorescence",
    "fibsem_medulla_neurites": "neurites, electron microscopy volume",
    "gala_fibsem_neurites": "neurites, electron microscopy volume",
    "mni152_t1": "gray and white matter, MRI",
    "plantseg_nuclei_mini": "plant nuclei, confocal volume",
    "plantseg_ovule": "ovule cells, confocal volume",
    "totalsegmentator_ct_3mm": "organs, CT",
}


def pages() -> dict[Path, str]:
    """Return every page that has generated parts, as it should be."""
    speed = DOCS / "explanation" / "speed.md"
    texts = {
        DOCS / "reference" / "commands.md": commands(),
        DOCS / "reference" / "models.md": {"models": models()},
        DOCS / "reference" / "formats.md": {"written": written_formats()},
        DOCS / "reference" / "reading.md": {"formats that are read": formats_read()},
        DOCS / "explanation" / "architecture.md": {"modules": modules()},
        DOCS / "explanation" / "model_card.md": {
            "accuracy": accuracy(_results("compact")),
            "volumes": volumes(_results("volumes")),
        },
        speed: {
            "cpu vit_b": sam_speed(_results("sam_speed")),
            "grid of points": grid_speed(_results("everything_grid")),
            "large images": large_images(_results("large")),
            "event loop": event_loop(_results("event_loop")),
        },
    }
    return {page: text if isinstance(text, str) else _filled(page, text) for page, text in texts.items()}


def _results(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def _filled(page: Path, parts: dict[str, str]) -> str:
    """Return a page with new text between the marks of each part."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = (mark.format(name) for mark in MARKS)
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"{page} must have the marks {begin.strip()} and {end} once.")
        text = pattern.sub(lambda _, new=f"{begin}{part}\n{end}": new, text)
    return text


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


# Modules


def modules() -> str:
    """Return a list of all modules, with the first sentence of each."""
    root = ROOT / "src" / "napari_sam"
    texts = []
    for folder in [root, *sorted(path for path in root.rglob("*") if (path / "__init__.py").exists())]:
        name = folder.relative_to(root).as_posix()
        # One sentence a line, as on all pages.
        about = "" if folder == root else f"{_first_sentence(folder / '__init__.py')}\n\n".replace(". ", ".\n")
        rows = [
            [f"`{path.name}`", _first_sentence(path)]
            for path in sorted(folder.glob("*.py"))
            if path.name != "__init__.py"
        ]
        if rows:
            title = "At the top" if folder == root else f"`{name}`"
            texts.append(f"### {title}\n\n{about}{table(['module', 'content'], rows)}")
    return "\n\n".join(texts) + "\n"


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


# Commands and models


def _app() -> typer.Typer:
    """Return the Typer app of the command, which stands beside the function that the entry point names."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["napari-sam"].partition(":")
    main = getattr(import_module(module), function)
    app: typer.Typer = import_module(main.__module__).app
    return app


def commands() -> str:
    """Return the page of all commands with their arguments and options, as `--help` states them."""
    lines = [
        "<!-- Written by tools/generated_docs.py from the help of the commands: run `make tables`. -->",
        "# Commands",
        "",
        "`napari-sam COMMAND --help` prints the same in a terminal.",
        "An error is one sentence that says what to do; the exit status is then 1.",
        "Output files appear only when they are complete, and no output replaces an input.",
    ]
    for name, command in typer.main.get_command(_app()).commands.items():
        context = command.context_class(command, info_name=f"napari-sam {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        lines += ["", f"## {name}", "", command.help or "", "", "```text", usage, "```", ""]
        rows = [list(_parameter(*param.get_help_record(context))) for param in command.get_params(context)]
        lines.append(table(["Argument or option", "Value", "Meaning", "Default"], rows))
    return "\n".join(lines) + "\n"


def _parameter(signature: str, meaning: str) -> Iterator[str]:
    """Yield the cells of a parameter's row: its name, its value, what it means, and its default."""
    words = signature.split(" ")
    count = 1 + sum(1 for _ in takewhile(lambda word: word.startswith(("-", "/")), words[1:]))
    meaning, _, note = meaning.partition("  [")
    yield f"`{' '.join(words[:count])}`"
    yield _value(" ".join(words[count:]))
    yield meaning
    yield re.sub(r"; ([\d.]+)<=x<=([\d.]+)", r" (\1 to \2)", note.rstrip("]").removeprefix("default: ")) or "—"


def _value(metavar: str) -> str:
    """Return what an option takes, in a form that a table can hold: a bar would end the cell."""
    kind = metavar.strip("<>").removesuffix(" range")
    if not metavar or kind == "bool":
        return "—"
    if metavar.startswith("<"):
        return TYPES.get(kind) or ", ".join(f"`{choice}`" for choice in kind.split("|"))
    return f"<code>{metavar.replace('|', '&#124;')}</code>" if "|" in metavar else f"`{metavar}`"


def formats_read() -> str:
    """Return the table of the formats of images, with their libraries."""
    from napari_sam.images.formats.readable import FORMATS

    rows = [
        [
            each.title,
            " ".join(f"`{suffix}`" for suffix in each.suffixes),
            f"`pip install {each.library}`" if each.library else "—",
            each.is_lazy,
            each.keeps,
            each.loses,
        ]
        for each in FORMATS
    ]
    return table(["Format", "Endings", "Needs", "Read", "Kept", "Lost"], rows)


def models() -> str:
    """Return the table of models, as `napari-sam models --json` lists them where none was downloaded."""
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, NAPARI_SAM_MODELS=folder):
        listed = json.loads(CliRunner().invoke(_app(), ["models", "--json"]).stdout)
    rows = []
    for model in listed:
        is_shipped = model["where"] == "shipped"
        how = "in the package" if is_shipped else "by hand" if model["by hand"] else "downloaded"
        file = "—" if is_shipped else f"`{Path(model['path']).relative_to(folder).as_posix()}`"
        rows.append([f"`{model['name']}`", model["good for"], _size(model["bytes"]), model["licence"], how, file])
    return table(["name", "good for", "size", "license of the weights", "how it comes", "file"], rows)


def written_formats() -> str:
    """Return the table of formats that labels and their objects are exported to."""
    from napari_sam.exports.formats import FORMATS

    rows = [
        [
            form.name,
            ", ".join(f"`{suffix}`" for suffix in form.suffixes),
            form.holds,
            form.place,
            form.loses,
            "—" if form.library is None else f"`{form.library[1]}`",
        ]
        for form in FORMATS
    ]
    return table(["format", "ending", "what is kept", "pixel sizes and position", "what is lost", "needs"], rows)


def _size(count: int) -> str:
    mebibytes = count / 2**20
    return f"{mebibytes:.0f} MiB" if mebibytes < 1000 else f"{mebibytes / 1024:.1f} GiB"


# Measurements


def accuracy(results: dict[str, Any]) -> str:
    """Return the model card's table from what `napari-sam evaluate --baselines` wrote."""
    classical = results["baselines"]
    head = ["subset", "objects", "1 click", "off-center", "best of 3", "3 clicks", "8 clicks", "box"]
    head += ["boundary F", "flood", "random walker"]
    rows = []
    for name, row in [*results["subsets"].items(), ("mean", results["mean"])]:
        beside = classical["subsets"].get(name, classical["mean"])
        clicks = [row["miou"][0], row["off_center_miou"], row["best_of_3"], row["miou"][2], row["miou"][7]]
        others = [row["box_miou"], row["boundary_f"][7], beside["flood_miou"], beside["walker_miou"]]
        figures = [f"{value:.2f}" for value in [*clicks, *others]]
        title = f"{KINDS.get(name, name)} (`{name}`)"
        if name == "mean":
            title, figures = "**mean of the subsets**", [f"**{figure}**" for figure in figures]
        rows.append([title, str(row["n"]), *figures])
    return f"{table(head, rows)}\n\n{_summary_of(results['mean'])}"


def volumes(results: dict[str, Any]) -> str:
    """Return the model card's table of volumes from what `napari-sam evaluate --volumes` wrote."""
    counts = ("1", "2", "3", "5")
    head = ["subset", "objects", *(f"{count} plane{'s' * (count != '1')}" for count in counts)]
    head += ["boxes, 3", "interpolation, 3", "plane IoU", "ends missed", "Spearman"]
    rows = []
    for name, row in [*results["subsets"].items(), ("mean", results["mean"])]:
        figures = [row["volume_iou"][count] for count in counts]
        figures += [row[key]["volume_iou"]["3"] for key in ("box_baseline", "interpolation")]
        figures += [row["plane_iou_16"], row["end_planes_missed"], row["spearman"]]
        texts = ["" if value is None else f"{value:.2f}" for value in figures]
        title = f"{KINDS.get(name, name)} (`{name}`)"
        if name == "mean":
            title, texts = "**mean of the subsets**", [f"**{text}**" for text in texts]
        rows.append([title, str(row["objects"]), *texts])
    mean = results["mean"]
    sentences = (
        f"One correction on the plane that the confidence names changes the Dice score by {mean['dice_gain']:+.2f}.",
        f"A plane and object takes {mean['ms_per_plane']:.0f} ms without the encoding of tiles.",
    )
    return f"{table(head, rows)}\n\n" + "\n".join(sentences)


def _summary_of(mean: dict[str, Any]) -> str:
    """Return the sentences below the model card's table, each on a line of its own."""
    sentences = [
        f"It takes {mean['noc80']:.1f} clicks to an IoU of 0.8, {mean['noc85']:.1f} to 0.85 and {mean['noc90']:.1f} to "
        "0.9, where an object that does not get there counts as 9.",
        f"The Spearman correlation of the predicted and the true IoU is {mean['iou_spearman']:.2f} over all clicks and "
        f"{mean['iou_spearman_first']:.2f} over first clicks.",
        f"The predicted IoU is {_difference(mean['iou_bias'])} over all clicks and "
        f"{_difference(mean['iou_bias_first'])} over first clicks; the expected calibration error is "
        f"{mean['iou_calibration_error']:.2f} and {mean['iou_calibration_error_first']:.2f}.",
        f"The center that each pixel guesses of its object is {mean['dense_center_error']:.2f} radii off.",
    ]
    if mean["dense_foreground_iou"] is not None:
        sentences.append(
            f"Without a prompt, the IoU of the foreground is {mean['dense_foreground_iou']:.2f} and the F score of the "
            f"borders {mean['dense_border_f']:.2f}."
        )
    return "\n".join(sentences)


def _difference(bias: float) -> str:
    if abs(bias) < 0.005:
        return "right on average"
    return f"{abs(bias):.2f} too {'high' if bias > 0 else 'low'}"


def sam_speed(report: dict[str, Any]) -> str:
    """Return the comparison with other implementations from what `benchmarks/sam.py --write` wrote."""
    threads, tiles = report["threads"], report["batch"]
    parts = [
        f"{report['device']}, {threads} thread{'s' * (threads > 1)}, torch {report['torch']}, {report['size']}, "
        f"{tiles} tile{'s' * (tiles > 1)} at a time, {report['unit']}, "
        f"median (minimum to maximum) of {report['rounds']} rounds.\n"
        f"A large matrix product reaches {report['peak']['float32']:.0f} GFLOP/s in float32 and "
        f"{report['peak']['bfloat16']:.0f} GFLOP/s in bfloat16."
    ]
    titles = {"encode": "encode a tile of 1024 x 1024", "click": "click on an encoded tile, three full masks"}
    for key, title in titles.items():
        rows = [
            [row["name"], f"{row['ms']:.0f} ({row['least']:.0f} to {row['most']:.0f})", f"{row['ratio']:.2f}"]
            for row in report.get(key, [])
        ]
        if rows:
            parts.append(table([title, "ms", "times faster"], rows))
    if "hover" in report:
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in report["hover"].items())
        parts.append(f"Masks per second on an encoded tile while the cursor moves: {rates}.")
    for name, row in report.get("bulk", {}).items():
        parts.append(
            f"Bulk encoding of a zarr plane with {name}: {row['tiles_per_s']:.2f} tiles per second; the image encoder "
            f"is busy {row['busy']:.1%} of the time; arrays take at most {row['numpy_mib']:.0f} MiB."
        )
    return "\n\n".join(parts)


def grid_speed(report: dict[str, Any]) -> str:
    """Return the comparison with SAM's mask generator from what `benchmarks/everything_grid.py --json` wrote."""
    names = {
        "official": "segment-anything",
        "grid": "napari-sam, the same points",
        "adaptive": "napari-sam, without points that an earlier mask explains",
    }
    rows = []
    for key, name in names.items():
        row, ratio = report[key], report["ratios"].get(key, dict.fromkeys(("with_encoder", "without_encoder"), 1.0))
        decoding = row["seconds"] - row["encoder"]
        times = [f"{row['encoder']:.1f}", f"{decoding:.1f}", f"{ratio['without_encoder']:.1f}"]
        rows.append([name, *times, f"{ratio['with_encoder']:.1f}", f"{row['peak_mib']:.0f} MiB"])
    points, shares = report["points_per_side"], report["same_masks"]
    head = ["", "encoder, s", "all else, s", "times faster", "with the encoder", "peak memory"]
    how = (
        f"{report['device']}, 1 thread, {report['size']}, float32, {points} x {points} points, processor time, "
        f"median of {report['rounds']} round{'s' * (report['rounds'] > 1)}."
    )
    same = (
        f"{shares['official_in_grid']:.0%} of the {report['official']['masks']:.0f} official masks are found by the "
        f"same points with an IoU of at least 0.98, and {shares['grid_in_official']:.0%} the other way round."
    )
    return "\n\n".join([how, table(head, rows), same])


def large_images(results: dict[str, Any]) -> str:
    """Return the tables of first clicks and accepted masks from what `benchmarks/large.py --json` wrote."""
    clicks = [
        [case, f"{row['ms']:.0f}", f"{row['ratio']:.2f}", f"{max(row['extra_mib'], 0):.0f} MiB"]
        for case, row in results["click"].items()
    ]
    accepted = [
        [case, *(f"{row[key] * 1000:.0f} ms" for key in ("first", "again", "undo")), f"{row['mib']:.0f} MiB"]
        for case, row in results["accept"].items()
    ]
    return "\n\n".join(
        [
            table(["first click, nothing read before", "ms", "ratio", "additional peak memory"], clicks),
            table(["accept 500 x 500 pixels into a pyramid", "first", "again", "undo", "peak memory"], accepted),
        ]
    )


def event_loop(results: dict[str, Any]) -> str:
    """Return how long our code blocked the event loop, from what `benchmarks/event_loop.py --json` wrote."""
    rows = [[kind, f"{row['ours_ms']:.0f} ms", f"{row['next_ms']:.1f} ms"] for kind, row in results.items()]
    return table(["while", "longest", "second longest"], rows)


def main() -> None:
    """Write the pages."""
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
