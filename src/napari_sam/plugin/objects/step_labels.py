"""Descriptions of undo and redo steps, for buttons and the status line."""

from __future__ import annotations

from dataclasses import dataclass

from napari_sam.journal.entries import Entry

PAST = {
    "accept": "was accepted",
    "accept_all": "was accepted",
    "accept_parts": "was accepted in one more plane",
    "correct": "was corrected",
    "remove_parts": "was removed from planes",
    "merge": "was merged with others",
    "split": "was split",
    "delete": "was deleted",
    "classify": "has its class",
    "set_parents": "has its parent",
}
PAST_OF_SEVERAL = {
    "accept": "were accepted",
    "accept_all": "were accepted",
    "accept_parts": "were accepted in one more plane",
    "correct": "were corrected",
    "remove_parts": "were removed from planes",
    "merge": "were merged",
    "delete": "were deleted",
    "classify": "have their class",
    "set_parents": "have their parent",
}


@dataclass(frozen=True, slots=True)
class StepLabel:
    """Description of an undo or redo step.

    Parameters
    ----------
    text
        The step; empty where there is none.
    why_not
        Why there is none.
    """

    text: str
    why_not: str


def described(entry: Entry, count: int | None = None) -> str:
    """Describe an entry of the journal, or those of one action on `count` objects."""
    if entry.what == "class":
        return "A change of a class"
    labels = entry.labels
    if entry.what == "split":  # Its other labels are new.
        return f"Label {labels[0]} {PAST[entry.what]}"
    if (len(labels) if count is None else count) > 1:
        return f"{count or len(labels)} objects {PAST_OF_SEVERAL.get(entry.what, entry.what)}"
    return f"Label {labels[0]} {PAST.get(entry.what, entry.what)}"


def step_label_of(entry: Entry | None, several: bool, why_not: str) -> StepLabel:
    """Describe the step of an entry, of one or several objects; `why_not` is used where there is no entry."""
    if entry is None:
        return StepLabel("", why_not)
    return StepLabel(f"{described(entry)}{', and others with it' if several else ''}.", "")
