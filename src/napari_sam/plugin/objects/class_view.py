"""ClassView: show the output in the colors of its classes, and the class numbers as a layer."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import CyclicLabelColormap, DirectLabelColormap
from numpy.typing import NDArray

from napari_sam.errors import LabelsError
from napari_sam.images.lazy.levels import LazyArray, dtype_of, lazy_levels
from napari_sam.journal.semantic_labels import ClassMap, write_semantic
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.labels import pyramid_of
from napari_sam.plugin.objects.open_journal import Rows
from napari_sam.plugin.workers.runner import Work

if TYPE_CHECKING:
    from napari_sam.journal.entries import LabelClass
    from napari_sam.plugin.objects.object_list import Objects
    from napari_sam.plugin.objects.open_journal import OpenJournal
    from napari_sam.plugin.session import Session
    from napari_sam.plugin.workers.runner import Runner

Color = tuple[float, float, float]
Colors = dict[int, Color]

# Of objects that have no class, and of labels that are no objects.
GRAY: Color = (0.5, 0.5, 0.5)
# Longest cycle of colors that napari can show for labels of any type: one less than labels of 16 bits have values.
CYCLE = 2**16 - 1


class ClassView:
    """Shows the classes of the output's objects.

    Parameters
    ----------
    session
        The viewer.
    runner
        Runs the look-up of class numbers.
    objects
        The objects with their classes.

    Attributes
    ----------
    is_on
        Whether the output is shown in the colors of its classes.
    """

    def __init__(self, session: Session, runner: Runner, objects: Objects) -> None:
        self._session, self._runner, self._objects = session, runner, objects
        self.is_on = False
        self._layer: Labels | None = None
        self._own: Any = None
        self._colormap: CyclicLabelColormap | DirectLabelColormap | None = None
        self._shown: Colors = {}
        self._notified: weakref.WeakSet[Labels] = weakref.WeakSet()
        objects.changed.connect(self._on_changed)

    def close(self) -> None:
        """Stop following the objects, and show the output in its own colors."""
        self._objects.changed.disconnect(self._on_changed)
        self.show_colors(False)

    # -- the colors of the output -------------------------------------------------------------------------------------

    def show_colors(self, on: bool) -> None:
        """Show the output in the colors of its classes from now on, or in its own."""
        self.is_on = on
        self._on_changed(None)

    def _on_changed(self, labels: Sequence[int] | None) -> None:
        """Follow the output, and what happened to its objects."""
        journal = self._objects.journal if self.is_on else None
        layer = None if journal is None else journal.layer
        is_new = layer is not self._layer
        if is_new:
            self._give_back()
            if layer is not None:
                self._layer, self._own = layer, layer.colormap
        if journal is None or layer is None:
            return
        touched = journal.rows if labels is None or is_new else [label for label in labels if label in journal.rows]
        colors = _colors_of(journal, touched)
        is_stale = isinstance(self._colormap, CyclicLabelColormap) != _is_cycle(journal)
        if is_new or is_stale or any(self._shown.get(label, GRAY) != color for label, color in colors.items()):
            self._shown = _colors_of(journal, journal.rows)
            self._draw(journal, layer)

    def _draw(self, journal: OpenJournal, layer: Labels) -> None:
        colormap = self._colormap
        if not _is_cycle(journal):
            self._colormap = _direct_of(self._shown)
            self._notify_if_gray(layer)
        elif isinstance(colormap, CyclicLabelColormap) and colormap is layer.colormap and dtype_of(layer).itemsize > 2:
            # Given another colormap, napari works on all of a plane of 32-bit labels.
            colormap.colors = _table_of(self._shown)
            layer.events.colormap()
            return
        else:
            self._colormap = CyclicLabelColormap(colors=_table_of(self._shown))
        _show(layer, self._colormap)

    def _notify_if_gray(self, layer: Labels) -> None:
        if layer not in self._notified and max(self._shown, default=0) > _highest_direct():
            self._notified.add(layer)
            self._session.notify(
                f"Labels above {_highest_direct()} are shown in gray: install numba to see them in the colors of "
                "their classes."
            )

    def _give_back(self) -> None:
        if self._layer is not None:
            _show(self._layer, self._own)
        self._layer, self._own, self._colormap, self._shown = None, None, None, {}

    # -- the classes as a layer ----------------------------------------------------------------------------------------

    def show_layer(self) -> None:
        """Add a layer of the class numbers of the output, or bring the one that is there up to date."""
        journal = self._objects.journal
        if journal is None or not journal.classes:
            self._session.notify("No object has a class: give one to an object first.")
            return
        if type(journal.target.array) is not np.ndarray:
            self._put(journal, _lazy_classes(journal))
            return
        journal.enter()
        done = lambda pixels: self._put(journal, pixels)  # noqa: E731
        self._session.set_status("Looking up the classes ...")
        self._runner.submit_write(Work(lambda _: _class_numbers(journal), done, self._session.notify_error))

    def layer_of(self, output: Labels) -> Labels | None:
        """Return the layer of the classes of an output, or None."""
        for layer in self._session.viewer.layers:
            reference = layer.metadata.get(own_layers.CLASSES)
            if isinstance(layer, Labels) and reference is not None and reference() is output:
                return layer
        return None

    def _put(self, journal: OpenJournal, data: Any) -> None:
        """Show class numbers in the layer of an output's classes, made where it is missing."""
        output, viewer = journal.layer, self._session.viewer
        if output not in viewer.layers:
            self._session.set_status("")
            return
        place = adapters.transform_of(output)
        features = {
            "index": [0, *(kind.number for kind in journal.classes)],
            "class": ["none", *(kind.name for kind in journal.classes)],
        }
        layer = self.layer_of(output)
        if layer is None:
            layer = Labels(
                data,
                name=f"{output.name} classes",
                multiscale=isinstance(data, list),
                metadata={**own_layers.metadata_of(output), own_layers.CLASSES: weakref.ref(output)},
                colormap=_colormap_of_classes(journal.classes),
                features=features,
                **place,
            )
            layer.editable = False
            own_layers.insert_above(viewer, layer, output)
        else:
            layer.data = data
            layer.colormap = _colormap_of_classes(journal.classes)
            layer.features = features
            for name, value in place.items():
                setattr(layer, name, value)
        self._session.set_status(f"The class of each pixel is in {layer.name!r}; press again after changes.")


