"""Session: the state of one viewer's annotation, with signals for its changes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from napari.layers import Image, Labels
from psygnal import Signal

from napari_sam.core.cleaning import Cleaning
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import NapariSamError
from napari_sam.files.folders import embedding_folder
from napari_sam.plugin.drafts import ContinuedObject, Draft, Drafts
from napari_sam.plugin.layers import adapters
from napari_sam.plugin.layers import factory as own_layers
from napari_sam.plugin.layers import labels as labels_layer

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from napari_sam.core.geometry import Plane
    from napari_sam.core.masks import Mask, Overlap
    from napari_sam.plugin.prompts.layers import PromptLayers
    from napari_sam.plugin.request_types import PredictionRequest
    from napari_sam.segmenter import Candidates

# What the user does: segment one object by prompts, find all, follow objects through planes, or teach a model.
Task = Literal["one", "all", "planes", "teach"]


class Session:
    """Holds what the parts of the plugin share about one viewer.

    Parameters
    ----------
    viewer
        The viewer's model.
    prompts
        The layers of prompts.
    notify
        Shows one sentence to the user.

    Attributes
    ----------
    changed
        Emitted when anything here may have changed.
    image_changed, target_changed, task_changed
        Emitted when another image, another output or another task was chosen.
    encoder_changed
        Emitted when the model, its device, the store, the cluster or the channels changed, so that earlier answers are
        out of date.
    answered
        Emitted after an answer was shown, when the view can be encoded ahead again.
    image
        The image layer that is segmented, or None.
    target
        The Labels layer that masks are written into; None for a new one.
    task
        The task that the dock shows.
    compose
        Whether the encoder sees the image together with its other visible channels.
    model, device, store
        The model's name or file, its device, and the folder or URL of embeddings (None leaves that to the model).
    scheduler
        Address of the scheduler of a cluster that encodes tiles, or None.
    overlap, cleaning, class_name
        How the next mask is written: over other labels, cleaned, and under a class or None.
    drafts
        The objects that are being segmented.
    continued
        The object that gets the masks of other planes.
    request
        The draft and the request whose answer is under way, or None.
    is_warming
        Whether the model is being loaded ahead of the first prompt.
    status
        One line for the user.
    is_closed
        Whether the widget let go of the viewer.
    """

    changed = Signal()
    image_changed = Signal()
    target_changed = Signal()
    task_changed = Signal()
    encoder_changed = Signal()
    answered = Signal()

    def __init__(self, viewer: ViewerModel, prompts: PromptLayers, notify: Callable[[str], None]) -> None:
        self.viewer, self.prompts = viewer, prompts
        self.image: Image | None = None
        self.target: Labels | None = None
        self.task: Task = "one"
        self.compose = False
        self.model, self.device = "compact", "auto"
        self.store: str | None = None
        self.scheduler: str | None = None
        self.overlap: Overlap = "keep"
        self.cleaning = Cleaning()
        self.class_name: str | None = None
        self.drafts = Drafts()
        self.continued = ContinuedObject()
        self.request: tuple[Draft, PredictionRequest] | None = None
        self.is_warming = False
        self.status = ""
        self.is_closed = False
        self._notify = notify
        self._clock = itertools.count(1)

    @property
    def current(self) -> Draft:
        """The draft that the next prompt belongs to."""
        return self.drafts.current

    @property
    def candidates(self) -> Candidates | None:
        """The three masks of the current draft, or None."""
        return self.drafts.current.candidates

    @property
    def channels(self) -> tuple[Image, ...]:
        """The layers that the encoder sees together."""
        if self.image is None:
            return ()
        return tuple(adapters.channels_with(self.viewer, self.image)) if self.compose else (self.image,)

    @property
    def plane(self) -> Plane | None:
        """The plane of the image that is in view, or None where it cannot be segmented."""
        try:
            return None if self.image is None else adapters.plane_of(self.viewer, self.image)
        except NapariSamError:
            return None

    @property
    def outputs(self) -> list[Labels]:
        """The Labels layers of the viewer that can hold objects."""
        is_display = own_layers.is_display
        return [layer for layer in self.viewer.layers if isinstance(layer, Labels) and not is_display(layer)]

    @property
    def is_busy(self) -> bool:
        """Whether an answer is under way."""
        return self.request is not None

    @property
    def is_writing(self) -> bool:
        """Whether an accepted mask is being written."""
        return self.drafts.writing is not None

    @property
    def is_begun(self) -> bool:
        """Whether the current draft has prompts."""
        return self.has_prompts(self.drafts.current)

    @property
    def must_wait(self) -> bool:
        """Whether an accepted draft is being answered or written, which no other request may displace."""
        return self.is_writing or (self.is_busy and bool(self.drafts.queued))

    @property
    def may_hover(self) -> bool:
        """Whether a click now would begin a new object: only then is there a preview under the cursor."""
        if self.task == "planes" or self.prompts.tool != "points" or self.prompts.sign != 1 or self.is_closed:
            return False
        return not (self.is_busy or self.is_warming or self.is_writing or self.is_begun)

    def is_asked_about(self, draft: Draft) -> bool:
        """Say whether the answer for a draft is under way."""
        return self.request is not None and self.request[0] is draft

    def has_prompts(self, draft: Draft) -> bool:
        """Say whether a draft has prompts, or replaces an object."""
        replaced = draft.replaces
        if replaced is not None and not replaced.mask.box.is_empty:
            return True
        return self.prompts.count_of(draft.number) > 0

    def mask_of(self, draft: Draft, index: int | None = None) -> Mask:
        """Return a candidate of a draft as it would be written; by default the one that is shown."""
        index = draft.selected if index is None else index
        if self.image is None:
            assert draft.candidates is not None
            return draft.candidates[index]
        return draft.cleaned_mask(index, self.cleaning, adapters.shape_of(self.image))

    def tick(self) -> int:
        """Advance the clock that orders steps of prompts, commits and actions, and return its time."""
        return next(self._clock)

    def set_image(self, image: Image | None) -> None:
        """Segment another image layer from now on."""
        if image is not self.image:
            self.image = image
            self.image_changed.emit()

    def warn_of_slow_reading(self) -> None:
        """Tell the user if napari reads planes of the image that it does not show."""
        image = self.image
        if image is not None and adapters.reads_hidden_planes(image):
            self.notify(
                f"napari reads every plane of {image.name!r} at each step, because its levels are plain zarr: "
                "add it as [napari_sam.LazyLevel(level) for level in levels]."
            )

    def set_target(self, target: Labels | None) -> None:
        """Write into another Labels layer from now on; None makes a new one at the next commit."""
        if target is not None and self.image is not None:
            try:
                labels_layer.check_target(target, self.image)
            except NapariSamError as error:
                self.notify(str(error))
                return
        self.target = target
        self.target_changed.emit()

    def set_task(self, task: Task) -> None:
        """Do something else from now on."""
        if task != self.task:
            self.task = task
            self.task_changed.emit()
            self.changed.emit()

    def set_same_object(self, is_on: bool) -> None:
        """Accept masks of other planes into the same object from now on, or into new ones."""
        if is_on != self.continued.is_on:
            self.continued.is_on = is_on
            self.changed.emit()

    def set_model(self, model: str, device: str) -> None:
        """Use another model or device from now on."""
        if (model, device) != (self.model, self.device):
            self.model, self.device = model, device
            self.encoder_changed.emit()

    def set_store(self, store: str | None) -> None:
        """Keep embeddings in another folder or at a URL from now on; None leaves that to the model."""
        if store == self.store:
            return
        try:
            EmbeddingStore(store or embedding_folder())
        except NapariSamError as error:
            self.notify(str(error))
            return
        self.store = store
        self.encoder_changed.emit()

    def set_scheduler(self, scheduler: str | None) -> None:
        """Let the workers of a cluster encode from now on, or this computer."""
        if scheduler != self.scheduler:
            self.scheduler = scheduler
            self.encoder_changed.emit()

    def set_compose(self, compose: bool) -> None:
        """Encode the image alone, or together with its other visible channels in their colors."""
        if compose != self.compose:
            self.compose = compose
            self.encoder_changed.emit()

    def notify(self, message: str) -> None:
        """Show a message to the user, in the status line too: napari's notification cuts long ones."""
        self._notify(message)
        self.set_status(message)

    def notify_error(self, error: Exception) -> None:
        """Show an error to the user."""
        self.notify(message_of(error))

    def set_status(self, status: str) -> None:
        """Show a line in the widget."""
        self.status = status
        self.changed.emit()


def message_of(error: Exception) -> str:
    """Return the message that the user sees for an error."""
    if isinstance(error, NapariSamError):
        return str(error)
    return f"Something went wrong that should not ({type(error).__name__}: {error}): please report it."
