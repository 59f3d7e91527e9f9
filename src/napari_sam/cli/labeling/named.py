"""The part of `napari-sam find` that finds objects by words and by exemplars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.cli import options as opts
from napari_sam.cli.console import progress_bar, say, warn
from napari_sam.cli.models import OneModel, check_sources, detector_file, image_files, model_file, tidy_store
from napari_sam.errors import LabelsError, PromptError
from napari_sam.exchange.label_output import LabelOutput
from napari_sam.files.paths import check_apart
from napari_sam.options import ImageOptions, LabelOptions

if TYPE_CHECKING:
    from napari_sam.core.geometry import Plane
    from napari_sam.everything.found import FoundObjects
    from napari_sam.exchange.label_writer import LabelWriter
    from napari_sam.segmenter import Segmenter
    from napari_sam.word_search.exemplars import Exemplars


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched.

    Parameters
    ----------
    text
        Short noun phrase, or nothing.
    detector
        Name or path of a model that knows words, or None where the model that segments reads.
    boxes
        Boxes around objects like those that are searched.
    image
        The image of the boxes, or None for the image that is searched.
    """

    text: str
    detector: str | None
    boxes: tuple[tuple[float, ...], ...]
    image: str | None

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises
        ------
        PromptError
            They do, or nothing is searched.
        """
        if self.image is not None and not self.boxes:
            raise PromptError("--exemplar-image is the image of exemplars: give their boxes by --exemplar.")
        if self.detector is not None and self.boxes:
            raise PromptError("--exemplar is for SAM 3 and not for a detector: leave --detector or --exemplar out.")
        if not self.text.strip() and not self.boxes:
            raise PromptError("There is no text to look for: name the objects, for example nucleus.")

    @property
    def exemplars(self) -> Exemplars | None:
        """The exemplars, as `Segmenter.find` takes them."""
        from napari_sam.word_search.exemplars import Exemplars

        return Exemplars(self.boxes, image=self.image) if self.boxes else None


class NamedRun:
    """Finds objects in each of several images, and writes label images.

    Parameters
    ----------
    image, model
        How the images are opened, and the model.
    wanted
        What is searched.
    device
        Device of the detector.
    plane
        Plane of the images, or None.
    search
        More arguments of `Segmenter.find_steps`.
    others
        Other files of the run, by their names in messages.
    overwrite
        Whether outputs that exist are replaced.
    """

    def __init__(
        self,
        image: ImageOptions,
        model: OneModel,
        wanted: Wanted,
        *,
        device: str,
        plane: list[int] | dict[str, int] | None,
        search: dict[str, Any],
        others: dict[str, str | Path | None],
        overwrite: bool,
    ) -> None:
        self._image, self._model, self._wanted, self._device = image, model, wanted, device
        self._plane, self._search, self._others, self._overwrite = plane, search, others, overwrite
        self._detector: Any = None

    def label(self, image: str, out: Path) -> dict[str, Any]:
        """Label the objects of one image; return them as plain data.

        Raises
        ------
        PromptError
            Nothing was found.
        ImageError, ModelError, LabelsError, OutputError
            The image, a model or an output cannot be used.
        """
        output = LabelOutput(out, LabelOptions(overwrite=self._overwrite), warn=warn)
        check_sources(image, self._model.name)
        check_sources(self._wanted.image, None)
        inputs = {"model": model_file(self._model.name), "detector": detector_file(self._wanted.detector)}
        check_apart(
            {**image_files(image), **inputs, "--exemplar-image": self._wanted.image}, {"--out": out, **self._others}
        )
        segmenter = self._model.open(image, self._image)
        where = segmenter.plane(opts.plane_position(segmenter, self._plane))
        with output.open(segmenter.volume, where) as writer:
            found = self._find(segmenter, where)
            if not len(found):
                what = repr(self._wanted.text) if self._wanted.text.strip() else "the exemplars"
                raise PromptError(f"Nothing was found for {what}: try another word, --threshold or --downsample.")
            objects = _write(writer, where, found)
        tidy_store(segmenter)
        say(f"{len(objects)} object(s) written to {out}")
        detector = {} if self._wanted.detector is None else {"detector": self._wanted.detector}
        return {
            "image": image,
            "model": self._model.name,
            **detector,
            "text": self._wanted.text,
            "objects": objects,
        }

    def _find(self, segmenter: Segmenter, plane: Plane) -> FoundObjects:
        if self._wanted.detector is not None and self._detector is None:
            from napari_sam.models.open_vocabulary import load_detector

            self._detector = load_detector(self._wanted.detector, self._device)
        steps = segmenter.find_steps(
            self._wanted.text,
            plane=plane,
            detector=self._detector,
            exemplars=self._wanted.exemplars,
            **self._search,
        )
        with progress_bar() as progress:
            task = progress.add_task("tiles", total=None)
            for now in steps:
                progress.update(task, completed=now.done, total=now.total)
        return now.found


def _write(writer: LabelWriter, plane: Plane, found: FoundObjects) -> Sequence[dict[str, Any]]:
    """Write found objects in the order of their scores, and return them as plain data."""
    objects = []
    for i in found.select():
        mask = found.mask(int(i))
        try:
            written = writer.write(plane, mask)
        except LabelsError:
            continue  # All of its pixels belong to objects with higher scores.
        box = [int(edge) for edge in written.box.as_tuple()]
        score = round(mask.iou_prediction, 4)
        objects.append({"label": written.label, "box": box, "area": written.area, "score": score})
    return objects
