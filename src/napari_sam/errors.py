"""Errors that the caller can correct.

Each message is one sentence that says what is wrong and what to do; the CLI prints it, napari shows it as a
notification, and a script catches `NapariSamError`.
"""


class NapariSamError(Exception):
    """The base of every error that napari-sam raises on purpose."""


class ImageError(NapariSamError):
    """The image cannot be read, or a plane of it cannot be shown to the encoder."""


class PromptError(NapariSamError):
    """The prompts are empty, contradictory or outside the image."""


class ModelError(NapariSamError):
    """The model, its weights or the device cannot be used."""


class LabelsError(NapariSamError):
    """The mask cannot be written into the labels."""


class OutputError(NapariSamError):
    """A result cannot be written to disk."""


class ClusterError(NapariSamError):
    """The cluster, or the workers of it, cannot be used."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type where it has none, to be put into a sentence."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def one_line(error: BaseException) -> str:
    """Return the message of an error as one line without its full stop, to be quoted in a sentence."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
