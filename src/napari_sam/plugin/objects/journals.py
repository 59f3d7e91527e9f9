"""The journals of the Labels layers of a viewer: found, opened, written to in the right thread, and closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.discovery import SUFFIX, about, journal_beside, labels_path, record
from napari_sam.journal.entries import Entry, LabelClass
from napari_sam.journal.journal import Journal
from napari_sam.journal.objects import LabelledObject
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.labels import LayerLabels
from napari_sam.plugin.objects.discovery import ResumableWork as ResumableWork
from napari_sam.plugin.objects.discovery import journal_place, left_work
from napari_sam.plugin.workers.runner import Work, apart

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.plugin.workers.runner import Job, Report, Runner

JournalAction = Callable[[Journal], Sequence[Entry]]

# Boxes of more pixels are written by a job: packing and writing 300 x 300 takes about 10 ms.
MAX_SYNC_PIXELS = 90_000
# Where a layer's metadata keep the folder of its journal.
JOURNAL = "napari-sam journal"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What came of something that was done with a journal, and how it stands then.

    Parameters
    ----------
    entries
        What happened.
    error
        Why not all of it did, or None.
    rows
        The objects that may have changed, None for those that are gone.
    is_all
        Whether these are all objects that there are.
    classes, next_undo, next_redo, redoes_several
        As in `Journal`.
    """

    entries: Sequence[Entry]
    error: Exception | None
    rows: dict[int, LabelledObject | None]
    is_all: bool
    classes: list[LabelClass]
    next_undo: Entry | None
    next_redo: Entry | None
    redoes_several: bool

    @classmethod
    def of(cls, journal: Journal, entries: Sequence[Entry], error: Exception | None = None) -> Outcome:
        """Look at a journal in the thread that has just written to it."""
        is_all = not entries or any(entry.what == "class" for entry in entries)
        rows: dict[int, LabelledObject | None] = {}
        if is_all:
            rows.update((row.label, row) for row in journal.objects)
        else:
            touched = {entry.label for entry in entries} | {label for e in entries for label, _, _ in e.areas}
            rows.update((label, _row(journal, label)) for label in touched if label is not None)
        turns = journal.next_undo, journal.next_redo, journal.redoes_several
        return cls(entries, error, rows, is_all, journal.classes, *turns)


def _row(journal: Journal, label: int) -> LabelledObject | None:
    try:
        return journal.object(label)
    except LabelsError:
        return None


@dataclass(slots=True, eq=False)
class OpenJournal:
    """A layer with its journal.

    Parameters
    ----------
    image
        What it was opened for.
    target, journal
        The layer's labels, and what happens to them. The GUI thread reads no journal, which jobs may have locked.
    folder
        The folder of the journal, or None for one in memory.
    rows
        The objects by label.
    classes, next_undo, next_redo, redoes_several
        As in `Journal`.
    unflushed
        Whether the disk may not have all of it yet.
    acting
        How many changes wait or run, as the GUI thread knows.
    """

    image: Image
    target: LayerLabels
    journal: Journal
    folder: Path | None
    rows: dict[int, LabelledObject] = field(default_factory=dict)
    classes: list[LabelClass] = field(default_factory=list)
    next_undo: Entry | None = None
    next_redo: Entry | None = None
    redoes_several: bool = False
    unflushed: bool = False
    acting: int = 0
    _waiting: int = 0
    _is_leaving: bool = False
    _lock: Any = field(default_factory=Lock)

    @property
    def is_busy(self) -> bool:
        """Whether a job that changes something waits or runs."""
        return self.acting > 0

    @property
    def layer(self) -> Labels:
        """The layer."""
        return self.target.layer

    def take(self, outcome: Outcome) -> None:
        """Know how the journal stands now."""
        if outcome.is_all:
            self.rows = {}
        for label, row in outcome.rows.items():
            if row is None:
                self.rows.pop(label, None)
            else:
                self.rows[label] = row
        self.classes, self.next_undo, self.next_redo = outcome.classes, outcome.next_undo, outcome.next_redo
        self.redoes_several = outcome.redoes_several

    def enter(self) -> None:
        """Count a job that will use the journal."""
        with self._lock:
            self._waiting += 1

    def leave(self) -> None:
        """Count a job out, and close the journal after the last one if that was asked for."""
        with self._lock:
            self._waiting -= 1
            closes = self._is_leaving and self._waiting == 0
        if closes:
            self.journal.close()

    def close(self) -> None:
        """Close the journal once no job needs it."""
        with self._lock:
            self._is_leaving = True
            closes = self._waiting == 0
        if closes:
            self.journal.close()


