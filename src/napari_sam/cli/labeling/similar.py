"""The part of `napari-sam find` that finds objects like saved examples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.cli.labeling.everything import EverythingRun, label_all
from napari_sam.cli.models import OneModel
from napari_sam.errors import PromptError
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import check_apart
from napari_sam.options import ImageOptions

if TYPE_CHECKING:
    from napari_sam.similarity.query import Query


def label_similar(
    images: Sequence[str],
    out: Path,
    like: Sequence[Path],
    *,
    image: ImageOptions,
    model: OneModel,
    plane: list[int] | dict[str, int] | None,
    box: tuple[float, ...] | None,
    likeness: float | None,
    proposals: Path | None,
    json: Path | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Label the objects of images that are like saved examples; run it again to resume.

    Parameters
    ----------
    images, out, json, resume, overwrite
        As given to the command.
    like
        Files of examples; those of several are put together.
    image, model
        How the images are opened, and the model.
    plane, box
        Where is searched.
    likeness
        The least likeness, 0 to 1; the usual one by default.
    proposals
        Folder of the proposals of an earlier run of `napari-sam everything` on the image, which are ranked instead of
        encoding it again.

    Raises
    ------
    PromptError, ModelError
        A file holds no examples, or those of several files were described by different models.
    typer.Exit
        Some of several images failed.
    """
    from napari_sam.everything.options import FilterOptions
    from napari_sam.everything.similar import LIKENESS

    if not images:
        raise PromptError("There is no image: name files, folders or patterns.")
    query = joined_queries(like)
    if json is not None:
        check_output(json, (".json",), overwrite)
    check_apart({f"--like {path}": path for path in like}, {"--out": out, "--json": json})
    filters: dict[str, Any] = {"confidence": LIKENESS if likeness is None else likeness}
    run = EverythingRun(
        image,
        model,
        FilterOptions.of(**filters),
        plane,
        box,
        None,
        None if proposals is not None else query.sizes,
        None,
        query,
        proposals,
    )
    label_all(images, out, run, json, overwrite=overwrite, resume=resume)


def joined_queries(like: Sequence[Path]) -> Query:
    """Return the examples of several files as one query.

    Raises
    ------
    PromptError, ModelError
        As `label_similar`.
    """
    from napari_sam.similarity.query import Query

    if not like:
        raise PromptError("There are no examples: give a file of napari-sam examples by --like.")
    return reduce(Query.joined, map(Query.load, like))
