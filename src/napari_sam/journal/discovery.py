"""Recording: which journal belongs to an image, and what it is to know of a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_sam.core.masks import Mask
from napari_sam.embeddings.encoder import TileEncoder
from napari_sam.images.lazy.levels import dtype_of
from napari_sam.images.volume import Volume
from napari_sam.journal.entries import Provenance
from napari_sam.journal.image_identity import inode_of, pixel_digest, place_of
from napari_sam.journal.journal import Journal
from napari_sam.journal.places import (
    image_digest,
    journal_beside,
    journal_in_cache,
    labels_path,
    replaced_journal,
)
from napari_sam.labels.regions import WritableArray
from napari_sam.labels.targets import Target, is_empty


def find_journal(volume: Volume, source: str | Path | None, labels: WritableArray | None) -> Path:
    """Return where the journal of an image and its labels is, or would be made.

    Parameters
    ----------
    volume
        The image.
    source
        Its path or URL, or None for an array.
    labels
        What is written into, or None for new labels in memory.
    """
    path = labels_path(labels)
    return journal_in_cache(about(volume, source)) if path is None else journal_beside(path)


def record(
    volume: Volume,
    source: str | Path | None,
    target: Target,
    folder: Path | None = None,
    *,
    is_new: bool = False,
    durable: bool = True,
) -> Journal:
    """Open the journal of an image with its labels, or make one, and go on where it was left.

    Parameters
    ----------
    volume, source
        See `find_journal`.
    target
        The labels. Those that hold nothing get all objects of the journal back.
    folder
        Where the journal is; `find_journal` tells when left out.
    is_new
        Whether the labels are known to hold nothing; looked at when left out.
    durable
        See `Journal`.

    Raises
    ------
    LabelsError, OutputError
        See `Journal`.
    """
    path, said = None if is_new else labels_path(target.array), about(volume, source)
    place = folder or (journal_in_cache(said) if path is None else journal_beside(path))
    journal = Journal(place, target, about=said, durable=durable)
    try:
        if journal.entries and (is_new or is_empty(target)):
            journal.restore()
        elif not journal.entries and (earlier := replaced_journal(said, place)) is not None:
            journal.trouble = (
                f"The earlier work on {source} is of other pixels than the image has now, so it is left in {earlier} "
                "and not continued."
            )
    except BaseException:
        journal.close()
        raise
    return journal


def about(volume: Volume, source: str | Path | None) -> dict[str, Any]:
    """Return what a journal says of its image.

    Parameters
    ----------
    volume, source
        See `find_journal`.
    """
    place = place_of(source)
    return {
        "image": None if source is None else str(source),
        "shape": list(volume.shape),
        "dtype": dtype_of(volume.array).str,
        "digest": image_digest(source, volume.array, volume.shape),
        "place": place,
        "inode": inode_of(place),
        "pixels": pixel_digest(volume.array),
    }


def provenance(
    encoder: TileEncoder, mask: Mask, candidate: str | None = None, downsample: float | None = None
) -> Provenance:
    """Return how a mask was made, for its entry in the journal.

    Parameters
    ----------
    encoder
        What encoded its tile.
    mask
        One that the decoder gave, or that was made of it.
    candidate
        Its name among the three.
    downsample
        How many pixels of the image one pixel of the screen showed, if there was a screen.
    """
    return encoder.provenance(mask, candidate, downsample)
