"""SharedImage: an image and a model that every machine can open, as plain data."""

from __future__ import annotations

import pickle
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from napari_sam.core.predictor import Predictor
from napari_sam.core.rendering import Rendering
from napari_sam.distributed.worker import LastUsed
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.embeddings.store import EmbeddingStore
from napari_sam.errors import ImageError, ModelError, OutputError
from napari_sam.files.paths import local_path
from napari_sam.images.volume import Volume
from napari_sam.journal.image_identity import pixel_digest
from napari_sam.options import ImageOptions

# Attribute of a model that encodes elsewhere, with the one that encodes here; see `encoded_on`.
ON_THIS_COMPUTER = "on_this_computer"
PRECISIONS = ("float32", "bfloat16", "tf32")

_models: LastUsed[Predictor] = LastUsed(1)
_images: LastUsed[TileEncoder] = LastUsed(2)


@dataclass(frozen=True, slots=True)
class SharedModel:
    """A model that every machine can load.

    Parameters
    ----------
    digest
        Digest of the predictor.
    name
        Name of the model, or path of its checkpoint; None for a model of a script's own.
    precision
        Precision in which it encodes.
    predictor
        The model itself, where it has no name.
    """

    digest: str
    name: str | None = None
    precision: str = "auto"
    predictor: Predictor | None = None

    @classmethod
    def of(cls, predictor: Predictor) -> SharedModel:
        """Return a loaded model in the precision that it was loaded in."""
        from napari_sam.weights.registry import REGISTRY

        predictor = getattr(predictor, ON_THIS_COMPUTER, predictor)
        path = Path(predictor.name)
        name = predictor.name if predictor.name in REGISTRY else str(path.absolute()) if path.is_file() else None
        precision = predictor.digest.rpartition("/")[2]
        if name is None:
            return cls(predictor.digest, predictor=predictor)
        return cls(predictor.digest, name, precision if precision in PRECISIONS else "auto")

    def load(self) -> Predictor:
        """Load the model, unless this process has it already.

        Raises
        ------
        ModelError
            There is no such model here, or it is another one.
        """
        known = _models.get(self.digest.encode())
        if known is not None:
            return known
        if self.name is None:
            assert self.predictor is not None
            return _models.put(self.digest.encode(), self.predictor)
        from napari_sam.models import load_predictor

        loaded = load_predictor(self.name, precision=self.precision)
        if loaded.digest != self.digest:
            raise ModelError(f"It has other weights of the model {self.name}: copy the same file to all machines.")
        return _models.put(self.digest.encode(), loaded)


@dataclass(frozen=True, slots=True)
class SharedStore:
    """A store of embeddings that every machine can open.

    Parameters
    ----------
    place
        Absolute path of a folder, or a URL.
    mark
        A digest that the owner of the run has locked in the folder, by which a worker knows that it is the same one.
    capacity, read_only
        As in `EmbeddingStore`.
    """

    place: Path | str
    mark: str | None = None
    capacity: int | None = None
    read_only: bool = False

    @classmethod
    def of(cls, store: EmbeddingStore, mark: str | None = None) -> SharedStore:
        """Return a store that is open here; its folder is made where there is none, for other machines to see."""
        place = store.path.absolute() if isinstance(store.path, Path) else store.path
        if isinstance(place, Path) and not store.read_only:
            with suppress(OSError):
                place.mkdir(parents=True, exist_ok=True)
        return cls(place, mark, store.capacity, store.read_only)

    @property
    def is_here(self) -> bool:
        """Whether this machine sees a folder of this name; at a URL, always True."""
        return not isinstance(self.place, Path) or self.place.is_dir()

    def open(self) -> EmbeddingStore:
        """Open the store.

        Raises
        ------
        OutputError
            This machine does not have the folder, or it cannot be used.
        """
        store = EmbeddingStore(self.place, capacity=self.capacity, read_only=self.read_only)
        if self.mark is not None and not store.has_lock(self.mark):
            raise OutputError(
                f"It does not see the folder {self.place} of the embeddings: name a folder or URL that all machines "
                "share by --store."
            )
        return store


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image with a model.

    Parameters
    ----------
    place
        Absolute path or URL. The pixels are never sent.
    options
        How it is read.
    pixels
        `pixel_digest` of it, by which a worker knows that it has opened the same image.
    rendering
        How it is shown to the model.
    model
        The model.
    store
        Where embeddings are kept, which machines that do not see it do without; or None.
    """

    place: str
    options: ImageOptions
    pixels: str
    rendering: Rendering
    model: SharedModel
    store: SharedStore | None = None

    @classmethod
    def of(cls, image: str | Path, options: ImageOptions, encoder: TileEncoder) -> SharedImage:
        """Return an image that was opened from a path or URL."""
        local = local_path(image)
        place = str(image) if local is None else str(local.absolute())
        model = SharedModel.of(encoder.predictor)
        store = None if encoder.store is None else SharedStore.of(encoder.store)
        return cls(place, options, pixel_digest(encoder.volume.array), encoder.rendering, model, store)

    def open(self) -> TileEncoder:
        """Open the image and load the model, unless this process has them open already.

        Raises
        ------
        ImageError, ModelError, OutputError
            There is no such image or model here, or it is another one; or the store cannot be used.
        """
        name = pickle.dumps(self)
        known = _images.get(name)
        if known is not None:
            return known
        volume = Volume.of(self.place, **self.options.volume_arguments)
        if pixel_digest(volume.array) != self.pixels:
            raise ImageError(f"It has another image at {self.place}: use a folder or URL that all machines share.")
        store = self.store.open() if self.store is not None and self.store.is_here else None
        return _images.put(name, TileEncoder(volume, self.model.load(), lambda: self.rendering, store))
