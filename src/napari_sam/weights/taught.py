"""TaughtModel: the models that users taught, by name, with their cards; listed, exported and imported without torch."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from napari_sam.arguments import shown
from napari_sam.errors import ModelError, OutputError
from napari_sam.files.folders import taught_folder
from napari_sam.files.outputs import check_output, replacing
from napari_sam.weights.download import sha256_of
from napari_sam.weights.local import verified
from napari_sam.weights.registry import REGISTRY, is_there

SUFFIX = ".safetensors"
CARD = "card"
# The prompts of the figures, in words.
PROMPTS = {"click_1": "first click", "click_3": "3 clicks", "box": "box"}
# A smaller change of a figure is none.
LEAST_CHANGE = 0.005
_NAME = re.compile(r"[^\W_][\w.-]{0,63}")


@dataclass(frozen=True, slots=True)
class TaughtModel:
    """A model that a user taught.

    Parameters
    ----------
    name
        Its name.
    path
        The file of its weights.
    card
        What is known of it: `base`, `date`, `images`, `objects`, `corrected`, `held_back`, `steps`, `minutes`, and the
        figures `before` and `after` on the objects that were held back; of these, `everything` is what it finds alone
        around some of them, as `everything_measure` says, and `others` the rehearsal on images of other kinds.
    """

    name: str
    path: Path
    card: dict[str, Any]

    @property
    def base(self) -> str:
        """Name or path of the model that it began from."""
        return str(self.card.get("base", ""))

    @property
    def summary(self) -> str:
        """What it was taught, and what that gained, in one line."""
        card, images = self.card, self.card.get("images", [])
        count = len(images) if isinstance(images, list) else 0
        text = f"Taught {str(card.get('date', ''))[:10]} by {card.get('objects', '?')} objects of {count} image"
        return f"{text}{'' if count == 1 else 's'}: {gain(card)}."


def gain(figures: dict[str, Any]) -> str:
    """Return what teaching gained, as in "first click 0.52 -> 0.66, all objects F1 0.40 -> 0.62".

    Where the first click is as good as before, three clicks or the box are told if they changed.

    Parameters
    ----------
    figures
        With `before` and `after`, as the card of a model.
    """
    known = {name: _figures(figures, name) for name in PROMPTS}
    told = next((name for name, pair in known.items() if pair and abs(pair[1] - pair[0]) >= LEAST_CHANGE), "click_1")
    alone = _change(figures, "everything")
    measure = (figures.get("after") or {}).get("everything_measure", "F1")
    prompt = f"{PROMPTS[told]} {_change(figures, told) or 'not measured'}"
    return prompt + (f", all objects {measure} {alone}" if alone else "")


def loss(figures: dict[str, Any]) -> str:
    """Return what teaching changed on images of other kinds, as in "other images 0.75 -> 0.73"; empty if unknown."""
    others = _change(figures, "others")
    return f"other images {others}" if others else ""


def _change(figures: dict[str, Any], name: str) -> str:
    """Return a figure before and after, with two decimals; empty where it is not known."""
    found = _figures(figures, name)
    return "" if found is None else f"{found[0]:.2f} -> {found[1]:.2f}"


def _figures(figures: dict[str, Any], name: str) -> tuple[float, float] | None:
    """Return a figure before and after, or None where it is not known."""
    before, after = ((figures.get(when) or {}).get(name) for when in ("before", "after"))
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return None
    return float(before), float(after)


def taught_models() -> list[TaughtModel]:
    """Return the models that were taught on this computer or imported, by name; files that are damaged are left out."""
    try:
        paths = sorted(taught_folder().glob(f"*{SUFFIX}"))
    except (OSError, OutputError, ModelError):
        return []
    found = []
    for path in paths:
        card = read_card(path)
        if card is not None:
            found.append(TaughtModel(path.name.removesuffix(SUFFIX), path, card))
    return found


def taught_model(name: str) -> TaughtModel | None:
    """Return the taught model of a name, or None."""
    if name in REGISTRY or not _NAME.fullmatch(name):
        return None
    try:
        path = taught_folder() / f"{name}{SUFFIX}"
    except (OutputError, ModelError):
        return None
    card = read_card(path) if is_there(path) else None
    return None if card is None else TaughtModel(name, path, card)


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the card in a file of weights, or None where there is none."""
    try:
        with safe_open(path, "numpy") as file:
            card = json.loads((file.metadata() or {})[CARD])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
    return card if isinstance(card, dict) else None


