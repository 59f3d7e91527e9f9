"""What steps back and forth are called, on buttons and in the status line."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.journal.entries import Entry

PAST = {"accept": "was accepted", "correct": "was corrected", "delete": "was deleted", "classify": "has its class"}
PAST_OF_SEVERAL = {
    "accept": "were accepted",
    "correct": "were corrected",
    "delete": "were deleted",
    "classify": "have their class",
}


@dataclass(frozen=True, slots=True)
class StepLabel:
    """What a step back or forth is called on a button."""

    text: str
    why_not: str


def described(entry: Entry, count: int = 1) -> str:
    """Return what happened, to one object or to `count` of them."""
    if entry.what == "class":
        return "A change of a class"
    if count > 1:
        return f"{count} objects {PAST_OF_SEVERAL.get(entry.what, entry.what)}"
    return f"Label {entry.label} {PAST.get(entry.what, entry.what)}"


def step_label_of(entry: Entry | None, several: bool, why_not: str) -> StepLabel:
    """Return what the button of a step is to say: the step, on one or several objects, or why there is none."""
    if entry is None:
        return StepLabel("", why_not)
    return StepLabel(f"{described(entry)}{', and others with it' if several else ''}.", "")
