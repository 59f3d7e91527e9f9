"""Journals: find, open, write and close the journals of a viewer's Labels layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from napari_sam.errors import LabelsError, NapariSamError
from napari_sam.journal.discovery import SUFFIX, about, journal_beside, labels_path, record
from napari_sam.journal.entries import Entry
from napari_sam.journal.journal import Journal
from napari_sam.labels.pyramid import LabelPyramid
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer
from napari_sam.plugin.layers.labels import LayerLabels
from napari_sam.plugin.objects.discovery import ResumableWork as ResumableWork
from napari_sam.plugin.objects.discovery import journal_place, left_work
from napari_sam.plugin.objects.open_journal import ActionResult, JournalAction, OpenJournal
from napari_sam.plugin.workers.runner import Work, apart

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam.plugin.workers.runner import Job, Report, Runner

# Boxes of more pixels are written as a job: packing and writing 300 x 300 takes about 10 ms.
MAX_SYNC_PIXELS = 90_000
# Key in a layer's metadata for the folder of its journal.
JOURNAL = "napari-sam journal"


class Journals:
    """Keeps one journal for each Labels layer that masks are accepted into.

    Where its folder cannot be opened or made, the journal is in memory and ends with the window.

    Parameters
    ----------
    runner
        Runs slow actions.
    notify
        Shows one sentence to the user.
    changed
        Called with a layer and the labels that may have changed, None for all; also when its journal opens or closes.
    """

    def __init__(
        self,
        runner: Runner,
        notify: Callable[[str], None],
        changed: Callable[[Labels, Sequence[int] | None], None],
    ) -> None:
        self._runner, self._notify, self._changed = runner, notify, changed
        self._open: dict[Labels, OpenJournal] = {}
        self._opening: dict[Labels, list[Callable[[], None]]] = {}
        self._found: WeakKeyDictionary[Image, list[ResumableWork]] = WeakKeyDictionary()
        self._closed = False

    # -- open journals and earlier work ------------------------------------------------------------------------------

    def get(self, layer: Labels | None) -> OpenJournal | None:
        """Return a layer with its journal, or None where it has none."""
        return None if layer is None else self._open.get(layer)

    def all(self) -> list[OpenJournal]:
        """Return all layers with their journals, the one opened last at the end."""
        return list(self._open.values())

    def offer(self, image: Image | None) -> ResumableWork | None:
        """Return the latest earlier work on an image, if it was searched and is not open in this viewer."""
        found = [] if image is None else self._found.get(image, [])
        return next((offer for offer in found if offer.count and not self._is_open(offer.journal)), None)

    def look_job(self, image: Image) -> Callable[[], None] | None:
        """Return a job that searches earlier work on an image; None where that was done."""
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
        """Open the journal of a layer and call back: with one in memory, and a message, where no folder can be used.

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
            Folder of an earlier journal to continue; searched by default.
        highest
            The highest label of the layer, where it is known.
        """
        if layer in self._open:
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

        def done(open_journal: OpenJournal) -> None:
            self._on_open(layer, open_journal)

        def failed(error: Exception) -> None:
            self._on_not_open(layer, image, error, folder)

        if not is_quick:
            apart(self._runner)(Work(job, done, failed))
            return
        try:
            open_journal = job(_ignore)
        except NapariSamError as error:
            failed(error)
        else:
            done(open_journal)

    def adopt(self, layer: Labels, open_journal: OpenJournal) -> None:
        """Take over a journal that a job opened together with the labels."""
        if self._closed:
            open_journal.close()
            return
        self._open[layer] = open_journal
        if open_journal.folder is not None:
            layer.metadata[JOURNAL] = open_journal.folder
        converted = open_journal.journal.converted_from
        if open_journal.journal.trouble:
            self._notify(open_journal.journal.trouble)
        elif converted is not None:
            self._notify(
                f"The journal of {layer.name!r} was converted; the file of the earlier version is {converted}."
            )
        self._changed(layer, None)

    def is_left(self, layer: Labels, image: Image) -> bool:
        """Say whether there is an earlier journal that may belong to a layer."""
        place = labels_path(labels_layer.pyramid_of(layer) or layer.data)
        return bool(self._found.get(image)) if place is None else journal_beside(place).exists()

    def forget(self, layer: Labels) -> None:
        """Close the journal of a layer that was deleted; it can be resumed."""
        waiting = self._opening.pop(layer, [])
        open_journal = self._open.pop(layer, None)
        if not self._closed:
            for then in waiting:
                then()
        if open_journal is None:
            return
        count, array = len(open_journal.rows), open_journal.target.array
        open_journal.close()
        if open_journal.folder is not None and (isinstance(array, LabelPyramid) or labels_path(array) is None):
            left = ResumableWork(count, open_journal.folder, labels_path(array))
            same = [image for image, offers in self._found.items() if left.journal in {o.journal for o in offers}]
            for image in {open_journal.image, *same}:
                others = [offer for offer in self._found.get(image, []) if offer.journal != left.journal]
                self._found[image] = [left, *others]
        self._changed(layer, None)

    def close(self) -> None:
        """Close all journals."""
        self._closed = True
        for layer in list(self._open):
            self.forget(layer)

    def set_aside(self, image: Image, done: Callable[[Path], None], failed: Callable[[Exception], None]) -> None:
        """Rename the journal of an image, so that the next one starts empty; nothing is deleted."""
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
        open_journal: OpenJournal,
        area: int,
        act: JournalAction,
        done: Callable[[Sequence[Entry]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Run an action on a journal: synchronously where that is quick, else as a job, and always in order.

        Parameters
        ----------
        open_journal
            The layer with its journal.
        area
            Number of pixels that the action reads.
        act
            Called with the journal, in any thread; returns the entries that it made.
        done, failed
            Called in the GUI thread with the entries, or with the error.
        """

        def shown(result: ActionResult) -> None:
            open_journal.pending_actions -= 1
            open_journal.target.show()
            open_journal.update(result)
            open_journal.unflushed = True
            self._changed(open_journal.layer, result.labels)
            if result.error is None:
                done(result.entries)
            else:
                failed(result.error)
            self._runner.wake()

        def not_done(error: Exception) -> None:
            open_journal.pending_actions -= 1
            failed(error)

        at_once = not open_journal.is_busy and open_journal.target.is_quick and area <= MAX_SYNC_PIXELS
        open_journal.pending_actions += 1
        open_journal.enter()
        job = _counted(open_journal, lambda journal: ActionResult.run(journal, act))
        if not at_once:
            self._runner.submit_write(Work(job, shown, not_done))
            return
        try:
            result = job(_ignore)
        except Exception as error:
            not_done(error)
        else:
            shown(result)

    def next_work(self) -> Work | None:
        """Return a job that flushes a journal to disk, or None; for an idle runner."""
        open_journal = next((each for each in self._open.values() if each.unflushed and not each.is_busy), None)
        if open_journal is None:
            return None
        open_journal.unflushed = False
        open_journal.enter()
        return Work(_counted(open_journal, Journal.flush), _ignore, lambda error: self._notify(str(error)))

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _is_open(self, folder: Path) -> bool:
        return any(open_journal.folder == folder for open_journal in self._open.values())

    def _open_job(
        self, layer: Labels, image: Image, is_new: bool, folder: Path | None, highest: int | None
    ) -> tuple[Job, bool]:
        """Return a job that opens the journal of a layer, and whether it is quick."""
        volume, source, target = adapters.shown([image]).volume, source_of(image), LayerLabels(layer)
        target.note_highest(highest)
        taken = {open_journal.folder for open_journal in self._open.values() if open_journal.folder is not None}
        name, known = layer.name, None if is_new else layer.metadata.get(JOURNAL)

        def job(_: Report) -> OpenJournal:
            place = folder or journal_place(about(volume, source), target, name, taken, is_new, known)
            journal = record(volume, source, target, place, is_new=is_new, durable=False)
            return OpenJournal.of(image, target, journal, journal.folder)

        is_empty = self._found.get(image) == []
        return job, is_new and is_empty and isinstance(volume.array, np.ndarray)

    def _on_open(self, layer: Labels, open_journal: OpenJournal) -> None:
        waiting = self._opening.pop(layer, None)
        if waiting is None or self._closed:
            open_journal.close()  # The layer was deleted meanwhile.
            return
        open_journal.target.show()
        self.adopt(layer, open_journal)
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
                self.adopt(layer, OpenJournal.of(image, target, Journal(None, target), None))
        for then in waiting:
            then()


def _ignore(_: Any) -> None:
    return None


def source_of(image: Image) -> str | None:
    """Return the path or URL of an image layer, or None."""
    path = image.source.path
    return None if path is None else str(path)


def _counted(open_journal: OpenJournal, act: Callable[[Journal], Any]) -> Job:
    def job(_: Report) -> Any:
        try:
            return act(open_journal.journal)
        finally:
            open_journal.leave()

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
