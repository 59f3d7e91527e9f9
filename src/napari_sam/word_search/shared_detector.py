"""SharedDetector: a model that knows words, and that every machine can load."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_sam.distributed.worker import LastUsed
from napari_sam.errors import ModelError
from napari_sam.weights.detectors import DETECTORS
from napari_sam.weights.download import sha256_of

if TYPE_CHECKING:
    from napari_sam.models.open_vocabulary.loading import KnowsWords

_loaded: LastUsed[KnowsWords] = LastUsed(1)


@dataclass(frozen=True, slots=True)
class SharedDetector:
    """A detector or ranker that every machine can load.

    Parameters
    ----------
    name
        Its name, or the path of its weights; that of a script's own model only says what it is called.
    sha256
        Hash of the weights; None for a model of a script's own.
    detector
        The model itself, where it has no weights of its name.
    """

    name: str
    sha256: str | None = None
    detector: KnowsWords | None = None

    @classmethod
    def of(cls, detector: KnowsWords) -> SharedDetector:
        """Return a loaded detector."""
        path = _weights_of(detector.name)
        if not path.is_file():
            return cls(detector.name, detector=detector)
        name = detector.name if detector.name in DETECTORS else str(path)
        return cls(name, _hash_of(path, path.stat().st_mtime_ns))

    def load(self) -> KnowsWords:
        """Load the model, unless this process has it already.

        Raises
        ------
        ModelError
            There is no such model here, or it is another one.
        """
        if self.detector is not None:
            return self.detector
        key = f"{self.name} {self.sha256}".encode()
        known = _loaded.get(key)
        if known is not None:
            return known
        from napari_sam.models.open_vocabulary.loading import load_detector

        loaded, path = load_detector(self.name), _weights_of(self.name)
        if _hash_of(path, path.stat().st_mtime_ns) != self.sha256:
            raise ModelError(f"It has other weights of {self.name}: copy the same file to all machines.")
        return _loaded.put(key, loaded)


def _weights_of(name: str) -> Path:
    entry = DETECTORS.get(name)
    return Path(name).absolute() if entry is None else entry.path


@lru_cache(maxsize=8)
def _hash_of(path: Path, changed: int) -> str:
    """Return the hash of a file as of a time; it takes seconds, and each plane of a volume asks for it."""
    return sha256_of(path)
