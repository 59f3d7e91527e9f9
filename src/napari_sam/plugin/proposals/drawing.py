"""ProposalDrawing: the layer of the proposals, of which only what is in view is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from psygnal import Signal

from napari_sam.core.geometry import Box
from napari_sam.everything.similar import SimilarObjects
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers.proposals import (
    KEPT_COLORS,
    Pixels,
    class_colors,
    likeness_colors,
    make_proposals,
    show_class_colors,
    step_for,
)
from napari_sam.plugin.prompts.modifier_clicks import DRAGGED

if TYPE_CHECKING:
    from napari.layers import Image, Layer

    from napari_sam.everything.found import FoundObjects
    from napari_sam.plugin.layers.preview import PreviewLayers
    from napari_sam.plugin.proposals.found_planes import SimilarPlanes
    from napari_sam.plugin.proposals.selection import ProposalSelection
    from napari_sam.plugin.session import Session

# Share of the view that is drawn beyond each of its sides, so that a small move needs no new picture.
MARGIN = 0.25


class ProposalDrawing:
    """Draws the kept proposals and those that were removed by hand, and reports clicks on them.

    Parameters
    ----------
    session
        The viewer and the image.
    selection
        The proposals.
    previews
        The layers that lie above.
    clicked
        Called with the world position of a click.
    color_of
        Returns the color of a class of the output as #rrggbb; None for one that is not there yet.

    Attributes
    ----------
    layer_added, layer_removed
        Emitted with the layer before it is in the viewer, and after it was deleted.
    layer
        The layer, or None where there is none.
    """

    layer_added = Signal(object)
    layer_removed = Signal(object)

    def __init__(
        self,
        session: Session,
        selection: ProposalSelection,
        previews: PreviewLayers,
        clicked: Callable[[Any], None],
        color_of: Callable[[str], str | None] = lambda _: None,
    ) -> None:
        self.layer: Labels | None = None
        self._session, self._selection, self._previews = session, selection, previews
        self._clicked, self._color_of = clicked, color_of
        # The colors of classes that the layer has now.
        self._colors: tuple[str, ...] = ()
        # What can be drawn at once, until the view leaves it or a tile adds to it.
        self._pixels: Pixels | None = None

    @property
    def layers(self) -> list[Labels]:
        """The layer, if it exists."""
        return [] if self.layer is None else [self.layer]

    @property
    def legend(self) -> list[tuple[str, str, int]]:
        """The name, the color and the number of kept proposals of each class; empty where there are not several."""
        similar = self._selection.similar
        if similar is None or len(similar.classes) < 2:
            return []
        counts = np.bincount(similar.kinds[self._selection.kept], minlength=len(similar.classes))
        return list(zip(similar.classes, self._class_colors(similar), counts.tolist(), strict=True))

    def _class_colors(self, similar: SimilarPlanes) -> list[str]:
        """Return the colors of classes: those of the output, so that a proposal looks like what it becomes."""
        colors = [
            self._color_of(name) or usual for name, usual in zip(similar.classes, KEPT_COLORS, strict=False)
        ]  # Where there are more, they begin again.
        return [colors[at % len(colors)] for at in range(len(similar.classes))]

    def activate(self) -> None:
        """Make the layer the active one, so that clicks and keys go to the proposals; make it where it is missing."""
        image, viewer = self._session.image, self._session.viewer
        if image is None:
            return
        if self.layer is None:
            self.layer = layer = make_proposals(image)
            self._colors = ()
            layer.mouse_drag_callbacks.append(self._on_press)
            self.layer_added.emit(layer)
            self._previews.insert(layer)
        viewer.layers.selection.active = self.layer
        self.layer.mode = "pan_zoom"

    def draw(self, *, moved: bool = False) -> None:
        """Draw the proposals of the plane in view; with `moved`, only if the picture does not fit the view any more."""
        layer, image, plane = self.layer, self._session.image, self._session.plane
        selection = self._selection
        if layer is None or image is None:
            return
        found = None if selection.found is None or plane is None else selection.found.on(plane)
        if found is None or plane is None or self._session.task != "all":
            self._hide(layer)
            return
        assert selection.found is not None
        view = adapters.view_of(self._session.viewer, image, plane)
        pixels = self._pixels
        # Ranked anew, proposals are other objects with the same pixels.
        if pixels is None or pixels.found.proposals is not found.proposals or not _fits(pixels, view):
            shape = plane.shape_in(adapters.shape_of(image))
            self._pixels = pixels = Pixels(found, *_part_for(view, shape))
        elif moved and layer.visible:
            return
        kept, removed = (selection.found.among(plane, numbers) for numbers in (selection.kept, selection.removed))
        reviewed = None if selection.reviewed is None else selection.found.among(plane, np.array([selection.reviewed]))
        white = int(reviewed[0]) if reviewed is not None and len(reviewed) else None
        self._color(layer)
        picture = pixels.picture(kept, removed, white, self._colors_of(found, kept))
        self._put(layer, image, pixels.box, pixels.step, picture)

    def _color(self, layer: Labels) -> None:
        """Give the layer the colors of the classes that there are now; napari takes some time for that."""
        similar = self._selection.similar
        colors = () if similar is None or len(similar.classes) < 2 else tuple(self._class_colors(similar))
        if colors != self._colors:
            self._colors = colors
            show_class_colors(layer, colors)

    def _colors_of(self, found: FoundObjects, kept: NDArray[np.intp]) -> NDArray[np.uint8] | None:
        """Return the colors of ranked proposals: by their class, where there are several, or else by their likeness."""
        similar = self._selection.similar
        if similar is None or not isinstance(found, SimilarObjects):
            return None
        if len(similar.classes) > 1:
            names = np.array([similar.classes.index(name) for name in found.classes], np.intp)
            return class_colors(names[found.kinds[kept]])
        return likeness_colors(found.scores[kept], self._selection.options.confidence)

    def forget(self, layer: Layer) -> None:
        """Forget the layer if it is the one that was deleted."""
        if layer is self.layer:
            self.layer = self._pixels = None
            self.layer_removed.emit(layer)

    def remove(self) -> None:
        """Take the layer away."""
        layer = self.layer
        if layer is not None and layer in self._session.viewer.layers:
            self._session.viewer.layers.remove(layer)
        if layer is not None:
            self.forget(layer)

    def follow(self) -> None:
        """Move the layer to where the image lies."""
        if self.layer is not None and self._session.image is not None:
            own_layers.place_on(self.layer, self._session.image)
            self.draw()

    def _hide(self, layer: Labels) -> None:
        self._pixels = None
        if layer.visible:
            layer.visible = False

    def _put(self, layer: Labels, image: Image, box: Box, step: int, picture: Any) -> None:
        """Put a picture into the layer; setting its place takes napari some time, so only where it changed."""
        plane = self._session.plane
        assert plane is not None
        position, factor = np.array(plane.index, float), np.ones(image.ndim)
        for axis, start in zip(plane.axes, (box.top, box.left), strict=True):
            position[axis], factor[axis] = start + (step - 1) / 2, step
        shape = [1] * image.ndim
        shape[plane.axes[0]], shape[plane.axes[1]] = picture.shape
        self._fill(layer, plane.oriented(picture).reshape(shape))
        translate = adapters.translate_to(image, position)
        for name, value in (("scale", np.asarray(image.scale) * factor), ("translate", translate)):
            if not np.allclose(getattr(layer, name), value, rtol=1e-12):
                setattr(layer, name, value)
        if not layer.visible:
            layer.visible = True

    @staticmethod
    def _fill(layer: Labels, data: NDArray[np.uint8]) -> None:
        """Show a picture; one in another array takes napari ten times as long as the same array with other pixels."""
        if layer.data.shape != data.shape:
            layer.data = data
            return
        layer.data[...] = data
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _on_press(self, layer: Any, event: Any) -> Iterator[None]:
        """Report a click, which is a press that moves no farther than a hand trembles."""
        start, position = np.asarray(event.pos, float), event.position
        farthest = 0.0
        yield
        while event.type == "mouse_move":
            farthest = max(farthest, float(np.abs(np.asarray(event.pos, float) - start).max()))
            yield
        if farthest < DRAGGED:
            self._clicked(position)


def _fits(pixels: Pixels, view: Box) -> bool:
    return pixels.box.contains(view) and pixels.step <= 2 * step_for(view)


def _part_for(view: Box, shape: tuple[int, int]) -> tuple[Box, int]:
    """Return the box to draw, and how many pixels of the image one of the picture stands for along a side."""
    grown = Box(
        view.top - MARGIN * view.height,
        view.left - MARGIN * view.width,
        view.bottom + MARGIN * view.height,
        view.right + MARGIN * view.width,
    )
    box = grown.rounded_out().intersection(Box.of_shape(shape))
    return box, step_for(box)