def checked_name(name: Any) -> str:
    """Return the name of a model to teach.

    Raises
    ------
    ModelError
        It is no file name, or that of a model that everybody has.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ModelError(
            f"The name of a model has letters, digits, dots, dashes and underscores, and {shown(name)} does not: "
            "choose another one."
        )
    if name in REGISTRY or os.path.exists(name):  # noqa: PTH110  Even of a broken link.
        what = "a model" if name in REGISTRY else "a file here"
        raise ModelError(f"There is {what} named {name} already: choose another name.")
    return name


def base_of(model: str) -> str:
    """Return the model from which teaching begins where a model is in use: of a taught one, what it began from itself.

    A model that is taught on top of itself drifts away from what it knew.
    """
    taught = taught_model(model)
    return model if taught is None else taught.base


def base_file(model: str) -> tuple[Path, str]:
    """Return the file of a base model, downloaded if it is missing, and its sha256.

    Raises
    ------
    ModelError
        There is no such model, or it cannot be downloaded.
    """
    if model in REGISTRY:
        return verified(REGISTRY[model])
    path = Path(model)
    if not is_there(path):
        raise ModelError(f"There is no model {shown(model)}: use one of {', '.join(REGISTRY)}, or a checkpoint.")
    return path, sha256_of(path)


def keep_model(file: Path, name: str) -> TaughtModel:
    """Put a file of weights with a card among the taught models; an earlier one of the name is replaced.

    Raises
    ------
    ModelError
        The file has no card.
    OutputError
        The folder cannot be written to.
    """
    name = checked_name(name)
    card = _card_of(file)
    path = taught_folder() / f"{name}{SUFFIX}"
    with replacing(path) as temporary:
        shutil.copyfile(file, temporary)
    return TaughtModel(name, path, card)


def import_model(file: Path, name: str | None = None) -> TaughtModel:
    """Put a model that somebody exported among the taught ones.

    Parameters
    ----------
    file
        The file.
    name
        Its name here; by default that in its card.

    Raises
    ------
    ModelError
        The file has no card, or there is a model of that name.
    OutputError
        The folder cannot be written to.
    """
    wanted = name or str(_card_of(file).get("name", file.name.removesuffix(SUFFIX)))
    if taught_model(wanted) is not None:
        raise ModelError(f"There is a model named {wanted} already: remove it first, or give another name.")
    return keep_model(file, wanted)


def export_model(name: str, file: Path, *, overwrite: bool = False) -> None:
    """Copy a taught model to a file, with its card.

    Raises
    ------
    ModelError
        There is no such model.
    OutputError
        The file cannot be written.
    """
    model = _known(name)
    check_output(file, (SUFFIX,), overwrite)
    with replacing(file) as temporary:
        shutil.copyfile(model.path, temporary)


def remove_model(name: str) -> None:
    """Delete a taught model; raises ModelError where there is none."""
    model = _known(name)
    try:
        model.path.unlink()
    except OSError as error:
        raise OutputError(f"{model.path} cannot be removed ({error.strerror}): check its permissions.") from error


def _card_of(file: Path) -> dict[str, Any]:
    card = read_card(file)
    if card is None:
        raise ModelError(f"{file} is no taught model: give a file that `napari-sam models --export` wrote.")
    return card


def _known(name: str) -> TaughtModel:
    model = taught_model(name)
    if model is None:
        names = ", ".join(each.name for each in taught_models()) or "none yet"
        raise ModelError(f"There is no taught model {shown(name)}: the ones here are {names}.")
    return model
