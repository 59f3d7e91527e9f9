"""Images of a command: files, folders and patterns, their outputs, and a run over all of them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from napari_sam.cli.console import Failures, bar_over_images, say
from napari_sam.cli.models import check_sources
from napari_sam.errors import ModelError, NapariSamError, OutputError, PromptError
from napari_sam.exchange.label_formats import LABEL_SUFFIXES, PYRAMID_SUFFIX, write_json
from napari_sam.files.outputs import check_output
from napari_sam.files.paths import exists
from napari_sam.images.files.inner_names import split_name

# Files of a folder that are taken for images. Those of a DICOM series are one image, and other endings are common
# among files that are no images.
IMAGE_SUFFIXES = (
    *(".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".zarr", ".svs", ".ndpi", ".jp2", ".vrt", ".btf", ".scn"),
    *(".qptiff", ".lsm", ".gif", ".webp", ".npy", ".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".mrc"),
    *(".czi", ".lif", ".n5", ".nd2", ".h5", ".hdf5"),
)
# Folders that are one image.
STORES = (".zarr", ".n5")
# In the name of an output it stands for the name of the image.
ANY_NAME = "*"


class Postponed(Exception):  # noqa: N818  # It is no error.
    """Other processes do the last part of an image: nobody waits for them while there are other images."""


@dataclass(slots=True)
class Results:
    """What a run over images gave.

    Parameters
    ----------
    described
        Of each image that succeeded, what the command says about it.
    failed
        Image and reason of each one that failed.
    left_out
        Number of images whose output was there.
    """

    described: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    left_out: int = 0

    def add(self, described: dict[str, Any] | None) -> None:
        """Add what a command says about an image that succeeded, or None for one that was left out."""
        if described is None:
            self.left_out += 1
        else:
            self.described.append(described)

    def as_json(self, model: str) -> dict[str, Any]:
        """Return the results of many images as plain data."""
        return {"model": model, "images": self.described, "failed": self.failed}


def sources_of(images: Sequence[str], *, with_labels: bool = False) -> list[str]:
    """Return the images that files, folders and patterns name, each once, in order.

    Parameters
    ----------
    images
        Files, folders and patterns.
    with_labels
        Whether the label images of a folder count, too.

    Raises
    ------
    PromptError
        A pattern matches no file.
    """
    found: list[str] = []
    for text in images:
        path = Path(text)
        if "://" in text or path.is_file() or (path.is_dir() and path.suffix.lower() in STORES):
            found.append(text)
        elif path.is_dir():
            # A zarr folder without the usual name is an image itself, and so is a folder with a DICOM series.
            found += sorted(str(each) for each in path.iterdir() if _is_image(each, with_labels)) or [text]
        elif glob.has_magic(text) and not exists(split_name(text)[0]):
            members = sorted(glob.glob(text))  # noqa: PTH207  # A pattern may be absolute.
            if not members:
                raise PromptError(f"No file matches {text}: check the pattern.")
            found += members
        else:
            found.append(text)
    return list(dict.fromkeys(found))


def outputs_of(images: Sequence[str], out: Path, *, with_labels: bool = False) -> dict[str, Path]:
    """Return the images that files, folders and patterns name, each with its label image.

    The label image of one image is a file. Of several, `out` is a folder, in which each is named as the image without
    its suffix, or with it where two agree; or a name with * in it, which stands for that name.

    Raises
    ------
    PromptError
        A pattern matches no file.
    OutputError
        There are several images and one label image, or two images would have the same.
    """
    sources = sources_of(images, with_labels=with_labels)
    is_pattern, is_folder = ANY_NAME in out.name, out.is_dir() and not _is_zarr(out)
    # One image of a folder is one of many; a folder may be named v1.2, and labels.png is refused as a file.
    is_file = sources == list(images) or out.suffix[1:].isalpha()
    if len(sources) == 1 and is_file and not is_pattern and not is_folder:
        return {sources[0]: out}
    if not is_pattern and out.suffix.lower() in LABEL_SUFFIXES:
        raise OutputError(f"{out} is one label image and there are {len(sources)} images: name a folder by --out.")
    if not is_pattern and out.is_file():
        raise OutputError(f"{out} is a file: name a folder for the labels of several images by --out.")
    short, names = ({source: names_of(source)[at] for source in sources} for at in (0, 1))
    times = Counter(short.values())
    folder, pattern = (out.parent, out.name) if is_pattern else (out, f"{ANY_NAME}{PYRAMID_SUFFIX}")
    found = {
        source: folder / pattern.replace(ANY_NAME, short[source] if times[short[source]] == 1 else names[source], 1)
        for source in sources
    }
    twice = next((path for path, count in Counter(found.values()).items() if count > 1), None)
    if twice is not None:
        raise OutputError(f"Two images would both be labeled in {twice}: rename one of them.")
    return found


def names_of(source: str) -> list[str]:
    """Return the name of an image without its suffix, and with it."""
    name = _name_of(source)
    return [_without_suffix(name), name]


def is_one(outputs: dict[str, Path], out: Path) -> bool:
    """Return whether a command has one image and the name of its label image."""
    return list(outputs.values()) == [out]


def left_over(outputs: dict[str, Path], *, resume: bool, replaces: bool) -> dict[str, Path]:
    """Return the images that have no output yet, or all if outputs are replaced or added to; and make their folders.

    Raises
    ------
    OutputError
        Outputs exist, and it is not said what happens to them.
    """
    for folder in {path.parent for path in outputs.values()}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {folder} cannot be made ({error.strerror}): check --out.") from error
    there = [path for path in outputs.values() if exists(path)]
    if not there or replaces:
        return outputs
    if not resume:
        raise OutputError(
            f"{len(there)} of {len(outputs)} outputs exist, such as {there[0]}: leave these images out with --resume, "
            "or replace them with --overwrite."
        )
    return {source: path for source, path in outputs.items() if not exists(path)}


def run_over(
    sources: Sequence[str],
    work: Callable[[str], dict[str, Any] | None],
    *,
    left_out: int = 0,
    finished: Callable[[str], bool] = lambda _: False,
) -> Results:
    """Do the same with each image; one that fails does not end the others.

    Parameters
    ----------
    sources
        The images.
    work
        Takes an image, and returns what the command says about it; None for an image that is left out. Images for
        which it raises `Postponed` come again after the others.
    left_out
        Number of images that are left out already.
    finished
        Says whether another process has finished an image, after `work` could not write its output.
    """
    results, failures = Results(left_out=left_out), Failures("image")
    left = list(sources)
    while left:
        postponed = []
        for source in bar_over_images(left):
            try:
                described = work(source)
            except Postponed:
                postponed.append(source)
            except ModelError:
                raise  # It is the same with every image.
            except (NapariSamError, OSError, MemoryError) as error:
                if isinstance(error, OutputError) and finished(source):
                    results.left_out += 1
                else:
                    reason = str(error) or type(error).__name__
                    failures.add(source, reason)
                    results.failed.append({"image": source, "error": reason})
            else:
                results.add(described)
        left = postponed
    failures.show()
    _summarize(results, len(sources) + left_out)
    return results


def label_images(
    outputs: dict[str, Path],
    out: Path,
    work: Callable[[str], dict[str, Any]],
    *,
    model: str,
    json: Path | None,
    resume: bool,
    overwrite: bool,
    append: bool = False,
) -> None:
    """Label one image or each of many, write what the command says of them, and exit with 1 where one failed.

    Parameters
    ----------
    outputs, out
        What `outputs_of` returned, and the output that was named.
    work
        As in `run_over`; "failed" in what it returns holds prompts that failed.
    model, json, resume, overwrite, append
        Options of the command.
    """
    if is_one(outputs, out) and not (resume and exists(out)):
        described = work(next(iter(outputs)))
        failed = bool(described.get("failed"))
    else:
        left = left_over(outputs, resume=resume, replaces=overwrite or append)
        if json:
            check_output(json, (".json",), overwrite)
        check_sources(None, model)
        results = run_over(list(left), work, left_out=len(outputs) - len(left))
        described = results.as_json(model)
        failed = bool(results.failed) or any(each.get("failed") for each in results.described)
    if json:
        write_json(json, described)
    if failed:
        raise typer.Exit(1)


def _summarize(results: Results, count: int) -> None:
    done, failed = len(results.described), len(results.failed)
    parts = [f"{done} of {count} image(s) done", *([f"{failed} failed"] if failed else [])]
    if results.left_out:
        parts.append(f"{results.left_out} image(s) have outputs and were left out (--overwrite makes them anew)")
    say(f"{', '.join(parts)}.")


def _is_zarr(path: Path) -> bool:
    return path.suffix.lower() == ".zarr"


def _is_image(path: Path, with_labels: bool) -> bool:
    from napari_sam.labels.storage.zarr_images import is_label_image

    if path.name.startswith(".") or not path.name.lower().endswith(IMAGE_SUFFIXES):
        return False
    # Labels may lie beside their images, and are none.
    return with_labels or not (path.is_dir() and is_label_image(path))


def _name_of(source: str) -> str:
    """Return the name of an image; of one inside a file that of both."""
    if "://" not in source:
        path, inner = split_name(source)
        if inner is not None:
            return "_".join([_without_suffix(path.name), *filter(None, inner.split("/"))])
    return source.rstrip("/").rpartition("/")[2]


def _without_suffix(name: str) -> str:
    while Path(name).suffix.lower() in (*IMAGE_SUFFIXES, ".ome", ".gz"):
        name = Path(name).stem
    return name
