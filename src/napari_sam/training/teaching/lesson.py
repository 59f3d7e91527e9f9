"""Lesson: the folder of one teaching, with its regions, its progress and its result; needs no torch."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_sam.errors import ModelError, OutputError
from napari_sam.files.outputs import replacing
from napari_sam.training.teaching.regions import Region

OPTIONS_FILE, REGIONS_FILE, PROGRESS_FILE, STOP_FILE = "lesson.json", "regions.npz", "progress.json", "stop"
MODEL_FILE, LOG_FILE = "model.safetensors", "log.txt"
ENDED = ("better", "not better", "failed")
# Of all regions; beyond, a snapshot would take long to write and to read.
MOST_PIXELS = 200_000_000


@dataclass(frozen=True, slots=True)
class TeachOptions:
    """What is taught, to which model, and how long.

    Parameters
    ----------
    name
        Name of the new model.
    base
        Name or path of the model that it begins from.
    minutes
        How long it may take.
    device, threads
        As for `Segmenter`; by default all processor threads but one.
    is_complete
        Whether all objects of the planes with accepted ones were accepted.
    seed
        Fixes which objects are held back, and the order of the others.
    trust_labels
        Whether to learn also from masks of which many lie beside the edges of the image.
    complete
        (top, left, bottom, right) of parts of all planes in which every object was accepted.
    train
        What learns of a SAM: its "decoder", or "adapters" of its image encoder besides.
    rank
        Of the adapters.
    """

    name: str
    base: str = "compact"
    minutes: float = 4.0
    device: str = "auto"
    threads: int | None = None
    is_complete: bool = False
    seed: int = 0
    trust_labels: bool = False
    complete: Sequence[Sequence[float]] = ()
    train: str = "decoder"
    rank: int = 4


@dataclass(frozen=True, slots=True)
class Lesson:
    """A teaching on disk: it goes on after a kill, a pause or a night, and no change of the journals reaches it.

    Parameters
    ----------
    folder
        Its folder.
    """

    folder: Path

    @classmethod
    def begin(cls, folder: Path, options: TeachOptions, names: Sequence[str], regions: Iterable[Region]) -> Lesson:
        """Write what is taught into a new folder; an earlier lesson there is replaced.

        Parameters
        ----------
        folder
            The folder.
        options
            How to teach.
        names
            The names of the images.
        regions
            What to learn from.

        Raises
        ------
        ModelError
            There is no object in the regions.
        OutputError
            The disk is full or the folder cannot be written to.
        """
        kept: list[Region] = []
        pixels = 0
        for region in regions:
            pixels += region.objects.size
            if pixels > MOST_PIXELS and kept:
                break
            kept.append(region)
        if not kept:
            raise ModelError("There is no accepted object to learn from: accept some first.")
        lesson = cls(folder)
        lesson.discard()
        images = [
            {"name": name, "objects": len({label for one in kept if one.image == at for label in one.labels.tolist()})}
            for at, name in enumerate(names)
        ]
        corrected = sum(int(one.is_corrected.sum()) for one in kept)
        try:
            with replacing(folder / REGIONS_FILE) as path, path.open("wb") as file:
                np.savez(file, **_arrays(kept))
        except ValueError as error:
            raise OutputError(f"The objects cannot be written to {folder} ({error}): make room there.") from error
        said = {"options": dataclasses.asdict(options), "images": images, "corrected": corrected}
        lesson._write(OPTIONS_FILE, said)
        return lesson

    @property
    def exists(self) -> bool:
        """Whether there is a lesson in the folder that can go on."""
        return (self.folder / OPTIONS_FILE).is_file() and (self.folder / REGIONS_FILE).is_file()

    @property
    def options(self) -> TeachOptions:
        """How to teach; raises ModelError where the folder is damaged."""
        try:
            return TeachOptions(**self._read(OPTIONS_FILE)["options"])
        except (KeyError, TypeError) as error:
            raise self._damaged() from error

    @property
    def images(self) -> list[dict[str, Any]]:
        """The images: `name` and number of `objects`."""
        return list(self._read(OPTIONS_FILE).get("images", []))

    @property
    def corrected(self) -> int:
        """How many objects were corrected by the user."""
        return int(self._read(OPTIONS_FILE).get("corrected", 0))

    def regions(self) -> list[Region]:
        """Read the regions; raises ModelError where the file is damaged."""
        try:
            with np.load(self.folder / REGIONS_FILE, allow_pickle=False) as found:
                count = 1 + max(int(name.partition("/")[0]) for name in found.files)
                fields = [field.name for field in dataclasses.fields(Region)]
                return [Region(**{name: _plain(found[f"{at}/{name}"]) for name in fields}) for at in range(count)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged() from error

    @property
    def progress(self) -> dict[str, Any]:
        """How far it is; empty before it began."""
        try:
            return self._read(PROGRESS_FILE)
        except ModelError:
            return {}

    def report(self, **changes: Any) -> dict[str, Any]:
        """Add to the progress, and write it."""
        now = {**self.progress, **changes, "time": time.time()}
        self._write(PROGRESS_FILE, now)
        return now

    def stop(self) -> None:
        """Ask the process that teaches to save its state and end; teaching again goes on there."""
        try:
            (self.folder / STOP_FILE).touch()
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written to ({error.strerror}): make room there.") from error

    @property
    def must_stop(self) -> bool:
        """Whether it was asked to stop."""
        return (self.folder / STOP_FILE).exists()

    def resume(self) -> None:
        """Forget that it was asked to stop."""
        (self.folder / STOP_FILE).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the folder with all that it holds."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        with replacing(self.folder / name) as path:
            path.write_text(json.dumps(content))

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_text())
        except (OSError, ValueError) as error:
            raise self._damaged() from error
        if not isinstance(found, dict):
            raise self._damaged()
        return found

    def _damaged(self) -> ModelError:
        return ModelError(f"What was to be taught in {self.folder} is missing or damaged: teach again from the start.")


def _arrays(regions: Sequence[Region]) -> dict[str, Any]:
    return {
        f"{at}/{field.name}": np.asarray(getattr(region, field.name))
        for at, region in enumerate(regions)
        for field in dataclasses.fields(Region)
    }


def _plain(array: Any) -> Any:
    return int(array) if array.ndim == 0 else array