class Journals:
    """Keeps one journal for each Labels layer that masks are accepted into.

    Where its folder cannot be opened or made, the journal is in memory and ends with the window.

    Parameters
    ----------
    runner
        Runs what may take long.
    notify
        Shows one sentence to the user.
    changed
        Called with a layer and the labels that may have changed, None for all: also when it was opened or closed.
    """

    def __init__(
        self,
        runner: Runner,
        notify: Callable[[str], None],
        changed: Callable[[Labels, Sequence[int] | None], None],
    ) -> None:
        self._runner, self._notify, self._changed = runner, notify, changed
        self._kept: dict[Labels, OpenJournal] = {}
        self._opening: dict[Labels, list[Callable[[], None]]] = {}
        self._found: WeakKeyDictionary[Image, list[ResumableWork]] = WeakKeyDictionary()
        self._closed = False

    # -- what is there -----------------------------------------------------------------------------------------------

    def kept(self, layer: Labels | None) -> OpenJournal | None:
        """Return a layer with its journal, or None where it has none."""
        return None if layer is None else self._kept.get(layer)

    def all_kept(self) -> list[OpenJournal]:
        """Return all layers with their journals, the one opened last at the end."""
        return list(self._kept.values())

    def offer(self, image: Image | None) -> ResumableWork | None:
        """Return work on an image that was left, the latest, if it was looked for and is not open in this viewer."""
        found = [] if image is None else self._found.get(image, [])
        return next((offer for offer in found if offer.count and not self._is_open(offer.journal)), None)

    def look_job(self, image: Image) -> Callable[[], None] | None:
        """Return what looks for work on an image that was left, in any thread; None where that was done."""
        if image in self._found:
            return None
        try:
            volume = adapters.shown([image]).volume
        except NapariSamError:
            return None
        source = source_of(image)
        folder = own_layers.label_folder_of(image) if own_layers.goes_to_disk(image) else None

        def look() -> None:
            found: list[ResumableWork] = []
            with contextlib.suppress(NapariSamError, OSError):
                found = left_work(about(volume, source), folder)
            self._found[image] = found

        return look

    # -- opening and closing -----------------------------------------------------------------------------------------

    def open(
        self,
        layer: Labels,
        image: Image,
        then: Callable[[], None],
        *,
        is_new: bool = False,
        folder: Path | None = None,
        highest: int | None = None,
    ) -> None:
        """Open the journal of a layer and go on: with a journal in memory, and a message, where there can be no other.

        Parameters
        ----------
        layer, image
            The layer, and the image that its labels are of.
        then
            Called in the GUI thread, at once where the journal is open. The layer has no journal then if it was deleted
            meanwhile, or `folder` could not be opened.
        is_new
            Whether the layer was made just now and holds nothing.
        folder
            The journal to go on with; looked for when left out.
        highest
            The highest label of the layer, where it is known.
        """
        if layer in self._kept:
            then()
            return
        if layer in self._opening:
            self._opening[layer].append(then)
            return
        self._opening[layer] = [then]
        try:
            job, is_quick = self._open_job(layer, image, is_new, folder, 0 if is_new else highest)
        except NapariSamError as error:
            self._on_not_open(layer, image, error, folder)
            return

        def done(kept: OpenJournal) -> None:
            self._on_open(layer, kept)

        def failed(error: Exception) -> None:
            self._on_not_open(layer, image, error, folder)

        if not is_quick:
            apart(self._runner)(Work(job, done, failed))
            return
        try:
            kept = job(_ignore)
        except NapariSamError as error:
            failed(error)
        else:
            done(kept)

    def adopt(self, layer: Labels, kept: OpenJournal) -> None:
        """Take over a journal that a job opened together with the labels."""
        if self._closed:
            kept.close()
            return
        self._kept[layer] = kept
        if kept.folder is not None:
            layer.metadata[JOURNAL] = kept.folder
        if kept.journal.trouble:
            self._notify(kept.journal.trouble)
        self._changed(layer, None)

    def is_left(self, layer: Labels, image: Image) -> bool:
        """Say whether there is a journal that may be of a layer."""
        place = labels_path(labels_layer.pyramid_of(layer) or layer.data)
        return bool(self._found.get(image)) if place is None else journal_beside(place).exists()

    def forget(self, layer: Labels) -> None:
        """Close the journal of a layer that is gone; what it holds can be gone on with."""
        waiting = self._opening.pop(layer, [])
        kept = self._kept.pop(layer, None)
        if not self._closed:
            for then in waiting:
                then()
        if kept is None:
            return
        count, array = len(kept.rows), kept.target.array
        kept.close()
        if kept.folder is not None and (isinstance(array, LabelPyramid) or labels_path(array) is None):
            left = ResumableWork(count, kept.folder, labels_path(array))
            same = [image for image, offers in self._found.items() if left.journal in {o.journal for o in offers}]
            for image in {kept.image, *same}:
                others = [offer for offer in self._found.get(image, []) if offer.journal != left.journal]
                self._found[image] = [left, *others]
        self._changed(layer, None)

    def close(self) -> None:
        """Close all journals."""
        self._closed = True
        for layer in list(self._kept):
            self.forget(layer)

    def set_aside(self, image: Image, done: Callable[[Path], None], failed: Callable[[Exception], None]) -> None:
        """Give the journal of an image another name, so that work on it begins anew; nothing is deleted."""
        offer = self.offer(image)
        if offer is None:
            return

        def shown(place: Path) -> None:
            self._found[image] = [known for known in self._found.get(image, []) if known is not offer]
            done(place)

        apart(self._runner)(Work(lambda _: _set_aside(offer.journal), shown, failed))

    # -- writing -----------------------------------------------------------------------------------------------------

    def act(
        self,
        kept: OpenJournal,
        area: int,
        act: JournalAction,
        done: Callable[[Sequence[Entry]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Do something with a journal: at once where that is quick, else by a job, and always in order.

        Parameters
        ----------
        kept
            The layer with its journal.
        area
            How many pixels are looked at.
        act
            Called with the journal, in any thread; returns what happened.
        done, failed
            Called in the GUI thread with that, or why it failed.
        """

        def shown(what: Outcome) -> None:
            kept.acting -= 1
            kept.target.show()
            kept.take(what)
            kept.unflushed = True
            self._changed(kept.layer, None if what.is_all else list(what.rows))
            if what.error is None:
                done(what.entries)
            else:
                failed(what.error)
            self._runner.wake()

        def not_done(error: Exception) -> None:
            kept.acting -= 1
            failed(error)

        at_once = not kept.is_busy and kept.target.is_quick and area <= MAX_SYNC_PIXELS
        kept.acting += 1
        kept.enter()
        job = _counted(kept, lambda journal: outcome(journal, act))
        if not at_once:
            self._runner.submit_write(Work(job, shown, not_done))
            return
        try:
            what = job(_ignore)
        except Exception as error:
            not_done(error)
        else:
            shown(what)

    def next_work(self) -> Work | None:
        """Return what waits for the disk, while nobody waits for anything else."""
        kept = next((each for each in self._kept.values() if each.unflushed and not each.is_busy), None)
        if kept is None:
            return None
        kept.unflushed = False
        kept.enter()
        return Work(_counted(kept, Journal.flush), _ignore, lambda error: self._notify(str(error)))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _is_open(self, folder: Path) -> bool:
        return any(kept.folder == folder for kept in self._kept.values())

    def _open_job(
        self, layer: Labels, image: Image, is_new: bool, folder: Path | None, highest: int | None
    ) -> tuple[Job, bool]:
        """Return what opens the journal of a layer, and whether that is quick."""
        volume, source, target = adapters.shown([image]).volume, source_of(image), LayerLabels(layer)
        target.note_highest(highest)
        taken = {kept.folder for kept in self._kept.values() if kept.folder is not None}
        name, known = layer.name, None if is_new else layer.metadata.get(JOURNAL)

        def job(_: Report) -> OpenJournal:
            place = folder or journal_place(about(volume, source), target, name, taken, is_new, known)
            journal = record(volume, source, target, place, is_new=is_new, durable=False)
            return opened(image, target, journal, journal.folder)

        is_empty = self._found.get(image) == []
        return job, is_new and is_empty and isinstance(volume.array, np.ndarray)

    def _on_open(self, layer: Labels, kept: OpenJournal) -> None:
        waiting = self._opening.pop(layer, None)
        if waiting is None or self._closed:
            kept.close()  # The layer was deleted meanwhile.
            return
        kept.target.show()
        self.adopt(layer, kept)
        for then in waiting:
            then()

    def _on_not_open(self, layer: Labels, image: Image, error: Exception, folder: Path | None) -> None:
        waiting = self._opening.pop(layer, None)
        if waiting is None or self._closed:
            return
        self._notify(f"{layer.name!r} has no journal, so its undo ends with this window. {_first_upper(error)}")
        if folder is None:
            with contextlib.suppress(LabelsError):  # The layer cannot be written to any more.
                target = LayerLabels(layer)
                self.adopt(layer, opened(image, target, Journal(None, target), None))
        for then in waiting:
            then()


def _ignore(_: Any) -> None:
    return None


def opened(image: Image, target: LayerLabels, journal: Journal, folder: Path | None) -> OpenJournal:
    """Return a layer with a journal that was just opened, in the thread that opened it; `folder` None: in memory."""
    kept = OpenJournal(image, target, journal, folder)
    kept.take(Outcome.of(journal, ()))
    return kept


def outcome(journal: Journal, act: JournalAction) -> Outcome:
    """Do something with a journal in the thread that has it, and tell what came of it."""
    try:
        entries = act(journal)
    except NapariSamError as error:
        return Outcome.of(journal, (), error)
    return Outcome.of(journal, entries)


def source_of(image: Image) -> str | None:
    """Return the path or URL of an image layer, or None."""
    path = image.source.path
    return None if path is None else str(path)


def _counted(kept: OpenJournal, act: Callable[[Journal], Any]) -> Job:
    def job(_: Report) -> Any:
        try:
            return act(kept.journal)
        finally:
            kept.leave()

    return job


def _set_aside(folder: Path) -> Path:
    Journal(folder).close()  # Refused where another program writes to it.
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    place = folder.with_name(f"{folder.name.removesuffix(SUFFIX)}-{stamp}{SUFFIX}")
    try:
        folder.rename(place)
    except OSError as error:
        raise LabelsError(f"{folder} cannot be renamed ({error}): close what uses it, then try again.") from error
    return place


def _first_upper(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:]