class ClassLevel:
    """The class numbers of labels on disk, looked up for what is read of them.

    Parameters
    ----------
    source
        Returns the labels: an array of any kind, which may be replaced by a wider one meanwhile.
    classes
        Class of each label.
    """

    def __init__(self, source: Callable[[], Any], classes: ClassMap) -> None:
        self._source, self._classes = source, classes
        self.dtype = _type_for(classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the labels."""
        return tuple(int(length) for length in self._source().shape)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Shape of a chunk, where the labels have regular ones."""
        return LazyArray(self._source()).chunks

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part."""
        return self._classes(np.asarray(self._source()[key])).astype(self.dtype)


def _lazy_classes(journal: OpenJournal) -> LazyArray | list[LazyArray]:
    layer, classes = journal.layer, ClassMap.of(journal.rows.values())
    pyramid = pyramid_of(layer)
    if pyramid is None:
        return lazy_levels([ClassLevel(lambda: journal.target.array, classes)])
    return lazy_levels(
        [ClassLevel(lambda at=at: pyramid.levels[at], classes) for at in range(len(pyramid.levels))]  # type: ignore[misc]
    )


def _class_numbers(journal: OpenJournal) -> NDArray[Any]:
    """Return the class of each pixel of labels in memory, in the thread of a job, after all writes before it."""
    labels = journal.target.array
    try:
        classes = ClassMap.of(journal.journal.objects)
        pixels = np.zeros(labels.shape, _type_for(classes))
        write_semantic(labels, pixels, classes)
    except MemoryError as error:
        raise LabelsError(
            "There is no memory for a layer of the classes: close other images, or write them into a file by "
            "'napari-sam replay --semantic'."
        ) from error
    finally:
        journal.leave()
    return pixels


def _type_for(classes: ClassMap) -> np.dtype[Any]:
    return np.min_scalar_type(classes.highest)


def _colors_of(journal: OpenJournal, labels: Iterable[int]) -> Colors:
    if isinstance(labels, Rows):
        colors = {kind.number: kind.color for kind in journal.classes}
        classed = labels.view.class_numbers().tolist()
        return {**dict.fromkeys(labels, GRAY), **{label: colors.get(number, GRAY) for label, number in classed}}
    kinds = ((label, journal.rows[label].label_class) for label in labels)
    return {label: GRAY if kind is None else kind.color for label, kind in kinds}


def _is_cycle(journal: OpenJournal) -> bool:
    """Say whether a cycle of colors that is longer than the labels are high can show them.

    With 10 000 labels of 4096 x 4096 pixels napari takes 100 ms for a direct colormap, 460 ms where they have more than
    16 bits, and 10 ms for a cycle.
    """
    if dtype_of(journal.layer).itemsize <= 2:
        return journal.rows.highest < CYCLE
    return journal.target.is_searched and journal.target.next_label <= CYCLE


def _table_of(colors: Colors) -> NDArray[np.float32]:
    table = np.ones((CYCLE, 4), np.float32)
    table[:, :3], table[0] = GRAY, 0
    if colors:
        table[list(colors), :3] = list(colors.values())
    return table


def _direct_of(colors: Colors) -> DirectLabelColormap:
    colored = {label: color for label, color in colors.items() if color != GRAY and label <= _highest_direct()}
    return _direct(colored, (*GRAY, 1.0))


def _highest_direct() -> int:
    """Return the highest label that napari can give a color of its own: without numba it has a table of all."""
    return 2**16 if find_spec("numba") is None else 2**63 - 1


def _colormap_of_classes(classes: Iterable[LabelClass]) -> DirectLabelColormap:
    return _direct({kind.number: kind.color for kind in classes}, (0.0, 0.0, 0.0, 0.0))


def _direct(colors: Colors, others: tuple[float, float, float, float]) -> DirectLabelColormap:
    table: dict[int | None, NDArray[np.float32]] = {
        label: np.array((*color, 1.0), np.float32) for label, color in colors.items()
    }
    return DirectLabelColormap(color_dict={None: np.array(others, np.float32), 0: np.zeros(4, np.float32), **table})


def _show(layer: Labels, colormap: Any) -> None:
    """Give a layer a colormap that shows only the selected label if the layer is to."""
    colormap.use_selection, colormap.selection = layer.show_selected_label, layer.selected_label
    layer.colormap = colormap
